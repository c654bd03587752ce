//! The counters of the running window: each thread has a shard of its own, added up when the window closes, because a
//! cache line that another core wrote costs as much as the whole decision.
//!
//! In between, an offer wants the number of waiting requests: a thread knows its own part, and the others' as it was
//! 100 µs ago at most. Absent: what the counts mean (`controller`).

mod shard;

use shard::total;
pub(super) use shard::{IDLE_DELAY_US, Shard, Times};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A window is closed early soon after this many offers, long before a packed count runs over.
pub(super) const OFFERS_MAX: u32 = 1_000_000;

/// A thread looks at what the others let in and saw leave when so much time has passed since it last did.
const OTHERS_US: u64 = 100;
/// A thread looks at how many offers the others had once in so many parts of what is to come.
const LOOKS: u32 = 64;
/// Where more wait than this, the last of them does not leave before the others are looked at again.
const LONG_QUEUE: i64 = 256;
/// Most shards of a window.
const SHARDS_MAX: usize = 16;
/// Readings of all shards of which two must be the same for a count to be corrected by them.
const READINGS_MAX: usize = 3;

/// Keeps what it holds on cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// Counts since the window began.
pub(super) struct Window {
    /// A power of two; each is made when its thread first counts, so that services that nobody calls cost little.
    shards: Box<[OnceLock<Box<Apart<Shard>>>]>,
    /// `None` where nobody asks how long the queue stood.
    queue: Option<Apart<Queue>>,
    probed: AtomicBool,
}

/// The queue of all threads; written when it begins and when it ends.
struct Queue {
    /// Since when it has not been empty; 0: it is.
    since_us: AtomicU64,
    /// How long it was not before.
    passed_us: AtomicU64,
}

thread_local! {
    /// Threads are numbered as they come, so that those of one pool fall on different shards.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed)
    };
}

/// A window's counts, closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// All that came.
    pub(super) offers: u32,
    /// First calls that were admitted.
    pub(super) admitted: u32,
    /// Sub-calls that came.
    pub(super) passes: u32,
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

impl Default for Closed {
    fn default() -> Self {
        Self {
            offers: 0,
            admitted: 0,
            passes: 0,
            remaining: Times(0),
            delays: Times(0),
            delay_min_us: u64::MAX,
            queued_us: 0,
            queued_starts: 0,
            abandoned: 0,
            given_up: Times(0),
            work: Times(0),
            work_min_us: u64::MAX,
            in_flight_max: 0,
        }
    }
}

