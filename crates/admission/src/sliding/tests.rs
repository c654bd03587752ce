//! Windows that follow, windows that are skipped, clocks that jump.

use super::*;

#[test]
fn what_is_a_window_old_fades() {
    let counter = Sliding::new(1_000);
    counter.add(10, 5_000);
    assert_eq!(counter.sum(5_999), 10.0);
    assert_eq!(counter.sum(6_500), 5.0);
    assert_eq!(counter.sum(7_000), 0.0);
}

#[test]
fn a_clock_that_jumps_starts_afresh() {
    let counter = Sliding::new(1_000);
    counter.add(10, 5_000_000);
    assert_eq!(counter.sum(1_000), 0.0);
    counter.add(3, 1_000);
    assert_eq!(counter.sum(1_999), 3.0);
    assert_eq!(counter.sum(3_600_000_000_000), 0.0);
}
