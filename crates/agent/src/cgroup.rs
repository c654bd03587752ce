//! Slices: cgroups that hold one instance each, on cgroup v1, hybrid and v2 behind one small layer.
//!
//! Layout in each hierarchy: `<base>/<root>/<instance>` for instances and `<base>/<root>/_shims` for their shims
//! (`_` can be in no instance's name). Only leaves hold processes, as v2 demands. The base is the hierarchy's mount
//! point where we may write there, so that slices stay outside the agent's own unit and survive its restart; else our
//! own, delegated cgroup. Deliberately absent: cpusets, io limits and the devices controller.

mod detect;
mod limits;
mod meter;
mod probe;
mod slice;

pub use detect::{Controller, Version};
pub use limits::Limits;
pub use meter::{Io, Meter, Rest, Usage};
pub use probe::{Place, probe};
pub use slice::Slice;

use detect::Found;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Attempts at making our folders while neighbours remove theirs.
const OPEN_TRIES_MAX: u32 = 20;
/// Longest wait for the shims' leaf to be removable, in milliseconds.
const CLOSE_MS_MAX: u64 = 500;
/// Name of the leaf that holds the shims.
const SHIMS: &str = "_shims";
/// Name of the leaf the agent moves itself into when it lives in the very cgroup that was delegated to it.
const SELF: &str = "springtide-agent";

/// How this machine's hierarchies are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Controllers mounted one by one.
    V1,
    /// Controllers mounted one by one, and a cgroup2 without them beside.
    Hybrid,
    /// One cgroup2 with all controllers.
    V2,
}

impl Layout {
    /// As reported to the server.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "cgroup-v1",
            Self::Hybrid => "cgroup-hybrid",
            Self::V2 => "cgroup-v2",
        }
    }
}

/// Why slices cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tables of this process cannot be read.
    #[error("cannot read {path}: {source}; mount /proc, or run with --isolation none")]
    Tables {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A controller is not to be had.
    #[error(
        "no cgroup hierarchy here has the {controller} controller: mount it, or boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or run with --isolation none"
    )]
    NoController {
        /// Which one.
        controller: &'static str,
    },
    /// We may not write.
    #[error(
        "may not make the cgroup {path}: {source}; run as root, or under systemd with Delegate=yes in the unit, or run with --isolation none"
    )]
    Denied {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made there, whoever we are.
    #[error("cannot make the cgroup {path}: {source}; choose another --cgroup-root, or run with --isolation none")]
    Place {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A hierarchy is hidden.
    #[error(
        "{mount} is no cgroup hierarchy, although /proc/self/mountinfo lists one there: unmount what is mounted over it (umount {mount}), or run with --isolation none"
    )]
    Hidden {
        /// Where it is mounted.
        mount: PathBuf,
    },
    /// A cgroup file refused.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// An agent beside this one may remove a shared parent, empty as it sees it, while this one builds below.
    fn is_not_found(&self) -> bool {
        let (Self::Denied { source, .. } | Self::Place { source, .. } | Self::File { source, .. }) = self else {
            return false;
        };
        let no_device = source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error());
        no_device || source.kind() == io::ErrorKind::NotFound
    }
}

pub(crate) fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// Our folder in one hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) version: Version,
    pub(crate) controllers: BTreeSet<Controller>,
    /// Where our part begins; not ours to remove.
    pub(crate) base: PathBuf,
    /// `<base>/<root>`.
    pub(crate) folder: PathBuf,
}

/// Our folders in all hierarchies: the parent of an agent's slices.
#[derive(Debug, Clone)]
pub struct Tree {
    layout: Layout,
    branches: Vec<Branch>,
    root: PathBuf,
}

impl Tree {
    /// Finds the hierarchies and makes our folder, with its controllers, in each.
    ///
    /// # Errors
    /// When a controller is missing or we may not write; the message says what to grant.
    pub fn open(root: &str) -> Result<Self, Error> {
        let found = detect::detect()?;
        found.hierarchies.iter().try_for_each(detect::Hierarchy::check)?;
        for _ in 1..OPEN_TRIES_MAX {
            match Self::build(found.clone(), root) {
                Err(error) if error.is_not_found() => {}
                other => return other,
            }
        }
        Self::build(found, root)
    }

