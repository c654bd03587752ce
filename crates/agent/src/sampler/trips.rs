//! Local thresholds: what is told at once instead of at its turn.
//!
//! Each is edge-triggered: it trips when crossed, and can trip again only after it has been well for a while, so that a
//! slice at its limit all night trips once. Deliberately absent: judging whether it is an incident (`detect`, on the
//! server), and error bursts (the proxies see those).

use crate::cgroup::Usage;
use crate::wire::{bytes, double, uint};
use api::fleet::TripKind;

/// Share of periods throttled in a second that trips.
pub const THROTTLED_SHARE: f64 = 0.5;
/// Periods in a second below which their share means nothing.
const PERIODS_MIN: u64 = 4;
/// Free share of the data folder's file system that trips.
pub const FREE_SHARE: f64 = 0.05;
/// Free share above which it is well again.
const FREE_SHARE_WELL: f64 = 0.07;
/// Time that a threshold must not have been crossed before it can trip again.
const WELL_US: u64 = 10_000_000;
/// Trips told in one sample; further ones show in the counters only.
pub const TRIPS_MAX: usize = 64;

/// One crossing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trip {
    /// Which threshold.
    pub kind: TripKind,
    /// What was measured.
    pub value: f64,
    /// What it was held against.
    pub threshold: f64,
}

impl Trip {
    /// Writes a `Trip`; an empty subject is the host.
    pub fn write(&self, out: &mut Vec<u8>, subject: &[u8], time_unix_ms: u64) {
        uint(out, 1, self.kind as u64);
        bytes(out, 2, subject);
        uint(out, 3, time_unix_ms);
        double(out, 4, self.value);
        double(out, 5, self.threshold);
    }
}

/// A threshold that was crossed last at some time.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    crossed_us: Option<u64>,
}

impl Edge {
    /// Notes whether it is crossed at `now_us`; true when that is news.
    fn crossed(&mut self, is: bool, now_us: u64) -> bool {
        let was = self.crossed_us.is_some_and(|at| now_us.saturating_sub(at) < WELL_US);
        if is {
            self.crossed_us = Some(now_us);
        }
        is && !was
    }
}

/// Of one slice.
#[derive(Debug, Default)]
pub struct OfSlice {
    before: Option<(u64, Usage)>,
    throttled: Edge,
}

impl OfSlice {
    /// Compares with the reading of about a second ago. Counters that went back are a new slice's.
    pub fn step(&mut self, usage: &Usage, now_us: u64) -> [Option<Trip>; 2] {
        let Some((_, before)) = self.before.replace((now_us, *usage)) else { return [None, None] };
        let kills = usage.oom_kills.saturating_sub(before.oom_kills);
        let oom = (kills > 0).then_some(Trip { kind: TripKind::TripOomKill, value: kills as f64, threshold: 1.0 });
        let periods = usage.periods.saturating_sub(before.periods);
        let throttled = usage.throttled_periods.saturating_sub(before.throttled_periods);
        let share = if periods < PERIODS_MIN { 0.0 } else { throttled as f64 / periods as f64 };
        let is_news = self.throttled.crossed(share >= THROTTLED_SHARE, now_us);
        let trip = Trip { kind: TripKind::TripThrottled, value: share, threshold: THROTTLED_SHARE };
        [oom, is_news.then_some(trip)]
    }
}

/// Of the file system.
#[derive(Debug, Default)]
pub struct OfSpace {
    is_full: bool,
}

impl OfSpace {
    /// Takes the free share.
    pub fn step(&mut self, free: f64) -> Option<Trip> {
        let is_news = free < FREE_SHARE && !self.is_full;
        self.is_full = free < FREE_SHARE || (self.is_full && free < FREE_SHARE_WELL);
        is_news.then_some(Trip { kind: TripKind::TripDiskFull, value: free, threshold: FREE_SHARE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(periods: u64, throttled_periods: u64, oom_kills: u64) -> Usage {
        Usage { periods, throttled_periods, oom_kills, ..Usage::default() }
    }

    fn kinds(trips: [Option<Trip>; 2]) -> Vec<TripKind> {
        trips.into_iter().flatten().map(|trip| trip.kind).collect()
    }

    #[test]
    fn throttling_trips_when_it_begins_and_again_only_after_a_calm_while() {
        let mut slice = OfSlice::default();
        let second = 1_000_000;
        assert_eq!(kinds(slice.step(&usage(100, 90, 0), 0)), [], "what was before is not news");
        assert_eq!(kinds(slice.step(&usage(110, 94, 0), second)), [], "two fifths");
        assert_eq!(kinds(slice.step(&usage(120, 99, 0), 2 * second)), [TripKind::TripThrottled]);
        assert_eq!(kinds(slice.step(&usage(130, 109, 0), 3 * second)), [], "it goes on");
        assert_eq!(kinds(slice.step(&usage(140, 109, 0), 9 * second)), []);
        assert_eq!(kinds(slice.step(&usage(150, 119, 0), 10 * second)), [], "calm for less than ten seconds");
        assert_eq!(kinds(slice.step(&usage(160, 129, 0), 20 * second)), [TripKind::TripThrottled]);
        assert_eq!(kinds(slice.step(&usage(163, 132, 0), 31 * second)), [], "three periods tell nothing");
    }

    #[test]
    fn every_kill_trips_and_a_new_slice_does_not() {
        let mut slice = OfSlice::default();
        slice.step(&usage(0, 0, 5), 0);
        let [trip, _] = slice.step(&usage(0, 0, 7), 1);
        assert_eq!(trip.map(|trip| (trip.kind, trip.value as u64)), Some((TripKind::TripOomKill, 2)));
        assert_eq!(kinds(slice.step(&usage(0, 0, 0), 2)), []);
        assert_eq!(kinds(slice.step(&usage(0, 0, 1), 3)), [TripKind::TripOomKill]);
    }

    #[test]
    fn a_disk_at_the_brim_trips_once() {
        let mut space = OfSpace::default();
        let trips: Vec<bool> =
            [0.5, 0.049, 0.01, 0.051, 0.049, 0.071, 0.04].map(|free| space.step(free).is_some()).into();
        assert_eq!(trips, [false, true, false, false, false, false, true]);
    }
}
