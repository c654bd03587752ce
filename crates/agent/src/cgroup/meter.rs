//! Reads what a slice uses, ten times a second if need be: files stay open, the buffer is lent, nothing is allocated.
//!
//! Two readings: what is needed each second, and the rest. I/O is told by cgroup v2 only: v1 counts what is written
//! through the page cache as the kernel's own.

use super::slice::Part;
use super::{Controller, Slice, Version};
use crate::held::{Buffer, Held, buffer, field, lines, number, pressure, words};
use std::io;

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
    /// Time all tasks waited for CPU.
    pub cpu_pressure_full_us: Option<u64>,
    /// Time some task waited for memory; absent without PSI.
    pub memory_pressure_us: Option<u64>,
    /// Time all tasks waited for memory.
    pub memory_pressure_full_us: Option<u64>,
}

/// What need not be known each second; absent where the hierarchies do not tell it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// Page cache, part of the memory.
    pub memory_file_bytes: Option<u64>,
    /// Heap and stacks, part of the memory.
    pub memory_anon_bytes: Option<u64>,
    /// Most memory at any time.
    pub memory_peak_bytes: Option<u64>,
    /// Time some task waited for disks.
    pub io_pressure_us: Option<u64>,
    /// Time all tasks waited for disks.
    pub io_pressure_full_us: Option<u64>,
    /// Read and written.
    pub io: Option<Io>,
}

/// Reads and writes of a slice, all disks together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests that read.
    pub reads: u64,
    /// Requests that wrote.
    pub writes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestSource {
    MemoryStatV1,
    MemoryStatV2,
    MemoryPeak,
    IoPressure,
    IoStat,
}

/// The open files of one slice.
#[derive(Debug)]
pub struct Meter {
    files: Box<[(Source, Held)]>,
    rest: Box<[(RestSource, Held)]>,
}

fn open<S>(parts: &[Part], sources: impl Fn(&Part) -> Vec<(S, &'static str)>) -> Box<[(S, Held)]> {
    let named =
        parts.iter().flat_map(|part| sources(part).into_iter().map(|(source, name)| (source, part.folder.join(name))));
    named.filter_map(|(source, path)| Some((source, Held::open(path).ok()?))).collect()
}

impl Meter {
    /// Opens the files that exist.
    pub fn open(slice: &Slice) -> Self {
        Self { files: open(&slice.parts, sources_of), rest: open(&slice.parts, rest_of) }
    }

    /// Reads what is needed each second, with a buffer of its own.
    ///
    /// # Errors
    /// When the slice is gone.
    pub fn read(&self) -> io::Result<Usage> {
        self.read_with(&mut buffer())
    }

    /// Reads what is needed each second.
    ///
    /// # Errors
    /// When the slice is gone.
    pub fn read_with(&self, buffer: &mut Buffer) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for (source, file) in &self.files {
            match (file.read(buffer), source) {
                (Ok(text), _) => source.take(text, &mut usage),
                // Kernels booted with psi=0 have the files and refuse to read them.
                (Err(_), Source::CpuPressure | Source::MemoryPressure) => {}
                (Err(error), _) => return Err(error),
            }
        }
        Ok(usage)
    }

    /// Reads the rest; what cannot be read is absent.
    pub fn read_rest(&self, buffer: &mut Buffer) -> Rest {
        let mut rest = Rest::default();
        for (source, file) in &self.rest {
            if let Ok(text) = file.read(buffer) {
                source.take(text, &mut rest);
            }
        }
        rest
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
            (_, Controller::Freezer | Controller::Io) | (Version::Two, Controller::Cpuacct) => {}
        }
    }
    if part.version == Version::Two {
        sources.push((Source::CpuPressure, "cpu.pressure"));
        sources.push((Source::MemoryPressure, "memory.pressure"));
    }
    sources
}

fn rest_of(part: &Part) -> Vec<(RestSource, &'static str)> {
    let has = |controller| part.controllers.contains(&controller);
    let mut sources = Vec::new();
    match (part.version, has(Controller::Memory)) {
        (Version::One, true) => {
            sources.push((RestSource::MemoryStatV1, "memory.stat"));
            sources.push((RestSource::MemoryPeak, "memory.max_usage_in_bytes"));
        }
        (Version::Two, true) => {
            sources.push((RestSource::MemoryStatV2, "memory.stat"));
            sources.push((RestSource::MemoryPeak, "memory.peak"));
        }
        (_, false) => {}
    }
    if part.version == Version::Two {
        sources.push((RestSource::IoPressure, "io.pressure"));
        sources.extend(has(Controller::Io).then_some((RestSource::IoStat, "io.stat")));
    }
    sources
}

