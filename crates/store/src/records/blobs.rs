//! Blobs: files named by the SHA-256 of their bytes, `sha256/<2 hex>/<62 hex>`.
//!
//! A blob appears under its name only when all its bytes are verified and on disk. Absent on purpose: deletion.

use model::Digest;
use sha2::Digest as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a blob was not kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes are not those promised.
    #[error("the bytes have digest {found}, not {expected}: send the bytes that the digest was taken of")]
    WrongDigest {
        /// Promised.
        expected: Digest,
        /// Of the bytes received.
        found: Digest,
    },
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BlobError + '_ {
    move |source| BlobError::Io { path: path.display().to_string(), source }
}

/// A folder of blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    next: Arc<AtomicU64>,
}

/// Bytes on their way to becoming a blob; dropped unfinished, they leave nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    path: PathBuf,
    file: File,
    hash: sha2::Sha256,
}

impl Blobs {
    /// Opens or creates the folder, which belongs to this process; removes what a crash left half-written.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let unfinished = folder.join("unfinished");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&unfinished)(error)),
            _ => fs::create_dir_all(&unfinished).map_err(io(&unfinished))?,
        }
        let kept = folder.join("sha256");
        fs::create_dir_all(&kept).map_err(io(&kept))?;
        Ok(Self { folder: folder.to_owned(), next: Arc::default() })
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        let (first, rest) = digest.hex().split_at(2);
        self.folder.join("sha256").join(first).join(rest)
    }

    /// Where the bytes of this digest lie, when they are here.
    pub fn path_of(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.place(digest)).filter(|path| path.is_file())
    }

    /// Begins a blob.
    pub fn create(&self) -> Result<BlobWriter, BlobError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("unfinished").join(number.to_string());
        let file = File::options().write(true).create_new(true).open(&path).map_err(io(&path))?;
        Ok(BlobWriter { blobs: self.clone(), path, file, hash: sha2::Sha256::new() })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    /// Verifies the bytes and keeps them under their digest; gives the path. Durable when it returns.
    pub fn finish(self, expected: &Digest) -> Result<PathBuf, BlobError> {
        let found = Digest::from_sha256(&self.hash.clone().finalize());
        if &found != expected {
            return Err(BlobError::WrongDigest { expected: expected.clone(), found });
        }
        let place = self.blobs.place(expected);
        if place.is_file() {
            return Ok(place);
        }
        self.file.sync_all().map_err(io(&self.path))?;
        let folder = place.parent().expect("a blob lies in a folder");
        fs::create_dir_all(folder).map_err(io(folder))?;
        fs::rename(&self.path, &place).map_err(io(&place))?;
        for folder in [folder, &self.blobs.folder.join("sha256")] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
        }
        Ok(place)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "an unfinished blob stays behind until the next start");
            }
            _ => {}
        }
    }
}
