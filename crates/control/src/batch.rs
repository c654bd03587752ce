//! What one batch of an operation adds and removes: planned by the scheduler, checked, cut to what one transaction
//! takes. Writing it is the work of `attributes`, but for the choice of who goes first.

use crate::attributes::next_on_host;
use crate::draft::Draft;
use crate::limits::*;
use crate::place;
use crate::recall::View;
use crate::refusal::Refusal;
use crate::walk::current_removes;
use crate::wanted::{Wanted, difference, placed_counts, stale};
use model::{
    DatacenterName, HostName, InstanceId, InstanceIntent, Operation, Placement, PlannedInstance, Service, ServiceName,
    Snapshot,
};
use scheduler::Added;
use std::collections::{BTreeMap, BTreeSet};

/// What one batch does.
#[derive(Default)]
pub(crate) struct Batch {
    /// The service.
    pub service: Option<ServiceName>,
    /// New instances.
    pub adds: Vec<Added>,
    /// Instances that go.
    pub removes: Vec<(HostName, InstanceId)>,
    /// Batches that remain after this one, as far as can be told.
    pub more: u32,
}

/// The difference of counts.
pub(crate) fn scale(
    view: View<'_>,
    service: &ServiceName,
    instances: &BTreeMap<DatacenterName, u32>,
) -> Result<Batch, Vec<String>> {
    let have = placed_counts(view.snapshot, service);
    let (adds, removes) = difference(instances, &have);
    let mut added = match adds.is_empty() {
        true => Vec::new(),
        false => place::place(view, view.snapshot, service, &adds, None)?,
    };
    let all = added.len();
    let mut hosts = BTreeSet::new();
    cut_adds(view.snapshot, &mut added, &mut hosts);
    let mut removed = Vec::new();
    if added.len() == all {
        removed = place::victims(view.snapshot, service, &removes);
        removed.retain(|(host, _)| {
            hosts.insert(host.clone());
            hosts.len() <= BATCH_HOSTS_MAX
        });
    }
    let more = if added.len() < all { (all - 1) / added.len().max(1) } else { 0 };
    Ok(Batch { service: Some(service.clone()), adds: added, removes: removed, more: more as u32 })
}

/// Cuts a plan to what one transaction takes.
fn cut_adds(snapshot: &Snapshot, added: &mut Vec<Added>, hosts: &mut BTreeSet<HostName>) {
    let mut bytes = 0;
    let mut keep = 0;
    for add in added.iter() {
        if hosts.insert(add.host.clone()) {
            let on = snapshot.placements.get(&add.host).map_or(0, |on| on.value.instances.len());
            bytes += on * PLACEMENT_BYTES_MAX;
        }
        bytes += PLACEMENT_BYTES_MAX;
        if hosts.len() > BATCH_HOSTS_MAX || (bytes > BATCH_BYTES_MAX && keep > 0) {
            break;
        }
        keep += 1;
    }
    added.truncate(keep);
    hosts.retain(|host| added.iter().any(|add| &add.host == host));
}

/// Why a batch of a rollout cannot be placed beside what runs.
pub(crate) enum Shortage {
    /// One instance can be stopped to make room.
    MakeRoom,
    /// Nothing helps.
    Final(Vec<String>),
}

