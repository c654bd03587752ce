//! A credit scheme after Breakwater: Cho et al., "Overload Control for µs-scale RPCs with Breakwater", OSDI 2020.
//!
//! Each copy keeps a pool of credits that follows its queue delay once per round trip, deals it out to its callers by the
//! demand they report, and turns calls away when the delay is twice the target (the paper's AQM). A caller without a credit
//! does not send.
//!
//! Unlike the paper's, callers here keep no queue of their own: a call without a credit fails at once.

use super::{Advert, Caller, Guard, Head, Queue, Refusal, Scheme};
use crate::rng::Rng;
use std::collections::BTreeMap;

/// Its parameters; the paper's alpha is 0.1%, its beta 2%.
#[derive(Debug, Clone, PartialEq)]
pub struct Breakwater {
    /// Name in tables.
    pub label: &'static str,
    /// Delay aimed at, in microseconds.
    pub target_us: u64,
    /// Step up, as a share of the pool, at least one credit.
    pub alpha: f64,
    /// Step down, per multiple of the target that the delay is over it.
    pub beta: f64,
    /// How often the pool is adjusted, in microseconds (the paper: each round trip).
    pub round_us: u64,
    /// Calls past their deadline are dropped before their work.
    pub drop_expired: bool,
}

impl Breakwater {
    /// The paper's steps, with the target and the round of a service in milliseconds.
    pub fn paper() -> Self {
        Self { label: "breakwater", target_us: 20_000, alpha: 0.001, beta: 0.02, round_us: 5_000, drop_expired: false }
    }
}

/// Most callers that a copy knows.
const CALLERS_MAX: usize = 1_000;

impl Scheme for Breakwater {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, _user: u64, class: u8, _now_us: u64) -> u32 {
        u32::from(class)
    }
    fn guard(&self, _instance: u32, workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        Box::new(Pool {
            breakwater: self.clone(),
            credits: f64::from(workers),
            next_us: 0,
            delay_us: 0,
            demand: BTreeMap::new(),
        })
    }
    fn caller(&self, origin: u32, endpoints: usize) -> Box<dyn Caller> {
        Box::new(Purse {
            origin,
            credits: vec![1; endpoints],
            under_way: vec![0; endpoints],
            wanted: vec![0; endpoints],
        })
    }
}

struct Pool {
    breakwater: Breakwater,
    credits: f64,
    next_us: u64,
    /// Delay of the call whose work began last.
    delay_us: u64,
    /// Calls that each caller wanted to send and could not, as it told last.
    demand: BTreeMap<u32, u32>,
}

impl Pool {
    fn adjust(&mut self, now_us: u64) {
        if now_us < self.next_us {
            return;
        }
        self.next_us = now_us + self.breakwater.round_us;
        let target = self.breakwater.target_us as f64;
        let over = self.delay_us as f64 / target - 1.0;
        if over < 0.0 {
            self.credits += (self.breakwater.alpha * self.credits).max(1.0);
        } else {
            self.credits *= (1.0 - self.breakwater.beta * over).max(0.5);
        }
        self.credits = self.credits.clamp(1.0, f64::from(crate::script::INSTANCES_MAX) * 100.0);
    }
}

impl Guard for Pool {
    fn arrive(&mut self, head: &Head, queue: Queue, now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        self.adjust(now_us);
        for (origin, wanted) in &head.report {
            if self.demand.len() < CALLERS_MAX || self.demand.contains_key(origin) {
                self.demand.insert(*origin, *wanted);
            }
        }
        if queue.waiting > 0 && self.delay_us > 2 * self.breakwater.target_us {
            return Err(Refusal::Rejected);
        }
        Ok(())
    }
    fn start(&mut self, head: &Head, delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        self.delay_us = delay_us;
        self.adjust(now_us);
        if self.breakwater.drop_expired && now_us >= head.deadline_us {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, _work_us: u64, _now_us: u64) {}
    fn advert(&mut self, origin: u32, _head: &Head, now_us: u64) -> Advert {
        self.adjust(now_us);
        let all: f64 = self.demand.values().map(|wanted| f64::from(*wanted + 1)).sum();
        let mine = f64::from(self.demand.get(&origin).copied().unwrap_or(0) + 1);
        let share = if all > 0.0 { mine / all } else { 1.0 };
        Advert { credits: (self.credits * share).ceil() as i32, ..Advert::OPEN }
    }
}

struct Purse {
    origin: u32,
    credits: Vec<i32>,
    under_way: Vec<i32>,
    wanted: Vec<u32>,
}

impl Caller for Purse {
    fn send(&mut self, endpoint: usize, head: &mut Head, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        if self.under_way[endpoint] >= self.credits[endpoint] {
            self.wanted[endpoint] = self.wanted[endpoint].saturating_add(1);
            return Err(Refusal::Shed);
        }
        self.under_way[endpoint] += 1;
        head.report = vec![(self.origin, std::mem::take(&mut self.wanted[endpoint]))];
        Ok(())
    }
    fn heard(&mut self, endpoint: usize, advert: &Advert, _refused: bool, _now_us: u64) {
        self.under_way[endpoint] -= 1;
        self.credits[endpoint] = advert.credits;
    }
    fn lost(&mut self, endpoint: usize, _now_us: u64) {
        self.under_way[endpoint] -= 1;
    }
}
