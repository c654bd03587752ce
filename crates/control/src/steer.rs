//! Steering an operation: pause, resume, rollback, and retry or skip of one step or one of its targets.
//!
//! Each answer is one guarded write of the journal (with the placements that it concerns), or a typed refusal. What
//! follows from it is the walk's work: nothing waits here, and an effect that has landed is not undone by a retry.

//! Steering an operation: pause, resume, rollback, and retry or skip of one step or one of its targets.
//!
//! Each answer is one guarded write of the journal (with the placements that it concerns), or a typed refusal. What
//! follows from it is the walk's work: nothing waits here, and an effect that has landed is not undone by a retry.

use crate::allowed;
use crate::attributes::{self, removes_first};
use crate::contract::{Commit, Observed, Write};
use crate::draft::Draft;
use crate::limits::{FAILURES_MAX, TARGETS_NAMED_MAX as KNOWN_MAX};
use crate::open::open;
use crate::recall::View;
use crate::refusal::{Refusal, step_word as word};
use crate::walk::{current_adds, current_removes};
use crate::wanted::{Wanted, service_of};
use crate::{batch, journal, place};
use model::operation::GIVEN_UP_MAX;
use model::{
    HookMark, InstanceIntent, Operation, OperationId, OperationPhase, OperationSpec, Placement, PlannedInstance,
    ServiceName, Snapshot, StepName, StepState, UnixMs, Versioned, keys,
};
use std::collections::BTreeMap;

/// Which step is meant, and which of its targets; where nothing is said, the step in hand and all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aim {
    /// The step.
    pub step: Option<StepName>,
    /// An instance (`lottery-7`) or a hook of the step (`before/0`).
    pub target: Option<String>,
}

/// One of an operation's targets, found.
enum Target {
    Instance(PlannedInstance),
    Hook(String),
}

/// Holds an operation between moves: what is under way (also a gray weight) stays as it is.
pub fn pause(snapshot: &Snapshot, id: &OperationId, who: &str, now: UnixMs) -> Result<Commit, Refusal> {
    let at = open_operation(snapshot, id)?;
    if !matches!(at.value.phase, OperationPhase::Pending | OperationPhase::Running) {
        return Err(wrong_phase(&at.value, "pending or running", "paused"));
    }
    Ok(steer(at, who, now, "paused", |op| op.phase = OperationPhase::Paused))
}

/// Lets a paused operation go on; the time allowed for its step starts again.
pub fn resume(snapshot: &Snapshot, id: &OperationId, who: &str, now: UnixMs) -> Result<Commit, Refusal> {
    let at = open_operation(snapshot, id)?;
    if at.value.phase != OperationPhase::Paused {
        return Err(wrong_phase(&at.value, "paused", "resumed"));
    }
    if let Some(step) = at.value.held_at() {
        return Err(Refusal::HeldAtFailure { operation: id.clone(), step: step.name });
    }
    let begun = at.value.steps.iter().any(|step| step.state != StepState::Waiting);
    Ok(steer(at, who, now, "resumed", |op| {
        op.phase = if begun { OperationPhase::Running } else { OperationPhase::Pending };
    }))
}

/// Undoes an open operation, whatever its phase; one that holds at a failed step, too.
pub fn rollback(snapshot: &Snapshot, id: &OperationId, who: &str, now: UnixMs) -> Result<Commit, Refusal> {
    let at = open_operation(snapshot, id)?;
    if at.value.phase == OperationPhase::RollingBack {
        return Err(wrong_phase(&at.value, "pending, running or paused", "rolled back"));
    }
    Ok(steer(at, who, now, "rolled back", |op| {
        journal::fail_running_steps(op, &format!("rolled back by {who}"), now);
        journal::clear_marks(op);
        op.phase = OperationPhase::RollingBack;
        op.failures.push(format!("rolled back by {who}"));
    }))
}

/// Has a step attempted again, or one of its targets: an instance is replaced by another on another host, a hook is asked
/// for once more. An operation that ended without success is opened again as a new one. Gives the operation at work.
pub fn retry(
    snapshot: &Snapshot,
    observed: &Observed,
    id: &OperationId,
    aim: &Aim,
    who: &str,
    now: UnixMs,
) -> Result<(OperationId, Commit), Refusal> {
    let at = known_operation(snapshot, id)?;
    if at.value.phase.is_final() {
        return open_again(snapshot, observed, &at.value, aim, who, now);
    }
    let name = allowed::retried(&at.value, aim)?;
    let view = View { snapshot, observed, now };
    let mut draft = Draft::new(snapshot, at, now);
    let is_whole = aim.target.is_none();
    let what = match find_target(view, &at.value, name, aim)? {
        None => format!("step {}", word(name)),
        Some(Target::Hook(hook)) => {
            retry_hook(draft.change(), name, &hook);
            format!("hook {hook} of step {}", word(name))
        }
        Some(Target::Instance(planned)) => {
            let fresh = replace(view, &mut draft, &planned)?;
            format!("{} of step {} as {} on {}", planned.instance, word(name), fresh.instance, fresh.host)
        }
    };
    if is_whole {
        for mark in journal::step_mut(draft.change(), name).hooks.values_mut() {
            if let HookMark::Failed(retries) = *mark {
                *mark = HookMark::Retried(retries + 1);
            }
        }
    }
    let op = draft.change();
    journal::step_mut(op, name).skipped_by = None;
    if at.value.held_at().is_some() || is_whole {
        begin_again(op, name);
    }
    go_on(op, &at.value);
    draft.log(format!("{what} tried again by {who}"));
    Ok((id.clone(), committed(draft, who)))
}

