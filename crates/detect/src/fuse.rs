//! Fusion: the findings of a second, grouped by calls and places, become incidents that open, grow, merge, end and reopen.

use crate::cause;
use crate::finding::{Entity, Finding, FindingRecord, Signal};
use crate::incident::{Blast, FINDINGS_KEPT_MAX, Incident, IncidentState, NAMES_MAX};
use crate::picture::{Picture, World, is_illness};
use crate::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// Incidents kept in memory; the oldest ended ones go first.
pub const INCIDENTS_MAX: usize = 1_000;
/// Seconds without findings after which an incident has ended.
const QUIET_S: u64 = 20;
/// Seconds after its end in which the same trouble reopens an incident.
const REOPEN_S: u64 = 120;
/// Seconds for which a finding counts for the cause after it was last in force.
const RECENT_S: u64 = 20;
/// Seconds after opening in which causes are ranked anew, and neighbours of any direction join.
const YOUNG_S: u64 = 20;
/// Seconds after opening in which the ranking may still change when more is found.
const RANK_S: u64 = 120;
/// Seconds after its onset for which a group may wait for silences to be settled.
const BREW_S_MAX: u64 = 2;
/// Share of a rack's or datacenter's instances that must be ill for the place to join what it holds.
const PLACE_SHARE: f32 = 0.4;
/// Ill instances in a place for the same.
const PLACE_ILL_MIN: u32 = 3;

/// Something about an incident that people may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was opened.
    Opened(String),
    /// It ended, and is back.
    Reopened(String),
    /// It reaches further.
    Grew(String),
    /// Another cause leads.
    CauseChanged(String),
    /// Someone looks after it.
    Acknowledged(String),
    /// It ended.
    Resolved(String),
    /// It is part of another.
    Merged(String, String),
}

impl Change {
    /// The incident concerned.
    pub fn id(&self) -> &str {
        match self {
            Self::Opened(id)
            | Self::Reopened(id)
            | Self::Grew(id)
            | Self::CauseChanged(id)
            | Self::Acknowledged(id)
            | Self::Resolved(id)
            | Self::Merged(id, _) => id,
        }
    }
}

#[derive(Debug)]
struct Live {
    incident: Incident,
    recent: BTreeMap<(Entity, Signal), (Finding, u64)>,
    services: BTreeSet<u32>,
    /// Where its best cause is, when that is a place.
    place: Option<Entity>,
    opened_s: u64,
    seen_s: u64,
    /// Findings that open, at the most.
    strength: u32,
}

/// All incidents.
#[derive(Debug)]
pub(crate) struct Fusion {
    live: BTreeMap<u64, Live>,
    next: u64,
}

/// Findings that belong together.
#[derive(Debug, Default)]
struct Group {
    services: BTreeSet<u32>,
    findings: Vec<Finding>,
}

