//! How far a receiver has come, on disk.

use model::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Characters of a receiver's digest in the name of its file.
const NAME_CHARS: usize = 16;

/// What is kept of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Everything up to this time is acknowledged.
    pub acknowledged_ms: i64,
    /// End of the stretch that was being sent; `None` between two.
    pub sending_to_ms: Option<i64>,
}

/// A receiver's file.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
}

impl Cursor {
    /// The file of this receiver in a folder; the name does not tell its credentials.
    pub fn of(folder: &Path, receiver: &str) -> Self {
        let digest = Digest::of(receiver.as_bytes());
        let name: String = digest.as_str().chars().filter(char::is_ascii_alphanumeric).rev().take(NAME_CHARS).collect();
        Self { path: folder.join(format!("{name}.json")) }
    }

    /// Where it stands; `None` for a receiver never met, or a file that cannot be read.
    pub fn read(&self) -> Option<Position> {
        let bytes = std::fs::read(&self.path).ok()?;
        let read = serde_json::from_slice(&bytes);
        if let Err(error) = &read {
            tracing::warn!(path = %self.path.display(), %error, "the place reached by remote write cannot be read: it begins at now");
        }
        read.ok()
    }

    /// Writes where it stands.
    pub async fn write(&self, position: Position) {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let bytes = serde_json::to_vec(&position).expect("numbers are JSON");
            crate::file::replace(&path, &bytes)
        });
        let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            let path = self.path.display();
            tracing::warn!(%path, %error, "how far remote write has come cannot be kept: after a restart samples are sent twice");
        }
    }
}
