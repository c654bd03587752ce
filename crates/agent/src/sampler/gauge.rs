//! Where a sample's numbers come from: a slice's files, or, without isolation, `/proc`.

use crate::cgroup::{Meter, Tree, Usage, pressure};
use crate::process;
use api::fleet::HostSample;
use shim::process::stat;
use std::fs;
use std::io;

/// Length of a clock tick in `/proc` (USER_HZ is 100 on every Linux we run on).
const TICK_US: u64 = 10_000;
/// Size of a page.
const PAGE_BYTES: u64 = 4_096;

/// A thing that can be read.
#[derive(Debug)]
pub enum Gauge {
    /// A slice.
    Slice(Meter),
    /// All descendants of this shim.
    Processes(u32),
}

impl Gauge {
    /// Of an instance's slice, or of its processes where there are no slices.
    pub fn open(tree: Option<&Tree>, instance: &str, shim_pid: u32) -> Self {
        match tree {
            Some(tree) => Self::Slice(Meter::open(&tree.slice(instance))),
            None => Self::Processes(shim_pid),
        }
    }

    /// Reads it.
    pub fn read(&self) -> io::Result<Usage> {
        match self {
            Self::Slice(meter) => meter.read(),
            Self::Processes(shim) => read_processes(*shim),
        }
    }
}

/// CPU time of the ended is found where their parents, in the end the shim, have waited for them.
fn read_processes(shim: u32) -> io::Result<Usage> {
    let own = stat(shim).ok_or(io::ErrorKind::NotFound)?;
    let mut ticks = own.waited_cpu_ticks;
    let mut usage = Usage::default();
    for stat in process::descendants(shim).into_iter().filter_map(stat) {
        ticks += stat.cpu_ticks + stat.waited_cpu_ticks;
        usage.memory_bytes += stat.resident_pages * PAGE_BYTES;
        usage.pids += 1;
    }
    usage.cpu_usage_us = ticks * TICK_US;
    Ok(usage)
}

/// What the whole machine uses; `None` where `/proc` does not say.
pub(super) fn read_host() -> Option<HostSample> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let pressure_of = |name: &str| pressure(&fs::read_to_string(format!("/proc/pressure/{name}")).ok()?);
    let (cpu_busy_us, cpu_steal_us, cores) = parse_stat(&stat)?;
    let total = meminfo(&memory, "MemTotal:")?;
    Some(HostSample {
        cpu_busy_us,
        cpu_steal_us,
        cores,
        memory_used_bytes: total.saturating_sub(meminfo(&memory, "MemAvailable:")?),
        memory_total_bytes: total,
        cpu_pressure_us: pressure_of("cpu"),
        memory_pressure_us: pressure_of("memory"),
        io_pressure_us: pressure_of("io"),
    })
}

/// Cores and memory of this machine, for the hello.
pub fn machine() -> (u32, u64) {
    read_host().map_or((0, 0), |host| (host.cores * 1_000, host.memory_total_bytes))
}

/// user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
fn parse_stat(text: &str) -> Option<(u64, u64, u32)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    let is_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let cores = u32::try_from(text.lines().filter(is_core).count()).ok()?;
    Some(((user + nice + system + irq + softirq) * TICK_US, steal * TICK_US, cores))
}

fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        let host = read_host().expect("this is Linux");
        assert!(host.cores > 0 && host.cpu_busy_us > 0);
        assert!(host.memory_used_bytes > 0 && host.memory_used_bytes < host.memory_total_bytes);
        let (millis, bytes) = machine();
        assert_eq!((millis, bytes), (host.cores * 1_000, host.memory_total_bytes));
    }

    #[test]
    fn steal_and_idle_are_not_busy() {
        let text = "cpu  1 2 3 1000 1000 4 5 7 0 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5\n";
        assert_eq!(parse_stat(text), Some((15 * TICK_US, 7 * TICK_US, 2)));
    }
}
