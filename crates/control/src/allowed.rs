//! What an operator may do with an operation as it stands: the one place that knows, for those who ask and for those who do.

use crate::contract::{HostState, Observed, Phase};
use crate::hooks;
use crate::limits::TARGETS_NAMED_MAX;
use crate::recall::View;
use crate::refusal::Refusal;
use crate::steer::Aim;
use crate::walk::{batch_service, current, current_adds};
use model::{
    Operation, OperationPhase, OperationSpec, PlannedInstance, Snapshot, StepName, StepRun, StepState, UnixMs,
};

/// A way to steer an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Hold it between moves.
    Pause,
    /// Let a paused one go on.
    Resume,
    /// Undo what it did.
    Rollback,
    /// Attempt the step in hand again, or open an ended one once more.
    Retry,
    /// Pass the step in hand over.
    Skip,
}

impl Verb {
    /// Its word in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rollback => "rollback",
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// What may be done with an operation now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Ways to steer it that need no more than its id.
    pub verbs: Vec<Verb>,
    /// The step in hand: what retry and skip are about.
    pub step: Option<StepName>,
    /// Instances of that step that are not well yet and its hooks, at most 50: what retry and skip may be aimed at.
    pub targets: Vec<String>,
}

/// What may be done with an operation as it stands.
pub fn allowed(snapshot: &Snapshot, observed: &Observed, op: &Operation, now: UnixMs) -> Allowed {
    let view = View { snapshot, observed, now };
    let aim = Aim::default();
    let may = |verb: &Verb| match (verb, op.phase) {
        (Verb::Pause, phase) => matches!(phase, OperationPhase::Pending | OperationPhase::Running),
        (Verb::Resume, phase) => phase == OperationPhase::Paused && op.held_at().is_none(),
        (Verb::Rollback, phase) => !phase.is_final() && phase != OperationPhase::RollingBack,
        (Verb::Retry, OperationPhase::Failed | OperationPhase::RolledBack) => true,
        (_, phase) if phase.is_final() => false,
        (Verb::Retry, _) => retried(op, &aim).is_ok(),
        (Verb::Skip, _) => skipped(op, &aim).is_ok(),
    };
    let all = [Verb::Pause, Verb::Resume, Verb::Rollback, Verb::Retry, Verb::Skip];
    let step = in_hand(op).filter(|_| !is_stress(op)).map(|step| step.name);
    let targets = step.filter(|_| op.phase != OperationPhase::RollingBack).map(|name| targets(view, op, name));
    Allowed { verbs: all.into_iter().filter(may).collect(), step, targets: targets.unwrap_or_default() }
}

fn targets(view: View<'_>, op: &Operation, name: StepName) -> Vec<String> {
    let unwell = |planned: &&PlannedInstance| !is_well(view, planned);
    let instances = instances(op, name).into_iter().filter(unwell).map(|planned| planned.instance.to_string());
    instances.chain(hook_names(view.snapshot, op, name)).take(TARGETS_NAMED_MAX).collect()
}

fn is_stress(op: &Operation) -> bool {
    matches!(op.spec, OperationSpec::Stress { .. })
}

/// The step that retry and skip are about.
fn in_hand(op: &Operation) -> Option<&StepRun> {
    let of = |name| op.steps.iter().find(|step| step.name == name);
    match op.phase {
        phase if phase.is_final() => None,
        OperationPhase::RollingBack => op.steps.iter().find(|step| step.state == StepState::Running),
        _ => op.held_at().or_else(|| of(current(op)?.0)),
    }
}

/// The step that a retry is about.
pub(crate) fn retried(op: &Operation, aim: &Aim) -> Result<StepName, Refusal> {
    let (operation, phase) = (op.id.clone(), op.phase);
    if is_stress(op) {
        return Err(Refusal::NoSteps { operation });
    }
    if phase == OperationPhase::RollingBack {
        return Err(Refusal::WrongPhase {
            operation,
            phase,
            wanted: "pending, running, paused or has ended without success",
            done: "retried",
        });
    }
    let step = in_hand(op);
    let at = step.map(|step| step.name);
    match step {
        Some(step) if aim.step.is_none_or(|asked| asked == step.name) => {
            if aim.target.is_none() && step.state == StepState::Waiting {
                return Err(Refusal::NotBegun { operation, step: step.name });
            }
            Ok(step.name)
        }
        _ => Err(Refusal::NotAt { operation, asked: aim.step, at }),
    }
}

/// The step that a skip is about: the one in hand, or a later one of this batch.
pub(crate) fn skipped(op: &Operation, aim: &Aim) -> Result<StepName, Refusal> {
    let operation = op.id.clone();
    if is_stress(op) {
        return Err(Refusal::NoSteps { operation });
    }
    let at = in_hand(op).map(|step| step.name);
    let is_later = |name: &StepName| {
        let waits = |step: &StepRun| step.name == *name && step.state == StepState::Waiting;
        op.phase != OperationPhase::RollingBack && op.steps.iter().any(waits)
    };
    let name = match aim.step {
        None => at,
        Some(asked) => Some(asked).filter(|asked| Some(*asked) == at || is_later(asked)),
    };
    let Some(name) = name else { return Err(Refusal::NotAt { operation, asked: aim.step, at }) };
    if name == StepName::Attributes && aim.target.is_none() {
        return Err(Refusal::Unskippable { operation, step: name });
    }
    Ok(name)
}

/// The instances that retry and skip may be aimed at in a step.
pub(crate) fn instances(op: &Operation, name: StepName) -> Vec<&PlannedInstance> {
    let about_new = matches!(name, StepName::Deploy | StepName::Silence | StepName::Start | StepName::Gray);
    let forward = op.phase != OperationPhase::RollingBack;
    current_adds(op).filter(|_| about_new && forward).collect()
}

/// The hooks of a step.
pub(crate) fn hook_names(snapshot: &Snapshot, op: &Operation, name: StepName) -> Vec<String> {
    let service = batch_service(snapshot, op).filter(|_| op.phase != OperationPhase::RollingBack);
    service.map(|service| hooks::names(service, name)).unwrap_or_default()
}

fn is_well(view: View<'_>, planned: &PlannedInstance) -> bool {
    let connected = view.observed.hosts.get(&planned.host).is_some_and(|host| host.state == HostState::Connected);
    let seen = view.observed.instances.get(&planned.instance);
    connected && seen.is_some_and(|seen| seen.phase == Phase::Healthy)
}

/// True when requests may be at the instance: it would have to leave traffic first, which the gate does with all of them.
pub(crate) fn carries_traffic(view: View<'_>, op: &Operation, planned: &PlannedInstance) -> bool {
    op.gray_permille > 0 && is_well(view, planned)
}
