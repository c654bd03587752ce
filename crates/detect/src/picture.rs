//! The findings of one incident, seen together with what the states know: who is ill where, and how much of an
//! excess has its origin here.

use crate::activity::Context;
use crate::detector::PairState;
use crate::finding::{Entity, Finding, Signal};
use crate::service::{InstanceState, ServiceState};
use crate::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// What ranking looks at.
pub(crate) struct World<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) context: &'a Context,
    pub(crate) instances: &'a [InstanceState],
    pub(crate) services: &'a [ServiceState],
    pub(crate) pairs: &'a [PairState],
}

/// Findings of one incident, indexed.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) findings: Vec<Finding>,
    /// Services and externals with any finding of theirs.
    pub(crate) services: BTreeSet<u32>,
    /// Signals that are off for services as a whole.
    pub(crate) whole: BTreeMap<u32, Vec<Finding>>,
    /// Instances that stand out, by service.
    pub(crate) ill: BTreeMap<u32, BTreeSet<u32>>,
    /// Instances that are gone.
    pub(crate) lost: BTreeSet<u32>,
    /// Pairs that are off.
    pub(crate) pairs: BTreeMap<u32, Vec<Finding>>,
    /// Hosts that are off.
    pub(crate) hosts: BTreeMap<u32, Vec<Finding>>,
}

impl Picture {
    pub(crate) fn of(world: &World<'_>, findings: impl Iterator<Item = Finding>) -> Self {
        let mut picture = Self::default();
        for finding in findings {
            picture.add(world, finding);
        }
        picture
    }

    fn add(&mut self, world: &World<'_>, finding: Finding) {
        match finding.entity {
            Entity::Service(at) => {
                self.services.insert(at);
                self.whole.entry(at).or_default().push(finding);
            }
            Entity::Instance(at) => {
                let service = world.topology.instances[at as usize].service;
                self.services.insert(service);
                if is_illness(finding.signal) {
                    self.ill.entry(service).or_default().insert(at);
                }
                if finding.signal == Signal::Presence {
                    self.lost.insert(at);
                }
            }
            Entity::Pair(at) => {
                let callee = world.topology.pairs[at as usize].callee;
                if world.topology.services[callee as usize].external {
                    self.services.insert(callee);
                }
                self.pairs.entry(at).or_default().push(finding);
            }
            Entity::Host(at) => self.hosts.entry(at).or_default().push(finding),
            Entity::Rack(_) | Entity::Datacenter(_) => {}
        }
        self.findings.push(finding);
    }

    /// All instances that stand out or are gone.
    pub(crate) fn all_ill(&self) -> impl Iterator<Item = u32> + '_ {
        self.ill.values().flatten().copied()
    }

    pub(crate) fn ill_of(&self, service: u32) -> usize {
        self.ill.get(&service).map_or(0, BTreeSet::len)
    }

    /// Findings that open incidents.
    pub(crate) fn strength(&self) -> u32 {
        self.findings.iter().filter(|finding| finding.opens).count() as u32
    }

    /// When the first finding began.
    pub(crate) fn onset_s(&self) -> u32 {
        self.findings.iter().map(|finding| finding.since_s).min().unwrap_or(0)
    }

    /// The callers, near and far, that are off as a whole: what a service's illness explains. Without the service itself.
    pub(crate) fn callers(&self, world: &World<'_>, service: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![(service, 0)];
        while let Some((at, depth)) = open.pop() {
            for &pair in world.topology.callers(at) {
                let caller = world.topology.pairs[pair as usize].caller;
                let is_ill = self.whole.contains_key(&caller);
                if caller != service && depth < CALLERS_DEPTH_MAX && found.len() < CALLERS_MAX {
                    // One caller that hides its callee's trouble does not cut the chain.
                    if is_ill && found.insert(caller) {
                        open.push((caller, depth + 1));
                    } else if !is_ill && depth == 0 {
                        open.push((caller, CALLERS_DEPTH_MAX - 1));
                    }
                }
            }
        }
        found
    }
}

/// How far up an illness is followed.
const CALLERS_DEPTH_MAX: u32 = 6;
/// Callers followed.
const CALLERS_MAX: usize = 500;

/// Signals of an instance that make it ill, not merely busy.
pub(crate) fn is_illness(signal: Signal) -> bool {
    matches!(signal, Signal::Presence | Signal::Errors | Signal::Rejects | Signal::Latency | Signal::Cpu)
}

impl World<'_> {
    /// Share of a service's excess in a signal that its callees do not account for, 0 to 1.
    pub(crate) fn own_share(&self, service: u32, signal: Signal) -> f32 {
        let state = &self.services[service as usize];
        let pairs = || self.topology.callees(service).iter().map(|pair| &self.pairs[*pair as usize]);
        let requests = state.sums.requests.max(1.0);
        let (own, of_callees) = match signal {
            Signal::Latency | Signal::LatencyTail => {
                let excess = state.latency_ms - state.latency_usual_ms;
                let of_pair = |pair: &PairState| {
                    let excess = (pair.latency_ms - pair.latency_usual_ms).max(0.0);
                    let matters = excess > 0.15 * pair.latency_usual_ms;
                    if matters { excess * pair.requests / requests } else { 0.0 }
                };
                (excess, pairs().map(of_pair).sum::<f32>())
            }
            Signal::Errors => {
                let of_pair = |pair: &PairState| {
                    let errors = pair.errors.lasting_excess(pair.errors.baseline());
                    errors.max(0.0) + pair.rejects.lasting_excess(pair.rejects.baseline()).max(0.0)
                };
                (state.errors.lasting_excess(state.errors.baseline()), pairs().map(of_pair).sum::<f32>())
            }
            _ => return 1.0,
        };
        if own.is_nan() || own <= 0.0 { 1.0 } else { (1.0 - of_callees / own).clamp(0.0, 1.0) }
    }

    /// Share of a service's failures above its baseline that some of its instances account for, 0 to 1.
    pub(crate) fn share_of(&self, service: u32, instances: impl Iterator<Item = u32>) -> f32 {
        let state = &self.services[service as usize];
        let (mut part, baseline) = (0.0, state.errors.baseline() + state.rejects.baseline());
        for instance in instances {
            part += self.instances[instance as usize].failures_above(baseline);
        }
        let whole = state.failures_above(baseline);
        if whole <= 0.0 { 0.0 } else { (part / whole).clamp(0.0, 1.0) }
    }
}

impl InstanceState {
    fn failures_above(&self, share: f32) -> f32 {
        (self.errors.lasting_excess(share) + self.rejects.lasting_excess(0.0)).max(0.0)
    }
}

impl ServiceState {
    fn failures_above(&self, share: f32) -> f32 {
        (self.errors.lasting_excess(share) + self.rejects.lasting_excess(0.0)).max(0.0)
    }
}
