//! What one thread counts of a window, few words that are written together. Absent: the queue of all threads (`window`).

use super::Closed;
use crate::priority::{BUCKETS, Priority};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Queue delays below this mean that work found the queue empty.
pub(in crate::gate) const IDLE_DELAY_US: u64 = 1_000;
/// Single times are cut to ten seconds in sums.
const TIME_US_MAX: u64 = 10_000_000;
/// Shed calls of one priority believed of one report.
const REPORTED_MAX: u32 = 100_000;
/// The first offers of a window tell their remaining time, and then one of sixteen.
const REMAINING_FIRST: u32 = 64;
const REMAINING_EVERY: u32 = 16;

/// What one thread counts (several, where there are more threads than shards).
pub(in crate::gate) struct Shard {
    offers: AtomicU64,
    /// Offers of all windows before, so that what is spread over offers goes on evenly.
    offers_before: AtomicU32,
    held: AtomicI64,
    /// [`Shard::waiting`] of all other shards, as it was at `others_us`.
    pub(super) others: AtomicI64,
    pub(super) others_us: AtomicU64,
    remaining: AtomicU64,
    /// Count and sum of queue delays.
    delays: AtomicU64,
    delay_min_us: AtomicU64,
    /// Starts out of a queue.
    queued: AtomicU32,
    /// Count and sum of work.
    work: AtomicU64,
    work_min_us: AtomicU64,
    in_flight_max: AtomicU32,
    /// Requests that left the queue unserved.
    abandoned: AtomicU32,
    /// Count and sum of the times after which callers gave up requests that may be in it still.
    given_up: AtomicU64,
    /// Tasks asked for by bucket: first calls that came, and those that callers shed.
    asked: [AtomicU32; BUCKETS],
}

/// Offers, and of them sub-calls: 32 bits each.
const PASSES: u32 = 32;

/// Requests that were let in here, less those that left here (below zero where others let them in), in 40 bits; in the 24
/// above them the first calls that were admitted in this window: an admission adds to both at once.
#[derive(Clone, Copy)]
struct Held(i64);

const ADMITTED: u32 = 40;

impl Held {
    const fn waiting(self) -> i64 {
        self.0 << (64 - ADMITTED) >> (64 - ADMITTED)
    }

    const fn admitted(self) -> u32 {
        (self.0.wrapping_sub(self.waiting()) >> ADMITTED) as u32 & 0xff_ffff
    }
}

/// What waits in all, from its parts: each may have run over, where for years one thread let in and another served.
pub(super) fn total(parts: impl IntoIterator<Item = i64>) -> i64 {
    Held(parts.into_iter().fold(0, i64::wrapping_add)).waiting()
}

/// Times in one word: 24 bits of count, 40 of their sum in microseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct Times(pub(super) u64);

const COUNT: u32 = 40;

impl Times {
    fn one(us: u64) -> u64 {
        1 << COUNT | us.min(TIME_US_MAX)
    }

    pub(in crate::gate) const fn count(self) -> u32 {
        (self.0 >> COUNT) as u32
    }

    pub(in crate::gate) fn sum_us(self) -> f64 {
        (self.0 & ((1 << COUNT) - 1)) as f64
    }

    /// `None` where there are none.
    pub(in crate::gate) fn mean_us(self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum_us() / f64::from(self.count()))
    }
}