impl Fusion {
    pub(crate) fn new(first_number: u64) -> Self {
        Self { live: BTreeMap::new(), next: first_number }
    }

    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.live.values().map(|live| &live.incident)
    }

    /// Takes incidents of an earlier detector; their findings are found again or not.
    pub(crate) fn resume(&mut self, incidents: Vec<Incident>) {
        for incident in incidents {
            let Some(number) = Self::number(&incident.id) else { continue };
            self.next = self.next.max(number + 1);
            let (opened_s, seen_s) = (incident.opened_ms / 1_000, incident.updated_ms / 1_000);
            let (services, recent) = (BTreeSet::new(), BTreeMap::new());
            self.live.insert(number, Live { incident, recent, services, place: None, opened_s, seen_s, strength: 0 });
            self.make_room();
        }
    }

    pub(crate) fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Nothing is heard before `second`: what is open does not end for want of findings meanwhile. What was resumed is looked up in
    /// the topology by name.
    pub(crate) fn wait_until(&mut self, topology: &Topology, second: u64) {
        for live in self.live.values_mut().filter(|live| live.incident.state.is_open()) {
            live.seen_s = live.seen_s.max(second);
            if live.services.is_empty() {
                let named = |name: &String| topology.services.iter().position(|service| service.name == *name);
                live.services = live.incident.blast.services.iter().filter_map(named).map(|at| at as u32).collect();
            }
        }
    }

    fn number(id: &str) -> Option<u64> {
        id.strip_prefix("inc-")?.parse().ok()
    }

    pub(crate) fn incident(&self, id: &str) -> Option<&Incident> {
        Some(&self.live.get(&Self::number(id)?)?.incident)
    }

    pub(crate) fn acknowledge(&mut self, id: &str, who: &str, now_ms: u64) -> bool {
        let live = Self::number(id).and_then(|number| self.live.get_mut(&number));
        let Some(live) = live.filter(|live| live.incident.state.is_open()) else { return false };
        live.incident.state = IncidentState::Acknowledged;
        live.incident.acknowledged_by = Some(who.to_owned());
        live.incident.updated_ms = now_ms;
        true
    }

    /// Ids change with the topology: what incidents hold by id is looked up anew, by name.
    pub(crate) fn retarget(&mut self, old: &Topology, new: &Topology) {
        let services: BTreeMap<&str, u32> = new.services.iter().map(|s| s.name.as_str()).zip(0..).collect();
        let instances: BTreeMap<&str, u32> = new.instances.iter().map(|i| i.name.as_str()).zip(0..).collect();
        let pairs = new.pair_names();
        let to_new = |entity: Entity| {
            let service = |at: u32| services.get(old.services[at as usize].name.as_str()).copied();
            Some(match entity {
                Entity::Service(at) => Entity::Service(service(at)?),
                Entity::Instance(at) => Entity::Instance(*instances.get(old.instances[at as usize].name.as_str())?),
                Entity::Pair(at) => {
                    let pair = old.pairs[at as usize];
                    let name = |at: u32| old.services[at as usize].name.as_str();
                    Entity::Pair(*pairs.get(&(name(pair.caller), name(pair.callee)))?)
                }
                // Places are few and soon found again.
                Entity::Host(_) | Entity::Rack(_) | Entity::Datacenter(_) => return None,
            })
        };
        for live in self.live.values_mut() {
            let services = std::mem::take(&mut live.services).into_iter();
            live.services = services.filter_map(|at| services_of(&to_new, at)).collect();
            let recent = std::mem::take(&mut live.recent).into_iter();
            live.recent = recent
                .filter_map(|((entity, signal), (finding, seen))| {
                    let entity = to_new(entity)?;
                    Some(((entity, signal), (Finding { entity, ..finding }, seen)))
                })
                .collect();
            live.place = None;
        }
    }

    /// Takes the findings of one second.
    pub(crate) fn step(&mut self, world: &World<'_>, found: &[Finding], second: u64, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        if !found.is_empty() {
            for group in groups(world, found) {
                self.take(world, group, second, now_ms, &mut changes);
            }
        }
        self.end(second, now_ms, &mut changes);
        changes
    }

    fn take(&mut self, world: &World<'_>, group: Group, second: u64, now_ms: u64, changes: &mut Vec<Change>) {
        let homes = self.homes(world, &group, second);
        let opens = group.findings.iter().any(|finding| finding.opens);
        let number = match homes.first() {
            Some(first) => *first,
            None if opens && brewing(world, &group, second) => return,
            None if opens => {
                let number = self.next;
                self.next += 1;
                self.live.insert(number, opened(number, &group, second, now_ms));
                changes.push(Change::Opened(format!("inc-{number}")));
                self.make_room();
                number
            }
            None => return,
        };
        for other in homes.iter().skip(1) {
            self.merge(*other, number, second, now_ms, changes);
        }
        let Some(live) = self.live.get_mut(&number) else { return };
        if live.incident.state == IncidentState::Resolved && opens {
            let seen_by = live.incident.acknowledged_by.is_some();
            live.incident.state = if seen_by { IncidentState::Acknowledged } else { IncidentState::Open };
            live.incident.resolved_ms = None;
            live.incident.reopened += 1;
            live.opened_s = second;
            live.recent.clear();
            live.strength = 0;
            changes.push(Change::Reopened(live.incident.id.clone()));
        }
        live.grow(world, &group, second, now_ms, changes);
    }

    /// Incidents that a group belongs to, the oldest first.
    fn homes(&self, world: &World<'_>, group: &Group, second: u64) -> Vec<u64> {
        let mut homes = Vec::new();
        let mut ended = Vec::new();
        for (number, live) in &self.live {
            let open = live.incident.state.is_open();
            let shares = !live.services.is_disjoint(&group.services) || live.houses(world, group, second);
            if open && (shares || live.adjoins(world, group, second) || live.holds(world, group)) {
                homes.push(*number);
            } else if live.incident.state == IncidentState::Resolved && shares && second < live.seen_s + REOPEN_S {
                ended.push(*number);
            }
        }
        if homes.is_empty() {
            // The one that ended last.
            homes.extend(ended.last());
        }
        homes
    }

    fn merge(&mut self, from: u64, into: u64, second: u64, now_ms: u64, changes: &mut Vec<Change>) {
        let young = self.live.get(&from).is_some_and(|live| second < live.opened_s + YOUNG_S);
        if !young {
            return;
        }
        let Some(part) = self.live.get_mut(&from) else { return };
        part.incident.state = IncidentState::Merged;
        part.incident.merged_into = Some(format!("inc-{into}"));
        part.incident.updated_ms = now_ms;
        part.incident.resolved_ms = Some(now_ms);
        let (recent, services) = (std::mem::take(&mut part.recent), std::mem::take(&mut part.services));
        let onset_ms = part.incident.onset_ms;
        changes.push(Change::Merged(format!("inc-{from}"), format!("inc-{into}")));
        if let Some(whole) = self.live.get_mut(&into) {
            whole.recent.extend(recent);
            whole.services.extend(services);
            whole.incident.onset_ms = whole.incident.onset_ms.min(onset_ms);
        }
    }

    fn end(&mut self, second: u64, now_ms: u64, changes: &mut Vec<Change>) {
        for live in self.live.values_mut().filter(|live| live.incident.state.is_open()) {
            if second >= live.seen_s + QUIET_S {
                live.incident.state = IncidentState::Resolved;
                live.incident.resolved_ms = Some(now_ms);
                live.incident.updated_ms = now_ms;
                changes.push(Change::Resolved(live.incident.id.clone()));
            }
        }
    }

    fn make_room(&mut self) {
        while self.live.len() > INCIDENTS_MAX {
            let ended = self.live.iter().find(|(_, live)| !live.incident.state.is_open()).map(|(number, _)| *number);
            let oldest = ended.or_else(|| self.live.keys().next().copied());
            let Some(number) = oldest else { return };
            self.live.remove(&number);
        }
    }
}

