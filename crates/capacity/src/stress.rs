//! The online stress test: samples in, the share of live traffic to give the instance under test out.
//!
//! Four phases. *Baseline* measures idle latency and background under the steady weight. *Climb* multiplies the load while
//! the queue is idle. *Hold* keeps a short backlog, by feedback, so that the instance is never idle and no request waits
//! long; completions over that time are its saturation throughput. *Ended* gives the share back.
//! `docs/adr/0003-capacity-estimator.md` says why. Absent: weights and leases, which the server makes of a share.

mod fit;
mod series;

use fit::Fit;
use model::{BindingResource, CpuMillis, CurvePoint, Interval, LatencyHistogram, Slo, StressEnd};
use series::{Series, Taken};

/// One 100-ms reading of a service under stress, all proxies summed. Counters only grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time of the reading of traffic, microseconds since the epoch.
    pub traffic_time_us: u64,
    /// Requests sent to the instance under test (counter).
    pub started: u64,
    /// Requests it answered, one way or another (counter).
    pub completed: u64,
    /// Requests that failed there (counter).
    pub errors: u64,
    /// Latencies since the last reading.
    pub latency: LatencyHistogram,
    /// Requests in flight at the instance.
    pub in_flight: u32,
    /// Requests started at the whole service, this instance included (counter).
    pub service_started: u64,
    /// Time of the reading of the slice, microseconds since the epoch; 0 when there is none yet.
    pub slice_time_us: u64,
    /// CPU used by the slice (counter).
    pub cpu_usage_us: u64,
    /// Time throttled (counter).
    pub throttled_us: u64,
}

/// What a stress test is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// CPU quota of the instance.
    pub quota: CpuMillis,
    /// The service's promise.
    pub slo: Slo,
    /// Longest duration, baseline included.
    pub duration_ms_max: u32,
}

/// What the server is to do until the next sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// Wanted share of the service's traffic, 0 to 1.
    pub share: f64,
    /// No override is wanted: take it away. `share` then repeats the share measured under the steady weight.
    pub neutral: bool,
    /// Set once the test has ended, and ever after.
    pub ended: Option<StressEnd>,
}

/// What was measured: everything of [`model::Curve`] that a test can know.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// CPU per request.
    pub cpu_us_per_request: Interval,
    /// CPU without any request, in cores.
    pub background_cores: f64,
    /// Requests a second at which the mean wait passes the bound drawn from the SLO.
    pub knee_rps: f64,
    /// Saturation throughput; when traffic ran out first, the highest rate served (a lower bound).
    pub capacity_rps: Interval,
    /// What ran out first.
    pub binding: BindingResource,
    /// The operators' formula: rate now × ceiling ÷ CPU use now.
    pub plain_estimate_rps: f64,
    /// Requests sent to the instance during the test.
    pub requests: u64,
    /// Of those, failed.
    pub errors: u64,
    /// Time from the first sample to the last.
    pub duration_ms: u64,
    /// Why it ended; absent while it runs.
    pub ended: Option<StressEnd>,
    /// Measured points in order of time.
    pub points: Vec<CurvePoint>,
}

