//! The counters of the running window, all atomics. Absent: what they mean (`controller`).

use crate::priority::{BUCKETS, Priority};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Queue delays below this mean that work found the queue empty.
pub(super) const IDLE_DELAY_US: u64 = 1_000;
/// Times beyond this (ten minutes) are cut to it, so that a nonsense measure cannot overflow a sum.
const REMAINING_US_MAX: u64 = 600_000_000;
/// Shed calls of one priority believed of one report.
const REPORTED_MAX: u32 = 100_000;

/// Counts since the window began.
pub(super) struct Window {
    /// Tasks asked for by bucket: first calls that came, and those that callers shed.
    asked: Box<[AtomicU32]>,
    offers: AtomicU32,
    admitted: AtomicU32,
    passes: AtomicU32,
    remaining_sum_us: AtomicU64,
    remaining_count: AtomicU32,
    starts: AtomicU32,
    delay_sum_us: AtomicU64,
    delay_min_us: AtomicU64,
    /// Since when the queue has not been empty (0: it is), how long it was not before, and starts out of it.
    queue_since_us: AtomicU64,
    queued_us: AtomicU64,
    queued_starts: AtomicU32,
    completions: AtomicU32,
    work_sum_us: AtomicU64,
    work_min_us: AtomicU64,
    in_flight_max: AtomicU32,
    probed: AtomicBool,
}

/// A window's counts, closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) offers: u32,
    pub(super) admitted: u32,
    pub(super) passes: u32,
    /// Mean remaining time of first calls, if any.
    pub(super) remaining_us: Option<u64>,
    pub(super) starts: u32,
    pub(super) delay_sum_us: u64,
    pub(super) delay_min_us: u64,
    /// How long the queue was not empty, and how many starts came out of it meanwhile.
    pub(super) queued_us: u64,
    pub(super) queued_starts: u32,
    pub(super) completions: u32,
    pub(super) work_sum_us: u64,
    pub(super) work_min_us: u64,
    pub(super) in_flight_max: u32,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            asked: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            offers: AtomicU32::new(0),
            admitted: AtomicU32::new(0),
            passes: AtomicU32::new(0),
            remaining_sum_us: AtomicU64::new(0),
            remaining_count: AtomicU32::new(0),
            starts: AtomicU32::new(0),
            delay_sum_us: AtomicU64::new(0),
            delay_min_us: AtomicU64::new(u64::MAX),
            queue_since_us: AtomicU64::new(0),
            queued_us: AtomicU64::new(0),
            queued_starts: AtomicU32::new(0),
            completions: AtomicU32::new(0),
            work_sum_us: AtomicU64::new(0),
            work_min_us: AtomicU64::new(u64::MAX),
            in_flight_max: AtomicU32::new(0),
            probed: AtomicBool::new(false),
        }
    }

    /// Counts an offer; how many there were before it.
    pub(super) fn offered(&self) -> u32 {
        self.offers.fetch_add(1, Relaxed)
    }

    pub(super) fn asked(&self, priority: Priority, remaining_us: u64) {
        self.asked[usize::from(priority.bucket().number())].fetch_add(1, Relaxed);
        self.remaining_sum_us.fetch_add(remaining_us.min(REMAINING_US_MAX), Relaxed);
        self.remaining_count.fetch_add(1, Relaxed);
    }

    pub(super) fn reported(&self, priority: Priority, count: u32) {
        self.asked[usize::from(priority.bucket().number())].fetch_add(count.min(REPORTED_MAX), Relaxed);
    }

    pub(super) fn admitted(&self) {
        self.admitted.fetch_add(1, Relaxed);
    }

    pub(super) fn passed(&self) {
        self.passes.fetch_add(1, Relaxed);
    }

    pub(super) fn started(&self, queue_delay_us: u64) {
        let queue_delay_us = queue_delay_us.min(REMAINING_US_MAX);
        self.starts.fetch_add(1, Relaxed);
        self.delay_sum_us.fetch_add(queue_delay_us, Relaxed);
        if queue_delay_us < self.delay_min_us.load(Relaxed) {
            self.delay_min_us.fetch_min(queue_delay_us, Relaxed);
        }
        if queue_delay_us >= IDLE_DELAY_US {
            self.queued_starts.fetch_add(1, Relaxed);
        }
    }

    /// The first request began to wait.
    pub(super) fn queue_begins(&self, now_us: u64) {
        self.queue_since_us.store(now_us.max(1), Relaxed);
    }

    /// The last waiting request was taken.
    pub(super) fn queue_ends(&self, now_us: u64) {
        let since_us = self.queue_since_us.swap(0, Relaxed);
        if since_us != 0 {
            self.queued_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
    }

    /// A window ends while requests wait: the span so far belongs to it.
    fn queue_goes_on(&self, now_us: u64) {
        let since_us = self.queue_since_us.load(Relaxed);
        if since_us != 0 && self.queue_since_us.compare_exchange(since_us, now_us, Relaxed, Relaxed).is_ok() {
            self.queued_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
    }

    pub(super) fn finished(&self, work_us: u64) {
        self.completions.fetch_add(1, Relaxed);
        self.work_sum_us.fetch_add(work_us.min(REMAINING_US_MAX), Relaxed);
        if work_us < self.work_min_us.load(Relaxed) {
            self.work_min_us.fetch_min(work_us, Relaxed);
        }
    }

    pub(super) fn in_flight(&self, in_flight: u32) {
        if in_flight > self.in_flight_max.load(Relaxed) {
            self.in_flight_max.fetch_max(in_flight, Relaxed);
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
        let remaining_count = u64::from(self.remaining_count.swap(0, Relaxed));
        let remaining_sum_us = self.remaining_sum_us.swap(0, Relaxed);
        Closed {
            offers: self.offers.swap(0, Relaxed),
            admitted: self.admitted.swap(0, Relaxed),
            passes: self.passes.swap(0, Relaxed),
            remaining_us: remaining_sum_us.checked_div(remaining_count),
            starts: self.starts.swap(0, Relaxed),
            delay_sum_us: self.delay_sum_us.swap(0, Relaxed),
            delay_min_us: self.delay_min_us.swap(u64::MAX, Relaxed),
            queued_us: self.queued_us.swap(0, Relaxed),
            queued_starts: self.queued_starts.swap(0, Relaxed),
            completions: self.completions.swap(0, Relaxed),
            work_sum_us: self.work_sum_us.swap(0, Relaxed),
            work_min_us: self.work_min_us.swap(u64::MAX, Relaxed),
            in_flight_max: self.in_flight_max.swap(0, Relaxed),
        }
    }
}
