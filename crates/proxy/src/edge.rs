//! Golden signals of one edge (caller, service, instance) as one worker counts them.
//!
//! Each cell has one writer, its worker, so that counting is a plain load and store; the reporter only reads.
//! A restart of the proxy starts at zero. No rates and no quantiles here: those are the reader's.

use model::histogram::bucket_of;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Buckets kept in one allocation.
const CHUNK: usize = 32;
/// Allocations that cover every bucket of `model::histogram`.
const CHUNKS: usize = 23;

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

/// The counters.
#[derive(Debug)]
pub struct Edge {
    /// Whose.
    pub key: EdgeKey,
    started: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    rejects: AtomicU64,
    latency_us_sum: AtomicU64,
    latency: [OnceLock<Box<[AtomicU64; CHUNK]>>; CHUNKS],
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
}

fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Edge {
    /// All zero.
    pub fn new(key: EdgeKey) -> Self {
        Self {
            key,
            started: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            rejects: AtomicU64::new(0),
            latency_us_sum: AtomicU64::new(0),
            latency: Default::default(),
        }
    }

    /// A request begins.
    pub fn start(&self) {
        add(&self.started, 1);
    }

    /// A request ended.
    pub fn end(&self, outcome: Outcome, latency_us: u64) {
        if outcome != Outcome::Done {
            add(&self.errors, 1);
        }
        if outcome == Outcome::Reject {
            add(&self.rejects, 1);
        }
        add(&self.latency_us_sum, latency_us);
        let bucket = bucket_of(latency_us);
        let chunk = self.latency[bucket / CHUNK].get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
        add(&chunk[bucket % CHUNK], 1);
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
        }
    }

    /// The used buckets and their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.latency.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?))).flat_map(
            |(index, chunk)| {
                (index * CHUNK..).zip(chunk.iter().map(|cell| cell.load(Relaxed))).filter(|(_, count)| *count > 0)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once() {
        assert_eq!(bucket_of(u64::MAX) / CHUNK + 1, CHUNKS, "the chunks cover the histogram");
        let edge = Edge::new(EdgeKey { caller: "a".into(), service: "b".into(), instance: "c".into() });
        (0..4).for_each(|_| edge.start());
        edge.end(Outcome::Done, 10);
        edge.end(Outcome::Error, u64::MAX / 4);
        edge.end(Outcome::Reject, 10);
        let wanted = Reading { started: 4, requests: 3, errors: 2, rejects: 1, latency_us_sum: 20 + u64::MAX / 4 };
        assert_eq!(edge.read(), wanted);
        assert_eq!(edge.buckets().collect::<Vec<_>>(), [(10, 2), (bucket_of(u64::MAX), 1)]);
    }
}
