//! A service with room that pauses for a moment, as a machine does: callers that wait for their answers must not pay for it.

use admission::{Config, Gate, Priority, Signal, Verdict};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MS: u64 = 1_000;
/// How long the callers go on after the pause.
const AFTER_US: u64 = 1_000 * MS;

/// What happens next, in the order of time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Asks,
    Starts { since_us: u64 },
    Answered { since_us: u64, start_us: u64 },
    LevelRead,
}

/// With an exact signal the service has one worker, else as many as callers.
struct Scene {
    signal: Signal,
    callers: u64,
    latency_us: u64,
    /// When the pause begins, and how long it is.
    before_us: u64,
    pause_us: u64,
    /// When somebody reads the level, each second.
    read_us: u64,
}

impl Scene {
    /// Calls that were not admitted.
    fn refused(&self) -> usize {
        let gate = Gate::new(Config { signal: self.signal, ..Config::default() }, 0);
        let end_us = self.before_us + self.pause_us + AFTER_US;
        let (mut refused, mut in_flight, mut number, mut free_us) = (0, 0, 0, 0);
        let mut next: BinaryHeap<_> = (0..self.callers).map(|at| Reverse((at * 40, at, Next::Asks))).collect();
        next.push(Reverse((self.read_us, self.callers, Next::LevelRead)));
        while let Some(Reverse((now_us, who, what))) = next.pop().filter(|at| at.0.0 < end_us) {
            match what {
                Next::LevelRead => {
                    gate.advert(now_us);
                    next.push(Reverse((now_us + 1_000 * MS, who, Next::LevelRead)));
                }
                Next::Starts { since_us } => gate.started(now_us - since_us, now_us),
                Next::Answered { since_us, start_us } => {
                    match self.signal {
                        Signal::Exact => gate.finished(now_us - start_us, now_us),
                        Signal::Inferred => gate.observed(in_flight, now_us - since_us, now_us),
                    }
                    in_flight -= 1;
                    next.push(Reverse((now_us + 10, who, Next::Asks)));
                }
                Next::Asks => {
                    number += 1;
                    let priority = Priority::new(10, (number * 619 % 1_024) as u16).expect("in range");
                    if gate.offer(priority, false, None, now_us) != Verdict::Admit {
                        refused += 1;
                        next.push(Reverse((now_us + 100, who, Next::Asks)));
                        continue;
                    }
                    in_flight += 1;
                    let (start_us, answered_us) = self.serve(now_us, free_us, number);
                    if self.signal == Signal::Exact {
                        free_us = answered_us;
                        next.push(Reverse((start_us, who, Next::Starts { since_us: now_us })));
                    }
                    next.push(Reverse((answered_us, who, Next::Answered { since_us: now_us, start_us })));
                }
            }
        }
        refused
    }

    /// When a call is started and answered that came at a time, to a worker that is free at another. Calls take up to a fifth
    /// longer, by no pattern.
    fn serve(&self, now_us: u64, free_us: u64, number: u64) -> (u64, u64) {
        let resumes_us = self.before_us + self.pause_us;
        let held_us = |at_us: u64| if (self.before_us..resumes_us).contains(&at_us) { resumes_us } else { at_us };
        let start_us = held_us(now_us.max(free_us));
        (start_us, held_us(start_us + self.latency_us + number * 7_919 % (self.latency_us / 5)))
    }
}

/// Pause, when the level is read, and refused calls, of all scenes with any.
fn refusals(signal: Signal, callers: u64, latency_us: u64, before_us: u64) -> Vec<(u64, u64, usize)> {
    let mut found = Vec::new();
    for pause_us in [150, 300, 600, 1_000, 3_000].map(|ms| ms * MS) {
        for read_us in [0, 150, 300, 450, 600, 750, 900].map(|ms| ms * MS) {
            let refused = Scene { signal, callers, latency_us, before_us, pause_us, read_us }.refused();
            found.extend((refused > 0).then_some((pause_us, read_us, refused)));
        }
    }
    found
}

#[test]
fn a_pause_of_a_service_that_tells_nothing_sheds_nothing() {
    for (callers, latency_us) in [(1, 1_000), (1, 5_000), (4, 1_000), (4, 5_000), (4, 20_000), (16, 5_000)] {
        let soon = refusals(Signal::Inferred, callers, latency_us, 700 * MS);
        assert_eq!(soon, [], "{callers} callers, {latency_us} us");
    }
    assert_eq!(refusals(Signal::Inferred, 1, 5_000, 12_700 * MS), [], "a gate that has long known the service");
}

#[test]
fn a_pause_of_a_service_that_tells_its_queue_sheds_nothing() {
    for (callers, latency_us) in [(1, 1_000), (2, 5_000), (4, 1_000), (4, 5_000), (2, 20_000)] {
        assert_eq!(refusals(Signal::Exact, callers, latency_us, 700 * MS), [], "{callers} callers, {latency_us} us");
    }
    assert_eq!(refusals(Signal::Exact, 2, 5_000, 12_700 * MS), [], "a gate that has long known the service");
}

/// A second that is quiet but for a burst of 50 calls is no pause: a service that became three times slower is found out.
#[test]
fn bursts_with_silence_between_are_measured() {
    const PATIENCE_US: u64 = 100 * MS;
    let gate = Gate::new(Config::default(), 0);
    let mut known = Vec::new();
    for second in 1..=12_u64 {
        let work_us = if second <= 6 { 3_300 } else { 10_000 };
        let at_us = second * 1_000 * MS;
        let admits = |n: &u64| {
            let priority = Priority::new(10, (n * 619 % 1_024) as u16).expect("in range");
            gate.offer(priority, false, Some(at_us + PATIENCE_US), at_us + n * 20) == Verdict::Admit
        };
        let admitted: Vec<u64> = (0..50).filter(admits).map(|n| at_us + n * 20).collect();
        let mut free_us = at_us + 1_000;
        for since_us in admitted {
            if free_us > at_us + PATIENCE_US {
                gate.abandoned(free_us);
                continue;
            }
            gate.started(free_us - since_us, free_us);
            free_us += work_us;
            gate.finished(work_us, free_us);
        }
        known.push(gate.snapshot(free_us).advert.capacity_rps.round());
    }
    assert!((200.0..=350.0).contains(&known[5]), "300 calls a second: {known:?}");
    assert!((80.0..=150.0).contains(&known[11]), "then 100: {known:?}");
}

/// Callers in step with one another make every turn look like a pause: 64 wait together and are then served together.
#[test]
fn callers_in_step_are_measured() {
    let gate = Gate::new(Config::default(), 0);
    let mut now_us = 0;
    for turn in 0..40_u64 {
        // First 160 calls a second, then half as many.
        let wait_us = if turn < 10 { 400 * MS } else { 800 * MS };
        let admits = |n: &u64| {
            let priority = Priority::new(10, (n * 619 % 1_024) as u16).expect("in range");
            gate.offer(priority, false, None, now_us + n) == Verdict::Admit
        };
        let admitted = (0..64).filter(admits).count();
        now_us += wait_us;
        (0..admitted).for_each(|_| gate.started(wait_us, now_us));
        now_us += MS;
        (0..admitted).for_each(|_| gate.finished(MS, now_us));
    }
    let known = gate.snapshot(now_us).advert.capacity_rps;
    // Every third window is all that is seen, and holds those let in: 160 would be blind.
    assert!((40.0..=100.0).contains(&known), "80 calls a second at most: {known}");
}
