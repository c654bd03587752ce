//! The counters of the running window, all atomics, few and apart: two threads that count on one cache line pay for it.
//!
//! What is counted together is packed into one word, so that an offer adds to three words at most. Absent: what the
//! counts mean (`controller`).

use crate::priority::{BUCKETS, Priority};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Queue delays below this mean that work found the queue empty.
pub(super) const IDLE_DELAY_US: u64 = 1_000;
/// A window is closed early from this many offers on, so that no packed count runs over.
pub(super) const OFFERS_MAX: u32 = 1_000_000;
/// Single times are cut to ten seconds in sums.
const TIME_US_MAX: u64 = 10_000_000;
/// Shed calls of one priority believed of one report.
const REPORTED_MAX: u32 = 100_000;
/// The first offers of a window tell their remaining time, and then one of sixteen.
const REMAINING_FIRST: u32 = 64;
const REMAINING_EVERY: u32 = 16;

/// Keeps what it holds on cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// Counts since the window began.
pub(super) struct Window {
    /// Tasks asked for by bucket: first calls that came, and those that callers shed.
    asked: Box<[AtomicU32]>,
    hot: Apart<Hot>,
    remaining: Apart<AtomicU64>,
    started: Apart<Started>,
    finished: Apart<Finished>,
    queue: Apart<Queue>,
    probed: AtomicBool,
}

/// What every offer touches: side by side, so that a thread that fetched the line for one has it for all.
struct Hot {
    tally: AtomicU64,
    waiting: AtomicI64,
}

struct Started {
    /// Count and sum of queue delays.
    delays: AtomicU64,
    delay_min_us: AtomicU64,
    /// Starts out of a queue.
    queued: AtomicU32,
}

struct Finished {
    /// Count and sum of work.
    work: AtomicU64,
    work_min_us: AtomicU64,
    in_flight_max: AtomicU32,
}

struct Queue {
    /// Since when the queue has not been empty; 0: it is.
    since_us: AtomicU64,
    /// How long it was not before.
    passed_us: AtomicU64,
    /// Requests that left it unserved.
    abandoned: AtomicU32,
    /// Count and sum of the times after which callers gave up requests that may be in it still.
    given_up: AtomicU64,
}

/// 22 bits of offers, 21 of first calls that were admitted, 21 of sub-calls that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally(u64);

const FIRST: u32 = 22;
const PASSES: u32 = 43;

impl Tally {
    pub(super) const fn offers(self) -> u32 {
        (self.0 & ((1 << FIRST) - 1)) as u32
    }

    pub(super) const fn admitted(self) -> u32 {
        (self.0 >> FIRST & ((1 << (PASSES - FIRST)) - 1)) as u32
    }

    pub(super) const fn passes(self) -> u32 {
        (self.0 >> PASSES) as u32
    }
}

/// Times in one word: 24 bits of count, 40 of their sum in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times(u64);

const COUNT: u32 = 40;

impl Times {
    fn one(us: u64) -> u64 {
        1 << COUNT | us.min(TIME_US_MAX)
    }

    pub(super) const fn count(self) -> u32 {
        (self.0 >> COUNT) as u32
    }

    pub(super) fn sum_us(self) -> f64 {
        (self.0 & ((1 << COUNT) - 1)) as f64
    }

    /// `None` where there are none.
    pub(super) fn mean_us(self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum_us() / f64::from(self.count()))
    }
}

