//! Ranking of probable causes. Every candidate is asked two things: how much of what was found would it explain, and how
//! much of what it would bring about was found? The product, with the share of a service's excess that is its own, is its
//! score. So the deepest ill callee beats its callers, one instance beats its service when the failures are its, and a
//! rack beats its hosts and its datacenter when it is just the rack that is gone.

use crate::finding::{Entity, EntityRef, Finding, Signal};
use crate::incident::CAUSES_MAX;
use crate::picture::{Picture, World};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// It is gone.
    Loss,
    /// It fails requests.
    Errors,
    /// It rejects requests fast: it is overloaded, or told to.
    Rejects,
    /// It is slow.
    Slow,
    /// It is hotter than its peers: slow, or burning CPU.
    Hot,
    /// A release brought it.
    Release,
    /// More requests than expected.
    DemandSurge,
    /// Fewer requests than expected.
    DemandDrop,
}

impl std::fmt::Display for CauseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss of",
            Self::Errors => "errors of",
            Self::Rejects => "fast rejections by",
            Self::Slow => "slowness of",
            Self::Hot => "hot",
            Self::Release => "release of",
            Self::DemandSurge => "demand surge at",
            Self::DemandDrop => "demand drop at",
        })
    }
}

/// Why a cause is believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Evidence {
    /// A signal left its baseline.
    Signal {
        /// Of what.
        entity: EntityRef,
        /// Which.
        signal: Signal,
        /// Expected.
        baseline: f32,
        /// Seen.
        observed: f32,
    },
    /// So much of all that was found follows from it.
    Explains {
        /// Share, 0 to 1.
        share: f32,
    },
    /// So many of the instances in the place are ill.
    Place {
        /// Ill.
        ill: u32,
        /// In the place.
        of: u32,
    },
    /// So much of the service's failures come from it.
    Concentration {
        /// Share, 0 to 1.
        share: f32,
    },
    /// So much of the excess is not its callees'.
    Own {
        /// Share, 0 to 1.
        share: f32,
    },
    /// A release began shortly before.
    Release {
        /// Seconds from its begin to the onset.
        seconds_before: u64,
        /// Ill instances of the new version.
        ill_new: u32,
        /// Ill instances of the old versions.
        ill_old: u32,
    },
    /// So many callers suffer.
    Callers {
        /// Count.
        count: u32,
    },
}

/// A probable cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// What went wrong.
    pub kind: CauseKind,
    /// With what.
    pub entity: EntityRef,
    /// Share of belief, over all causes listed.
    pub score: f32,
    /// Why.
    pub evidence: Vec<Evidence>,
}

struct Candidate {
    kind: CauseKind,
    entity: Entity,
    score: f32,
    evidence: Vec<Evidence>,
}

/// Signals listed as evidence of one cause.
const SIGNALS_LISTED_MAX: usize = 4;
/// Share of a service's failures at which they count as those of a few instances.
const CONCENTRATED: f32 = 0.6;
/// Requests against those expected from which a service is crowded.
const CROWDED: f32 = 1.15;
/// What a release that fits is preferred by.
const RELEASE_PRIOR: f32 = 1.15;

pub(crate) struct Ranker<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) picture: &'a Picture,
    total: f32,
    candidates: Vec<Candidate>,
}

/// The causes of a picture, best first.
pub(crate) fn rank(world: &World<'_>, picture: &Picture) -> Vec<Cause> {
    let total = picture.findings.iter().map(|finding| weight(world, picture, finding)).sum();
    let mut ranker = Ranker { world, picture, total, candidates: Vec::new() };
    ranker.services();
    ranker.instances();
    ranker.places();
    ranker.releases();
    ranker.externals();
    ranker.demand();
    let mut candidates = ranker.candidates;
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.entity.cmp(&b.entity)));
    candidates.truncate(CAUSES_MAX);
    let sum: f32 = candidates.iter().map(|candidate| candidate.score).sum();
    let cause = |candidate: Candidate| Cause {
        kind: candidate.kind,
        entity: candidate.entity.named(world.topology),
        score: candidate.score / sum.max(f32::MIN_POSITIVE),
        evidence: candidate.evidence,
    };
    candidates.into_iter().map(cause).collect()
}

