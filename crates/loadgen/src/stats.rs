//! What a run counts and reports.
//!
//! Latency covers requests answered with 2xx, from the intended send to the last byte, and those that timed out, at the time
//! at which they were given up (a stall must not vanish). Fast errors and rejections are counted, not timed.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Longest latency told apart.
const LATENCY_US_MAX: u64 = 600_000_000;

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    /// By protection, for this reason.
    Rejected(String),
    Timeout,
    Connect,
    Broken,
}

/// How one request ended, for who watches a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Answered with 2xx.
    Served,
    /// Answered 429 or 503 with this value of `x-springtide-reject`.
    Rejected(String),
    /// Any other answer, or none.
    Failed,
    /// Never sent: as many as the bound allows were in flight.
    Dropped,
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Status(200..300) => Self::Served,
            Outcome::Rejected(why) => Self::Rejected(why),
            Outcome::Status(_) | Outcome::Timeout | Outcome::Connect | Outcome::Broken => Self::Failed,
        }
    }
}

/// One request of a run, at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who sent it.
    pub user: u64,
    /// When it was to be sent.
    pub due: Instant,
    /// From then until the generator got to sending it.
    pub lag_us: u64,
    /// From then until its end.
    pub latency_us: u64,
    /// How it ended.
    pub end: End,
}

/// One second of a run. Counts belong to the second in which they happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the start, at the end of this one.
    pub at_s: f64,
    /// Requests intended.
    pub offered: u64,
    /// Requests that came to an end with 2xx.
    pub done: u64,
    /// Requests that failed in any other way than by a rejection.
    pub errors: u64,
    /// Requests rejected by protection.
    pub rejected: u64,
    /// Requests that the bound on those in flight turned away.
    pub dropped: u64,
    /// Median latency; 0 when nothing was timed.
    pub p50_ms: f64,
    /// 99th percentile of latency.
    pub p99_ms: f64,
}

/// What the caller hears each second, and at the end for what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The second that has passed; the last one may be a part of one.
    pub second: Second,
    /// When the profile ends, in seconds since the start.
    pub end_s: f64,
    /// Requests waiting or on their way.
    pub in_flight: u32,
}

/// Requests that failed, by kind. Rejections are no errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Answered 1xx.
    pub informational_1xx: u64,
    /// Answered 3xx.
    pub redirect_3xx: u64,
    /// Answered 4xx.
    pub client_4xx: u64,
    /// Answered 5xx or more.
    pub server_5xx: u64,
    /// Not answered in time.
    pub timeouts: u64,
    /// No connection could be made.
    pub connect: u64,
    /// The connection broke before the answer was whole.
    pub broken: u64,
}

impl Errors {
    /// All of them.
    pub fn total(&self) -> u64 {
        let answered = self.informational_1xx + self.redirect_3xx + self.client_4xx + self.server_5xx;
        answered + self.timeouts + self.connect + self.broken
    }

    fn of(&mut self, outcome: &Outcome) -> &mut u64 {
        match outcome {
            Outcome::Status(..200) => &mut self.informational_1xx,
            Outcome::Status(200..400) => &mut self.redirect_3xx,
            Outcome::Status(400..500) => &mut self.client_4xx,
            Outcome::Status(_) | Outcome::Rejected(_) => &mut self.server_5xx,
            Outcome::Timeout => &mut self.timeouts,
            Outcome::Connect => &mut self.connect,
            Outcome::Broken => &mut self.broken,
        }
    }
}

/// Latencies of a run, in milliseconds; all 0 when nothing was timed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

/// A whole run. `offered` = `done` + `rejected` + `dropped` + `errors.total()`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// From the start to the last answer.
    pub duration_s: f64,
    /// Requests intended.
    pub offered: u64,
    /// Answered with 2xx.
    pub done: u64,
    /// Answered 429 or 503 with the header `x-springtide-reject`.
    pub rejected: u64,
    /// Never sent: as many as the bound allows were in flight.
    pub dropped: u64,
    /// Failed, by kind.
    pub errors: Errors,
    /// Latencies.
    pub latency: Latency,
    /// 99th percentile of the generator's own lag: from the intended send to the moment it got to sending.
    pub lag_p99_ms: f64,
    /// Largest lag.
    pub lag_max_ms: f64,
    /// The generator was late: the latencies are not the server's. Repeat with less load or more CPU.
    pub void: bool,
    /// Second by second.
    pub seconds: Vec<Second>,
}

/// The counters of a run.
#[derive(Debug)]
pub(crate) struct Stats {
    report: Report,
    second: Second,
    latency: Histogram<u64>,
    latency_of_second: Histogram<u64>,
    lag: Histogram<u64>,
    lag_p99_ms_max: f64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("these bounds are valid")
}

fn quantile_ms(of: &Histogram<u64>, q: f64) -> f64 {
    of.value_at_quantile(q) as f64 / 1e3
}

impl Stats {
    pub(crate) fn new(lag_p99_ms_max: f64) -> Self {
        Self {
            report: Report::default(),
            second: Second::default(),
            latency: histogram(),
            latency_of_second: histogram(),
            lag: histogram(),
            lag_p99_ms_max,
        }
    }

    pub(crate) fn offered(&mut self) {
        self.report.offered += 1;
        self.second.offered += 1;
    }

    pub(crate) fn dropped(&mut self) {
        self.report.dropped += 1;
        self.second.dropped += 1;
    }

    pub(crate) fn lag_us(&mut self, lag_us: u64) {
        self.lag.saturating_record(lag_us.max(1));
    }

    pub(crate) fn ended(&mut self, outcome: &Outcome, latency_us: u64) {
        match outcome {
            Outcome::Status(200..300) => {
                self.report.done += 1;
                self.second.done += 1;
            }
            Outcome::Rejected(_) => {
                self.report.rejected += 1;
                self.second.rejected += 1;
            }
            error => {
                *self.report.errors.of(error) += 1;
                self.second.errors += 1;
            }
        }
        if matches!(outcome, Outcome::Status(200..300) | Outcome::Timeout) {
            self.latency.saturating_record(latency_us.max(1));
            self.latency_of_second.saturating_record(latency_us.max(1));
        }
    }

    /// Closes the second that ends now.
    pub(crate) fn close_second(&mut self, at_s: f64) -> Second {
        let mut second = std::mem::take(&mut self.second);
        second.at_s = at_s;
        second.p50_ms = quantile_ms(&self.latency_of_second, 0.5);
        second.p99_ms = quantile_ms(&self.latency_of_second, 0.99);
        self.latency_of_second.reset();
        self.report.seconds.push(second.clone());
        second
    }

    /// Whether nothing happened since a second was last closed.
    pub(crate) fn is_told(&self) -> bool {
        self.second == Second::default()
    }

    /// Closes the run.
    pub(crate) fn finish(&mut self, at_s: f64) -> Report {
        let mut report = std::mem::take(&mut self.report);
        report.duration_s = at_s;
        report.latency = Latency {
            mean_ms: self.latency.mean() / 1e3,
            p50_ms: quantile_ms(&self.latency, 0.5),
            p90_ms: quantile_ms(&self.latency, 0.9),
            p99_ms: quantile_ms(&self.latency, 0.99),
            p999_ms: quantile_ms(&self.latency, 0.999),
            max_ms: self.latency.max() as f64 / 1e3,
        };
        report.lag_p99_ms = quantile_ms(&self.lag, 0.99);
        report.lag_max_ms = self.lag.max() as f64 / 1e3;
        report.void = report.lag_p99_ms > self.lag_p99_ms_max;
        report
    }
}
