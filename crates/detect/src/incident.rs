//! An incident: what people get instead of a thousand alarms. Kept as a record, by names.

use crate::cause::Cause;
use crate::finding::FindingRecord;
use serde::{Deserialize, Serialize};

/// Findings kept of one incident; the strongest stay.
pub const FINDINGS_KEPT_MAX: usize = 100;
/// Causes kept, best first.
pub const CAUSES_MAX: usize = 5;
/// Names listed of a blast radius; counts tell the rest.
pub const NAMES_MAX: usize = 50;

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// It goes on.
    Open,
    /// It goes on, and someone looks after it.
    Acknowledged,
    /// All its findings have ended.
    Resolved,
    /// It turned out to be part of another.
    Merged,
}

impl IncidentState {
    /// True while it goes on.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged)
    }
}

/// How far it reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blast {
    /// Services with findings, at most [`NAMES_MAX`].
    pub services: Vec<String>,
    /// Instances with findings, at most [`NAMES_MAX`].
    pub instances: Vec<String>,
    /// How many services.
    pub services_count: u32,
    /// How many instances.
    pub instances_count: u32,
    /// How many hosts they stand on.
    pub hosts_count: u32,
    /// Datacenters they stand in.
    pub datacenters: Vec<String>,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id, `inc-N`.
    pub id: String,
    /// Where it stands.
    pub state: IncidentState,
    /// When the first of its findings began to rise, unix ms.
    pub onset_ms: u64,
    /// When it was opened, unix ms.
    pub opened_ms: u64,
    /// When something about it changed last, unix ms.
    pub updated_ms: u64,
    /// When it ended, unix ms.
    pub resolved_ms: Option<u64>,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    /// Probable causes, best first, at most [`CAUSES_MAX`].
    pub causes: Vec<Cause>,
    /// How far it reaches.
    pub blast: Blast,
    /// What was found, strongest first, at most [`FINDINGS_KEPT_MAX`].
    pub findings: Vec<FindingRecord>,
    /// How many times it came back after it had ended.
    pub reopened: u32,
    /// The incident that it turned out to be part of.
    pub merged_into: Option<String>,
}
