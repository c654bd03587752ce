//! CoDel at a service's queue: Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012 (RFC 8289), calls for packets.
//!
//! While the delay stays over `target_us` for `interval_us`, calls are dropped from the queue's head at intervals that shrink with the root of their number.

use super::{Advert, Caller, Guard, Head, Nothing, Queue, Refusal, Scheme};
use crate::rng::Rng;

/// Its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Codel {
    /// Name in tables.
    pub label: &'static str,
    /// Delay that may stand, in microseconds (RFC 8289: 5 ms).
    pub target_us: u64,
    /// How long it must stand before a call is dropped, in microseconds (RFC 8289: 100 ms).
    pub interval_us: u64,
    /// Calls past their deadline are dropped before their work.
    pub drop_expired: bool,
}

impl Codel {
    /// RFC 8289's parameters.
    pub fn paper() -> Self {
        Self { label: "codel", target_us: 5_000, interval_us: 100_000, drop_expired: false }
    }
}

impl Scheme for Codel {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, _user: u64, class: u8, _now_us: u64) -> u32 {
        u32::from(class)
    }
    fn guard(&self, _instance: u32, _workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        let codel = self.clone();
        Box::new(State { codel, first_above_us: None, next_drop_us: 0, count: 0, last_count: 0, dropping: false })
    }
    fn caller(&self, _origin: u32, _endpoints: usize) -> Box<dyn Caller> {
        Box::new(Nothing)
    }
}

struct State {
    codel: Codel,
    first_above_us: Option<u64>,
    next_drop_us: u64,
    count: u32,
    last_count: u32,
    dropping: bool,
}

impl State {
    fn control_law(&self, from_us: u64) -> u64 {
        from_us + (self.codel.interval_us as f64 / f64::from(self.count.max(1)).sqrt()) as u64
    }

    /// True when the delay has stood over the target for an interval.
    fn stands(&mut self, delay_us: u64, now_us: u64) -> bool {
        if delay_us < self.codel.target_us {
            self.first_above_us = None;
            return false;
        }
        match self.first_above_us {
            None => {
                self.first_above_us = Some(now_us + self.codel.interval_us);
                false
            }
            Some(at) => now_us >= at,
        }
    }

    fn drops(&mut self, delay_us: u64, now_us: u64) -> bool {
        let stands = self.stands(delay_us, now_us);
        if self.dropping {
            if !stands {
                self.dropping = false;
                return false;
            }
            if now_us < self.next_drop_us {
                return false;
            }
            self.count += 1;
            self.next_drop_us = self.control_law(self.next_drop_us);
            return true;
        }
        if !stands {
            return false;
        }
        self.dropping = true;
        let since = self.count - self.last_count;
        let recent = now_us.saturating_sub(self.next_drop_us) < 16 * self.codel.interval_us;
        self.count = if since > 1 && recent { since } else { 1 };
        self.last_count = self.count;
        self.next_drop_us = self.control_law(now_us);
        true
    }
}

impl Guard for State {
    fn arrive(&mut self, _head: &Head, _queue: Queue, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        Ok(())
    }
    fn start(&mut self, head: &Head, delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        if self.codel.drop_expired && now_us >= head.deadline_us {
            return Err(Refusal::Expired);
        }
        if self.drops(delay_us, now_us) { Err(Refusal::Dropped) } else { Ok(()) }
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, _work_us: u64, _now_us: u64) {}
    fn advert(&mut self, _origin: u32, _head: &Head, _now_us: u64) -> Advert {
        Advert::OPEN
    }
}