/// True while instances of the group are silent but not yet gone: what they bring about is not judged before that is
/// settled, a second or two later, since they may be a host's or a rack's.
fn brewing(world: &World<'_>, group: &Group, second: u64) -> bool {
    let onset_s = group.findings.iter().map(|finding| u64::from(finding.since_s)).min().unwrap_or(0);
    if second > onset_s + BREW_S_MAX {
        return false;
    }
    group.services.iter().flat_map(|service| world.topology.members(*service)).any(|member| {
        let presence = &world.instances[*member as usize].presence;
        presence.brewing() && !world.context.absent[*member as usize]
    })
}

fn services_of(to_new: &impl Fn(Entity) -> Option<Entity>, at: u32) -> Option<u32> {
    match to_new(Entity::Service(at)) {
        Some(Entity::Service(at)) => Some(at),
        _ => None,
    }
}

fn opened(number: u64, group: &Group, second: u64, now_ms: u64) -> Live {
    let onset_s = group.findings.iter().map(|finding| u64::from(finding.since_s)).min().unwrap_or(second);
    let incident = Incident {
        id: format!("inc-{number}"),
        state: IncidentState::Open,
        onset_ms: onset_s * 1_000,
        opened_ms: now_ms,
        updated_ms: now_ms,
        resolved_ms: None,
        acknowledged_by: None,
        causes: Vec::new(),
        blast: Blast::default(),
        findings: Vec::new(),
        reopened: 0,
        merged_into: None,
    };
    let services = BTreeSet::new();
    Live { incident, recent: BTreeMap::new(), services, place: None, opened_s: second, seen_s: second, strength: 0 }
}

