//! The walk of an operation through its steps, batch by batch, as far as the world allows at one event.
//!
//! Each call looks at the journal and at what was observed, and moves on as many steps as are ready; all moves of one
//! call are one transaction. Stress tests and rollbacks have walks of their own.

use crate::contract::Action;
use crate::draft::Draft;
use crate::hooks::{self, Hooks};
use crate::instances::{Goal, is_gone, is_lost, progress};
use crate::limits::*;
use crate::recall::{Recall, View, proxies_behind};
use crate::wanted::is_overtaken;
use crate::{attributes, batch, gray, journal};
use model::{
    HookMark, HookWhen, InstanceIntent, Operation, OperationPhase, OperationSpec, PlannedInstance, Service,
    ServiceName, Silence, SilenceId, Snapshot, StepName, StepRun, StepState, Versioned, keys,
};

/// Moves that one event may bring: every step of two batches, and their hooks.
const MOVES_MAX: usize = 32;

/// What became of one look at a step.
pub(crate) enum Move {
    /// It moved; look again.
    On,
    /// The world is not there yet.
    Wait,
    /// It cannot be done.
    Fail(Vec<String>),
    /// It cannot be done because this hook failed.
    HookFailed(String, String),
}

/// Takes an operation as far as it goes now.
pub(crate) fn advance(view: View<'_>, at: &Versioned<Operation>, recall: &mut Recall) -> Vec<Action> {
    let mut draft = Draft::new(view.snapshot, at, view.now);
    let mut actions = Vec::new();
    for _ in 0..MOVES_MAX {
        match look(view, &mut draft, recall, &mut actions) {
            Move::On => {}
            Move::Wait => break,
            Move::Fail(reasons) => {
                fail(view, &mut draft, reasons);
                break;
            }
            Move::HookFailed(hook, why) => {
                note_hook(&mut draft, hook);
                fail(view, &mut draft, vec![why]);
                break;
            }
        }
        if draft.op().phase.is_final() {
            break;
        }
    }
    actions.extend(draft.commit().map(Action::Commit));
    actions
}

fn look(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall, actions: &mut Vec<Action>) -> Move {
    let Some((name, state)) = current(draft.op()) else { return Move::Wait };
    let service = batch_service(view.snapshot, draft.op());
    if name == StepName::Report && state == StepState::Waiting {
        match attributes::next_batch(view, draft) {
            Move::Wait => {}
            Move::Fail(_) if journal::is_skipped(draft.op(), name) => {}
            other => return other,
        }
    }
    if let Some(gone) = deleted(view.snapshot, draft.op()).filter(|_| name != StepName::Report) {
        return Move::Fail(vec![format!("service {gone} was deleted meanwhile")]);
    }
    let when = if state == StepState::Waiting { HookWhen::Before } else { HookWhen::After };
    if state == StepState::Waiting && is_idle(draft.op(), name) {
        skip(draft, name, view);
        return Move::On;
    }
    if journal::is_skipped(draft.op(), name) {
        return pass_over(view, draft, recall, name, state);
    }
    if state == StepState::Running {
        match complete(view, draft, recall, name, service, actions) {
            Move::On => {}
            other => return other,
        }
    }
    match around(view, draft, recall, name, when, service, actions) {
        Move::On if state == StepState::Waiting => enter(view, draft, recall, name),
        Move::On => finish(view, draft, recall, name),
        other => other,
    }
}

/// Takes a step that an operator had passed over: what later steps stand on is done, nothing is awaited.
fn pass_over(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall, name: StepName, state: StepState) -> Move {
    if state == StepState::Waiting {
        return enter(view, draft, recall, name);
    }
    match name {
        StepName::Gray => gray::release(view, draft),
        StepName::Stop => {
            let targets: Vec<PlannedInstance> = current_removes(draft.op()).cloned().collect();
            let notes = unconfirmed(view, &targets, None, u64::MAX).unwrap_or_default();
            notes.into_iter().for_each(|note| draft.log(note));
        }
        _ => {}
    }
    finish(view, draft, recall, name)
}

/// Runs the hooks on one side of a step; what the draft holds is committed first.
fn around(
    view: View<'_>,
    draft: &mut Draft<'_>,
    recall: &mut Recall,
    name: StepName,
    when: HookWhen,
    service: Option<&Service>,
    actions: &mut Vec<Action>,
) -> Move {
    let has_any = service.is_some_and(|service| hooks::of(service, name, when).next().is_some());
    if has_any && draft.is_changed() {
        return Move::Wait;
    }
    match hooks::stand(draft.op(), service, name, when, recall, view.now) {
        Hooks::Done(told) => {
            told.into_iter().for_each(|line| draft.log(line));
            Move::On
        }
        Hooks::Pending(ask) => {
            actions.extend(ask.map(|ask| *ask));
            Move::Wait
        }
        Hooks::Failed(hook, why) => Move::HookFailed(hook, why),
    }
}

