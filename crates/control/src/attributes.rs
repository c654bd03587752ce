//! The first step of each batch: what it adds and removes, committed in one transaction; and the question whether
//! another batch is due. What the batch is comes from `batch`.

use crate::batch::{Batch, Shortage, drain, placements, rollout, scale};
use crate::draft::Draft;
use crate::journal;
use crate::limits::{BATCHES_MAX, PLANNED_KEPT_MAX, SETTLE_MS_MAX, UNKNOWN_HOSTS_MS_MAX};
use crate::recall::{Recall, View};
use crate::walk::Move;
use crate::wanted::{Wanted, difference, placed_counts, stale};
use model::{
    DatacenterName, HostName, Kind, Operation, OperationPhase, OperationSpec, PlannedInstance, ResourceKey,
    ScaleBefore, ScaleIntent, ServiceName, Snapshot, StepName, StepState, keys,
};
use scheduler::Added;
use std::collections::BTreeMap;

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
        OperationSpec::Scale { service, instances } => scale(view, service, &without_given_up(draft.op(), instances)),
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

/// The counts that a scale is still to reach: operators had it go on without some.
fn without_given_up(op: &Operation, instances: &BTreeMap<DatacenterName, u32>) -> BTreeMap<DatacenterName, u32> {
    let mut wanted = instances.clone();
    for gone in &op.given_up {
        wanted.entry(gone.datacenter.clone()).and_modify(|count| *count = count.saturating_sub(1));
    }
    wanted
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
            let wanted = without_given_up(draft.op(), instances);
            let (adds, removes) = difference(&wanted, &placed_counts(view.snapshot, service));
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
    begin_batch(op);
    let line = format!("batch {} of {} begins", op.batch + 1, op.batches);
    draft.log(line);
    Move::On
}

fn begin_batch(op: &mut Operation) {
    op.batch += 1;
    op.batches = op.batches.max(op.batch + 1);
    op.gray_permille = 0;
    for step in op.steps.iter_mut().filter(|step| step.name != StepName::Report) {
        step.state = StepState::Waiting;
        step.skipped_by = None;
        step.hooks.clear();
    }
    if !matches!(op.spec, OperationSpec::Scale { .. }) {
        forget_oldest(&mut op.adds);
        forget_oldest(&mut op.removes);
    }
}

/// What earlier batches did is done and stays: nothing reads it again but the report, and the whole must fit a transaction.
fn forget_oldest(planned: &mut Vec<PlannedInstance>) {
    let surplus = planned.len().saturating_sub(PLANNED_KEPT_MAX);
    planned.drain(..surplus);
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

/// Turns the order of steps round, for the rest of the operation: stop one, then start one.
fn remove_first(draft: &mut Draft<'_>) {
    let op = draft.change();
    op.phase = OperationPhase::Running;
    let first = |name| !matches!(name, StepName::Drain | StepName::Stop);
    op.steps.sort_by_key(|step| first(step.name));
    draft.log("no room for new instances beside the old ones: replacing one at a time, the old one stops first");
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

pub(crate) fn count_instances(snapshot: &Snapshot, draft: &mut Draft<'_>, name: &ServiceName, adds: &[Added]) {
    let number = |add: &Added| add.instance.as_str().rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
    let Some(last) = adds.iter().filter_map(number).max() else { return };
    let key = keys::instance_counter(name);
    let revision = snapshot.counters.get(&key).map_or(0, |at| at.revision);
    draft.write(key, revision, Some(last.to_string().into_bytes()));
}

/// The plan was made from this service.
pub(crate) fn guard_inputs(snapshot: &Snapshot, draft: &mut Draft<'_>, name: &ServiceName) {
    let key = ResourceKey { kind: Kind::Service, name: name.to_string() };
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

#[cfg(test)]
mod tests;