/// Has a step passed over, or one of its targets: an instance is given up, a hook is not asked for. What later steps stand
/// on still lands; what is passed over is the waiting and the judging.
pub fn skip(
    snapshot: &Snapshot,
    observed: &Observed,
    id: &OperationId,
    aim: &Aim,
    who: &str,
    now: UnixMs,
) -> Result<Commit, Refusal> {
    let at = open_operation(snapshot, id)?;
    let name = allowed::skipped(&at.value, aim)?;
    let view = View { snapshot, observed, now };
    let mut draft = Draft::new(snapshot, at, now);
    let what = match find_target(view, &at.value, name, aim)? {
        None => {
            journal::step_mut(draft.change(), name).skipped_by = Some(who.to_owned());
            format!("step {}", word(name))
        }
        Some(Target::Hook(hook)) => {
            journal::step_mut(draft.change(), name).hooks.insert(hook.clone(), HookMark::Skipped);
            format!("hook {hook} of step {}", word(name))
        }
        Some(Target::Instance(planned)) => {
            give_up(view, &mut draft, &planned, who)?;
            planned.instance.to_string()
        }
    };
    let op = draft.change();
    if at.value.held_at().is_some_and(|step| step.name == name) {
        begin_again(op, name);
        go_on(op, &at.value);
    }
    draft.log(format!("{what} skipped by {who}"));
    Ok(committed(draft, who))
}

/// An operation that held at a failed step goes on; one that an operator paused stays so until it is resumed.
fn go_on(op: &mut Operation, before: &Operation) {
    if before.held_at().is_some() {
        let begun = op.steps.iter().any(|step| step.attempts > 0);
        op.phase = if begun { OperationPhase::Running } else { OperationPhase::Pending };
    }
}

/// Puts a step back to its begin. A plan that is committed stays: making it twice would place twice.
fn begin_again(op: &mut Operation, name: StepName) {
    let planned = current_adds(op).next().is_some() || (current_removes(op).next().is_some() && !removes_first(op));
    let step = journal::step_mut(op, name);
    if name == StepName::Attributes && planned {
        step.state = StepState::Running;
        step.finished_at = None;
        return;
    }
    journal::rewind(step);
    if name == StepName::Gray {
        op.gray_permille = 0;
    }
}

fn retry_hook(op: &mut Operation, name: StepName, hook: &str) {
    let marks = &mut journal::step_mut(op, name).hooks;
    let before = match marks.get(hook) {
        Some(HookMark::Failed(retries) | HookMark::Retried(retries)) => *retries,
        Some(HookMark::Skipped) | None => 0,
    };
    marks.insert(hook.to_owned(), HookMark::Retried(before + 1));
}

/// Opens what ended without success once more; a rollout to what is wanted by now.
fn open_again(
    snapshot: &Snapshot,
    observed: &Observed,
    op: &Operation,
    aim: &Aim,
    who: &str,
    now: UnixMs,
) -> Result<(OperationId, Commit), Refusal> {
    if op.phase == OperationPhase::Succeeded || aim != &Aim::default() {
        return Err(Refusal::Final { operation: op.id.clone(), phase: op.phase });
    }
    let spec = match &op.spec {
        OperationSpec::Rollout { service: name, .. } => {
            let service = snapshot.service(name).ok_or_else(|| Refusal::UnknownService(name.clone()))?;
            let wanted = Wanted::of(snapshot, service);
            wanted.map_err(|why| Refusal::Unresolved { service: name.clone(), why })?.rollout(service)
        }
        spec => spec.clone(),
    };
    open(snapshot, observed, spec, op.hold, who, now)
}

fn find_target(view: View<'_>, op: &Operation, name: StepName, aim: &Aim) -> Result<Option<Target>, Refusal> {
    let Some(asked) = &aim.target else { return Ok(None) };
    let hooks = allowed::hook_names(view.snapshot, op, name);
    let prefix = format!("{}/{}/", op.id, word(name));
    let hook = asked.strip_prefix(&prefix).unwrap_or(asked);
    if let Some(found) = hooks.iter().find(|known| *known == hook) {
        return Ok(Some(Target::Hook(found.clone())));
    }
    let instances = allowed::instances(op, name);
    match instances.iter().find(|planned| planned.instance.as_str() == asked) {
        Some(planned) if allowed::carries_traffic(view, op, planned) => {
            Err(Refusal::Serving { instance: planned.instance.clone() })
        }
        Some(planned) => Ok(Some(Target::Instance((*planned).clone()))),
        None => {
            let known = instances.iter().map(|planned| planned.instance.to_string()).chain(hooks);
            Err(Refusal::UnknownTarget {
                operation: op.id.clone(),
                step: name,
                target: asked.clone(),
                known: known.take(KNOWN_MAX).collect(),
            })
        }
    }
}

