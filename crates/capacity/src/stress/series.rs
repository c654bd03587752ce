//! Samples made into clean series: duplicates and late readings dropped, resets bridged.

use super::Sample;
use model::{CurvePoint, LatencyHistogram};

/// Readings kept: 100 s at 100 ms; a test is far shorter.
const READINGS_MAX: usize = 1_000;
/// A counter that grows faster than this was reset or joined by others, not driven by requests.
const JUMP_RPS: f64 = 100_000.0;

/// Quantile of latency that is service without waits, in a queue up to three quarters busy.
const BASE_QUANTILE: f64 = 0.25;
/// Requests whose latencies make a moment.
const MOMENT_REQUESTS: u64 = 12;

/// Requests that should have come while every counter stood still, from which readings count as frozen.
const QUIET_REQUESTS_MAX: f64 = 8.0;

/// Did a sample bring news?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Fresh,
    NoNews,
}

/// A reading of traffic; counts are from the first reading, resets bridged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub at_s: f64,
    pub started: f64,
    pub completed: f64,
    pub errors: f64,
    pub service: f64,
    pub in_flight: f64,
    pub latency_mean_s: f64,
    pub latency_p99_s: f64,
    /// Grows at each reset: nothing may be measured across.
    pub epoch: u32,
}

/// A reading of the slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CpuReading {
    pub at_s: f64,
    pub cpu_s: f64,
    pub throttled_s: f64,
}

/// The series of a test.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    last: Option<Sample>,
    first_us: u64,
    pub readings: Vec<Reading>,
    pub cpu: Vec<CpuReading>,
    /// When CPU was last heard of, by the clock of the traffic.
    cpu_heard_at_s: f64,
    /// Latencies before the hold, when queues are short.
    base_latency: LatencyHistogram,
    /// When a counter last moved.
    moved_at_s: f64,
    /// Latencies of the present moment, and the lowest median of a moment.
    moment: LatencyHistogram,
    calmest_s: Option<f64>,
    /// The hold has begun: latencies are waits from here on.
    pub holding: bool,
}

impl Series {
    /// Takes a sample in.
    pub fn take(&mut self, sample: &Sample) -> Taken {
        let Some(last) = self.last.clone() else {
            self.first_us = sample.traffic_time_us;
            self.last = Some(sample.clone());
            self.push_cpu(sample, sample);
            self.push(sample, sample);
            return Taken::Fresh;
        };
        let frozen = sample.traffic_time_us <= last.traffic_time_us;
        if frozen || self.readings.len() >= READINGS_MAX {
            return Taken::NoNews;
        }
        let moved = sample.service_started != last.service_started || sample.completed != last.completed;
        let expected = self.service_rate(2.0);
        self.push_cpu(sample, &last);
        self.push(sample, &last);
        self.last = Some(sample.clone());
        if moved {
            self.moved_at_s = self.now_s();
        }
        // At a few requests a second a quiet reading is no sign of anything.
        if expected * (self.now_s() - self.moved_at_s) > QUIET_REQUESTS_MAX { Taken::NoNews } else { Taken::Fresh }
    }

    fn push(&mut self, sample: &Sample, last: &Sample) {
        let before = self.readings.last().copied();
        let dt_s = (sample.traffic_time_us - last.traffic_time_us) as f64 / 1e6;
        let pairs = [
            (sample.started, last.started),
            (sample.completed, last.completed),
            (sample.errors, last.errors),
            (sample.service_started, last.service_started),
        ];
        let broken = pairs.iter().any(|(now, then)| now < then || (now - then) as f64 > JUMP_RPS * dt_s.max(0.1));
        let delta = |(now, then): (u64, u64)| if broken { 0.0 } else { (now - then) as f64 };
        let base = before.unwrap_or(Reading {
            at_s: 0.0,
            started: 0.0,
            completed: 0.0,
            errors: 0.0,
            service: 0.0,
            in_flight: 0.0,
            latency_mean_s: 0.0,
            latency_p99_s: 0.0,
            epoch: 0,
        });
        let any = sample.latency.total() > 0;
        self.readings.push(Reading {
            at_s: (sample.traffic_time_us - self.first_us) as f64 / 1e6,
            started: base.started + delta(pairs[0]),
            completed: base.completed + delta(pairs[1]),
            errors: base.errors + delta(pairs[2]),
            service: base.service + delta(pairs[3]),
            in_flight: f64::from(sample.in_flight),
            latency_mean_s: if any { mean_s(&sample.latency) } else { base.latency_mean_s },
            latency_p99_s: sample.latency.quantile_us(0.99).map_or(base.latency_p99_s, |us| us / 1e6),
            epoch: base.epoch + u32::from(broken),
        });
        if before.is_some() && !self.holding {
            self.note_latency(&sample.latency);
        }
    }

