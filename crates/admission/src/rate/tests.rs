//! Rates, bursts, and clocks that jump.

use super::*;

fn admitted(limit: &RateLimit, from_us: u64, to_us: u64, step_us: usize) -> usize {
    (from_us..to_us).step_by(step_us).filter(|&now_us| limit.admits(now_us)).count()
}

#[test]
fn the_rate_holds_over_a_second_and_the_burst_at_once() {
    let limit = RateLimit::new(100.0, 5);
    assert_eq!((0..20).filter(|_| limit.admits(1_000_000)).count(), 5);
    let count = admitted(&limit, 1_000_000, 2_000_000, 1_000);
    assert!((99..=101).contains(&count), "{count}");
}

#[test]
fn no_rate_admits_none_and_a_small_one_admits_little() {
    assert!(!RateLimit::new(0.0, 10).admits(1));
    assert!(!RateLimit::new(f64::NAN, 10).admits(1));
    assert!(!RateLimit::new(-1.0, 10).admits(1));
    assert_eq!(admitted(&RateLimit::new(0.5, 1), 0, 10_000_000, 100_000), 5);
}

#[test]
fn a_clock_that_jumps_back_is_not_waited_for() {
    let limit = RateLimit::new(10.0, 1);
    assert!(limit.admits(3_600_000_000));
    assert!(limit.admits(1_000_000), "an hour back: afresh");
    assert!(!limit.admits(1_000_001));
    assert!(limit.admits(7_200_000_000));
}
