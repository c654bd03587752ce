//! What the CMDB says that concerns detection: who stands where and calls whom, and what goes on by intent.
//!
//! Read in the control loop, and only when its revision has moved: a copy of names, nothing is decided here.

use crate::control_loop::world::World;
use api::http::GoingOn;
use detect::{Activity, ActivityKind, EntityKind, EntityRef, Host, Instance, Pair, Parts, Rack, Service};
use model::{
    AlertRule, Digest, Event, InstanceId, InstanceIntent, Operation, OperationSpec, Placement, Policy, PolicyHistory,
    Receiver, Revision, Silence, Snapshot, UnixMs,
};
use std::collections::{BTreeMap, BTreeSet};

/// The crowd of an event comes this long before its time, too.
const EVENT_EARLY_MS: u64 = 600_000;
/// And stays this long after its end, or after its begin where no end is declared.
const EVENT_LATE_MS: u64 = 1_800_000;
const EVENT_OPEN_MS: u64 = 6 * 3_600_000;
/// An operation that ended is told of this long: it may still be to blame.
const ENDED_MS: u64 = 900_000;
/// What a policy turns away is missed elsewhere: demand moves for this long after each change of it, and while it moves back.
const POLICY_MOVES_MS: u64 = 30_000;

/// What detection needs to know of what is intended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intent {
    /// Revision of the store.
    pub revision: Revision,
    /// Who stands where, and the declared calls.
    pub parts: Parts,
    /// What goes on, for `detect`.
    pub activities: Vec<Activity>,
    /// The same for people.
    pub going_on: Vec<Going>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Rules.
    pub rules: Vec<AlertRule>,
    /// Receivers.
    pub receivers: Vec<Receiver>,
}

/// Something that goes on, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Going {
    /// As people see it.
    pub on: GoingOn,
    /// Until when; absent: it goes on.
    pub until: Option<UnixMs>,
    /// Services that it concerns, where they are others than the one that people are told, or more.
    pub services: BTreeSet<String>,
}

/// Reads it, unless nothing was committed since `known`.
pub fn read(world: &World, known: Option<Revision>) -> Option<Intent> {
    let snapshot = &world.snapshot;
    if known == Some(snapshot.revision) {
        return None;
    }
    let mut intent = Intent {
        revision: snapshot.revision,
        parts: parts(snapshot),
        silences: snapshot.silences.values().map(|at| (*at.value).clone()).collect(),
        rules: snapshot.alert_rules().cloned().collect(),
        receivers: snapshot.receivers().cloned().collect(),
        ..Intent::default()
    };
    snapshot.events().for_each(|event| intent.event(event));
    let newest = world.started_at.max(snapshot.operations.values().map(|at| at.value.created_at).max().unwrap_or(0));
    intent.policies(snapshot, newest);
    for operation in snapshot.operations.values().map(|at| &*at.value) {
        if operation.finished_at.is_none_or(|at| at + ENDED_MS > newest) {
            intent.operation(snapshot, operation);
        }
    }
    Some(intent)
}

