//! What a slice may use, as each version of the interface wants it written.

use super::{Controller, Version};

/// Length of a quota period. 100 ms is the kernel's default; shorter ones throttle bursts harder.
pub const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no smaller quota.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// The shim forks inside the slice: two processes must fit.
const PIDS_MAX_MIN: u32 = 2;

/// Limits of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPU quota, in thousandths of a core; it sets the weight too.
    pub cpu_millis: u32,
    /// Memory limit.
    pub memory_bytes: u64,
    /// Limit of processes and threads.
    pub pids_max: u32,
}

/// One file to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Kernels may lack it (swap accounting).
    pub(super) optional: bool,
}

fn must(file: &'static str, value: String) -> Write {
    Write { file, value, optional: false }
}

fn may(file: &'static str, value: String) -> Write {
    Write { file, value, optional: true }
}

impl Limits {
    /// The files of one controller, in the order in which they must be written.
    pub(super) fn writes(&self, version: Version, controller: Controller) -> Vec<Write> {
        let quota_us = (u64::from(self.cpu_millis) * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_US_MIN);
        let pids = self.pids_max.max(PIDS_MAX_MIN).to_string();
        let memory = self.memory_bytes.to_string();
        let (weight_file, weight) = weight_of(version, self.cpu_millis);
        match (version, controller) {
            (Version::One, Controller::Cpu) => vec![
                must("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                must("cpu.cfs_quota_us", quota_us.to_string()),
                must(weight_file, weight.to_string()),
            ],
            (Version::One, Controller::Memory) => {
                // The kernel wants memory <= memory and swap at each moment: written on both sides, it holds growing and shrinking.
                vec![
                    may("memory.memsw.limit_in_bytes", memory.clone()),
                    must("memory.limit_in_bytes", memory.clone()),
                    may("memory.memsw.limit_in_bytes", memory),
                ]
            }
            (_, Controller::Pids) => vec![must("pids.max", pids)],
            (_, Controller::Cpuacct | Controller::Freezer | Controller::Io) => Vec::new(),
            (Version::Two, Controller::Cpu) => {
                vec![must("cpu.max", format!("{quota_us} {CPU_PERIOD_US}")), must(weight_file, weight.to_string())]
            }
            (Version::Two, Controller::Memory) => {
                vec![must("memory.max", memory), may("memory.swap.max", "0".into())]
            }
        }
    }
}

/// File and value of the CPU weight: 1024 a core in v1, 100 a core in v2.
pub(super) fn weight_of(version: Version, cpu_millis: u32) -> (&'static str, u64) {
    let millis = u64::from(cpu_millis);
    match version {
        Version::One => ("cpu.shares", (millis * 1_024 / 1_000).clamp(2, 262_144)),
        Version::Two => ("cpu.weight", (millis / 10).clamp(1, 10_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: Version, controller: Controller) -> Vec<String> {
        let limits = Limits { cpu_millis: 500, memory_bytes: 1 << 28, pids_max: 1 };
        limits.writes(version, controller).iter().map(|write| format!("{}={}", write.file, write.value)).collect()
    }

    #[test]
    fn written_as_each_version_wants_it() {
        let v1 = text(Version::One, Controller::Cpu);
        assert_eq!(v1, ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.shares=512"]);
        assert_eq!(text(Version::Two, Controller::Cpu), ["cpu.max=50000 100000", "cpu.weight=50"]);
        assert_eq!(text(Version::Two, Controller::Memory), ["memory.max=268435456", "memory.swap.max=0"]);
        assert_eq!(text(Version::Two, Controller::Pids), ["pids.max=2"]);
    }
}