/// A part of the instances that do not run what is wanted, and their replacements.
pub(crate) fn rollout(view: View<'_>, op: &Operation, name: &ServiceName) -> Result<Batch, Shortage> {
    let last = |why: String| Shortage::Final(vec![why]);
    let service = view.snapshot.service(name).ok_or_else(|| last(format!("service {name} was deleted")))?;
    let wanted = Wanted::of(view.snapshot, service).map_err(last)?;
    if wanted.rollout(service) != op.spec {
        return Err(last(format!("superseded: {name} is to run something newer by now, which gets its own rollout")));
    }
    let gone: Vec<&PlannedInstance> = current_removes(op).collect();
    if !gone.is_empty() {
        let adds = place::place(view, view.snapshot, name, &count(gone.iter().map(|at| &at.datacenter)), None);
        let adds = adds.map_err(Shortage::Final)?;
        return Ok(Batch { service: Some(name.clone()), adds, removes: Vec::new(), more: 0 });
    }
    let stale = stale(view.snapshot, service, &wanted);
    let placed: u32 = placed_counts(view.snapshot, name).values().sum();
    let size = (placed / ROLLOUT_PARTS).clamp(1, BATCH_HOSTS_MAX as u32 / 2) as usize;
    let removes: Vec<(HostName, InstanceId)> =
        stale.iter().take(size).map(|(host, placement)| (host.clone(), placement.instance.clone())).collect();
    let datacenters = removes.iter().filter_map(|(host, _)| view.snapshot.datacenter_of(host));
    let more = stale.len().saturating_sub(removes.len()).div_ceil(size) as u32;
    match place::place(view, view.snapshot, name, &count(datacenters), None) {
        Ok(adds) => Ok(Batch { service: Some(name.clone()), adds, removes, more }),
        Err(reasons) => Err(make_room(view, service, &stale, reasons)),
    }
}

fn count<'a>(datacenters: impl Iterator<Item = &'a DatacenterName>) -> BTreeMap<DatacenterName, u32> {
    let mut counts = BTreeMap::new();
    datacenters.for_each(|at| *counts.entry(at.clone()).or_insert(0) += 1);
    counts
}

/// Room may be made where another instance of the same datacenter keeps serving.
fn make_room(view: View<'_>, service: &Service, stale: &[(HostName, Placement)], mut reasons: Vec<String>) -> Shortage {
    let counts = placed_counts(view.snapshot, &service.name);
    let has_company = |host: &HostName| {
        let at = view.snapshot.datacenter_of(host);
        at.and_then(|at| counts.get(at)).is_some_and(|n| *n >= 2)
    };
    if stale.iter().any(|(host, _)| has_company(host)) {
        return Shortage::MakeRoom;
    }
    reasons.push(
        "there is no room beside the old instance, and stopping it first would leave its datacenter without \
                  any: free capacity, or scale to 2 there"
            .to_owned(),
    );
    Shortage::Final(reasons)
}

/// Chooses the instance that goes first, where room must be made.
pub(crate) fn choose_first_to_go(view: View<'_>, draft: &mut Draft<'_>) -> Result<(), Vec<String>> {
    let Some(name) = draft.op().spec.service().cloned() else { return Ok(()) };
    let service = view.snapshot.service(&name).ok_or_else(|| vec![format!("service {name} was deleted")])?;
    let wanted = Wanted::of(view.snapshot, service).map_err(|why| vec![why])?;
    if wanted.rollout(service) != draft.op().spec {
        return Err(vec![format!("superseded: {name} is to run something newer by now, which gets its own rollout")]);
    }
    let stale = stale(view.snapshot, service, &wanted);
    let counts = placed_counts(view.snapshot, &name);
    let chosen = stale.iter().find_map(|(host, placement)| {
        let datacenter = view.snapshot.datacenter_of(host)?;
        let has_company = counts.get(datacenter).is_some_and(|n| *n >= 2);
        has_company.then(|| (host.clone(), placement.instance.clone(), datacenter.clone()))
    });
    let Some((host, instance, datacenter)) = chosen else {
        return Err(vec![format!("no old instance of {name} can stop: each is the last of its datacenter")]);
    };
    let op = draft.change();
    op.removes.push(PlannedInstance { instance, host, datacenter, batch: op.batch });
    op.batches = op.batches.max(op.batch + stale.len() as u32);
    Ok(())
}

