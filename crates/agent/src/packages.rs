//! Packages on this host: fetched by digest, verified, unpacked into a fresh folder and moved into place whole.
//!
//! Deliberately absent: configuration (a package is the same bytes everywhere) and uploads.

mod unpack;

pub use unpack::{ENTRIES_MAX, UNPACKED_BYTES_MAX, UnpackError};

use futures_util::StreamExt;
use model::Digest;
use sha2::Digest as _;
use shim::files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Largest packed package.
pub const PACKED_BYTES_MAX: u64 = 4 << 30;
/// Packages fetched at a time.
const FETCHES_MAX: usize = 4;
/// Packages kept that no instance uses.
const UNUSED_MAX: usize = 8;
/// Longest wait for a connection, in milliseconds.
const CONNECT_MS_MAX: u64 = 5_000;
/// Longest silence while a package comes, in milliseconds.
const SILENCE_MS_MAX: u64 = 30_000;
/// Prefix of folders and files that are not whole yet.
const UNFINISHED: &str = ".new-";

/// Why a package is not here.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The server did not give it.
    #[error("cannot fetch package {digest} from {url}: {reason}")]
    Fetch {
        /// Which package.
        digest: Digest,
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The bytes are not what was asked for.
    #[error("package {wanted} has a wrong digest: the server sent bytes with {got}; upload the package again")]
    WrongDigest {
        /// Asked for.
        wanted: Digest,
        /// Of the bytes that came.
        got: Digest,
    },
    /// Too large.
    #[error("package {digest} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Which package.
        digest: Digest,
        /// Bytes allowed.
        bytes_max: u64,
    },
    /// The bytes are right, what is in them is not.
    #[error("package {digest}: {source}")]
    Unpack {
        /// Which package.
        digest: Digest,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// This host's disk.
    #[error("cannot keep packages in {path}: {source}")]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

type Flights = Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>;

/// The packages of one agent.
#[derive(Debug)]
pub struct Packages {
    folder: PathBuf,
    server: String,
    token: String,
    client: reqwest::Client,
    fetches: Semaphore,
    flights: Flights,
}

impl Packages {
    /// Opens the folder and clears what an earlier agent did not finish.
    pub fn open(data: &Path, server: &str, token: &str) -> Result<Self, PackageError> {
        let folder = data.join("packages");
        let disk = |source| PackageError::Disk { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(disk)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(disk)?;
        for entry in fs::read_dir(&folder).map_err(disk)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove_any(&entry.path());
            }
        }
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .read_timeout(Duration::from_millis(SILENCE_MS_MAX))
            .no_proxy()
            .build()
            .expect("a client without TLS options can be built");
        Ok(Self {
            folder,
            server: server.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            client,
            fetches: Semaphore::new(FETCHES_MAX),
            flights: Flights::default(),
        })
    }

    /// Where a package is, or would be.
    pub fn folder_of(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Gives the unpacked package's folder, after fetching it if need be. Many callers, one fetch.
    pub async fn ensure(&self, digest: &Digest) -> Result<PathBuf, PackageError> {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| Arc::strong_count(flight) > 1);
            flights.entry(digest.clone()).or_default().clone()
        };
        let _alone = flight.lock().await;
        let folder = self.folder_of(digest);
        if !folder.is_dir() {
            let _slot = self.fetches.acquire().await.expect("never closed");
            self.fetch(digest).await?;
        }
        let _only_for_eviction = File::open(&folder).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        Ok(folder)
    }

    async fn fetch(&self, digest: &Digest) -> Result<(), PackageError> {
        let unfinished = Unfinished(self.folder.join(format!("{UNFINISHED}{}", digest.hex())));
        let packed = unfinished.0.with_extension("packed");
        let packed_guard = Unfinished(packed.clone());
        let file = self.download(digest, &packed).await?;
        let target = self.folder_of(digest);
        let (folder, wanted) = (self.folder.clone(), digest.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let disk = |source| PackageError::Disk { path: folder.clone(), source };
            remove_any(&unfinished.0);
            fs::create_dir(&unfinished.0).map_err(disk)?;
            fs::set_permissions(&unfinished.0, fs::Permissions::from_mode(0o755)).map_err(disk)?;
            unpack::unpack(io::BufReader::new(file), &unfinished.0)
                .map_err(|source| PackageError::Unpack { digest: wanted, source })?;
            // All its files at once: a package is many small files, and it must be whole once it has its name.
            let handle = File::open(&unfinished.0).map_err(disk)?;
            rustix::fs::syncfs(&handle).map_err(|error| disk(error.into()))?;
            fs::rename(&unfinished.0, &target).map_err(disk)?;
            files::sync_folder_of(&target).map_err(disk)?;
            drop(packed_guard);
            Ok(())
        });
        unpacked.await.unwrap_or_else(|error| {
            let reason = format!("unpacking stopped: {error}");
            Err(PackageError::Fetch { digest: digest.clone(), url: self.server.clone(), reason })
        })
    }

    async fn download(&self, digest: &Digest, packed: &Path) -> Result<File, PackageError> {
        let url = format!("{}/v1/packages/{digest}/blob", self.server);
        let failed = |reason: String| PackageError::Fetch { digest: digest.clone(), url: url.clone(), reason };
        let disk = |source| PackageError::Disk { path: packed.to_owned(), source };
        let sent = self.client.get(&url).bearer_auth(&self.token).send().await;
        let response = sent.map_err(|error| failed(root_cause(&error)))?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Err(failed("the server refused the token".into())),
            404 => return Err(failed("the server does not have it; upload it (apply does)".into())),
            other => return Err(failed(format!("the server answered {other}"))),
        }
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(packed).map_err(disk)?;
        let mut hash = sha2::Sha256::new();
        let mut bytes_left = PACKED_BYTES_MAX;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| failed(root_cause(&error)))?;
            bytes_left = bytes_left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| PackageError::TooLarge { digest: digest.clone(), bytes_max: PACKED_BYTES_MAX })?;
            hash.update(&chunk);
            file.write_all(&chunk).map_err(disk)?;
        }
        let got = Digest::from_sha256(&hash.finalize());
        if got != *digest {
            return Err(PackageError::WrongDigest { wanted: digest.clone(), got });
        }
        file.rewind().map_err(disk)?;
        Ok(file)
    }

    /// Removes the longest unused packages beyond a limit; those in `used` stay.
    pub fn evict(&self, used: &BTreeSet<Digest>) {
        let used: BTreeSet<&str> = used.iter().map(Digest::hex).collect();
        let mut unused = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = entry.metadata().and_then(|meta| meta.modified());
            if let (false, false, Ok(modified)) = (name.starts_with('.'), used.contains(name.as_str()), modified) {
                unused.push((modified, entry.path()));
            }
        }
        unused.sort();
        let surplus = unused.len().saturating_sub(UNUSED_MAX);
        unused.iter().take(surplus).for_each(|(_, path)| remove_any(path));
    }
}

/// Removed when dropped, unless it has been moved to its place by then.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove_any(&self.0);
    }
}

fn remove_any(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { files::remove_if_there(path) };
    if let Err(error) = removed {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
