//! Why a wish of an operator is not taken up: one reason each, turned into words only by `Display`.

use model::{DatacenterName, HostName, InstanceId, OperationId, OperationPhase, ServiceName, StepName};

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such service.
    #[error("there is no service {0}: `springtide get Service` lists those that are")]
    UnknownService(ServiceName),
    /// No such host.
    #[error("there is no host {0}: `springtide get Host` lists those that are")]
    UnknownHost(HostName),
    /// No such datacenter.
    #[error("there is no datacenter {0}: `springtide get Datacenter` lists those that are")]
    UnknownDatacenter(DatacenterName),
    /// No such operation.
    #[error("there is no operation {0}: `springtide operation list` lists those kept")]
    UnknownOperation(OperationId),
    /// No such instance of the service.
    #[error("service {service} has no running instance {instance}")]
    UnknownInstance {
        /// The service.
        service: ServiceName,
        /// The instance.
        instance: InstanceId,
    },
    /// Another operation works on the service.
    #[error("service {service} is under operation {operation}: wait for it to end, or roll it back")]
    Busy {
        /// The service.
        service: ServiceName,
        /// The operation.
        operation: OperationId,
    },
    /// Another operation drains the host.
    #[error("host {host} is being drained by {operation}: wait for it to end, or roll it back")]
    HostBusy {
        /// The host.
        host: HostName,
        /// The operation.
        operation: OperationId,
    },
    /// The world is as wanted already.
    #[error("nothing to do: {0}")]
    NothingToDo(NothingToDo),
    /// More than one operation can name and undo.
    #[error(
        "adding {asked} instances of {service} at once is refused: at most {max} are added by one operation, so scale in steps"
    )]
    TooManyAdds {
        /// The service.
        service: ServiceName,
        /// Asked for.
        asked: u64,
        /// Most.
        max: u32,
    },
    /// The operation has ended.
    #[error("operation {operation} has ended ({})", phase_word(*phase))]
    Final {
        /// The operation.
        operation: OperationId,
        /// How.
        phase: OperationPhase,
    },
    /// The wish does not fit the phase.
    #[error("operation {operation} is {}: only one that is {wanted} can be {done}", phase_word(*phase))]
    WrongPhase {
        /// The operation.
        operation: OperationId,
        /// Its phase.
        phase: OperationPhase,
        /// What would be right.
        wanted: &'static str,
        /// What was to be done with it: `resumed`.
        done: &'static str,
    },
    /// It holds at a step that failed: going on as if nothing had been is no way.
    #[error(
        "operation {operation} holds at step {}, which failed: retry it, skip it, or roll the operation back",
        step_word(*step)
    )]
    HeldAtFailure {
        /// The operation.
        operation: OperationId,
        /// The step.
        step: StepName,
    },
    /// The step is not the one in hand.
    #[error("operation {operation} {}", elsewhere(*asked, *at))]
    NotAt {
        /// The operation.
        operation: OperationId,
        /// The step asked for.
        asked: Option<StepName>,
        /// The step in hand.
        at: Option<StepName>,
    },
    /// The step has not begun.
    #[error(
        "step {} of operation {operation} has not begun, so there is nothing to try again; a hook that it waits for can \
         be: name it as the target", step_word(*step)
    )]
    NotBegun {
        /// The operation.
        operation: OperationId,
        /// The step.
        step: StepName,
    },
    /// Nothing would be there for the later steps.
    #[error(
        "step {} of operation {operation} makes the plan that all later steps stand on and cannot be skipped; one of its \
         hooks can be: name it as the target", step_word(*step)
    )]
    Unskippable {
        /// The operation.
        operation: OperationId,
        /// The step.
        step: StepName,
    },
    /// A stress test is one measurement.
    #[error(
        "operation {operation} is a stress test and has no steps to retry or skip: pause or roll it back, or run another"
    )]
    NoSteps {
        /// The operation.
        operation: OperationId,
    },
    /// The step has no such target.
    #[error(
        "step {} of operation {operation} has no target {target:?}: {}", step_word(*step), one_of(known)
    )]
    UnknownTarget {
        /// The operation.
        operation: OperationId,
        /// The step.
        step: StepName,
        /// Asked for.
        target: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// The instance is well and may have requests.
    #[error("instance {instance} is healthy and has traffic, which the gate judges as a whole: leave the target out")]
    Serving {
        /// The instance.
        instance: InstanceId,
    },
    /// There is no other place for an instance.
    #[error("there is no other host for {instance}: {why}; it can be skipped, and its own agent goes on trying")]
    NoOtherHost {
        /// The instance.
        instance: InstanceId,
        /// Why not.
        why: String,
    },
    /// An operation that does without so much does not do what it is for.
    #[error("operation {operation} goes on without {max} instances already: roll it back")]
    TooManyGivenUp {
        /// The operation.
        operation: OperationId,
        /// How many it may.
        max: usize,
    },
    /// A stress test needs others that can take over.
    #[error(
        "service {service} has {healthy} healthy instances; a stress test needs 2, or name the instance to test it alone"
    )]
    TooFewHealthy {
        /// The service.
        service: ServiceName,
        /// Healthy ones.
        healthy: u32,
    },
    /// The instance is not healthy.
    #[error("instance {0} is not healthy: only a healthy instance can be measured")]
    NotHealthy(InstanceId),
    /// The service carries no traffic.
    #[error("service {0} has no port, so no traffic can be measured at it")]
    NoPort(ServiceName),
    /// A stress test of an impossible length.
    #[error("a stress test of {asked_ms} ms is refused: between {min_ms} and {max_ms} ms would do")]
    BadDuration {
        /// Asked for.
        asked_ms: u32,
        /// Least.
        min_ms: u32,
        /// Most.
        max_ms: u32,
    },
    /// The wanted package or config cannot be resolved.
    #[error("what service {service} is to run cannot be resolved: {why}")]
    Unresolved {
        /// The service.
        service: ServiceName,
        /// What is missing.
        why: String,
    },
}

