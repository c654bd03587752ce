//! The baselines, against the figures of their papers.

use super::*;
use crate::rng::Rng;

fn head(priority: u32) -> Head {
    Head {
        user: 1,
        class: 0,
        priority,
        deadline_us: u64::MAX,
        task_deadline_us: u64::MAX,
        attempt: 0,
        admitted: false,
        report: Vec::new(),
    }
}

const IDLE: Queue = Queue { waiting: 0, working: 0 };

/// Sends one call of each priority `0..128` in a window of a second that ends, with one queue delay for all; the level after it.
fn dagor_window(guard: &mut dyn Guard, window: u64, delay_us: u64, rng: &mut Rng) -> u32 {
    let start_us = window * 1_000_000;
    for priority in 0..128 {
        let now_us = start_us + u64::from(priority) * 1_000;
        if guard.arrive(&head(priority), IDLE, now_us, rng).is_ok() {
            guard.start(&head(priority), delay_us, now_us).expect("DAGOR of the paper drops nothing");
        }
    }
    // The first call of the next window closes this one.
    let end_us = start_us + 1_000_001;
    let _ = guard.arrive(&head(0), IDLE, end_us, rng);
    guard.advert(0, &head(0), end_us).level
}

#[test]
fn dagor_steps_down_by_five_percent_and_up_by_one() {
    let dagor = dagor::Dagor::paper(3_600_000_000);
    let mut guard = dagor.guard(0, 4, 250.0);
    let mut rng = Rng::new(1, 1);
    // 128 admitted, overloaded: 95% of them are 121.6, so the level is 121.
    assert_eq!(dagor_window(&mut *guard, 0, 30_000, &mut rng), 121);
    // The call that closed the window counts in the next: 122 of 129 admitted with delays under 20 ms: 122 + 1.29 = 123.29.
    // Priority 0 came twice, so calls below level 122 are 123.
    assert_eq!(dagor_window(&mut *guard, 1, 10_000, &mut rng), 122);
}

#[test]
fn dagor_rehashes_its_users_each_rotation() {
    let dagor = dagor::Dagor::paper(1_000_000);
    let levels = |now_us| (0..200).map(|user| dagor.priority(user, 2, now_us)).collect::<Vec<_>>();
    assert_eq!(levels(0), levels(999_999));
    assert_ne!(levels(0), levels(1_000_000));
    assert!(levels(0).iter().all(|level| (256..384).contains(level)), "class 2 has levels 256 to 383");
}

#[test]
fn codel_drops_only_what_stands_for_an_interval() {
    let mut guard = codel::Codel::paper().guard(0, 1, 100.0);
    let mut dropped = Vec::new();
    for at_ms in 0..400u64 {
        let delay_us = if at_ms == 50 { 1_000 } else { 20_000 };
        if guard.start(&head(0), delay_us, at_ms * 1_000).is_err() {
            dropped.push(at_ms);
        }
    }
    // Over the target from 51 ms on: the first drop an interval later, then at intervals of 100/√n ms.
    assert_eq!(dropped, [151, 251, 322, 380]);
}

#[test]
fn gradient2_lowers_its_limit_when_latency_grows() {
    let mut guard = gradient2::Gradient2::paper().guard(0, 4, 250.0);
    let mut rng = Rng::new(1, 1);
    let mut admitted =
        |guard: &mut dyn Guard| (0..300).filter(|_| guard.arrive(&head(0), IDLE, 0, &mut rng).is_ok()).count();
    assert_eq!(admitted(&mut *guard), 20, "the first limit");
    for _ in 0..20 {
        guard.finish(&head(0), 0, 16_000, 0);
    }
    let grown = admitted(&mut *guard);
    assert!(grown > 20, "latency stood still: {grown}");
    for _ in 0..grown {
        guard.finish(&head(0), 400_000, 16_000, 0);
    }
    assert_eq!(admitted(&mut *guard), 20, "latency grew 25-fold: back to the least limit");
}

#[test]
fn breakwater_deals_credits_by_demand_and_takes_them_back_when_calls_wait() {
    let mut guard = breakwater::Breakwater::paper().guard(0, 4, 250.0);
    let mut rng = Rng::new(1, 1);
    let mut tell = |guard: &mut dyn Guard, origin: u32, wanted: u32, now_us: u64| {
        let head = Head { report: vec![(origin, wanted)], ..head(0) };
        guard.arrive(&head, IDLE, now_us, &mut rng).expect("no queue stands");
        guard.advert(origin, &head, now_us).credits
    };
    for round in 0..100 {
        tell(&mut *guard, 0, 9, round * 5_000);
    }
    let (much, little) = (tell(&mut *guard, 0, 9, 500_000), tell(&mut *guard, 1, 0, 500_000));
    assert!(much > 5 * little && little >= 1, "{much} and {little}");
    for round in 0..100 {
        guard.start(&head(0), 60_000, 510_000 + round * 5_000).expect("nothing expires");
    }
    assert!(tell(&mut *guard, 0, 9, 1_010_000) < much / 5);
}

#[test]
fn a_retry_share_is_earned_by_first_attempts() {
    let mut share = RetryShare::new(0.1);
    assert!(!share.spend());
    (0..1_000).for_each(|_| share.earn());
    assert_eq!((0..100).filter(|_| share.spend()).count(), RETRY_BURST_MAX as usize);
}
