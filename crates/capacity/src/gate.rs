//! The gray gate: is what is new no worse than what runs?
//!
//! Errors and slow requests are judged sequentially (Wald's test against the running fleet's rate), so that the gate may
//! be asked after every sample; the shift of latency by ranks over the histogram's buckets, and only when it is both
//! significant and large enough to matter. Absent: waiting and promotion, which are `control`'s.

use model::{GateOutcome, LatencyHistogram};

/// What reached one side during a stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GateWindow {
    /// Requests answered, one way or another.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Their latencies.
    pub latency: LatencyHistogram,
}

/// What the gate asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct GateConfig {
    /// Requests to new instances before anything passes.
    pub requests_min: u64,
    /// Time after which the gate stops asking for more requests.
    pub wait_ms_max: u64,
    /// Rise of the error rate that must be caught (a share of requests), and twice the running rate when that is more.
    pub error_rate_tolerance: f64,
    /// Rise of latency that is tolerated, as a share of the running fleet's.
    pub latency_tolerance: f64,
    /// Rise of the median that never matters, milliseconds; of the tail, twice that.
    pub latency_floor_ms: f64,
    /// Chance that an equal fleet is refused for its errors.
    pub false_alarm: f64,
    /// Chance that a fleet worse by the tolerance is passed.
    pub miss: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            requests_min: 100,
            wait_ms_max: 30_000,
            error_rate_tolerance: 0.03,
            latency_tolerance: 0.25,
            latency_floor_ms: 5.0,
            false_alarm: 0.001,
            miss: 0.05,
        }
    }
}

/// Significance of the rank test, in standard deviations: one look in 30,000 alarms by chance, so that many looks may be taken.
const RANK_Z_MIN: f64 = 4.0;
/// The running fleet's quantile beyond which a request is slow.
const SLOW_QUANTILE: f64 = 0.99;
/// Share of slow requests in a running fleet, by that quantile, with room for a coarse histogram.
const SLOW_SHARE: f64 = 0.02;
/// Share of slow requests that must be caught.
const SLOW_SHARE_WORSE: f64 = 0.10;
/// Requests the running fleet needs for its quantile to mean something.
const RUNNING_REQUESTS_MIN: u64 = 50;

/// Judges a stage. `None`: not decided yet, ask again with more requests.
pub fn judge(new: &GateWindow, running: &GateWindow, waited_ms: u64, cfg: &GateConfig) -> Option<GateOutcome> {
    let late = waited_ms >= cfg.wait_ms_max;
    if running.requests == 0 {
        let enough = new.requests >= cfg.requests_min || late;
        return enough.then_some(GateOutcome::NoRunningFleet);
    }
    let errors = judge_errors(new, running, cfg);
    if errors == Sequential::Worse {
        return Some(GateOutcome::ErrorsWorse);
    }
    // The first requests to a cold instance are slow; over few of them latency says nothing.
    if new.requests < cfg.requests_min {
        return late.then_some(GateOutcome::TooFewRequests);
    }
    let tail = judge_tail(new, running, cfg);
    if tail == Sequential::Worse || slower(new, running, cfg) {
        return Some(GateOutcome::LatencyWorse);
    }
    let clear = errors == Sequential::Fine && tail == Sequential::Fine;
    (clear || late).then_some(GateOutcome::Passed)
}

/// State of a sequential test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sequential {
    Worse,
    Fine,
    Undecided,
}

/// Wald's sequential probability ratio of `bad` among `all` for the rate `worse` against `equal`.
fn sequential(bad: u64, all: u64, equal: f64, worse: f64, cfg: &GateConfig) -> Sequential {
    let good = all.saturating_sub(bad) as f64;
    let ratio = bad as f64 * (worse / equal).ln() + good * ((1.0 - worse) / (1.0 - equal)).ln();
    if ratio >= ((1.0 - cfg.miss) / cfg.false_alarm).ln() {
        return Sequential::Worse;
    }
    if ratio <= (cfg.miss / (1.0 - cfg.false_alarm)).ln() {
        return Sequential::Fine;
    }
    Sequential::Undecided
}

