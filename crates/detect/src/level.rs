//! Measures on a log scale: a slow robust level, the scale of what is usual around it, and a CUSUM of standard scores.
//!
//! What is tested is the deviation that the caller hands in: an instance's residual less its peers' (then load, which
//! moves all of them, is no anomaly), or a service's own. Scores are clipped, so that one wild sample is one vote.

use crate::cusum::Cusum;
use crate::kept::kept;

/// Samples over which the level forgets.
const LEVEL_S: f32 = 120.0;
/// Samples over which the scale forgets.
const SCALE_S: f32 = 300.0;
/// Mean absolute deviation to standard deviation, for a normal distribution.
const MEAN_ABS_TO_STD: f32 = 1.2533;
/// Samples that an adopted level stands for: it is believed, and corrected slowly.
const ADOPTED_AGE: u16 = 60;
/// Deviations beyond this many scales teach no more than this.
const CLIP_LEARN: f32 = 3.0;
/// Noise granted at most for a second with few requests.
const NOISE_MAX: f32 = 12.0;

/// How strict a test is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelTest {
    /// Threshold of the sum of scores.
    pub(crate) h: f32,
    /// Score granted each second.
    pub(crate) drift: f32,
    /// Largest score of one second.
    pub(crate) clip: f32,
    /// Deviation that matters (natural log).
    pub(crate) effect_min: f32,
    /// Smallest scale believed (natural log).
    pub(crate) scale_min: f32,
}

/// State of one measure.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Level {
    level: f32,
    scale: f32,
    last: f32,
    age: u16,
    pub(crate) cusum: Cusum,
}

kept!(Level { level, scale, last, age, cusum });

impl Level {
    /// Samples taken so far, saturating.
    pub(crate) fn age(&self) -> u16 {
        self.age
    }

    pub(crate) fn level(&self) -> f32 {
        self.level
    }

    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// What a value is above its level; none before the first.
    pub(crate) fn residual(&self, value: f32) -> Option<f32> {
        (self.age > 0).then_some(value - self.level)
    }

    /// Starts from a level and scale that others have shown.
    pub(crate) fn adopt(&mut self, level: f32, scale: f32) {
        *self = Self { level, scale, age: ADOPTED_AGE, ..Self::default() };
    }

    /// Moves the level by what its peers' moved while it learnt nothing.
    pub(crate) fn shift(&mut self, by: f32) {
        self.level += by;
        self.cusum.reset();
    }

    /// Tests one deviation; `noise` (at least 1) widens the scale of a second that rests on few requests.
    pub(crate) fn test(&mut self, deviation: f32, noise: f32, test: &LevelTest, second: u32) -> bool {
        let scale = self.scale.max(test.scale_min) * noise.clamp(1.0, NOISE_MAX);
        let score = (deviation / scale).min(test.clip);
        self.cusum.add(score - test.drift, test.h, second);
        let effect = deviation.min(test.effect_min * 3.0).midpoint(self.last) / test.effect_min;
        self.last = deviation.clamp(-test.effect_min, test.effect_min * 3.0);
        if self.cusum.idle() {
            return false;
        }
        self.cusum.settle(test.h, effect)
    }

    /// Learns one value and its deviation, unless they may be a fault.
    pub(crate) fn learn(&mut self, value: f32, deviation: f32, h: f32, frozen: bool) {
        if self.age == 0 {
            (self.level, self.age) = (value, 1);
            return;
        }
        if frozen || self.cusum.suspects(h) {
            return;
        }
        // The first samples weigh as a plain mean: a level must not start where the first one happened to be.
        let age = f32::from(self.age);
        let (level_gain, scale_gain) = (1.0 / (age + 1.0).min(LEVEL_S), 1.0 / (age + 1.0).min(SCALE_S));
        let bound = if age < 10.0 { f32::MAX } else { CLIP_LEARN * self.scale.max(0.01) };
        self.level += (value - self.level).clamp(-bound, bound) * level_gain;
        self.scale += ((deviation.abs() * MEAN_ABS_TO_STD).min(bound) - self.scale) * scale_gain;
        self.age = self.age.saturating_add(1);
    }
}

/// Natural log of a measure, bounded below so that zero has one. Right to 4e-5, and several times cheaper than the
/// library's: it is the most frequent operation here.
pub(crate) fn log(value: f32) -> f32 {
    let bits = value.max(LOG_FLOOR).to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let mantissa = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    // ln(m) = 2 artanh((m - 1) / (m + 1)), with m brought around 1.
    let (mantissa, exponent) =
        if mantissa > std::f32::consts::SQRT_2 { (mantissa * 0.5, exponent + 1) } else { (mantissa, exponent) };
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = 2.0 * t * (1.0 + square * (1.0 / 3.0 + square * 0.2));
    series + exponent as f32 * std::f32::consts::LN_2
}

/// Smallest measure told apart.
const LOG_FLOOR: f32 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: LevelTest = LevelTest { h: 8.0, drift: 1.5, clip: 6.0, effect_min: 0.3, scale_min: 0.03 };

    fn warm() -> Level {
        let mut level = Level::default();
        for second in 0..600_u32 {
            let value = 3.0 + 0.05 * ((second * 7_919 % 101) as f32 / 50.0 - 1.0);
            let off = level.residual(value).unwrap_or(0.0);
            assert!(!level.test(off, 1.0, &TEST, second) || second < 5);
            level.learn(value, off, TEST.h, false);
        }
        level
    }

    #[test]
    fn a_doubling_takes_two_seconds_and_a_lone_spike_none() {
        let mut level = warm();
        assert!(!level.test(5.0, 1.0, &TEST, 700));
        assert!((701..760).all(|second| !level.test(0.0, 1.0, &TEST, second)));
        assert!(!level.test(0.69, 1.0, &TEST, 800));
        assert!(level.test(0.69, 1.0, &TEST, 801));
    }

    #[test]
    fn the_log_is_right_to_four_digits() {
        for at in 0..10_000 {
            let value = 1e-3 * 1.004_f32.powi(at.min(9_000));
            assert!((log(value) - value.ln()).abs() < 1e-4 * value.ln().abs().max(1.0), "{value}");
        }
        assert_eq!(log(0.0), log(1e-3));
    }

    #[test]
    fn a_small_shift_is_seen_and_does_not_matter() {
        let mut level = warm();
        assert!((0..60).all(|second| !level.test(0.15, 1.0, &TEST, 700 + second)));
    }

    #[test]
    fn the_level_follows_slowly_and_freezes_in_doubt() {
        let mut level = warm();
        let before = level.level();
        (0..60).for_each(|_| level.learn(before + 0.69, 0.69, TEST.h, true));
        assert_eq!(level.level(), before);
        (0..600).for_each(|_| level.learn(before + 0.1, 0.1, TEST.h, false));
        assert!((level.level() - before - 0.1).abs() < 0.02);
    }
}
