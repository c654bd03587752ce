//! Operations: durable runs of steps that change the world. This is their stored form (the journal).
//!
//! The journal is written per step and batch, never per instance: its size grows with batches, not with the fleet.
//! What decides the next move is `control`; this file holds only what must survive a crash.

use crate::name::*;
use crate::placement::ScaleIntent;
use crate::resource::StepName;
use crate::unit::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lines kept in an operation's own log; older ones are dropped (the audit log has them all).
pub const LOG_LINES_MAX: usize = 200;
/// Instances that one operation goes on without.
pub const GIVEN_UP_MAX: usize = 500;

/// A durable run of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it is to do.
    pub spec: OperationSpec,
    /// Where it stands.
    pub phase: OperationPhase,
    /// Who asked (a user, or `reconciler`).
    pub who: String,
    /// When it was asked for.
    pub created_at: UnixMs,
    /// When it ended.
    pub finished_at: Option<UnixMs>,
    /// Its steps, in order.
    pub steps: Vec<StepRun>,
    /// What the checked plan adds.
    pub adds: Vec<PlannedInstance>,
    /// What the checked plan removes.
    pub removes: Vec<PlannedInstance>,
    /// Batch in progress (0-based) and how many there are; each batch walks the steps.
    pub batch: u32,
    /// How many batches there are.
    pub batches: u32,
    /// Gray release: share of their full weight that the batch's new instances get, in thousandths.
    pub gray_permille: u32,
    /// Each gray stage's judgement so far.
    pub verdicts: Vec<GateVerdict>,
    /// Why it failed, was rolled back, or could not do all; empty when all went well.
    pub failures: Vec<String>,
    /// What happened, for people: at most [`LOG_LINES_MAX`] lines.
    pub log: Vec<LogLine>,
    /// Record id of its report or curve, once written.
    pub report: Option<String>,
    /// Scale intent that this operation replaced, put back by a rollback (the inner absence: there was none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_before: Option<ScaleBefore>,
    /// Revision of the store that it was last planned at: intent changed later is not what it tried.
    #[serde(default)]
    pub planned_at: u64,
    /// A step that fails is held for an operator's decision; otherwise the operation undoes itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// New instances that operators had it go on without; at most [`GIVEN_UP_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<PlannedInstance>,
    /// It failed when its service had been deleted, or was to run something newer: what was wanted since is what counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overtaken: bool,
}

impl Operation {
    /// The step at which it holds because it failed; retry, skip and rollback go on from there.
    pub fn held_at(&self) -> Option<&StepRun> {
        let failed = || self.steps.iter().find(|step| step.state == StepState::Failed);
        (self.phase == OperationPhase::Paused).then(failed).flatten()
    }

    /// The one line that tells most of how it stands: why it holds, else the last failure, else the last of its log.
    pub fn told(&self) -> &str {
        let held = self.held_at().map(|step| &step.message).filter(|message| !message.is_empty());
        let logged = || self.failures.last().or(self.log.last().map(|line| &line.text));
        held.or_else(logged).map_or("", String::as_str)
    }
}

/// What stood before an operation set a scale intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleBefore {
    /// The intent; absent when the manifest's counts were in force.
    pub intent: Option<ScaleIntent>,
}

/// What an operation is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OperationSpec {
    /// Bring a service to these counts: scale-out and scale-in, also to nothing after a delete.
    Scale {
        /// The service.
        service: ServiceName,
        /// Instances wanted in each datacenter.
        instances: BTreeMap<DatacenterName, u32>,
    },
    /// Replace instances whose package or config is not the wanted one, batch by batch, new before old.
    Rollout {
        /// The service.
        service: ServiceName,
        /// Package wanted.
        package_digest: Digest,
        /// Config wanted.
        config_digest: Digest,
    },
    /// Move everything off a host and place nothing new on it.
    Drain {
        /// The host.
        host: HostName,
    },
    /// Measure one instance's capacity with live traffic.
    Stress {
        /// The service.
        service: ServiceName,
        /// The instance; absent means the controller chooses.
        instance: Option<InstanceId>,
        /// Longest time the override may stand.
        duration_ms_max: u32,
    },
}

