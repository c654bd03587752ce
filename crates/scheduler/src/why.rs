//! Why a host does not take an instance. Typed; text is made at the edge.

use model::{CpuMillis, MemoryBytes, ServiceName};
use serde::{Deserialize, Serialize};

/// Why a host does not take an instance. The first that holds, in this order, is the one given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WhyNot {
    /// It stands in a datacenter where the service wants nothing.
    #[error("in a datacenter where nothing is wanted")]
    OtherDatacenter,
    /// Operators take nothing new on it.
    #[error("cordoned")]
    Cordoned,
    /// Its agent is not connected, or it is being emptied.
    #[error("unavailable")]
    Unavailable,
    /// It belongs to another pool.
    #[error("in another pool")]
    WrongPool,
    /// It carries only services of another layer.
    #[error("exclusive to another layer")]
    ExclusiveToOtherLayer,
    /// It runs a service that must not share a host with this one.
    #[error("runs {service}, which must not share a host with it")]
    Avoids {
        /// The other service; either side may have declared it.
        service: ServiceName,
    },
    /// It has as many instances of the service as one host may have.
    #[error("already has as many of its instances as one host may have")]
    PerHostMax,
    /// Too few free ports.
    #[error("no free port")]
    NoFreePort,
    /// Too little CPU.
    #[error("not enough cpu: {free} cores free, {wanted} wanted")]
    NotEnoughCpu {
        /// Free.
        free: CpuMillis,
        /// Wanted for one instance.
        wanted: CpuMillis,
    },
    /// Too little memory.
    #[error("not enough memory: {free} free, {wanted} wanted")]
    NotEnoughMemory {
        /// Free.
        free: MemoryBytes,
        /// Wanted for one instance.
        wanted: MemoryBytes,
    },
    /// `<service>-<number>` is longer than a name may be.
    #[error("the instance's id would be too long: shorten the service's name")]
    InstanceIdTooLong,
}
