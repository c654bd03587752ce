//! Gray release: the batch's new instances get 1%, then 10%, then their full weight; each stage is judged against the
//! running fleet. A service that takes no traffic (it has no port) is released on health alone. What is remembered of a stage is memory only: after a restart the stage is judged anew.

use crate::contract::{Phase, Traffic};
use crate::draft::Draft;
use crate::instances::{Goal, progress};
use crate::journal;
use crate::judge;
use crate::limits::*;
use crate::recall::{Recall, Stage, View, proxies_behind};
use crate::walk::{Move, batch_service, current_adds, unconfirmed_by_proxies};
use model::{GateOutcome, GateVerdict, InstanceId, InstanceIntent, Operation, PlannedInstance, ServiceName, StepName};
use std::collections::{BTreeMap, BTreeSet};

/// Begins with the first stage; without a fleet to compare with there is only one.
pub(crate) fn enter(view: View<'_>, draft: &mut Draft<'_>) {
    let first = GRAY_STAGES_PERMILLE[0];
    let takes_traffic = batch_service(view.snapshot, draft.op()).is_some_and(|service| !service.ports.is_empty());
    let outcome = match running_fleet(view, draft.op()).is_empty() {
        true => GateOutcome::NoRunningFleet,
        false if !takes_traffic => GateOutcome::TooFewRequests,
        false => {
            draft.change().gray_permille = first;
            return say(draft, format!("{}% of full weight, under judgement", f64::from(first) / 10.0));
        }
    };
    let full = GRAY_STAGES_PERMILLE[GRAY_STAGES_PERMILLE.len() - 1];
    let verdict = judge::verdict(full, view.now, outcome, &Default::default(), &Default::default());
    let words = judge::describe(&verdict);
    let op = draft.change();
    op.gray_permille = full;
    op.verdicts.push(verdict);
    draft.log(words.clone());
    say(draft, words);
}

/// Gives the new instances their full weight unjudged: an operator had the gate passed over.
pub(crate) fn release(view: View<'_>, draft: &mut Draft<'_>) {
    if is_released(draft.op()) {
        return;
    }
    let full = GRAY_STAGES_PERMILLE[GRAY_STAGES_PERMILLE.len() - 1];
    let outcome = GateOutcome::Skipped;
    let verdict = judge::verdict(full, view.now, outcome, &Default::default(), &Default::default());
    let words = judge::describe(&verdict);
    let op = draft.change();
    op.gray_permille = full;
    op.verdicts.push(verdict);
    draft.log(words);
}

/// Puts the latest word on the step.
fn say(draft: &mut Draft<'_>, words: String) {
    journal::step_mut(draft.change(), StepName::Gray).message = words;
}

/// Judges the stage in progress, and begins the next one.
pub(crate) fn complete(view: View<'_>, draft: &mut Draft<'_>, recall: &mut Recall) -> Move {
    let waited_ms = recall.waited_ms(draft.op(), view.now);
    if is_released(draft.op()) && !is_told(view, draft, recall, waited_ms) {
        return Move::Wait;
    }
    let health = progress(view, current_adds(draft.op()), Goal::StaysHealthy, waited_ms);
    if !health.failed.is_empty() {
        return Move::Fail(health.failed);
    }
    if is_released(draft.op()) || current_adds(draft.op()).next().is_none() {
        return Move::On;
    }
    if !recall.is_journaled(draft.op()) {
        return Move::Wait;
    }
    if !health.waiting.is_empty() {
        return late(waited_ms, health.waiting);
    }
    let Some(verdict) = judge_stage(view, draft.op(), recall) else { return Move::Wait };
    match looks_again(view, draft.op(), recall, verdict) {
        Ok(verdict) => conclude(draft, verdict),
        Err(first) => {
            let words = format!("{}; looking again", judge::describe(&first));
            draft.log(words.clone());
            say(draft, words);
            Move::Wait
        }
    }
}

/// True when the last stage has its verdict already (proxies may still be awaited, and an `after` hook be due).
fn is_released(op: &Operation) -> bool {
    let full = GRAY_STAGES_PERMILLE[GRAY_STAGES_PERMILLE.len() - 1];
    let promoted = op.verdicts.last().is_some_and(|last| last.gray_permille == full && last.outcome.promotes());
    promoted && op.gray_permille == full
}

/// Whoever hears that a first instance was released may send a request at once: every proxy is to know where, or has had
/// its time.
fn is_told(view: View<'_>, draft: &mut Draft<'_>, recall: &Recall, waited_ms: u64) -> bool {
    if !recall.is_journaled(draft.op()) {
        return false;
    }
    let released: Vec<PlannedInstance> = current_adds(draft.op()).cloned().collect();
    if !proxies_behind(view, &released) {
        return true;
    }
    if waited_ms < PROXIES_MS_MAX {
        return false;
    }
    draft.log_once(&unconfirmed_by_proxies());
    true
}

