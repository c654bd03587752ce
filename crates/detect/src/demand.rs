//! Demand of a service: does it jump or fall within seconds, beyond what this time of day or an activity explains?

use crate::cusum::Cusum;
use crate::kept::kept;
use crate::season::Season;

/// Threshold of the sum of scores: three seconds that agree.
const H: f32 = 14.0;
/// Score granted each second.
const DRIFT: f32 = 1.5;
/// Largest score of a second.
const CLIP: f32 = 6.0;
/// Seconds over which the level forgets; short, since a day's rise is no jump.
const LEVEL_S: f32 = 30.0;
/// Seconds over which the scale forgets.
const SCALE_S: f32 = 300.0;
/// Smallest scale believed (natural log).
const SCALE_MIN: f32 = 0.05;
/// A rise that matters: half as much again (natural log).
const RISE_MIN: f32 = 0.405;
/// A fall that matters: half (natural log).
const FALL_MIN: f32 = 0.693;
/// Samples before it says anything.
const AGE_MIN: u16 = 60;
/// Requests a second under which demand is noise.
const REQUESTS_MIN: f32 = 10.0;

/// Which way demand went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Up,
    Down,
}

/// State of one service's demand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    level: f32,
    scale: f32,
    age: u16,
    up: Cusum,
    down: Cusum,
    season: Season,
}

kept!(Demand { level, scale, age, up, down, season });

impl Demand {
    /// False for what no writer wrote.
    pub(crate) fn is_whole(&self) -> bool {
        self.season.is_whole()
    }

    /// Requests a second that were expected.
    pub(crate) fn baseline(&self) -> f32 {
        self.level.exp()
    }

    /// Requests of a second against what was expected.
    pub(crate) fn factor(&self, requests: f32) -> f32 {
        requests / self.baseline().max(1.0)
    }

    pub(crate) fn score(&self) -> f32 {
        self.up.score(H).max(self.down.score(H))
    }

    pub(crate) fn rise_s(&self) -> u32 {
        if self.up.on() { self.up.rise_s() } else { self.down.rise_s() }
    }

    /// Tests and learns one second; `explained`: it may move, by intent.
    pub(crate) fn step(&mut self, requests: f32, explained: bool, second: u64) -> Option<Moved> {
        let value = (requests + 1.0).ln();
        if self.age == 0 {
            (self.level, self.age) = (value, 1);
            return None;
        }
        let off = value - self.level;
        // Counts are Poisson at least: log noise of 1/sqrt(n).
        let poisson = 1.0 / requests.max(self.baseline()).max(1.0).sqrt();
        let score = off / self.scale.max(SCALE_MIN).max(poisson);
        let small = requests.max(self.baseline()) < REQUESTS_MIN;
        if explained || small || self.age < AGE_MIN || self.season.usual(second, value) {
            self.up.reset();
            self.down.reset();
        } else {
            let second = second as u32;
            self.up.add(score.min(CLIP) - DRIFT, H, second);
            self.down.add((-score).min(CLIP) - DRIFT, H, second);
        }
        let up = self.up.settle(H, off / RISE_MIN);
        let down = self.down.settle(H, -off / FALL_MIN);
        if !explained && !up && !down {
            self.season.learn(second, value);
        }
        self.learn(value, off, explained);
        match (up, down) {
            (true, _) => Some(Moved::Up),
            (_, true) => Some(Moved::Down),
            _ => None,
        }
    }

    fn learn(&mut self, value: f32, off: f32, explained: bool) {
        let age = f32::from(self.age);
        let suspects = self.up.suspects(H) || self.down.suspects(H);
        if explained || self.age < 10 {
            self.level += (value - self.level) / 5.0_f32.min(age + 1.0);
        } else {
            let bound = 3.0 * self.scale.max(SCALE_MIN);
            // In doubt it still follows, slowly: a crowd that stays is the new normal after minutes.
            let slow = if suspects { 8.0 } else { 1.0 };
            self.level += off.clamp(-bound, bound) / (LEVEL_S * slow);
            if !suspects {
                let spread = (off.abs() * 1.2533).min(bound);
                self.scale += (spread - self.scale) / SCALE_S.min(age + 1.0);
            }
        }
        self.age = self.age.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wobble(second: u64) -> f32 {
        1.0 + 0.04 * ((second * 7_919 % 101) as f32 / 50.0 - 1.0)
    }

    fn warm() -> Demand {
        let mut demand = Demand::default();
        for second in 0..600 {
            assert_eq!(demand.step(1_000.0 * wobble(second), false, second), None);
        }
        demand
    }

    #[test]
    fn a_crowd_nobody_announced_is_seen_in_three_or_four_seconds_and_an_announced_one_is_not() {
        let mut sudden = warm();
        let first = (600..620).position(|s| sudden.step(4_000.0 * wobble(s), false, s) == Some(Moved::Up));
        assert!(matches!(first, Some(2 | 3)), "{first:?}");
        let mut announced = warm();
        assert!((600..700).all(|s| announced.step(100_000.0 * wobble(s), true, s).is_none()));
        assert!((700..800).all(|s| announced.step(100_000.0 * wobble(s), false, s).is_none()));
    }

    #[test]
    fn silence_of_the_callers_is_seen() {
        let mut demand = warm();
        assert!((600..620).any(|s| demand.step(100.0 * wobble(s), false, s) == Some(Moved::Down)));
    }

    #[test]
    fn a_days_rise_is_no_jump() {
        let mut demand = warm();
        let rising = |s: u64| 1_000.0 * wobble(s) * ((s - 600) as f32 / 900.0).exp();
        assert!((600..2_400).all(|s| demand.step(rising(s), false, s).is_none()));
    }
}