/// One service of the host, and its replacements elsewhere.
pub(crate) fn drain(view: View<'_>, op: &Operation, host: &HostName) -> Result<Batch, Vec<String>> {
    if op.batch == 0 {
        rehearse(view, host)?;
    }
    let Some(name) = next_on_host(view.snapshot, host) else { return Ok(Batch::default()) };
    let on = view.snapshot.placements.get(host).map(|on| on.value.instances.as_slice()).unwrap_or_default();
    let removes: Vec<(HostName, InstanceId)> = on
        .iter()
        .filter(|placement| placement.service == name)
        .take(BATCH_HOSTS_MAX - 1)
        .map(|placement| (host.clone(), placement.instance.clone()))
        .collect();
    let services: BTreeSet<&ServiceName> = on.iter().map(|placement| &placement.service).collect();
    let more = services.len() as u32 - 1;
    let adds = replacements(view, view.snapshot, &name, host, removes.len() as u32)?;
    Ok(Batch { service: Some(name), adds, removes, more })
}

/// Places all that stands on a host elsewhere, on paper: what cannot be finished is not begun.
fn rehearse(view: View<'_>, host: &HostName) -> Result<(), Vec<String>> {
    let Some(on) = view.snapshot.placements.get(host) else { return Ok(()) };
    let mut services = BTreeMap::new();
    on.value.instances.iter().for_each(|p| *services.entry(p.service.clone()).or_insert(0_u32) += 1);
    let mut paper = view.snapshot.clone();
    let mut reasons = Vec::new();
    for (name, count) in services {
        match replacements(view, &paper, &name, host, count) {
            Ok(adds) => {
                let placed = placements(&paper, &name, &adds)?;
                for (host, placement) in placed {
                    put_on_paper(&mut paper, host, placement);
                }
            }
            Err(why) => reasons.extend(why),
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn put_on_paper(paper: &mut Snapshot, host: HostName, placement: Placement) {
    paper.hosts_of.entry(placement.service.clone()).or_default().insert(host.clone());
    let empty = || model::HostPlacements { host: host.clone(), instances: Vec::new() };
    let on = paper
        .placements
        .entry(host.clone())
        .or_insert_with(|| model::Versioned { value: std::sync::Arc::new(empty()), revision: 0 });
    std::sync::Arc::make_mut(&mut on.value).instances.push(placement);
}

/// New instances in the place of some on a host; none for a service that was deleted.
fn replacements(
    view: View<'_>,
    snapshot: &Snapshot,
    name: &ServiceName,
    host: &HostName,
    count: u32,
) -> Result<Vec<Added>, Vec<String>> {
    let (Some(_), Some(datacenter)) = (snapshot.service(name), snapshot.datacenter_of(host)) else {
        return Ok(Vec::new());
    };
    place::place(view, snapshot, name, &BTreeMap::from([(datacenter.clone(), count)]), Some(host))
}

/// The placements of planned instances.
pub(crate) fn placements(
    snapshot: &Snapshot,
    name: &ServiceName,
    adds: &[Added],
) -> Result<Vec<(HostName, Placement)>, Vec<String>> {
    if adds.is_empty() {
        return Ok(Vec::new());
    }
    let service = snapshot.service(name).ok_or_else(|| vec![Refusal::UnknownService(name.clone()).to_string()])?;
    let wanted = Wanted::of(snapshot, service).map_err(|why| vec![why])?;
    let mut placed = Vec::new();
    for add in adds {
        let config = match wanted.configs.get(&add.datacenter) {
            Some(config) => config.clone(),
            None => crate::wanted::config_digest(snapshot, service, &add.datacenter).map_err(|why| vec![why])?,
        };
        let placement = Placement {
            instance: add.instance.clone(),
            service: name.clone(),
            layer: service.layer,
            package: service.package.clone(),
            package_version: wanted.package_version.clone(),
            package_digest: wanted.package_digest.clone(),
            config_digest: config,
            shape: service.shape,
            ports: add.ports.clone(),
            intent: InstanceIntent::Deployed,
        };
        placed.push((add.host.clone(), placement));
    }
    Ok(placed)
}
