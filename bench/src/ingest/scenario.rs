//! What is sent: how many series, how often, and of which kinds.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// A scenario; the standard one is its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Series of the rounds that measure CPU and disk.
    pub series: u32,
    /// Samples of each of these; 640 at 6 s are 64 minutes, so that one hour is sealed.
    pub ticks: u32,
    /// Series of the run that measures memory.
    pub memory_series: u32,
    /// Samples of each of these.
    pub memory_ticks: u32,
    /// Time between two samples of a series.
    pub interval_ms: u64,
    /// Most that a scrape is early or late.
    pub jitter_ms: u64,
    /// Series of one target, which are scraped at the same time.
    pub target_series: u32,
    /// Samples of one request.
    pub request_samples: u32,
    /// Kinds of series, by weight.
    pub mix: Mix,
}

/// Weights of the kinds of series.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Requests: whole numbers that grow by about a rate, and restart now and then.
    pub requests: u32,
    /// Buckets of latency histograms: counters that share a rate.
    pub buckets: u32,
    /// CPU seconds: counters with two decimals.
    pub seconds: u32,
    /// Bytes sent: large counters, steps of any size.
    pub bytes: u32,
    /// Whole gauges that wander: threads, connections.
    pub wandering: u32,
    /// Memory in pages of 4 KiB.
    pub pages: u32,
    /// Percentages and temperatures: noisy, with two decimals.
    pub percent: u32,
    /// Latencies in seconds to the microsecond: noisy, with a tail.
    pub latency: u32,
    /// Ratios computed in floating point: noise in every bit.
    pub noise: u32,
    /// Limits, versions, `up`.
    pub constant: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            series: 20_000,
            ticks: 640,
            memory_series: 100_000,
            memory_ticks: 200,
            interval_ms: 6_000,
            jitter_ms: 4,
            target_series: 500,
            request_samples: 2_000,
            mix: Mix::default(),
        }
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            requests: 16,
            buckets: 26,
            seconds: 8,
            bytes: 9,
            wandering: 8,
            pages: 6,
            percent: 8,
            latency: 6,
            noise: 6,
            constant: 7,
        }
    }
}

impl Mix {
    /// All weights, in the order of [`super::samples::Kind`].
    pub fn weights(&self) -> [u32; 10] {
        [
            self.requests,
            self.buckets,
            self.seconds,
            self.bytes,
            self.wandering,
            self.pages,
            self.percent,
            self.latency,
            self.noise,
            self.constant,
        ]
    }
}

/// Samples that one run sends at most.
const SAMPLES_MAX: u64 = 200_000_000;

impl Scenario {
    /// Reads a file; what it leaves out is as in the standard scenario.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let scenario: Self =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is no scenario of ingest", path.display()))?;
        scenario.check().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        let samples = |series: u32, ticks: u32| u64::from(series) * u64::from(ticks);
        let most = samples(self.series, self.ticks).max(samples(self.memory_series, self.memory_ticks));
        ensure!(most <= SAMPLES_MAX, "{most} samples: at most {SAMPLES_MAX} in one run");
        ensure!(self.series > 0 && self.ticks > 0, "series and ticks must be at least 1");
        ensure!(
            self.target_series > 0 && self.request_samples > 0,
            "target_series and request_samples must be at least 1"
        );
        ensure!(self.interval_ms > 2 * self.jitter_ms, "interval_ms must be more than twice jitter_ms");
        ensure!(self.mix.weights().iter().any(|weight| *weight > 0), "mix: one weight at least must be above 0");
        let span_ms = u64::from(self.ticks.max(self.memory_ticks)) * self.interval_ms;
        ensure!(span_ms <= 110 * 60_000, "ticks × interval_ms is more than 110 minutes: older samples are refused");
        Ok(())
    }
}
