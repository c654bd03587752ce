//! What the engine remembers of an operation between events. All of it may be lost in a crash: the journal and the
//! observed fleet suffice to go on.

use crate::contract::Traffic;
use crate::limits::{COMMIT_RETRY_MS_MAX, COMMIT_RETRY_MS_MIN, COMMIT_WAIT_MS_MAX, PROXIES_MS_MAX};
use crate::{Observed, stress, wanted};
use model::{
    GateVerdict, InstanceId, Operation, OperationPhase, PlannedInstance, Revision, Snapshot, StepName, StepState,
    UnixMs,
};
use std::collections::BTreeMap;

/// The world at one event.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// Intent.
    pub snapshot: &'a Snapshot,
    /// What agents and proxies said.
    pub observed: &'a Observed,
    /// The time.
    pub now: UnixMs,
}

/// Where in its walk an operation stands; a change of it starts the clock of the step's time limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    phase: OperationPhase,
    batch: u32,
    step: Option<StepName>,
    gray_permille: u32,
}

impl Moment {
    /// The moment of an operation.
    pub fn of(op: &Operation) -> Self {
        let running = op.steps.iter().find(|step| step.state == StepState::Running);
        let (phase, step) = (op.phase, running.map(|step| step.name));
        Self { phase, batch: op.batch, step, gray_permille: op.gray_permille }
    }
}

/// A hook asked for.
#[derive(Debug, Clone)]
pub(crate) struct HookAsked {
    /// When, the last time.
    pub at: UnixMs,
    /// How often.
    pub asks: u32,
    /// How it ended.
    pub ended: Option<Result<(), String>>,
}

/// Traffic as it was when a gray stage began.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Batch and stage.
    pub of: (u32, u32),
    /// Counters then.
    pub before: BTreeMap<InstanceId, Traffic>,
    /// When the judgement began.
    pub since: UnixMs,
    /// What a first look found, when it found latency worse: the second one decides.
    pub first: Option<GateVerdict>,
}

/// What is remembered of one operation.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    asked: Option<(Revision, UnixMs)>,
    /// Commits that failed in a row while the journal stood at this revision.
    failures: (Revision, u32),
    not_before: UnixMs,
    entered: Option<(Moment, UnixMs)>,
    /// When some proxy was last known to be behind at this moment.
    behind_at: Option<UnixMs>,
    /// Hooks asked for, by idempotency key.
    pub hooks: BTreeMap<String, HookAsked>,
    /// When the report or curve was last asked for.
    pub record_asked: Option<UnixMs>,
    /// The record, once written.
    pub record: Option<String>,
    /// The gray stage under judgement.
    pub stage: Option<Stage>,
    /// The stress test in progress.
    pub stress: Option<Box<stress::Run>>,
}

impl Recall {
    /// True when the operation may be decided now: nothing is in flight and no pause after a failure stands.
    pub fn may_decide(&mut self, revision: Revision, now: UnixMs) -> bool {
        if matches!(self.asked, Some((asked, at)) if asked == revision && now < at + COMMIT_WAIT_MS_MAX) {
            return false;
        }
        self.asked = None;
        self.failures.0 != revision || now >= self.not_before
    }

    /// Notes that a commit is on its way.
    pub fn asked(&mut self, revision: Revision, now: UnixMs) {
        self.asked = Some((revision, now));
    }

    /// Notes that the commit failed; the next one comes a little later. Late news of an older commit is ignored.
    pub fn failed(&mut self, now: UnixMs) {
        let Some((revision, _)) = self.asked.take() else { return };
        let in_a_row = if self.failures.0 == revision { self.failures.1 } else { 0 };
        self.failures = (revision, in_a_row + 1);
        self.not_before = now + (COMMIT_RETRY_MS_MIN << in_a_row.min(16)).min(COMMIT_RETRY_MS_MAX);
    }

    /// Starts the clock when the journal shows a new moment.
    pub fn enter(&mut self, op: &Operation, now: UnixMs) {
        let moment = Moment::of(op);
        if self.entered.as_ref().is_none_or(|(at, _)| *at != moment) {
            self.entered = Some((moment, now));
            self.behind_at = None;
            // A step that is retried is judged anew, though its stage has the same name.
            self.stage = None;
        }
    }

    /// How long the operation, as a draft has it, has stood where it stands; 0 when the draft has just moved it there.
    pub fn waited_ms(&self, op: &Operation, now: UnixMs) -> u64 {
        match &self.entered {
            Some((moment, since)) if *moment == Moment::of(op) => now.saturating_sub(*since),
            _ => 0,
        }
    }

    /// For how long no proxy has sent anything to the instances that leave; `None` while one of them may still do so.
    /// Proxies that never confirm are not waited for for ever.
    pub fn quiet_ms(&mut self, view: View<'_>, op: &Operation, leaving: &[PlannedInstance]) -> Option<u64> {
        let waited_ms = self.waited_ms(op, view.now);
        if waited_ms < PROXIES_MS_MAX && proxies_behind(view, leaving) {
            self.behind_at = Some(view.now);
            return None;
        }
        Some(self.behind_at.map_or(waited_ms, |at| waited_ms.min(view.now.saturating_sub(at))))
    }

    /// True when the draft still stands where the journal does.
    pub fn is_journaled(&self, op: &Operation) -> bool {
        self.entered.as_ref().is_some_and(|(moment, _)| *moment == Moment::of(op))
    }
}

/// True while some proxy may not know how these instances stand: that they leave, or that they are released.
pub(crate) fn proxies_behind(view: View<'_>, instances: &[PlannedInstance]) -> bool {
    let behind = &view.observed.proxies_behind;
    !behind.is_empty() && instances.iter().any(|at| behind.contains(wanted::service_of(at.instance.as_str())))
}
