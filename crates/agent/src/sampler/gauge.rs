//! Where a slice's numbers come from: its files, or, without isolation, `/proc`.

use super::machine::TICK_US;
use crate::cgroup::{Meter, Rest, Tree, Usage};
use crate::held::Buffer;
use crate::process;
use crate::wire::{some, uint};
use shim::process::stat;
use std::io;

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

    /// Reads what is needed each second.
    ///
    /// # Errors
    /// When it is gone.
    pub fn read(&self, buffer: &mut Buffer) -> io::Result<Usage> {
        match self {
            Self::Slice(meter) => meter.read_with(buffer),
            Self::Processes(shim) => read_processes(*shim),
        }
    }

    /// Reads the rest.
    pub fn read_rest(&self, buffer: &mut Buffer) -> Option<Rest> {
        match self {
            Self::Slice(meter) => Some(meter.read_rest(buffer)),
            Self::Processes(_) => None,
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

/// Writes the fields of a `SliceSample` but for its names and its rest.
pub(super) fn write_usage(out: &mut Vec<u8>, usage: &Usage, time_unix_us: u64) {
    uint(out, 3, usage.cpu_usage_us);
    uint(out, 4, usage.throttled_us);
    uint(out, 5, usage.throttled_periods);
    uint(out, 6, usage.periods);
    uint(out, 7, usage.memory_bytes);
    uint(out, 8, usage.pids.into());
    uint(out, 9, usage.oom_kills);
    some(out, 10, usage.cpu_pressure_us);
    some(out, 11, usage.memory_pressure_us);
    uint(out, 12, time_unix_us);
    some(out, 13, usage.cpu_pressure_full_us);
    some(out, 14, usage.memory_pressure_full_us);
}

/// Writes a `SliceRest`.
pub(super) fn write_rest(out: &mut Vec<u8>, rest: &Rest) {
    some(out, 1, rest.memory_file_bytes);
    some(out, 2, rest.memory_anon_bytes);
    some(out, 3, rest.memory_peak_bytes);
    some(out, 4, rest.io_pressure_us);
    some(out, 5, rest.io_pressure_full_us);
    if let Some(io) = rest.io {
        some(out, 6, Some(io.read_bytes));
        some(out, 7, Some(io.written_bytes));
        some(out, 8, Some(io.reads));
        some(out, 9, Some(io.writes));
    }
}
