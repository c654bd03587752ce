//! Telling processes apart: a pid alone is reused, so a process is boot id + pid + start time (+ cgroup inode).
//!
//! Deliberately absent: starting processes (`shim`) and deciding when (`instance`).

use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Most processes looked at when one isolation-less instance is walked.
const TREE_PROCESSES_MAX: usize = 10_000;

/// A process, told apart from any later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks between boot and its start.
    pub start_ticks: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Own CPU time, user and system, in ticks.
    pub cpu_ticks: u64,
    /// CPU time of children it has waited for, in ticks.
    pub waited_cpu_ticks: u64,
    /// Start, in ticks after boot.
    pub start_ticks: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

/// The id of this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads `/proc/<pid>/stat`; `None` when there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, spaces and parentheses too: count from its end.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(14)? + number(15)?,
        waited_cpu_ticks: number(16)? + number(17)?,
        start_ticks: number(22)?,
        resident_pages: number(24)?,
    })
}

impl Identity {
    /// The process that has this pid now.
    #[cfg(test)]
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_ticks: stat(pid)?.start_ticks })
    }

    /// Whether that very process runs (a zombie does not).
    pub fn runs(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X'))
    }

    /// A descriptor that becomes readable at its end; `None` when it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = rustix::process::pidfd_open(raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Opened first, compared after: from here on the descriptor cannot mean another process.
        self.runs().then_some(fd)
    }

    /// Sends a signal to its process group, if that very process still runs.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let (Some(_held), Some(pid)) = (self.open(), raw(self.pid)) else { return Ok(()) };
        match rustix::process::kill_process_group(pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Sends a signal to one process; one that is gone is no error.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = raw(pid) else { return Ok(()) };
    match rustix::process::kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// All descendants of a process, parents before children. A shim is a subreaper, so nothing of its instance escapes this.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() && found.len() < TREE_PROCESSES_MAX {
        for task in fs::read_dir(format!("/proc/{}/task", found[next])).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    found.remove(0);
    found
}

/// The inode of a cgroup folder: it changes when the cgroup is removed and made again.
pub fn inode(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).ok().map(|meta| meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_names() {
        let text = "42 (a) b) (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 8 9 10 20 0 1 0 5555 1000 77 18446744073709551615";
        let stat = parse_stat(text).expect("well formed");
        assert_eq!(
            stat,
            Stat { state: 'S', cpu_ticks: 15, waited_cpu_ticks: 19, start_ticks: 5555, resident_pages: 77 }
        );
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn identity_tells_a_process_from_its_successor() {
        let own = Identity::of(std::process::id()).expect("this process runs");
        assert!(own.runs() && own.open().is_some());
        let other = Identity { start_ticks: own.start_ticks + 1, ..own };
        assert!(!other.runs() && other.open().is_none());
        // Must not signal this test's group.
        other.signal_group(Signal::KILL).expect("a process that is gone is no error");
    }

    #[test]
    fn descendants_are_found() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep exists");
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
}
