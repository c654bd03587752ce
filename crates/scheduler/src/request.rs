//! What the planner is asked and what it answers.

use crate::why::WhyNot;
use model::{DatacenterName, HostName, InstanceId, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// A wish for new instances of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceRequest {
    /// The service.
    pub service: ServiceName,
    /// New instances wanted in each datacenter.
    pub adds: BTreeMap<DatacenterName, u32>,
    /// Hosts that take nothing now (lost, not yet reported, being emptied).
    pub unavailable: BTreeSet<HostName>,
    /// Number of the first new instance; the ids are `<service>-<number>`, counted up.
    pub first_number: u64,
}

/// Where each new instance goes, and what found no host. Complete: nothing is decided after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// New instances, by datacenter, then in the order in which they were placed.
    pub adds: Vec<Added>,
    /// One entry for each datacenter in which hosts ran out.
    pub shortfalls: Vec<Shortfall>,
}

/// One new instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its id.
    pub instance: InstanceId,
    /// Its host.
    pub host: HostName,
    /// The host's datacenter.
    pub datacenter: DatacenterName,
    /// Port name → host port.
    pub ports: BTreeMap<String, u16>,
}

/// Instances that found no host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The datacenter.
    pub datacenter: DatacenterName,
    /// Instances wanted there.
    pub wanted: u32,
    /// Instances placed there.
    pub placed: u32,
    /// Why its hosts take no more, after what was placed: reason → hosts. Hosts short of the same thing count as one
    /// reason, whose `free` is the most that any of them has. Empty when the datacenter has no host.
    pub reasons: BTreeMap<WhyNot, u32>,
}
