//! Levels heard, sheds reported, views that do not stick.

use super::*;

fn advert(level: u32) -> Advert {
    Advert { level, ..Advert::UNKNOWN }
}

fn priority(value: u16) -> Priority {
    Priority::from_u16(value)
}

#[test]
fn doomed_calls_are_shed_and_others_not() {
    let callee = Callee::new();
    assert!(callee.allows(Priority::LAST, 0), "nothing heard, nothing shed");
    callee.heard(advert(1_000), 1_000_000);
    assert!(callee.allows(priority(999), 1_000_001));
    assert!(!callee.allows(priority(1_000), 1_000_001));
}

#[test]
fn endpoints_that_differ_are_averaged_over_two_windows() {
    let callee = Callee::new();
    callee.heard(advert(1_000), 1_000_000);
    callee.heard(advert(3_000), 1_010_000);
    callee.heard(advert(2_000), 1_020_000);
    assert_eq!(callee.level(1_020_000), 2_000);
    callee.heard(advert(6_000), 1_120_000);
    assert_eq!(callee.level(1_120_000), 3_000, "the window before still counts");
    callee.heard(advert(5_000), 1_220_000);
    assert_eq!(callee.level(1_220_000), 5_500);
    callee.heard(advert(100), 1_920_000);
    assert_eq!(callee.level(1_920_000), 100, "what was heard long before does not");
}

#[test]
fn one_endpoint_that_lets_all_in_does_not_open_the_gates_of_the_others() {
    let callee = Callee::new();
    for at in 0..100 {
        callee.heard(advert(if at % 10 == 0 { LEVEL_ALL } else { 1_000 }), 1_000_000 + at);
    }
    assert!(callee.level(1_000_100) < 8_000, "{}", callee.level(1_000_100));
}

#[test]
fn a_level_not_heard_of_rises_by_itself() {
    let callee = Callee::new();
    callee.heard(advert(0), 1_000_000);
    assert_eq!(callee.level(1_300_000), 0);
    let half = callee.level(1_800_000);
    assert!((30_000..36_000).contains(&half), "{half}");
    assert_eq!(callee.level(2_300_000), LEVEL_ALL);
}

#[test]
fn where_all_is_doomed_a_probe_goes_through_now_and_then() {
    let callee = Callee::new();
    callee.heard(advert(0), 1_000_000);
    assert!(!callee.allows(Priority::FIRST, 1_000_001));
    let probes = (1_000_000..1_300_000).step_by(1_000).filter(|&now| callee.allows(Priority::FIRST, now)).count();
    assert_eq!(probes, 5);
}

#[test]
fn a_clock_that_jumps_does_not_freeze_the_view() {
    let callee = Callee::new();
    callee.heard(advert(0), 3_600_000_000);
    assert_eq!(callee.level(1_000_000), LEVEL_ALL, "back: the last word is not of this time");
    callee.heard(advert(5), 1_000_000);
    assert_eq!(callee.level(1_000_000), 5, "afresh");
    assert_eq!(callee.level(7_200_000_000), LEVEL_ALL, "on: it is stale");
}

#[test]
fn what_is_shed_is_reported_once_and_none_starves() {
    let callee = Callee::new();
    for bucket in 0..40 {
        for _ in 0..3 {
            callee.shed(priority(bucket * 64 + 7));
        }
    }
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..3 {
        let report = callee.take_shed();
        assert!(report.pairs().len() <= SHED_PAIRS_MAX);
        for &(bucket, count) in report.pairs() {
            *seen.entry(bucket.number()).or_insert(0) += count;
        }
        // The first bucket is shed again all the while: later ones must have their turn nevertheless.
        callee.shed(priority(0));
    }
    assert_eq!((1..40).map(|bucket| seen[&bucket]).collect::<Vec<_>>(), vec![3; 39]);
    while !callee.take_shed().is_empty() {}
    assert_eq!(callee.take_shed().total(), 0);
}
