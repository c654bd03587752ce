//! Springtide's own protection: the very code of `admission`, wired as the proxy and the SDK wire it.
//!
//! A [`Gate`] stands at each copy, a [`Callee`] and a [`RetryBudget`] at each caller. Nothing is decided here.

use super::{Advert, Caller, Guard, Head, Queue, Refusal, Scheme};
use crate::rng::Rng;
use admission::{
    Bucket, Callee, Config, Gate, LEVEL_ALL, Priority, Reason, RetryBudget, RetryConfig, Signal, UserKey, Verdict,
};

/// How long a proxy believes what an endpoint told.
const LEVEL_LIFE_US: u64 = 2_000_000;
/// What a proxy takes for a task's time where nothing says otherwise.
const UNTOLD_TIMEOUT_US: u64 = 15_000_000;

/// The parameters of `admission`; its defaults are what ships.
#[derive(Debug, Clone)]
pub struct Ours {
    /// Name in tables.
    pub label: &'static str,
    /// Of each copy's gate.
    pub gate: Config,
    /// Of each caller's budget.
    pub retry: RetryConfig,
    /// How long a user keeps its level, in microseconds.
    pub rotation_us: u64,
    /// Callers keep back what the level refuses.
    pub keep_back: bool,
    /// The gate is told until when a call is wanted. A proxy at the entry is not: it learns only that callers hang up.
    pub told_deadlines: bool,
}

impl Ours {
    /// As shipped.
    pub fn shipped(rotation_us: u64) -> Self {
        let (gate, retry) = (Config { threads: 1, ..Config::default() }, RetryConfig::default());
        Self { label: "springtide", gate, retry, rotation_us, keep_back: true, told_deadlines: true }
    }

    /// As shipped, before a service that tells nothing: the gate sees calls come and answers go, and cannot take a call
    /// back that waits inside.
    pub fn inferred(rotation_us: u64) -> Self {
        let gate = Config { signal: Signal::Inferred, threads: 1, ..Config::default() };
        Self { label: "springtide-inferred", gate, ..Self::shipped(rotation_us) }
    }

    /// The same where nobody tells how long callers wait: they hang up.
    pub fn untold(rotation_us: u64) -> Self {
        let inferred = Self::inferred(rotation_us);
        let gate = Config { task_timeout_us: UNTOLD_TIMEOUT_US, ..inferred.gate };
        Self { label: "springtide-untold", gate, told_deadlines: false, ..inferred }
    }
}

impl Scheme for Ours {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, user: u64, class: u8, now_us: u64) -> u32 {
        let level =
            UserKey::from_bytes(*b"springtide-sim-1").hash(&user.to_le_bytes()).level(now_us / self.rotation_us);
        u32::from(Priority::new(class.min(63), level).expect("a class below 64 and a user level of its hash").as_u16())
    }
    fn guard(&self, _instance: u32, _workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        let gate = Gate::new(self.gate.clone(), 0);
        match self.gate.signal {
            Signal::Exact => Box::new(Gated(gate)),
            Signal::Inferred => {
                let untold_us = (!self.told_deadlines).then_some(self.gate.task_timeout_us);
                Box::new(Outside { gated: Gated(gate), in_flight: 0, untold_us })
            }
        }
    }
    fn caller(&self, _origin: u32, endpoints: usize) -> Box<dyn Caller> {
        let budget = RetryBudget::new(self.retry.clone(), 0);
        let endpoints = vec![Endpoint { level: LEVEL_ALL, heard_us: 0 }; endpoints];
        Box::new(View { callee: Callee::new(), budget, keep_back: self.keep_back, endpoints, refused_by: 0 })
    }
}

/// The priority that a head carries for this scheme.
fn priority_of(head: &Head) -> Priority {
    Priority::from_u16(head.priority as u16)
}

struct Gated(Gate);

impl Guard for Gated {
    fn arrive(&mut self, head: &Head, _queue: Queue, now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        for (bucket, count) in &head.report {
            if let Some(bucket) = Bucket::new(*bucket as u16) {
                self.0.reported(bucket.middle(), *count, now_us);
            }
        }
        match self.0.offer(priority_of(head), head.admitted, Some(head.deadline_us), now_us) {
            Verdict::Admit => Ok(()),
            Verdict::Reject(Reason::Overload | Reason::Doomed) => Err(Refusal::Rejected),
            Verdict::Reject(Reason::Expired) => Err(Refusal::Expired),
            Verdict::Reject(Reason::Overflow) => Err(Refusal::Overflow),
        }
    }
    fn start(&mut self, head: &Head, delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        if now_us >= head.deadline_us {
            self.0.abandoned(now_us);
            return Err(Refusal::Expired);
        }
        self.0.started(delay_us, now_us);
        Ok(())
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, work_us: u64, now_us: u64) {
        self.0.finished(work_us, now_us);
    }
    fn unstarted(&mut self, _head: &Head, now_us: u64) {
        self.0.abandoned(now_us);
    }
    fn advert(&mut self, _origin: u32, _head: &Head, now_us: u64) -> Advert {
        let told = self.0.advert(now_us);
        Advert {
            level: told.level,
            demand_rps: told.demand_rps,
            capacity_rps: told.capacity_rps,
            queue_delay_us: told.queue_delay_us,
            credits: i32::MAX,
        }
    }
}

