//! What a proxy knows about one service: its level, told or inferred, its retry budget, and counts.
//!
//! One for all workers, kept across routing tables; everything in it is atomic.

use super::settings::TenantLimit;
use crate::endpoint::Clock;
use admission::wire::Why;
use admission::{
    Advert, Callee, ClientThrottle, Config, Gate, Priority, RetryBudget, RetryConfig, Signal, TenantCap, Verdict,
};
use api::fleet::ProtectionSample;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A service that told its load within this time is believed to go on telling it: no gate here judges for it.
const AWARE_US: u64 = 5_000_000;
/// Requests after which a service's refusals are weighed at all: a few failures say nothing.
const THROTTLE_AFTER: u64 = 100;
/// Answers in a row after which a service is well again, whatever it refused in the throttle's window before.
const WELL_RUN: u32 = 20;
/// A service that refuses most requests gets one in this time all the same: how else would its recovery show?
const PROBE_US: u64 = 50_000;
/// Tenants told apart on one service.
const TENANTS_MAX: usize = 1_024;
/// Longest that a task is expected to take, where nothing says otherwise: the gate judges by the request's own deadline.
const TASK_US: u64 = 15_000_000;

/// What happened to a service's requests here. Counters grow from the proxy's start.
#[derive(Debug, Default)]
pub struct Counted {
    /// Rejected, by reason, in the order of [`Counted::REASONS`].
    pub rejects: [AtomicU64; 6],
    /// Of those, calls shed on behalf of callers, before the service that told its level saw them.
    pub shed_early: AtomicU64,
    /// Calls that callers say they shed before they reached us.
    pub shed_reported: AtomicU64,
    /// Attempts sent again.
    pub retries: AtomicU64,
    /// Attempts not sent again although they might have been: budget, level or deadline.
    pub retries_refused: AtomicU64,
    /// Requests answered by a policy in the service's place.
    pub policy_answers: AtomicU64,
    /// Load reports that were not believed.
    pub reports_refused: AtomicU64,
}

impl Counted {
    /// Why requests are rejected, as counted.
    pub const REASONS: [Why; 6] =
        [Why::Overload, Why::Deadline, Why::Overflow, Why::Policy, Why::Tenant, Why::Throttle];

    /// Counts a rejection.
    pub fn reject(&self, why: Why) {
        if let Some(at) = Self::REASONS.iter().position(|known| *known == why) {
            self.rejects[at].fetch_add(1, Relaxed);
        }
    }
}

/// One service.
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// What happened.
    pub counted: Counted,
    /// Retries that may be sent to it.
    pub budget: RetryBudget,
    /// Its level as it tells it.
    pub callee: Callee,
    clock: Clock,
    gate: Gate,
    throttle: ClientThrottle,
    tenants: Option<TenantCap>,
    aware_until_us: AtomicU64,
    in_flight: AtomicU32,
    /// Requests sent, up to [`THROTTLE_AFTER`].
    sent: AtomicU64,
    /// Answers since the last refusal, up to [`WELL_RUN`].
    well_run: AtomicU32,
    probed_us: AtomicU64,
}

impl Service {
    /// One that nothing is known about, for so many workers.
    pub fn new(name: Arc<str>, tenant: Option<&TenantLimit>, workers: usize, clock: Clock) -> Self {
        let now_us = clock.now_us();
        let config =
            Config { signal: Signal::Inferred, task_timeout_us: TASK_US, threads: workers, ..Config::default() };
        Self {
            name,
            counted: Counted::default(),
            budget: RetryBudget::new(RetryConfig::default(), now_us),
            callee: Callee::new(),
            clock,
            gate: Gate::new(config, now_us),
            throttle: ClientThrottle::new(),
            tenants: tenant.map(|limit| TenantCap::new(limit.share, TENANTS_MAX)),
            aware_until_us: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            // Well until it refuses: many requests at once before the first answer are no refusal.
            well_run: AtomicU32::new(WELL_RUN),
            probed_us: AtomicU64::new(0),
        }
    }

    /// It tells its own load, as services with the SDK do.
    pub fn is_aware(&self, now_us: u64) -> bool {
        now_us < self.aware_until_us.load(Relaxed)
    }

    /// It told its load.
    pub fn heard(&self, advert: Advert, now_us: u64) {
        self.callee.heard(advert, now_us);
        // Not on each answer: the line is shared by all workers.
        if self.aware_until_us.load(Relaxed) < now_us + AWARE_US / 2 {
            self.aware_until_us.store(now_us + AWARE_US, Relaxed);
        }
    }

    /// A caller says that it shed calls before they came here.
    pub fn reported(&self, priority: Priority, count: u32, now_us: u64) {
        self.counted.shed_reported.fetch_add(u64::from(count), Relaxed);
        self.gate.reported(priority, count, now_us);
    }

    /// What it may be asked for: told by itself, or inferred here.
    pub fn advert(&self, now_us: u64) -> Advert {
        if self.is_aware(now_us) {
            return Advert { level: self.callee.level(now_us), ..Advert::UNKNOWN };
        }
        self.gate.advert(now_us)
    }

