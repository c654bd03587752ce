//! The slow lane as its users meet it: real files, real processes that are killed, a real Redis, real receivers.

mod audit;
mod child;
mod embedded;
mod receiver;
mod releasing;
mod streams;

use slowlane::Item;
use std::time::{Duration, Instant};

/// Longest that a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A payment of `amount` under `key` (empty: none of its own).
pub fn payment(key: &str, amount: u32) -> Item {
    Item {
        key: key.into(),
        policy: "cash".into(),
        service: "pay".into(),
        method: "POST".into(),
        target: "/pay".into(),
        body: format!("amount={amount}").into(),
        rate_milli_rps: 5_000_000,
        ..Item::default()
    }
}