impl Window {
    /// For so many threads; `times_queue`: it is wanted how long requests wait without a gap.
    pub(super) fn new(threads: usize, times_queue: bool) -> Self {
        let shards = threads.clamp(1, SHARDS_MAX).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| OnceLock::new()).collect(),
            queue: times_queue.then(|| Apart(Queue { since_us: AtomicU64::new(0), passed_us: AtomicU64::new(0) })),
            probed: AtomicBool::new(false),
        }
    }

    /// Where this thread counts.
    pub(super) fn here(&self) -> &Shard {
        let number = THREAD.with(|number| *number) & (self.shards.len() - 1);
        &self.shards[number].get_or_init(|| Box::new(Apart(Shard::new(number)))).0
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(|shard| Some(&shard.get()?.0))
    }

    /// Whether all threads had so many offers, when this one had `offers` before its last. The others are asked only now
    /// and then, and only where this one has had its share.
    pub(super) fn has_had(&self, all: u32, offers: u32) -> bool {
        let threads = self.shards.len() as u32;
        if threads == 1 {
            return offers >= all;
        }
        let step = (all / LOOKS).max(1).next_power_of_two();
        let had = || self.shards().map(Shard::offers).sum::<u32>();
        offers & (step - 1) == 0 && offers >= all / threads && had() > all
    }

    /// An offer on this thread is admitted. A queue begins where nobody waited before.
    pub(super) fn admitted(&self, here: &Shard, passes: bool, now_us: u64) {
        let Some(Apart(queue)) = &self.queue else { return here.admitted(passes) };
        let begins = queue.since_us.load(Relaxed) == 0 && self.sum() <= 0;
        here.admitted(passes);
        if begins {
            // Where another thread was first, the queue began with its request.
            let _ = queue.since_us.compare_exchange(0, now_us.max(1), Relaxed, Relaxed);
        }
    }

    /// One request waits no more, as this thread found.
    pub(super) fn left(&self, here: &Shard, now_us: u64) {
        here.left(1);
        if self.queue.is_some() && self.seen_from(here, now_us) < LONG_QUEUE && self.sum() <= 0 {
            self.queue_ends(now_us);
        }
    }

    /// Requests waiting as this thread sees them.
    pub(super) fn waiting_from(&self, here: &Shard, now_us: u64) -> u64 {
        self.seen_from(here, now_us).max(0) as u64
    }

    fn seen_from(&self, here: &Shard, now_us: u64) -> i64 {
        if self.shards.len() > 1 && now_us.abs_diff(here.others_us.load(Relaxed)) >= OTHERS_US {
            here.others.store(self.sum() - here.waiting(), Relaxed);
            here.others_us.store(now_us, Relaxed);
        }
        total([here.waiting(), here.others.load(Relaxed)])
    }

    /// The sum where two readings of all parts in a row are the same.
    fn settled(&self) -> Option<i64> {
        let mut before = self.parts();
        for _ in 1..READINGS_MAX {
            let parts = self.parts();
            if parts == before {
                return Some(total(parts));
            }
            before = parts;
        }
        None
    }

    fn parts(&self) -> [i64; SHARDS_MAX] {
        let mut parts = [0; SHARDS_MAX];
        parts.iter_mut().zip(self.shards()).for_each(|(part, shard)| *part = shard.waiting());
        parts
    }

    fn sum(&self) -> i64 {
        total(self.shards().map(Shard::waiting))
    }

    /// Requests admitted and not yet started (inferred: answered). A start may overtake its admission for an instant.
    pub(super) fn waiting(&self) -> u64 {
        self.sum().max(0) as u64
    }

    /// Puts right a count that leaked: at most `most` requests wait, and at least none. Where threads count meanwhile it is
    /// left to the next window: parts read one after the other need not fit together.
    pub(super) fn put_right(&self, most: u64) {
        let Some(waiting) = self.settled() else { return };
        let right = waiting.clamp(0, i64::try_from(most).unwrap_or(i64::MAX));
        if right != waiting {
            self.here().left(waiting - right);
        }
    }

    /// So many requests that were given up are not in the service any more.
    pub(super) fn forget(&self, calls: u64) {
        if calls > 0 {
            self.here().left(i64::try_from(calls).unwrap_or(i64::MAX));
        }
    }

    /// The last waiting request was taken.
    pub(super) fn queue_ends(&self, now_us: u64) {
        let Some(Apart(queue)) = &self.queue else { return };
        let since_us = queue.since_us.swap(0, Relaxed);
        if since_us != 0 {
            queue.passed_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
    }

    /// How long the queue stood in the window that ends. While requests wait, the span so far belongs to it.
    fn take_queued_us(&self, now_us: u64) -> u64 {
        let Some(Apart(Queue { since_us: since, passed_us })) = &self.queue else { return 0 };
        if self.sum() <= 0 {
            // It ended and no thread saw it; nobody knows when.
            since.store(0, Relaxed);
        }
        let since_us = since.load(Relaxed);
        if since_us != 0 && since.compare_exchange(since_us, now_us.max(1), Relaxed, Relaxed).is_ok() {
            passed_us.fetch_add(now_us.saturating_sub(since_us), Relaxed);
        }
        passed_us.swap(0, Relaxed)
    }

    /// Whether this is the window's one request that may go through in spite of the estimate.
    pub(super) fn probe(&self) -> bool {
        !self.probed.load(Relaxed) && !self.probed.swap(true, Relaxed)
    }

    /// Takes everything counted, leaving zeros; the demand goes into `asked`.
    ///
    /// Threads go on counting meanwhile: a count lands in this window or in the next, never in both or neither.
    pub(super) fn take(&self, asked: &mut [u32], now_us: u64) -> Closed {
        self.probed.store(false, Relaxed);
        asked.fill(0);
        let mut closed = Closed { queued_us: self.take_queued_us(now_us), ..Closed::default() };
        self.shards().for_each(|shard| shard.take(&mut closed, asked));
        closed
    }
}
