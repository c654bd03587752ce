//! Brings services to what is wanted of them, by opening operations. It looks only at services that something touched;
//! after a failure of the same intent it waits, longer each time.

use crate::contract::{Action, Commit, HostState};
use crate::journal;
use crate::limits::*;
use crate::open::{count_operations, new_operation, newest_first, precheck};
use crate::recall::View;
use crate::wanted::{Wanted, busy_with, difference, placed_counts, service_of, stale};
use model::{
    DatacenterName, HostName, Kind, Operation, OperationPhase, OperationSpec, ResourceKey, Revision, ServiceName,
    Snapshot, UnixMs, keys,
};
use std::collections::{BTreeMap, BTreeSet};

/// Who opens its operations.
pub(crate) const WHO: &str = "reconciler";

/// Which services are to be looked at, and when.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    begun: bool,
    dirty: BTreeSet<ServiceName>,
    later: BTreeMap<ServiceName, UnixMs>,
    /// Hosts on which instances may be placed, as last looked at.
    open_hosts: BTreeSet<HostName>,
    /// When there was last one more of them.
    room_at: UnixMs,
    asked: Option<(UnixMs, Vec<ServiceName>)>,
    failures: u32,
    not_before: UnixMs,
}

/// What a look at a service says.
enum Look {
    Fine,
    Open(OperationSpec),
    Later(UnixMs),
}

impl Reconciler {
    /// Notes which services a commit touched.
    pub fn committed(&mut self, view: View<'_>, keys: &[String]) {
        for key in keys {
            if let Some(at) = key.strip_prefix(keys::OPERATIONS).and_then(|id| view.snapshot.operations.get(id)) {
                self.opened(&at.value);
                if at.value.phase.is_final() {
                    self.dirty.extend(services_of(&at.value));
                }
            } else if let Some(name) = key.strip_prefix(keys::SCALES) {
                self.dirty.extend(ServiceName::new(name));
            } else if let Some(resource) = keys::parse_resource(key) {
                self.dirty.extend(concerned(view.snapshot, resource.kind, &resource.name));
            }
        }
    }

    /// Notes which hosts take placements: what failed for want of room is tried again soon after there is more.
    pub fn reported(&mut self, view: View<'_>, hosts: &BTreeSet<HostName>) {
        for host in hosts {
            let connected = view.observed.hosts.get(host).is_some_and(|seen| seen.state == HostState::Connected);
            if !connected {
                self.open_hosts.remove(host);
            } else if self.open_hosts.insert(host.clone()) {
                self.room_at = view.now;
                self.dirty.extend(std::mem::take(&mut self.later).into_keys());
            }
        }
    }

    /// Forgets what it asked for once it is there.
    fn opened(&mut self, op: &Operation) {
        let Some((_, services)) = self.asked.as_mut().filter(|_| op.who == WHO) else { return };
        services.retain(|service| Some(service) != op.spec.service());
        if services.is_empty() {
            self.asked = None;
            self.failures = 0;
        }
    }

    /// Notes that its own commit failed.
    pub fn failed(&mut self, now: UnixMs) {
        let Some((_, services)) = self.asked.take() else { return };
        self.dirty.extend(services);
        self.not_before = now + (COMMIT_RETRY_MS_MIN << self.failures.min(16)).min(COMMIT_RETRY_MS_MAX);
        self.failures += 1;
    }

    /// Opens what is due, in one commit.
    pub fn step(&mut self, view: View<'_>) -> Option<Action> {
        if !view.observed.settled || view.now < self.not_before {
            return None;
        }
        if !self.begun {
            self.begun = true;
            self.dirty.extend(view.snapshot.services().map(|service| service.name.clone()));
            let placed = view.snapshot.placements.values().flat_map(|on| &on.value.instances);
            self.dirty.extend(placed.map(|placement| placement.service.clone()));
        }
        match &self.asked {
            Some((at, _)) if view.now < at + COMMIT_WAIT_MS_MAX => return None,
            Some(_) => self.failed(view.now),
            None => {}
        }
        let due: Vec<ServiceName> =
            self.later.iter().filter(|(_, at)| **at <= view.now).map(|(s, _)| s.clone()).collect();
        for service in due {
            self.later.remove(&service);
            self.dirty.insert(service);
        }
        self.open_due(view)
    }

    fn open_due(&mut self, view: View<'_>) -> Option<Action> {
        let mut specs = Vec::new();
        while specs.len() < HOUSEKEEPING_KEYS_MAX {
            let Some(service) = self.dirty.pop_first() else { break };
            match look(view, &service, self.room_at) {
                Look::Fine => {}
                Look::Open(spec) => specs.push((service, spec)),
                Look::Later(at) => {
                    self.later.insert(service, at);
                }
            }
        }
        if specs.is_empty() {
            return None;
        }
        let mut commit = Commit { who: WHO.to_owned(), ..Commit::default() };
        let mut number = view.snapshot.counter(&keys::operation_counter());
        let mut services = Vec::new();
        for (service, spec) in specs {
            let Ok(steps) = precheck(view.snapshot, view.observed, &spec) else { continue };
            number += 1;
            let mut op = new_operation(number, spec, &steps, WHO, view.now);
            op.planned_at = view.snapshot.revision;
            journal::write_new(&op, &mut commit);
            services.push(service);
        }
        if services.is_empty() {
            return None;
        }
        count_operations(view.snapshot, number, &mut commit);
        self.asked = Some((view.now, services));
        Some(Action::Commit(commit))
    }
}

