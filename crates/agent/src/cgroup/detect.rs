//! Which hierarchies there are, from `/proc/self/mountinfo` (proc(5)) and `/proc/self/cgroup` (cgroups(7)).

use super::{Error, Layout};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A controller we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Quota and weight.
    Cpu,
    /// CPU use (a controller of its own in v1 only).
    Cpuacct,
    /// Memory limit and use.
    Memory,
    /// Limit of processes and threads.
    Pids,
    /// Freezing (a controller of its own in v1 only).
    Freezer,
    /// What is read and written; used in v2 only, and only where it is to be had.
    Io,
}

impl Controller {
    const ALL: [Self; 6] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids, Self::Freezer, Self::Io];
    const NEEDED_V1: [Self; 4] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids];
    const NEEDED_V2: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];
    const USED_V2: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Io];

    /// As the kernel names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::Io => "io",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.as_str() == name)
    }
}

/// Version of a hierarchy's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `cgroup`.
    One,
    /// `cgroup2`.
    Two,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    pub(crate) controllers: BTreeSet<Controller>,
    pub(crate) mount: PathBuf,
    /// The cgroup this process lives in.
    pub(crate) own: PathBuf,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) layout: Layout,
    pub(crate) hierarchies: Vec<Hierarchy>,
}

/// Reads the tables of this process.
pub(crate) fn detect() -> Result<Found, Error> {
    let read = |path: &'static str| fs::read_to_string(path).map_err(|source| Error::Tables { path, source });
    let mounts = read("/proc/self/mountinfo")?;
    let own = read("/proc/self/cgroup")?;
    let controllers_of = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    parse(&mounts, &own, controllers_of).map_err(|error| match (error, covered(&mounts)) {
        // Nothing to mount is missing: something else is mounted over it.
        (Error::NoController { .. }, Some(mount)) => Error::Hidden { mount },
        (error, _) => error,
    })
}

/// A cgroup2 whose files cannot be seen at its mount point.
fn covered(mounts: &str) -> Option<PathBuf> {
    let mut mounts = mounts.lines().filter_map(parse_mount).filter(|mount| mount.version == Version::Two);
    mounts.find(|mount| !mount.point.join("cgroup.controllers").exists()).map(|mount| mount.point)
}

struct Mount<'a> {
    root: &'a str,
    point: PathBuf,
    version: Version,
    options: &'a str,
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    Some(Mount { root, point: PathBuf::from(unescape(point)), version, options: right.nth(1)? })
}

/// Mountinfo writes spaces as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

fn parse(mounts: &str, own: &str, controllers_of: impl Fn(&Path) -> String) -> Result<Found, Error> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for mount in mounts.lines().filter_map(parse_mount) {
        let controllers: BTreeSet<Controller> = match mount.version {
            Version::One => mount.options.split(',').filter_map(Controller::parse).collect(),
            Version::Two => controllers_of(&mount.point)
                .split_ascii_whitespace()
                .filter_map(Controller::parse)
                .filter(|controller| Controller::USED_V2.contains(controller))
                .collect(),
        };
        // A v1 hierarchy without controllers of ours (systemd's, cpuset) is none of our business; one mounted twice counts once.
        let ours = mount.version == Version::Two || !controllers.is_empty();
        let again = hierarchies.iter().any(|h| h.version == mount.version && h.controllers == controllers);
        if ours && !again {
            let own = own_folder(own, &mount, &controllers);
            hierarchies.push(Hierarchy { version: mount.version, controllers, mount: mount.point, own });
        }
    }
    let layout = layout_of(&hierarchies);
    let needed = if layout == Layout::V2 { &Controller::NEEDED_V2[..] } else { &Controller::NEEDED_V1[..] };
    for controller in needed {
        let on_v2 = *controller == Controller::Cpuacct
            && hierarchies.iter().any(|h| h.version == Version::Two && h.controllers.contains(&Controller::Cpu));
        if !on_v2 && !hierarchies.iter().any(|h| h.controllers.contains(controller)) {
            return Err(Error::NoController { controller: controller.as_str() });
        }
    }
    Ok(Found { layout, hierarchies })
}