/// Another instance in the place of one, on another host; the batch walks from its deployment on.
fn replace(view: View<'_>, draft: &mut Draft<'_>, old: &PlannedInstance) -> Result<PlannedInstance, Refusal> {
    let name = ServiceName::new(service_of(old.instance.as_str())).expect("an instance is named after its service");
    let one = BTreeMap::from([(old.datacenter.clone(), 1)]);
    let no_room =
        |reasons: Vec<String>| Refusal::NoOtherHost { instance: old.instance.clone(), why: reasons.join("; ") };
    let adds = place::place(view, view.snapshot, &name, &one, Some(&old.host)).map_err(no_room)?;
    draft.remove_placement(&old.host, &old.instance);
    for (host, placement) in batch::placements(view.snapshot, &name, &adds).map_err(no_room)? {
        draft.add_placement(&host, placement);
    }
    attributes::count_instances(view.snapshot, draft, &name, &adds);
    attributes::guard_inputs(view.snapshot, draft, &name);
    let add = adds.into_iter().next().expect("a plan without a shortage places the one asked for");
    let op = draft.change();
    let fresh = PlannedInstance { instance: add.instance, host: add.host, datacenter: add.datacenter, batch: op.batch };
    let targets = current_adds(op).count() as u32;
    op.adds.retain(|planned| planned != old);
    op.adds.push(fresh.clone());
    for step in &mut op.steps {
        let walked = matches!(step.name, StepName::Deploy | StepName::Silence | StepName::Start | StepName::Gray);
        if walked && step.state != StepState::Waiting {
            if step.state == StepState::Done {
                step.done = step.done.saturating_sub(targets);
            }
            journal::rewind(step);
        }
    }
    op.gray_permille = 0;
    Ok(fresh)
}

/// Goes on without an instance. Where it was to replace another, that one stays for a later batch.
fn give_up(view: View<'_>, draft: &mut Draft<'_>, gone: &PlannedInstance, who: &str) -> Result<(), Refusal> {
    if draft.op().given_up.len() >= GIVEN_UP_MAX {
        return Err(Refusal::TooManyGivenUp { operation: draft.op().id.clone(), max: GIVEN_UP_MAX });
    }
    draft.remove_placement(&gone.host, &gone.instance);
    let is_scale = matches!(draft.op().spec, OperationSpec::Scale { .. });
    let replaced = current_removes(draft.op()).find(|old| {
        let on = view.snapshot.placements.get(&old.host).map(|on| on.value.instances.as_slice()).unwrap_or_default();
        let serves = |at: &Placement| at.instance == old.instance && at.intent == InstanceIntent::Running;
        old.datacenter == gone.datacenter && on.iter().any(serves)
    });
    let stays = replaced.filter(|_| !is_scale).cloned();
    let op = draft.change();
    op.adds.retain(|planned| planned != gone);
    op.removes.retain(|planned| Some(planned) != stays.as_ref());
    op.given_up.push(gone.clone());
    op.failures.push(format!("{} on {} was given up by {who}", gone.instance, gone.host));
    op.failures.truncate(FAILURES_MAX);
    if let Some(step) = op.steps.iter_mut().find(|step| step.state == StepState::Running) {
        step.total = step.total.saturating_sub(1);
    }
    Ok(())
}

fn committed(draft: Draft<'_>, who: &str) -> Commit {
    let commit = draft.commit().expect("a line was logged");
    Commit { who: who.to_owned(), ..commit }
}

fn known_operation<'a>(snapshot: &'a Snapshot, id: &OperationId) -> Result<&'a Versioned<Operation>, Refusal> {
    snapshot.operations.get(id).ok_or_else(|| Refusal::UnknownOperation(id.clone()))
}

fn open_operation<'a>(snapshot: &'a Snapshot, id: &OperationId) -> Result<&'a Versioned<Operation>, Refusal> {
    let at = known_operation(snapshot, id)?;
    if at.value.phase.is_final() {
        return Err(Refusal::Final { operation: id.clone(), phase: at.value.phase });
    }
    Ok(at)
}

fn wrong_phase(op: &Operation, wanted: &'static str, done: &'static str) -> Refusal {
    Refusal::WrongPhase { operation: op.id.clone(), phase: op.phase, wanted, done }
}

/// One guarded write of the journal alone.
fn steer(at: &Versioned<Operation>, who: &str, now: UnixMs, what: &str, change: impl FnOnce(&mut Operation)) -> Commit {
    let mut op = at.value.as_ref().clone();
    change(&mut op);
    journal::log(&mut op, now, format!("{what} by {who}"));
    let key = keys::operation(&op.id);
    Commit {
        operation: Some(op.id.clone()),
        guards: vec![(key.clone(), at.revision)],
        writes: vec![Write { key, value: Some(journal::json(&op)) }],
        who: who.to_owned(),
    }
}