/// A number that differs where packages or configs differ (FNV-1a).
fn version(package: &Digest, config: &Digest) -> u32 {
    let bytes = package.as_str().bytes().chain(config.as_str().bytes());
    bytes.fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Positions by name.
fn places<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u32> {
    names.zip(0..).collect()
}

fn parts(snapshot: &Snapshot) -> Parts {
    let datacenters: Vec<String> = snapshot.datacenters().map(|at| at.name.to_string()).collect();
    let datacenter_at = places(datacenters.iter().map(String::as_str));
    let rack = |at: &model::Rack| {
        Some(Rack { name: at.name.to_string(), datacenter: *datacenter_at.get(at.datacenter.as_str())? })
    };
    let racks: Vec<Rack> = snapshot.racks().filter_map(rack).collect();
    let rack_at = places(racks.iter().map(|rack| rack.name.as_str()));
    let host = |at: &model::Host| Some(Host { name: at.name.to_string(), rack: *rack_at.get(at.rack.as_str())? });
    let hosts: Vec<Host> = snapshot.hosts().filter_map(host).collect();
    let inside = snapshot.services().map(|at| Service { name: at.name.to_string(), external: false });
    let services: Vec<Service> =
        inside.chain(snapshot.externals().map(|at| Service { name: at.name.to_string(), external: true })).collect();
    let service_at = places(services.iter().map(|service| service.name.as_str()));
    let mut pairs = BTreeSet::new();
    for service in snapshot.services() {
        let callees = service.dependencies.iter().filter_map(|called| service_at.get(called.on.as_str()));
        pairs.extend(callees.map(|callee| (service_at[service.name.as_str()], *callee)));
    }
    let instances = instances(snapshot, &hosts, &service_at);
    let pairs = pairs.into_iter().filter(|(caller, callee)| caller != callee);
    let pairs = pairs.map(|(caller, callee)| Pair { caller, callee }).collect();
    Parts { datacenters, racks, hosts, services, instances, pairs }
}

fn instances(snapshot: &Snapshot, hosts: &[Host], service_at: &BTreeMap<&str, u32>) -> Vec<Instance> {
    // What an operation is adding or taking away may be absent.
    let moving: BTreeSet<&InstanceId> = snapshot
        .operations
        .values()
        .filter(|at| !at.value.phase.is_final())
        .flat_map(|at| at.value.adds.iter().chain(&at.value.removes).map(|planned| &planned.instance))
        .collect();
    let mut found = Vec::new();
    for (host, at) in hosts.iter().zip(0..) {
        let Some(on) = snapshot.placements.get(host.name.as_str()) else { continue };
        let instance = |placement: &Placement| {
            Some(Instance {
                name: placement.instance.to_string(),
                service: *service_at.get(placement.service.as_str())?,
                host: at,
                version: version(&placement.package_digest, &placement.config_digest),
                wanted: placement.intent == InstanceIntent::Running && !moving.contains(&placement.instance),
            })
        };
        found.extend(on.value.instances.iter().filter_map(instance));
    }
    found
}

impl Intent {
    fn add(&mut self, kind: ActivityKind, from_ms: UnixMs, until_ms: Option<UnixMs>) {
        self.activities.push(Activity { kind, from_ms, until_ms });
    }

    fn event(&mut self, event: &Event) {
        let time = |text: &Option<String>| text.as_deref().and_then(model::time::parse_rfc3339);
        let Some(starts) = time(&event.starts_at) else { return };
        let from = starts.saturating_sub(EVENT_EARLY_MS);
        let until = time(&event.ends_at).map_or(starts + EVENT_OPEN_MS, |ends| ends + EVENT_LATE_MS);
        let services: Vec<String> = event.entry_requests_per_second.keys().map(ToString::to_string).collect();
        let what = format!("event {}: a crowd is expected at {}", event.name, services.join(", "));
        let service = services.first().cloned();
        self.add(ActivityKind::Event { services }, from, Some(until));
        let on = GoingOn { kind: "event".to_owned(), name: event.name.to_string(), what, service, from };
        self.going_on.push(Going { on, until: Some(until), services: BTreeSet::new() });
    }

    fn operation(&mut self, snapshot: &Snapshot, operation: &Operation) {
        let (from, until) = (operation.created_at, operation.finished_at);
        let mut release = None;
        let (kind, service, what) = match &operation.spec {
            OperationSpec::Scale { service, .. } => ("operation", Some(service), format!("scale of {service}")),
            OperationSpec::Rollout { service, package_digest, config_digest } => {
                release = Some(version(package_digest, config_digest));
                ("operation", Some(service), format!("rollout of {service}"))
            }
            OperationSpec::Drain { host } => {
                let place = EntityRef { kind: EntityKind::Host, name: host.to_string() };
                self.add(ActivityKind::Drill { place }, from, until);
                ("drain", None, format!("drain of {host}"))
            }
            OperationSpec::Stress { service, instance, .. } => {
                if let Some(instance) = instance {
                    let (service, instance) = (service.to_string(), instance.to_string());
                    self.add(ActivityKind::StressTest { service, instance }, from, until);
                }
                ("stress", Some(service), format!("stress test of {service}"))
            }
        };
        // Instances of other services come and go when a host is drained.
        let moved = operation.adds.iter().chain(&operation.removes);
        let moved = moved.filter_map(|at| at.instance.as_str().rsplit_once('-').map(|(service, _)| service));
        let moved: BTreeSet<&str> = moved.chain(service.map(|service| service.as_str())).collect();
        for service in moved.into_iter().filter(|name| snapshot.service(name).is_some()) {
            self.add(ActivityKind::Operation { service: service.to_owned(), release }, from, until);
        }
        let phase = serde_json::to_value(operation.phase).ok();
        let phase = phase.as_ref().and_then(|phase| phase.as_str()).unwrap_or_default().replace('_', " ");
        let on = GoingOn {
            kind: kind.to_owned(),
            name: operation.id.to_string(),
            what: format!("{what} ({}, {phase}, by {})", operation.id, operation.who),
            service: service.map(ToString::to_string),
            from,
        };
        self.going_on.push(Going { on, until, services: BTreeSet::new() });
    }

    fn policies(&mut self, snapshot: &Snapshot, newest: UnixMs) {
        let changed = snapshot.policy_histories.values().filter_map(|at| at.value.versions.last()).map(|last| last.at);
        let newest = changed.max().unwrap_or(0).max(newest);
        let mut callers: Option<BTreeMap<&str, BTreeSet<&str>>> = None;
        for history in snapshot.policy_histories.values().map(|at| &*at.value) {
            let Some((policy, who, from, until)) = newest_of(history, newest) else { continue };
            let governed = governed(snapshot, policy);
            self.add(ActivityKind::Event { services: governed.clone() }, from, Some(from + POLICY_MOVES_MS));
            if let Some(ended) = until {
                self.add(ActivityKind::Event { services: governed.clone() }, ended, Some(ended + POLICY_MOVES_MS));
            }
            let of = match (&policy.service, &policy.business) {
                (Some(service), _) => format!(" of {service}"),
                (None, Some(business)) => format!(" of business {business}"),
                (None, None) => String::new(),
            };
            let on = GoingOn {
                kind: "policy".to_owned(),
                name: policy.name.to_string(),
                what: format!("policy {}: {}{of} (by {who})", policy.name, policy.action),
                service: policy.service.as_ref().map(ToString::to_string),
                from,
            };
            let services = with_callers(governed, callers.get_or_insert_with(|| callers_of(snapshot)));
            self.going_on.push(Going { on, until: until.or(Some(policy.expires_at.unix_ms())), services });
        }
    }
}

/// A policy in force, or ended not long ago, as it was last: whose, since when, and when it ended.
fn newest_of(history: &PolicyHistory, newest: UnixMs) -> Option<(&Policy, &str, UnixMs, Option<UnixMs>)> {
    let mut versions = history.versions.iter().rev();
    let last = versions.next()?;
    if let Some(policy) = &last.policy {
        return Some((policy, last.who.as_str(), last.at, None));
    }
    let before = versions.next().filter(|_| last.at + ENDED_MS > newest)?;
    Some((before.policy.as_ref()?, before.who.as_str(), before.at, Some(last.at)))
}

/// Services whose requests a policy may take.
fn governed(snapshot: &Snapshot, policy: &Policy) -> Vec<String> {
    if let Some(service) = &policy.service {
        return vec![service.to_string()];
    }
    let of_business = |service: &&model::Service| policy.business.as_ref().is_none_or(|at| service.business == *at);
    snapshot.services().filter(of_business).map(|service| service.name.to_string()).collect()
}

fn callers_of(snapshot: &Snapshot) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut callers = BTreeMap::<&str, BTreeSet<&str>>::new();
    for service in snapshot.services() {
        for called in &service.dependencies {
            callers.entry(called.on.as_str()).or_default().insert(service.name.as_str());
        }
    }
    callers
}

/// These and all that call them, at once or by others: what is turned away here may fail there.
fn with_callers(services: Vec<String>, callers: &BTreeMap<&str, BTreeSet<&str>>) -> BTreeSet<String> {
    let (mut open, mut all) = (services, BTreeSet::new());
    while let Some(service) = open.pop() {
        if all.contains(&service) {
            continue;
        }
        open.extend(callers.get(service.as_str()).into_iter().flatten().map(ToString::to_string));
        all.insert(service);
    }
    all
}

#[cfg(test)]
mod tests;
