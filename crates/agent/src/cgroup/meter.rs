//! Reads what a slice uses, ten times a second if need be: files stay open, one buffer is reused.

use super::slice::Part;
use super::{Controller, Slice, Version};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Enough for every file read here (`memory.stat` is not among them).
const FILE_BYTES_MAX: usize = 4_096;

/// What a slice has used since its birth, and uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time.
    pub cpu_usage_us: u64,
    /// Time spent throttled.
    pub throttled_us: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// Periods in which it ran.
    pub periods: u64,
    /// Memory now, page cache included.
    pub memory_bytes: u64,
    /// Processes and threads now.
    pub pids: u32,
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// Time some task waited for CPU; absent without PSI.
    pub cpu_pressure_us: Option<u64>,
    /// Time some task waited for memory; absent without PSI.
    pub memory_pressure_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    CpuacctUsage,
    CpuStatV1,
    CpuStatV2,
    Memory,
    OomV1,
    OomV2,
    Pids,
    CpuPressure,
    MemoryPressure,
}

/// The open files of one slice.
#[derive(Debug)]
pub struct Meter {
    files: Vec<(Source, File)>,
}

impl Meter {
    /// Opens the files that exist.
    pub fn open(slice: &Slice) -> Self {
        let mut files = Vec::new();
        for part in &slice.parts {
            for (source, name) in sources_of(part) {
                if let Ok(file) = File::open(part.folder.join(name)) {
                    files.push((source, file));
                }
            }
        }
        Self { files }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// When the slice is gone.
    pub fn read(&self) -> io::Result<Usage> {
        let mut buffer = [0_u8; FILE_BYTES_MAX];
        let mut usage = Usage::default();
        for (source, file) in &self.files {
            let read = match (file.read_at(&mut buffer, 0), source) {
                (Ok(read), _) => read,
                // Kernels booted with psi=0 have the files and refuse to read them.
                (Err(_), Source::CpuPressure | Source::MemoryPressure) => continue,
                (Err(error), _) => return Err(error),
            };
            source.take(std::str::from_utf8(&buffer[..read]).unwrap_or(""), &mut usage);
        }
        Ok(usage)
    }
}

fn sources_of(part: &Part) -> Vec<(Source, &'static str)> {
    let mut sources = Vec::new();
    for controller in &part.controllers {
        match (part.version, controller) {
            (Version::One, Controller::Cpuacct) => sources.push((Source::CpuacctUsage, "cpuacct.usage")),
            (Version::One, Controller::Cpu) => sources.push((Source::CpuStatV1, "cpu.stat")),
            (Version::Two, Controller::Cpu) => sources.push((Source::CpuStatV2, "cpu.stat")),
            (Version::One, Controller::Memory) => {
                sources.push((Source::Memory, "memory.usage_in_bytes"));
                sources.push((Source::OomV1, "memory.oom_control"));
            }
            (Version::Two, Controller::Memory) => {
                sources.push((Source::Memory, "memory.current"));
                sources.push((Source::OomV2, "memory.events"));
            }
            (_, Controller::Pids) => sources.push((Source::Pids, "pids.current")),
            (_, Controller::Freezer) | (Version::Two, Controller::Cpuacct) => {}
        }
    }
    if part.version == Version::Two {
        sources.push((Source::CpuPressure, "cpu.pressure"));
        sources.push((Source::MemoryPressure, "memory.pressure"));
    }
    sources
}

impl Source {
    fn take(self, text: &str, usage: &mut Usage) {
        match self {
            Self::CpuacctUsage => usage.cpu_usage_us = number(text) / 1_000,
            Self::Memory => usage.memory_bytes = number(text),
            Self::Pids => usage.pids = u32::try_from(number(text)).unwrap_or(u32::MAX),
            Self::OomV1 | Self::OomV2 => usage.oom_kills = field(text, "oom_kill"),
            Self::CpuPressure => usage.cpu_pressure_us = pressure(text),
            Self::MemoryPressure => usage.memory_pressure_us = pressure(text),
            Self::CpuStatV1 => {
                usage.throttled_us = field(text, "throttled_time") / 1_000;
                usage.throttled_periods = field(text, "nr_throttled");
                usage.periods = field(text, "nr_periods");
            }
            Self::CpuStatV2 => {
                usage.cpu_usage_us = field(text, "usage_usec");
                usage.throttled_us = field(text, "throttled_usec");
                usage.throttled_periods = field(text, "nr_throttled");
                usage.periods = field(text, "nr_periods");
            }
        }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.split_once(' ').filter(|(key, _)| *key == name).map(|(_, value)| number(value));
    text.lines().find_map(value).unwrap_or(0)
}

/// The `total=` of the `some` line, in microseconds (Documentation/accounting/psi.rst).
pub(crate) fn pressure(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=").map(|(_, total)| number(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_read() {
        let mut usage = Usage::default();
        Source::CpuStatV2
            .take("usage_usec 77\nuser_usec 1\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n", &mut usage);
        assert_eq!((usage.cpu_usage_us, usage.periods, usage.throttled_periods, usage.throttled_us), (77, 9, 3, 5));
        Source::CpuStatV1.take("nr_periods 2\nnr_throttled 1\nthrottled_time 8000\n", &mut usage);
        assert_eq!((usage.periods, usage.throttled_periods, usage.throttled_us), (2, 1, 8));
        Source::OomV1.take("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", &mut usage);
        assert_eq!(usage.oom_kills, 4);
        assert_eq!(pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0 total=9\n"), Some(123));
        assert_eq!(pressure(""), None);
    }
}
