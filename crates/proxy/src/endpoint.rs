//! What all workers share about one endpoint: its load and its health. Lives as long as the endpoint does, across tables.
//!
//! Everything is relaxed atomics: each value stands for itself, and a choice made on one a microsecond old is as good.

use admission::{Advert, Priority};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Failures in a row that eject an endpoint.
pub const FAILURES_MAX: u32 = 5;
/// Failures within a window that eject an endpoint if they are half of its requests or more: one that fails every
/// other time never fails five times in a row.
const WINDOW_FAILURES_MIN: u32 = 10;
/// The window.
const WINDOW_MS: u64 = 1_000;
/// How long an advertised level is believed.
pub const LEVEL_LIFE_MS: u64 = 2_000;
/// The level that admits every priority.
pub const LEVEL_ALL: u32 = 65_536;
/// Time of the first ejection; each further one doubles it.
const EJECTION_MS: u64 = 1_000;
/// Longest ejection.
const EJECTION_MS_MAX: u64 = 30_000;
/// While half open, a request is tried beside others under way when the last trial began so long ago: one that lasts, such as
/// a stream, must not be the only one for ever.
const TRIAL_MS: u64 = 1_000;
/// Time without failure after which ejections are short again.
const FORGIVEN_MS: u64 = 60_000;

/// A moment, read from the system once and put into the proxy's own time once: either costs as much as a look-up.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// As the system has it.
    pub at: Instant,
    /// Microseconds of the proxy's clock.
    pub us: u64,
}

impl Moment {
    /// Milliseconds of the proxy's clock.
    pub fn ms(&self) -> u64 {
        self.us / 1_000
    }

    /// Microseconds since then, 0 if that is yet to come.
    pub fn us_since(&self, then: Moment) -> u64 {
        self.us.saturating_sub(then.us)
    }
}

/// Milliseconds of the proxy's own monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        let at = Instant::now();
        Moment { at, us: self.us(at) }
    }

    /// Where `at` lies.
    pub fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0).as_millis() as u64
    }

    /// The present.
    pub fn now_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    /// Where `at` lies, in microseconds.
    pub fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0).as_micros() as u64
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
    /// Where it stands; empty when nobody says.
    pub datacenter: Arc<str>,
    /// Requests ever sent to it (upper half, wrapping) and those under way (lower half): one write counts both.
    requests: AtomicU64,
    failures: AtomicU32,
    window_began_ms: AtomicU64,
    window_failures: AtomicU32,
    /// Requests ever sent when the window began.
    window_sent: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    /// Was ejected, and has not yet answered since: gets one request at a time.
    half_open: AtomicBool,
    /// When a request was last tried while it was half open.
    tried_ms: AtomicU64,
    level: AtomicU32,
    demand_rps: AtomicU32,
    capacity_rps: AtomicU32,
    queue_delay_us: AtomicU32,
    level_until_ms: AtomicU64,
    unhealthy: AtomicBool,
    reported_unhealthy: AtomicBool,
}

impl EndpointState {
    /// A new one, taken for well.
    pub fn new(instance: Arc<str>, address: SocketAddr) -> Self {
        Self {
            instance,
            address,
            datacenter: "".into(),
            requests: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            window_began_ms: AtomicU64::new(0),
            window_failures: AtomicU32::new(0),
            window_sent: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            half_open: AtomicBool::new(false),
            tried_ms: AtomicU64::new(0),
            level: AtomicU32::new(LEVEL_ALL),
            demand_rps: AtomicU32::new(0),
            capacity_rps: AtomicU32::new(0),
            queue_delay_us: AtomicU32::new(0),
            level_until_ms: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
            reported_unhealthy: AtomicBool::new(false),
        }
    }

    /// It stands in this datacenter.
    #[must_use]
    pub fn in_datacenter(mut self, datacenter: &str) -> Self {
        self.datacenter = datacenter.into();
        self
    }