fn late(waited_ms: u64, waiting: Vec<String>) -> Move {
    if waited_ms < GATE_WAIT_MS_MAX + START_MARGIN_MS {
        return Move::Wait;
    }
    Move::Fail(
        waiting.into_iter().map(|which| format!("{which} gave no sign of health during the gray release")).collect(),
    )
}

fn conclude(draft: &mut Draft<'_>, verdict: GateVerdict) -> Move {
    let (outcome, stage) = (verdict.outcome, verdict.gray_permille);
    let words = judge::describe(&verdict);
    draft.change().verdicts.push(verdict);
    draft.log(words.clone());
    say(draft, words.clone());
    if !outcome.promotes() {
        return Move::Fail(vec![words]);
    }
    match GRAY_STAGES_PERMILLE.iter().find(|next| **next > stage) {
        Some(next) => {
            draft.change().gray_permille = *next;
            Move::Wait
        }
        None => Move::On,
    }
}

/// Latency that is worse is judged once more over other requests: a machine that paused for a moment made a few dozen slow
/// that have one cause, which no test over single requests can tell from a slow release. Gives the verdict that counts, or
/// the first one while the second is being looked for. Errors are not waited for.
fn looks_again(
    view: View<'_>,
    op: &Operation,
    recall: &mut Recall,
    verdict: GateVerdict,
) -> Result<GateVerdict, GateVerdict> {
    let first = recall.stage.as_ref().and_then(|stage| stage.first.clone());
    match (first, verdict.outcome) {
        (None, GateOutcome::LatencyWorse) => {
            recall.stage = Some(Stage { first: Some(verdict.clone()), ..begin(view, op) });
            Err(verdict)
        }
        // Whoever stayed away does not clear what was found.
        (Some(first), GateOutcome::TooFewRequests | GateOutcome::NoRunningFleet) => Ok(first),
        _ => Ok(verdict),
    }
}

fn fresh(op: &Operation) -> BTreeSet<InstanceId> {
    current_adds(op).map(|add| add.instance.clone()).collect()
}

/// A judgement that begins now.
fn begin(view: View<'_>, op: &Operation) -> Stage {
    // Of the unwell too: one that recovers is compared by what it does from here on.
    let before = traffic(view, fresh(op).iter().chain(&others(view, op)));
    Stage { of: (op.batch, op.gray_permille), before, since: view.now, first: None }
}

fn judge_stage(view: View<'_>, op: &Operation, recall: &mut Recall) -> Option<GateVerdict> {
    if recall.stage.as_ref().is_none_or(|stage| stage.of != (op.batch, op.gray_permille)) {
        recall.stage = Some(begin(view, op));
    }
    let (fresh, fleet) = (fresh(op), running_fleet(view, op));
    let stage = recall.stage.as_mut()?;
    let waited_ms = view.now.saturating_sub(stage.since);
    if waited_ms < GRAY_STAGE_MS_MIN {
        if stage.first.is_some() {
            // Those that the pause held up are still being answered.
            stage.before = begin(view, op).before;
        }
        return None;
    }
    let new = judge::window(view.observed, &stage.before, &fresh);
    let running = judge::window(view.observed, &stage.before, &fleet);
    let outcome = judge::judge(
        &new,
        &running,
        !fleet.is_empty(),
        waited_ms,
        view.now.saturating_sub(view.observed.traffic_since),
    )?;
    Some(judge::verdict(op.gray_permille, view.now, outcome, &new, &running))
}

fn traffic<'a>(view: View<'_>, of: impl Iterator<Item = &'a InstanceId>) -> BTreeMap<InstanceId, Traffic> {
    of.filter_map(|id| Some((id.clone(), view.observed.traffic.get(id)?.clone()))).collect()
}

/// Those others that are not known to be unwell.
fn running_fleet(view: View<'_>, op: &Operation) -> BTreeSet<InstanceId> {
    let well = |id: &InstanceId| view.observed.instances.get(id).is_none_or(|seen| seen.phase == Phase::Healthy);
    let mut fleet = others(view, op);
    fleet.retain(well);
    fleet
}

/// Other instances of the batch's service that are wanted running.
fn others(view: View<'_>, op: &Operation) -> BTreeSet<InstanceId> {
    let Some(first) = current_adds(op).next() else { return BTreeSet::new() };
    let Ok(service) = ServiceName::new(crate::wanted::service_of(first.instance.as_str())) else {
        return BTreeSet::new();
    };
    let fresh: BTreeSet<&InstanceId> = current_adds(op).map(|add| &add.instance).collect();
    view.snapshot
        .placements_of(&service)
        .filter(|(_, p)| p.intent == InstanceIntent::Running && !fresh.contains(&p.instance))
        .map(|(_, p)| p.instance.clone())
        .collect()
}
