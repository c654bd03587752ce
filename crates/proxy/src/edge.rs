//! Golden signals of one edge (caller, service, instance) as one worker counts them.
//!
//! Each cell has one writer, its worker, so that counting is a plain load and store; the reporter only reads.
//! A restart of the proxy starts at zero. No rates and no quantiles here: those are the reader's.

use crate::carried::Carried;
use model::histogram::bucket_of;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Buckets kept in one allocation.
const CHUNK: usize = 32;
/// Allocations that cover every bucket of `model::histogram`.
const CHUNKS: usize = 23;

thread_local! {
    /// Errors that this worker counted, on all its edges: what bursts are noticed by.
    static ERRORS: Arc<AtomicU64> = Arc::default();
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, or given up by the caller.
    Done,
    /// 5xx, broken connection or timeout.
    Error,
    /// Fast rejection.
    Reject,
}

/// Whose numbers these are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Calling service, `outside` or `other`.
    pub caller: Arc<str>,
    /// Called service; empty when no route matched.
    pub service: Arc<str>,
    /// Instance; empty when the proxy itself answered.
    pub instance: Arc<str>,
}

/// Counts by bucket of `model::histogram`, in memory as far as used.
#[derive(Debug, Default)]
struct Buckets([OnceLock<Box<[AtomicU64; CHUNK]>>; CHUNKS]);

impl Buckets {
    fn add(&self, us: u64) {
        let bucket = bucket_of(us);
        let chunk = self.0[bucket / CHUNK].get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
        add(&chunk[bucket % CHUNK], 1);
    }

    /// The used buckets and their counts.
    fn used(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?))).flat_map(|(index, chunk)| {
            (index * CHUNK..).zip(chunk.iter().map(|cell| cell.load(Relaxed))).filter(|(_, count)| *count > 0)
        })
    }
}

/// The counters.
#[derive(Debug)]
pub struct Edge {
    /// Whose.
    pub key: EdgeKey,
    /// Errors on all edges of the same worker.
    pub worker_errors: Arc<AtomicU64>,
    /// What its worker moves to and from the instance's datacenter.
    pub carried: Option<Arc<Carried>>,
    started: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    rejects: AtomicU64,
    latency_us_sum: AtomicU64,
    retries: AtomicU64,
    queue_us_sum: AtomicU64,
    back_us_sum: AtomicU64,
    latency: Buckets,
    back: Buckets,
}

/// What the counters said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Sent to the instance.
    pub started: u64,
    /// Ended.
    pub requests: u64,
    /// Ended badly.
    pub errors: u64,
    /// Rejected fast; in `errors` too.
    pub rejects: u64,
    /// Sum of latencies.
    pub latency_us_sum: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Sum of the waits for a place at the instance.
    pub queue_us_sum: u64,
    /// Sum of the times from then until the head of the answer.
    pub back_us_sum: u64,
}

fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Edge {
    /// All zero.
    pub fn new(key: EdgeKey, carried: Option<Arc<Carried>>) -> Self {
        Self {
            key,
            carried,
            started: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            rejects: AtomicU64::new(0),
            latency_us_sum: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            queue_us_sum: AtomicU64::new(0),
            back_us_sum: AtomicU64::new(0),
            latency: Buckets::default(),
            back: Buckets::default(),
            worker_errors: ERRORS.with(Arc::clone),
        }
    }

    /// The first attempt has its place at the instance, after this wait.
    pub fn waited(&self, us: u64) {
        add(&self.queue_us_sum, us);
    }

    /// A further attempt begins.
    pub fn again(&self) {
        add(&self.retries, 1);
    }

    /// The head of the instance's answer is there.
    pub fn answered(&self, back_us: u64) {
        add(&self.back_us_sum, back_us);
        self.back.add(back_us);
    }

    /// A request begins.
    pub fn start(&self) {
        add(&self.started, 1);
    }

    /// A request ended.
    pub fn end(&self, outcome: Outcome, latency_us: u64) {
        if outcome != Outcome::Done {
            add(&self.errors, 1);
            add(&self.worker_errors, 1);
        }
        if outcome == Outcome::Reject {
            add(&self.rejects, 1);
        }
        add(&self.latency_us_sum, latency_us);
        self.latency.add(latency_us);
        // Last, so that a reader that sees a request most often sees all of it.
        add(&self.requests, 1);
    }

    /// Reads the counters. `requests` first, so that it never exceeds `started`.
    pub fn read(&self) -> Reading {
        let requests = self.requests.load(Relaxed);
        Reading {
            started: self.started.load(Relaxed).max(requests),
            requests,
            errors: self.errors.load(Relaxed),
            rejects: self.rejects.load(Relaxed),
            latency_us_sum: self.latency_us_sum.load(Relaxed),
            retries: self.retries.load(Relaxed),
            queue_us_sum: self.queue_us_sum.load(Relaxed),
            back_us_sum: self.back_us_sum.load(Relaxed),
        }
    }

    /// The used buckets of latencies and their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.latency.used()
    }

    /// The used buckets of back latencies and their counts.
    pub fn back_buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.back.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once() {
        assert_eq!(bucket_of(u64::MAX) / CHUNK + 1, CHUNKS, "the chunks cover the histogram");
        let edge = Edge::new(EdgeKey { caller: "a".into(), service: "b".into(), instance: "c".into() }, None);
        (0..4).for_each(|_| edge.start());
        edge.end(Outcome::Done, 10);
        edge.end(Outcome::Error, u64::MAX / 4);
        edge.end(Outcome::Reject, 10);
        edge.waited(7);
        edge.again();
        edge.answered(5);
        let wanted = Reading {
            started: 4,
            requests: 3,
            errors: 2,
            rejects: 1,
            latency_us_sum: 20 + u64::MAX / 4,
            retries: 1,
            queue_us_sum: 7,
            back_us_sum: 5,
        };
        assert_eq!(edge.read(), wanted);
        assert_eq!(edge.back_buckets().collect::<Vec<_>>(), [(5, 1)]);
        let other = Edge::new(EdgeKey { caller: "a".into(), service: "b".into(), instance: "d".into() }, None);
        other.end(Outcome::Error, 1);
        assert_eq!(edge.worker_errors.load(Relaxed), 3, "of all edges of the worker");
        assert_eq!(edge.buckets().collect::<Vec<_>>(), [(10, 2), (bucket_of(u64::MAX), 1)]);
    }
}