impl Shard {
    /// Number `number`, below 16.
    pub(super) fn new(number: usize) -> Self {
        Self {
            offers: AtomicU64::new(0),
            // Far apart, so that shards do not spread in step.
            offers_before: AtomicU32::new((number as u32) << 28),
            held: AtomicI64::new(0),
            others: AtomicI64::new(0),
            others_us: AtomicU64::new(0),
            remaining: AtomicU64::new(0),
            delays: AtomicU64::new(0),
            delay_min_us: AtomicU64::new(u64::MAX),
            queued: AtomicU32::new(0),
            work: AtomicU64::new(0),
            work_min_us: AtomicU64::new(u64::MAX),
            in_flight_max: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            given_up: AtomicU64::new(0),
            asked: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Counts an offer; how many there were before it.
    ///
    /// A sub-call counts whatever becomes of it: those that come too late belong to their tasks as well, and leaving
    /// them out lets more tasks in just when there are too many.
    pub(in crate::gate) fn offered(&self, passes: bool) -> u32 {
        self.offers.fetch_add(1 | u64::from(passes) << PASSES, Relaxed) as u32
    }

    /// The number of an offer before which the window had so many, in a sequence that goes on over windows.
    pub(in crate::gate) fn turn(&self, offers: u32) -> u32 {
        self.offers_before.load(Relaxed).wrapping_add(offers)
    }

    /// Offers so far.
    pub(super) fn offers(&self) -> u32 {
        self.offers.load(Relaxed) as u32
    }

    /// A first call came, after so many other offers.
    pub(in crate::gate) fn asked(&self, priority: Priority, remaining_us: u64, offers: u32) {
        self.count(priority, 1);
        if offers < REMAINING_FIRST || offers.is_multiple_of(REMAINING_EVERY) {
            self.remaining.fetch_add(Times::one(remaining_us), Relaxed);
        }
    }

    fn count(&self, priority: Priority, tasks: u32) {
        self.asked[usize::from(priority.bucket().number())].fetch_add(tasks, Relaxed);
    }

    pub(in crate::gate) fn reported(&self, priority: Priority, count: u32) {
        self.count(priority, count.min(REPORTED_MAX));
    }

    pub(super) fn admitted(&self, passes: bool) {
        self.held.fetch_add(1 | i64::from(!passes) << ADMITTED, SeqCst);
    }

    /// So many requests wait no more.
    pub(super) fn left(&self, requests: i64) {
        self.held.fetch_sub(requests, SeqCst);
    }

    /// Requests that were let in here, less those that left here. In one order for all threads, so that of two that take the
    /// last two requests one sees that none is left.
    pub(super) fn waiting(&self) -> i64 {
        Held(self.held.load(SeqCst)).waiting()
    }

    pub(in crate::gate) fn started(&self, queue_delay_us: u64) {
        self.delays.fetch_add(Times::one(queue_delay_us), Relaxed);
        if queue_delay_us < self.delay_min_us.load(Relaxed) {
            self.delay_min_us.fetch_min(queue_delay_us, Relaxed);
        }
        if queue_delay_us >= IDLE_DELAY_US {
            self.queued.fetch_add(1, Relaxed);
        }
    }

    pub(in crate::gate) fn finished(&self, work_us: u64) {
        self.work.fetch_add(Times::one(work_us), Relaxed);
        if work_us < self.work_min_us.load(Relaxed) {
            self.work_min_us.fetch_min(work_us, Relaxed);
        }
    }

    pub(in crate::gate) fn in_flight(&self, in_flight: u32) {
        if in_flight > self.in_flight_max.load(Relaxed) {
            self.in_flight_max.fetch_max(in_flight, Relaxed);
        }
    }

    pub(in crate::gate) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    /// A caller gave up after so long; its request still counts as waiting.
    pub(in crate::gate) fn given_up(&self, waited_us: u64) {
        self.given_up.fetch_add(Times::one(waited_us), Relaxed);
    }

    /// Adds what was counted to `closed` and `asked`, leaving zeros but for what waits.
    pub(super) fn take(&self, closed: &mut Closed, asked: &mut [u32]) {
        for (into, count) in asked.iter_mut().zip(&self.asked) {
            if count.load(Relaxed) > 0 {
                *into += count.swap(0, Relaxed);
            }
        }
        let offers = self.offers.swap(0, Relaxed);
        self.offers_before.fetch_add(offers as u32, Relaxed);
        closed.offers += offers as u32;
        closed.passes += (offers >> PASSES) as u32;
        let admitted = Held(self.held.load(Relaxed)).admitted();
        self.held.fetch_sub(i64::from(admitted) << ADMITTED, Relaxed);
        closed.admitted += admitted;
        for (into, times) in [
            (&mut closed.remaining, &self.remaining),
            (&mut closed.delays, &self.delays),
            (&mut closed.given_up, &self.given_up),
            (&mut closed.work, &self.work),
        ] {
            into.0 += times.swap(0, Relaxed);
        }
        closed.delay_min_us = closed.delay_min_us.min(self.delay_min_us.swap(u64::MAX, Relaxed));
        closed.work_min_us = closed.work_min_us.min(self.work_min_us.swap(u64::MAX, Relaxed));
        closed.in_flight_max = closed.in_flight_max.max(self.in_flight_max.swap(0, Relaxed));
        closed.queued_starts += self.queued.swap(0, Relaxed);
        closed.abandoned += self.abandoned.swap(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_was_admitted_share_a_word_also_below_zero() {
        let (lets_in, serves) = (Shard::new(0), Shard::new(1));
        for at in 0..1_000 {
            lets_in.admitted(at % 4 == 0);
            serves.left(1);
        }
        serves.admitted(false);
        let mut closed = Closed::default();
        lets_in.take(&mut closed, &mut []);
        serves.take(&mut closed, &mut []);
        assert_eq!((closed.admitted, lets_in.waiting(), serves.waiting()), (751, 1_000, -999));
        assert_eq!(total([lets_in.waiting(), serves.waiting()]), 1);
        assert_eq!(total([(1 << (ADMITTED - 1)) - 1, 3, -(1 << (ADMITTED - 1)), -1]), 1, "parts that ran over");
        lets_in.left(1_001);
        let mut closed = Closed::default();
        lets_in.take(&mut closed, &mut []);
        assert_eq!((closed.admitted, lets_in.waiting()), (0, -1));
    }
}
