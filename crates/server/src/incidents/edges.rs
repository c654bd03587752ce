//! Counters of proxies' edges, made into what came in one second at each instance, service and pair.
//!
//! The same rules as `metrics::golden`: a counter that went back counts from zero; an edge met first is believed as far as its
//! own latency buckets, which are what came since the last sample, vouch for it.

use api::fleet::EdgeSample;
use model::histogram::{LATENCY_US_MAX, bucket_middle_us, bucket_of};
use std::collections::HashMap;

/// Requests by which buckets may run ahead of counters, since a proxy reads them one after the other.
const UNTIDY_REQUESTS_MAX: u64 = 64;

/// Caller, service and instance, by their numbers in [`super::names::Names`].
pub type EdgeKey = (u32, u32, u32);

/// How far an edge's counters have come.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    requests: u64,
    errors: u64,
    rejects: u64,
}

/// What an edge adds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Delta {
    /// Answered or failed.
    pub requests: f32,
    /// Failed, without fast rejections.
    pub errors: f32,
    /// Rejected fast.
    pub rejects: f32,
}

impl Delta {
    /// What was answered badly of it.
    pub fn failed(self) -> Self {
        Self { requests: (self.errors + self.rejects).min(self.requests), ..self }
    }
}

/// The edges of one proxy.
#[derive(Debug, Default)]
pub struct Edges {
    seen: HashMap<EdgeKey, Seen>,
}

impl Edges {
    /// How many are known.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// True when the edge is known.
    pub fn knows(&self, key: EdgeKey) -> bool {
        self.seen.contains_key(&key)
    }

    /// What a sample adds to its edge.
    pub fn take(&mut self, key: EdgeKey, sample: &EdgeSample) -> Delta {
        let fresh = sample.bucket_count.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let now = Seen { requests: sample.requests, errors: sample.errors, rejects: sample.rejects };
        let since = match self.seen.insert(key, now) {
            Some(seen) if !seen.restarted(sample, fresh) => seen,
            Some(_) => Seen::default(),
            None if fresh >= sample.requests => Seen::default(),
            // How many of the fresh ones failed is not known: none is claimed.
            None => Seen { requests: sample.requests - fresh, ..now },
        };
        let requests = (now.requests - since.requests) as f32;
        let rejects = (now.rejects - since.rejects) as f32;
        // Rejects are counted among the errors on the wire.
        let errors = ((now.errors - since.errors) as f32 - rejects).max(0.0);
        Delta { requests, errors: errors.min(requests), rejects: rejects.min(requests) }
    }
}

impl Seen {
    fn restarted(&self, sample: &EdgeSample, fresh: u64) -> bool {
        let whole_life = fresh >= sample.requests
            && fresh.saturating_add(self.requests) > sample.requests.saturating_add(UNTIDY_REQUESTS_MAX);
        whole_life || sample.requests < self.requests || sample.errors < self.errors || sample.rejects < self.rejects
    }
}

/// What came in one second at an instance, a service or a pair.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Counts.
    pub counts: Delta,
    /// In flight, by the newest samples.
    pub in_flight: f32,
    /// True once anything was added.
    pub any: bool,
    /// Latency buckets and their counts, in no order.
    buckets: Vec<(u16, u32)>,
}

impl Sum {
    /// Adds what an edge adds; `scale` brings a sample of more than a second down to one.
    pub fn add(&mut self, delta: Delta, sample: &EdgeSample, scale: f32) {
        self.count(delta, sample, scale);
        let buckets = sample.bucket.iter().zip(&sample.bucket_count);
        let last = bucket_of(LATENCY_US_MAX) as u32;
        let known = |(at, count): (&u32, &u64)| ((*at).min(last) as u16, u32::try_from(*count).unwrap_or(u32::MAX));
        self.buckets.extend(buckets.map(known));
    }

    /// Adds what an edge adds, without its latencies.
    pub fn count(&mut self, delta: Delta, sample: &EdgeSample, scale: f32) {
        self.any = true;
        self.counts.requests += delta.requests * scale;
        self.counts.errors += delta.errors * scale;
        self.counts.rejects += delta.rejects * scale;
        self.in_flight += sample.in_flight as f32;
    }

    /// Takes off requests that were rejected as intended.
    pub fn excuse(&mut self, rejects: f32) {
        self.counts.requests = (self.counts.requests - rejects).max(0.0);
        self.counts.rejects = (self.counts.rejects - rejects).max(0.0);
    }

    /// Forgets, and keeps the memory.
    pub fn clear(&mut self) {
        (self.counts, self.in_flight, self.any) = (Delta::default(), 0.0, false);
        self.buckets.clear();
    }

    /// Median and 99th percentile of latency, in ms; NaN without any.
    pub fn latency_ms(&mut self) -> (f32, f32) {
        self.buckets.sort_unstable();
        let total: u64 = self.buckets.iter().map(|(_, count)| u64::from(*count)).sum();
        if total == 0 {
            return (f32::NAN, f32::NAN);
        }
        let at = |share: f64| {
            let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let reaches = |(_, count): &&(u16, u32)| {
                seen += u64::from(*count);
                seen >= rank
            };
            let found = self.buckets.iter().find(reaches).map_or(0, |(bucket, _)| *bucket);
            (bucket_middle_us(usize::from(found)) / 1_000.0) as f32
        };
        (at(0.5), at(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests: u64, errors: u64, rejects: u64, fresh: u64) -> EdgeSample {
        EdgeSample { requests, errors, rejects, bucket: vec![10], bucket_count: vec![fresh], ..EdgeSample::default() }
    }

    #[test]
    fn counters_become_what_came_and_a_restart_counts_from_zero() {
        let mut edges = Edges::default();
        let key = (0, 1, 2);
        // An old edge met first: only the fresh ones count.
        assert_eq!(edges.take(key, &sample(10_000, 50, 10, 20)).requests, 20.0);
        let delta = edges.take(key, &sample(10_100, 58, 12, 100));
        assert_eq!(delta, Delta { requests: 100.0, errors: 6.0, rejects: 2.0 });
        // The proxy restarted.
        assert_eq!(edges.take(key, &sample(30, 1, 0, 30)), Delta { requests: 30.0, errors: 1.0, rejects: 0.0 });
        // A new edge of a proxy that is known.
        assert_eq!(edges.take((0, 1, 3), &sample(7, 7, 0, 7)), Delta { requests: 7.0, errors: 7.0, rejects: 0.0 });
    }

    #[test]
    fn quantiles_are_of_what_came_and_nothing_gives_none() {
        let mut sum = Sum::default();
        assert!(sum.latency_ms().0.is_nan());
        let slow = EdgeSample { bucket: vec![300, 100], bucket_count: vec![2, 97], ..EdgeSample::default() };
        sum.add(Delta::default(), &slow, 1.0);
        let (median, tail) = sum.latency_ms();
        let ms = |bucket| (bucket_middle_us(bucket) / 1_000.0) as f32;
        assert_eq!((median, tail), (ms(100), ms(300)));
        sum.clear();
        assert!(!sum.any && sum.latency_ms().0.is_nan());
    }
}
