//! What goes into a step and what comes out.

pub use capacity::stress::Sample as StressSample;
use model::{Curve, HookCall, HostName, InstanceId, LatencyHistogram, OperationId, Revision, ServiceName, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// What agents and proxies last said. Kept by the server in memory, never stored.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Hosts whose agent has reported since this server started; others are unknown, not dead.
    pub hosts: BTreeMap<HostName, HostObserved>,
    /// Instances as last reported.
    pub instances: BTreeMap<InstanceId, InstanceObserved>,
    /// Traffic of each instance, summed over proxies, counted from this server's start.
    pub traffic: BTreeMap<InstanceId, Traffic>,
    /// Since when proxies have been heard: the start of this server, or when one of them last went away. Shortly after
    /// that, traffic may be carried that is not known here.
    pub traffic_since: UnixMs,
    /// A quorum of agents has reported since the server started: repairs may begin.
    pub settled: bool,
    /// Services of whose newest endpoints some proxy has not confirmed the receipt yet: it may still send requests to an
    /// instance that is to leave, and none to the first one that is there.
    pub proxies_behind: BTreeSet<ServiceName>,
}

/// A host as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostObserved {
    /// Whether its agent is connected.
    pub state: HostState,
    /// Since when.
    pub since: UnixMs,
    /// How it isolates instances.
    pub isolation: String,
}

/// Whether a host's agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It is.
    Connected,
    /// It was, and is not any more; its instances very likely still run.
    Lost,
}

/// An instance as its agent last reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceObserved {
    /// The host that reported it.
    pub host: HostName,
    /// State.
    pub phase: Phase,
    /// When the phase began.
    pub since: UnixMs,
    /// Restarts so far.
    pub restarts: u32,
    /// Why, when not well.
    pub message: String,
    /// Process id; 0 when none.
    pub pid: u32,
    /// Package that it runs, as text of the digest.
    pub package_digest: String,
    /// Config that it runs.
    pub config_digest: String,
}

/// State of an instance (`springtide.v1.Phase` on the wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Package and config on their way.
    Fetching,
    /// Ready to start.
    Deployed,
    /// Runs, health not yet seen.
    Starting,
    /// Runs and is well.
    Healthy,
    /// Runs, health lost.
    Unhealthy,
    /// Exited; waits before the next start.
    Backoff,
    /// Being stopped.
    Stopping,
    /// Gone, nothing left behind.
    Stopped,
    /// Cannot be brought up; the message says why.
    Failed,
}

/// Counters of traffic; they only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Answered.
    pub requests: u64,
    /// Failed.
    pub errors: u64,
    /// Fast rejections.
    pub rejects: u64,
    /// Latencies of those answered.
    pub latency: LatencyHistogram,
}

/// Why a step is taken.
#[derive(Debug, Clone)]
pub enum Event {
    /// The snapshot has these new keys folded in.
    Committed {
        /// Keys that changed.
        keys: Vec<String>,
    },
    /// These hosts or their instances reported, connected or were lost.
    Reported {
        /// The hosts.
        hosts: BTreeSet<HostName>,
    },
    /// Time passed; sent at least every 200 ms.
    Tick,
    /// A hook ended.
    HookDone {
        /// Its idempotency key.
        key: String,
        /// Failure, in words.
        result: Result<(), String>,
    },
    /// A report was written to the records.
    ReportWritten {
        /// Its operation.
        operation: OperationId,
        /// Id of the record.
        record: String,
    },
    /// A curve was written to the records.
    CurveWritten {
        /// Its operation.
        operation: OperationId,
        /// Id of the record.
        record: String,
    },
    /// A reading of the service under stress.
    Stress {
        /// The stress test.
        operation: OperationId,
        /// The reading.
        sample: StressSample,
    },
    /// The server did not commit: a guard failed or the store refused. Decide again on the newer snapshot.
    CommitFailed {
        /// The operation whose commit it was.
        operation: Option<OperationId>,
        /// What the store said.
        why: String,
    },
}

/// What the server is to do. Actions of one step are executed in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Commit a change of intent.
    Commit(Commit),
    /// Run a user's hook, then send [`Event::HookDone`]. May be asked for again after a crash.
    RunHook(HookRun),
    /// Write the health report of an operation, then send [`Event::ReportWritten`]. Idempotent by operation.
    WriteReport {
        /// The operation.
        operation: OperationId,
    },
    /// Write a curve to the records, then send [`Event::CurveWritten`]. Idempotent by operation.
    WriteCurve(Box<Curve>),
    /// Set leased weight overrides of a service; replaces its earlier ones; an empty list ends them.
    Override {
        /// The service.
        service: ServiceName,
        /// The overrides.
        overrides: Vec<Override>,
        /// Life from now; the controller renews well before it ends.
        life_ms: u32,
    },
    /// Sample a service each 100 ms, and send [`Event::Stress`] for its instance, until the life runs out.
    SampleFast {
        /// The stress test.
        operation: OperationId,
        /// The service.
        service: ServiceName,
        /// The instance under test.
        instance: InstanceId,
        /// Life from now.
        life_ms: u32,
    },
}

/// One transaction of intent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// The operation whose journal entry it carries.
    pub operation: Option<OperationId>,
    /// Keys that must not have changed since the snapshot: key and revision (0: must not exist).
    pub guards: Vec<(String, Revision)>,
    /// Writes.
    pub writes: Vec<Write>,
    /// Who, for the audit.
    pub who: String,
}

/// One write; `value` is JSON, absent to delete.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The key (see `model::keys`).
    pub key: String,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// A hook to run.
#[derive(Debug, Clone, PartialEq)]
pub struct HookRun {
    /// Idempotency key, `<operation>/<step>/<when>/<index>@<time of the operation, in ms>`.
    pub key: String,
    /// The operation.
    pub operation: OperationId,
    /// The service.
    pub service: ServiceName,
    /// What to call.
    pub call: HookCall,
    /// Time allowed.
    pub timeout_ms: u32,
}

/// A leased change of one instance's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The instance.
    pub instance: InstanceId,
    /// Its weight while the lease lives (full share = 1000; other instances keep theirs).
    pub weight: u32,
}
