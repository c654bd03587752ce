//! The second that a source's sample counts for.

use model::UnixMs;

/// A sample that covers less than this is one of a service under stress, beside the second's own.
const WHOLE_MS: u64 = 500;
/// A second.
const SECOND_MS: u64 = 1_000;
/// How far a sample may stray from its second and still follow the one before.
const STRAY_MS: u64 = 400;

/// Samples whose time on the way is compared.
const COMPARED: usize = 8;
/// What seems to come later than this after the quickest was not held up: its clock was set back.
const HELD_UP_MS_MAX: i64 = 2_500;

/// When a sample was sent and when it arrived, each by the clock there.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// By the source's clock.
    pub sent_ms: u64,
    /// By ours.
    pub now: UnixMs,
}

/// How far a source's clock is behind ours, with the time on the way: of the last samples.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    ms: [i64; COMPARED],
    next: u8,
}

impl Default for Offsets {
    fn default() -> Self {
        Self { ms: [i64::MAX; COMPARED], next: 0 }
    }
}

impl Offsets {
    /// When a sample would have arrived had it been as quick as the quickest of the last ones.
    fn unhurried(&mut self, arrival: Arrival, is_whole: bool) -> UnixMs {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let offset = signed(arrival.now).saturating_sub(signed(arrival.sent_ms));
        let least = self.ms.iter().copied().fold(offset, i64::min);
        let held_up_ms = offset.saturating_sub(least);
        if held_up_ms > HELD_UP_MS_MAX {
            *self = Self { ms: [offset; COMPARED], next: 0 };
            return arrival.now;
        }
        if is_whole {
            self.ms[usize::from(self.next)] = offset;
            self.next = (self.next + 1) % COMPARED as u8;
        }
        arrival.now.saturating_sub(held_up_ms as u64)
    }
}

/// One source's samples in time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rhythm {
    last: u64,
    heard_ms: UnixMs,
    offsets: Offsets,
}

impl Rhythm {
    /// The second of a sample that covers the time before. What was held up on its way counts for the time at which it
    /// was sent: the source's clock tells how late it is beside the others, whatever time that clock shows.
    pub fn second(&mut self, arrival: Arrival, covered_ms: u64) -> u64 {
        self.heard_ms = arrival.now;
        let now = self.offsets.unhurried(arrival, covered_ms >= WHOLE_MS);
        // What covers more than a second, since some were lost, stands for its last one.
        let middle = now.saturating_sub(covered_ms.min(SECOND_MS) / 2);
        let natural = middle / 1_000;
        if covered_ms < WHOLE_MS {
            self.last = self.last.max(natural);
            return natural;
        }
        let next = self.last + 1;
        let near = (middle.saturating_sub(STRAY_MS) / 1_000..=(middle + STRAY_MS) / 1_000).contains(&next);
        let at = if near { next } else { natural };
        self.last = at;
        at
    }

    /// The newest second it spoke of.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// When it spoke last.
    pub fn heard_ms(&self) -> UnixMs {
        self.heard_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample that took no time on its way.
    fn at(now: UnixMs) -> Arrival {
        Arrival { sent_ms: now, now }
    }

    #[test]
    fn a_sample_held_up_keeps_its_second_and_so_do_those_after_it() {
        let mut rhythm = Rhythm::default();
        for beat in 0..30_u64 {
            let sent_ms = 1_000_000_150 + beat * 1_000;
            let now = if (10..12).contains(&beat) { sent_ms + 1_700 } else { sent_ms };
            assert_eq!(rhythm.second(Arrival { sent_ms, now }, 1_000), 999_999 + beat, "beat {beat}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        for step_ms in [-3_600_000_i64, -2_000, 2_000, 3_600_000] {
            let mut rhythm = Rhythm::default();
            for beat in 0..40_u64 {
                let now = 1_000_000_150 + beat * 1_000;
                let off_ms = if beat >= 20 { step_ms } else { 0 };
                let sent_ms = now.checked_add_signed(off_ms).expect("a time");
                let second = rhythm.second(Arrival { sent_ms, now }, 1_000);
                // One set back a little looks like a sample held up, for as long as older ones are compared.
                if !(20..20 + COMPARED as u64).contains(&beat) {
                    assert_eq!(second, 999_999 + beat, "beat {beat} after a step of {step_ms} ms");
                }
            }
        }
    }

    #[test]
    fn nonsense_of_a_clock_is_survived() {
        let mut rhythm = Rhythm::default();
        for sent_ms in [0, u64::MAX, 1, u64::MAX / 2, 1_000_000_500] {
            assert_eq!(rhythm.second(Arrival { sent_ms, now: 1_000_000_500 }, 1_000), 1_000_000);
        }
    }

    #[test]
    fn samples_that_follow_one_another_count_for_seconds_that_do_whatever_their_phase() {
        for phase in (0..1_000).step_by(50) {
            let mut rhythm = Rhythm::default();
            let mut last = None;
            for beat in 0..200_u64 {
                // Jitter of a third of a second to and fro.
                let jitter = [0, 150, 300, 80, 220][(beat % 5) as usize];
                let at = rhythm.second(at(1_800_000_000_000 + beat * 1_000 + phase + jitter), 1_000);
                assert!(last.is_none_or(|last| at == last + 1), "phase {phase}, beat {beat}: {last:?} then {at}");
                last = Some(at);
            }
        }
    }

    #[test]
    fn a_missed_beat_and_a_stop_are_not_made_up() {
        let mut rhythm = Rhythm::default();
        let first = rhythm.second(at(1_000_000_500), 1_000);
        assert_eq!(first, 1_000_000);
        assert_eq!(rhythm.second(at(1_000_003_500), 3_000), 1_000_003);
        assert_eq!(rhythm.second(at(1_000_060_500), 1_000), 1_000_060);
    }
}