impl OperationSpec {
    /// The service concerned, when there is one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Scale { service, .. } | Self::Rollout { service, .. } | Self::Stress { service, .. } => Some(service),
            Self::Drain { .. } => None,
        }
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationPhase {
    /// Accepted, not begun.
    Pending,
    /// At work.
    Running,
    /// Held between moves: by an operator (`resume` goes on), or at a step that failed (`retry`, `skip`, `rollback`).
    Paused,
    /// Undoing what it did.
    RollingBack,
    /// Ended: all done.
    Succeeded,
    /// Ended: undone.
    RolledBack,
    /// Ended: could not be done, and what it did could not be (or needed no) undoing.
    Failed,
}

impl OperationPhase {
    /// True when nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack | Self::Failed)
    }
}

/// One step of an operation, over all batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// Which.
    pub name: StepName,
    /// How it went so far.
    pub state: StepState,
    /// When it began.
    pub started_at: Option<UnixMs>,
    /// When it ended.
    pub finished_at: Option<UnixMs>,
    /// Times begun; a step may be attempted again, its effect lands once.
    pub attempts: u32,
    /// Targets done and in all.
    pub done: u32,
    /// Targets in all.
    pub total: u32,
    /// The latest word on it.
    pub message: String,
    /// Who had it passed over in this batch: its effect lands, what it waits for is not awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_by: Option<String>,
    /// What became of its hooks in this batch beyond being asked for, by `before/0`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookMark>,
}

/// What the journal says of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookMark {
    /// It failed, after it had been asked for afresh so many times.
    Failed(u32),
    /// It is asked for afresh for the n-th time, under a key of its own.
    Retried(u32),
    /// It is not asked for.
    Skipped,
}

/// How a step went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// In progress.
    Running,
    /// Done.
    Done,
    /// Passed over, for the reason in the message.
    Skipped,
    /// Could not be done.
    Failed,
}

/// An instance that a plan adds or removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedInstance {
    /// The instance.
    pub instance: InstanceId,
    /// Its host.
    pub host: HostName,
    /// Its datacenter.
    pub datacenter: DatacenterName,
    /// The batch (0-based) that adds or removes it.
    #[serde(default)]
    pub batch: u32,
}

/// How a gray stage was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateVerdict {
    /// Stage, in thousandths of full weight.
    pub gray_permille: u32,
    /// When it was judged.
    pub at: UnixMs,
    /// The outcome.
    pub outcome: GateOutcome,
    /// Requests that reached new instances in the stage.
    pub requests_new: u64,
    /// Requests that reached the running fleet in the stage.
    pub requests_running: u64,
    /// Share of requests to new instances that failed.
    pub error_rate_new: f64,
    /// The same for the running fleet.
    pub error_rate_running: f64,
    /// 99th percentile of latency at new instances.
    pub latency_p99_ms_new: f64,
    /// The same for the running fleet.
    pub latency_p99_ms_running: f64,
}

/// The outcome of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    /// No worse than the running fleet.
    Passed,
    /// More errors than the running fleet.
    ErrorsWorse,
    /// Slower than the running fleet.
    LatencyWorse,
    /// Too few requests came in the time allowed; promoted on health alone, and said so.
    TooFewRequests,
    /// Nothing runs yet to compare with; promoted on health alone.
    NoRunningFleet,
    /// An operator had it passed over.
    Skipped,
}

impl GateOutcome {
    /// True when the operation may go on.
    pub fn promotes(self) -> bool {
        matches!(self, Self::Passed | Self::TooFewRequests | Self::NoRunningFleet | Self::Skipped)
    }
}

/// A line of an operation's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: UnixMs,
    /// What happened.
    pub text: String,
}
