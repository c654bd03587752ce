//! A running release: its instances together, compared with all others of the service together.
//!
//! One instance with few requests proves little; all of the new version do it in seconds. When they stand out, each of them
//! is reported as standing out.

use crate::cusum::Cusum;
use crate::finding::{Entity, Finding, Signal};
use crate::level::LevelTest;
use crate::ratio::{Ratio, RatioTest};

/// Scale of a group's mean residual (natural log), before it is known: residuals of single instances are some 0.1.
const SCALE: f32 = 0.08;

/// One side of the comparison in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    requests: f32,
    failed: f32,
    off: f32,
    heard: f32,
}

impl Side {
    fn mean_off(self) -> Option<f32> {
        (self.heard > 0.0).then(|| self.off / self.heard)
    }
}

/// State of the comparison, for as long as the release runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canary {
    version: u32,
    failures: Ratio,
    slower: Cusum,
    last_off: f32,
    new: Side,
    old: Side,
}

impl Canary {
    /// Begins a second; another version begins anew.
    pub(crate) fn begin(&mut self, version: u32) {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        (self.new, self.old) = (Side::default(), Side::default());
    }

    /// Adds one instance: its requests, those that failed, and its residual of latency (NaN: not known).
    pub(crate) fn add(&mut self, is_new: bool, requests: f32, failed: f32, off: f32) {
        let side = if is_new { &mut self.new } else { &mut self.old };
        side.requests += requests;
        side.failed += failed;
        if off.is_finite() {
            side.off += off;
            side.heard += 1.0;
        }
    }

    /// Ends the second; `usual` is the service's usual share of failures. The findings' entity is to be filled in.
    pub(crate) fn close(&mut self, tests: (&RatioTest, &LevelTest), usual: f32, second: u32) -> Vec<(Signal, Finding)> {
        let mut found = Vec::new();
        let (new, old) = (self.new, self.old);
        let floor = if old.requests > 0.0 { old.failed / old.requests } else { usual };
        let finding = |signal, score, baseline, observed, since_s| {
            let finding =
                Finding { entity: Entity::Service(0), signal, score, baseline, observed, since_s, opens: true };
            (signal, finding)
        };
        if self.failures.test(new.failed, new.requests, floor.max(usual), tests.0, second) {
            let (score, recent) = (self.failures.cusum.score(tests.0.h), self.failures.recent());
            found.push(finding(Signal::Errors, score, floor, recent, self.failures.cusum.rise_s()));
        }
        let Some((ours, theirs)) = new.mean_off().zip(old.mean_off()) else { return found };
        let off = ours - theirs;
        // Many instances blur less than few.
        let scale = (2.0 * SCALE / new.heard.min(old.heard).sqrt()).max(tests.1.scale_min);
        self.slower.add((off / scale).min(tests.1.clip) - tests.1.drift, tests.1.h, second);
        let effect = off.midpoint(self.last_off.min(off)) / tests.1.effect_min;
        self.last_off = off;
        if self.slower.settle(tests.1.h, effect) {
            let (score, ratio) = (self.slower.score(tests.1.h), off.exp());
            found.push(finding(Signal::Latency, score, 1.0, ratio, self.slower.rise_s()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: RatioTest = RatioTest { h: 14.0, lift: 2.5, step: 0.012, effect_min: 0.01 };
    const LEVEL: LevelTest = LevelTest { h: 8.0, drift: 1.5, clip: 6.0, effect_min: 0.3, scale_min: 0.04 };

    fn found_after(failed_new: f32, off_new: f32) -> Option<u32> {
        let mut canary = Canary::default();
        (0..30).find(|second| {
            canary.begin(2);
            (0..3).for_each(|_| canary.add(true, 20.0, failed_new, off_new));
            (0..9).for_each(|_| canary.add(false, 20.0, 0.1, 0.0));
            !canary.close((&RATIO, &LEVEL), 0.005, *second).is_empty()
        })
    }

    #[test]
    fn new_instances_that_fail_or_are_slow_stand_out_together_in_seconds() {
        assert!(found_after(2.0, 0.0).is_some_and(|second| second <= 3));
        assert!(found_after(0.1, 0.6).is_some_and(|second| second <= 3));
        assert_eq!(found_after(0.1, 0.1), None);
    }

    #[test]
    fn trouble_of_all_is_not_the_releases() {
        let mut canary = Canary::default();
        for second in 0..30 {
            canary.begin(2);
            (0..3).for_each(|_| canary.add(true, 100.0, 10.0, 0.7));
            (0..9).for_each(|_| canary.add(false, 100.0, 10.0, 0.7));
            assert!(canary.close((&RATIO, &LEVEL), 0.005, second).is_empty());
        }
    }
}
