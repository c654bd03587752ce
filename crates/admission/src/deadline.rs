//! Deadlines: a moment on the local clock, from the remaining time on the wire and back. Absent: timers.

/// Longest remaining time that is believed, in milliseconds (one hour); longer ones are cut to it.
const REMAINING_MS_MAX: u64 = 3_600_000;

/// When a task's answer is no longer wanted, in microseconds of the local monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// From a moment of the local clock.
    pub const fn at(at_us: u64) -> Self {
        Self(at_us)
    }

    /// From the remaining time that a caller sent, in milliseconds; at most an hour.
    pub fn after_ms(remaining_ms: u64, now_us: u64) -> Self {
        Self(now_us.saturating_add(remaining_ms.min(REMAINING_MS_MAX) * 1_000))
    }

    /// The moment, as [`crate::Gate::offer`] takes it.
    pub const fn at_us(self) -> u64 {
        self.0
    }

    /// What remains, in microseconds; 0 once it has passed.
    pub const fn remaining_us(self, now_us: u64) -> u64 {
        self.0.saturating_sub(now_us)
    }

    /// What remains as sent to the next hop: whole milliseconds, rounded down, so that no hop adds time.
    pub const fn remaining_ms(self, now_us: u64) -> u64 {
        self.remaining_us(now_us) / 1_000
    }

    /// Whether it has passed.
    pub const fn expired(self, now_us: u64) -> bool {
        self.0 <= now_us
    }

    /// The earlier of this deadline and `timeout_us` from now: a call's own limit never outlives its task.
    pub fn within(self, timeout_us: u64, now_us: u64) -> Self {
        Self(self.0.min(now_us.saturating_add(timeout_us)))
    }
}

#[cfg(test)]
mod tests;
