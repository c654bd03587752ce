//! Gradient2, the adaptive concurrency limit of Netflix's concurrency-limits library: a copy's limit follows the ratio of its
//! long-term latency to its latest, and calls over the limit are turned away.

use super::{Advert, Caller, Guard, Head, Nothing, Queue, Refusal, Scheme};
use crate::rng::Rng;

/// Its parameters; the library's defaults are 20, 200, 4, 1.5, 0.2 and 600.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient2 {
    /// Name in tables.
    pub label: &'static str,
    /// Least limit, and the first.
    pub limit_min: f64,
    /// Greatest limit.
    pub limit_max: f64,
    /// Calls that may queue.
    pub queue: f64,
    /// How many times the long-term latency is no congestion yet.
    pub tolerance: f64,
    /// Weight of each new limit.
    pub smoothing: f64,
    /// Calls over which the long-term latency is averaged.
    pub long_calls: u32,
    /// Calls past their deadline are dropped before their work.
    pub drop_expired: bool,
}

impl Gradient2 {
    /// The library's defaults.
    pub fn paper() -> Self {
        Self {
            label: "gradient2",
            limit_min: 20.0,
            limit_max: 200.0,
            queue: 4.0,
            tolerance: 1.5,
            smoothing: 0.2,
            long_calls: 600,
            drop_expired: false,
        }
    }
}

impl Scheme for Gradient2 {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, _user: u64, class: u8, _now_us: u64) -> u32 {
        u32::from(class)
    }
    fn guard(&self, _instance: u32, _workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        let limit = self.limit_min;
        Box::new(Limit { gradient: self.clone(), limit, long_us: 0.0, samples: 0, in_flight: 0 })
    }
    fn caller(&self, _origin: u32, _endpoints: usize) -> Box<dyn Caller> {
        Box::new(Nothing)
    }
}

struct Limit {
    gradient: Gradient2,
    limit: f64,
    long_us: f64,
    samples: u32,
    in_flight: u32,
}

impl Limit {
    fn sample(&mut self, latency_us: f64, in_flight: f64) {
        let g = &self.gradient;
        self.samples += 1;
        // The library warms its average up over the first ten samples, then weighs exponentially.
        if self.samples <= 10 {
            self.long_us += (latency_us - self.long_us) / f64::from(self.samples);
        } else {
            self.long_us += (latency_us - self.long_us) * 2.0 / f64::from(g.long_calls + 1);
        }
        if self.long_us / latency_us > 2.0 {
            self.long_us *= 0.95;
        }
        if in_flight < self.limit / 2.0 {
            return;
        }
        let gradient = (g.tolerance * self.long_us / latency_us).clamp(0.5, 1.0);
        let next = self.limit * gradient + g.queue;
        self.limit = (self.limit * (1.0 - g.smoothing) + next * g.smoothing).clamp(g.limit_min, g.limit_max);
    }
}

impl Guard for Limit {
    fn arrive(&mut self, _head: &Head, _queue: Queue, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        if f64::from(self.in_flight) >= self.limit.floor() {
            return Err(Refusal::Rejected);
        }
        self.in_flight += 1;
        Ok(())
    }
    fn start(&mut self, head: &Head, _delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        if self.gradient.drop_expired && now_us >= head.deadline_us {
            self.in_flight -= 1;
            return Err(Refusal::Expired);
        }
        Ok(())
    }
    fn finish(&mut self, _head: &Head, delay_us: u64, work_us: u64, _now_us: u64) {
        self.sample((delay_us + work_us) as f64, f64::from(self.in_flight));
        self.in_flight -= 1;
    }
    fn unstarted(&mut self, _head: &Head, _now_us: u64) {
        self.in_flight -= 1;
    }
    fn advert(&mut self, _origin: u32, _head: &Head, _now_us: u64) -> Advert {
        Advert::OPEN
    }
}