    pub(crate) fn build(found: Found, root: &str) -> Result<Self, Error> {
        let root: PathBuf =
            Path::new(root).components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
        let mut branches = Vec::new();
        for hierarchy in found.hierarchies {
            let base = hierarchy.writable_base(&root)?;
            let folder = base.join(&root);
            branches.push(Branch { version: hierarchy.version, controllers: hierarchy.controllers, base, folder });
        }
        let tree = Self { layout: found.layout, branches, root };
        tree.branches.iter().try_for_each(Branch::enable)?;
        tree.branches.iter().try_for_each(Branch::weigh)?;
        tree.make_leaf(SHIMS)?;
        Ok(tree)
    }

    /// The layout found.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The slice of an instance, existing or not.
    pub fn slice(&self, instance: &str) -> Slice {
        Slice::new(&self.branches, instance)
    }

    /// The leaf of the shims.
    pub fn shims(&self) -> Slice {
        Slice::new(&self.branches, SHIMS)
    }

    /// Names of the slices that exist in any hierarchy.
    pub fn existing(&self) -> BTreeSet<String> {
        let folders = self.branches.iter().filter_map(|branch| fs::read_dir(&branch.folder).ok());
        let entries = folders.flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| name != SHIMS).collect()
    }

    fn make_leaf(&self, name: &str) -> Result<(), Error> {
        for branch in &self.branches {
            let path = branch.folder.join(name);
            fs::create_dir_all(&path).map_err(file_error("make", &path))?;
        }
        Ok(())
    }

    /// Removes what is empty of ours: the shims' leaf, our folder, and its parents that nobody else uses. Blocking.
    pub fn close(&self) {
        let until = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        for branch in &self.branches {
            // A shim has ended a moment before the kernel counts it out.
            while let Err(error) = fs::remove_dir(branch.folder.join(SHIMS)) {
                if error.kind() == io::ErrorKind::NotFound || Instant::now() > until {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
            for folder in self.root.ancestors().filter(|path| !path.as_os_str().is_empty()) {
                if fs::remove_dir(branch.base.join(folder)).is_err() {
                    break;
                }
            }
        }
    }
}

impl Branch {
    /// Version 2 only: passes the controllers down to our slices.
    fn enable(&self) -> Result<(), Error> {
        if self.version == Version::One || self.controllers.is_empty() {
            return Ok(());
        }
        let below = self.folder.strip_prefix(&self.base).unwrap_or(Path::new(""));
        let mut folder = self.base.clone();
        self.enable_in(&folder)?;
        for part in below.components() {
            folder.push(part);
            self.enable_in(&folder)?;
        }
        Ok(())
    }

    /// Slices share what their parents get, and the default parent weighs as much as one process. Weighed by the machine's
    /// cores, a slice competes with its own weight, as limits meant it to.
    fn weigh(&self) -> Result<(), Error> {
        if !self.controllers.contains(&Controller::Cpu) {
            return Ok(());
        }
        let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        let (file, weight) = limits::weight_of(self.version, cores.saturating_mul(1_000));
        let below = self.folder.strip_prefix(&self.base).unwrap_or(Path::new(""));
        let mut folder = self.base.clone();
        for part in below.components() {
            folder.push(part);
            let path = folder.join(file);
            fs::write(&path, weight.to_string()).map_err(file_error("write", &path))?;
        }
        Ok(())
    }

    fn enable_in(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let names = |text: &str, wanted: &Controller| text.split_ascii_whitespace().any(|name| name == wanted.as_str());
        // What a delegated cgroup was not given: what slices need is then refused with its name, I/O goes uncounted.
        let given = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        let is_wanted = |c: &&Controller| !names(&enabled, c) && (**c != Controller::Io || names(&given, c));
        let missing: Vec<&Controller> = self.controllers.iter().filter(is_wanted).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let wish: Vec<String> = missing.iter().map(|controller| format!("+{}", controller.as_str())).collect();
        match fs::write(&path, wish.join(" ")) {
            // Busy: processes live in it, and v2 wants them in leaves. When they are only us, we can step aside.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let leaf = folder.join(SELF);
                fs::create_dir_all(&leaf).map_err(file_error("make", &leaf))?;
                let procs = leaf.join("cgroup.procs");
                fs::write(&procs, "0").map_err(file_error("move the agent into", &procs))?;
                fs::write(&path, wish.join(" ")).map_err(file_error("enable controllers in", &path))
            }
            other => other.map_err(file_error("enable controllers in", &path)),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_support;
