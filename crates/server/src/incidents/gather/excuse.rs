//! Rejections that operators' policies made, taken off what a second holds before the detector sees it.
//!
//! A proxy counts them exactly, by service ([`api::fleet::ProtectionSample`]), and reads them after its edges: what an edge
//! shows as rejected is in the count already. Not told is of which caller they were: each caller's rejections by proxies hold
//! the same share of them. Absent here: rejections by a service's own SDK, which a proxy sees only as its instance's answers.

use api::fleet::ProtectionSample;
use std::collections::{BTreeMap, HashMap};

/// For so long after it acted a policy counts as acting still: proxies tell it with their samples of everything.
const ACTS_US: u64 = 2_000_000;

/// What one proxy told of policies at one service.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    rejects: u64,
    answers: u64,
    /// By the proxy's clock, when either of them last grew.
    acted_us: Option<u64>,
}

/// What one proxy told of policies, by service.
#[derive(Debug, Default)]
pub struct Counted {
    services: HashMap<u32, Told>,
    /// The proxy has told something before: a service that it tells of first has counted from nought since then.
    is_met: bool,
}

impl Counted {
    /// Rejections by policies since the sample before.
    pub fn take(&mut self, service: u32, sample: &ProtectionSample, time_us: u64) -> u64 {
        let first = if self.is_met {
            Told::default()
        } else {
            Told { rejects: sample.rejects_policy, answers: sample.policy_answers, acted_us: None }
        };
        let told = self.services.entry(service).or_insert(first);
        // A counter that fell began anew.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let rejects = since(sample.rejects_policy, told.rejects);
        if rejects > 0 || since(sample.policy_answers, told.answers) > 0 {
            told.acted_us = Some(time_us);
        }
        (told.rejects, told.answers) = (sample.rejects_policy, sample.policy_answers);
        rejects
    }

    /// A sample of everything was taken.
    pub fn met(&mut self) {
        self.is_met = true;
    }

    /// A policy answers some of a service's requests: what a proxy itself answers says nothing of the service's latency.
    pub fn acts(&self, service: u32, time_us: u64) -> bool {
        let acted_us = self.services.get(&service).and_then(|told| told.acted_us);
        acted_us.is_some_and(|acted_us| time_us.abs_diff(acted_us) <= ACTS_US)
    }
}

/// What policies rejected in one second, and what proxies rejected in all, by service and by caller and service.
#[derive(Debug, Default)]
pub struct Excuses {
    policies: BTreeMap<u32, f32>,
    pairs: BTreeMap<(u32, u32), f32>,
}

impl Excuses {
    /// Policies rejected so many.
    pub fn policies(&mut self, service: u32, rejects: f32) {
        if rejects > 0.0 {
            *self.policies.entry(service).or_default() += rejects;
        }
    }

    /// A proxy itself rejected so many of a caller's, for whatever reason.
    pub fn proxy(&mut self, caller: u32, service: u32, rejects: f32) {
        if rejects > 0.0 {
            *self.pairs.entry((caller, service)).or_default() += rejects;
        }
    }

    /// Forgets.
    pub fn clear(&mut self) {
        self.policies.clear();
        self.pairs.clear();
    }

    /// Rejections to take off: services' and pairs'. What the edges do not show yet is left for the next second, and no longer.
    pub fn settle(&self, left: &mut BTreeMap<u32, f32>) -> (BTreeMap<u32, f32>, BTreeMap<(u32, u32), f32>) {
        let mut all = BTreeMap::<u32, f32>::new();
        self.pairs.iter().for_each(|((_, service), rejects)| *all.entry(*service).or_default() += rejects);
        let mut carried = BTreeMap::new();
        let mut shares = BTreeMap::new();
        for service in self.policies.keys().chain(left.keys()).copied() {
            let fresh = self.policies.get(&service).copied().unwrap_or(0.0);
            let owed = fresh + left.get(&service).copied().unwrap_or(0.0);
            let rejects = all.get(&service).copied().unwrap_or(0.0);
            if rejects > 0.0 {
                shares.insert(service, (owed / rejects).min(1.0));
            }
            let rest = (owed - rejects).min(fresh);
            if rest > 0.0 {
                carried.insert(service, rest);
            }
        }
        *left = carried;
        let services = shares.iter().map(|(service, share)| (*service, all[service] * share)).collect();
        let pairs = self.pairs.iter().filter_map(|(pair, rejects)| Some((*pair, rejects * shares.get(&pair.1)?)));
        (services, pairs.collect())
    }
}
