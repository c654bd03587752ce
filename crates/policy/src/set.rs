//! The policies in force, compiled and in order, and what they decide for a request.

use crate::expression::Expression;
use crate::head::{Head, user_share};
use crate::order::{self, Severity};
use admission::RateLimit;
use model::{Policy, PolicyAction, Throttle};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// What a rate lets come at once, in seconds of it; one request always.
const BURST_SECONDS: f64 = 0.1;

/// A policy and when it ends here.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// Its version: grows by one with each change of the policy of this name.
    pub version: u64,
    /// Its end, in microseconds of the caller's monotonic clock.
    pub ends_us: u64,
}

/// Where the set acts, for limits that many share.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The datacenter of this proxy.
    pub datacenter: String,
    /// Live proxies by datacenter.
    pub proxies: BTreeMap<String, u32>,
    /// Every rate is multiplied by this: 1, or the sampled share in a dry run.
    pub rate_scale: f64,
}

impl Default for Place {
    fn default() -> Self {
        Self { datacenter: String::new(), proxies: BTreeMap::new(), rate_scale: 1.0 }
    }
}

impl Place {
    /// This place's share of a rate that all proxies in a policy's scope have together.
    fn share(&self, policy: &Policy) -> f64 {
        let all: u32 = match &policy.datacenter {
            Some(datacenter) => self.proxies.get(datacenter.as_str()).copied().unwrap_or(1),
            None => self.proxies.values().sum(),
        };
        self.rate_scale / f64::from(all.max(1))
    }
}

/// What a policy did here. Counters grow as long as its version stands.
#[derive(Debug, Default)]
pub struct Counts {
    matched: AtomicU64,
    taken: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
    failure: OnceLock<String>,
}

impl Counts {
    /// Requests that the policy governed.
    pub fn matched(&self) -> u64 {
        self.matched.load(Relaxed)
    }

    /// Requests that it took.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed).saturating_sub(self.passed.load(Relaxed))
    }

    /// Requests for which its expression failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// The first failure, in words.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// A request that it took went on to the service after all: there was nothing to answer it with.
    pub fn count_passed(&self) {
        self.passed.fetch_add(1, Relaxed);
    }
}

/// A compiled policy.
pub struct Entry {
    /// The policy.
    pub policy: Policy,
    /// Its version.
    pub version: u64,
    /// Its end, in microseconds of the caller's monotonic clock.
    pub ends_us: u64,
    /// What it did here.
    pub counts: Arc<Counts>,
    severity: Severity,
    when: Option<Expression>,
    /// This place's part of the action's rate.
    rate: f64,
    limit: Arc<RateLimit>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("policy", &self.policy).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Entry {
    /// This place's part of the rate of a throttle by rate, or of a slow lane, in requests a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    fn governs(&self, head: &Head<'_>) -> bool {
        let policy = &self.policy;
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        let scope = is(policy.service.as_ref().map(|name| name.as_str()), head.service)
            && is(policy.business.as_ref().map(|name| name.as_str()), head.business)
            && is(policy.datacenter.as_ref().map(|name| name.as_str()), head.datacenter)
            && policy.route.as_ref().is_none_or(|route| order::under(head.path, route));
        if !scope {
            return false;
        }
        let Some(when) = &self.when else { return true };
        match when.matches(head) {
            Ok(matches) => matches,
            Err(failure) => {
                self.counts.failed.fetch_add(1, Relaxed);
                self.counts.failure.get_or_init(|| failure);
                false
            }
        }
    }

    fn takes(&self, head: &Head<'_>, now_us: u64) -> bool {
        match self.policy.action {
            PolicyAction::Throttle(Throttle::UsersPercent(percent)) => {
                head.user.is_some_and(|user| user_share(user) < percent / 100.0)
            }
            PolicyAction::Throttle(Throttle::RequestsPerSecond(_)) => !self.limit.admits(now_us),
            PolicyAction::Throttle(Throttle::BusinessLevelsFrom(from)) => head.business_level() >= from,
            PolicyAction::Suppress(_) | PolicyAction::Degrade(_) | PolicyAction::Slow(_) => true,
        }
    }
}

/// A request that a policy takes: the action says what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// The policy that takes it.
    pub entry: &'a Arc<Entry>,
}