/// In which way the world is as wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingToDo {
    /// Counts are met.
    #[error("service {0} has these counts already")]
    CountsMet(ServiceName),
    /// All run the wanted package and config.
    #[error("all instances of {0} run the wanted package and config already")]
    UpToDate(ServiceName),
    /// The host is empty and cordoned.
    #[error("host {0} is cordoned and empty already")]
    Drained(HostName),
    /// The host takes placements.
    #[error("host {0} is not cordoned")]
    NotCordoned(HostName),
}

/// The word for a phase, as in the journal.
pub(crate) fn phase_word(phase: OperationPhase) -> &'static str {
    match phase {
        OperationPhase::Pending => "pending",
        OperationPhase::Running => "running",
        OperationPhase::Paused => "paused",
        OperationPhase::RollingBack => "rolling back",
        OperationPhase::Succeeded => "succeeded",
        OperationPhase::RolledBack => "rolled back",
        OperationPhase::Failed => "failed",
    }
}

/// The word for a step, as in the journal.
pub(crate) fn step_word(step: StepName) -> &'static str {
    match step {
        StepName::Attributes => "attributes",
        StepName::Deploy => "deploy",
        StepName::Silence => "silence",
        StepName::Start => "start",
        StepName::Gray => "gray",
        StepName::Drain => "drain",
        StepName::Stop => "stop",
        StepName::Report => "report",
    }
}

fn elsewhere(asked: Option<StepName>, at: Option<StepName>) -> String {
    match (asked, at) {
        (Some(asked), Some(at)) => {
            format!(
                "is at step {}, not at {}: only a step in hand or to come can be steered",
                step_word(at),
                step_word(asked)
            )
        }
        (_, Some(at)) => format!("is at step {}", step_word(at)),
        (_, None) => "has no step in hand at this moment: ask again in a second".to_owned(),
    }
}

fn one_of(known: &[String]) -> String {
    match known {
        [] => "this step is one for all of them, so leave the target out".to_owned(),
        known => format!("one of {} would be right", known.join(", ")),
    }
}
