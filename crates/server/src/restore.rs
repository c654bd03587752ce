//! Restoring a data folder from a backup, while no server runs on it.
//!
//! The backup is verified before anything is touched, then unpacked beside the data folder, and put in its place by one
//! rename (an exchange, when there is a data folder already): a kill at any moment leaves the old or the new. What was
//! there before is put aside, never deleted.

use crate::start::LAYOUT;
use model::{UnixMs, time};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use store::backup;
pub use store::backup::{About, verify};

/// Marks a folder that is being unpacked: a later restore may throw it away.
const UNFINISHED: &str = "unfinished-restore";
/// Says which backup a data folder came from.
pub const RESTORED: &str = "restored.json";
/// Locks that a running server holds.
const LOCKS: [&str; 2] = ["store.redb.lock", "records/lock"];

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub about: About,
    /// Where the data folder that was there before is now.
    pub aside: Option<PathBuf>,
}

/// Why nothing was restored; the data folder is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backup cannot be used, or not be written to disk.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The backup is of a newer layout.
    #[error(
        "the backup has layout version {found}, this binary knows {known}: use the newer springtide; nothing was changed"
    )]
    Layout {
        /// Found in the backup.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// There is something already.
    #[error(
        "{} is not empty (it holds {first}): choose another folder, or use --force, which puts what is there aside; nothing was changed",
        data.display()
    )]
    NotEmpty {
        /// The data folder.
        data: PathBuf,
        /// The first of what is there, by name.
        first: String,
    },
    /// A server runs on it.
    #[error("{} is in use by a running server: stop it first; nothing was changed", data.display())]
    InUse {
        /// The data folder.
        data: PathBuf,
    },
    /// One move cannot put a folder in the place of a mount point.
    #[error("{} is a mount point, which no rename can replace: restore into a folder below it; nothing was changed", data.display())]
    MountPoint {
        /// The data folder.
        data: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// Puts the state of a backup in the place of a data folder.
///
/// # Errors
/// Nothing was restored, for the reason told, and the data folder is as it was.
pub fn restore(file: &Path, data: &Path, force: bool, now: UnixMs) -> Result<Restored, Error> {
    let about = backup::verify(file)?;
    if about.layout > LAYOUT {
        return Err(Error::Layout { found: about.layout, known: LAYOUT });
    }
    let data = std::path::absolute(data).map_err(io(data))?;
    let parent = data.parent().ok_or_else(|| Error::MountPoint { data: data.clone() })?.to_owned();
    // Only the data folder is private: instances of a `dev` restored here pass through those above it.
    fs::create_dir_all(&parent).map_err(io(&parent))?;
    let first = first_in(&data)?;
    if let Some(first) = first.clone().filter(|_| !force) {
        return Err(Error::NotEmpty { data, first });
    }
    check_mount(&parent, &data)?;
    let _locks = lock(&data)?;
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    throw_away_unfinished(&parent, &name)?;
    let fresh = parent.join(format!(".{name}.restoring-{now}-{}", std::process::id()));
    if let Err(error) = unpack(file, &fresh, &about, now) {
        // Half a folder helps nobody; that it cannot be removed changes nothing about the error.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    let aside = put_in_place(&fresh, &data, first.is_some().then(|| parent.join(aside_name(&name, now))))?;
    sync(&parent)?;
    Ok(Restored { about, aside })
}

fn aside_name(name: &str, now: UnixMs) -> String {
    let when: String = time::rfc3339(now).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("{name}.before-restore-{when}")
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
}

/// The first name in a folder; absent when it is empty or does not exist.
fn first_in(data: &Path) -> Result<Option<String>, Error> {
    let entries = match fs::read_dir(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(io(data))?,
    };
    let names: Result<Vec<String>, io::Error> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    Ok(names.map_err(io(data))?.into_iter().min())
}

fn check_mount(parent: &Path, data: &Path) -> Result<(), Error> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match device(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(data)(error)),
        Ok(found) if found == device(parent).map_err(io(parent))? => Ok(()),
        Ok(_) => Err(Error::MountPoint { data: data.to_owned() }),
    }
}

/// Holds what a server of this folder would hold, so that none starts meanwhile.
fn lock(data: &Path) -> Result<Vec<File>, Error> {
    let mut held = Vec::new();
    for path in LOCKS.map(|name| data.join(name)) {
        let file = match File::options().write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(io(&path))?,
        };
        match file.try_lock() {
            Ok(()) => held.push(file),
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { data: data.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
    }
    Ok(held)
}

/// Removes what a killed restore of this folder was still unpacking; anything else stays.
fn throw_away_unfinished(parent: &Path, name: &str) -> Result<(), Error> {
    let prefix = format!(".{name}.restoring-");
    for entry in fs::read_dir(parent).map_err(io(parent))? {
        let path = entry.map_err(io(parent))?.path();
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        if is_ours && path.join(UNFINISHED).exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

fn unpack(file: &Path, fresh: &Path, about: &About, now: UnixMs) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).create(fresh).map_err(io(fresh))?;
    let mark = fresh.join(UNFINISHED);
    File::create(&mark).map_err(io(&mark))?;
    backup::unpack(file, fresh)?;
    let told = serde_json::json!({
        "from": file, "made_at": about.made_at, "revision": about.revision, "restored_at": now,
    });
    let path = fresh.join(RESTORED);
    fs::write(&path, told.to_string()).map_err(io(&path))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(io(&path))?;
    fs::remove_file(&mark).map_err(io(&mark))?;
    sync(fresh)
}

/// The one move. Before it the data folder is the old one, after it the new one.
fn put_in_place(fresh: &Path, data: &Path, aside: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    let Some(aside) = aside else {
        fs::rename(fresh, data).map_err(io(data))?;
        return Ok(None);
    };
    let exchanged = renameat_with(CWD, fresh, CWD, data, RenameFlags::EXCHANGE);
    exchanged.map_err(|error| io(data)(error.into()))?;
    fs::rename(fresh, &aside).map_err(io(&aside))?;
    Ok(Some(aside))
}
