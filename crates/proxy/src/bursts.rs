//! Error bursts, noticed within a tick of the reporter: all errors of all workers, whoever caused them.
//!
//! Edge-triggered, as the agents' trips are. Deliberately absent: whose errors they are; the sample that goes out at once
//! says that, and the server judges.

use api::fleet::{Trip, TripKind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Errors in one tick that may be a burst.
const ERRORS_MIN: u64 = 20;
/// How many times the mean of the second before that must be.
const TIMES_MIN: u64 = 4;
/// Ticks of that second.
const TICKS: usize = 10;
/// Ticks without a burst before the next one is news.
const CALM_TICKS: u32 = 100;

/// What each worker counted, and how it went lately.
#[derive(Debug, Default)]
pub struct Bursts {
    workers: Vec<Arc<AtomicU64>>,
    total: u64,
    ticks: VecDeque<u64>,
    calm: Option<u32>,
}

impl Bursts {
    /// Reads this worker's count too from now on.
    pub fn follow(&mut self, worker: &Arc<AtomicU64>) {
        if !self.workers.iter().any(|known| Arc::ptr_eq(known, worker)) {
            self.workers.push(Arc::clone(worker));
        }
    }

    /// A tick of 100 ms has passed.
    pub fn tick(&mut self) -> Option<Trip> {
        let total = self.workers.iter().map(|worker| worker.load(Relaxed)).sum();
        let errors = self.step(total)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let per_second = |count: u64| (count * TICKS as u64) as f64;
        Some(Trip {
            kind: TripKind::TripErrors.into(),
            subject: String::new(),
            time_unix_ms: now,
            value: per_second(errors),
            threshold: per_second(ERRORS_MIN),
        })
    }

    /// Gives the errors of this tick when they are a burst that is news.
    fn step(&mut self, total: u64) -> Option<u64> {
        let errors = total.saturating_sub(self.total);
        self.total = total;
        let before: u64 = self.ticks.iter().sum();
        let is_burst = errors >= ERRORS_MIN && errors * TICKS as u64 >= TIMES_MIN * before;
        self.ticks.push_back(errors);
        if self.ticks.len() > TICKS {
            self.ticks.pop_front();
        }
        let was_calm = self.calm.is_none_or(|ticks| ticks >= CALM_TICKS);
        self.calm = if is_burst { Some(0) } else { self.calm.map(|ticks| ticks.saturating_add(1)) };
        (is_burst && was_calm).then_some(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(bursts: &mut Bursts, total: &mut u64, errors: u64) -> bool {
        *total += errors;
        bursts.step(*total).is_some()
    }

    #[test]
    fn a_burst_is_news_once_and_again_after_calm() {
        let (mut bursts, mut total) = (Bursts::default(), 0);
        assert!((0..50).all(|_| !news(&mut bursts, &mut total, 1)), "a few errors all the time");
        assert!(!news(&mut bursts, &mut total, ERRORS_MIN - 1));
        assert!(news(&mut bursts, &mut total, 100));
        assert!((0..20).all(|_| !news(&mut bursts, &mut total, 100)), "it goes on");
        assert!((0..CALM_TICKS).all(|_| !news(&mut bursts, &mut total, 0)));
        assert!(news(&mut bursts, &mut total, 50));
    }

    #[test]
    fn errors_that_grow_slowly_are_no_burst() {
        let (mut bursts, mut total) = (Bursts::default(), 0);
        let slow = (0..200).map(|tick| tick / 10 * 2);
        assert!(slow.into_iter().all(|errors| !news(&mut bursts, &mut total, errors)), "the detectors see that");
    }

    #[test]
    fn workers_are_summed_each_once() {
        let (one, two) = (Arc::new(AtomicU64::new(15)), Arc::new(AtomicU64::new(15)));
        let mut bursts = Bursts::default();
        bursts.follow(&one);
        bursts.follow(&one);
        bursts.follow(&two);
        let trip = bursts.tick().expect("thirty in a tick");
        assert_eq!((trip.kind(), trip.value as u64), (TripKind::TripErrors, 300));
    }
}
