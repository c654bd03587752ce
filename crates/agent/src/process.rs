//! Telling processes apart: a pid alone is reused, so a process is boot id + pid + start time (+ cgroup inode).
//!
//! Deliberately absent: what `/proc` says (`shim::process`), starting processes (`shim`) and deciding when (`instance`).

use rustix::process::{Pid, PidfdFlags, Signal};
use shim::process::stat;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

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
        let fd = open(self.pid)?;
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

/// A descriptor of whichever process has this pid now; it becomes readable at its end.
pub fn open(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(raw(pid)?, PidfdFlags::NONBLOCK).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

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
