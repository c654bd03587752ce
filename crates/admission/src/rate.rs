//! A rate limit with a burst (GCRA: one atomic word). Absent: waiting for a token; who is refused is told at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Admits `rate` per second on average, `burst` at once.
pub struct RateLimit {
    /// Time between two admissions at the full rate, in nanoseconds; `u64::MAX` admits none.
    step_ns: u64,
    /// How far ahead of the rate admissions may run, in nanoseconds.
    slack_ns: u64,
    /// When the next admission is due at the full rate, in nanoseconds.
    due_ns: AtomicU64,
}

impl RateLimit {
    /// `rate_per_s` below 1 in 30 years or not a number admits none; `burst` is at least 1.
    pub fn new(rate_per_s: f64, burst: u32) -> Self {
        let step_ns = if rate_per_s > 1e-9 { (1e9 / rate_per_s).max(1.0) as u64 } else { u64::MAX };
        let slack_ns = step_ns.saturating_mul(u64::from(burst.max(1) - 1));
        Self { step_ns, slack_ns, due_ns: AtomicU64::new(0) }
    }

    /// Whether one more fits now; it is counted if so.
    pub fn admits(&self, now_us: u64) -> bool {
        if self.step_ns == u64::MAX {
            return false;
        }
        let now_ns = now_us.saturating_mul(1_000);
        let furthest_ns = now_ns.saturating_add(self.slack_ns);
        self.due_ns
            .try_update(Relaxed, Relaxed, |due_ns| {
                // Further ahead than any burst can reach: the clock went back, so the limit starts afresh.
                let due_ns = if due_ns > furthest_ns.saturating_add(self.step_ns) { now_ns } else { due_ns };
                let due_ns = due_ns.max(now_ns);
                (due_ns <= furthest_ns).then(|| due_ns.saturating_add(self.step_ns))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
