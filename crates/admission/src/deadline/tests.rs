//! Arithmetic at the edges.

use super::*;

#[test]
fn remaining_time_counts_down_and_never_grows_on_the_way() {
    let deadline = Deadline::after_ms(500, 1_000_000);
    assert_eq!(deadline.remaining_ms(1_000_000), 500);
    assert_eq!(deadline.remaining_ms(1_000_001), 499);
    assert!(!deadline.expired(1_499_999));
    assert!(deadline.expired(1_500_000));
    assert_eq!(deadline.remaining_us(9_000_000), 0);
}

#[test]
fn absurd_times_are_cut() {
    assert_eq!(Deadline::after_ms(u64::MAX, 0).remaining_ms(0), 3_600_000);
    assert_eq!(Deadline::after_ms(1, u64::MAX).at_us(), u64::MAX);
    assert!(Deadline::after_ms(0, 5).expired(5));
}

#[test]
fn a_call_ends_with_its_task() {
    let task = Deadline::at(1_000);
    assert_eq!(task.within(200, 100).at_us(), 300);
    assert_eq!(task.within(5_000, 100), task);
}