impl Live {
    /// True when the group stands next to this incident along the calls: callers of what is ill always, other
    /// neighbours while the incident is young and its cause not settled.
    fn adjoins(&self, world: &World<'_>, group: &Group, second: u64) -> bool {
        let young = second < self.opened_s + YOUNG_S;
        let topology = world.topology;
        let above = |from: &BTreeSet<u32>| {
            let mut found: BTreeSet<u32> = from.clone();
            for _ in 0..2 {
                let pairs = found.iter().flat_map(|at| topology.callers(*at));
                let callers: Vec<u32> = pairs.map(|pair| topology.pairs[*pair as usize].caller).collect();
                found.extend(callers);
            }
            found
        };
        let whole = group.findings.iter().any(|finding| matches!(finding.entity, Entity::Service(_) | Entity::Pair(_)));
        if whole && !above(&self.services).is_disjoint(&group.services) {
            return true;
        }
        young && !above(&group.services).is_disjoint(&self.services) && self.is_whole()
    }

    /// True when all of the group's ill instances stand on hosts on which this incident's do, while it is young.
    fn houses(&self, world: &World<'_>, group: &Group, second: u64) -> bool {
        if second >= self.opened_s + YOUNG_S || group.findings.iter().any(|f| matches!(f.entity, Entity::Service(_))) {
            return false;
        }
        let host_of = |at: u32| world.topology.instances[at as usize].host;
        let mine = |entity: &Entity, signal: Signal| match entity {
            Entity::Instance(at) if is_illness(signal) => Some(host_of(*at)),
            _ => None,
        };
        let hosts: BTreeSet<u32> = self.recent.keys().filter_map(|(entity, signal)| mine(entity, *signal)).collect();
        let mut theirs = group.ill().map(host_of).peekable();
        theirs.peek().is_some() && theirs.all(|host| hosts.contains(&host))
    }

    fn is_whole(&self) -> bool {
        self.recent.keys().any(|(entity, _)| matches!(entity, Entity::Service(_) | Entity::Pair(_)))
    }

    /// True when most of the group's ill instances stand in the place that is this incident's cause.
    fn holds(&self, world: &World<'_>, group: &Group) -> bool {
        let Some(place) = self.place else { return false };
        let ill: Vec<u32> = group.ill().collect();
        let inside = ill.iter().filter(|at| places_of(world.topology, **at).contains(&place)).count();
        inside > 0 && inside * 2 >= ill.len()
    }

    fn grow(&mut self, world: &World<'_>, group: &Group, second: u64, now_ms: u64, changes: &mut Vec<Change>) {
        let before = (self.services.len(), self.recent.len());
        if group.findings.iter().any(|finding| finding.opens) {
            self.seen_s = second;
        }
        self.services.extend(&group.services);
        for finding in &group.findings {
            let key = (finding.entity, finding.signal);
            let known = self.recent.get(&key).map(|(known, _)| *known);
            let stronger = known.filter(|known| known.score > finding.score).unwrap_or(*finding);
            let since_s = known.map_or(finding.since_s, |known| known.since_s.min(finding.since_s));
            self.recent.insert(key, (Finding { since_s, ..stronger }, second));
        }
        self.recent.retain(|_, (_, seen)| second < *seen + RECENT_S);
        let age_s = second.saturating_sub(self.opened_s);
        let grew = self.services.len() > before.0 || self.recent.len() > before.1;
        if age_s > YOUNG_S && !(grew && age_s <= RANK_S) {
            return;
        }
        let picture = Picture::of(world, self.recent.values().map(|(finding, _)| *finding));
        let strength = picture.strength();
        if strength * 2 < self.strength {
            // What is left of a trouble that fades says less about its cause than the whole did.
            return;
        }
        self.strength = self.strength.max(strength);
        let causes = cause::rank(world, &picture);
        let lead = |causes: &[cause::Cause]| causes.first().map(|cause| (cause.kind, cause.entity.clone()));
        let (was, is) = (lead(&self.incident.causes), lead(&causes));
        if was.is_some() && was != is {
            changes.push(Change::CauseChanged(self.incident.id.clone()));
        } else if self.services.len() > before.0 && before.0 > 0 {
            changes.push(Change::Grew(self.incident.id.clone()));
        }
        self.place = causes.first().and_then(|cause| place_named(world.topology, cause));
        self.incident.causes = causes;
        self.incident.onset_ms = self.incident.onset_ms.min(u64::from(picture.onset_s()) * 1_000);
        self.incident.blast = blast(world.topology, &picture);
        self.record(world.topology, now_ms);
    }

