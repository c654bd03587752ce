//! The edge at which `now` is read for the pure crates: wall-clock time that never goes back and never jumps.
//!
//! Limits of steps, gates and leases are differences of two such times. A wall clock that is set (by hand, or by a time
//! daemon that steps) would let them pass at once, or hold everything for as long as it went back. So a step is followed
//! gradually. Absent: following at once where a step is of years; a server is started after the clock was first set.

use model::UnixMs;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// While it follows a step, this clock runs faster or slower by one part in this many.
const FOLLOW_PARTS: u64 = 2;

static CLOCK: Mutex<Option<Steady>> = Mutex::new(None);

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> UnixMs {
    now_us() / 1_000
}

/// Now, in microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set after 1970");
    let (wall_us, at) = (wall.as_micros() as u64, Instant::now());
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    clock.get_or_insert(Steady { us: wall_us, at }).read(wall_us, at)
}

/// The clock as last read.
#[derive(Debug)]
struct Steady {
    us: u64,
    at: Instant,
}

impl Steady {
    fn read(&mut self, wall_us: u64, at: Instant) -> u64 {
        let passed_us = at.saturating_duration_since(self.at).as_micros() as u64;
        let part_us = passed_us / FOLLOW_PARTS;
        self.us = wall_us.clamp(self.us + passed_us - part_us, self.us + passed_us + part_us);
        self.at = at.max(self.at);
        self.us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_step_of_the_wall_clock_is_followed_gradually() {
        let start = Instant::now();
        let second = 1_000_000_u64;
        for step in [3_600 * second as i64, -3_600 * second as i64] {
            let began_us = 1_700_000_000 * second;
            let mut clock = Steady { us: began_us, at: start };
            let mut last_us = began_us;
            for tick in 1..=100_000 {
                let passed_us = tick * second / 10;
                let wall_us = (began_us + passed_us).checked_add_signed(step).expect("in range");
                let now_us = clock.read(wall_us, start + Duration::from_micros(passed_us));
                let moved_us = now_us - last_us;
                assert!((second / 20..=second * 3 / 20).contains(&moved_us), "{moved_us} in a tenth of a second");
                last_us = now_us;
            }
            let wall_us = (began_us + 10_000 * second).checked_add_signed(step).expect("in range");
            assert_eq!(last_us, wall_us, "and it arrives");
        }
    }

    #[test]
    fn an_even_clock_is_shown_as_it_is() {
        let start = Instant::now();
        let mut clock = Steady { us: 5, at: start };
        assert_eq!(clock.read(1_005, start + Duration::from_micros(1_000)), 1_005);
        assert_eq!(clock.read(1_005, start + Duration::from_micros(1_000)), 1_005, "read twice at once");
    }
}