/// Time under the steady weight, before anything moves.
const BASELINE_S: f64 = 1.0;
/// Longest wait for any traffic at all.
const BASELINE_S_MAX: f64 = 3.0;
/// Time in which a new share has certainly taken effect.
const SETTLE_S: f64 = 0.3;
/// Time a level of the climb is watched after that.
const LEVEL_S: f64 = 0.25;
/// Largest step of the climb.
const CLIMB_FACTOR: f64 = 1.5;
/// Step of the climb once some queue is seen.
const CLIMB_FACTOR_BUSY: f64 = 1.12;
/// Mean wait below which a queue counts as idle.
const WAIT_IDLE_S: f64 = 0.020;
/// Mean wait at which the climb ends.
const WAIT_BUSY_S: f64 = 0.060;
/// Share of the CPU quota at which the climb ends.
const CPU_BUSY: f64 = 0.92;
/// Time constant of the hold's feedback.
const HOLD_TAU_S: f64 = 0.8;
/// What the hold adds to the throughput while the instance is not busy for certain.
const HOLD_PUSH: f64 = 1.1;
/// Time over which what arrives is compared with what was commanded.
const BALANCE_S: f64 = 1.0;
/// Weight of the newest such comparison in the running mean.
const BALANCE_WEIGHT: f64 = 0.06;
/// Longest wait that the hold lets stand before it lets the queue run down.
const HOLD_WAIT_S_MAX: f64 = 0.3;
/// Share of the CPU quota from which CPU is likely what runs out: the utilisation law then needs less of a backlog.
const CPU_LIKELY: f64 = 0.7;
/// Least offered while a backlog drains, as a share of the throughput.
const DRAIN: f64 = 0.1;
/// Time between two readings of the whole series.
const FIT_EVERY_S: f64 = 0.4;
/// Shortest time of saturation that an estimate rests on.
const SATURATED_S_MIN: f64 = 5.0;
/// Half-width of the 95% interval, relative, at which the test has converged.
const HALF_WIDTH_MAX: f64 = 0.04;
/// Time at full share without a queue after which traffic counts as exhausted.
const EXHAUSTED_S: f64 = 1.5;
/// Samples without news after which the share goes back.
const STALE_SAMPLES_MAX: u32 = 3;
/// Samples without news after which the test is aborted.
const STALE_SAMPLES_ABORT: u32 = 50;
/// Time over which errors are counted.
const ERROR_WINDOW_S: f64 = 0.5;
/// Chance of as many errors by luck below which the test is aborted.
const ERROR_CHANCE_MIN: f64 = 1e-4;
/// Empirical CPU ceiling of the operators' formula.
const CPU_CEILING: f64 = 0.75;

/// Where the test stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Baseline,
    Climb,
    Hold,
    Ended(StressEnd),
}

/// A stress test in progress.
#[derive(Debug, Clone)]
pub struct Controller {
    cfg: Config,
    series: Series,
    phase: Phase,
    /// When the present level of the climb, or the hold, began.
    since_s: f64,
    /// When the hold began.
    hold_from_s: Option<f64>,
    /// Share under the steady weight.
    neutral: f64,
    share: f64,
    /// Offered rates commanded of late: time and rate.
    commanded: std::collections::VecDeque<(f64, f64)>,
    stale: u32,
    /// Errors and completions of the baseline.
    baseline_errors: (f64, f64),
    /// What arrives ÷ what was commanded: balancing by weight is not exact.
    balance: f64,
    /// Requests in flight from which the instance is busy, as last read, and when that was.
    floor: f64,
    fitted_at_s: f64,
    /// Time since which the full share leaves the queue idle.
    idle_full_since_s: Option<f64>,
}

impl Controller {
    /// A test that has not seen a sample.
    pub fn new(cfg: Config) -> Self {
        Self {
            cfg,
            series: Series::default(),
            phase: Phase::Baseline,
            since_s: 0.0,
            hold_from_s: None,
            neutral: 0.0,
            share: 0.0,
            commanded: std::collections::VecDeque::new(),
            stale: 0,
            baseline_errors: (0.0, 0.0),
            balance: 1.0,
            floor: 2.0,
            fitted_at_s: 0.0,
            idle_full_since_s: None,
        }
    }

    /// Takes a sample and says what share is wanted now. A sample that brings no news counts as silence: three in a row
    /// give the share back. When no sample comes at all, call nothing and let the lease lapse.
    pub fn step(&mut self, sample: &Sample) -> Move {
        if let Phase::Ended(_) = self.phase {
            return self.answer();
        }
        if self.series.take(sample) == Taken::NoNews {
            self.stale += 1;
            if self.stale >= STALE_SAMPLES_ABORT {
                self.phase = Phase::Ended(StressEnd::Aborted);
            }
            return self.answer();
        }
        self.stale = 0;
        if self.series.len() < 2 {
            self.neutral = self.series.lifetime_share();
            return self.answer();
        }
        let now = self.series.now_s();
        if self.errors_pass_bound() {
            self.phase = Phase::Ended(StressEnd::Errors);
        } else if now * 1_000.0 >= f64::from(self.cfg.duration_ms_max) {
            self.phase = Phase::Ended(StressEnd::TimeUp);
        } else {
            match self.phase {
                Phase::Baseline => self.baseline(now),
                Phase::Climb => self.climb(now),
                Phase::Hold => self.hold(now),
                Phase::Ended(_) => {}
            }
        }
        self.note_command(now);
        self.answer()
    }

