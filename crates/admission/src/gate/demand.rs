//! Demand by priority: tasks per second in each bucket, smoothed, and the level that admits a given rate of them.

use crate::priority::{BUCKETS, Bucket, LEVEL_ALL};

/// Time constants of the smoothed rates, in seconds: of the histogram, and of the totals that judge overload.
const HISTOGRAM_S: f64 = 3.0;
const FAST_S: f64 = 0.3;
const SLOW_S: f64 = 5.0;
/// Standard deviations by which each must exceed capacity.
const FAST_SIGMAS: f64 = 4.0;
const SLOW_SIGMAS: f64 = 3.0;
/// A window whose count is this many standard deviations (squared) off makes its part of the histogram forget.
const SURPRISE: f64 = 16.0;
/// The most that one window's scatter counts.
const LUMPS_MAX: f64 = 256.0;
/// How much of it a surprising window replaces.
const FORGOTTEN: f64 = 0.8;

/// Buckets of one business level; users spread evenly give each a sixteenth of it.
const BUCKETS_PER_BUSINESS: usize = 16;
/// A bucket with more than this share of its business level, and of all demand, is a lump.
const LUMP_SHARE: f64 = 0.25;
const LUMP_SHARE_ALL: f64 = 0.02;

/// Smoothed demand.
pub(super) struct Demand {
    /// The running window's counts, taken from the atomics.
    pub(super) asked: Box<[u32]>,
    /// Tasks per second by bucket.
    rates: Box<[f32]>,
    total: f64,
    /// Buckets below the level that admits what capacity allows.
    boundary: usize,
    /// Below the boundary, above it, and all: what is above comes in lumps (reports of shed calls) and must not make
    /// what is below forget.
    below: Part,
    above: Part,
    all: Part,
    fast: f64,
    slow: f64,
    seconds: f64,
}

/// How a part of the histogram has been counting.
struct Part {
    /// Windows since it forgot: the first ones weigh as in a plain mean.
    windows: f64,
    /// How much counts scatter beyond Poisson arrivals (1): variance ÷ mean, smoothed.
    lumps: f64,
}

impl Part {
    const NEW: Self = Self { windows: 0.0, lumps: 1.0 };

    /// How much a window of `count` where `expected` was expected weighs against what is known.
    fn gain(&mut self, count: f64, expected: f64, seconds: f64) -> f64 {
        let off = (count - expected).powi(2) / (count + expected + 4.0);
        let surprises = off > SURPRISE * self.lumps.max(1.0);
        self.lumps += ((2.0 * off).min(LUMPS_MAX) - self.lumps) * seconds / (SLOW_S + seconds);
        self.windows += 1.0;
        let gain = (seconds / (HISTOGRAM_S + seconds)).max(1.0 / self.windows);
        if !surprises {
            return gain;
        }
        self.windows = 1.0 / FORGOTTEN;
        gain.max(FORGOTTEN)
    }
}

impl Demand {
    pub(super) fn new() -> Self {
        Self {
            asked: vec![0; BUCKETS].into(),
            rates: vec![0.0; BUCKETS].into(),
            total: 0.0,
            boundary: BUCKETS,
            below: Part::NEW,
            above: Part::NEW,
            all: Part::NEW,
            fast: 0.0,
            slow: 0.0,
            seconds: 0.0,
        }
    }

    /// Folds the window's counts in.
    pub(super) fn fold(&mut self, seconds: f64) {
        let asked = |from: usize, to: usize| self.asked[from..to].iter().map(|&count| f64::from(count)).sum::<f64>();
        let rate = |from: usize, to: usize| self.rates[from..to].iter().map(|&rate| f64::from(rate)).sum::<f64>();
        let (count_below, count_above) = (asked(0, self.boundary), asked(self.boundary, BUCKETS));
        let expected_below = rate(0, self.boundary) * seconds;
        let expected_above = rate(self.boundary, BUCKETS) * seconds;
        let below = self.below.gain(count_below, expected_below, seconds) as f32;
        let above = self.above.gain(count_above, expected_above, seconds) as f32;
        self.all.gain(count_below + count_above, expected_below + expected_above, seconds);
        self.total = 0.0;
        for (number, (rate, &count)) in self.rates.iter_mut().zip(&self.asked).enumerate() {
            let gain = if number < self.boundary { below } else { above };
            *rate += gain * (count as f32 / seconds as f32 - *rate);
            self.total += f64::from(*rate);
        }
        self.seconds += seconds;
        let now = (count_below + count_above) / seconds;
        self.fast += (now - self.fast) * (seconds / (FAST_S.min(self.seconds) + seconds)).max(seconds / self.seconds);
        self.slow += (now - self.slow) * (seconds / (SLOW_S + seconds)).max(seconds / self.seconds);
    }

    /// Tasks per second, by the histogram.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// Whether demand exceeds `tasks_rps` beyond chance, that rate being known within `doubt` (its relative deviation).
    /// `care` scales how sure it must be: 1 is the rule.
    pub(super) fn exceeds(&self, tasks_rps: f64, doubt: f64, care: f64) -> bool {
        let beyond = |rate: f64, constant_s: f64, sigmas: f64| {
            let scatter = rate.max(0.0) * self.all.lumps.max(1.0) / (2.0 * constant_s.min(self.seconds.max(0.01)));
            rate - tasks_rps > care * sigmas * (scatter + (tasks_rps * doubt).powi(2)).sqrt()
        };
        beyond(self.fast, FAST_S, FAST_SIGMAS) || (self.total > tasks_rps && beyond(self.slow, SLOW_S, SLOW_SIGMAS))
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

    /// Buckets in which demand is so concentrated that a level within them says nothing, a bit each: one busy user,
    /// or callers that give every task the same priority.
    pub(super) fn lumps(&self) -> [u64; BUCKETS / 64] {
        let mut bits = [0; BUCKETS / 64];
        for (business, rates) in self.rates.chunks_exact(BUCKETS_PER_BUSINESS).enumerate() {
            let sum: f64 = rates.iter().map(|&rate| f64::from(rate)).sum();
            let least = (sum * LUMP_SHARE).max(self.total * LUMP_SHARE_ALL);
            for (at, _) in rates.iter().enumerate().filter(|&(_, &rate)| f64::from(rate) > least) {
                let number = business * BUCKETS_PER_BUSINESS + at;
                bits[number / 64] |= 1 << (number % 64);
            }
        }
        bits
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