impl Source {
    fn take(self, text: &[u8], usage: &mut Usage) {
        let of = |name| field(text, name).unwrap_or(0);
        match self {
            Self::CpuacctUsage => usage.cpu_usage_us = number(text) / 1_000,
            Self::Memory => usage.memory_bytes = number(text),
            Self::Pids => usage.pids = u32::try_from(number(text)).unwrap_or(u32::MAX),
            Self::OomV1 | Self::OomV2 => usage.oom_kills = of("oom_kill"),
            Self::CpuPressure => (usage.cpu_pressure_us, usage.cpu_pressure_full_us) = pressure(text),
            Self::MemoryPressure => (usage.memory_pressure_us, usage.memory_pressure_full_us) = pressure(text),
            Self::CpuStatV1 => {
                usage.throttled_us = of("throttled_time") / 1_000;
                usage.throttled_periods = of("nr_throttled");
                usage.periods = of("nr_periods");
            }
            Self::CpuStatV2 => {
                usage.cpu_usage_us = of("usage_usec");
                usage.throttled_us = of("throttled_usec");
                usage.throttled_periods = of("nr_throttled");
                usage.periods = of("nr_periods");
            }
        }
    }
}

impl RestSource {
    fn take(self, text: &[u8], rest: &mut Rest) {
        match self {
            Self::MemoryStatV1 => {
                rest.memory_file_bytes = field(text, "total_cache");
                rest.memory_anon_bytes = field(text, "total_rss");
            }
            Self::MemoryStatV2 => {
                rest.memory_file_bytes = field(text, "file");
                rest.memory_anon_bytes = field(text, "anon");
            }
            Self::MemoryPeak => rest.memory_peak_bytes = Some(number(text)),
            Self::IoPressure => (rest.io_pressure_us, rest.io_pressure_full_us) = pressure(text),
            Self::IoStat => rest.io = Some(io_stat(text)),
        }
    }
}

/// Sums `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` over disks.
fn io_stat(text: &[u8]) -> Io {
    let mut sum = Io::default();
    for word in lines(text).flat_map(words) {
        let Some(at) = word.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&word[..at], number(&word[at + 1..]));
        match name {
            b"rbytes" => sum.read_bytes += value,
            b"wbytes" => sum.written_bytes += value,
            b"rios" => sum.reads += value,
            b"wios" => sum.writes += value,
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_read() {
        let mut usage = Usage::default();
        Source::CpuStatV2
            .take(b"usage_usec 77\nuser_usec 1\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n", &mut usage);
        assert_eq!((usage.cpu_usage_us, usage.periods, usage.throttled_periods, usage.throttled_us), (77, 9, 3, 5));
        Source::CpuStatV1.take(b"nr_periods 2\nnr_throttled 1\nthrottled_time 8000\n", &mut usage);
        assert_eq!((usage.periods, usage.throttled_periods, usage.throttled_us), (2, 1, 8));
        Source::OomV1.take(b"oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", &mut usage);
        assert_eq!(usage.oom_kills, 4);
    }

    #[test]
    fn the_rest_is_read_on_v1_and_v2() {
        let mut rest = Rest::default();
        RestSource::MemoryStatV1.take(b"cache 1\nrss 2\ntotal_cache 4096\ntotal_rss 8192\n", &mut rest);
        assert_eq!((rest.memory_file_bytes, rest.memory_anon_bytes), (Some(4_096), Some(8_192)));
        RestSource::MemoryStatV2.take(b"anon 7\nfile 9\nkernel 3\nfile_mapped 1\n", &mut rest);
        assert_eq!((rest.memory_file_bytes, rest.memory_anon_bytes), (Some(9), Some(7)));
        let text = b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n";
        RestSource::IoStat.take(text, &mut rest);
        assert_eq!(rest.io, Some(Io { read_bytes: 11, written_bytes: 22, reads: 33, writes: 44 }));
        RestSource::IoStat.take(b"", &mut rest);
        assert_eq!(rest.io, Some(Io::default()), "nothing read yet is a number too");
    }
}
