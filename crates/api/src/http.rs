//! What people and programs speak: HTTP/JSON requests and answers of `/v1`.
//!
//! Routes (all JSON unless said; errors are [`Problem`] with a fitting status):
//!
//! | method and path | body → answer |
//! |---|---|
//! | `POST /v1/plan` | [`ApplyRequest`] → [`PlanResponse`] |
//! | `POST /v1/apply` | [`ApplyRequest`] → [`ApplyResponse`] |
//! | `GET /v1/resources/{kind}` | → `Vec<ResourceView>` |
//! | `GET /v1/resources/{kind}/{name}` | → [`ResourceView`] |
//! | `DELETE /v1/resources/{kind}/{name}` | → [`ApplyResponse`] |
//! | `GET /v1/describe/{kind}/{name}` | → [`Description`] |
//! | `GET /v1/instances?service=&host=` | → `Vec<InstanceView>` |
//! | `GET /v1/hosts` | → `Vec<HostView>` |
//! | `GET /v1/services` | → `Vec<ServiceView>` |
//! | `GET /v1/instances/{instance}/logs?tail=&follow=` | → bytes, chunked |
//! | `PUT /v1/packages/{digest}/blob` | bytes → 204; 422 when the digest is wrong |
//! | `GET /v1/packages/{digest}/blob` | → bytes |
//! | `HEAD /v1/packages/{digest}/blob` | → 200 or 404 |
//! | `POST /v1/operations` | [`OperationOrder`] → [`OperationView`] |
//! | `POST /v1/operations/plan` | [`OperationRequest`] of a scale → [`OperationPlan`] |
//! | `GET /v1/operations` | → `Vec<OperationView>` |
//! | `GET /v1/operations/{id}` | → [`OperationView`] |
//! | `GET /v1/operations/{id}/watch` | → server-sent events `operation`, data [`model::Operation`], until it ends |
//! | `POST /v1/operations/{id}/pause`, `/resume`, `/rollback` | → [`OperationView`] |
//! | `POST /v1/operations/{id}/retry`, `/skip` | [`StepRequest`] or nothing → [`OperationView`] |
//! | `GET /v1/operations/{id}/report` | → HTML |
//! | `GET /v1/curves?service=` | → `Vec<model::Curve>`, newest first |
//! | `GET /v1/curves/{operation}/svg` | → SVG |
//! | `POST /v1/size` | [`SizeRequest`] → [`SizeResponse`] |
//! | `GET /v1/protect` | → [`ProtectView`] |
//! | `POST /v1/protect/apply` | [`ProtectRequest`] → [`ProtectResponse`] |
//! | `POST /v1/protect/fire/{preset}` | [`FireRequest`] → [`ProtectResponse`] |
//! | `POST /v1/protect/lift` | [`LiftRequest`] → [`ProtectResponse`] |
//! | `POST /v1/protect/rollback` | [`RollbackRequest`] → [`ProtectResponse`] |
//! | `POST /v1/protect/dry-run` | [`DryRunQuestion`] → [`DryRunAnswer`] |
//! | `GET /v1/protect/dead-letters` | → [`DeadLetters`] |
//! | `POST /v1/protect/dead-letters/{id}/retry` | → [`RetriedLetter`] |
//! | `GET /v1/protect/history/{name}` | → [`model::PolicyHistory`] |
//! | `GET /v1/incidents?state=&service=&limit=` | → `Vec<Incident>`, newest first |
//! | `GET /v1/incidents/{id}` | → [`Incident`] |
//! | `POST /v1/incidents/{id}/ack` | → [`Incident`] |
//! | `POST /v1/incidents/{id}/silence` | [`SilenceRequest`] → [`SilenceResponse`] |
//! | `GET /v1/metrics/range?name=&service=&instance=&from_ms=&to_ms=&step_ms=` | → `Vec<SeriesView>` |
//! | `GET /metrics` | → Prometheus exposition |
//! | `GET /api/v1/query?query=&time=` | → as Prometheus answers; so do the next ones, in errors too, and `POST` with a form |
//! | `GET /api/v1/query_range?query=&start=&end=&step=` | → as Prometheus answers |
//! | `GET /api/v1/labels?match[]=` | → as Prometheus answers |
//! | `GET /api/v1/label/{name}/values?match[]=` | → as Prometheus answers |
//! | `GET /api/v1/series?match[]=` | → as Prometheus answers |
//! | `GET /api/v1/metadata` | → as Prometheus answers |
//! | `GET /api/v1/status/buildinfo` | → as Prometheus answers |
//! | `GET /v1/top` | → [`TopView`] |
//! | `GET /v1/rows/hosts?words=&datacenter=&rack=&state=&sort=&descending=&offset=&limit=` | → [`crate::rows::HostRows`] |
//! | `GET /v1/rows/instances?words=&service=&host=&datacenter=&rack=&state=&sort=&descending=&offset=&limit=` | → [`crate::rows::InstanceRows`] |
//! | `GET /v1/services/{name}/now` | → [`crate::rows::ServiceNow`] |
//! | `GET /v1/backup?metrics=` | → bytes: a backup, for `springtide restore` |
//! | `GET /v1/audit?after=&before=&words=&limit=` | → `Vec<AuditEntry>` |
//! | `GET /v1/live?only=` | → server-sent events `layout`, data [`crate::live::Layout`], and `tick`, data [`crate::live::Tick`] |
//! | `GET /v1/watch` | → server-sent events `change`, data [`ChangeView`] |
//! | `GET /v1/status` | → [`Status`] |
//! | `GET /openapi.json`, `GET /healthz` | |

