//! What a detector says of one series: which entity, which signal, how far from its baseline, since when.

use crate::topology::Topology;
use serde::{Deserialize, Serialize};

/// A watched signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// It answers and reports at all.
    Presence,
    /// Requests a second.
    Requests,
    /// Share of requests that fail, without fast rejections.
    Errors,
    /// Share of requests rejected fast.
    Rejects,
    /// Median latency, ms.
    Latency,
    /// 99th percentile of latency, ms.
    LatencyTail,
    /// Requests in flight.
    InFlight,
    /// CPU used: cores of an instance, share of a host.
    Cpu,
    /// Memory in use: bytes of an instance, share of a host.
    Memory,
    /// Share of time that some task waited for CPU or disk.
    Pressure,
}

/// A kind of thing that can be ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// A datacenter.
    Datacenter,
    /// A rack.
    Rack,
    /// A host.
    Host,
    /// A service.
    Service,
    /// A dependency outside.
    External,
    /// An instance.
    Instance,
    /// A caller → callee edge, named `caller->callee`.
    Pair,
}

/// An entity by name, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityRef {
    /// Its kind.
    pub kind: EntityKind,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for EntityRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            EntityKind::Datacenter => "datacenter",
            EntityKind::Rack => "rack",
            EntityKind::Host => "host",
            EntityKind::Service => "service",
            EntityKind::External => "external",
            EntityKind::Instance => "instance",
            EntityKind::Pair => "edge",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// An entity by its dense id in the topology of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entity {
    Datacenter(u32),
    Rack(u32),
    Host(u32),
    Service(u32),
    Instance(u32),
    Pair(u32),
}

impl Entity {
    pub(crate) fn named(self, topology: &Topology) -> EntityRef {
        let (kind, name) = match self {
            Self::Datacenter(at) => (EntityKind::Datacenter, topology.datacenters[at as usize].clone()),
            Self::Rack(at) => (EntityKind::Rack, topology.racks[at as usize].name.clone()),
            Self::Host(at) => (EntityKind::Host, topology.hosts[at as usize].name.clone()),
            Self::Service(at) => {
                let service = &topology.services[at as usize];
                let kind = if service.external { EntityKind::External } else { EntityKind::Service };
                (kind, service.name.clone())
            }
            Self::Instance(at) => (EntityKind::Instance, topology.instances[at as usize].name.clone()),
            Self::Pair(at) => (EntityKind::Pair, topology.pair_name(at)),
        };
        EntityRef { kind, name }
    }
}

/// An alarm in force this second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Finding {
    pub(crate) entity: Entity,
    pub(crate) signal: Signal,
    /// Statistic by threshold: at least about 1.
    pub(crate) score: f32,
    /// What was expected, in the signal's unit.
    pub(crate) baseline: f32,
    /// What is seen, in the signal's unit.
    pub(crate) observed: f32,
    /// Second in which the statistic began to rise.
    pub(crate) since_s: u32,
    /// False: it supports a cause, and opens no incident by itself.
    pub(crate) opens: bool,
}

/// A finding as an incident keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingRecord {
    /// Which entity.
    pub entity: EntityRef,
    /// Which signal.
    pub signal: Signal,
    /// Highest statistic ÷ threshold so far.
    pub score: f32,
    /// What was expected, in the signal's unit.
    pub baseline: f32,
    /// What was seen at the highest, in the signal's unit.
    pub observed: f32,
    /// When it began, unix ms.
    pub since_ms: u64,
    /// When it was last in force, unix ms.
    pub seen_ms: u64,
}
