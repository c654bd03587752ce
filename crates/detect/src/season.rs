//! What a service usually does at this time of day: a robust mean and spread for each five minutes.
//!
//! Kept for services only (their demand and latency): history costs 2.3 KiB a signal, and on the night of an event it
//! does not apply anyway; peers do.

use crate::kept::kept;

/// Length of a slot.
const SLOT_S: u64 = 300;
/// Slots a day.
const SLOTS: usize = 288;
/// Weight of a new day.
const DAY_GAIN: f32 = 0.3;
/// Samples of a slot before its day counts.
const SAMPLES_MIN: u16 = 60;
/// Spreads around the mean that are usual.
const USUAL_SPREADS: f32 = 4.0;
/// Smallest spread believed (natural log).
const SPREAD_MIN: f32 = 0.05;

#[derive(Debug, Clone, Copy)]
struct Slot {
    mean: f32,
    spread: f32,
}

/// A day's profile of one log measure.
#[derive(Debug, Clone)]
pub(crate) struct Season {
    slots: Vec<Slot>,
    at: usize,
    sum: f32,
    low: f32,
    high: f32,
    samples: u16,
}

kept!(Slot { mean, spread });
kept!(Season { slots, at, sum, low, high, samples });

impl Default for Season {
    fn default() -> Self {
        let slots = vec![Slot { mean: f32::NAN, spread: 0.0 }; SLOTS];
        Self { slots, at: 0, sum: 0.0, low: f32::MAX, high: f32::MIN, samples: 0 }
    }
}

impl Season {
    /// False for what no writer wrote.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots.len() == SLOTS && self.at < SLOTS
    }

    /// True when the value was usual at this time, or five minutes earlier or later, on the days before.
    pub(crate) fn usual(&self, second: u64, value: f32) -> bool {
        let at = slot_of(second);
        [at + SLOTS - 1, at, at + 1].iter().any(|slot| {
            let Slot { mean, spread } = self.slots[slot % SLOTS];
            (value - mean).abs() <= USUAL_SPREADS * spread.max(SPREAD_MIN)
        })
    }

    /// Learns one value; give only values of a healthy service.
    pub(crate) fn learn(&mut self, second: u64, value: f32) {
        let at = slot_of(second);
        if at != self.at {
            self.close();
            self.at = at;
        }
        self.sum += value;
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        self.samples = self.samples.saturating_add(1);
    }

    fn close(&mut self) {
        if self.samples >= SAMPLES_MIN {
            let mean = self.sum / f32::from(self.samples);
            let spread = (self.high - self.low) / USUAL_SPREADS;
            let slot = &mut self.slots[self.at];
            if slot.mean.is_nan() {
                *slot = Slot { mean, spread };
            } else {
                slot.spread += (spread.max((mean - slot.mean).abs()) - slot.spread) * DAY_GAIN;
                slot.mean += (mean - slot.mean) * DAY_GAIN;
            }
        }
        (self.sum, self.low, self.high, self.samples) = (0.0, f32::MAX, f32::MIN, 0);
    }
}

fn slot_of(second: u64) -> usize {
    (second % 86_400 / SLOT_S) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_crowd_is_usual_on_the_second_day_and_elsewhere_is_not() {
        let mut season = Season::default();
        let value = |second: u64| if (36_000..39_600).contains(&(second % 86_400)) { 7.0 } else { 5.0 };
        assert!(!season.usual(37_000, 7.0));
        (0..86_400).for_each(|second| season.learn(second, value(second)));
        assert!(season.usual(86_400 + 37_000, 7.02));
        assert!(!season.usual(86_400 + 50_000, 7.0));
        assert!(season.usual(86_400 + 50_000, 5.0));
    }
}
