//! Small files written whole or not at all. Deliberately absent: anything that knows what is in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// How long a written file must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It must outlive every process; after a power loss it means nothing anyway.
    Boot,
    /// It must survive a power loss.
    Disk,
}

/// Replaces a file by `bytes`; a reader sees the old bytes or the new, never a part.
pub fn replace(path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    if lasting == Lasting::Disk {
        file.sync_data()?;
    }
    fs::rename(&fresh, path)?;
    if lasting == Lasting::Disk {
        sync_folder_of(path)?;
    }
    Ok(())
}

/// Makes a rename in the folder of `path` last.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads and parses a JSON file; `None` when it does not exist.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

/// Removes a file that may be absent.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