    /// Everything measured so far.
    pub fn estimate(&self) -> Estimate {
        let fit = self.fit();
        let plain = self.series.plain_estimate_rps(self.quota_cores(), BASELINE_S, CPU_CEILING);
        Estimate {
            cpu_us_per_request: fit.cpu_us_per_request,
            background_cores: fit.background_cores,
            knee_rps: fit.knee_rps,
            capacity_rps: fit.capacity_rps,
            binding: fit.binding,
            plain_estimate_rps: plain,
            requests: self.series.requests() as u64,
            errors: self.series.errors() as u64,
            duration_ms: (self.series.now_s() * 1_000.0) as u64,
            ended: match self.phase {
                Phase::Ended(why) => Some(why),
                _ => None,
            },
            points: self.series.points(),
        }
    }

    fn quota_cores(&self) -> f64 {
        f64::from(self.cfg.quota.0) / 1_000.0
    }

    fn fit(&self) -> Fit {
        let slo_s = f64::from(self.cfg.slo.latency_p99_ms) / 1_000.0;
        fit::fit(&self.series, self.quota_cores(), self.hold_from_s, slo_s)
    }

    fn answer(&self) -> Move {
        let ended = match self.phase {
            Phase::Ended(why) => Some(why),
            _ => None,
        };
        let neutral = ended.is_some() || self.phase == Phase::Baseline || self.stale >= STALE_SAMPLES_MAX;
        Move { share: if neutral { self.neutral } else { self.share }, neutral, ended }
    }

    /// True when errors of late cannot be luck, given the baseline and the promise.
    fn errors_pass_bound(&self) -> bool {
        let (errors, completed) = self.series.errors_over(ERROR_WINDOW_S);
        let baseline = (self.baseline_errors.0 + 0.5) / (self.baseline_errors.1 + 500.0);
        let expected = self.cfg.slo.error_rate.max(2.0 * baseline).min(0.5);
        let enough = errors >= 2.0 && self.phase != Phase::Baseline;
        enough && fit::binomial_at_least(errors, completed.max(errors), expected) < ERROR_CHANCE_MIN
    }

    fn baseline(&mut self, now: f64) {
        self.neutral = self.series.share_over(now);
        let rate = self.series.service_rate(2.0);
        if now < BASELINE_S {
            return;
        }
        if rate < 1.0 {
            if now >= BASELINE_S_MAX {
                self.phase = Phase::Ended(StressEnd::TrafficExhausted);
            }
            return;
        }
        self.baseline_errors = self.series.errors_over(now);
        self.phase = Phase::Climb;
        self.set_offered(self.series.started_rate(now).max(5.0) * CLIMB_FACTOR);
        self.since_s = now;
    }

    fn set_offered(&mut self, rps: f64) {
        let rate = self.series.service_rate(2.0).max(1.0);
        self.share = (rps / self.balance / rate).clamp(0.0, 1.0);
    }

    /// Notes what the share in force asks for, and how what arrives compares with what was asked for a while ago.
    fn note_command(&mut self, now: f64) {
        let asked = if self.phase == Phase::Baseline { self.neutral } else { self.share };
        self.commanded.push_back((now, asked * self.series.service_rate(2.0)));
        while self.commanded.front().is_some_and(|(at, _)| now - at > BALANCE_S + SETTLE_S) {
            self.commanded.pop_front();
        }
        let settled = self.commanded.iter().filter(|(at, _)| now - at >= SETTLE_S / 1.5).map(|(_, rate)| rate);
        let (sum, count) = settled.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
        if self.phase == Phase::Hold && sum > 0.0 {
            let arrived = self.series.started_rate(BALANCE_S) / (sum / count);
            self.balance += BALANCE_WEIGHT * (arrived.clamp(0.5, 1.5) - self.balance);
        }
    }

