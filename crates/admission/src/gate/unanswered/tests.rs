//! Windows by hand: what is held, when it is silent, how patience is learnt.

use super::super::window::Window;
use super::*;
use crate::Priority;

const MS: u64 = 1_000;
const WINDOW_US: u64 = 100 * MS;

/// A window in which `answers` came after `latency_us` and `given_up` were given up after `waited_us`.
fn window(answers: u32, latency_us: u64, given_up: u32, waited_us: u64) -> Closed {
    let window = Window::new(1, false);
    (0..answers).for_each(|_| window.here().finished(latency_us));
    (0..given_up).for_each(|_| window.here().given_up(waited_us));
    window.here().asked(Priority::FIRST, 1, 0);
    window.take(&mut vec![0; crate::BUCKETS], 0)
}

/// Folds window number `at` in; the floor is 5 ms.
fn fold(unanswered: &mut Unanswered, at: u64, closed: &Closed) -> u64 {
    unanswered.fold(closed, 5_000.0, at * WINDOW_US, (at + 1) * WINDOW_US)
}

#[test]
fn a_call_is_held_until_one_sent_after_it_is_answered() {
    let mut unanswered = Unanswered::new();
    // Sent at 650 ms and given up at 1,150 ms.
    assert_eq!(fold(&mut unanswered, 11, &window(3, 505 * MS, 5, 500 * MS)), 0);
    assert_eq!(unanswered.held(), 5);
    // Answered in the next windows: sent at 640 ms, then at 700 ms.
    assert_eq!(fold(&mut unanswered, 12, &window(2, 610 * MS, 0, 0)), 0);
    assert_eq!(fold(&mut unanswered, 13, &window(2, 650 * MS, 0, 0)), 5);
    assert_eq!(unanswered.held(), 0);
}

#[test]
fn a_call_given_up_where_later_ones_are_answered_is_slow_by_itself_and_never_held() {
    let mut unanswered = Unanswered::new();
    assert_eq!(fold(&mut unanswered, 100, &window(50, 6 * MS, 2, 3_000 * MS)), 2);
    assert_eq!((unanswered.held(), unanswered.silent()), (0, false));
}

#[test]
fn silence_is_many_calls_in_a_row_without_the_answer_that_was_due() {
    let mut unanswered = Unanswered::new();
    fold(&mut unanswered, 0, &window(0, 0, 20, 8 * MS));
    assert!(!unanswered.silent(), "they went before an answer was due");
    fold(&mut unanswered, 1, &window(0, 0, 7, 500 * MS));
    assert!(!unanswered.silent());
    fold(&mut unanswered, 2, &window(0, 0, 1, 500 * MS));
    assert!(unanswered.silent());
    let first_rps = unanswered.probes_rps(None);
    for at in 3..53 {
        fold(&mut unanswered, at, &window(0, 0, 1, 500 * MS));
    }
    assert!(unanswered.silent() && unanswered.probes_rps(None) < first_rps / 4.0, "a long silence is probed less");
    assert_eq!(unanswered.probes_rps(Some(1.0)).min(0.2), unanswered.probes_rps(Some(1.0)), "slow services are spared");
    fold(&mut unanswered, 53, &window(1, 6 * MS, 0, 0));
    assert!(!unanswered.silent());
}

#[test]
fn patience_is_learnt_from_many_and_forgotten_in_a_minute() {
    let mut unanswered = Unanswered::new();
    for at in 0..20 {
        fold(&mut unanswered, at, &window(30, 6 * MS, 1, 500 * MS));
    }
    assert_eq!(unanswered.patience_us(), None, "one of thirty goes for reasons of its own");
    for at in 20..40 {
        fold(&mut unanswered, at, &window(10, 400 * MS, 5, 500 * MS));
    }
    assert_eq!(unanswered.patience_us().map(|us| us as u64), Some(500 * MS));
    for at in 40..660 {
        fold(&mut unanswered, at, &window(10, 6 * MS, 0, 0));
    }
    assert_eq!(unanswered.patience_us(), None);
}

#[test]
fn what_is_held_is_bounded_and_survives_a_clock_that_goes_back() {
    let mut unanswered = Unanswered::new();
    for at in 1_000..3_000 {
        fold(&mut unanswered, at, &window(0, 0, 20, 500 * MS));
        assert!(unanswered.held() <= HELD_MAX && unanswered.held.len() <= HELD_WINDOWS);
    }
    fold(&mut unanswered, 0, &window(0, 0, 1, 50 * MS));
    assert!(unanswered.held() <= 1, "{}", unanswered.held());
}
