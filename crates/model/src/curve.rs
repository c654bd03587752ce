//! Curves: the measured performance of service × host type × package version. A curve is a record.

use crate::name::*;
use crate::unit::*;
use serde::{Deserialize, Serialize};

/// What one stress test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Id of the record: the operation's id.
    pub operation: OperationId,
    /// The service.
    pub service: ServiceName,
    /// The host type under the instance.
    pub host_type: HostTypeName,
    /// Package version measured.
    pub package_version: String,
    /// The instance measured.
    pub instance: InstanceId,
    /// Shape of the instance.
    pub shape: Shape,
    /// When it was measured.
    pub measured_at: UnixMs,
    /// How long the override stood.
    pub duration_ms: u64,
    /// CPU per request, with its 95% interval.
    pub cpu_us_per_request: Interval,
    /// CPU used without any request, in cores.
    pub background_cores: f64,
    /// Requests a second at which queues begin to grow.
    pub knee_rps: f64,
    /// Highest rate served within the SLO, with its 95% interval.
    pub capacity_rps: Interval,
    /// What ran out first.
    pub binding: BindingResource,
    /// The operators' formula: current peak ÷ empirical CPU ceiling.
    pub plain_estimate_rps: f64,
    /// Requests the test moved onto the instance, and how many of them failed.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Why the test ended.
    pub ended: StressEnd,
    /// The measured points, in order of time.
    pub points: Vec<CurvePoint>,
}

/// A value with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Time since the test began.
    pub at_ms: u64,
    /// Requests a second that arrived.
    pub offered_rps: f64,
    /// Requests a second that completed.
    pub completed_rps: f64,
    /// Mean latency.
    pub latency_mean_ms: f64,
    /// 99th percentile of latency.
    pub latency_p99_ms: f64,
    /// Requests in flight at the end of the interval.
    pub in_flight: f64,
    /// CPU used, in cores.
    pub cpu_cores: f64,
}

/// What ran out first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "resource", rename_all = "snake_case")]
pub enum BindingResource {
    /// The CPU quota of the slice.
    Cpu,
    /// Something that serves one request at a time: a lock, a single thread.
    Serial,
    /// Something that serves a few at a time: workers, a connection pool.
    Concurrency {
        /// How many at a time.
        limit: f64,
    },
    /// Not reached: traffic ran out first; capacity is a lower bound.
    NotReached,
}

/// Why a stress test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StressEnd {
    /// The interval is narrow enough.
    Converged,
    /// The time allowed was used up.
    TimeUp,
    /// All live traffic was on the instance and it still had room.
    TrafficExhausted,
    /// Errors passed the bound.
    Errors,
    /// An operator, or a death, ended it.
    Aborted,
}