/// How much a finding asks for an explanation.
fn weight(world: &World<'_>, picture: &Picture, finding: &Finding) -> f32 {
    match finding.entity {
        Entity::Service(_) => match finding.signal {
            Signal::LatencyTail | Signal::Requests => 1.0,
            _ => 3.0,
        },
        Entity::Instance(at) => {
            let service = world.topology.instances[at as usize].service;
            let many = (picture.ill_of(service) as f32 / 3.0).max(1.0);
            if finding.opens { 1.5 / many } else { 0.2 / many }
        }
        Entity::Pair(_) => {
            if finding.opens {
                1.5
            } else {
                0.4
            }
        }
        _ => 0.6,
    }
}

impl Ranker<'_> {
    /// Share of all findings that follow from an illness which covers `own` fully, and through it these services.
    fn explained(&self, own: impl Fn(&Finding) -> f32, through: &BTreeSet<u32>) -> f32 {
        let topology = self.world.topology;
        let follows = |finding: &Finding| match finding.entity {
            Entity::Service(at) => f32::from(u8::from(through.contains(&at))),
            Entity::Pair(at) => {
                let pair = topology.pairs[at as usize];
                f32::from(u8::from(through.contains(&pair.caller) && !topology.services[pair.callee as usize].external))
            }
            Entity::Instance(at) if through.contains(&topology.instances[at as usize].service) => 0.6,
            _ => 0.0,
        };
        let explains = |finding: &Finding| own(finding).max(follows(finding)).min(1.0);
        let sum: f32 = self.picture.findings.iter().map(|f| explains(f) * weight(self.world, self.picture, f)).sum();
        sum / self.total.max(f32::MIN_POSITIVE)
    }

    fn push(&mut self, kind: CauseKind, entity: Entity, explained: f32, fit: f32, mut evidence: Vec<Evidence>) {
        let score = explained * fit;
        if score < 0.01 {
            return;
        }
        let mut signals = self.signals(entity);
        signals.append(&mut evidence);
        signals.push(Evidence::Explains { share: explained });
        self.candidates.push(Candidate { kind, entity, score, evidence: signals });
    }

    fn signals(&self, entity: Entity) -> Vec<Evidence> {
        let topology = self.world.topology;
        let concerns = |finding: &&Finding| match (entity, finding.entity) {
            (Entity::Service(service), Entity::Pair(pair)) => {
                let callee = topology.pairs[pair as usize].callee;
                callee == service && topology.services[service as usize].external
            }
            (a, b) => a == b,
        };
        let found = self.picture.findings.iter().filter(concerns).take(SIGNALS_LISTED_MAX);
        found
            .map(|finding| Evidence::Signal {
                entity: finding.entity.named(topology),
                signal: finding.signal,
                baseline: finding.baseline,
                observed: finding.observed,
            })
            .collect()
    }

    /// Services as a whole.
    fn services(&mut self) {
        let picture = self.picture;
        for (&service, found) in &picture.whole {
            let own = |signal| self.world.own_share(service, signal);
            let best = found.iter().filter(|finding| finding.signal != Signal::Requests).max_by(|a, b| {
                let strength = |f: &Finding| own(f.signal) * f.score.min(1.5) * preference(f.signal);
                strength(a).total_cmp(&strength(b))
            });
            let Some(best) = best else { continue };
            let share = own(best.signal);
            let few = self.concentration(service);
            let whole = if few >= CONCENTRATED && !is_latency(best.signal) { 0.3 } else { 1.0 };
            let through = picture.callers(self.world, service);
            let explained = self.explained(|finding| self.of_service(finding, service), &through);
            let evidence = vec![Evidence::Own { share }, Evidence::Callers { count: through.len() as u32 }];
            // Who is slow, or rejects, under more requests than ever is not the cause by itself.
            let crowded = if self.crowded(service) && best.signal != Signal::Errors { 0.6 } else { 1.0 };
            let fit = whole * crowded * (0.1 + 0.9 * share);
            self.push(kind_of(best.signal), Entity::Service(service), explained, fit, evidence);
        }
        for (&service, ill) in picture.ill.iter().filter(|(_, ill)| ill.len() >= 2) {
            if picture.whole.get(&service).is_some_and(|found| found.iter().any(|f| f.signal != Signal::Requests)) {
                continue;
            }
            let explained = self.explained(|finding| self.of_service(finding, service), &BTreeSet::new());
            let broad = ill.len() as f32 / self.world.topology.members(service).len() as f32;
            let kind = self.kind_of_ill(ill.iter().copied());
            let kind = if kind == CauseKind::Hot { CauseKind::Slow } else { kind };
            self.push(kind, Entity::Service(service), explained, 0.5 + 0.4 * broad, Vec::new());
        }
    }

    /// 1 for what is a service's own: itself, its instances, and the pairs that call it.
    fn of_service(&self, finding: &Finding, service: u32) -> f32 {
        let topology = self.world.topology;
        let is_own = match finding.entity {
            Entity::Service(at) => at == service,
            Entity::Instance(at) => topology.instances[at as usize].service == service,
            Entity::Pair(at) => topology.pairs[at as usize].callee == service,
            _ => false,
        };
        f32::from(u8::from(is_own))
    }

    /// Share of a service's failures that come from its ill instances, when these are few; else 0.
    fn concentration(&self, service: u32) -> f32 {
        let Some(ill) = self.picture.ill.get(&service) else { return 0.0 };
        if ill.len() * 2 > self.world.topology.members(service).len() {
            return 0.0;
        }
        self.world.share_of(service, ill.iter().copied())
    }

    /// Single instances.
    fn instances(&mut self) {
        let picture = self.picture;
        let asked_max = if picture.all_ill().count() > MANY_ILL { 1 } else { INSTANCES_ASKED_MAX };
        for (&service, ill) in &picture.ill {
            for &instance in ill.iter().take(asked_max) {
                let only: BTreeSet<u32> = [instance].into();
                let share = self.world.share_of(service, only.iter().copied());
                let (explained, concentration) = self.explained_by(&only, service, share);
                let kind = self.kind_of_ill(only.iter().copied());
                let alone = if ill.len() == 1 { 1.0 } else { 0.8 };
                self.push(kind, Entity::Instance(instance), explained, alone, concentration);
            }
        }
    }

    /// What some ill instances of one service explain: themselves, and their share of the whole and of its callers.
    fn explained_by(&self, ill: &BTreeSet<u32>, service: u32, share: f32) -> (f32, Vec<Evidence>) {
        let topology = self.world.topology;
        let through = self.picture.callers(self.world, service);
        let reaches = if share >= CONCENTRATED { through } else { BTreeSet::new() };
        let own = |finding: &Finding| match finding.entity {
            Entity::Instance(at) if ill.contains(&at) => 1.0,
            Entity::Service(at) if at == service && !is_latency(finding.signal) => share,
            Entity::Pair(at) if topology.pairs[at as usize].callee == service => share,
            Entity::Host(at) => {
                let here = ill.iter().any(|instance| topology.instances[*instance as usize].host == at);
                if here { 0.5 } else { 0.0 }
            }
            _ => 0.0,
        };
        (self.explained(own, &reaches), vec![Evidence::Concentration { share }])
    }

    /// Hosts, racks and datacenters.
    fn places(&mut self) {
        let ill: BTreeSet<u32> = self.picture.all_ill().collect();
        if ill.len() < 2 && self.picture.hosts.is_empty() {
            return;
        }
        let topology = self.world.topology;
        let places = |instance: u32| {
            let host = topology.instances[instance as usize].host;
            let (rack, datacenter) = topology.place_of(host);
            [Entity::Host(host), Entity::Rack(rack), Entity::Datacenter(datacenter)]
        };
        let mut counts: BTreeMap<Entity, (u32, u32)> = BTreeMap::new();
        for &instance in &ill {
            places(instance).into_iter().for_each(|place| counts.entry(place).or_default().0 += 1);
        }
        for (instance, state) in self.world.instances.iter().enumerate() {
            let lives = state.age > 0 && !self.world.context.absent[instance];
            for place in places(instance as u32).into_iter().filter(|_| lives) {
                if let Some(count) = counts.get_mut(&place) {
                    count.1 += 1;
                }
            }
        }
        for (place, (here, of)) in counts {
            let silent = matches!(place, Entity::Host(host) if self.is_silent(host));
            if here >= 2 || silent {
                self.place(place, &ill, (here, of), silent);
            }
        }
    }

    fn is_silent(&self, host: u32) -> bool {
        let found = self.picture.hosts.get(&host);
        found.is_some_and(|found| found.iter().any(|finding| finding.signal == Signal::Presence))
    }

    fn place(&mut self, place: Entity, ill: &BTreeSet<u32>, (here, of): (u32, u32), silent: bool) {
        let topology = self.world.topology;
        let inside = |host: u32| {
            let (rack, datacenter) = topology.place_of(host);
            [Entity::Host(host), Entity::Rack(rack), Entity::Datacenter(datacenter)].contains(&place)
        };
        let inside_ill: BTreeSet<u32> =
            ill.iter().copied().filter(|at| inside(topology.instances[*at as usize].host)).collect();
        let services: BTreeSet<u32> = inside_ill.iter().map(|at| topology.instances[*at as usize].service).collect();
        let shares: BTreeMap<u32, f32> = services
            .iter()
            .map(|service| {
                let members =
                    inside_ill.iter().copied().filter(|at| topology.instances[*at as usize].service == *service);
                (*service, self.world.share_of(*service, members))
            })
            .collect();
        let mut through = BTreeSet::new();
        for (service, share) in &shares {
            if *share >= CONCENTRATED {
                through.append(&mut self.picture.callers(self.world, *service));
            }
        }
        let explained = self.explained(
            |finding| match finding.entity {
                Entity::Instance(at) => f32::from(u8::from(inside_ill.contains(&at))),
                Entity::Service(at) => shares.get(&at).map_or(0.0, |share| share.max(0.5)),
                Entity::Pair(at) => shares.get(&topology.pairs[at as usize].callee).copied().unwrap_or(0.0),
                Entity::Host(at) => f32::from(u8::from(inside(at))),
                _ => 0.0,
            },
            &through,
        );
        let coverage = here as f32 / of.max(here) as f32;
        // One service's instances on one place are as likely the service's trouble as the place's.
        let several = if services.len() >= 2 || silent { 1.0 } else { 0.7 };
        let kind = match self.kind_of_ill(inside_ill.iter().copied()) {
            CauseKind::Hot => CauseKind::Slow,
            kind => kind,
        };
        self.push(kind, place, explained, coverage * several, vec![Evidence::Place { ill: here, of }]);
    }

    /// Releases that run or have just ended.
    fn releases(&mut self) {
        let (picture, world) = (self.picture, self.world);
        let onset_s = u64::from(picture.onset_s());
        for (&service, release) in &world.context.releases {
            if !picture.services.contains(&service) || onset_s + 2 < release.from_s {
                continue;
            }
            let members = world.topology.members(service);
            let is_new = |at: &&u32| world.topology.instances[**at as usize].version == release.version;
            let serves = |at: &&u32| world.instances[**at as usize].age > 0;
            let new = members.iter().filter(is_new).filter(serves).count() as f32;
            let ill = picture.ill.get(&service);
            let ill_new = ill.map_or(0, |ill| ill.iter().filter(is_new).count());
            let ill_old = picture.ill_of(service) - ill_new;
            let whole = picture.whole.get(&service);
            let signal = whole.and_then(|found| found.iter().map(|f| f.signal).find(|s| *s != Signal::Requests));
            let most = new * 2.5 >= members.len() as f32;
            let covered = ill_new as f32 / new.max(1.0);
            let covered = if signal.is_some() && most { covered.max(1.0) } else { covered };
            let pure = if ill_old > 0 { ill_new as f32 / (ill_new + ill_old) as f32 } else { 1.0 };
            let own = signal.map_or(1.0, |signal| world.own_share(service, signal));
            let fit = RELEASE_PRIOR * covered.min(1.0).sqrt() * pure * (0.1 + 0.9 * own);
            let through = picture.callers(world, service);
            let explained = self.explained(|finding| self.of_service(finding, service), &through);
            let evidence = Evidence::Release {
                seconds_before: onset_s.saturating_sub(release.from_s),
                ill_new: ill_new as u32,
                ill_old: ill_old as u32,
            };
            let late = if release.running { 1.0 } else { 0.9 };
            self.push(CauseKind::Release, Entity::Service(service), explained, fit * late, vec![evidence]);
        }
    }

    /// Dependencies outside.
    fn externals(&mut self) {
        let topology = self.world.topology;
        let called = self.picture.pairs.keys().map(|pair| topology.pairs[*pair as usize].callee);
        let externals: BTreeSet<u32> = called.filter(|at| topology.services[*at as usize].external).collect();
        for external in externals {
            let requests = |pair: &u32| self.world.pairs[*pair as usize].requests + 1.0;
            let callers = topology.callers(external);
            let all: f32 = callers.iter().map(requests).sum();
            let off = callers.iter().filter(|pair| self.picture.pairs.contains_key(pair));
            let off: f32 = off.map(requests).sum();
            let through = self.picture.callers(self.world, external);
            let explained = self.explained(|finding| self.of_service(finding, external), &through);
            let found = callers.iter().filter_map(|pair| self.picture.pairs.get(pair)).flatten();
            let strongest = found.max_by(|a, b| a.score.total_cmp(&b.score));
            let kind = strongest.map_or(CauseKind::Slow, |finding| kind_of(finding.signal));
            let evidence = vec![Evidence::Callers { count: through.len() as u32 }];
            self.push(kind, Entity::Service(external), explained, (off / all).sqrt(), evidence);
        }
    }

    /// True when a service gets clearly more requests than expected.
    fn crowded(&self, service: u32) -> bool {
        let state = &self.world.services[service as usize];
        state.demand.factor(state.sums.requests) > CROWDED
    }

    /// Demand that moved, at the services furthest up.
    fn demand(&mut self) {
        let (world, picture) = (self.world, self.picture);
        let moved: BTreeMap<u32, Finding> = picture
            .whole
            .iter()
            .filter_map(|(at, found)| Some((*at, *found.iter().find(|f| f.signal == Signal::Requests)?)))
            .collect();
        for (&service, finding) in &moved {
            let callers =
                world.topology.callers(service).iter().map(|pair| world.topology.pairs[*pair as usize].caller);
            if callers.filter(|caller| *caller != service).any(|caller| moved.contains_key(&caller)) {
                continue;
            }
            let up = finding.observed > finding.baseline;
            let kind = if up { CauseKind::DemandSurge } else { CauseKind::DemandDrop };
            // A crowd makes slow whom it reaches, and whoever else calls those.
            let crowded = || picture.whole.keys().copied().filter(|at| self.crowded(*at));
            let reached = crowded().flat_map(|at| picture.callers(world, at)).chain(crowded());
            let through: BTreeSet<u32> = if up { reached.collect() } else { BTreeSet::new() };
            let explained = self.explained(
                |finding| match (finding.entity, finding.signal) {
                    (Entity::Service(at), Signal::Requests) => f32::from(u8::from(moved.contains_key(&at))),
                    _ => 0.0,
                },
                &through,
            );
            // Retries of failed calls are demand too: a surge that follows failures is not their cause.
            let first = finding.since_s <= picture.onset_s() + 2;
            let fit = if first { 0.9 } else { 0.3 };
            self.push(kind, Entity::Service(service), explained, if up { fit } else { 0.5 * fit }, Vec::new());
        }
    }

    /// What is wrong with most of some instances.
    fn kind_of_ill(&self, instances: impl Iterator<Item = u32>) -> CauseKind {
        let mut votes: BTreeMap<CauseKind, u32> = BTreeMap::new();
        let of: BTreeSet<u32> = instances.collect();
        for finding in &self.picture.findings {
            let Entity::Instance(at) = finding.entity else { continue };
            if !of.contains(&at) || !finding.opens {
                continue;
            }
            let state = &self.world.instances[at as usize];
            let (kind, vote) = match finding.signal {
                Signal::Presence => (CauseKind::Loss, 4),
                // All of its requests fail and it does not report: it is as good as gone.
                Signal::Errors if finding.observed > GONE_SHARE && !state.presence.cusum.idle() => (CauseKind::Loss, 4),
                Signal::Errors => (CauseKind::Errors, 2),
                Signal::Rejects => (CauseKind::Rejects, 2),
                _ => (CauseKind::Hot, 1),
            };
            *votes.entry(kind).or_default() += vote;
        }
        votes.into_iter().max_by_key(|(kind, votes)| (*votes, std::cmp::Reverse(*kind))).map_or(CauseKind::Hot, |v| v.0)
    }
}

/// Ill instances from which single ones are hardly the cause.
const MANY_ILL: usize = 100;
/// Ill instances of one service asked one by one.
const INSTANCES_ASKED_MAX: usize = 20;

/// Share of failures from which an instance that does not report counts as gone.
const GONE_SHARE: f32 = 0.8;

fn is_latency(signal: Signal) -> bool {
    matches!(signal, Signal::Latency | Signal::LatencyTail)
}

/// Rejections and failures say more than slowness, a median more than a tail.
fn preference(signal: Signal) -> f32 {
    match signal {
        Signal::Rejects => 1.1,
        Signal::Errors => 1.0,
        Signal::Latency => 0.95,
        _ => 0.7,
    }
}

fn kind_of(signal: Signal) -> CauseKind {
    match signal {
        Signal::Presence => CauseKind::Loss,
        Signal::Errors => CauseKind::Errors,
        Signal::Rejects => CauseKind::Rejects,
        _ => CauseKind::Slow,
    }
}