fn layout_of(hierarchies: &[Hierarchy]) -> Layout {
    let one = hierarchies.iter().any(|h| h.version == Version::One);
    let two = hierarchies.iter().any(|h| h.version == Version::Two);
    match (one, two) {
        (true, true) => Layout::Hybrid,
        (true, false) => Layout::V1,
        (false, _) => Layout::V2,
    }
}

fn own_folder(own: &str, mount: &Mount<'_>, controllers: &BTreeSet<Controller>) -> PathBuf {
    let of_mount = |names: &str| match mount.version {
        Version::Two => names.is_empty(),
        Version::One => names.split(',').filter_map(Controller::parse).any(|name| controllers.contains(&name)),
    };
    let path = own.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        of_mount(names).then_some(path)
    });
    let below = path.unwrap_or("/");
    let below = below.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(below);
    mount.point.join(below.trim_start_matches('/'))
}

impl Hierarchy {
    /// Sees to it that what is reached at the mount point is the hierarchy: folders made elsewhere would limit nothing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.mount.join("cgroup.procs").exists() {
            true => Ok(()),
            false => Err(Error::Hidden { mount: self.mount.clone() }),
        }
    }

    /// Makes `root` below the mount point, or, where we may not, below our own cgroup; tells which it was.
    pub(crate) fn writable_base(&self, root: &Path) -> Result<PathBuf, Error> {
        let first = self.mount.join(root);
        let Err(error) = fs::create_dir_all(&first) else { return Ok(self.mount.clone()) };
        if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
            return Err(Error::Place { path: first, source: error });
        }
        let second = self.own.join(root);
        match fs::create_dir_all(&second) {
            Ok(()) => Ok(self.own.clone()),
            Err(source) => Err(Error::Denied { path: second, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        38 31 0:35 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
    const OWN: &str =
        "8:pids:/user.slice\n4:memory:/user.slice/a b\n3:cpuset:/\n2:cpu,cpuacct:/user.slice\n0::/user.slice/session\n";

    fn none(_: &Path) -> String {
        String::new()
    }

    #[test]
    fn v1_controllers_mounted_together_are_one_hierarchy() {
        let found = parse(V1, OWN, none).expect("all controllers there");
        assert_eq!(found.layout, Layout::V1);
        assert_eq!(found.hierarchies.len(), 4);
        assert_eq!(found.hierarchies[0].controllers, [Controller::Cpu, Controller::Cpuacct].into());
        assert_eq!(found.hierarchies[0].own, Path::new("/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        assert_eq!(found.hierarchies[1].own, Path::new("/sys/fs/cgroup/memory/user.slice/a b"));
    }

    #[test]
    fn an_empty_cgroup2_beside_v1_is_hybrid() {
        let text = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let found = parse(&text, OWN, none).expect("all controllers there");
        assert_eq!(found.layout, Layout::Hybrid);
        let unified = found.hierarchies.last().expect("it is there");
        assert!(unified.controllers.is_empty());
        assert_eq!(unified.own, Path::new("/sys/fs/cgroup/unified/user.slice/session"));
    }

    #[test]
    fn v2_in_a_container_sees_its_own_part() {
        let text = "41 31 0:38 /pod7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse(text, "0::/pod7/main\n", |_| "cpuset cpu io memory pids".into()).expect("all there");
        assert_eq!(found.layout, Layout::V2);
        assert_eq!(found.hierarchies[0].own, Path::new("/sys/fs/cgroup/main"));
        assert_eq!(found.hierarchies[0].controllers, Controller::USED_V2.into());
    }

    #[test]
    fn a_missing_controller_is_named() {
        let error =
            parse("41 31 0:38 / /c rw - cgroup2 none rw\n", "0::/\n", |_| "cpu pids".into()).expect_err("no memory");
        assert!(error.to_string().contains("memory controller"), "{error}");
        let error = parse("", "", none).expect_err("nothing mounted");
        assert!(error.to_string().contains("--isolation none"), "{error}");
    }
}
