//! The last good assignments, kept so that an agent that starts without a server goes on as it was.

use crate::assignment::Assignment;
use serde::{Deserialize, Serialize};
use shim::files::{self, Lasting};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the file; an older binary refuses what it does not know.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// Revision of the last message taken.
    pub revision: u64,
    /// Address of the mesh listener.
    pub mesh: String,
    /// By instance.
    pub assignments: BTreeMap<String, Assignment>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, revision: 0, mesh: String::new(), assignments: BTreeMap::new() }
    }
}

/// What was found on disk.
#[derive(Debug)]
pub enum Loaded {
    /// The last good state.
    Good(State),
    /// There is none: what runs here, if anything, is taken as wanted.
    Unknown,
}

fn path(data: &Path) -> PathBuf {
    data.join("assignments.json")
}

/// Loads the state. A damaged file is set aside and counts as absent.
///
/// # Errors
/// A file of a newer version, or an unreadable disk.
pub fn load(data: &Path) -> io::Result<Loaded> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = path(data);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Unknown),
        Err(error) => return Err(error),
    };
    if let Ok(Versioned { version }) = serde_json::from_slice(&bytes)
        && version > VERSION
    {
        let text = format!("{} has version {version}, this binary knows {VERSION}: run a newer one", path.display());
        return Err(io::Error::other(text));
    }
    match serde_json::from_slice(&bytes) {
        Ok(state) => Ok(Loaded::Good(state)),
        Err(error) => {
            let aside = path.with_extension("json.damaged");
            tracing::warn!("{} is damaged ({error}); set aside as {}", path.display(), aside.display());
            fs::rename(&path, aside)?;
            Ok(Loaded::Unknown)
        }
    }
}

/// Saves the state. Blocking.
pub fn save(data: &Path, state: &State) -> io::Result<()> {
    let bytes = serde_json::to_vec(state).map_err(io::Error::other)?;
    files::replace(&path(data), &bytes, Lasting::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_refused_and_damaged_is_set_aside() {
        let dir = tempfile::tempdir().expect("temp");
        assert!(matches!(load(dir.path()).expect("absent"), Loaded::Unknown));
        let state = State { revision: 7, ..State::default() };
        save(dir.path(), &state).expect("written");
        assert!(matches!(load(dir.path()).expect("there"), Loaded::Good(loaded) if loaded == state));
        fs::write(path(dir.path()), br#"{"version":2,"new":true}"#).expect("temp");
        assert!(load(dir.path()).expect_err("newer").to_string().contains("run a newer one"));
        fs::write(path(dir.path()), br#"{"version":1,"revi"#).expect("temp");
        assert!(matches!(load(dir.path()).expect("aside"), Loaded::Unknown));
        assert!(dir.path().join("assignments.json.damaged").exists());
    }
}