/// A window's counts, closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) tally: Tally,
    /// Remaining times of first calls, a sample.
    pub(super) remaining: Times,
    pub(super) delays: Times,
    pub(super) delay_min_us: u64,
    /// How long the queue was not empty, and how many starts came out of it meanwhile.
    pub(super) queued_us: u64,
    pub(super) queued_starts: u32,
    pub(super) abandoned: u32,
    /// How long callers waited for what they gave up.
    pub(super) given_up: Times,
    pub(super) work: Times,
    pub(super) work_min_us: u64,
    pub(super) in_flight_max: u32,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            asked: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            hot: Apart(Hot { tally: AtomicU64::new(0), waiting: AtomicI64::new(0) }),
            remaining: Apart(AtomicU64::new(0)),
            started: Apart(Started {
                delays: AtomicU64::new(0),
                delay_min_us: AtomicU64::new(u64::MAX),
                queued: AtomicU32::new(0),
            }),
            finished: Apart(Finished {
                work: AtomicU64::new(0),
                work_min_us: AtomicU64::new(u64::MAX),
                in_flight_max: AtomicU32::new(0),
            }),
            queue: Apart(Queue {
                since_us: AtomicU64::new(0),
                passed_us: AtomicU64::new(0),
                abandoned: AtomicU32::new(0),
                given_up: AtomicU64::new(0),
            }),
            probed: AtomicBool::new(false),
        }
    }

    /// Counts an offer; how many there were before it, and how many requests wait.
    ///
    /// A sub-call counts whatever becomes of it: those that come too late belong to their tasks as well, and leaving
    /// them out lets more tasks in just when there are too many.
    pub(super) fn offered(&self, passes: bool) -> (u32, u64) {
        let before = Tally(self.hot.0.tally.fetch_add(if passes { 1 | 1 << PASSES } else { 1 }, Relaxed));
        (before.offers(), self.waiting())
    }

    /// The offer is admitted; `true` where nobody waited before it.
    pub(super) fn admitted(&self, passes: bool) -> bool {
        if !passes {
            self.hot.0.tally.fetch_add(1 << FIRST, Relaxed);
        }
        self.hot.0.waiting.fetch_add(1, Relaxed) <= 0
    }

    /// One request waits no more; `true` where it was the last.
    pub(super) fn left(&self) -> bool {
        self.hot.0.waiting.fetch_sub(1, Relaxed) <= 1
    }

    /// Requests admitted and not yet started (inferred: answered). A start may overtake its admission for an instant.
    pub(super) fn waiting(&self) -> u64 {
        self.hot.0.waiting.load(Relaxed).max(0) as u64
    }

    /// Puts right a count that leaked: at most `most` requests wait, and at least none.
    pub(super) fn put_right(&self, most: u64) {
        let waiting = self.hot.0.waiting.load(Relaxed);
        let right = waiting.clamp(0, i64::try_from(most).unwrap_or(i64::MAX));
        if right != waiting {
            self.hot.0.waiting.fetch_sub(waiting - right, Relaxed);
        }
    }

    /// A first call came, after so many other offers.
    pub(super) fn asked(&self, priority: Priority, remaining_us: u64, offers: u32) {
        self.asked[usize::from(priority.bucket().number())].fetch_add(1, Relaxed);
        if offers < REMAINING_FIRST || offers.is_multiple_of(REMAINING_EVERY) {
            self.remaining.0.fetch_add(Times::one(remaining_us), Relaxed);
        }
    }

    pub(super) fn reported(&self, priority: Priority, count: u32) {
        self.asked[usize::from(priority.bucket().number())].fetch_add(count.min(REPORTED_MAX), Relaxed);
    }

    pub(super) fn started(&self, queue_delay_us: u64) {
        let started = &self.started.0;
        started.delays.fetch_add(Times::one(queue_delay_us), Relaxed);
        if queue_delay_us < started.delay_min_us.load(Relaxed) {
            started.delay_min_us.fetch_min(queue_delay_us, Relaxed);
        }
        if queue_delay_us >= IDLE_DELAY_US {
            started.queued.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn finished(&self, work_us: u64) {
        let finished = &self.finished.0;
        finished.work.fetch_add(Times::one(work_us), Relaxed);
        if work_us < finished.work_min_us.load(Relaxed) {
            finished.work_min_us.fetch_min(work_us, Relaxed);
        }
    }

    pub(super) fn in_flight(&self, in_flight: u32) {
        let max = &self.finished.0.in_flight_max;
        if in_flight > max.load(Relaxed) {
            max.fetch_max(in_flight, Relaxed);
        }
    }

    pub(super) fn abandoned(&self) {
        self.queue.0.abandoned.fetch_add(1, Relaxed);
    }

    /// A caller gave up after so long; its request still counts as waiting.
    pub(super) fn given_up(&self, waited_us: u64) {
        self.queue.0.given_up.fetch_add(Times::one(waited_us), Relaxed);
    }

    /// So many requests that were given up are not in the service any more.
    pub(super) fn forget(&self, calls: u64) {
        if calls > 0 {
            self.hot.0.waiting.fetch_sub(i64::try_from(calls).unwrap_or(i64::MAX), Relaxed);
        }
    }

    /// The first request began to wait.
    pub(super) fn queue_begins(&self, now_us: u64) {
        self.queue.0.since_us.store(now_us.max(1), Relaxed);
    }

    /// The last waiting request was taken.
    pub(super) fn queue_ends(&self, now_us: u64) {
        let since_us = self.queue.0.since_us.swap(0, Relaxed);
        if since_us != 0 {
            self.queue.0.passed_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
    }

    /// A window ends while requests wait: the span so far belongs to it.
    fn queue_goes_on(&self, now_us: u64) {
        let Queue { since_us: since, passed_us, .. } = &self.queue.0;
        let since_us = since.load(Relaxed);
        if since_us != 0 && since.compare_exchange(since_us, now_us.max(1), Relaxed, Relaxed).is_ok() {
            passed_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
    }

    /// Whether this is the window's one request that may go through in spite of the estimate.
    pub(super) fn probe(&self) -> bool {
        !self.probed.swap(true, Relaxed)
    }

    /// Takes everything counted, leaving zeros; the demand goes into `asked`.
    ///
    /// Threads go on counting meanwhile: a count lands in this window or in the next, never in both or neither.
    pub(super) fn take(&self, asked: &mut [u32], now_us: u64) -> Closed {
        self.queue_goes_on(now_us);
        for (into, count) in asked.iter_mut().zip(&self.asked) {
            *into = if count.load(Relaxed) == 0 { 0 } else { count.swap(0, Relaxed) };
        }
        self.probed.store(false, Relaxed);
        let Self { hot, remaining, started: Apart(started), finished: Apart(finished), queue, .. } = self;
        Closed {
            tally: Tally(hot.0.tally.swap(0, Relaxed)),
            remaining: Times(remaining.0.swap(0, Relaxed)),
            delays: Times(started.delays.swap(0, Relaxed)),
            delay_min_us: started.delay_min_us.swap(u64::MAX, Relaxed),
            queued_us: queue.0.passed_us.swap(0, Relaxed),
            queued_starts: started.queued.swap(0, Relaxed),
            abandoned: queue.0.abandoned.swap(0, Relaxed),
            given_up: Times(queue.0.given_up.swap(0, Relaxed)),
            work: Times(finished.work.swap(0, Relaxed)),
            work_min_us: finished.work_min_us.swap(u64::MAX, Relaxed),
            in_flight_max: finished.in_flight_max.swap(0, Relaxed),
        }
    }
}
