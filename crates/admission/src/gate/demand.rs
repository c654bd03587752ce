//! Demand by priority: tasks per second in each bucket, smoothed, and the level that admits a given rate of them.

use crate::priority::{BUCKETS, Bucket, LEVEL_ALL};

/// Time constants of the smoothed rates, in seconds: of the histogram, and of the totals that judge overload.
const HISTOGRAM_S: f64 = 1.0;
const FAST_S: f64 = 0.3;
const SLOW_S: f64 = 3.0;
/// A window whose count is this many standard deviations (squared) off makes the histogram forget.
const SURPRISE: f64 = 16.0;
/// How much of the histogram a surprising window replaces.
const FORGOTTEN: f64 = 0.8;

/// Smoothed demand.
pub(super) struct Demand {
    /// The running window's counts, taken from the atomics.
    pub(super) asked: Box<[u32]>,
    /// Tasks per second by bucket.
    rates: Box<[f32]>,
    total: f64,
    /// Windows since the histogram forgot: the first ones weigh as in a plain mean.
    windows: f64,
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
            windows: 0.0,
            fast: 0.0,
            slow: 0.0,
            seconds: 0.0,
        }
    }

    /// Folds the window's counts in.
    pub(super) fn fold(&mut self, seconds: f64) {
        let count: f64 = self.asked.iter().map(|&count| f64::from(count)).sum();
        let expected = self.total * seconds;
        let surprise = (count - expected).powi(2) / (count + expected + 4.0);
        self.windows += 1.0;
        let mut gain = (seconds / (HISTOGRAM_S + seconds)).max(1.0 / self.windows);
        if surprise > SURPRISE {
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

    /// Tasks per second, by the histogram.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// Tasks per second that demand surely exceeds, beyond the chance of Poisson arrivals.
    pub(super) fn surely(&self) -> f64 {
        let below = |rate: f64, constant_s: f64, sigmas: f64| {
            rate - sigmas * (rate.max(0.0) / (2.0 * constant_s.min(self.seconds.max(0.01)))).sqrt()
        };
        below(self.fast, FAST_S, 3.0).max(below(self.slow, SLOW_S, 2.0))
    }

    /// The greater of the fast and the slow estimate, tasks per second.
    pub(super) fn either(&self) -> f64 {
        self.fast.max(self.slow)
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
