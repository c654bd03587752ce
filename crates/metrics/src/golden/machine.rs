//! Slices and hosts: rates from their counters, by the time at which the agent read them.

use super::{HostRest, HostSample, INSTANCES_MAX, SILENT_MS_MAX, SliceRest, SliceSample, WINDOW_S};
use model::UnixMs;
use std::collections::{BTreeMap, VecDeque};

/// Readings kept for rates: the window at ten a second, and a few more.
const READINGS_MAX: usize = 64;

/// The counters that rates are taken of.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    time_us: u64,
    cpu_us: u64,
    throttled_us: u64,
    throttled_periods: u64,
    periods: u64,
    cpu_pressure_us: Option<u64>,
    memory_pressure_us: Option<u64>,
}

/// Rates over the window; absent when they are not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Use {
    pub(crate) cpu_cores: Option<f64>,
    /// Share of periods throttled (of time, where periods are not counted), 0 to 1.
    pub(crate) throttled: Option<f64>,
    pub(crate) cpu_pressure: Option<f64>,
    pub(crate) memory_pressure: Option<f64>,
}

/// Readings over the window, of one birth of the counters.
#[derive(Debug, Default)]
pub(crate) struct Readings(VecDeque<Reading>);

#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) host: String,
    pub(crate) newest: SliceSample,
    pub(crate) heard: UnixMs,
    pub(crate) readings: Readings,
    /// Came, and not written yet.
    pub(crate) rest: Option<SliceRest>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) newest: HostSample,
    pub(crate) heard: UnixMs,
    pub(crate) readings: Readings,
    /// Came, and not written yet.
    pub(crate) rest: Option<HostRest>,
}

#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) slices: BTreeMap<String, Slice>,
    pub(crate) hosts: BTreeMap<String, Host>,
    pub(crate) refused: u64,
}

impl Readings {
    fn add(&mut self, reading: Reading) {
        if let Some(last) = self.0.back() {
            if reading.time_us <= last.time_us && reading.cpu_us >= last.cpu_us {
                return;
            }
            if reading.time_us <= last.time_us || reading.cpu_us < last.cpu_us {
                self.0.clear();
            }
        }
        self.0.push_back(reading);
        let oldest = reading.time_us.saturating_sub(WINDOW_S * 1_000_000);
        // The last reading at or before the window's begin stays, as the one to count from.
        while self.0.len() > READINGS_MAX || self.0.get(1).is_some_and(|second| second.time_us <= oldest) {
            self.0.pop_front();
        }
    }

    pub(crate) fn rates(&self) -> Use {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else { return Use::default() };
        let elapsed_us = (last.time_us - first.time_us) as f64;
        if elapsed_us <= 0.0 {
            return Use::default();
        }
        let share = |from: u64, to: u64| (to.saturating_sub(from) as f64 / elapsed_us).min(1.0);
        let both = |from: Option<u64>, to: Option<u64>| Some(share(from?, to?));
        let periods = last.periods.saturating_sub(first.periods);
        let throttled = match periods {
            0 => share(first.throttled_us, last.throttled_us),
            _ => (last.throttled_periods.saturating_sub(first.throttled_periods) as f64 / periods as f64).min(1.0),
        };
        Use {
            cpu_cores: Some((last.cpu_us - first.cpu_us) as f64 / elapsed_us),
            throttled: Some(throttled),
            cpu_pressure: both(first.cpu_pressure_us, last.cpu_pressure_us),
            memory_pressure: both(first.memory_pressure_us, last.memory_pressure_us),
        }
    }
}

impl Machine {
    pub(crate) fn agent(
        &mut self,
        host: &str,
        time_ms: UnixMs,
        sample: Option<&HostSample>,
        slices: &[SliceSample],
        now: UnixMs,
    ) {
        if let Some(sample) = sample {
            let new = || Host { newest: sample.clone(), heard: now, readings: Readings::default(), rest: None };
            let known = self.hosts.entry(host.to_owned()).or_insert_with(new);
            known.readings.add(Reading {
                time_us: time_ms * 1_000,
                cpu_us: sample.cpu_busy_us,
                cpu_pressure_us: sample.cpu_pressure_us,
                memory_pressure_us: sample.memory_pressure_us,
                ..Reading::default()
            });
            (known.newest, known.heard) = (sample.clone(), now);
            known.rest = known.newest.rest.take().or(known.rest.take());
        }
        for slice in slices {
            self.slice(host, slice, now);
        }
    }

    fn slice(&mut self, host: &str, sample: &SliceSample, now: UnixMs) {
        if !self.slices.contains_key(&sample.instance) && self.slices.len() >= INSTANCES_MAX {
            self.refused += 1;
            return;
        }
        let (host_now, readings) = (|| host.to_owned(), Readings::default);
        let new = || Slice { host: host_now(), newest: sample.clone(), heard: now, readings: readings(), rest: None };
        let known = self.slices.entry(sample.instance.clone()).or_insert_with(new);
        if known.host != host {
            (known.host, known.readings) = (host.to_owned(), Readings::default());
        }
        known.readings.add(Reading {
            time_us: sample.time_us,
            cpu_us: sample.cpu_usage_us,
            throttled_us: sample.throttled_us,
            throttled_periods: sample.throttled_periods,
            periods: sample.periods,
            cpu_pressure_us: sample.cpu_pressure_us,
            memory_pressure_us: sample.memory_pressure_us,
        });
        (known.newest, known.heard) = (sample.clone(), now);
        known.rest = known.newest.rest.take().or(known.rest.take());
    }

    pub(crate) fn forget(&mut self, now: UnixMs) {
        self.slices.retain(|_, slice| slice.heard + SILENT_MS_MAX >= now);
        self.hosts.retain(|_, host| host.heard + SILENT_MS_MAX >= now);
    }
}
