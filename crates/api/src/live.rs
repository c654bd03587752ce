//! The live feed of the war room: who is there, once, and the numbers of each second, as columns.
//!
//! Server-sent events of `GET /v1/live`: `layout` first and at each change of it, then two `tick`s a second. A column
//! of a tick has one value for each entry of the layout it names, in its order; null means: not measured.
//! Ten thousand hosts make a tick of about 100 kB.

use model::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who is there. A tick refers to the layout of the same number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Layout {
    /// Number of this layout: a hash of all below.
    pub number: String,
    /// Hosts, by datacenter, rack and name.
    pub hosts: Vec<LiveHost>,
    /// Services and externals, by name.
    pub services: Vec<LiveService>,
    /// Instances, in order of their hosts.
    pub instances: Vec<LiveInstance>,
    /// Events, by start.
    pub events: Vec<LiveEvent>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LiveHost {
    /// Name.
    pub name: String,
    /// Datacenter.
    pub datacenter: String,
    /// Rack.
    pub rack: String,
}

/// A service, and whom it calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LiveService {
    /// Name.
    pub name: String,
    /// Business; empty for an external.
    pub business: String,
    /// `access`, `logic`, `storage` or `external`.
    pub layer: String,
    /// Services and externals it calls.
    pub calls: Vec<String>,
}

/// An instance, by places in the lists of the layout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LiveInstance {
    /// Name.
    pub name: String,
    /// Place of its service in `services`.
    pub service: u32,
    /// Place of its host in `hosts`.
    pub host: u32,
}

/// A planned crowd.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LiveEvent {
    /// Name.
    pub name: String,
    /// Business.
    pub business: String,
    /// When the crowd comes, RFC 3339.
    pub starts_at: Option<String>,
    /// When it has gone, RFC 3339.
    pub ends_at: Option<String>,
    /// Peak requests a second expected over all entries.
    pub entry_rps: u64,
}

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tick {
    /// Number of the layout that the columns follow.
    pub layout: String,
    /// When.
    pub at: UnixMs,
    /// False until a quorum of agents has reported since the server's start.
    pub settled: bool,
    /// Columns over `services`.
    pub services: ServiceColumns,
    /// Columns over `instances`.
    pub instances: InstanceColumns,
    /// Columns over `hosts`.
    pub hosts: HostColumns,
    /// Operations at work, and those ended lately, newest first.
    pub operations: Vec<LiveOperation>,
    /// Incidents that go on, and those ended lately, newest first.
    pub incidents: Vec<LiveIncident>,
    /// Why incidents may be missed at present: detection crashed. Absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_trouble: Option<String>,
}

/// Columns over services.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceColumns {
    /// Requests a second, rejected ones too.
    pub rps: Vec<Option<f32>>,
    /// Requests a second that failed other than by a fast rejection.
    pub failed_rps: Vec<Option<f32>>,
    /// Fast rejections a second.
    pub rejected_rps: Vec<Option<f32>>,
    /// Median latency.
    pub p50_ms: Vec<Option<f32>>,
    /// 99th percentile of latency.
    pub p99_ms: Vec<Option<f32>>,
    /// CPU used, as a share of what its slices may use, 0 to 1.
    pub cpu: Vec<Option<f32>>,
    /// Instances healthy.
    pub healthy: Vec<u32>,
    /// Instances wanted.
    pub wanted: Vec<u32>,
}

/// Columns over instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceColumns {
    /// State, as in `GET /v1/instances`: its place in [`PHASES`].
    pub phase: Vec<u8>,
    /// Requests a second.
    pub rps: Vec<Option<f32>>,
    /// 99th percentile of latency.
    pub p99_ms: Vec<Option<f32>>,
    /// Errors of any kind, as a share of requests, 0 to 1.
    pub errors: Vec<Option<f32>>,
    /// CPU used, as a share of its quota, 0 to 1.
    pub cpu: Vec<Option<f32>>,
    /// Memory used, as a share of its limit, 0 to 1.
    pub memory: Vec<Option<f32>>,
}

/// The words for the numbers in [`InstanceColumns::phase`].
pub const PHASES: [&str; 10] =
    ["unknown", "fetching", "deployed", "starting", "healthy", "unhealthy", "backoff", "stopping", "stopped", "failed"];

/// Columns over hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostColumns {
    /// 0 unknown, 1 connected, 2 lost; 4 more when cordoned.
    pub state: Vec<u8>,
    /// CPU used, as a share of the machine's, 0 to 1.
    pub cpu: Vec<Option<f32>>,
    /// Memory used, as a share of the machine's, 0 to 1.
    pub memory: Vec<Option<f32>>,
    /// CPU given to instances, as a share of the host's, 0 to 1.
    pub given: Vec<Option<f32>>,
}

/// An operation, as a line of a Gantt chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveOperation {
    /// Id.
    pub id: String,
    /// `scale`, `rollout`, `drain`, `stress`.
    pub kind: String,
    /// The service or host it works on.
    pub target: String,
    /// As in the operation: `running`, `paused`, …
    pub phase: String,
    /// Who asked.
    pub who: String,
    /// When it was asked for.
    pub created_at: UnixMs,
    /// When it ended.
    pub finished_at: Option<UnixMs>,
    /// Share of full weight of the new instances, in thousandths.
    pub gray_permille: u32,
    /// Its steps.
    pub steps: Vec<LiveStep>,
    /// The latest word on it.
    pub message: String,
    /// What may be done with it now.
    #[serde(default)]
    pub allowed: crate::http::Allowed,
}

/// A step of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveStep {
    /// Name.
    pub name: String,
    /// `waiting`, `running`, `done`, `skipped`, `failed`.
    pub state: String,
    /// When it began.
    pub started_at: Option<UnixMs>,
    /// When it ended.
    pub finished_at: Option<UnixMs>,
    /// Targets done.
    pub done: u32,
    /// Targets in all.
    pub total: u32,
}

/// An incident in a few words; `GET /v1/incidents/{id}` has the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveIncident {
    /// Id.
    pub id: String,
    /// `open`, `acknowledged`, `resolved`.
    pub state: String,
    /// What is wrong.
    pub title: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// When the first of its findings began to rise.
    pub started_at: UnixMs,
    /// When it ended.
    pub ended_at: Option<UnixMs>,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    /// Nobody is told of it before this.
    pub silenced_until: Option<UnixMs>,
    /// How far it reaches, for people.
    pub reach: Vec<String>,
    /// Probable causes, best first, at most 3.
    pub causes: Vec<LiveCause>,
}

/// A probable cause of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveCause {
    /// For people.
    pub what: String,
    /// Share of belief, 0 to 1.
    pub confidence: f64,
    /// The service concerned, where there is one.
    pub service: Option<String>,
    /// Why it is believed, at most 4.
    pub evidence: Vec<String>,
}