mod incidents;
mod operations;
mod protect;

pub use incidents::*;
pub use operations::*;
pub use protect::*;

use model::{Digest, InstanceId, InstanceIntent, Resource, ServiceName, Shape, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An error, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Short stable code: `invalid_manifest`, `not_found`, `conflict`, `unauthorized`, `refused`, `internal`.
    pub code: String,
    /// One sentence: what was wrong, and what would be right.
    pub message: String,
    /// Places in the manifests, when manifests were at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// A fault in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1; 0 when the fault has none.
    pub line: u32,
    /// The field, such as `shape.cpu`; empty when the whole document is at fault.
    pub field: String,
    /// What was wrong, and what would be right.
    pub message: String,
}

/// Manifests to plan or apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApplyRequest {
    /// The files, with their text.
    pub files: Vec<ManifestFile>,
    /// Delete what was applied before and is in none of the files.
    #[serde(default)]
    pub prune: bool,
    /// Digests of packages that the caller has and uploads before it applies: a plan takes them as here. Apply does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<String>,
}

/// One manifest file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ManifestFile {
    /// Its path, for messages.
    pub path: String,
    /// YAML, one or more documents.
    pub text: String,
}

/// What apply would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanResponse {
    /// Revision the plan was made at.
    pub revision: u64,
    /// Changes, unchanged resources left out.
    pub changes: Vec<ResourceChange>,
    /// Resources that stay as they are.
    pub unchanged: u32,
    /// What will follow, for people: "lottery: 2 → 4 instances", "lottery: rollout of sha256:…".
    pub consequences: Vec<String>,
}

/// One change of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceChange {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// What happens to it.
    pub action: ChangeAction,
    /// Changed fields (updates only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeAction {
    /// It is new.
    Create,
    /// Some fields change.
    Update,
    /// It goes.
    Delete,
}

/// One changed field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Path of the field, `shape.cpu`.
    pub field: String,
    /// Value before; null when it was absent.
    pub before: serde_json::Value,
    /// Value after; null when it goes.
    pub after: serde_json::Value,
}

/// What apply changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApplyResponse {
    /// Revision at which it took effect.
    pub revision: u64,
    /// The changes made.
    pub changes: Vec<ResourceChange>,
    /// What will follow, for people.
    pub consequences: Vec<String>,
}

/// A stored resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceView {
    /// Revision of its last change.
    pub revision: u64,
    /// The resource, as a manifest would have it.
    #[schema(value_type = Object)]
    pub resource: Resource,
}

/// A page about one thing, made of titled sections, for `describe`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Description {
    /// Heading.
    pub title: String,
    /// Sections in order.
    pub sections: Vec<Section>,
}

/// A section of a description.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Column heads; empty for a list of name and value.
    pub head: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
}

/// One instance, as intended and as seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Id.
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// Service.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// Host.
    pub host: String,
    /// Datacenter.
    pub datacenter: String,
    /// State wanted.
    #[schema(value_type = String)]
    pub intent: InstanceIntent,
    /// State seen, as the agent last said (`healthy`, `starting`, …; `unknown` when its agent has not reported, `lost`
    /// when its host is).
    pub phase: String,
    /// Why, when not well.
    pub message: String,
    /// Restarts so far.
    pub restarts: u32,
    /// When the phase began.
    pub since: UnixMs,
    /// `address:port` that carries traffic; empty when it has no port.
    pub endpoint: String,
    /// Share of traffic, full share = 1000.
    pub weight: u32,
    /// Process id of its first process; 0 when none.
    pub pid: u32,
    /// Package version.
    pub package_version: String,
    /// Package digest.
    #[schema(value_type = String)]
    pub package_digest: Digest,
    /// Shape.
    #[schema(value_type = Object)]
    pub shape: Shape,
}

/// One host, as declared and as seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    /// Name.
    pub name: String,
    /// Datacenter.
    pub datacenter: String,
    /// Rack.
    pub rack: String,
    /// Pool.
    pub pool: String,
    /// `connected`, `lost` (since when: see `since`) or `unknown` (never seen since the server started).
    pub state: String,
    /// When that state began; a new stream of the host's agent begins it anew.
    pub since: UnixMs,
    /// Nothing new is placed here.
    pub cordoned: bool,
    /// Instances placed.
    pub instances: u32,
    /// CPU given out and in all, in thousandths of a core.
    pub cpu_millis_used: u64,
    /// CPU in all.
    pub cpu_millis: u64,
    /// Memory given out.
    pub memory_bytes_used: u64,
    /// Memory in all.
    pub memory_bytes: u64,
    /// How its agent isolates instances.
    pub isolation: String,
}