    fn record(&mut self, topology: &Topology, now_ms: u64) {
        let record = |(finding, seen): &(Finding, u64)| FindingRecord {
            entity: finding.entity.named(topology),
            signal: finding.signal,
            score: finding.score,
            baseline: finding.baseline,
            observed: finding.observed,
            since_ms: u64::from(finding.since_s) * 1_000,
            seen_ms: *seen * 1_000,
        };
        let mut found: Vec<&(Finding, u64)> = self.recent.values().collect();
        found.sort_by(|a, b| b.0.opens.cmp(&a.0.opens).then(b.0.score.total_cmp(&a.0.score)));
        found.truncate(FINDINGS_KEPT_MAX);
        self.incident.findings = found.into_iter().map(record).collect();
        self.incident.updated_ms = now_ms;
    }
}

fn place_named(topology: &Topology, cause: &cause::Cause) -> Option<Entity> {
    use crate::finding::EntityKind;
    let at = |found: Option<usize>| found.map(|at| at as u32);
    let name = &cause.entity.name;
    match cause.entity.kind {
        EntityKind::Host => at(topology.hosts.iter().position(|host| host.name == *name)).map(Entity::Host),
        EntityKind::Rack => at(topology.racks.iter().position(|rack| rack.name == *name)).map(Entity::Rack),
        EntityKind::Datacenter => at(topology.datacenters.iter().position(|n| n == name)).map(Entity::Datacenter),
        _ => None,
    }
}

fn places_of(topology: &Topology, instance: u32) -> [Entity; 3] {
    let host = topology.instances[instance as usize].host;
    let (rack, datacenter) = topology.place_of(host);
    [Entity::Host(host), Entity::Rack(rack), Entity::Datacenter(datacenter)]
}

fn blast(topology: &Topology, picture: &Picture) -> Blast {
    let ill: BTreeSet<u32> = picture.all_ill().collect();
    let hosts: BTreeSet<u32> = ill.iter().map(|at| topology.instances[*at as usize].host).collect();
    let touched = picture.whole.keys().flat_map(|service| topology.members(*service)).chain(&ill);
    let datacenters: BTreeSet<u32> =
        touched.map(|at| topology.place_of(topology.instances[*at as usize].host).1).collect();
    let services: BTreeSet<u32> = picture.services.iter().chain(picture.whole.keys()).copied().collect();
    Blast {
        services: services.iter().take(NAMES_MAX).map(|at| topology.services[*at as usize].name.clone()).collect(),
        instances: ill.iter().take(NAMES_MAX).map(|at| topology.instances[*at as usize].name.clone()).collect(),
        services_count: services.len() as u32,
        instances_count: ill.len() as u32,
        hosts_count: hosts.len() as u32,
        datacenters: datacenters.iter().map(|at| topology.datacenters[*at as usize].clone()).collect(),
    }
}

impl Group {
    fn ill(&self) -> impl Iterator<Item = u32> + '_ {
        self.findings.iter().filter_map(|finding| match finding.entity {
            Entity::Instance(at) if is_illness(finding.signal) => Some(at),
            _ => None,
        })
    }
}

/// Sets of services that are joined.
#[derive(Default)]
struct Union(BTreeMap<u32, u32>);

impl Union {
    fn root(&mut self, mut at: u32) -> u32 {
        while let Some(&above) = self.0.get(&at).filter(|above| **above != at) {
            at = above;
        }
        self.0.entry(at).or_insert(at);
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0.insert(a.max(b), a.min(b));
    }
}

