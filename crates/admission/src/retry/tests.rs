//! Budgets, jitter, refusals, clocks that jump.

use super::*;

fn budget(saved_max: u32, rate_min_per_s: f64) -> RetryBudget {
    RetryBudget::new(RetryConfig { saved_max, rate_min_per_s, ..RetryConfig::default() }, 0)
}

#[test]
fn a_tenth_of_calls_may_be_retried() {
    let budget = budget(10, 0.0);
    let mut granted = 0;
    for _ in 0..1_000 {
        budget.called();
        granted += u32::from(budget.retry(0, true, None, 0, 0).is_ok());
    }
    assert!((109..=110).contains(&granted), "a tenth, and ten saved: {granted}");
    assert_eq!(budget.retry(0, true, None, 0, 0), Err(RetryRefusal::Budget));
}

#[test]
fn a_minimum_rate_holds_without_calls_and_is_bounded() {
    let budget = budget(5, 2.0);
    let drain = |now_us| (0..100).filter(|_| budget.retry(0, true, None, 0, now_us).is_ok()).count();
    assert_eq!(drain(0), 5);
    assert_eq!(drain(1_000_000), 2);
    assert_eq!(drain(3_600_000_000), 5, "savings are bounded");
    assert_eq!(drain(10), 0, "a clock that went back pays nothing");
    assert_eq!(drain(1_000_010), 2, "and goes on from there");
}

#[test]
fn refusals_say_why() {
    let budget = budget(10, 0.0);
    assert_eq!(budget.retry(2, true, None, 0, 0), Err(RetryRefusal::Attempts));
    assert_eq!(budget.retry(0, false, None, 0, 0), Err(RetryRefusal::Overloaded));
    assert_eq!(budget.retry(0, true, Some(5_000), u64::MAX, 0), Err(RetryRefusal::Deadline));
    assert_eq!(budget.retry(u32::MAX - 1, true, None, 0, 0), Err(RetryRefusal::Attempts));
}

#[test]
fn jitter_is_full_and_bounded() {
    assert_eq!(backoff_us(0, 10_000, 250_000, 0), 0);
    assert_eq!(backoff_us(0, 10_000, 250_000, u64::MAX), 10_000);
    assert_eq!(backoff_us(1, 10_000, 250_000, u64::MAX), 20_000);
    assert_eq!(backoff_us(60, 10_000, 250_000, u64::MAX), 250_000);
    assert_eq!(backoff_us(0, u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    assert_eq!(backoff_us(0, 10_000, 250_000, u64::MAX / 2), 5_000);
}
