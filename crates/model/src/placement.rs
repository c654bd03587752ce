//! Intent about instances: where each runs and in which state it is wanted.
//!
//! Observed state is absent on purpose: it lives in the server's memory, fed by the agents.

use crate::name::*;
use crate::resource::Layer;
use crate::unit::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All instances intended on one host: one key of the store, so that a compare on its revision guards the host's capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostPlacements {
    /// The host.
    pub host: HostName,
    /// Its instances, ordered by id.
    pub instances: Vec<Placement>,
}

/// One instance, intended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// Its id, never reused.
    pub instance: InstanceId,
    /// Its service.
    pub service: ServiceName,
    /// The service's layer when placed (exclusive hosts are checked without a look-up).
    pub layer: Layer,
    /// Package to run.
    pub package: PackageName,
    /// Version of the package, for people and for curves.
    pub package_version: String,
    /// Digest of the package.
    pub package_digest: Digest,
    /// Digest of config set, environment, arguments, ports and checks together: it changes when a restart is due.
    pub config_digest: Digest,
    /// Limits of its slice.
    pub shape: Shape,
    /// Port name → host port.
    pub ports: BTreeMap<String, u16>,
    /// Wanted state.
    pub intent: InstanceIntent,
}

/// The state in which an instance is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceIntent {
    /// Package and config are on the host; the instance does not run yet.
    Deployed,
    /// It runs.
    Running,
    /// It runs, takes no new traffic and will be stopped.
    Draining,
}

/// Counts set by `scale`, which overrule the manifest's until the manifest's own counts change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleIntent {
    /// The service.
    pub service: ServiceName,
    /// Instances wanted in each datacenter.
    pub instances: BTreeMap<DatacenterName, u32>,
    /// The operation that set it.
    pub operation: OperationId,
}

/// What operators decided about a host, apart from its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIntent {
    /// No new instance is placed here.
    pub cordoned: bool,
}

/// A muted period with an end (an expiry: it survives its author).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: SilenceId,
    /// The service it mutes.
    pub service: ServiceName,
    /// The instances it mutes; empty means all of the service.
    pub instances: Vec<InstanceId>,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub until: UnixMs,
}