/// Findings that belong together: along calls from an ill callee to callers that are off as a whole, and in places
/// most of whose instances are ill.
fn groups(world: &World<'_>, found: &[Finding]) -> Vec<Group> {
    let topology = world.topology;
    let mut union = Union::default();
    let mut whole = BTreeSet::new();
    for finding in found {
        if let Some(anchor) = anchor(topology, finding.entity) {
            union.root(anchor);
            if matches!(finding.entity, Entity::Service(_)) {
                whole.insert(anchor);
            }
        }
        if let Entity::Pair(at) = finding.entity {
            let pair = topology.pairs[at as usize];
            if topology.services[pair.callee as usize].external && whole.contains(&pair.caller) {
                union.join(pair.caller, pair.callee);
            }
        }
    }
    join_calls(topology, &whole, &mut union);
    join_places(world, found, &mut union);
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    for finding in found {
        if let Some(anchor) = anchor(topology, finding.entity) {
            let group = groups.entry(union.root(anchor)).or_default();
            group.services.insert(anchor);
            group.findings.push(*finding);
        }
    }
    attach(topology, found, &mut groups);
    groups.into_values().collect()
}

/// The service that a finding is filed under; pairs of services and hosts are attached later.
fn anchor(topology: &Topology, entity: Entity) -> Option<u32> {
    match entity {
        Entity::Service(at) => Some(at),
        Entity::Instance(at) => Some(topology.instances[at as usize].service),
        Entity::Pair(at) => {
            let callee = topology.pairs[at as usize].callee;
            topology.services[callee as usize].external.then_some(callee)
        }
        _ => None,
    }
}

/// Joins callers that are off as a whole with what they call, directly or through one service that hides it.
fn join_calls(topology: &Topology, whole: &BTreeSet<u32>, union: &mut Union) {
    let anchors: BTreeSet<u32> = union.0.keys().copied().collect();
    for &caller in whole {
        for &pair in topology.callees(caller) {
            let callee = topology.pairs[pair as usize].callee;
            if anchors.contains(&callee) {
                union.join(caller, callee);
                continue;
            }
            for &next in topology.callees(callee) {
                let far = topology.pairs[next as usize].callee;
                if anchors.contains(&far) {
                    union.join(caller, far);
                }
            }
        }
    }
}

fn join_places(world: &World<'_>, found: &[Finding], union: &mut Union) {
    let topology = world.topology;
    let ill: BTreeSet<u32> = found
        .iter()
        .filter_map(|finding| match finding.entity {
            Entity::Instance(at) if is_illness(finding.signal) => Some(at),
            _ => None,
        })
        .collect();
    if ill.len() < 2 {
        return;
    }
    let mut counts: BTreeMap<Entity, (u32, u32)> = BTreeMap::new();
    for &at in &ill {
        places_of(topology, at).into_iter().for_each(|place| counts.entry(place).or_default().0 += 1);
    }
    counts.retain(|_, (here, _)| *here >= 2);
    for (at, state) in world.instances.iter().enumerate().filter(|(_, state)| state.age > 0) {
        let _ = state;
        for place in places_of(topology, at as u32) {
            if let Some(count) = counts.get_mut(&place) {
                count.1 += 1;
            }
        }
    }
    let joins = |place: &Entity, (here, of): (u32, u32)| {
        let least = if matches!(place, Entity::Host(_)) { 2 } else { PLACE_ILL_MIN };
        here >= least && here as f32 >= PLACE_SHARE * of as f32
    };
    let mut first: BTreeMap<Entity, u32> = BTreeMap::new();
    for &at in &ill {
        let service = topology.instances[at as usize].service;
        for place in places_of(topology, at) {
            if counts.get(&place).is_some_and(|count| joins(&place, *count)) {
                union.join(*first.entry(place).or_insert(service), service);
            }
        }
    }
}

/// Files pairs under the group of their callee or caller, and hosts under that of their instances.
fn attach(topology: &Topology, found: &[Finding], groups: &mut BTreeMap<u32, Group>) {
    for finding in found {
        let belongs = |group: &&mut Group| match finding.entity {
            Entity::Pair(at) if anchor(topology, finding.entity).is_none() => {
                let pair = topology.pairs[at as usize];
                group.services.contains(&pair.callee) || group.services.contains(&pair.caller)
            }
            Entity::Host(host) => topology.on_host(host).iter().any(|at| {
                let is_here = |finding: &Finding| finding.entity == Entity::Instance(*at);
                group.findings.iter().any(is_here)
            }),
            _ => false,
        };
        if let Some(group) = groups.values_mut().find(belongs) {
            group.findings.push(*finding);
        }
    }
}
