//! The first step of each batch: what it adds and removes, planned, checked and committed in one transaction; and the
//! question whether another batch is due.

use crate::draft::Draft;
use crate::limits::*;
use crate::place;
use crate::recall::{Recall, View};
use crate::walk::{Move, current_removes};
use crate::wanted::{Wanted, difference, placed_counts, stale};
use crate::{journal, refusal};
use model::{
    DatacenterName, HostName, InstanceId, InstanceIntent, Operation, OperationPhase, OperationSpec, Placement,
    PlannedInstance, ScaleBefore, ScaleIntent, Service, ServiceName, Snapshot, StepName, StepState, keys,
};
use scheduler::Added;
use std::collections::{BTreeMap, BTreeSet};

/// What one batch does.
#[derive(Default)]
struct Batch {
    service: Option<ServiceName>,
    adds: Vec<Added>,
    removes: Vec<(HostName, InstanceId)>,
    /// Batches that remain after this one, as far as can be told.
    more: u32,
}

/// Plans the batch and writes it into the draft.
pub(crate) fn enter(view: View<'_>, draft: &mut Draft<'_>, recall: &Recall) -> Move {
    if draft.touches_hosts() {
        return Move::Wait;
    }
    if !view.observed.settled {
        let waited_ms = recall.waited_ms(draft.op(), view.now);
        let late = "too few agents reported to plan by: bring their hosts back, then try again";
        return if waited_ms < SETTLE_MS_MAX { Move::Wait } else { Move::Fail(vec![late.to_owned()]) };
    }
    let spec = draft.op().spec.clone();
    let planned = match &spec {
        OperationSpec::Scale { service, instances } => scale(view, service, instances),
        OperationSpec::Rollout { service, .. } => match rollout(view, draft.op(), service) {
            Err(Shortage::MakeRoom) if may_find_room(view, draft.op(), recall) => return Move::Wait,
            Err(Shortage::MakeRoom) => {
                remove_first(draft);
                return Move::On;
            }
            Err(Shortage::Final(reasons)) => Err(reasons),
            Ok(batch) => Ok(batch),
        },
        OperationSpec::Drain { host } if waits_for_another(view.snapshot, draft.op(), host) => return Move::Wait,
        OperationSpec::Drain { host } => drain(view, draft.op(), host),
        OperationSpec::Stress { .. } => Ok(Batch::default()),
    };
    match planned.and_then(|batch| write(view, draft, batch)) {
        Ok(()) => Move::On,
        Err(_) if may_find_room(view, draft.op(), recall) => Move::Wait,
        Err(reasons) => Move::Fail(reasons),
    }
}

/// True while hosts that have not reported since the server started may still do so, and bring room.
fn may_find_room(view: View<'_>, op: &Operation, recall: &Recall) -> bool {
    let unknown = view.snapshot.hosts().any(|host| !view.observed.hosts.contains_key(&host.name));
    unknown && recall.waited_ms(op, view.now) < UNKNOWN_HOSTS_MS_MAX
}

/// Begins the next batch when one is due; `Wait` when none is.
pub(crate) fn next_batch(view: View<'_>, draft: &mut Draft<'_>) -> Move {
    let due = match &draft.op().spec {
        OperationSpec::Scale { service, instances } => {
            let (adds, removes) = difference(instances, &placed_counts(view.snapshot, service));
            !adds.is_empty() || !removes.is_empty()
        }
        OperationSpec::Rollout { service, .. } => match view.snapshot.service(service) {
            Some(service) => match Wanted::of(view.snapshot, service) {
                Ok(wanted) => !stale(view.snapshot, service, &wanted).is_empty(),
                Err(why) => return Move::Fail(vec![why]),
            },
            None => false,
        },
        OperationSpec::Drain { host } => next_on_host(view.snapshot, host).is_some(),
        OperationSpec::Stress { .. } => false,
    };
    if !due {
        return Move::Wait;
    }
    if draft.op().batch + 1 >= BATCHES_MAX {
        return Move::Fail(vec![format!("still not done after {BATCHES_MAX} batches: the world changes too fast")]);
    }
    let op = draft.change();
    op.batch += 1;
    op.batches = op.batches.max(op.batch + 1);
    op.gray_permille = 0;
    for step in op.steps.iter_mut().filter(|step| step.name != StepName::Report) {
        step.state = StepState::Waiting;
    }
    let line = format!("batch {} of {} begins", op.batch + 1, op.batches);
    draft.log(line);
    Move::On
}

/// The next service to move off a host.
pub(crate) fn next_on_host(snapshot: &Snapshot, host: &HostName) -> Option<ServiceName> {
    let on = &snapshot.placements.get(host)?.value.instances;
    on.iter().map(|placement| &placement.service).min().cloned()
}

/// True while an operation that placed on the host before the cordon stood is still at work there.
fn waits_for_another(snapshot: &Snapshot, drain: &Operation, host: &HostName) -> bool {
    let Some(next) = next_on_host(snapshot, host) else { return false };
    let mut open = snapshot.operations.values().map(|at| &at.value).filter(|op| !op.phase.is_final());
    open.any(|op| op.id != drain.id && op.spec.service() == Some(&next))
}