    /// Requests that it is working on, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.requests.load(Relaxed) as u32
    }

    /// A request begins.
    pub fn enter(&self, now_ms: u64) {
        self.requests.fetch_add((1 << 32) + 1, Relaxed);
        if self.half_open.load(Relaxed) {
            self.tried_ms.store(now_ms, Relaxed);
        }
    }

    /// A request ended.
    pub fn leave(&self) {
        self.requests.fetch_sub(1, Relaxed);
    }

    fn sent(&self) -> u32 {
        (self.requests.load(Relaxed) >> 32) as u32
    }

    /// It told the level up to which it admits, and its load (`endpoint-load-metrics`).
    pub fn hear(&self, told: Advert, now_ms: u64) {
        self.level.store(told.level.min(LEVEL_ALL), Relaxed);
        self.demand_rps.store(told.demand_rps.to_bits(), Relaxed);
        self.capacity_rps.store(told.capacity_rps.to_bits(), Relaxed);
        self.queue_delay_us.store(told.queue_delay_us, Relaxed);
        self.level_until_ms.store(now_ms + LEVEL_LIFE_MS, Relaxed);
    }

    /// What it last told, while that is fresh.
    pub fn told(&self, now_ms: u64) -> Option<Advert> {
        (self.level_until_ms.load(Relaxed) > now_ms).then(|| Advert {
            level: self.level.load(Relaxed),
            demand_rps: f32::from_bits(self.demand_rps.load(Relaxed)),
            capacity_rps: f32::from_bits(self.capacity_rps.load(Relaxed)),
            queue_delay_us: self.queue_delay_us.load(Relaxed),
        })
    }

    /// The level that it last advertised, while that is fresh.
    pub fn level(&self, now_ms: u64) -> u32 {
        if self.level_until_ms.load(Relaxed) > now_ms { self.level.load(Relaxed) } else { LEVEL_ALL }
    }

    /// What one more request means for it, for comparison with its equals: requests under way, counted for more the more
    /// it sheds, and the most of all when it would reject a request of this priority.
    pub fn load(&self, priority: u16, now_ms: u64) -> u64 {
        let under_way = u64::from(self.in_flight());
        let level = self.level(now_ms);
        if level >= LEVEL_ALL {
            return under_way;
        }
        if u32::from(priority) >= level {
            return u64::MAX;
        }
        (under_way + 1) * u64::from(LEVEL_ALL) / u64::from(level)
    }

    /// It is well, and would surely take a request of this priority as far as is known.
    pub fn has_room(&self, priority: u16, now_ms: u64) -> bool {
        self.available(now_ms) && Priority::from_u16(priority).surely_within(self.level(now_ms))
    }

    /// Neither ejected nor failing its checks.
    pub fn available(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Relaxed) <= now_ms
            && (!self.half_open.load(Relaxed)
                || self.in_flight() == 0
                || now_ms.saturating_sub(self.tried_ms.load(Relaxed)) >= TRIAL_MS)
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

    /// It answered a request that began at `now_ms`. Reads only, on the common path: no cache line changes hands for it.
    pub fn succeeded(&self, now_ms: u64) {
        if self.half_open.load(Relaxed) && now_ms >= self.ejected_until_ms.load(Relaxed) {
            self.half_open.store(false, Relaxed);
        }
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
        let often = self.fails_often(now_ms);
        if self.ejected_until_ms.load(Relaxed) > now_ms {
            return false;
        }
        if failures < FAILURES_MAX && !often && !self.half_open.load(Relaxed) {
            return false;
        }
        self.half_open.store(true, Relaxed);
        let before = self.ejections.fetch_add(1, Relaxed);
        let life_ms = (EJECTION_MS << before.min(16)).min(EJECTION_MS_MAX);
        self.ejected_until_ms.store(now_ms + life_ms, Relaxed);
        self.failures.store(0, Relaxed);
        true
    }

    /// Counts a failure in its window; true when half of the requests since the window began have failed.
    fn fails_often(&self, now_ms: u64) -> bool {
        let sent = self.sent();
        if now_ms.saturating_sub(self.window_began_ms.load(Relaxed)) >= WINDOW_MS {
            self.window_began_ms.store(now_ms, Relaxed);
            self.window_failures.store(1, Relaxed);
            self.window_sent.store(sent, Relaxed);
            return false;
        }
        let failures = self.window_failures.fetch_add(1, Relaxed) + 1;
        let requests = sent.wrapping_sub(self.window_sent.load(Relaxed)).saturating_add(1);
        failures >= WINDOW_FAILURES_MIN && failures.saturating_mul(2) >= requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> EndpointState {
        EndpointState::new("a".into(), "127.0.0.1:1".parse().expect("an address"))
    }

    #[test]
    fn half_open_lets_one_in_at_a_time_and_one_failure_closes_it_again() {
        let state = state();
        assert!((0..FAILURES_MAX).any(|_| state.failed(0)));
        assert!(!state.available(999) && state.available(1_000), "one may try");
        state.enter(1_000);
        assert!(!state.available(1_000), "not a second one beside it");
        assert!(state.failed(1_001), "one failure is enough now");
        state.leave();
        assert!(!state.available(3_000) && state.available(3_001));
        state.succeeded(2_000);
        state.enter(3_001);
        assert!(!state.available(3_001), "an answer to a request from before the ejection proves nothing");
        state.succeeded(3_001);
        assert!(state.available(3_001), "one that came since does");
    }

    #[test]
    fn a_long_stream_does_not_keep_a_half_open_endpoint_out_for_ever() {
        let state = state();
        state.enter(0);
        assert!((0..FAILURES_MAX).any(|_| state.failed(0)), "the stream that goes on is no failure");
        let back = 1_000;
        assert!(state.available(back), "the stream began long before");
        state.enter(back);
        assert!(!state.available(back + TRIAL_MS - 1), "one trial at a time");
        assert!(state.available(back + TRIAL_MS), "another, though neither has ended");
        state.succeeded(back + TRIAL_MS);
        assert!(state.available(back + TRIAL_MS));
    }

    #[test]
    fn failing_every_other_time_ejects_and_failing_now_and_then_does_not() {
        let often = state();
        let ejected = (0..100).any(|turn| {
            often.enter(turn);
            often.leave();
            if turn % 2 == 0 {
                return often.failed(turn);
            }
            often.succeeded(turn);
            false
        });
        assert!(ejected && !often.available(100));
        let seldom = state();
        for turn in 0..10_000 {
            seldom.enter(turn / 10);
            seldom.leave();
            if turn % 5 == 0 {
                assert!(!seldom.failed(turn / 10));
            } else {
                seldom.succeeded(turn / 10);
            }
        }
    }

    #[test]
    fn an_advertised_level_weighs_on_the_load_while_it_is_fresh() {
        let state = state();
        (0..3).for_each(|_| state.enter(0));
        assert_eq!((state.in_flight(), state.load(0, 0)), (3, 3));
        let told = Advert { level: LEVEL_ALL / 4, demand_rps: 9.0, ..Advert::UNKNOWN };
        state.hear(told, 0);
        assert_eq!((state.told(0), state.told(LEVEL_LIFE_MS)), (Some(told), None));
        assert_eq!(state.load(0, 0), 16);
        assert_eq!(state.load((LEVEL_ALL / 4) as u16, 0), u64::MAX, "it would reject that");
        assert_eq!(state.load(u16::MAX, LEVEL_LIFE_MS), 3, "forgotten");
        let half = (LEVEL_ALL / 8) as u16;
        assert!(
            state.has_room(half - 1, 0) && !state.has_room(half, 0),
            "what is near the level may find a full queue"
        );
        assert!(state.has_room(half, LEVEL_LIFE_MS));
        assert!((0..FAILURES_MAX).any(|_| state.failed(0)));
        assert!(!state.has_room(0, 0), "ejected");
    }

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
