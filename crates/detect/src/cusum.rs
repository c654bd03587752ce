//! The one sequential test under all detectors: a one-sided CUSUM of evidence for a change.
//!
//! Evidence of one second is capped below the threshold, so that no single second decides: a spike alone stays silent,
//! two seconds that agree do not. The sum is bounded above, so that an alarm ends soon after its reason.

use crate::kept::kept;

/// Share of the threshold that one second may add.
const SECOND_SHARE_MAX: f32 = 0.6;
/// Bound of the sum, in thresholds.
const SUM_MAX: f32 = 1.5;
/// Share of the threshold under which an alarm ends.
const END_SHARE: f32 = 0.5;
/// Share of the threshold that evidence of an effect too small to matter may keep.
const IDLE_SHARE_MAX: f32 = 0.39;
/// Share of the threshold from which the baseline learns no more: above what one second can add, so that lone bursts,
/// which are usual, are learnt as such.
const SUSPECT_SHARE: f32 = 0.7;
/// Share of the threshold under which the sum is noise: the rise begins when it leaves that.
const LOW_SHARE: f32 = 0.25;
/// An alarm for this long is the new normal: the baseline may learn it.
pub(crate) const HELD_S_MAX: u16 = 3_600;

/// Evidence so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cusum {
    sum: f32,
    rise_s: u32,
    held_s: u16,
    on: bool,
    /// It alarmed and has not come back to zero: no sample for calibration.
    tripped: bool,
}

kept!(Cusum { sum, rise_s, held_s, on, tripped });

impl Cusum {
    /// Adds a second's evidence; `h` is the threshold.
    pub(crate) fn add(&mut self, evidence: f32, h: f32, second: u32) {
        let was_low = self.sum < h * LOW_SHARE;
        let evidence = if evidence.is_nan() { 0.0 } else { evidence.min(h * SECOND_SHARE_MAX) };
        self.sum = (self.sum + evidence).clamp(0.0, SUM_MAX * h);
        if self.sum <= 0.0 {
            self.tripped = false;
        } else if was_low {
            self.rise_s = second;
        }
    }

    /// Decides: an alarm begins when the sum passes the threshold while the effect matters (1 = just), and ends when
    /// either has fallen well below.
    pub(crate) fn settle(&mut self, h: f32, effect: f32) -> bool {
        if self.on {
            self.on = self.sum >= h * END_SHARE && effect >= END_SHARE;
            self.held_s = self.held_s.saturating_add(1);
        } else if self.sum >= h && effect >= 1.0 {
            (self.on, self.tripped, self.held_s) = (true, true, 0);
        } else if effect < END_SHARE {
            // A shift that does not matter is to be learnt, and must not leave the test loaded for the next lone spike.
            self.sum = self.sum.min(h * IDLE_SHARE_MAX);
        }
        if self.on && self.held_s >= HELD_S_MAX {
            *self = Self::default();
        }
        self.on
    }

    /// Forgets all evidence.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn on(&self) -> bool {
        self.on
    }

    pub(crate) fn rise_s(&self) -> u32 {
        self.rise_s
    }

    pub(crate) fn idle(&self) -> bool {
        self.sum <= 0.0
    }

    /// Statistic by threshold.
    pub(crate) fn score(&self, h: f32) -> f32 {
        self.sum / h
    }

    /// True while evidence gathers: the baseline must not learn what may be a fault.
    pub(crate) fn suspects(&self, h: f32) -> bool {
        self.on || self.sum >= h * SUSPECT_SHARE
    }

    /// The statistic for calibration, in thresholds; none after an alarm.
    pub(crate) fn calm(&self, h: f32) -> Option<f32> {
        (!self.tripped && self.sum > 0.0).then(|| self.sum / h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_never_decides_and_two_do() {
        let mut cusum = Cusum::default();
        cusum.add(f32::INFINITY, 10.0, 7);
        assert!(!cusum.settle(10.0, 5.0));
        cusum.add(100.0, 10.0, 8);
        assert!(cusum.settle(10.0, 5.0));
        assert_eq!(cusum.rise_s(), 7);
    }

    #[test]
    fn an_effect_that_does_not_matter_never_alarms() {
        let mut cusum = Cusum::default();
        for second in 0..100 {
            cusum.add(9.0, 10.0, second);
            assert!(!cusum.settle(10.0, 0.9));
        }
    }

    #[test]
    fn an_alarm_ends_soon_after_its_reason_and_nan_is_nothing() {
        let mut cusum = Cusum::default();
        for second in 0..1_000 {
            cusum.add(f32::NAN, 10.0, second);
            cusum.add(50.0, 10.0, second);
            cusum.settle(10.0, 2.0);
        }
        assert!(cusum.on());
        let seconds = (0..).take_while(|second| {
            cusum.add(-1.5, 10.0, 2_000 + second);
            cusum.settle(10.0, 2.0)
        });
        assert!(seconds.count() <= 7);
    }

    #[test]
    fn what_stays_becomes_normal() {
        let mut cusum = Cusum::default();
        let on: Vec<bool> = (0..u32::from(HELD_S_MAX) + 3)
            .map(|second| {
                cusum.add(50.0, 10.0, second);
                cusum.settle(10.0, 2.0)
            })
            .collect();
        assert!(on[1] && on[usize::from(HELD_S_MAX) - 1]);
        assert!(!on[usize::from(HELD_S_MAX) + 1]);
    }
}
