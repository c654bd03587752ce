//! Tables over the live fleet: filtered, sorted and cut by the server, so that a page holds only the rows in sight.
//!
//! `GET /v1/rows/hosts` and `GET /v1/rows/instances` are made from the same frame as the ticks of `GET /v1/live`;
//! `GET /v1/services/{name}/now` is what a service's page shows beside them.

use model::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostRows {
    /// When.
    pub at: UnixMs,
    /// How many there are that fit the filter.
    pub total: u64,
    /// Those asked for, in the order asked for.
    pub rows: Vec<HostRow>,
}

/// A host with its numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostRow {
    /// Name.
    pub name: String,
    /// Datacenter.
    pub datacenter: String,
    /// Rack.
    pub rack: String,
    /// `unknown`, `connected` or `lost`; `, cordoned` behind it when it takes no new instances.
    pub state: String,
    /// Instances placed on it.
    pub instances: u32,
    /// CPU used, as a share of the machine's, 0 to 1.
    pub cpu: Option<f32>,
    /// Memory used, as a share of the machine's, 0 to 1.
    pub memory: Option<f32>,
    /// CPU given to instances, as a share of the host's, 0 to 1.
    pub given: Option<f32>,
}

/// Instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceRows {
    /// When.
    pub at: UnixMs,
    /// How many there are that fit the filter.
    pub total: u64,
    /// Those asked for, in the order asked for.
    pub rows: Vec<InstanceRow>,
}

/// An instance with its numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceRow {
    /// Name.
    pub name: String,
    /// Service.
    pub service: String,
    /// Host.
    pub host: String,
    /// Datacenter of the host.
    pub datacenter: String,
    /// State, as in `GET /v1/instances`.
    pub state: String,
    /// Requests a second.
    pub rps: Option<f32>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f32>,
    /// Errors of any kind, as a share of requests, 0 to 1.
    pub errors: Option<f32>,
    /// CPU used, as a share of its quota, 0 to 1.
    pub cpu: Option<f32>,
    /// Memory used, as a share of its limit, 0 to 1.
    pub memory: Option<f32>,
}

/// A service at this second: who calls it, whom it calls, and what its instances run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceNow {
    /// When.
    pub at: UnixMs,
    /// Calls to it, busiest first; `outside` is the entry.
    pub callers: Vec<Edge>,
    /// Its calls, busiest first.
    pub calls: Vec<Edge>,
    /// What its instances run, by datacenter; most instances first.
    pub runs: Vec<Runs>,
}

/// Calls between two services over the last seconds. Absent numbers: nothing was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    /// The service at the other end.
    pub peer: String,
    /// True when the manifest of the caller names the service called.
    pub declared: bool,
    /// Requests a second.
    pub rps: Option<f32>,
    /// Requests a second that failed other than by a fast rejection.
    pub failed_rps: Option<f32>,
    /// Fast rejections a second.
    pub rejected_rps: Option<f32>,
    /// Median latency.
    pub p50_ms: Option<f32>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f32>,
}

/// Instances of one datacenter that run the same bytes and the same configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// Datacenter.
    pub datacenter: String,
    /// Digest of the package.
    pub package: String,
    /// Digest of the resolved configuration.
    pub config: String,
    /// True when this is what they should run.
    pub wanted: bool,
    /// How many.
    pub instances: u32,
    /// Some of them, at most 5.
    pub some: Vec<String>,
}