    fn push_cpu(&mut self, sample: &Sample, last: &Sample) {
        if sample.slice_time_us == 0 {
            return;
        }
        let at_s = (sample.slice_time_us as f64 - self.first_us as f64) / 1e6;
        let Some(before) = self.cpu.last().copied() else {
            self.cpu.push(CpuReading { at_s, cpu_s: 0.0, throttled_s: 0.0 });
            return;
        };
        if at_s <= before.at_s {
            return;
        }
        let delta = |now: u64, then: u64| now.saturating_sub(then) as f64 / 1e6;
        self.cpu_heard_at_s = (sample.traffic_time_us - self.first_us) as f64 / 1e6;
        self.cpu.push(CpuReading {
            at_s,
            cpu_s: before.cpu_s + delta(sample.cpu_usage_us, last.cpu_usage_us),
            throttled_s: before.throttled_s + delta(sample.throttled_us, last.throttled_us),
        });
    }

    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// Time of the newest reading, since the first.
    pub fn now_s(&self) -> f64 {
        self.readings.last().map_or(0.0, |r| r.at_s)
    }

    /// The newest reading and the one that lies `over_s` before it (or the oldest of the same epoch).
    fn span(&self, over_s: f64) -> Option<(&Reading, &Reading)> {
        let newest = self.readings.last()?;
        let since = newest.at_s - over_s - 0.02;
        let oldest = self.readings.iter().rev().take_while(|r| r.epoch == newest.epoch && r.at_s >= since).last()?;
        (oldest.at_s < newest.at_s).then_some((oldest, newest))
    }

    fn rate(&self, over_s: f64, of: fn(&Reading) -> f64) -> f64 {
        self.span(over_s).map_or(0.0, |(a, b)| (of(b) - of(a)) / (b.at_s - a.at_s))
    }

    pub fn service_rate(&self, over_s: f64) -> f64 {
        self.rate(over_s, |r| r.service)
    }

    pub fn started_rate(&self, over_s: f64) -> f64 {
        self.rate(over_s, |r| r.started)
    }

    pub fn completed_rate(&self, over_s: f64) -> f64 {
        self.rate(over_s, |r| r.completed)
    }