/// True when the operation stops an old instance before it starts a new one.
pub(crate) fn removes_first(op: &Operation) -> bool {
    op.steps.first().is_some_and(|step| step.name == StepName::Drain)
}

fn scale(
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
enum Shortage {
    /// One instance can be stopped to make room.
    MakeRoom,
    /// Nothing helps.
    Final(Vec<String>),
}

fn rollout(view: View<'_>, op: &Operation, name: &ServiceName) -> Result<Batch, Shortage> {
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

/// Turns the order of steps round, for the rest of the operation: stop one, then start one.
fn remove_first(draft: &mut Draft<'_>) {
    let op = draft.change();
    op.phase = OperationPhase::Running;
    let first = |name| !matches!(name, StepName::Drain | StepName::Stop);
    op.steps.sort_by_key(|step| first(step.name));
    draft.log("no room for new instances beside the old ones: replacing one at a time, the old one stops first");
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

fn drain(view: View<'_>, op: &Operation, host: &HostName) -> Result<Batch, Vec<String>> {
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

/// Writes a planned batch: placements, counters, scale intent, journal.
fn write(view: View<'_>, draft: &mut Draft<'_>, batch: Batch) -> Result<(), Vec<String>> {
    let targets = (batch.adds.len() + batch.removes.len()) as u32;
    if let Some(name) = &batch.service {
        for (host, placement) in placements(view.snapshot, name, &batch.adds)? {
            draft.add_placement(&host, placement);
        }
        count_instances(view.snapshot, draft, name, &batch.adds);
        guard_inputs(view.snapshot, draft, name);
    }
    set_scale(view, draft);
    let op = draft.change();
    let number = op.batch;
    op.adds.extend(batch.adds.into_iter().map(|add| PlannedInstance {
        instance: add.instance,
        host: add.host,
        datacenter: add.datacenter,
        batch: number,
    }));
    for (host, instance) in batch.removes {
        let Some(datacenter) = view.snapshot.datacenter_of(&host).cloned() else { continue };
        op.removes.push(PlannedInstance { instance, host, datacenter, batch: number });
    }
    op.batches = op.batches.max(number + 1 + batch.more);
    op.phase = OperationPhase::Running;
    op.planned_at = view.snapshot.revision;
    add_missing_steps(op);
    journal::begin(op, StepName::Attributes, targets, view.now);
    let line = format!("batch {}: plan checked, {targets} instances concerned", number + 1);
    draft.log(line);
    Ok(())
}

/// The world may have changed since the operation was opened: a plan that also removes has those steps too.
fn add_missing_steps(op: &mut Operation) {
    let adds = op.adds.iter().any(|add| add.batch == op.batch);
    let removes = op.removes.iter().any(|remove| remove.batch == op.batch);
    for name in journal::step_names(adds, removes) {
        if journal::step(op, name).is_none() {
            journal::step_mut(op, name);
        }
    }
    if !removes_first(op) {
        let order = journal::step_names(true, true);
        op.steps.sort_by_key(|step| order.iter().position(|name| *name == step.name));
    }
}

fn placements(
    snapshot: &Snapshot,
    name: &ServiceName,
    adds: &[Added],
) -> Result<Vec<(HostName, Placement)>, Vec<String>> {
    if adds.is_empty() {
        return Ok(Vec::new());
    }
    let service =
        snapshot.service(name).ok_or_else(|| vec![refusal::Refusal::UnknownService(name.clone()).to_string()])?;
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

fn count_instances(snapshot: &Snapshot, draft: &mut Draft<'_>, name: &ServiceName, adds: &[Added]) {
    let number = |add: &Added| add.instance.as_str().rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
    let Some(last) = adds.iter().filter_map(number).max() else { return };
    let key = keys::instance_counter(name);
    let revision = snapshot.counters.get(&key).map_or(0, |at| at.revision);
    draft.write(key, revision, Some(last.to_string().into_bytes()));
}

/// The plan was made from this service and, where it was cordoned, this host.
fn guard_inputs(snapshot: &Snapshot, draft: &mut Draft<'_>, name: &ServiceName) {
    let key = model::ResourceKey { kind: model::Kind::Service, name: name.to_string() };
    draft.guard(keys::resource(&key), snapshot.resources.get(&key).map_or(0, |at| at.revision));
}

/// An operator's scale overrules the manifest from here on; what stood before is kept for a rollback.
fn set_scale(view: View<'_>, draft: &mut Draft<'_>) {
    let op = draft.op();
    let OperationSpec::Scale { service, instances } = op.spec.clone() else { return };
    if op.who == crate::reconcile::WHO || op.scale_before.is_some() {
        return;
    }
    let before = view.snapshot.scales.get(&service);
    let intent = ScaleIntent { service: service.clone(), instances, operation: op.id.clone() };
    draft.change().scale_before = Some(ScaleBefore { intent: before.map(|at| at.value.as_ref().clone()) });
    let revision = before.map_or(0, |at| at.revision);
    draft.write(keys::scale(&service), revision, Some(journal::json(&intent)));
}
