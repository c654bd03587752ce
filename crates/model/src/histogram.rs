//! A log-linear latency histogram that proxies, gates, curves and the series store share.
//!
//! 32 buckets for each power of two: a quantile is at most 1.6% off. Merging is addition, so that the p99 of a
//! service is the p99 of its requests, never a mean of its instances' p99s.

/// Buckets for each power of two, as a power of two.
const SUB_BITS: u32 = 5;
/// Buckets for each power of two.
const SUB: u64 = 1 << SUB_BITS;
/// Largest value told apart, in microseconds (134 s); larger ones count as this.
pub const LATENCY_US_MAX: u64 = (1 << 27) - 1;

/// Counts of latencies in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Count for each bucket, grown as far as used.
    counts: Vec<u64>,
    total: u64,
}

/// The bucket of a latency.
pub fn bucket_of(latency_us: u64) -> usize {
    let value = latency_us.min(LATENCY_US_MAX);
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    (u64::from(shift) * SUB + (value >> shift)) as usize
}

/// The middle of a bucket, in microseconds.
pub fn bucket_middle_us(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket as f64;
    }
    let shift = bucket / SUB - 1;
    let low = (SUB + bucket % SUB) << shift;
    low as f64 + ((1_u64 << shift) as f64 - 1.0) / 2.0
}

impl LatencyHistogram {
    /// Counts one latency.
    pub fn record(&mut self, latency_us: u64) {
        self.add(bucket_of(latency_us), 1);
    }

    /// Adds to one bucket, as it came over the wire; buckets beyond the last are taken as the last.
    pub fn add(&mut self, bucket: usize, count: u64) {
        let bucket = bucket.min(bucket_of(LATENCY_US_MAX));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += count;
        self.total += count;
    }

    /// Adds all counts of another.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// What came since `earlier`, an older state of the same histogram; a restarted counter gives itself whole.
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.total > self.total {
            return self.clone();
        }
        let mut delta = Self::default();
        for (bucket, count) in self.buckets() {
            let before = earlier.counts.get(bucket).copied().unwrap_or(0);
            if count > before {
                delta.add(bucket, count - before);
            }
        }
        delta
    }

    /// The used buckets and their counts, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The quantile `q` (0 to 1) in microseconds; `None` when empty.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return Some(bucket_middle_us(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_their_values() {
        let mut last = 0;
        for value in 0..200_000 {
            let bucket = bucket_of(value);
            assert!(bucket == last || bucket == last + 1, "gap at {value}");
            let middle = bucket_middle_us(bucket);
            assert!((middle - value as f64).abs() <= value as f64 * 0.016 + 0.5, "{value} in {middle}");
            last = bucket;
        }
    }

    #[test]
    fn quantiles_since_and_merge() {
        let mut early = LatencyHistogram::default();
        (1..=100).for_each(|v| early.record(v * 1_000));
        let mut late = early.clone();
        (0..100).for_each(|_| late.record(1_000_000));
        assert_eq!(late.since(&early).total(), 100);
        let p50 = early.quantile_us(0.5).expect("not empty");
        assert!((p50 - 50_000.0).abs() < 1_000.0, "{p50}");
        early.merge(&late.since(&early));
        assert_eq!(early, late);
        assert_eq!(LatencyHistogram::default().quantile_us(0.5), None);
    }
}
