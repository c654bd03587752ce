//! The way back: what the operation (or its current batch) added leaves traffic, stops and goes; what it was about to
//! remove serves again. Level-triggered on placements, so that it can begin anywhere and be repeated.

use crate::contract::Action;
use crate::draft::Draft;
use crate::instances::is_lost;
use crate::journal;
use crate::limits::BATCH_HOSTS_MAX;
use crate::open::cordon_key;
use crate::recall::{Recall, View};
use crate::walk::{Move, await_report, current_adds, current_removes, end_silence, unconfirmed};
use crate::{attributes, wanted};
use model::{
    HostName, InstanceIntent, Operation, OperationPhase, OperationSpec, Placement, PlannedInstance, Service, Snapshot,
    StepName, StepState, Versioned, keys,
};
use std::collections::BTreeSet;

/// True when there is something to undo.
pub(crate) fn is_needed(snapshot: &Snapshot, op: &Operation) -> bool {
    !undone(snapshot, op).is_empty() || current_removes(op).next().is_some()
}

/// Takes a rollback as far as it goes now.
pub(crate) fn advance(view: View<'_>, at: &Versioned<Operation>, recall: &mut Recall) -> Vec<Action> {
    let mut draft = Draft::new(view.snapshot, at, view.now);
    let mut actions = Vec::new();
    let reporting = journal::step(&at.value, StepName::Report).is_some_and(|step| step.state == StepState::Running);
    if reporting {
        let waited_ms = waited_ms(view, draft.op(), recall, StepName::Report);
        if let Move::On = await_report(view, &mut draft, recall, waited_ms, &mut actions) {
            end(view, &mut draft);
        }
    } else {
        undo(view, &mut draft, recall);
    }
    actions.extend(draft.commit().map(Action::Commit));
    actions
}

/// How long the step was waited for; long enough, when an operator had it passed over.
fn waited_ms(view: View<'_>, op: &Operation, recall: &Recall, name: StepName) -> u64 {
    if journal::is_skipped(op, name) { u64::MAX } else { recall.waited_ms(op, view.now) }
}

fn undo(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall) {
    let targets = undone(view.snapshot, draft.op());
    let waited_ms = waited_ms(view, draft.op(), recall, StepName::Stop);
    let service = service_of(view.snapshot, draft.op(), &targets);
    if withdraw(view, draft, &targets) {
        return;
    }
    let left: Vec<&PlannedInstance> = targets.iter().filter(|t| placed(view.snapshot, t).is_some()).collect();
    if !left.is_empty() {
        let drain_ms = u64::from(service.map(|s| s.stop.drain_ms).unwrap_or_default());
        let is_quiet = recall.quiet_ms(view, draft.op(), &targets).is_some_and(|quiet_ms| quiet_ms >= drain_ms);
        if is_quiet || journal::is_skipped(draft.op(), StepName::Drain) {
            remove(view, draft, &left);
        }
        return;
    }
    let Some(notes) = unconfirmed(view, &targets, service, waited_ms) else { return };
    draft.change().failures.extend(notes);
    for name in [StepName::Drain, StepName::Stop] {
        if journal::step(draft.op(), name).is_some_and(|step| step.state == StepState::Running) {
            journal::finish(draft.change(), name, view.now);
        }
    }
    journal::begin(draft.change(), StepName::Report, 1, view.now);
}

/// What a rollback takes away again: all that a scale added; of other kinds the batch in progress, unless the old
/// instances that it replaced are gone already. Whether they are, their placements say: the step that removes them may
/// have failed before it began.
fn undone(snapshot: &Snapshot, op: &Operation) -> Vec<PlannedInstance> {
    if matches!(op.spec, OperationSpec::Scale { .. }) {
        return op.adds.clone();
    }
    let mut old = current_removes(op).peekable();
    let replaced =
        old.peek().is_some() && old.all(|at| placed(snapshot, at).is_none()) && !attributes::removes_first(op);
    if replaced { Vec::new() } else { current_adds(op).cloned().collect() }
}

fn service_of<'a>(snapshot: &'a Snapshot, op: &Operation, targets: &[PlannedInstance]) -> Option<&'a Service> {
    match (op.spec.service(), targets.first()) {
        (Some(name), _) => snapshot.service(name),
        (None, Some(target)) => snapshot.service(wanted::service_of(target.instance.as_str())),
        (None, None) => None,
    }
}

