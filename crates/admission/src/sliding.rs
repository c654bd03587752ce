//! A counter over a sliding window, from two half-remembered windows. Absent: exactness; it is right within a window's drift.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of the running window and of the one before it.
pub(crate) struct Sliding {
    window_us: u64,
    /// Number of the running window (time ÷ length).
    window: AtomicU64,
    current: AtomicU64,
    previous: AtomicU64,
}

impl Sliding {
    pub(crate) const fn new(window_us: u64) -> Self {
        Self { window_us, window: AtomicU64::new(0), current: AtomicU64::new(0), previous: AtomicU64::new(0) }
    }

    /// Adds to the running window.
    pub(crate) fn add(&self, count: u64, now_us: u64) {
        self.turn(now_us);
        self.current.fetch_add(count, Relaxed);
    }

    /// The count over the last window's length: the running one plus the fitting part of the one before.
    pub(crate) fn sum(&self, now_us: u64) -> f64 {
        self.turn(now_us);
        let passed = (now_us % self.window_us) as f64 / self.window_us as f64;
        self.current.load(Relaxed) as f64 + self.previous.load(Relaxed) as f64 * (1.0 - passed)
    }

    /// Begins a new window where it is due. A clock that went back, or on by more than a window, starts afresh.
    fn turn(&self, now_us: u64) {
        let window = now_us / self.window_us;
        let seen = self.window.load(Relaxed);
        if window == seen || self.window.compare_exchange(seen, window, Relaxed, Relaxed).is_err() {
            return;
        }
        let count = self.current.swap(0, Relaxed);
        self.previous.store(if window == seen + 1 { count } else { 0 }, Relaxed);
    }
}

#[cfg(test)]
mod tests;
