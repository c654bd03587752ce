//! Resources, ids, units, manifests, validation and the CMDB snapshot.
//!
//! Pure: no I/O, no clock. Reading files is the caller's work; this crate gets their text.
//! Observed state (is an instance up?) and samples are deliberately absent: only intent and records' shapes live here.

pub mod alert;
pub mod config;
pub mod curve;
pub mod histogram;
pub mod kept;
pub mod keys;
pub mod manifest;
pub mod operation;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod resource;
pub mod snapshot;
pub mod time;
pub mod unit;
pub mod validate;

mod fault;
mod name;
#[cfg(test)]
mod samples;

pub use alert::{AlertRule, Receiver, Severity};
pub use curve::{BindingResource, Curve, CurvePoint, Interval, StressEnd};
pub use fault::{FAULTS_MAX, Fault, nearest};
pub use histogram::LatencyHistogram;
pub use kept::{Clocks, FileFault, KeptPolicy, POLICIES_FORMAT, PoliciesFile};
pub use manifest::Declared;
pub use name::{
    AlertRuleName, BusinessName, CircuitName, ConfigSetName, DatacenterName, EnvironmentName, EventName, ExternalName,
    HostName, HostTypeName, InstanceId, NAME_BYTES_MAX, NameError, OperationId, PackageName, PolicyName, PoolName,
    PresetName, RackName, ReceiverName, RegionName, ServiceName, SilenceId,
};
pub use operation::{
    GateOutcome, GateVerdict, HookMark, LogLine, Operation, OperationPhase, OperationSpec, PlannedInstance,
    ScaleBefore, StepRun, StepState,
};
pub use placement::{HostIntent, HostPlacements, InstanceIntent, Placement, ScaleIntent, Silence};
pub use policy::{
    Answer, Degrade, Expiry, Life, POLICY_LIFE_MS_MAX, POLICY_VERSIONS_MAX, Policy, PolicyAction, PolicyHistory,
    PolicyVersion, Preset, PresetPolicy, Slow, Throttle,
};
pub use resource::{
    Balance, Business, Circuit, ConfigSet, Criticality, Datacenter, Dependency, Environment, Event, External,
    HealthCheck, Hook, HookCall, HookWhen, Host, HostType, Kind, Layer, Package, PortRange, Protocol, Rack, Region,
    Resource, ResourceKey, Route, Service, ServiceMetrics, Slo, StepName, Stop, Traffic,
};
pub use snapshot::{FoldError, Revision, Snapshot, Versioned};
pub use unit::{BandwidthMbps, CpuMillis, Digest, MemoryBytes, PIDS_MAX_DEFAULT, PowerWatts, Shape, UnitError, UnixMs};