    /// Share of the service's requests that came to the instance of late.
    pub fn share_over(&self, over_s: f64) -> f64 {
        let all = self.service_rate(over_s);
        if all > 0.0 { (self.started_rate(over_s) / all).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The same over the counters' whole life: all that a first sample knows.
    pub fn lifetime_share(&self) -> f64 {
        let Some(last) = &self.last else { return 0.0 };
        if last.service_started == 0 { 0.0 } else { (last.started as f64 / last.service_started as f64).min(1.0) }
    }

    /// Errors and completions of late.
    pub fn errors_over(&self, over_s: f64) -> (f64, f64) {
        self.span(over_s).map_or((0.0, 0.0), |(a, b)| (b.errors - a.errors, b.completed - a.completed))
    }

    pub fn requests(&self) -> f64 {
        self.readings.last().map_or(0.0, |r| r.started)
    }

    pub fn errors(&self) -> f64 {
        self.readings.last().map_or(0.0, |r| r.errors)
    }

    fn recent(&self, over_s: f64) -> impl Iterator<Item = &Reading> {
        let since = self.now_s() - over_s;
        self.readings.iter().rev().take_while(move |r| r.at_s >= since)
    }

    pub fn in_flight_now(&self) -> f64 {
        self.readings.last().map_or(0.0, |r| r.in_flight)
    }

    pub fn in_flight_mean(&self, over_s: f64) -> f64 {
        let count = self.recent(over_s).count().max(1) as f64;
        self.recent(over_s).map(|r| r.in_flight).sum::<f64>() / count
    }

    pub fn in_flight_min(&self, over_s: f64) -> f64 {
        self.recent(over_s).map(|r| r.in_flight).fold(f64::INFINITY, f64::min)
    }

    /// Service time without waits: a low quantile of latency before the hold.
    pub fn base_s(&self) -> f64 {
        let low = self.base_latency.quantile_us(BASE_QUANTILE).map_or(0.0, |us| us / 1e6);
        self.calmest_s.map_or(low, |calmest| low.min(calmest))
    }

    /// Typical latency at the calmest moment before the hold: service times that vary show here, waits hardly.
    pub fn calm_s(&self) -> f64 {
        self.calmest_s.unwrap_or_else(|| self.base_s())
    }

    fn note_latency(&mut self, latency: &LatencyHistogram) {
        self.base_latency.merge(latency);
        self.moment.merge(latency);
        if self.moment.total() >= MOMENT_REQUESTS {
            let median = self.moment.quantile_us(0.5).expect("not empty") / 1e6;
            self.calmest_s = Some(self.calmest_s.map_or(median, |calmest| calmest.min(median)));
            self.moment = LatencyHistogram::default();
        }
    }

    /// Mean wait of late, by Little's law: what is in flight beyond what service alone explains, over what completes.
    pub fn wait_s(&self, over_s: f64) -> f64 {
        let rate = self.completed_rate(over_s.max(0.5)).max(1.0);
        (self.in_flight_mean(over_s) / rate - self.base_s()).max(0.0)
    }

    /// CPU used of late, in cores; absent while it is not known, as after a pause or when the agent is silent.
    pub fn cpu_rate(&self, over_s: f64) -> Option<f64> {
        let newest = self.cpu.last().filter(|_| self.now_s() - self.cpu_heard_at_s <= over_s)?;
        let since = newest.at_s - over_s - 0.02;
        let oldest = self.cpu.iter().rev().take_while(|r| r.at_s >= since).last()?;
        (newest.at_s > oldest.at_s).then(|| (newest.cpu_s - oldest.cpu_s) / (newest.at_s - oldest.at_s))
    }

    /// The operators' formula over the baseline: rate × ceiling ÷ share of the quota in use.
    pub fn plain_estimate_rps(&self, quota_cores: f64, baseline_s: f64, ceiling: f64) -> f64 {
        let until = baseline_s + 0.1;
        let rate =
            self.readings.iter().take_while(|r| r.at_s <= until).last().map_or(0.0, |r| r.completed / r.at_s.max(0.1));
        let within = || self.cpu.iter().take_while(|r| r.at_s <= until);
        let used = match (within().next(), within().last()) {
            (Some(a), Some(b)) if b.at_s > a.at_s => (b.cpu_s - a.cpu_s) / (b.at_s - a.at_s),
            _ => 0.0,
        };
        if used > 0.0 { rate * ceiling * quota_cores / used } else { 0.0 }
    }

    /// The curve's points, one for each reading after the first.
    pub fn points(&self) -> Vec<CurvePoint> {
        let pairs = self.readings.windows(2).filter(|w| w[0].epoch == w[1].epoch);
        pairs
            .map(|w| {
                let dt = (w[1].at_s - w[0].at_s).max(1e-6);
                CurvePoint {
                    at_ms: (w[1].at_s * 1_000.0) as u64,
                    offered_rps: (w[1].started - w[0].started) / dt,
                    completed_rps: (w[1].completed - w[0].completed) / dt,
                    latency_mean_ms: w[1].latency_mean_s * 1_000.0,
                    latency_p99_ms: w[1].latency_p99_s * 1_000.0,
                    in_flight: w[1].in_flight,
                    cpu_cores: ((self.cpu_at(w[1].at_s) - self.cpu_at(w[0].at_s)) / dt).max(0.0),
                }
            })
            .collect()
    }

    /// CPU used until a time, between readings by straight lines.
    fn cpu_at(&self, at_s: f64) -> f64 {
        interpolate(&self.cpu, at_s, |r| r.at_s, |r| r.cpu_s)
    }

    /// Completions until a time, between readings by straight lines.
    pub fn completed_at(&self, at_s: f64) -> f64 {
        interpolate(&self.readings, at_s, |r| r.at_s, |r| r.completed)
    }
}

fn mean_s(latency: &LatencyHistogram) -> f64 {
    let sum: f64 = latency.buckets().map(|(b, count)| model::histogram::bucket_middle_us(b) * count as f64).sum();
    sum / latency.total().max(1) as f64 / 1e6
}

fn interpolate<T>(of: &[T], at: f64, x: fn(&T) -> f64, y: fn(&T) -> f64) -> f64 {
    let after = of.partition_point(|p| x(p) < at);
    match (after.checked_sub(1).map(|i| &of[i]), of.get(after)) {
        (Some(a), Some(b)) => y(a) + (y(b) - y(a)) * (at - x(a)) / (x(b) - x(a)).max(1e-9),
        (Some(only), None) | (None, Some(only)) => y(only),
        (None, None) => 0.0,
    }
}
