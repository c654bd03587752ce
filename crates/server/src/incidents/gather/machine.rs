//! What agents read: use of slices and hosts, through `detect`'s intake (resets, duplicates, clocks minutes off).

use super::rhythm::{Arrival, Rhythm};
use crate::incidents::names::Names;
use api::fleet::{AgentSamples, SliceSample};
use detect::{Dropped, Frame, Intake};
use model::UnixMs;
use std::collections::BTreeMap;

/// Series of the intake for each slice: its CPU and its memory.
const SLICE_SERIES: usize = 2;
/// Series of the intake for each host: CPU, memory, pressure.
const HOST_SERIES: usize = 3;
/// A host that reads more seldom than this is taken to read as often.
const INTERVAL_MS: (u64, u64) = (1_000, 10_000);

/// A reading this long after the last one is of a whole second; one sooner is of a service under stress.
const BEAT_MS: u64 = 700;

/// The newest reading of a slice.
#[derive(Debug, Clone, Copy)]
struct Slice {
    cpu: f32,
    memory: f32,
    second: u64,
    /// For so many seconds after it, it stands.
    stands_s: u64,
}

const NOT_READ: Slice = Slice { cpu: f32::NAN, memory: f32::NAN, second: 0, stands_s: 0 };

#[derive(Debug, Default)]
struct Host {
    rhythm: Rhythm,
    interval_ms: u64,
    cpu: f32,
    memory: f32,
    pressure: f32,
}

/// All agents.
#[derive(Debug, Default)]
pub struct Machine {
    host_names: Names,
    hosts: BTreeMap<u32, Host>,
    /// By the number of the instance.
    slices: Vec<Slice>,
    slice_intake: Intake,
    host_intake: Intake,
}

impl Machine {
    /// Takes one agent's reading.
    pub fn take(&mut self, names: &mut Names, host: &str, samples: &AgentSamples, now: UnixMs) {
        let Some(number) = self.host_names.number(host) else { return };
        let known = self.hosts.entry(number).or_default();
        let since_ms = now.saturating_sub(known.rhythm.heard_ms());
        let whole = samples.host.is_some() || since_ms >= BEAT_MS;
        let covered_ms = if whole { 1_000 } else { 100 };
        let second = known.rhythm.second(Arrival { sent_ms: samples.time_unix_ms, now }, covered_ms);
        if whole && (100..=INTERVAL_MS.1).contains(&since_ms) {
            known.interval_ms = since_ms.clamp(INTERVAL_MS.0, INTERVAL_MS.1);
        }
        let stands_s = (2 * known.interval_ms.max(INTERVAL_MS.0)).div_ceil(1_000);
        if let Some(at) = &samples.host {
            let base = number as usize * HOST_SERIES;
            self.host_intake.grow(base + HOST_SERIES);
            let time = samples.time_unix_ms;
            let cores = f64::from(at.cores.max(1));
            let busy = self.host_intake.counter(base, time, at.cpu_busy_us as f64 / 1e6 / cores, now);
            let used = at.memory_used_bytes as f64 / (at.memory_total_bytes as f64).max(1.0);
            let memory = self.host_intake.gauge(base + 1, time, used, now);
            let waited = at.cpu_pressure_us.map_or(f64::NAN, |us| us as f64 / 1e6);
            let pressure = match waited.is_nan() {
                true => None,
                false => self.host_intake.counter(base + 2, time, waited, now),
            };
            known.cpu = busy.unwrap_or(known.cpu);
            known.memory = memory.unwrap_or(known.memory);
            known.pressure = pressure.unwrap_or(f32::NAN);
        }
        for slice in &samples.slices {
            if let Some(at) = names.number(&slice.instance) {
                self.slice(at, slice, (second, stands_s), now);
            }
        }
    }

    fn slice(&mut self, number: u32, sample: &SliceSample, (second, stands_s): (u64, u64), now: UnixMs) {
        let base = number as usize * SLICE_SERIES;
        self.slice_intake.grow(base + SLICE_SERIES);
        let time = sample.time_unix_us / 1_000;
        let cores = self.slice_intake.counter(base, time, sample.cpu_usage_us as f64 / 1e6, now);
        let memory = self.slice_intake.gauge(base + 1, time, sample.memory_bytes as f64, now);
        let at = number as usize;
        if at >= self.slices.len() {
            self.slices.resize(at + 1, NOT_READ);
        }
        let Some(memory) = memory else { return };
        let known = &mut self.slices[at];
        // The first reading of a counter says nothing of its rate, and is a sign of life all the same.
        let cpu = cores.unwrap_or(if known.cpu.is_nan() { 0.0 } else { known.cpu });
        *known = Slice { cpu, memory, second, stands_s };
    }

    /// The number of a host.
    pub fn host(&mut self, name: &str) -> Option<u32> {
        self.host_names.number(name)
    }

    /// Fills the columns that agents know.
    pub fn fill(&self, at: u64, (instances, hosts): (&[Option<u32>], &[Option<u32>]), frame: &mut Frame) {
        for (place, number) in instances.iter().enumerate() {
            let Some(slice) = number.and_then(|number| self.slices.get(number as usize)) else { continue };
            if at < slice.second + slice.stands_s {
                (frame.instances.cpu[place], frame.instances.memory[place]) = (slice.cpu, slice.memory);
            }
        }
        for (place, number) in hosts.iter().enumerate() {
            let Some(host) = number.and_then(|number| self.hosts.get(&number)) else { continue };
            let stands_s = (2 * host.interval_ms.max(INTERVAL_MS.0)).div_ceil(1_000);
            if host.rhythm.heard_ms() > 0 && at < host.rhythm.last() + stands_s {
                (frame.hosts.cpu[place], frame.hosts.memory[place]) = (host.cpu, host.memory);
                frame.hosts.pressure[place] = host.pressure;
            }
        }
    }

    /// The rhythm of each agent.
    pub fn rhythms(&self) -> impl Iterator<Item = &Rhythm> {
        self.hosts.values().map(|host| &host.rhythm)
    }

    /// Names of the hosts whose agents are as `is` says.
    pub fn names(&self, is: impl Fn(&Rhythm) -> bool) -> impl Iterator<Item = &str> {
        let found = self.hosts.iter().filter(move |(_, host)| is(&host.rhythm));
        found.filter_map(|(number, _)| self.host_names.name(*number))
    }

    /// A second to begin with, when only agents speak.
    pub fn first_second(&self) -> Option<u64> {
        self.hosts.values().map(|host| host.rhythm.last()).min()
    }

    /// Samples not taken, or not as they said.
    pub fn dropped(&self) -> Dropped {
        let (slices, hosts) = (self.slice_intake.dropped(), self.host_intake.dropped());
        Dropped {
            not_a_number: slices.not_a_number + hosts.not_a_number,
            not_newer: slices.not_newer + hosts.not_newer,
            negative: slices.negative + hosts.negative,
            skewed: slices.skewed + hosts.skewed,
            resets: slices.resets + hosts.resets,
            firsts: slices.firsts + hosts.firsts,
        }
    }
}
