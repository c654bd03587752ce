//! What all instances of one agent share: its folders, its slices, its packages and where it reports.

use crate::board::Board;
use crate::cgroup::Tree;
use crate::packages::Packages;
use crate::sampler::Sampler;
use crate::scrape::Scrapes;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Folders of stopped instances kept, for their logs.
const STOPPED_MAX: usize = 16;

/// What instances share.
#[derive(Debug)]
pub struct Host {
    /// The host's name.
    pub name: String,
    /// The agent's data folder, absolute.
    pub data: PathBuf,
    /// Slices; `None` without isolation.
    pub tree: Option<Tree>,
    /// Packages.
    pub packages: Packages,
    /// User and group of instances.
    pub user: Option<(u32, u32)>,
    /// This boot.
    pub boot_id: String,
    /// Program and arguments of the shim.
    pub shim: Vec<OsString>,
    /// Where instances report.
    pub board: Board,
    /// Who samples them.
    pub sampler: Sampler,
    /// Who asks them for their own numbers.
    pub scrapes: Scrapes,
    /// Address of the mesh listener, as the server last said.
    pub mesh: Mutex<String>,
}

impl Host {
    /// Folder of an instance.
    pub fn folder(&self, instance: &str) -> PathBuf {
        self.data.join("instances").join(instance)
    }

    /// File of the operators' policies, for the instances with the SDK.
    pub fn policies_file(&self) -> PathBuf {
        self.data.join("policies.json")
    }

    /// Data folder of an instance of a storage service. It outlives the instance: nobody but its owner may delete it.
    pub fn volume(&self, instance: &str) -> PathBuf {
        self.data.join("volumes").join(instance)
    }

    /// Folder of an instance that has been stopped and removed; its logs stay for a while.
    pub fn stopped_folder(&self, instance: &str) -> PathBuf {
        self.data.join("stopped").join(instance)
    }

    /// Address of the mesh listener; empty when the server has not said.
    pub fn mesh(&self) -> String {
        self.mesh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers the mesh listener's address.
    pub fn set_mesh(&self, address: &str) {
        address.clone_into(&mut self.mesh.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets a stopped instance's folder aside, and forgets the oldest of those.
    pub fn archive(&self, instance: &str) -> io::Result<()> {
        let (from, to) = (self.folder(instance), self.stopped_folder(instance));
        if !from.exists() {
            return Ok(());
        }
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::rename(&from, &to)?;
        let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.data.join("stopped"))?.flatten() {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(STOPPED_MAX);
        kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

/// Now, for reports.
pub fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Now, for samples.
pub fn now_unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A folder that every user may enter, made if need be.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The first folder above `path` that other users cannot enter.
pub fn closed_to_others(path: &Path) -> Option<PathBuf> {
    let closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0);
    path.ancestors().skip(1).find(closed).map(Path::to_owned)
}