/// The first step that is not over, and whether it has begun.
pub(crate) fn current(op: &Operation) -> Option<(StepName, StepState)> {
    let open = |state| matches!(state, StepState::Waiting | StepState::Running);
    op.steps.iter().find(|step| open(step.state)).map(|step| (step.name, step.state))
}

/// The service whose instances the batch changes.
pub(crate) fn batch_service<'a>(snapshot: &'a Snapshot, op: &Operation) -> Option<&'a Service> {
    if let Some(service) = op.spec.service() {
        return snapshot.service(service);
    }
    let planned = current_adds(op).chain(current_removes(op)).next();
    match (planned, &op.spec) {
        (Some(planned), _) => snapshot.service(crate::wanted::service_of(planned.instance.as_str())),
        (None, OperationSpec::Drain { host }) => snapshot.service(&attributes::next_on_host(snapshot, host)?),
        (None, _) => None,
    }
}

/// The operation's service, when it is gone although the batch adds instances of it.
fn deleted<'a>(snapshot: &Snapshot, op: &'a Operation) -> Option<&'a ServiceName> {
    let service = op.spec.service().filter(|service| snapshot.service(service).is_none())?;
    current_adds(op).next().map(|_| service)
}

/// What the current batch adds.
pub(crate) fn current_adds(op: &Operation) -> impl Iterator<Item = &PlannedInstance> {
    op.adds.iter().filter(|planned| planned.batch == op.batch)
}

/// What the current batch removes.
pub(crate) fn current_removes(op: &Operation) -> impl Iterator<Item = &PlannedInstance> {
    op.removes.iter().filter(|planned| planned.batch == op.batch)
}

/// True when the step has no target in this batch.
fn is_idle(op: &Operation, name: StepName) -> bool {
    match name {
        StepName::Deploy | StepName::Silence | StepName::Start | StepName::Gray => current_adds(op).next().is_none(),
        StepName::Stop => current_removes(op).next().is_none(),
        StepName::Drain => current_removes(op).next().is_none() && !attributes::removes_first(op),
        StepName::Attributes | StepName::Report => false,
    }
}

fn skip(draft: &mut Draft<'_>, name: StepName, view: View<'_>) {
    let worked_before = journal::step(draft.op(), name).is_some_and(|step| step.total > 0);
    match worked_before {
        true => journal::finish(draft.change(), name, view.now),
        false => journal::skip(draft.change(), name, "no instance concerned", view.now),
    }
}

fn enter(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall, name: StepName) -> Move {
    let adds = current_adds(draft.op()).count() as u32;
    let targets = match name {
        StepName::Attributes => return attributes::enter(view, draft, recall),
        StepName::Drain if current_removes(draft.op()).next().is_none() => {
            match batch::choose_first_to_go(view, draft) {
                Ok(()) => 1,
                Err(reasons) => return Move::Fail(reasons),
            }
        }
        StepName::Drain | StepName::Stop => current_removes(draft.op()).count() as u32,
        StepName::Report => 1,
        _ => adds,
    };
    journal::begin(draft.change(), name, targets, view.now);
    match name {
        StepName::Silence if journal::is_skipped(draft.op(), name) => {}
        StepName::Silence => silence(view, draft),
        StepName::Start => set_intents(draft, InstanceIntent::Running, Targets::Adds),
        StepName::Gray if journal::is_skipped(draft.op(), name) => {}
        StepName::Gray => gray::enter(view, draft),
        StepName::Drain => set_intents(draft, InstanceIntent::Draining, Targets::Removes),
        StepName::Stop => drop_removes(draft),
        _ => {}
    }
    Move::On
}

/// Which of the batch's instances.
#[derive(Clone, Copy)]
enum Targets {
    Adds,
    Removes,
}

fn set_intents(draft: &mut Draft<'_>, intent: InstanceIntent, of: Targets) {
    let targets: Vec<PlannedInstance> = match of {
        Targets::Adds => current_adds(draft.op()).cloned().collect(),
        Targets::Removes => current_removes(draft.op()).cloned().collect(),
    };
    for target in targets {
        if let Some(placement) = draft.placement(&target.host, &target.instance) {
            placement.intent = intent;
        }
    }
}

fn drop_removes(draft: &mut Draft<'_>) {
    let targets: Vec<PlannedInstance> = current_removes(draft.op()).cloned().collect();
    for target in targets {
        draft.remove_placement(&target.host, &target.instance);
    }
}