/// A gate in front of a copy, which sees no queue.
struct Outside {
    gated: Gated,
    in_flight: u32,
    /// The time that it believes a call has, where callers do not tell.
    untold_us: Option<u64>,
}

impl Guard for Outside {
    fn arrive(&mut self, head: &Head, queue: Queue, now_us: u64, rng: &mut Rng) -> Result<(), Refusal> {
        match self.untold_us {
            None => self.gated.arrive(head, queue, now_us, rng)?,
            Some(us) => {
                let head = Head { deadline_us: now_us + us, ..head.clone() };
                self.gated.arrive(&head, queue, now_us, rng)?;
            }
        }
        self.in_flight += 1;
        Ok(())
    }
    fn start(&mut self, _head: &Head, _delay_us: u64, _now_us: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn finish(&mut self, _head: &Head, delay_us: u64, work_us: u64, now_us: u64) {
        self.gated.0.observed(self.in_flight, delay_us + work_us, now_us);
        self.in_flight -= 1;
    }
    fn given_up(&mut self, waited_us: u64, now_us: u64) -> bool {
        self.gated.0.given_up(waited_us, now_us);
        self.in_flight -= 1;
        true
    }
    fn advert(&mut self, origin: u32, head: &Head, now_us: u64) -> Advert {
        self.gated.advert(origin, head, now_us)
    }
}

struct View {
    callee: Callee,
    budget: RetryBudget,
    keep_back: bool,
    endpoints: Vec<Endpoint>,
    /// The one that last refused a call.
    refused_by: usize,
}

/// What an endpoint told.
#[derive(Clone)]
struct Endpoint {
    level: u32,
    heard_us: u64,
}

impl View {
    /// Another endpoint than the one that refused has room, by the proxy's rule.
    fn has_room_elsewhere(&self, priority: Priority, now_us: u64) -> bool {
        let has_room = |at: &Endpoint| {
            let is_old = now_us >= at.heard_us + LEVEL_LIFE_US;
            is_old || priority.surely_within(at.level)
        };
        self.endpoints.iter().enumerate().any(|(number, at)| number != self.refused_by && has_room(at))
    }
}

impl Caller for View {
    fn send(&mut self, _endpoint: usize, head: &mut Head, now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        let priority = priority_of(head);
        if self.keep_back && !head.admitted && !self.callee.allows(priority, now_us) {
            self.callee.shed(priority);
            return Err(Refusal::Shed);
        }
        if head.attempt == 0 {
            self.budget.called();
        }
        let shed = self.callee.take_shed();
        head.report = shed.pairs().iter().map(|(bucket, count)| (u32::from(bucket.number()), *count)).collect();
        Ok(())
    }
    fn heard(&mut self, endpoint: usize, advert: &Advert, refused: bool, now_us: u64) {
        self.endpoints[endpoint] = Endpoint { level: advert.level, heard_us: now_us };
        if refused {
            self.refused_by = endpoint;
        }
        let told = admission::Advert {
            level: advert.level,
            demand_rps: advert.demand_rps,
            capacity_rps: advert.capacity_rps,
            queue_delay_us: advert.queue_delay_us,
        };
        self.callee.heard(told, now_us);
    }
    fn retry(&mut self, head: &Head, why: Refusal, _wait_us: u64, now_us: u64, rng: &mut Rng) -> Option<u64> {
        if matches!(why, Refusal::Rejected | Refusal::Overflow) && !self.has_room_elsewhere(priority_of(head), now_us) {
            return None;
        }
        // Not `allows`, whose now and then a probe is meant for first attempts.
        let allowed = head.admitted || priority_of(head).within(self.callee.level(now_us));
        let remaining_us = Some(head.task_deadline_us.saturating_sub(now_us));
        self.budget.retry(head.attempt, allowed, remaining_us, rng.bits(), now_us).ok()
    }
}
