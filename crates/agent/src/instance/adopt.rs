//! What an earlier agent left of an instance: alive, ended, or nothing.

use super::launch::{ASSIGNMENT_FILE, HEALTHY_FILE, identity_of, shim_lives};
use crate::assignment::Assignment;
use crate::host::Host;
use shim::files;
use shim::spec::{self, ExitRecord, PidRecord, Spec};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a shim that an agent started in its last moment, in milliseconds.
const STARTING_MS_MAX: u64 = 1_000;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 2;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No run of it.
    Nothing,
    /// It runs.
    Alive {
        /// Which process.
        record: PidRecord,
        /// Its restarts so far.
        restarts: u32,
        /// It has been healthy in this run.
        was_healthy: bool,
        /// It runs for another package or config than wanted now.
        spec_is_old: bool,
    },
    /// It ran and ended while no agent was there.
    Ended {
        /// Which process it was.
        record: Option<PidRecord>,
        /// Its restarts so far.
        restarts: u32,
        /// As reported.
        code: Option<i32>,
        /// For people.
        message: String,
    },
}

/// Looks for an instance. Blocking; a millisecond unless a shim is just starting.
pub fn find(host: &Host, wanted: &Assignment) -> Found {
    let folder = host.folder(wanted.instance.as_str());
    let spec = match spec::read::<Spec>(&folder, spec::SPEC_FILE) {
        Ok(Some(spec)) => spec,
        Ok(None) => return Found::Nothing,
        Err(error) => {
            tracing::warn!("cannot adopt {}: {error}", wanted.instance);
            return Found::Nothing;
        }
    };
    let until = Instant::now() + Duration::from_millis(STARTING_MS_MAX);
    loop {
        let record = spec::read::<PidRecord>(&folder, spec::PID_FILE).ok().flatten();
        if let Some(record) = record.filter(|record| record.run == spec.run) {
            return judge(host, wanted, &folder, &spec, record);
        }
        if let Ok(Some(exit)) = spec::read::<ExitRecord>(&folder, spec::EXIT_FILE)
            && exit.run == spec.run
        {
            let (code, message) = (exit.reported_code(), exit.describe());
            return Found::Ended { record: None, restarts: spec.restarts, code, message };
        }
        if !shim_lives(&folder) || Instant::now() > until {
            return Found::Nothing;
        }
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

fn judge(host: &Host, wanted: &Assignment, folder: &Path, spec: &Spec, record: PidRecord) -> Found {
    let same_boot = record.boot_id == host.boot_id;
    // As recorded, not as configured now: the isolation may have been changed since.
    let inode = spec.slice.as_deref().and_then(shim::process::inode);
    if same_boot && inode == record.slice_inode && identity_of(&record).runs() {
        let marker = fs::read_to_string(folder.join(HEALTHY_FILE)).unwrap_or_default();
        let started_for = files::read_json::<Assignment>(&folder.join(ASSIGNMENT_FILE)).ok().flatten();
        return Found::Alive {
            was_healthy: marker == record.run.to_string(),
            restarts: spec.restarts,
            spec_is_old: started_for.is_some_and(|assignment| assignment.needs_restart(wanted)),
            record,
        };
    }
    let exit = spec::read::<ExitRecord>(folder, spec::EXIT_FILE).ok().flatten().filter(|exit| exit.run == record.run);
    let (code, message) = match exit {
        Some(exit) => (exit.reported_code(), exit.describe()),
        None if !same_boot => (None, "ended with the machine's last boot".to_owned()),
        None => (None, "ended; its shim left no word how".to_owned()),
    };
    Found::Ended { record: same_boot.then_some(record), restarts: spec.restarts, code, message }
}
