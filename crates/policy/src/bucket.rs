//! A rate limit in one atomic word (the generic cell rate algorithm, ITU-T I.371): no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What may come at once, in time: a tenth of a second of the rate, and at least one request.
const BURST_NS: u64 = 100_000_000;
/// Tries of one request against others; beyond it the request counts as one too many.
const TRIES_MAX: u32 = 16;

/// The theoretical time of the next arrival, in nanoseconds of the caller's clock.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request at `now_us` when `per_second` allows it.
    pub fn take(&self, per_second: f64, now_us: u64) -> bool {
        if per_second <= 0.0 {
            return false;
        }
        let now_ns = now_us.saturating_mul(1_000);
        let interval_ns = (1e9 / per_second).min(u64::MAX as f64 / 4.0) as u64;
        let ahead_ns_max = BURST_NS.max(interval_ns);
        let mut due_ns = self.0.load(Relaxed);
        for _ in 0..TRIES_MAX {
            let next_ns = due_ns.max(now_ns).saturating_add(interval_ns);
            if next_ns - now_ns > ahead_ns_max {
                return false;
            }
            match self.0.compare_exchange_weak(due_ns, next_ns, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => due_ns = other,
            }
        }
        false
    }

    /// Goes on where another stood.
    pub fn inherit(&self, of: &Bucket) {
        self.0.store(of.0.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(per_second: f64, offered_per_second: u64, seconds: u64) -> u64 {
        let bucket = Bucket::default();
        let count = offered_per_second * seconds;
        (0..count).filter(|n| bucket.take(per_second, 1_000_000 + n * 1_000_000 / offered_per_second)).count() as u64
    }

    #[test]
    fn the_rate_is_kept_and_what_is_below_it_passes() {
        for rate in [0.5, 1.0, 7.0, 100.0, 2_500.0] {
            let got = taken(rate, 5_000, 20) as f64;
            assert!((got - rate * 20.0).abs() <= rate * 0.1 + 1.0, "{got} at {rate}");
        }
        assert_eq!(taken(200.0, 100, 10), 1_000);
        assert_eq!(taken(0.0, 100, 1), 0);
        assert_eq!(taken(f64::MIN_POSITIVE, 100, 1), 1, "one, and then none for ages");
    }

    #[test]
    fn threads_share_one_rate() {
        let bucket = Bucket::default();
        let taken: u64 = std::thread::scope(|scope| {
            let ask = || (0..50_000_u64).filter(|n| bucket.take(1_000.0, 1_000_000 + n * 20)).count() as u64;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((900..=1_101).contains(&taken), "{taken} in one second of 1,000");
    }
}
