//! A caller's view of one service: sheds calls that its level dooms, and remembers them as demand to report.
//!
//! The view never sticks: a level not heard of for a while rises by itself, and now and then one doomed call goes
//! through as a probe. Absent: which endpoint to call.

use crate::advert::Advert;
use crate::priority::{BUCKETS, Bucket, LEVEL_ALL, Priority};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Buckets of shed calls reported on one call at most; the rest goes with later calls.
pub const SHED_PAIRS_MAX: usize = 16;
/// The most lenient level heard in this time is used: endpoints differ, and a call may go to any.
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
    /// Number of the window and the greatest level heard in it, packed; and the one before.
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

const fn pack(window: u64, level: u32) -> u64 {
    (window << 20) | level as u64
}

const fn window_of(packed: u64) -> u64 {
    packed >> 20
}

const fn level_of(packed: u64) -> u32 {
    (packed & 0xf_ffff) as u32
}

impl Callee {
    /// A view that has heard nothing and sheds nothing.
    pub fn new() -> Self {
        Self {
            current: AtomicU64::new(pack(0, LEVEL_ALL)),
            previous: AtomicU64::new(pack(0, LEVEL_ALL)),
            heard_us: AtomicU64::new(0),
            probed_us: AtomicU64::new(0),
            shed: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            marked: std::array::from_fn(|_| AtomicU64::new(0)),
            turn: AtomicU32::new(0),
        }
    }

    /// An endpoint of the service answered, with this advert.
    pub fn heard(&self, advert: Advert, now_us: u64) {
        let level = advert.level.min(LEVEL_ALL);
        let window = now_us / WINDOW_US;
        let before = self.current.load(Relaxed);
        if window_of(before) == window {
            self.current.fetch_max(pack(window, level), Relaxed);
        } else if self.current.compare_exchange(before, pack(window, level), Relaxed, Relaxed).is_ok() {
            self.previous.store(before, Relaxed);
        }
        self.heard_us.store(now_us, Relaxed);
    }

    /// The level as this caller sees it now.
    pub fn level(&self, now_us: u64) -> u32 {
        let window = now_us / WINDOW_US;
        let current = self.current.load(Relaxed);
        let previous = self.previous.load(Relaxed);
        let recent = window_of(previous) + 1 == window_of(current) && window_of(current) == window;
        let level = if recent { level_of(current).max(level_of(previous)) } else { level_of(current) };
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
