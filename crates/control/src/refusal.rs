//! Why a wish of an operator is not taken up: one reason each, turned into words only by `Display`.

use model::{DatacenterName, HostName, InstanceId, OperationId, OperationPhase, ServiceName};

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
    /// The operation has ended.
    #[error("operation {operation} has ended ({})", phase_word(*phase))]
    Final {
        /// The operation.
        operation: OperationId,
        /// How.
        phase: OperationPhase,
    },
    /// The wish does not fit the phase.
    #[error("operation {operation} is {}: only one that is {wanted} can be", phase_word(*phase))]
    WrongPhase {
        /// The operation.
        operation: OperationId,
        /// Its phase.
        phase: OperationPhase,
        /// What would be right.
        wanted: &'static str,
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
