//! The files between agent and shim. A shim outlives the agent that wrote its spec, so each file carries a version:
//! a newer agent reads what an older shim wrote, an older agent refuses what it does not know.

use crate::files::{self, Lasting};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of all three files.
pub const VERSION: u32 = 1;
/// Written by the agent.
pub const SPEC_FILE: &str = "spec.json";
/// Written by the shim once the instance runs.
pub const PID_FILE: &str = "pid.json";
/// Written by the shim once its first process has ended, or could not be started.
pub const EXIT_FILE: &str = "exit.json";
/// Held locked by the shim as long as it lives.
pub const LOCK_FILE: &str = "shim.lock";
/// The shim's own words, when something goes wrong.
pub const SHIM_LOG: &str = "shim.log";
/// What the instance writes to stdout and stderr, in the order it wrote it.
pub const LOG_FILE: &str = "logs/output.log";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// [`VERSION`].
    pub version: u32,
    /// Tells this run from others of the same instance.
    pub run: u64,
    /// The instance, for messages.
    pub instance: String,
    /// Starts before this one.
    pub restarts: u32,
    /// Program (a path) and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub variables: BTreeMap<String, String>,
    /// Working folder.
    pub work: PathBuf,
    /// User and group to run as.
    pub user: Option<(u32, u32)>,
    /// Files to write `0` to in order to enter the slice; empty without isolation.
    pub join: Vec<PathBuf>,
    /// Files to write `0` to in order to leave it for the shims' leaf.
    pub leave: Vec<PathBuf>,
    /// Folder whose inode stands for the slice.
    pub slice: Option<PathBuf>,
    /// Size at which the log is rotated.
    pub log_bytes_max: u64,
    /// Log files kept, the current one included.
    pub log_files_max: u32,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: u64,
    /// Boot of the machine.
    pub boot_id: String,
    /// First process of the instance.
    pub pid: u32,
    /// Its start, in ticks after boot.
    pub start_ticks: u64,
    /// The shim.
    pub shim_pid: u32,
    /// Inode of the slice; absent without isolation.
    pub slice_inode: Option<u64>,
    /// When it was started.
    pub started_unix_ms: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: u64,
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
    /// Why it could not even be started.
    pub error: Option<String>,
    /// When.
    pub ended_unix_ms: u64,
}

impl ExitRecord {
    /// The code as reported: negative when killed by that signal.
    pub fn reported_code(&self) -> Option<i32> {
        self.code.or(self.signal.map(|signal| -signal))
    }

    /// For people.
    pub fn describe(&self) -> String {
        match (&self.error, self.code, self.signal) {
            (Some(error), _, _) => error.clone(),
            (None, Some(code), _) => format!("exited with code {code}"),
            (None, None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None, None) => "ended in a way its shim could not see".to_owned(),
        }
    }
}

/// Writes one of the records.
pub fn write<T: Serialize>(folder: &Path, file: &str, record: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
    files::replace(&folder.join(file), &bytes, Lasting::Boot)
}

/// Reads one of the records, `None` when it is not there; refuses a version this binary does not know.
pub fn read<T: serde::de::DeserializeOwned>(folder: &Path, file: &str) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = folder.join(file);
    let Some(Versioned { version }) = files::read_json(&path)? else { return Ok(None) };
    if version != VERSION {
        let text = format!("{} has version {version}, this binary knows {VERSION}: run a newer one", path.display());
        return Err(io::Error::other(text));
    }
    files::read_json(&path)
}