fn judge_errors(new: &GateWindow, running: &GateWindow, cfg: &GateConfig) -> Sequential {
    let equal = ((running.errors as f64 + 0.5) / (running.requests as f64 + 1.0)).min(0.5);
    let worse = (equal + cfg.error_rate_tolerance.max(2.0 * equal)).min(0.5 + equal / 2.0);
    match sequential(new.errors, new.requests, equal, worse, cfg) {
        // The running rate is itself an estimate: over few requests an exact test must agree.
        Sequential::Worse if fisher_more(new, running) > cfg.false_alarm => Sequential::Undecided,
        decided => decided,
    }
}

/// Chance of at least this many of all errors falling on the new side, were both sides equal (Fisher's exact test, one-sided).
fn fisher_more(new: &GateWindow, running: &GateWindow) -> f64 {
    let all = new.requests + running.requests;
    let errors = new.errors + running.errors;
    let whole = ln_choose(all, errors);
    let most = errors.min(new.requests);
    let term = |k: u64| (ln_choose(new.requests, k) + ln_choose(running.requests, errors - k) - whole).exp();
    // Terms fall fast past the mode; the cap bounds the work.
    (new.errors..=most).take(TERMS_MAX).filter(|k| errors - k <= running.requests).map(term).sum::<f64>().min(1.0)
}

/// Terms of an exact test that are summed.
const TERMS_MAX: usize = 2_000;

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Stirling's series, good to 1e-9 from 8 on; exact below.
fn ln_factorial(n: u64) -> f64 {
    if n < 8 {
        return (1..=n).map(|k| (k as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
}

/// Judges how many new requests lie beyond what only 1% of the running fleet's do.
fn judge_tail(new: &GateWindow, running: &GateWindow, cfg: &GateConfig) -> Sequential {
    if running.latency.total() < RUNNING_REQUESTS_MIN {
        return Sequential::Fine;
    }
    let p99 = running.latency.quantile_us(SLOW_QUANTILE).expect("not empty");
    let bound = p99 * (1.0 + cfg.latency_tolerance) + 2.0 * cfg.latency_floor_ms * 1_000.0;
    let beyond = |of: &LatencyHistogram| -> u64 {
        of.buckets().filter(|(b, _)| model::histogram::bucket_middle_us(*b) > bound).map(|(_, count)| count).sum()
    };
    let equal = SLOW_SHARE.max(2.0 * beyond(&running.latency) as f64 / running.latency.total() as f64);
    let equal = equal.min(0.2);
    let worse = (equal * 4.0).clamp(SLOW_SHARE_WORSE, 0.9);
    sequential(beyond(&new.latency), new.latency.total(), equal, worse, cfg)
}

/// True when the whole distribution moved up: by ranks (Mann and Whitney 1947, with ties), and by more than the tolerance.
fn slower(new: &GateWindow, running: &GateWindow, cfg: &GateConfig) -> bool {
    let (Some(p50_new), Some(p50)) = (new.latency.quantile_us(0.5), running.latency.quantile_us(0.5)) else {
        return false;
    };
    let matters = p50_new > p50 * (1.0 + cfg.latency_tolerance) && p50_new - p50 > cfg.latency_floor_ms * 1_000.0;
    matters && rank_z(&new.latency, &running.latency) >= RANK_Z_MIN
}

/// Mann-Whitney's z of `new` above `running`; ties within a bucket count half.
fn rank_z(new: &LatencyHistogram, running: &LatencyHistogram) -> f64 {
    let (m, n) = (new.total() as f64, running.total() as f64);
    let mut both = std::collections::BTreeMap::<usize, (f64, f64)>::new();
    new.buckets().for_each(|(b, count)| both.entry(b).or_default().0 += count as f64);
    running.buckets().for_each(|(b, count)| both.entry(b).or_default().1 += count as f64);
    let (mut below, mut u, mut ties) = (0.0, 0.0, 0.0);
    for (fresh, old) in both.values() {
        u += fresh * (below + old / 2.0);
        below += old;
        ties += (fresh + old).powi(3) - (fresh + old);
    }
    let all = m + n;
    let variance = m * n / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)));
    if variance <= 0.0 { 0.0 } else { (u - m * n / 2.0) / variance.sqrt() }
}

#[cfg(test)]
mod tests;
