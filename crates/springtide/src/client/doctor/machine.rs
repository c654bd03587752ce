//! What this machine offers: cgroups, pressure figures, limits, addresses, the data folder.

use super::Finding;
use crate::client::output::bytes;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// File descriptors that a proxy with some thousand connections needs.
const FILES_MIN: u64 = 4_096;
/// Free space below which packages and logs soon find none.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// What to do where slices cannot be had at all.
const ISOLATION: &str = "run with --isolation none: no limits are enforced";

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

/// Tries what an agent does: finds the hierarchies, makes a cgroup in each and removes it.
fn cgroups() -> Vec<Finding> {
    match agent::cgroup::probe() {
        Ok((layout, places)) => {
            let mut findings = vec![Finding::ok("cgroup layout", layout.as_str())];
            findings.extend(places.into_iter().map(|place| {
                let names: Vec<&str> = place.controllers.iter().map(|controller| controller.as_str()).collect();
                let found = format!("{} takes new groups", place.base.display());
                Finding::ok(&format!("cgroup {}", names.join(", ")), found)
            }));
            findings
        }
        Err(error) => vec![refused(&error.to_string())],
    }
}

/// An agent's own words: what it would say, and after the first pause what to do.
fn refused(said: &str) -> Finding {
    let (found, advice) = said.split_once("; ").or_else(|| said.rsplit_once(": ")).unwrap_or((said, ISOLATION));
    Finding::fail("cgroup", found, advice)
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
    fn what_an_agent_would_say_is_told_with_its_advice() {
        let root = std::path::PathBuf::from("/sys/fs/cgroup/cpu/springtide");
        let source = || std::io::Error::from(ErrorKind::PermissionDenied);
        let denied = agent::cgroup::Error::Denied { path: root, source: source() }.to_string();
        let finding = refused(&denied);
        assert_eq!(finding.mark, Mark::Fail);
        assert_eq!(finding.found, "may not make the cgroup /sys/fs/cgroup/cpu/springtide: permission denied");
        assert!(finding.advice.starts_with("run as root, or under systemd with Delegate=yes"), "{}", finding.advice);
        let missing = refused(&agent::cgroup::Error::NoController { controller: "memory" }.to_string());
        assert_eq!(missing.found, "no cgroup hierarchy here has the memory controller");
        assert!(missing.advice.starts_with("mount it") && missing.advice.contains("--isolation none"), "{missing:?}");
    }
}