impl Taken<'_> {
    /// What to do with it.
    pub fn action(&self) -> &PolicyAction {
        &self.entry.policy.action
    }
}

/// Policies in the order in which they are asked. Shared by all threads of a process: counters and rates are atomics.
#[derive(Debug, Default)]
pub struct PolicySet {
    entries: Vec<Arc<Entry>>,
}

impl PolicySet {
    /// Compiles policies for a place. One that cannot be compiled here (it may come from a newer server) is left out and
    /// named; the others act.
    pub fn compile(policies: Vec<InForce>, place: &Place) -> (Self, Vec<(String, String)>) {
        let mut set = Self::default();
        let mut refused = Vec::new();
        for of in policies {
            let when = match of.policy.when.as_deref().map(Expression::compile).transpose() {
                Ok(when) => when,
                Err(fault) => {
                    refused.push((of.policy.name.to_string(), format!("when: {fault}")));
                    continue;
                }
            };
            let rate = match &of.policy.action {
                PolicyAction::Throttle(Throttle::RequestsPerSecond(rate)) => *rate,
                PolicyAction::Slow(slow) => slow.requests_per_second,
                _ => 0.0,
            };
            let rate = rate * place.share(&of.policy);
            set.entries.push(Arc::new(Entry {
                severity: Severity::of(&of.policy.action),
                rate,
                limit: Arc::new(RateLimit::new(rate, (rate * BURST_SECONDS) as u32)),
                when,
                policy: of.policy,
                version: of.version,
                ends_us: of.ends_us,
                counts: Arc::default(),
            }));
        }
        set.entries.sort_by(|a, b| order::rank(&a.policy).cmp(&order::rank(&b.policy)));
        (set, refused)
    }

    /// Leaves out what is not enforced here: of those that stay, none is hidden by another that does nothing. `keeps` is
    /// asked in the order of the policies.
    pub fn only(mut self, mut keeps: impl FnMut(&PolicyAction) -> bool) -> Self {
        self.entries.retain(|entry| keeps(&entry.policy.action));
        self
    }

    /// Goes on counting and limiting where `before` stood: a set that is compiled anew forgets nothing.
    pub fn inheriting(mut self, before: &PolicySet) -> Self {
        for entry in &mut self.entries {
            let Some(old) = before.entries.iter().find(|old| old.policy.name == entry.policy.name) else { continue };
            let entry = Arc::get_mut(entry).expect("a set just compiled shares nothing");
            if old.rate == entry.rate {
                entry.limit = Arc::clone(&old.limit);
            }
            if old.version == entry.version {
                entry.counts = Arc::clone(&old.counts);
            }
        }
        self
    }

    /// What the policies do with a request: `None` lets it pass.
    ///
    /// Of each kind of action the first policy, in order, whose scope and expression match governs; it takes the request or
    /// not, and later ones of its kind are not asked.
    pub fn decide(&self, head: &Head<'_>, now_us: u64) -> Option<Taken<'_>> {
        self.first(head, now_us, |_| true)
    }

    /// The same for what a slow lane releases: it was slowed already, so no policy slows it again, whatever its name, and
    /// those of other kinds are asked as if that one were not there.
    pub fn decide_released(&self, head: &Head<'_>, now_us: u64) -> Option<Taken<'_>> {
        self.first(head, now_us, |entry| entry.severity != Severity::Slow)
    }

    /// The first policy that takes a request, of those that may.
    fn first(&self, head: &Head<'_>, now_us: u64, may: impl Fn(&Entry) -> bool) -> Option<Taken<'_>> {
        let mut governed = 0_u8;
        for entry in &self.entries {
            let kind = 1 << (entry.severity as u8);
            if governed & kind != 0 || entry.ends_us <= now_us || !may(entry) || !entry.governs(head) {
                continue;
            }
            governed |= kind;
            entry.counts.matched.fetch_add(1, Relaxed);
            if entry.takes(head, now_us) {
                entry.counts.taken.fetch_add(1, Relaxed);
                return Some(Taken { entry });
            }
        }
        None
    }

    /// The policies in the order in which they are asked, ended ones too.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// True when nothing is to be asked: the way of a request through it costs nothing then.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests;