/// One service, as wanted and as seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Name.
    pub name: String,
    /// Business.
    pub business: String,
    /// Layer.
    pub layer: String,
    /// Package and version.
    pub package: String,
    /// Instances wanted.
    pub wanted: u32,
    /// Instances healthy.
    pub healthy: u32,
    /// Instances in all.
    pub placed: u32,
    /// Operation at work on it, if any.
    #[schema(value_type = Option<String>)]
    pub operation: Option<String>,
}

/// A sizing asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SizeRequest {
    /// The event.
    pub event: String,
    /// Start the scale operations at once.
    #[serde(default)]
    pub apply: bool,
}

/// What an event needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SizeResponse {
    /// The event.
    pub event: String,
    /// Per service.
    pub services: Vec<ServiceSize>,
    /// Each shortage, named.
    pub shortages: Vec<String>,
    /// Operations started (with `apply`).
    pub operations: Vec<String>,
}

/// What an event needs of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSize {
    /// The service (or external).
    pub service: String,
    /// Requests a second expected.
    pub load_rps: f64,
    /// Capacity of one instance; absent: no curve yet.
    pub capacity_rps: Option<f64>,
    /// Where the capacity comes from: `curve op-12`, or why there is none.
    pub basis: String,
    /// Instances now, by datacenter.
    pub now: BTreeMap<String, u32>,
    /// Instances needed, by datacenter.
    pub needed: BTreeMap<String, u32>,
    /// Utilisation at the peak with all datacenters up, 0 to 1.
    pub utilisation: f64,
    /// Utilisation at the peak with the worst datacenter lost, 0 to 1.
    pub utilisation_one_lost: f64,
}

/// A series over a time range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesView {
    /// Metric name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Points: time and value.
    pub points: Vec<(UnixMs, f64)>,
}

/// The fleet at this second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopView {
    /// When.
    pub at: UnixMs,
    /// Services.
    pub services: Vec<TopRow>,
    /// Instances.
    pub instances: Vec<TopRow>,
    /// Hosts.
    pub hosts: Vec<TopRow>,
}

/// A line of `top`. Absent numbers mean: not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopRow {
    /// Name.
    pub name: String,
    /// Service (instances) or datacenter (hosts).
    pub group: String,
    /// State, or healthy/wanted.
    pub state: String,
    /// Requests a second.
    pub qps: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f64>,
    /// Errors a second.
    pub errors_per_second: Option<f64>,
    /// Fast rejections a second.
    pub rejects_per_second: Option<f64>,
    /// CPU used, in cores.
    pub cpu_cores: Option<f64>,
    /// CPU allowed, in cores.
    pub cpu_cores_max: Option<f64>,
    /// Memory used.
    pub memory_bytes: Option<u64>,
    /// Memory allowed.
    pub memory_bytes_max: Option<u64>,
    /// Share of time throttled, 0 to 1.
    pub throttled: Option<f64>,
    /// Share of time some task waited for CPU (PSI), 0 to 1.
    pub cpu_pressure: Option<f64>,
    /// Share of time some task waited for memory (PSI), 0 to 1.
    pub memory_pressure: Option<f64>,
}

/// One entry of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Position in the log, from 1.
    pub sequence: u64,
    /// When.
    pub at: UnixMs,
    /// Who: `unix:root`, `token:…`, `reconciler`, `op-12`.
    pub who: String,
    /// Revision of the store that the change made.
    pub revision: u64,
    /// What: `Service lottery`, `operation op-3`.
    pub what: String,
    /// Value before.
    pub before: serde_json::Value,
    /// Value after.
    pub after: serde_json::Value,
}

/// A committed change, for watchers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Revision.
    pub revision: u64,
    /// Store key.
    pub key: String,
    /// New value; null when deleted.
    pub value: serde_json::Value,
}

/// How the control plane itself is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the binary.
    pub version: String,
    /// Revision of the store.
    pub revision: u64,
    /// Hosts connected, declared.
    pub hosts_connected: u32,
    /// Hosts declared.
    pub hosts: u32,
    /// Proxies connected.
    pub proxies: u32,
    /// Operations not ended.
    pub operations_open: u32,
    /// False until a quorum of agents has reported since the start: nothing is repaired before.
    pub settled: bool,
    /// Address of entry traffic, when one is known.
    pub entry_address: Option<String>,
    /// When this server started.
    pub started_at: UnixMs,
    /// Why nothing is changed at present: the disk of its data folder refuses. Absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Why incidents may be missed at present: detection crashed. Absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_trouble: Option<String>,
}
