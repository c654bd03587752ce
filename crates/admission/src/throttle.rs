//! Client-side throttling for services that advertise nothing ("Handling Overload", Site Reliability Engineering, 2016).

use crate::sliding::Sliding;

/// The window over which requests and accepts are compared (the book's two minutes, shortened: a night changes faster).
const WINDOW_US: u64 = 30_000_000;
/// Requests are refused once they exceed this many times the accepts (the book's K).
const MULTIPLIER: f64 = 2.0;

/// Refuses locally with probability `max(0, (requests − K·accepts) / (requests + 1))`, K = 2.
pub struct ClientThrottle {
    requests: Sliding,
    accepts: Sliding,
}

impl ClientThrottle {
    /// A throttle that has seen nothing and refuses nothing.
    pub const fn new() -> Self {
        Self { requests: Sliding::new(WINDOW_US), accepts: Sliding::new(WINDOW_US) }
    }

    /// Whether to send a request; `random` is any uniform number. Refused ones count as requests, as the book says.
    pub fn allows(&self, random: u64, now_us: u64) -> bool {
        let probability = self.refusal(now_us);
        self.requests.add(1, now_us);
        (random >> 11) as f64 / (1_u64 << 53) as f64 >= probability
    }

    /// Counts a request that is sent whatever the throttle would say.
    pub fn sent(&self, now_us: u64) {
        self.requests.add(1, now_us);
    }

    /// The service accepted one (it answered, whatever it answered, other than by a reject).
    pub fn accepted(&self, now_us: u64) {
        self.accepts.add(1, now_us);
    }

    /// The present probability of a local refusal, `0.0..1.0`.
    pub fn refusal(&self, now_us: u64) -> f64 {
        let requests = self.requests.sum(now_us);
        ((requests - MULTIPLIER * self.accepts.sum(now_us)) / (requests + 1.0)).max(0.0)
    }
}

impl Default for ClientThrottle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
