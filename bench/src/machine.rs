//! What the machine says of itself: steal, processes, cgroups. Counted in the OS, never in the product's own books.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Share of stolen time above which a round is void.
pub const STEAL_MAX: f64 = 0.05;

/// CPU time of the machine since boot, in ticks.
#[derive(Clone, Copy)]
pub struct CpuTime {
    total: u64,
    steal: u64,
}

impl CpuTime {
    /// Now.
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat has a first line")?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        Ok(Self { total: ticks.iter().take(8).sum(), steal: ticks.get(7).copied().unwrap_or(0) })
    }

    /// Share of time stolen by the hypervisor since `earlier`.
    pub fn steal_since(self, earlier: Self) -> f64 {
        (self.steal - earlier.steal) as f64 / (self.total - earlier.total).max(1) as f64
    }
}

/// A process, identified so that a reused id is told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its start, in ticks since boot.
    pub start_ticks: u64,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Process {
    /// The process with this id, if it lives.
    pub fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if *fields.first()? == "Z" {
            return None;
        }
        let start_ticks = fields.get(19)?.parse().ok()?;
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args = args.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some(Self { pid, start_ticks, args: args.map(|word| String::from_utf8_lossy(word).into_owned()).collect() })
    }

    /// True when it still lives.
    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start_ticks == self.start_ticks)
    }

    /// When it started, milliseconds since the epoch (to the clock tick, 10 ms).
    pub fn started_unix_ms(&self) -> Result<f64> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let boot = text.lines().find_map(|line| line.strip_prefix("btime ")).context("/proc/stat tells btime")?;
        // btime has whole seconds only; uptime against the wall clock is finer.
        let uptime = std::fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split_whitespace().next().context("/proc/uptime tells uptime")?.parse()?;
        let fine = unix_ms() - uptime * 1_000.0;
        let coarse = boot.parse::<f64>()? * 1_000.0;
        let boot = if (fine - coarse).abs() < 2_000.0 { fine } else { coarse };
        Ok(boot + self.start_ticks as f64 * 10.0)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Memory that is its own alone (shared pages counted by share), in KiB.
    pub fn proportional_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Kills it with -9.
    pub fn kill(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid).context("a process id is not 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        Ok(())
    }
}

/// Milliseconds since the epoch.
pub fn unix_ms() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs_f64() * 1_000.0
}

/// All living processes for which `keep` holds.
pub fn processes(keep: impl Fn(&Process) -> bool) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> = pids.filter_map(Process::read).filter(keep).collect();
    found.sort();
    found
}

/// Cgroups of any hierarchy whose path holds `part`, leaves and all.
pub fn cgroups(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), part, 0, &mut found);
    found
}

/// Folders of /sys/fs/cgroup looked into, in depth.
const CGROUP_DEPTH_MAX: usize = 8;

fn walk(folder: &Path, part: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || depth >= CGROUP_DEPTH_MAX {
            continue;
        }
        if path.to_string_lossy().contains(part) {
            found.push(path.clone());
        }
        walk(&path, part, depth + 1, found);
    }
}
