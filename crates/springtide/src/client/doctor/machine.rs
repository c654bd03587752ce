//! What this machine offers: cgroups, pressure figures, limits, addresses, the data folder.

use super::Finding;
use crate::client::output::bytes;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// What slices need of cgroup v1.
const V1_CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "freezer"];
/// What slices need of cgroup v2 (freezing is always there).
const V2_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// File descriptors that a proxy with some thousand connections needs.
const FILES_MIN: u64 = 4_096;
/// Free space below which packages and logs soon find none.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// What to do without permission.
const GRANT: &str =
    "run as root, or delegate a cgroup to this user (systemd: Delegate=yes), or start with --isolation none";

/// Everything that needs no server.
pub fn check(data: &Path) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("version", format!("springtide {}", env!("CARGO_PKG_VERSION")))];
    findings.extend(cgroups());
    findings.push(pressure());
    findings.push(files());
    findings.push(loopback());
    findings.push(folder(data));
    findings
}

/// A mounted cgroup hierarchy.
struct Hierarchy {
    path: PathBuf,
    v2: bool,
    controllers: Vec<String>,
}

fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (words.next(), words.next(), words.next()) else { continue };
        if !matches!(kind, "cgroup" | "cgroup2") {
            continue;
        }
        let v2 = kind == "cgroup2";
        let controllers = if v2 {
            let text = std::fs::read_to_string(Path::new(path).join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        } else {
            options.split(',').map(str::to_owned).collect()
        };
        found.push(Hierarchy { path: path.into(), v2, controllers });
    }
    found
}

fn cgroups() -> Vec<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = hierarchies(&mounts);
    let has = |v2: bool, name: &str| found.iter().find(|one| one.v2 == v2 && one.controllers.iter().any(|c| c == name));
    let (v1, v2) = (found.iter().any(|one| !one.v2), found.iter().any(|one| one.v2));
    let layout = match (v1, v2) {
        (true, true) => "hybrid: v1 controllers beside a v2 tree",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => {
            let advice = "mount cgroups, or start with --isolation none (no limits are enforced)";
            return vec![Finding::fail("cgroup layout", "no cgroup tree is mounted", advice)];
        }
    };
    let whole_v2 = V2_CONTROLLERS.iter().all(|name| has(true, name).is_some());
    let needed: &[&str] = if whole_v2 { &V2_CONTROLLERS } else { &V1_CONTROLLERS };
    let mut findings = vec![Finding::ok("cgroup layout", layout)];
    for name in needed {
        let check = format!("cgroup {name}");
        findings.push(match has(whole_v2, name) {
            Some(tree) => writable(&check, &tree.path),
            None => Finding::fail(
                &check,
                "no hierarchy has it",
                "enable it in the kernel's command line, or start with --isolation none",
            ),
        });
    }
    findings
}

/// Tries what an agent does: makes a cgroup and removes it.
fn writable(check: &str, tree: &Path) -> Finding {
    let probe = tree.join(format!("springtide-doctor-{}", std::process::id()));
    let tried = std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe));
    match tried {
        Ok(()) => Finding::ok(check, format!("{} takes new groups", tree.display())),
        Err(error) => Finding::fail(check, format!("{} takes no new group: {error}", tree.display()), GRANT),
    }
}

fn pressure() -> Finding {
    match std::fs::read_to_string("/proc/pressure/cpu") {
        Ok(_) => Finding::ok("pressure (PSI)", "/proc/pressure is there"),
        Err(_) => {
            let advice = "boot with psi=1; without it `top` has no PSI columns";
            Finding::warn("pressure (PSI)", "/proc/pressure is not there", advice)
        }
    }
}

fn files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(files) if files < FILES_MIN => {
            let advice = format!("raise it before starting: ulimit -n {FILES_MIN}");
            Finding::warn("open files", format!("at most {files} each process"), advice)
        }
        Some(files) => Finding::ok("open files", format!("at most {files} each process")),
        None => Finding::ok("open files", "not limited"),
    }
}

/// Hosts of `dev` have addresses of 127/8.
fn loopback() -> Finding {
    match TcpListener::bind("127.1.1.1:0") {
        Ok(_) => Finding::ok("loopback", "127.1.1.1 can be listened on"),
        Err(error) => {
            let advice =
                "bring the lo interface up with 127.0.0.1/8; `springtide dev` gives its hosts addresses of 127/8";
            Finding::fail("loopback", format!("127.1.1.1 cannot be listened on: {error}"), advice)
        }
    }
}

/// An address that `dev` wants; taken is right when a server knows of its entry.
pub fn listen(address: SocketAddr, served: bool) -> Finding {
    let check = format!("port {}", address.port());
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(&check, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && served => {
            Finding::ok(&check, format!("{address} is in use; a server is running, so it may be its proxy"))
        }
        Err(error) => {
            let advice = format!("find who has it (ss -ltnp 'sport = :{}'), or choose another address", address.port());
            Finding::warn(&check, format!("{address}: {error}"), advice)
        }
    }
}

fn folder(data: &Path) -> Finding {
    let place = existing(data);
    let probe = place.join(format!(".springtide-doctor-{}", std::process::id()));
    if let Err(error) = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
        let advice = "give this user the folder, or choose another with --data";
        return Finding::fail("data folder", format!("{} cannot be written: {error}", place.display()), advice);
    }
    let free = rustix::fs::statvfs(&place).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let found = format!("{}, {} free", data.display(), bytes(free));
    if free < FREE_BYTES_MIN {
        return Finding::warn("data folder", found, "make room: packages and logs are kept there");
    }
    Finding::ok("data folder", found)
}

/// The folder, or the closest one above that is there.
fn existing(data: &Path) -> PathBuf {
    let from = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    from.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn trees_are_read_from_the_mounts() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,nosuid,cpu,cpuacct 0 0\nnone /nowhere cgroup2 rw 0 0\n";
        let found = hierarchies(mounts);
        assert_eq!(found.len(), 2);
        assert!(found[0].controllers.contains(&"cpu".to_owned()) && !found[0].v2);
        assert!(found[1].v2 && found[1].controllers.is_empty());
    }

    #[test]
    fn a_taken_port_is_noticed() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(listen(address, false).mark, Mark::Warn);
        assert_eq!(listen(address, true).mark, Mark::Ok);
        drop(taken);
        assert_eq!(listen(address, false).mark, Mark::Ok);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let finding = super::folder(&folder.path().join("a/b"));
        assert_ne!(finding.mark, Mark::Fail, "{finding:?}");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left behind");
    }

    #[test]
    fn a_tree_that_takes_no_group_fails_with_advice() {
        let finding = writable("cgroup cpu", Path::new("/proc"));
        assert_eq!((finding.mark, finding.advice.as_str()), (Mark::Fail, GRANT));
    }
}
