//! Demand by priority: tasks per second in each bucket, smoothed, and the level that admits a given rate of them.

use crate::priority::{BUCKETS, Bucket, LEVEL_ALL};

/// Time constants of the smoothed rates, in seconds: of the histogram, and of the totals that judge overload.
const HISTOGRAM_S: f64 = 3.0;
const FAST_S: f64 = 0.3;
const SLOW_S: f64 = 5.0;
/// Standard deviations by which each must exceed capacity.
const FAST_SIGMAS: f64 = 4.0;
const SLOW_SIGMAS: f64 = 3.0;
/// A window whose count, in all or below the level, is this many standard deviations (squared) off makes the
/// histogram forget.
const SURPRISE: f64 = 16.0;
/// The most that one window's scatter counts.
const LUMPS_MAX: f64 = 16.0;
/// How much of the histogram a surprising window replaces.
const FORGOTTEN: f64 = 0.8;

/// Smoothed demand.
pub(super) struct Demand {
    /// The running window's counts, taken from the atomics.
    pub(super) asked: Box<[u32]>,
    /// Tasks per second by bucket.
    rates: Box<[f32]>,
    total: f64,
    /// Buckets below the level that admits what capacity allows.
    boundary: usize,
    /// Windows since the histogram forgot: the first ones weigh as in a plain mean.
    windows: f64,
    /// How much counts scatter beyond Poisson arrivals (1): variance ÷ mean, smoothed.
    lumps: f64,
    fast: f64,
    slow: f64,
    seconds: f64,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self {
            asked: vec![0; BUCKETS].into(),
            rates: vec![0.0; BUCKETS].into(),
            total: 0.0,
            boundary: BUCKETS,
            windows: 0.0,
            lumps: 1.0,
            fast: 0.0,
            slow: 0.0,
            seconds: 0.0,
        }
    }

    /// Folds the window's counts in.
    pub(super) fn fold(&mut self, seconds: f64) {
        let mut count = 0.0;
        let mut surprises = false;
        let mut rate = 0.0;
        for number in 0..BUCKETS {
            count += f64::from(self.asked[number]);
            rate += f64::from(self.rates[number]);
            if number + 1 == self.boundary || number + 1 == BUCKETS {
                surprises |= self.surprises(count, rate * seconds, seconds);
            }
        }
        self.windows += 1.0;
        let mut gain = (seconds / (HISTOGRAM_S + seconds)).max(1.0 / self.windows);
        if surprises {
            gain = gain.max(FORGOTTEN);
            self.windows = 1.0 / FORGOTTEN;
        }
        self.total = 0.0;
        for (rate, &count) in self.rates.iter_mut().zip(&self.asked) {
            *rate += gain as f32 * (count as f32 / seconds as f32 - *rate);
            self.total += f64::from(*rate);
        }
        self.seconds += seconds;
        let now = count / seconds;
        self.fast += (now - self.fast) * (seconds / (FAST_S.min(self.seconds) + seconds)).max(seconds / self.seconds);
        self.slow += (now - self.slow) * (seconds / (SLOW_S + seconds)).max(seconds / self.seconds);
    }

    /// Whether a count is off by more than such counts usually are: reports of shed calls come in lumps.
    fn surprises(&mut self, count: f64, expected: f64, seconds: f64) -> bool {
        let off = (count - expected).powi(2) / (count + expected + 4.0);
        let surprises = off > SURPRISE * self.lumps.max(1.0);
        let gain = seconds / (SLOW_S + seconds);
        self.lumps += gain * ((2.0 * off).min(LUMPS_MAX) - self.lumps);
        surprises
    }

    /// Tasks per second, by the histogram.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// Whether demand exceeds `tasks_rps` beyond chance, that rate being known within `doubt` (its relative deviation).
    /// `care` scales how sure it must be: 1 is the rule.
    pub(super) fn exceeds(&self, tasks_rps: f64, doubt: f64, care: f64) -> bool {
        let beyond = |rate: f64, constant_s: f64, sigmas: f64| {
            let scatter = rate.max(0.0) * self.lumps.max(1.0) / (2.0 * constant_s.min(self.seconds.max(0.01)));
            rate - tasks_rps > care * sigmas * (scatter + (tasks_rps * doubt).powi(2)).sqrt()
        };
        beyond(self.fast, FAST_S, FAST_SIGMAS)
            || (self.total > tasks_rps && beyond(self.slow, SLOW_S, SLOW_SIGMAS))
    }

    /// The bucket up to which a rate of tasks reaches: a change of demand below it is looked for on its own.
    pub(super) fn watch(&mut self, rate: f64) {
        let mut below = 0.0;
        let reaches = |&rate_here: &f32| {
            below += f64::from(rate_here);
            below > rate
        };
        self.boundary = self.rates.iter().position(reaches).unwrap_or(BUCKETS);
    }

    /// The levels that admit `rates_wanted` tasks per second; these must ascend.
    pub(super) fn levels<const N: usize>(&self, rates_wanted: &[f64; N]) -> [u32; N] {
        let mut levels = [LEVEL_ALL; N];
        let mut next = 0;
        let mut below = 0.0;
        for (number, &rate) in self.rates.iter().enumerate() {
            let rate = f64::from(rate);
            while next < N && below + rate > rates_wanted[next] {
                let bucket = Bucket::new(number as u16).expect("the histogram has BUCKETS rates");
                levels[next] = bucket.level_at(((rates_wanted[next] - below) / rate) as f32);
                next += 1;
            }
            below += rate;
        }
        levels
    }
}
