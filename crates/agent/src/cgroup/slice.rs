//! One slice: made, limited, joined, frozen, killed and removed.

use super::{Branch, Controller, Error, Limits, Version, file_error};
use crate::process;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a slice to empty or to be removable, in milliseconds; longer needs another attempt.
const WAIT_MS_MAX: u64 = 2_000;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 2;

/// The cgroup of one instance, in every hierarchy.
#[derive(Debug, Clone)]
pub struct Slice {
    pub(super) parts: Vec<Part>,
}

/// The cgroup in one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) version: Version,
    pub(super) controllers: BTreeSet<Controller>,
    pub(super) folder: PathBuf,
}

impl Part {
    /// Version 2 can freeze and kill without any controller.
    fn is_core_v2(&self) -> bool {
        self.version == Version::Two
    }
}

impl Slice {
    pub(super) fn new(branches: &[Branch], name: &str) -> Self {
        let part = |branch: &Branch| Part {
            version: branch.version,
            controllers: branch.controllers.clone(),
            folder: branch.folder.join(name),
        };
        Self { parts: branches.iter().map(part).collect() }
    }

    /// Makes the cgroups, or finds them, and sets the limits.
    pub fn create(&self, limits: &Limits) -> Result<(), Error> {
        for part in &self.parts {
            fs::create_dir_all(&part.folder).map_err(file_error("make", &part.folder))?;
            for controller in &part.controllers {
                for write in limits.writes(part.version, *controller) {
                    let path = part.folder.join(write.file);
                    match fs::write(&path, &write.value) {
                        Err(_) if write.optional => {}
                        other => other.map_err(file_error("write", &path))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// The files a process writes `0` to in order to come into this slice.
    pub fn join_files(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.folder.join("cgroup.procs")).collect()
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.parts.iter().any(|part| part.folder.is_dir())
    }

    /// The folder whose inode stands for this slice.
    pub fn identity_folder(&self) -> Option<&Path> {
        self.parts.first().map(|part| part.folder.as_path())
    }

    /// Processes in it, in any hierarchy, cgroups below included.
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for part in &self.parts {
            collect_processes(&part.folder, &mut found);
        }
        found
    }

    /// Stops all its processes where they stand, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let by_core = self.parts.iter().find(|part| part.is_core_v2() && part.folder.join("cgroup.freeze").exists());
        let by_freezer = self.parts.iter().find(|part| part.controllers.contains(&Controller::Freezer));
        let (path, value) = match (by_core, by_freezer) {
            (Some(part), _) => (part.folder.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            (None, Some(part)) => (part.folder.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
            (None, None) => return Ok(()),
        };
        fs::write(&path, value).map_err(file_error("write", &path))
    }

    /// Kills every process in it and waits until none is left.
    pub fn kill(&self) -> Result<(), Error> {
        let until = Instant::now() + Duration::from_millis(WAIT_MS_MAX);
        loop {
            self.kill_once()?;
            if self.processes().is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                let left = io::Error::other(format!("{} processes do not die", self.processes().len()));
                return Err(file_error("empty", self.identity_folder().unwrap_or(Path::new("")))(left));
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    fn kill_once(&self) -> Result<(), Error> {
        let by_core = self.parts.iter().find(|part| part.is_core_v2() && part.folder.join("cgroup.kill").exists());
        if let Some(part) = by_core {
            let path = part.folder.join("cgroup.kill");
            fs::write(&path, "1").map_err(file_error("write", &path))?;
        }
        // Frozen, none can fork away while it is read; the signal takes effect when it thaws.
        let left = self.processes();
        if !left.is_empty() {
            let _best_effort = self.freeze(true);
            for pid in self.processes() {
                let _gone_is_fine = process::signal(pid, rustix::process::Signal::KILL);
            }
            self.freeze(false)?;
        }
        Ok(())
    }

    /// Removes the cgroups. They must be empty.
    pub fn remove(&self) -> Result<(), Error> {
        for part in &self.parts {
            let until = Instant::now() + Duration::from_millis(WAIT_MS_MAX);
            // The last process leaves a moment after it died: busy for that moment.
            while let Err(source) = remove_with_children(&part.folder) {
                if Instant::now() > until {
                    return Err(file_error("remove", &part.folder)(source));
                }
                thread::sleep(Duration::from_millis(LOOK_MS));
            }
        }
        Ok(())
    }
}

fn collect_processes(folder: &Path, found: &mut BTreeSet<u32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    for child in child_folders(folder) {
        collect_processes(&child, found);
    }
}

fn child_folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_with_children(folder: &Path) -> io::Result<()> {
    for child in child_folders(folder) {
        remove_with_children(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
