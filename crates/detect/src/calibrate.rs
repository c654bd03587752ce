//! Thresholds from the stream itself: how far the statistic of healthy series goes, extrapolated to the rate of false
//! runs that is wanted.
//!
//! All series of one kind share a tail (each is scaled by its own baseline before). The tail of a CUSUM falls
//! exponentially; its slope is read between two levels that were passed often, and the threshold is put where one false
//! run is left a day and 100,000 series. It only ever rises above the one that theory gives.

use crate::kept::kept;

/// Levels counted, evenly from [`LOW`] to 1 thresholds.
const LEVELS: usize = 8;
/// Lowest level counted, in thresholds.
const LOW: f32 = 0.3;
/// Passages that make a level's count believed.
const COUNT_MIN: f64 = 30.0;
/// Samples below which nothing is concluded.
const SAMPLES_MIN: f64 = 5e5;
/// Samples after which half is forgotten.
const SAMPLES_MAX: f64 = 4e9;
/// False runs wanted for each sample: one a day and 100,000 series.
const RATE_WANTED: f64 = 1.0 / (86_400.0 * 1e5);
/// Bound of the factor on a threshold.
const FACTOR_MAX: f64 = 2.5;
/// Share of series above the lowest level in one second that makes it a common event, which teaches nothing.
const COMMON_SHARE: f64 = 0.01;

/// Tail of one kind of statistic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    above: [f64; LEVELS],
    samples: f64,
    now: [u32; LEVELS],
    now_samples: u32,
    factor: f64,
}

kept!(Tail { above, samples, factor } rest Self::default());

impl Tail {
    /// Counts one healthy series' statistic, in base thresholds (before the factor).
    pub(crate) fn count(&mut self, statistic: Option<f32>) {
        self.now_samples += 1;
        let Some(statistic) = statistic.filter(|statistic| *statistic >= LOW) else { return };
        let at = ((statistic - LOW) / (1.0 - LOW) * LEVELS as f32) as usize;
        self.now[at.min(LEVELS - 1)] += 1;
    }

    /// Ends a second.
    pub(crate) fn close(&mut self) {
        let high: u32 = self.now.iter().sum();
        if f64::from(high) <= (f64::from(self.now_samples) * COMMON_SHARE).max(3.0) {
            let mut passed = 0;
            for at in (0..LEVELS).rev() {
                passed += self.now[at];
                self.above[at] += f64::from(passed);
            }
            self.samples += f64::from(self.now_samples);
        }
        (self.now, self.now_samples) = ([0; LEVELS], 0);
        if self.samples > SAMPLES_MAX {
            self.above.iter_mut().for_each(|count| *count /= 2.0);
            self.samples /= 2.0;
        }
    }

    /// Refits; call it each minute.
    pub(crate) fn fit(&mut self) {
        self.factor = self.fitted().clamp(1.0, FACTOR_MAX);
    }

    fn fitted(&self) -> f64 {
        let step = f64::from(1.0 - LOW) / LEVELS as f64;
        let level = |at: usize| f64::from(LOW) + at as f64 * step;
        let Some(far) = (1..LEVELS).rev().find(|at| self.above[*at] >= COUNT_MIN) else { return 1.0 };
        if self.samples < SAMPLES_MIN {
            return 1.0;
        }
        let near = far.saturating_sub(3);
        let slope = (self.above[near] / self.above[far]).ln() / (level(far) - level(near));
        let rate = self.above[far] / self.samples;
        if slope <= 0.0 { FACTOR_MAX } else { level(far) + (rate / RATE_WANTED).ln() / slope }
    }

    /// What the base threshold is multiplied by.
    pub(crate) fn factor(&self) -> f32 {
        self.factor.max(1.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics with an exponential tail: P(above x) = e^(-slope x).
    fn fed(slope: f64) -> Tail {
        let mut tail = Tail::default();
        for second in 0..400_u64 {
            for series in 0..10_000_u64 {
                let uniform = ((second * 10_000 + series) as f64 + 0.5) / 4e6;
                // A fixed scatter, so that no second is a common event.
                let uniform = (uniform * 7_919.0).fract();
                tail.count(Some((-uniform.ln() / slope) as f32));
            }
            tail.close();
        }
        tail.fit();
        tail
    }

    #[test]
    fn a_light_tail_keeps_the_threshold_and_a_heavy_one_raises_it_to_the_wanted_rate() {
        assert_eq!(fed(40.0).factor(), 1.0);
        let factor = fed(16.0).factor();
        let wanted = (-RATE_WANTED.ln() / 16.0) as f32;
        assert!((factor / wanted - 1.0).abs() < 0.15, "{factor} {wanted}");
    }

    #[test]
    fn a_second_in_which_many_rise_teaches_nothing() {
        let mut tail = fed(40.0);
        for _ in 0..100 {
            (0..10_000).for_each(|_| tail.count(Some(0.9)));
            tail.close();
        }
        tail.fit();
        assert_eq!(tail.factor(), 1.0);
    }
}
