//! Changes to an operation's own journal entry: steps, log, failures. What they mean for the fleet is elsewhere.

use crate::contract::{Commit, Write};
use model::{LogLine, Operation, StepName, StepRun, StepState, UnixMs, keys, operation::LOG_LINES_MAX};
use serde::Serialize;
use std::collections::BTreeMap;

/// A stored value's bytes.
pub(crate) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the model's types have only string keys")
}

/// Writes an operation that must not exist yet.
pub(crate) fn write_new(op: &Operation, commit: &mut Commit) {
    let key = keys::operation(&op.id);
    commit.guards.push((key.clone(), 0));
    commit.writes.push(Write { key, value: Some(json(op)) });
}

/// A step not begun.
pub(crate) fn waiting(name: StepName) -> StepRun {
    StepRun {
        name,
        state: StepState::Waiting,
        started_at: None,
        finished_at: None,
        attempts: 0,
        done: 0,
        total: 0,
        message: String::new(),
        skipped_by: None,
        hooks: BTreeMap::new(),
    }
}

/// The steps of an operation that adds, removes, or both.
pub(crate) fn step_names(adds: bool, removes: bool) -> Vec<StepName> {
    let mut names = vec![StepName::Attributes];
    if adds {
        names.extend([StepName::Deploy, StepName::Silence, StepName::Start, StepName::Gray]);
    }
    if removes {
        names.extend([StepName::Drain, StepName::Stop]);
    }
    names.push(StepName::Report);
    names
}

/// The step of that name, when the operation has it.
pub(crate) fn step(op: &Operation, name: StepName) -> Option<&StepRun> {
    op.steps.iter().find(|step| step.name == name)
}

/// The step of that name; inserted before the report when the operation had none.
pub(crate) fn step_mut(op: &mut Operation, name: StepName) -> &mut StepRun {
    let at = match op.steps.iter().position(|step| step.name == name) {
        Some(at) => at,
        None => {
            let report = op.steps.iter().position(|step| step.name == StepName::Report).unwrap_or(op.steps.len());
            op.steps.insert(report, waiting(name));
            report
        }
    };
    &mut op.steps[at]
}

/// Begins a step, for so many targets more.
pub(crate) fn begin(op: &mut Operation, name: StepName, targets: u32, now: UnixMs) {
    let step = step_mut(op, name);
    step.state = StepState::Running;
    step.started_at = Some(now);
    step.finished_at = None;
    step.attempts += 1;
    step.total += targets;
    step.message.clear();
}

/// Ends a step: well, with all its targets done; or passed over, when an operator said so.
pub(crate) fn finish(op: &mut Operation, name: StepName, now: UnixMs) {
    let step = step_mut(op, name);
    step.finished_at = Some(now);
    if let Some(who) = &step.skipped_by {
        step.state = StepState::Skipped;
        step.message = format!("skipped by {who}");
    } else {
        step.state = StepState::Done;
        step.done = step.total;
    }
}

/// Puts a step back to its begin: what it did stays done, and is done again without effect.
pub(crate) fn rewind(step: &mut StepRun) {
    step.state = StepState::Waiting;
    step.finished_at = None;
    step.total = step.done;
    step.message.clear();
}

/// Forgets what operators said of the steps: it was meant for the walk up to here.
pub(crate) fn clear_marks(op: &mut Operation) {
    for step in &mut op.steps {
        step.skipped_by = None;
        step.hooks.clear();
    }
}

/// True when an operator had the step passed over.
pub(crate) fn is_skipped(op: &Operation, name: StepName) -> bool {
    step(op, name).is_some_and(|step| step.skipped_by.is_some())
}

/// Passes a step over.
pub(crate) fn skip(op: &mut Operation, name: StepName, why: &str, now: UnixMs) {
    let step = step_mut(op, name);
    step.state = StepState::Skipped;
    step.finished_at = Some(now);
    step.message = why.to_owned();
}

/// Marks the steps in progress as failed.
pub(crate) fn fail_running_steps(op: &mut Operation, why: &str, now: UnixMs) {
    for step in op.steps.iter_mut().filter(|step| step.state == StepState::Running) {
        step.state = StepState::Failed;
        step.finished_at = Some(now);
        step.message = why.to_owned();
    }
}

/// Adds a line to the operation's log; the oldest goes when it is full.
pub(crate) fn log(op: &mut Operation, at: UnixMs, text: impl Into<String>) {
    op.log.push(LogLine { at, text: text.into() });
    let surplus = op.log.len().saturating_sub(LOG_LINES_MAX);
    op.log.drain(..surplus);
}