fn placed<'a>(snapshot: &'a Snapshot, target: &PlannedInstance) -> Option<&'a Placement> {
    let on = snapshot.placements.get(&target.host)?;
    on.value.instances.iter().find(|p| p.instance == target.instance)
}

/// Takes traffic from what was added, and gives it back to what was to go. True when there was anything to do.
fn withdraw(view: View<'_>, draft: &mut Draft<'_>, targets: &[PlannedInstance]) -> bool {
    let mut hosts = BTreeSet::new();
    let gray = (draft.op().batch, draft.op().gray_permille);
    let mut drained = 0;
    for target in targets {
        let Some(placement) = placed(view.snapshot, target) else { continue };
        let serves = target.batch < gray.0 || gray.1 > 0;
        if placement.intent == InstanceIntent::Draining || !fits(&mut hosts, &target.host) {
            continue;
        }
        drained += 1;
        if placement.intent == InstanceIntent::Running && serves && !is_lost(view, &target.host) {
            set_intent(draft, target, InstanceIntent::Draining);
        } else {
            draft.remove_placement(&target.host, &target.instance);
        }
    }
    let back: Vec<PlannedInstance> = current_removes(draft.op()).cloned().collect();
    for target in &back {
        let drains = placed(view.snapshot, target).is_some_and(|p| p.intent == InstanceIntent::Draining);
        if drains && fits(&mut hosts, &target.host) {
            set_intent(draft, target, InstanceIntent::Running);
        }
    }
    if !draft.touches_hosts() {
        return false;
    }
    let is_first = journal::step(draft.op(), StepName::Drain).is_none_or(|step| step.state != StepState::Running);
    if is_first {
        journal::begin(draft.change(), StepName::Drain, drained, view.now);
    }
    draft.log(format!("rolling back: {drained} new instances leave"));
    true
}

fn set_intent(draft: &mut Draft<'_>, target: &PlannedInstance, intent: InstanceIntent) {
    if let Some(placement) = draft.placement(&target.host, &target.instance) {
        placement.intent = intent;
    }
}

/// True while one transaction takes another host.
fn fits(hosts: &mut BTreeSet<HostName>, host: &HostName) -> bool {
    hosts.contains(host) || (hosts.len() < BATCH_HOSTS_MAX && hosts.insert(host.clone()))
}

fn remove(view: View<'_>, draft: &mut Draft<'_>, left: &[&PlannedInstance]) {
    let mut hosts = BTreeSet::new();
    for target in left {
        if fits(&mut hosts, &target.host) {
            draft.remove_placement(&target.host, &target.instance);
        }
    }
    let stopping = journal::step(draft.op(), StepName::Stop).is_some_and(|step| step.state == StepState::Running);
    if !stopping {
        journal::finish(draft.change(), StepName::Drain, view.now);
        journal::begin(draft.change(), StepName::Stop, left.len() as u32, view.now);
    }
}

/// The last commit of a rollback: what stood before stands again.
fn end(view: View<'_>, draft: &mut Draft<'_>) {
    restore_scale(view.snapshot, draft);
    uncordon(view, draft);
    end_silence(view, draft);
    let op = draft.change();
    for step in op.steps.iter_mut().filter(|step| step.state == StepState::Waiting) {
        step.state = StepState::Skipped;
        step.message = "rolled back".to_owned();
    }
    journal::finish(op, StepName::Report, view.now);
    op.phase = OperationPhase::RolledBack;
    op.finished_at = Some(view.now);
    if op.batch > 0 && !matches!(op.spec, OperationSpec::Scale { .. }) {
        let line = format!("{} batches had been done before and stay", op.batch);
        draft.log(line);
    }
    draft.log("rolled back");
}

fn restore_scale(snapshot: &Snapshot, draft: &mut Draft<'_>) {
    let OperationSpec::Scale { service, .. } = draft.op().spec.clone() else { return };
    let Some(before) = draft.op().scale_before.clone() else { return };
    let Some(now) = snapshot.scales.get(&service).filter(|at| at.value.operation == draft.op().id) else { return };
    let value = before.intent.as_ref().map(journal::json);
    draft.write(keys::scale(&service), now.revision, value);
}

/// A drain that does not happen leaves its host open.
pub(crate) fn uncordon(view: View<'_>, draft: &mut Draft<'_>) {
    let OperationSpec::Drain { host } = draft.op().spec.clone() else { return };
    if let Some(at) = view.snapshot.host_intents.get(&host) {
        let revision = at.revision;
        draft.write(cordon_key(&host), revision, None);
        draft.log(format!("host {host} takes placements again"));
    }
}
