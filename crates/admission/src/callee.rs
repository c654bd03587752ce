//! A caller's view of one service: sheds calls that its level dooms, and remembers them as demand to report.
//!
//! The view never sticks: a level not heard of for a while rises by itself, and now and then one doomed call goes
//! through as a probe. Absent: which endpoint to call.

use crate::advert::Advert;
use crate::priority::{BUCKETS, Bucket, LEVEL_ALL, Priority};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Buckets of shed calls reported on one call at most; the rest goes with later calls.
pub const SHED_PAIRS_MAX: usize = 16;
/// The level is the mean of those heard in this window and the one before: endpoints differ, and a call may go to any.
/// Not the most lenient: where calls go to the endpoint with the fewest in flight, those that reject are the first choice,
/// and one lenient endpoint would have all that the others must reject sent to them.
const WINDOW_US: u64 = 100_000;
/// A level this old begins to rise…
const STALE_US: u64 = 300_000;
/// …and after so much longer admits all.
const RISE_US: u64 = 1_000_000;
/// One doomed call in this time goes through where nothing was heard.
const PROBE_US: u64 = 50_000;
/// Words of the bitmap of buckets with shed calls.
const WORDS: usize = BUCKETS / 64;

/// A caller's view of one service. `Sync`, of fixed size (about 5 KB).
pub struct Callee {
    /// Number of the running window; count and sum of the levels heard in it, packed, and in the one before.
    window: AtomicU64,
    current: AtomicU64,
    previous: AtomicU64,
    heard_us: AtomicU64,
    probed_us: AtomicU64,
    shed: Box<[AtomicU32]>,
    marked: [AtomicU64; WORDS],
    /// Word at which the next report begins, so that none starves.
    turn: AtomicU32,
}

/// Calls shed towards one service, by bucket of priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedReport {
    pairs: [(Bucket, u32); SHED_PAIRS_MAX],
    len: usize,
}

impl ShedReport {
    /// A report of nothing.
    pub const EMPTY: Self = Self { pairs: [(Priority::FIRST.bucket(), 0); SHED_PAIRS_MAX], len: 0 };

    /// Adds a pair; `false` when the report is full.
    pub fn push(&mut self, bucket: Bucket, count: u32) -> bool {
        let Some(pair) = self.pairs.get_mut(self.len) else { return false };
        *pair = (bucket, count);
        self.len += 1;
        true
    }

    /// Bucket and count, each bucket at most once where [`Callee::take_shed`] made it.
    pub fn pairs(&self) -> &[(Bucket, u32)] {
        &self.pairs[..self.len]
    }

    /// Whether nothing was shed.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls in all.
    pub fn total(&self) -> u64 {
        self.pairs().iter().map(|&(_, count)| u64::from(count)).sum()
    }
}

/// One level in a packed word: 24 bits of count, 40 of the sum.
const COUNT: u32 = 40;

fn mean(packed: [u64; 2]) -> Option<u32> {
    let count: u64 = packed.iter().map(|word| word >> COUNT).sum();
    let sum: u64 = packed.iter().map(|word| word & ((1 << COUNT) - 1)).sum();
    sum.checked_div(count).map(|mean| mean.min(u64::from(LEVEL_ALL)) as u32)
}

impl Callee {
    /// A view that has heard nothing and sheds nothing.
    pub fn new() -> Self {
        Self {
            window: AtomicU64::new(0),
            current: AtomicU64::new(0),
            previous: AtomicU64::new(0),
            heard_us: AtomicU64::new(0),
            probed_us: AtomicU64::new(0),
            shed: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            marked: std::array::from_fn(|_| AtomicU64::new(0)),
            turn: AtomicU32::new(0),
        }
    }

    /// An endpoint of the service answered, with this advert.
    pub fn heard(&self, advert: Advert, now_us: u64) {
        let level = u64::from(advert.level.min(LEVEL_ALL));
        let window = now_us / WINDOW_US;
        let before = self.window.load(Relaxed);
        if before != window && self.window.compare_exchange(before, window, Relaxed, Relaxed).is_ok() {
            let levels = self.current.swap(0, Relaxed);
            self.previous.store(if window == before + 1 { levels } else { 0 }, Relaxed);
        }
        self.current.fetch_add(1 << COUNT | level, Relaxed);
        self.heard_us.store(now_us, Relaxed);
    }

    /// The level as this caller sees it now.
    pub fn level(&self, now_us: u64) -> u32 {
        let heard = mean([self.current.load(Relaxed), self.previous.load(Relaxed)]);
        let level = heard.unwrap_or(LEVEL_ALL);
        // A clock that went back makes the last word seem to lie ahead: it is taken as stale altogether.
        let age_us = now_us.checked_sub(self.heard_us.load(Relaxed)).unwrap_or(u64::MAX);
        let risen_us = age_us.saturating_sub(STALE_US).min(RISE_US);
        level + (u64::from(LEVEL_ALL - level) * risen_us / RISE_US) as u32
    }

    /// Whether to send a first call of that priority. If not: reject the task here and call [`Callee::shed`].
    ///
    /// Sub-calls of a task that the service has admitted already are sent without asking.
    pub fn allows(&self, priority: Priority, now_us: u64) -> bool {
        priority.within(self.level(now_us)) || self.probes(now_us)
    }

    /// A call was not sent: it is demand all the same.
    pub fn shed(&self, priority: Priority) {
        let number = usize::from(priority.bucket().number());
        self.shed[number].fetch_add(1, Relaxed);
        let bit = 1 << (number % 64);
        if self.marked[number / 64].load(Relaxed) & bit == 0 {
            self.marked[number / 64].fetch_or(bit, Relaxed);
        }
    }

    /// What was shed since it was last taken, up to [`SHED_PAIRS_MAX`] buckets, to go with the next call.
    pub fn take_shed(&self) -> ShedReport {
        let mut report = ShedReport::EMPTY;
        let turn = self.turn.load(Relaxed) as usize;
        for at in (turn..turn + WORDS).map(|at| at % WORDS) {
            let word = &self.marked[at];
            let mut bits = word.load(Relaxed);
            while bits != 0 {
                if report.len == SHED_PAIRS_MAX {
                    self.turn.store(at as u32, Relaxed);
                    return report;
                }
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                word.fetch_and(!(1 << bit), Relaxed);
                let number = at * 64 + bit as usize;
                let count = self.shed[number].swap(0, Relaxed);
                let bucket = Bucket::new(number as u16).expect("the bitmap has BUCKETS bits");
                if count > 0 {
                    report.push(bucket, count);
                }
            }
        }
        report
    }

    fn probes(&self, now_us: u64) -> bool {
        let quiet_us = now_us.abs_diff(self.heard_us.load(Relaxed));
        let probed_us = self.probed_us.load(Relaxed);
        quiet_us >= PROBE_US
            && now_us.abs_diff(probed_us) >= PROBE_US
            && self.probed_us.compare_exchange(probed_us, now_us, Relaxed, Relaxed).is_ok()
    }
}

impl Default for Callee {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
