//! The second that a source's sample counts for.

use model::UnixMs;

/// A sample that covers less than this is one of a service under stress, beside the second's own.
const WHOLE_MS: u64 = 500;
/// A second.
const SECOND_MS: u64 = 1_000;
/// How far a sample may stray from its second and still follow the one before.
const STRAY_MS: u64 = 400;

/// One source's samples in time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rhythm {
    last: u64,
    heard_ms: UnixMs,
}

impl Rhythm {
    /// The second of a sample that arrived at `now` and covers the time before.
    pub fn second(&mut self, now: UnixMs, covered_ms: u64) -> u64 {
        self.heard_ms = now;
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

    #[test]
    fn samples_that_follow_one_another_count_for_seconds_that_do_whatever_their_phase() {
        for phase in (0..1_000).step_by(50) {
            let mut rhythm = Rhythm::default();
            let mut last = None;
            for beat in 0..200_u64 {
                // Jitter of a third of a second to and fro.
                let jitter = [0, 150, 300, 80, 220][(beat % 5) as usize];
                let at = rhythm.second(1_800_000_000_000 + beat * 1_000 + phase + jitter, 1_000);
                assert!(last.is_none_or(|last| at == last + 1), "phase {phase}, beat {beat}: {last:?} then {at}");
                last = Some(at);
            }
        }
    }

    #[test]
    fn a_missed_beat_and_a_stop_are_not_made_up() {
        let mut rhythm = Rhythm::default();
        let first = rhythm.second(1_000_000_500, 1_000);
        assert_eq!(first, 1_000_000);
        assert_eq!(rhythm.second(1_000_003_500, 3_000), 1_000_003);
        assert_eq!(rhythm.second(1_000_060_500, 1_000), 1_000_060);
    }
}