fn silence(view: View<'_>, draft: &mut Draft<'_>) {
    let op = draft.op();
    let Some(service) = batch_service(view.snapshot, op) else { return };
    let id = silence_id(op, op.batch);
    let silence = Silence {
        id: id.clone(),
        service: service.name.clone(),
        instances: current_adds(op).map(|add| add.instance.clone()).collect(),
        reason: format!("new instances of {} start", op.id),
        until: view.now + SILENCE_MS,
    };
    let revision = view.snapshot.silences.get(&id).map_or(0, |at| at.revision);
    draft.write(keys::silence(&id), revision, Some(journal::json(&silence)));
}

/// Id of the silence over a batch's new instances.
fn silence_id(op: &Operation, batch: u32) -> SilenceId {
    SilenceId::new(format!("{}-{batch}", op.id)).expect("an operation's id and a number make a name")
}

/// Ends the silence over the current batch.
pub(crate) fn end_silence(view: View<'_>, draft: &mut Draft<'_>) {
    let id = silence_id(draft.op(), draft.op().batch);
    if let Some(at) = view.snapshot.silences.get(&id) {
        draft.write(keys::silence(&id), at.revision, None);
    }
}

fn complete(
    view: View<'_>,
    draft: &mut Draft<'_>,
    recall: &mut Recall,
    name: StepName,
    service: Option<&Service>,
    actions: &mut Vec<Action>,
) -> Move {
    let waited_ms = recall.waited_ms(draft.op(), view.now);
    match name {
        StepName::Attributes | StepName::Silence => Move::On,
        StepName::Deploy => await_goal(view, draft, Goal::Deployed, waited_ms, DEPLOY_MS_MAX, "deployed"),
        StepName::Start => await_goal(view, draft, Goal::Healthy, waited_ms, start_ms_max(service), "healthy"),
        StepName::Gray => gray::complete(view, draft, recall),
        StepName::Drain => await_quiet(view, draft, recall, service),
        StepName::Stop => await_gone(view, draft, recall, service, waited_ms),
        StepName::Report => await_report(view, draft, recall, waited_ms, actions),
    }
}

fn start_ms_max(service: Option<&Service>) -> u64 {
    let check = service.and_then(|service| service.health_check.as_ref());
    check.map_or(START_MS_DEFAULT, |check| u64::from(check.start_ms_max)) + START_MARGIN_MS
}

fn await_goal(view: View<'_>, draft: &Draft<'_>, goal: Goal, waited_ms: u64, max_ms: u64, word: &str) -> Move {
    let progress = progress(view, current_adds(draft.op()), goal, waited_ms);
    if !progress.failed.is_empty() {
        return Move::Fail(progress.failed);
    }
    if progress.waiting.is_empty() {
        return Move::On;
    }
    if waited_ms < max_ms {
        return Move::Wait;
    }
    let late = progress.waiting.iter().map(|which| format!("{which} was not {word} within {} s", max_ms / 1_000));
    Move::Fail(late.collect())
}

/// Waits until every proxy knows that the instances leave, and then as long as requests under way may take.
fn await_quiet(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall, service: Option<&Service>) -> Move {
    if !recall.is_journaled(draft.op()) {
        return Move::Wait;
    }
    let drain_ms = u64::from(service.map(|s| s.stop.drain_ms).unwrap_or_default());
    let leaving: Vec<PlannedInstance> = current_removes(draft.op()).cloned().collect();
    if recall.quiet_ms(view, draft.op(), &leaving).is_none_or(|quiet_ms| quiet_ms < drain_ms) {
        return Move::Wait;
    }
    if proxies_behind(view, &leaving) {
        draft.log_once(&unconfirmed_by_proxies());
    }
    Move::On
}

/// What the log says when proxies did not confirm in time.
pub(crate) fn unconfirmed_by_proxies() -> String {
    format!("went on although not every proxy has confirmed within {} s", PROXIES_MS_MAX / 1_000)
}

fn await_gone(
    view: View<'_>,
    draft: &mut Draft<'_>,
    recall: &Recall,
    service: Option<&Service>,
    waited_ms: u64,
) -> Move {
    if !recall.is_journaled(draft.op()) {
        return Move::Wait;
    }
    let targets: Vec<PlannedInstance> = current_removes(draft.op()).cloned().collect();
    match unconfirmed(view, &targets, service, waited_ms) {
        None => Move::Wait,
        Some(notes) => {
            notes.into_iter().for_each(|note| draft.log(note));
            Move::On
        }
    }
}

