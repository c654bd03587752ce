//! `backup` and `restore`: the control plane in one file, and back.

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Output, bytes};
use serde_json::json;
use server::restore::About;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Save the control plane's state to one file, while it runs
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide backup /backups/                 springtide-<time>.backup in that folder\n  springtide backup night.backup\n\nIt holds the store at one revision, the records, the packages in use and the tokens (so keep it as you keep those), is\nverified after it is written, and appears under its name only when it is whole. `tar --zstd -tf FILE` shows what is in it."
)]
pub struct BackupArgs {
    /// A file that does not exist yet, or a folder
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    /// The series too, up to now
    #[arg(long)]
    with_metrics: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Put a backup in the place of a server's data folder, while that server is stopped
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide restore night.backup --data /var/lib/springtide\n  springtide restore night.backup --data /var/lib/springtide --force    puts what is there aside\n  springtide restore night.backup --verify                             only checks that it is whole\n\nThe whole file is verified before anything is touched, and one rename puts the new folder in place: whatever kills it\nleaves the old state or the new one."
)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The server's data folder
    #[arg(long, required_unless_present = "verify")]
    data: Option<PathBuf>,
    /// Put a data folder that is not empty aside
    #[arg(long, requires = "data")]
    force: bool,
    /// Only check that the backup is whole
    #[arg(long, conflicts_with_all = ["data", "force"])]
    verify: bool,
    #[command(flatten)]
    output: Output,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn local(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |error| Failure::Local(format!("{}: {error}", path.display()))
}

/// Where the backup goes: a new file, or one named by the time in a folder.
fn place(to: &Path) -> Result<PathBuf, Failure> {
    let place = if to.is_dir() {
        let when: String = model::time::rfc3339(now_ms()).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        to.join(format!("springtide-{when}.backup"))
    } else {
        to.to_owned()
    };
    match place.try_exists() {
        Ok(false) => Ok(place),
        Ok(true) => Err(Failure::Local(format!("{} exists already: name another file, or a folder", place.display()))),
        Err(error) => Err(local(&place)(error)),
    }
}

/// `springtide backup`.
pub async fn backup(args: BackupArgs) -> Result<(), Failure> {
    let place = place(&args.to)?;
    let part = place.with_added_extension("part");
    let saved = save(&args, &part).await.and_then(|()| finish(&part, &place));
    let about = match saved {
        Ok(about) => about,
        Err(failure) => {
            // Half a backup is none, and that it cannot be removed is no news beside what failed.
            let _ = fs::remove_file(&part);
            return Err(failure);
        }
    };
    let size = fs::metadata(&place).map_err(local(&place))?.len();
    let told = json!({"file": place, "bytes": size, "about": about});
    args.output.show(&told, || {
        let records: u64 = about.records.values().sum();
        format!(
            "{}: revision {}, {} keys, {records} records, {} packages, {}{}; verified\n",
            place.display(),
            about.revision,
            about.keys,
            about.blobs.len(),
            if args.with_metrics { format!("{}, ", series(&about)) } else { String::new() },
            bytes(size)
        )
    })
}

/// The time of the series in a backup, for people.
fn series(about: &About) -> String {
    let time = |at| model::time::rfc3339(at);
    about.series.map_or_else(
        || "no series: there were none yet".to_owned(),
        |span| format!("series from {} to {}", time(span.from), time(span.to)),
    )
}

async fn save(args: &BackupArgs, part: &Path) -> Result<(), Failure> {
    let mut answer = args.connect.client()?.backup(args.with_metrics).await?;
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part);
    let mut file = made.map_err(local(part))?;
    let broken = |error: reqwest::Error| {
        Failure::Refused(format!("the backup broke off ({error}): the server's log says why; nothing was kept"))
    };
    while let Some(piece) = answer.chunk().await.map_err(broken)? {
        file.write_all(&piece).map_err(local(part))?;
    }
    file.sync_all().map_err(local(part))
}

/// Verifies what was saved, and gives it its name.
fn finish(part: &Path, place: &Path) -> Result<About, Failure> {
    let about = server::restore::verify(part).map_err(|error| Failure::Local(error.to_string()))?;
    fs::rename(part, place).map_err(local(place))?;
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(local(folder))?;
    Ok(about)
}

/// `springtide restore`.
pub fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let Some(data) = args.data else {
        let about = server::restore::verify(&args.file).map_err(|error| Failure::Refused(error.to_string()))?;
        return args.output.show(&about, || {
            let when = model::time::rfc3339(about.made_at);
            format!("{}: whole; revision {}, made {when}\n", args.file.display(), about.revision)
        });
    };
    let restored = server::restore::restore(&args.file, &data, args.force, now_ms());
    let restored = restored.map_err(|error| Failure::Refused(error.to_string()))?;
    let told = json!({"data": data, "aside": restored.aside, "about": restored.about});
    args.output.show(&told, || {
        let about = &restored.about;
        let when = model::time::rfc3339(about.made_at);
        let aside = restored.aside.as_ref().map(|aside| format!("what was there is in {}\n", aside.display()));
        format!(
            "{} is at revision {} of {when}\n{}start the server on it: agents and proxies come back by themselves\n",
            data.display(),
            about.revision,
            aside.unwrap_or_default()
        )
    })
}
