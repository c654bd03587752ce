//! The book's formula.

use super::*;

#[test]
fn nothing_is_refused_while_half_is_accepted() {
    let throttle = ClientThrottle::new();
    for step in 0..1_000 {
        assert!(throttle.allows(0, step * 1_000), "random 0 is refused at any probability above 0");
        if step % 2 == 0 {
            throttle.accepted(step * 1_000);
        }
    }
}

#[test]
fn refusals_follow_the_formula_and_end_when_the_service_answers_again() {
    let throttle = ClientThrottle::new();
    for _ in 0..99 {
        throttle.allows(u64::MAX, 0);
    }
    assert!((throttle.refusal(0) - 0.99).abs() < 1e-9);
    assert!(!throttle.allows(u64::MAX / 2, 0));
    for _ in 0..100 {
        throttle.accepted(1);
    }
    assert_eq!(throttle.refusal(1), 0.0);
}

#[test]
fn old_failures_are_forgotten() {
    let throttle = ClientThrottle::new();
    for _ in 0..100 {
        throttle.allows(u64::MAX, 0);
    }
    assert_eq!(throttle.refusal(61_000_000), 0.0);
}