/// `None` while some removed instance may still be reported gone; then notes on those that cannot be.
pub(crate) fn unconfirmed(
    view: View<'_>,
    targets: &[PlannedInstance],
    service: Option<&Service>,
    waited_ms: u64,
) -> Option<Vec<String>> {
    let grace_ms = u64::from(service.map(|s| s.stop.grace_ms).unwrap_or_default());
    let is_late = waited_ms >= grace_ms + STOP_MARGIN_MS;
    let left: Vec<&PlannedInstance> =
        targets.iter().filter(|target| !is_gone(view, &target.host, &target.instance)).collect();
    if left.iter().any(|target| !is_lost(view, &target.host)) && !is_late {
        return None;
    }
    let note = |target: &&PlannedInstance| {
        let why = if is_lost(view, &target.host) { "its host is lost" } else { "no word came in time" };
        format!("{} on {} is not confirmed stopped: {why}", target.instance, target.host)
    };
    Some(left.iter().map(note).collect())
}

/// Asks for the report until it is written, or for as long as it is worth waiting for.
pub(crate) fn await_report(
    view: View<'_>,
    draft: &mut Draft<'_>,
    recall: &mut Recall,
    waited_ms: u64,
    actions: &mut Vec<Action>,
) -> Move {
    if !recall.is_journaled(draft.op()) {
        return Move::Wait;
    }
    if let Some(record) = recall.record.clone() {
        draft.change().report = Some(record);
        return Move::On;
    }
    if waited_ms >= RECORD_MS_MAX {
        draft.log("the report could not be written in time");
        return Move::On;
    }
    if recall.record_asked.is_none_or(|at| view.now >= at + RECORD_RETRY_MS) {
        recall.record_asked = Some(view.now);
        actions.push(Action::WriteReport { operation: draft.op().id.clone() });
    }
    Move::Wait
}

fn finish(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall, name: StepName) -> Move {
    journal::finish(draft.change(), name, view.now);
    if let Some(line) = journal::step(draft.op(), name).and_then(told) {
        draft.log(line);
    }
    match name {
        StepName::Gray => {
            recall.stage = None;
            end_silence(view, draft);
        }
        StepName::Report => {
            draft.change().phase = OperationPhase::Succeeded;
            draft.change().finished_at = Some(view.now);
            draft.log("succeeded");
        }
        _ => {}
    }
    Move::On
}

/// What a finished step says in the log.
fn told(step: &StepRun) -> Option<String> {
    if let Some(who) = &step.skipped_by {
        return Some(format!("{} skipped by {who}", format!("{:?}", step.name).to_lowercase()));
    }
    let took_s = step.finished_at?.saturating_sub(step.started_at?) as f64 / 1_000.0;
    let word = match step.name {
        StepName::Deploy => "package and config deployed",
        StepName::Start => "started and healthy",
        StepName::Gray => "at full weight",
        StepName::Drain => "traffic left",
        StepName::Stop => "stopped and removed",
        StepName::Attributes | StepName::Silence | StepName::Report => return None,
    };
    Some(format!("{word}: {} of {} instances ({took_s:.1} s)", step.done, step.total))
}

/// Notes in the journal which hook failed, so that a retry asks for that one only.
fn note_hook(draft: &mut Draft<'_>, hook: String) {
    let Some((name, _)) = current(draft.op()) else { return };
    let marks = &mut journal::step_mut(draft.change(), name).hooks;
    let retries = match marks.get(&hook) {
        Some(HookMark::Failed(retries) | HookMark::Retried(retries)) => *retries,
        Some(HookMark::Skipped) | None => 0,
    };
    marks.insert(hook, HookMark::Failed(retries));
}

/// Ends the operation's way forward: held when that is wanted, back when something was placed, else at once.
fn fail(view: View<'_>, draft: &mut Draft<'_>, reasons: Vec<String>) {
    let why = reasons.first().cloned().unwrap_or_default();
    let failed = current(draft.op()).map(|(name, _)| name);
    if let Some(name) = failed {
        let step = journal::step_mut(draft.change(), name);
        step.state = StepState::Failed;
        step.finished_at = Some(view.now);
        step.message = why.clone();
    }
    draft.log(format!("failed: {why}"));
    let hold = draft.op().hold && failed.is_some();
    if hold {
        draft.change().phase = OperationPhase::Paused;
        return draft.log("held at the failed step: retry it, skip it, or roll back");
    }
    let is_overtaken = is_overtaken(view.snapshot, draft.op());
    let op = draft.change();
    op.overtaken = is_overtaken;
    op.failures.extend(reasons);
    op.failures.truncate(FAILURES_MAX);
    op.phase = OperationPhase::RollingBack;
    journal::clear_marks(op);
    if !crate::rollback::is_needed(view.snapshot, op) {
        op.phase = OperationPhase::Failed;
        op.finished_at = Some(view.now);
        crate::rollback::uncordon(view, draft);
    }
}
