//! Retries on a budget (after the SRE book and Finagle): a share of calls, a minimum rate, full jitter. Absent: sending.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A token, in the unit that the budget counts in.
const TOKEN: u64 = 1_000_000;

/// What a [`RetryBudget`] grants.
#[derive(Clone, Debug)]
pub struct RetryConfig {
    /// Retries per call, 0.1 = 10%.
    pub ratio: f64,
    /// Retries per second that are granted however few calls there are.
    pub rate_min_per_s: f64,
    /// Retries that may be saved up.
    pub saved_max: u32,
    /// Attempts of one call at most, the first included.
    pub attempts_max: u32,
    /// Upper bound of the first back-off, in microseconds; it doubles with each attempt.
    pub backoff_us: u64,
    /// Upper bound of every back-off, in microseconds.
    pub backoff_us_max: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            rate_min_per_s: 1.0,
            saved_max: 10,
            attempts_max: 3,
            backoff_us: 10_000,
            backoff_us_max: 250_000,
        }
    }
}

/// The retries that one caller may send to one service.
pub struct RetryBudget {
    config: RetryConfig,
    tokens: AtomicU64,
    /// Up to when the minimum rate has been paid in, in microseconds.
    paid_us: AtomicU64,
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRefusal {
    /// It was the last attempt allowed.
    Attempts,
    /// The service's level rejects this priority: a retry would be rejected too.
    Overloaded,
    /// The budget is used up.
    Budget,
    /// The task's deadline would pass before the retry could be sent.
    Deadline,
}

impl fmt::Display for RetryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "last attempt allowed",
            Self::Overloaded => "the service is overloaded for this priority",
            Self::Budget => "retry budget used up",
            Self::Deadline => "deadline passes before a retry",
        })
    }
}

impl RetryBudget {
    /// A budget with its savings full.
    pub fn new(config: RetryConfig, now_us: u64) -> Self {
        let tokens = u64::from(config.saved_max) * TOKEN;
        Self { config, tokens: AtomicU64::new(tokens), paid_us: AtomicU64::new(now_us) }
    }

    /// A first attempt was sent: pays its share into the budget.
    pub fn called(&self) {
        self.pay((self.config.ratio.clamp(0.0, 1.0) * TOKEN as f64) as u64);
    }

    /// May the call be tried again after attempt number `attempt` (0 is the first)? On `Ok`, the back-off in microseconds.
    ///
    /// `allowed`: the service's level admits its priority ([`crate::Callee::level`]; not `allows`, which may spend a probe), `remaining_us` what is left of its deadline, `random`
    /// any uniform number (full jitter: the wait is uniform in `0..=bound`).
    pub fn retry(
        &self,
        attempt: u32,
        allowed: bool,
        remaining_us: Option<u64>,
        random: u64,
        now_us: u64,
    ) -> Result<u64, RetryRefusal> {
        if attempt + 1 >= self.config.attempts_max {
            return Err(RetryRefusal::Attempts);
        }
        if !allowed {
            return Err(RetryRefusal::Overloaded);
        }
        let wait_us = backoff_us(attempt, self.config.backoff_us, self.config.backoff_us_max, random);
        if remaining_us.is_some_and(|remaining_us| remaining_us <= wait_us) {
            return Err(RetryRefusal::Deadline);
        }
        self.pay_minimum(now_us);
        let taken = self.tokens.try_update(Relaxed, Relaxed, |tokens| tokens.checked_sub(TOKEN));
        taken.map(|_| wait_us).map_err(|_| RetryRefusal::Budget)
    }

    fn pay(&self, amount: u64) {
        let max = u64::from(self.config.saved_max) * TOKEN;
        let _ = self.tokens.try_update(Relaxed, Relaxed, |tokens| Some((tokens + amount).min(max)));
    }

    fn pay_minimum(&self, now_us: u64) {
        let paid_us = self.paid_us.load(Relaxed);
        if paid_us == now_us || self.paid_us.compare_exchange(paid_us, now_us, Relaxed, Relaxed).is_err() {
            return;
        }
        // A clock that went back pays nothing; one that leapt on fills the savings at most.
        let passed_us = now_us.saturating_sub(paid_us).min(3_600_000_000);
        self.pay((passed_us as f64 * self.config.rate_min_per_s.max(0.0) * TOKEN as f64 / 1e6) as u64);
    }
}

/// A wait before attempt `attempt + 1` in microseconds: uniform in 0 to `first · 2^attempt`, at most `max` ("full jitter").
pub fn backoff_us(attempt: u32, first_us: u64, max_us: u64, random: u64) -> u64 {
    let bound_us = first_us.saturating_mul(1 << attempt.min(32)).min(max_us);
    ((u128::from(random) * (u128::from(bound_us) + 1)) >> 64) as u64
}

#[cfg(test)]
mod tests;