    /// Its numbers, as they are reported.
    pub fn sample(&self, now_us: u64) -> ProtectionSample {
        let (advert, counted) = (self.advert(now_us), &self.counted);
        let count = |cell: &AtomicU64| cell.load(Relaxed);
        let [overload, deadline, overflow, policy, tenant, throttle] = &counted.rejects;
        ProtectionSample {
            service: self.name.to_string(),
            level: advert.level,
            demand_rps: advert.demand_rps,
            capacity_rps: advert.capacity_rps,
            queue_delay_us: advert.queue_delay_us,
            in_flight: self.in_flight.load(Relaxed),
            aware: self.is_aware(now_us),
            rejects_overload: count(overload),
            rejects_deadline: count(deadline),
            rejects_overflow: count(overflow),
            rejects_policy: count(policy),
            rejects_tenant: count(tenant),
            rejects_throttle: count(throttle),
            shed_early: count(&counted.shed_early),
            shed_reported: count(&counted.shed_reported),
            retries: count(&counted.retries),
            retries_refused: count(&counted.retries_refused),
            policy_answers: count(&counted.policy_answers),
            reports_refused: count(&counted.reports_refused),
        }
    }

    /// Whether a call of this priority would be admitted.
    pub fn allows(&self, priority: Priority, now_us: u64) -> bool {
        priority.within(self.advert(now_us).level)
    }

    /// One more call of a tenant.
    pub fn tenant_admits(&self, tenant: u64, now_us: u64) -> bool {
        let capacity = || f64::from(self.gate.advert(now_us).capacity_rps);
        self.tenants.as_ref().is_none_or(|tenants| tenants.admits(tenant, capacity(), now_us))
    }

    /// Asks for a request to be let through.
    pub fn admit(
        self: &Arc<Self>,
        priority: Priority,
        passes: bool,
        deadline_us: u64,
        now_us: u64,
    ) -> Result<Admitted, Why> {
        if self.is_aware(now_us) {
            if passes || self.callee.allows(priority, now_us) {
                return Ok(Admitted { service: Arc::clone(self), sent_us: now_us, gated: false, is_sent: false });
            }
            self.callee.shed(priority);
            self.counted.shed_early.fetch_add(1, Relaxed);
            return Err(Why::Overload);
        }
        if let Verdict::Reject(reason) = self.gate.offer(priority, passes, Some(deadline_us), now_us) {
            return Err(reason.into());
        }
        let admitted = Admitted { service: Arc::clone(self), sent_us: now_us, gated: true, is_sent: false };
        self.in_flight.fetch_add(1, Relaxed);
        if self.sent.load(Relaxed) < THROTTLE_AFTER {
            self.sent.fetch_add(1, Relaxed);
        }
        if self.is_well() {
            self.throttle.sent(now_us);
        } else if !self.throttle.allows(rand::random(), now_us) && !self.probes(now_us) {
            return Err(Why::Throttle);
        }
        Ok(admitted)
    }

    fn is_well(&self) -> bool {
        self.well_run.load(Relaxed) >= WELL_RUN || self.sent.load(Relaxed) < THROTTLE_AFTER
    }

    fn probes(&self, now_us: u64) -> bool {
        let probed_us = self.probed_us.load(Relaxed);
        now_us.abs_diff(probed_us) >= PROBE_US
            && self.probed_us.compare_exchange(probed_us, now_us, Relaxed, Relaxed).is_ok()
    }
}

/// A request that was let through; tells the gate what became of it, also when its caller gives up.
pub struct Admitted {
    service: Arc<Service>,
    sent_us: u64,
    gated: bool,
    /// The service has it, or may have it.
    is_sent: bool,
}

impl Admitted {
    /// It is sent once more, at this time: what the attempt before took says nothing about the next.
    pub fn sent_again(&mut self, now_us: u64) {
        self.sent_us = now_us;
        self.is_sent = false;
    }

    /// It leaves for the service now.
    pub fn sent(&mut self) {
        self.is_sent = true;
    }

    /// The service was too late, and may work on it still.
    pub fn late(mut self, now_us: u64) {
        self.service.well_run.store(0, Relaxed);
        self.gone(now_us);
    }

    /// No answer will come: the service never had it, or broke it off.
    pub fn lost(mut self, now_us: u64) {
        self.is_sent = false;
        self.gone(now_us);
    }

    fn gone(&mut self, now_us: u64) {
        if !std::mem::take(&mut self.gated) {
            return;
        }
        self.service.in_flight.fetch_sub(1, Relaxed);
        if self.is_sent {
            self.service.gate.given_up(now_us.saturating_sub(self.sent_us), now_us);
        } else {
            self.service.gate.abandoned(now_us);
        }
    }

    /// The service answered: after working on it (what its latency says counts) or not, as when it refuses.
    pub fn answered(mut self, worked: bool, refused: bool, now_us: u64) {
        if !std::mem::take(&mut self.gated) {
            return;
        }
        let service = &self.service;
        let in_flight = service.in_flight.fetch_sub(1, Relaxed);
        if refused {
            service.well_run.store(0, Relaxed);
        } else {
            service.throttle.accepted(now_us);
            if service.well_run.load(Relaxed) < WELL_RUN {
                service.well_run.fetch_add(1, Relaxed);
            }
        }
        if worked {
            service.gate.observed(in_flight, now_us.saturating_sub(self.sent_us), now_us);
        } else {
            service.gate.abandoned(now_us);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.gated {
            self.gone(self.service.clock.now_us());
        }
    }
}