    fn climb(&mut self, now: f64) {
        let wait = self.series.wait_s(0.25);
        let backlog = self.series.in_flight_mean(0.25);
        if backlog >= 4.0 && wait > WAIT_BUSY_S && self.series.in_flight_min(0.25) >= 2.0 {
            return self.begin_hold(now);
        }
        if now - self.since_s < SETTLE_S + LEVEL_S {
            return;
        }
        // Without news of it an instance is not idle, only unknown.
        let Some(cpu) = self.series.cpu_rate(0.4).map(|cores| cores / self.quota_cores()) else { return };
        if cpu > CPU_BUSY {
            return self.begin_hold(now);
        }
        if self.share >= 1.0 {
            if now - self.since_s >= SETTLE_S + EXHAUSTED_S {
                self.phase = Phase::Ended(StressEnd::TrafficExhausted);
            }
            return;
        }
        let mut factor = if wait > WAIT_IDLE_S { CLIMB_FACTOR_BUSY } else { CLIMB_FACTOR };
        if cpu > 0.1 {
            factor = factor.min(1.1 / cpu).max(1.05);
        }
        let offered = self.share * self.series.service_rate(2.0) * self.balance;
        self.set_offered(offered * factor);
        self.since_s = now;
    }

    fn begin_hold(&mut self, now: f64) {
        self.phase = Phase::Hold;
        self.hold_from_s = Some(now);
        self.series.holding = true;
        self.hold(now);
    }

    /// Keeps a short backlog: what is offered is what completes, corrected by how far the backlog is from its target.
    fn hold(&mut self, now: f64) {
        if now - self.fitted_at_s >= FIT_EVERY_S {
            self.refit(now);
        }
        let throughput = self.series.completed_rate(1.0).max(1.0);
        let spread = (throughput * HOLD_TAU_S / 2.0).sqrt();
        let is_busy = self.series.cpu_rate(0.5).is_some_and(|cores| cores / self.quota_cores() > CPU_LIKELY);
        let (floor, spreads) = if is_busy { (2.0 + self.quota_cores().ceil(), 0.5) } else { (self.floor, 1.0) };
        let target = floor + spreads * spread;
        let in_flight = self.series.in_flight_now();
        let offered = if in_flight > target.max(floor + HOLD_WAIT_S_MAX * throughput) {
            DRAIN * throughput
        } else {
            let off = (target - in_flight - self.coming(now, throughput)) / HOLD_TAU_S;
            let busy = self.series.in_flight_mean(0.3) >= floor;
            let base = if busy { throughput } else { throughput * HOLD_PUSH };
            (base + off).clamp(DRAIN * throughput, 1.5 * throughput)
        };
        self.set_offered(offered);
        let idle_full = self.share >= 1.0 && in_flight < self.floor;
        self.idle_full_since_s = if idle_full { self.idle_full_since_s.or(Some(now)) } else { None };
        if self.idle_full_since_s.is_some_and(|at| now - at >= 2.0 * EXHAUSTED_S) {
            self.phase = Phase::Ended(StressEnd::TrafficExhausted);
        }
    }

    /// Reads the series anew, and ends the test when they say enough.
    fn refit(&mut self, now: f64) {
        let fit = self.fit();
        self.fitted_at_s = now;
        self.floor = fit.floor;
        let half = (fit.capacity_rps.high - fit.capacity_rps.low) / 2.0;
        if fit.saturated_s >= SATURATED_S_MIN && half <= HALF_WIDTH_MAX * fit.capacity_rps.value {
            self.phase = Phase::Ended(StressEnd::Converged);
        }
    }

    /// Growth of the backlog that commands on their way will still cause.
    fn coming(&self, now: f64, throughput: f64) -> f64 {
        let recent = self.commanded.iter().filter(|(at, _)| now - at < SETTLE_S);
        recent.map(|(_, rate)| (rate * self.balance - throughput) * 0.1).sum()
    }
}

#[cfg(test)]
mod tests;
