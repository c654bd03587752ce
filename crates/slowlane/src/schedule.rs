//! When the next item may start: a token bucket, the back-off of retries, and what a status means.
//!
//! Pure: time and randomness are parameters.

/// First bound of a back-off; doubles with each attempt.
const BACK_OFF_MS: u64 = 500;
/// Largest bound of a back-off.
pub const BACK_OFF_MS_MAX: u64 = 30_000;
/// Tokens gather for at most this long, so that a pause is not followed by a flood.
const BURST_MS: u64 = 50;
/// Conflicts (409) after which a receiver is believed: before, one means that an earlier delivery is still under way.
const CONFLICTS_MAX: u32 = 50;
/// Token units in one token: rates are thousandths a second and time is in microseconds.
const TOKEN: u64 = 1_000_000_000;

/// Tokens of one policy.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate_milli_rps: u64,
    tokens: u64,
    at_us: u64,
}

impl Bucket {
    /// Full, at this rate.
    pub fn new(rate_milli_rps: u64, now_us: u64) -> Self {
        Self { rate_milli_rps, tokens: TOKEN, at_us: now_us }
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, rate_milli_rps: u64, now_us: u64) {
        self.fill(now_us);
        self.rate_milli_rps = rate_milli_rps;
    }

    fn fill(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.at_us);
        let burst = self.rate_milli_rps.saturating_mul(BURST_MS * 1_000).max(TOKEN);
        self.tokens = self.tokens.saturating_add(self.rate_milli_rps.saturating_mul(passed_us)).min(burst);
        self.at_us = self.at_us.max(now_us);
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now_us: u64) -> bool {
        if self.tokens(now_us) == 0 {
            return false;
        }
        self.tokens -= TOKEN;
        true
    }

    /// Gives back one that was taken and not used.
    pub fn give_back(&mut self) {
        self.tokens = self.tokens.saturating_add(TOKEN);
    }

    /// Whole tokens there now; none at a rate of zero.
    pub fn tokens(&mut self, now_us: u64) -> u64 {
        self.fill(now_us);
        if self.rate_milli_rps == 0 { 0 } else { self.tokens / TOKEN }
    }

    /// As full as it gets: a new one would be no fuller.
    pub fn is_full(&mut self, now_us: u64) -> bool {
        self.tokens(now_us) > 0
    }

    /// Time until the next token, in µs; none at a rate of zero.
    pub fn next_us(&mut self, now_us: u64) -> Option<u64> {
        self.fill(now_us);
        let missing = TOKEN.saturating_sub(self.tokens);
        if missing == 0 {
            return Some(0);
        }
        (self.rate_milli_rps > 0).then(|| missing.div_ceil(self.rate_milli_rps))
    }
}

/// Wait after the `attempt`-th failure (1, 2, …), with full jitter: anything up to a bound that doubles.
pub fn back_off_ms(attempt: u32, random: u64) -> u64 {
    let bound = (BACK_OFF_MS << attempt.saturating_sub(1).min(16)).min(BACK_OFF_MS_MAX);
    random % (bound + 1)
}

/// What an attempt's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered.
    Done,
    /// Not yet.
    Retry,
    /// Never.
    Dead,
}

/// Judges the status of the `attempt`-th answer (1, 2, …). What says "later" (408, 425, 429, 5xx) is tried again without
/// end; 409 is what a receiver says while an earlier delivery of the same key is under way.
pub fn judge(status: u16, attempt: u32) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        408 | 425 | 429 | 500..=599 => Verdict::Retry,
        409 if attempt < CONFLICTS_MAX => Verdict::Retry,
        _ => Verdict::Dead,
    }
}

/// Judges the status of gRPC of the `attempt`-th answer: what a busy or broken receiver says (CANCELLED, UNKNOWN,
/// DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS) is tried again without end;
/// ALREADY_EXISTS is as 409.
pub fn judge_grpc(status: u16, attempt: u32) -> Verdict {
    match status {
        0 => Verdict::Done,
        1 | 2 | 4 | 8 | 10 | 13 | 14 | 15 => Verdict::Retry,
        6 if attempt < CONFLICTS_MAX => Verdict::Retry,
        _ => Verdict::Dead,
    }
}

#[cfg(test)]
mod tests;
