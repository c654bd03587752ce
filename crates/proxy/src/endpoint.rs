//! What all workers share about one endpoint: its load and its health. Lives as long as the endpoint does, across tables.
//!
//! Everything is relaxed atomics: each value stands for itself, and a choice made on one a microsecond old is as good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Failures in a row that eject an endpoint.
pub const FAILURES_MAX: u32 = 5;
/// Time of the first ejection; each further one doubles it.
const EJECTION_MS: u64 = 1_000;
/// Longest ejection.
const EJECTION_MS_MAX: u64 = 30_000;
/// Time without failure after which ejections are short again.
const FORGIVEN_MS: u64 = 60_000;

/// Milliseconds of the proxy's own monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Where `at` lies.
    pub fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0).as_millis() as u64
    }

    /// The present.
    pub fn now_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    /// The present, in microseconds of the same clock.
    pub fn now_us(&self) -> u64 {
        Instant::now().saturating_duration_since(self.0).as_micros() as u64
    }
}

/// An endpoint, as all workers see it.
#[derive(Debug)]
pub struct EndpointState {
    /// The instance behind it.
    pub instance: Arc<str>,
    /// Where it answers.
    pub address: SocketAddr,
    in_flight: AtomicU32,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    unhealthy: AtomicBool,
    reported_unhealthy: AtomicBool,
}

impl EndpointState {
    /// A new one, taken for well.
    pub fn new(instance: Arc<str>, address: SocketAddr) -> Self {
        Self {
            instance,
            address,
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
            reported_unhealthy: AtomicBool::new(false),
        }
    }

    /// Requests that it is working on, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// A request begins.
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A request ended.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Neither ejected nor failing its checks.
    pub fn available(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Relaxed) <= now_ms
            && !self.unhealthy.load(Relaxed)
            && !self.reported_unhealthy.load(Relaxed)
    }

    /// What the active check found.
    pub fn set_unhealthy(&self, unhealthy: bool) {
        self.unhealthy.store(unhealthy, Relaxed);
    }

    /// What the control plane says.
    pub fn set_reported_unhealthy(&self, unhealthy: bool) {
        self.reported_unhealthy.store(unhealthy, Relaxed);
    }

    /// What the active check last found.
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy.load(Relaxed)
    }

    /// It answered. Reads only, on the common path: no cache line changes hands for it.
    pub fn succeeded(&self, now_ms: u64) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.ejections.load(Relaxed) != 0 && now_ms > self.ejected_until_ms.load(Relaxed) + FORGIVEN_MS {
            self.ejections.store(0, Relaxed);
        }
    }

    /// It failed to connect, broke, timed out or answered 5xx; true when that ejected it.
    pub fn failed(&self, now_ms: u64) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if failures < FAILURES_MAX || self.ejected_until_ms.load(Relaxed) > now_ms {
            return false;
        }
        let before = self.ejections.fetch_add(1, Relaxed);
        let life_ms = (EJECTION_MS << before.min(16)).min(EJECTION_MS_MAX);
        self.ejected_until_ms.store(now_ms + life_ms, Relaxed);
        self.failures.store(0, Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_end_and_are_forgiven() {
        let state = EndpointState::new("a".into(), "127.0.0.1:1".parse().expect("an address"));
        let fail = |now| (0..FAILURES_MAX).any(|_| state.failed(now));
        (1..FAILURES_MAX).for_each(|_| assert!(!state.failed(0)));
        state.succeeded(0);
        assert!(state.available(0), "a success between failures starts the count anew");
        assert!(fail(0));
        assert!(!state.available(999) && state.available(1_000));
        assert!(fail(1_000));
        assert!(!state.available(2_999) && state.available(3_000));
        let mut now = 3_000;
        for _ in 0..40 {
            assert!(fail(now));
            now += EJECTION_MS_MAX;
            assert!(state.available(now), "bounded");
        }
        state.succeeded(now + FORGIVEN_MS + 1);
        assert!(fail(now + FORGIVEN_MS + 1));
        assert!(state.available(now + FORGIVEN_MS + 1 + EJECTION_MS));
    }
}
