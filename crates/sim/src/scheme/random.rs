//! Random shedding in proportion: each call is admitted with chance capacity ÷ arrivals, whoever sent it.
//!
//! It is told the true capacity, so what it loses it loses by being random: n calls of a task must all be lucky. With
//! `fixed`, the chance is a constant, which theory can be checked against.

use super::{Advert, Caller, Guard, Head, Nothing, Queue, Refusal, Scheme};
use crate::rng::Rng;

/// Its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Random {
    /// Name in tables.
    pub label: &'static str,
    /// Share of the true capacity that it admits.
    pub headroom: f64,
    /// Arrivals are counted over windows of this length, in microseconds.
    pub window_us: u64,
    /// The chance to be admitted, always.
    pub fixed: Option<f64>,
    /// Calls past their deadline are dropped before their work.
    pub drop_expired: bool,
}

impl Scheme for Random {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, _user: u64, class: u8, _now_us: u64) -> u32 {
        u32::from(class)
    }
    fn guard(&self, _instance: u32, _workers: u32, capacity_rps: f64) -> Box<dyn Guard> {
        let calls_per_window = capacity_rps * self.headroom * self.window_us as f64 / 1e6;
        Box::new(Share { random: self.clone(), calls_per_window, ends_us: self.window_us, came: 0, chance: 1.0 })
    }
    fn caller(&self, _origin: u32, _endpoints: usize) -> Box<dyn Caller> {
        Box::new(Nothing)
    }
}

struct Share {
    random: Random,
    calls_per_window: f64,
    ends_us: u64,
    came: u32,
    chance: f64,
}

impl Guard for Share {
    fn arrive(&mut self, _head: &Head, _queue: Queue, now_us: u64, rng: &mut Rng) -> Result<(), Refusal> {
        if now_us >= self.ends_us {
            self.chance = (self.calls_per_window / f64::from(self.came.max(1))).min(1.0);
            self.came = 0;
            self.ends_us = now_us + self.random.window_us;
        }
        self.came += 1;
        if rng.unit() <= self.random.fixed.unwrap_or(self.chance) { Ok(()) } else { Err(Refusal::Rejected) }
    }
    fn start(&mut self, head: &Head, _delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        if self.random.drop_expired && now_us >= head.deadline_us { Err(Refusal::Expired) } else { Ok(()) }
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, _work_us: u64, _now_us: u64) {}
    fn advert(&mut self, _origin: u32, _head: &Head, _now_us: u64) -> Advert {
        Advert::OPEN
    }
}