fn look(view: View<'_>, name: &ServiceName, room_at: UnixMs) -> Look {
    if busy_with(view.snapshot, name).is_some() {
        return Look::Later(view.now + BUSY_MS);
    }
    let Some(spec) = due(view.snapshot, name) else { return Look::Fine };
    match retry_at(view.snapshot, name, &spec, room_at) {
        Some(at) if at > view.now => Look::Later(at),
        _ => Look::Open(spec),
    }
}

/// The operation that the service needs, if any.
fn due(snapshot: &Snapshot, name: &ServiceName) -> Option<OperationSpec> {
    let service = snapshot.service(name);
    let instances = service.map(|service| snapshot.instances_wanted(service)).unwrap_or_default();
    let have = placed_counts(snapshot, name);
    let (adds, removes) = difference(&instances, &have);
    if !adds.is_empty() || !removes.is_empty() {
        return Some(OperationSpec::Scale { service: name.clone(), instances: within_reach(instances, &have) });
    }
    let service = service?;
    let wanted = Wanted::of(snapshot, service).ok()?;
    (!stale(snapshot, service, &wanted).is_empty()).then(|| wanted.rollout(service))
}

/// The counts that one operation may reach: it adds at most [`SCALE_ADDS_MAX`], and the next one goes on from there.
fn within_reach(
    mut instances: BTreeMap<DatacenterName, u32>,
    have: &BTreeMap<DatacenterName, u32>,
) -> BTreeMap<DatacenterName, u32> {
    let mut left = SCALE_ADDS_MAX;
    for (at, count) in &mut instances {
        let have = have.get(at).copied().unwrap_or(0);
        let adds = count.saturating_sub(have).min(left);
        left -= adds;
        *count = (*count).min(have + adds);
    }
    instances
}

/// When the same intent may be tried again, after its latest tries failed. One that placed nothing before there was a host
/// more waits no longer than the first time.
fn retry_at(snapshot: &Snapshot, name: &ServiceName, spec: &OperationSpec, room_at: UnixMs) -> Option<UnixMs> {
    let of_service = newest_first(snapshot).into_iter().filter(|op| op.spec.service() == Some(name));
    let changed_at = intent_revision(snapshot, name);
    let failed: Vec<&Operation> = of_service
        .filter(|op| op.who == WHO)
        .take_while(|op| op.spec == *spec && op.phase != OperationPhase::Succeeded && op.planned_at >= changed_at)
        .collect();
    let last = failed.first()?;
    let first_ms =
        if last.phase == OperationPhase::RolledBack { RECONCILE_REFUSED_MS_MIN } else { RECONCILE_RETRY_MS_MIN };
    let found_no_room = last.phase == OperationPhase::Failed && last.adds.is_empty();
    let is_anew = found_no_room && last.finished_at? <= room_at;
    let doublings = if is_anew { 0 } else { (failed.len() as u32 - 1).min(16) };
    Some(last.finished_at? + (first_ms << doublings).min(RECONCILE_RETRY_MS_MAX))
}

/// When what a service is to run, or how many of it, last changed.
fn intent_revision(snapshot: &Snapshot, name: &ServiceName) -> Revision {
    let scale = snapshot.scales.get(name).map(|at| at.revision);
    let service = snapshot.service(name);
    let keys = service.into_iter().flat_map(|service| {
        let config = service.config.as_ref().map(|name| (Kind::ConfigSet, name.to_string()));
        let environment = service.environment.as_ref().map(|name| (Kind::Environment, name.to_string()));
        let own = [(Kind::Service, service.name.to_string()), (Kind::Package, service.package.to_string())];
        own.into_iter().chain(config).chain(environment)
    });
    let revisions = keys.filter_map(|(kind, name)| Some(snapshot.resources.get(&ResourceKey { kind, name })?.revision));
    revisions.chain(scale).max().unwrap_or(0)
}

/// The services that an operation changed.
fn services_of(op: &Operation) -> BTreeSet<ServiceName> {
    let planned = op.adds.iter().chain(&op.removes);
    let changed = planned.filter_map(|planned| ServiceName::new(service_of(planned.instance.as_str())).ok());
    op.spec.service().cloned().into_iter().chain(changed).collect()
}

/// The services that a resource's change may concern.
fn concerned(snapshot: &Snapshot, kind: Kind, name: &str) -> Vec<ServiceName> {
    let of = |concerns: &dyn Fn(&model::Service) -> bool| {
        snapshot.services().filter(|service| concerns(service)).map(|service| service.name.clone()).collect()
    };
    match kind {
        Kind::Service => ServiceName::new(name).into_iter().collect(),
        Kind::Package => of(&|service| service.package.as_str() == name),
        Kind::ConfigSet => of(&|service| service.config.as_ref().is_some_and(|config| config.as_str() == name)),
        Kind::Environment => of(&|service| service.environment.as_ref().is_some_and(|at| at.as_str() == name)),
        _ => Vec::new(),
    }
}
