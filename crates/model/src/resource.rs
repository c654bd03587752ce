//! The kinds of resource a manifest can declare, and their fields.
//!
//! Reading and checking them is `manifest`'s and `validate`'s work; this file is the vocabulary.

pub use crate::alert::{AlertRule, Receiver};
use crate::name::*;
pub use crate::policy::{Policy, Preset};
use crate::unit::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Declares the resources: the enum, the kinds, the names.
macro_rules! resources {
    ($($kind:ident),* $(,)?) => {
        /// What a resource is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind { $(#[doc = concat!("A `", stringify!($kind), "`.")] $kind),* }

        impl Kind {
            /// Every kind, in the order in which references point (later kinds refer to earlier ones).
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The kind as written in a manifest.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind)),* }
            }
        }

        /// One resource of any kind.
        #[expect(clippy::large_enum_variant, reason = "each lives behind an Arc of its own; a Box would only add a pointer")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Resource { $(#[doc = concat!("A [`", stringify!($kind), "`].")] $kind($kind)),* }

        impl Resource {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self { $(Resource::$kind(_) => Kind::$kind),* }
            }

            /// The name, unique within the kind.
            pub fn name(&self) -> &str {
                match self { $(Resource::$kind(r) => r.name.as_str()),* }
            }
        }
    };
}

resources! {
    Region, Datacenter, Rack, Circuit, HostType, Host, Business, External, Package, Environment,
    ConfigSet, Service, Event, Policy, Preset, AlertRule, Receiver,
}

impl Resource {
    /// Kind and name.
    pub fn key(&self) -> ResourceKey {
        ResourceKey { kind: self.kind(), name: self.name().to_owned() }
    }
}

/// Names one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// The kind.
    pub kind: Kind,
    /// The name, unique within the kind.
    pub name: String,
}

impl std::fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// A geographic area.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Name.
    pub name: RegionName,
}

/// A building with its own power and network (an IDC).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datacenter {
    /// Name.
    pub name: DatacenterName,
    /// The region it stands in.
    pub region: RegionName,
}

/// A rack with its power feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// Name.
    pub name: RackName,
    /// The datacenter it stands in.
    pub datacenter: DatacenterName,
    /// What its power feed carries; absent means not limited here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts_max: Option<PowerWatts>,
}

/// A dedicated line between two datacenters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circuit {
    /// Name.
    pub name: CircuitName,
    /// The two datacenters it joins.
    pub between: [DatacenterName; 2],
    /// What it carries in each direction.
    pub bandwidth_mbps: BandwidthMbps,
}

/// A model of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostType {
    /// Name.
    pub name: HostTypeName,
    /// CPU that instances may be given.
    pub cpu: CpuMillis,
    /// Memory that instances may be given.
    pub memory: MemoryBytes,
    /// Power drawn at full load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<PowerWatts>,
}

/// One machine. Its agent registers under this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name.
    pub name: HostName,
    /// The rack it stands in (and through it the datacenter).
    pub rack: RackName,
    /// Its model.
    pub host_type: HostTypeName,
    /// Address on which its instances listen.
    pub address: std::net::IpAddr,
    /// The pool it belongs to; services name the pool they want.
    #[serde(default = "default_pool")]
    pub pool: PoolName,
    /// When set, the host carries only services of this layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<Layer>,
    /// Ports that may be given to instances, first and last.
    #[serde(default = "default_ports")]
    pub ports: PortRange,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

/// The pool of hosts and services that name none.
pub fn default_pool() -> PoolName {
    PoolName::new("general").expect("a literal name is valid")
}

fn default_ports() -> PortRange {
    PortRange { first: 20_000, last: 29_999 }
}

/// A set of services that serve one crowd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Business {
    /// Name.
    pub name: BusinessName,
}

/// What a service may do with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Entry: keeps no data at all.
    Access,
    /// Business logic: a short-lived cache only.
    Logic,
    /// Persists data.
    Storage,
}

impl Layer {
    /// The layer as written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Logic => "logic",
            Self::Storage => "storage",
        }
    }
}

/// How much it hurts when a service is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// May be switched off on the night.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Degrades the business when away.
    High,
    /// The business stops when it stops.
    Critical,
}

impl Criticality {
    /// Business level of tasks that enter by such a service: 0 is the most important, 63 the least. Between them is room
    /// for levels that a later version may add.
    pub const fn business_level(self) -> u8 {
        match self {
            Self::Critical => 0,
            Self::High => 8,
            Self::Normal => 16,
            Self::Low => 32,
        }
    }
}

/// One service: what runs, in which shape, where, and what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name.
    pub name: ServiceName,
    /// The business it belongs to.
    pub business: BusinessName,
    /// Its layer.
    pub layer: Layer,
    /// The package it runs.
    pub package: PackageName,
    /// Command line after the package's own command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its config set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigSetName>,
    /// The environment whose variables it sees and its config refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// CPU, memory and pids of each instance.
    pub shape: Shape,
    /// Named ports; each instance gets a host port for each, in the variable `PORT_<NAME>`. The first carries traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortName>,
    /// Which requests from outside come to it (access layer only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// How the agent and the proxies tell that an instance is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Where each instance tells its own numbers, in the Prometheus text format; absent means it tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ServiceMetrics>,
    /// Instances wanted in each datacenter; `scale` overrules it.
    pub instances: BTreeMap<DatacenterName, u32>,
    /// How much it hurts when it is away.
    #[serde(default)]
    pub criticality: Criticality,
    /// The pool of hosts it runs on.
    #[serde(default = "default_pool")]
    pub pool: PoolName,
    /// At most this many instances on one host; absent means not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_host_max: Option<u32>,
    /// Services it must not share a host with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<ServiceName>,
    /// The promise to its callers.
    #[serde(default)]
    pub slo: Slo,
    /// How an instance is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Host folders it persists to (storage layer only), each absolute; `data` names the instance's own data folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persistent_paths: Vec<String>,
    /// Life of its cached data (logic layer only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_seconds_max: Option<u32>,
    /// How the proxies carry requests to it.
    #[serde(default, skip_serializing_if = "Traffic::is_default")]
    pub traffic: Traffic,
    /// The user's own commands or webhooks around the steps of an operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// How the proxies carry requests to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// What its instances speak on their first port.
    #[serde(default)]
    pub protocol: Protocol,
    /// How an instance is chosen among those of one weight.
    #[serde(default)]
    pub balance: Balance,
    /// Header whose value is hashed; absent means the user, as our own header says (`user-hash` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_header: Option<String>,
    /// Connections of one proxy to one instance; absent means bounded by requests in flight only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
}

impl Traffic {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What instances speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 in clear text with prior knowledge, as gRPC does.
    Http2,
}

/// How an instance is chosen among those of one weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The less loaded of two.
    #[default]
    LeastLoad,
    /// The same instance for the same user, unless it already has 1.25 times its share.
    UserHash,
}

/// Name of a port, `[a-z0-9_]`, since it becomes an environment variable.
pub type PortName = String;

/// Which requests from outside come to a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `Host` header; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Start of the path.
    #[serde(default = "default_path_prefix")]
    pub path_prefix: String,
}

fn default_path_prefix() -> String {
    "/".to_owned()
}

/// A call from one service to another, or to an external.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Name of the service or external called.
    pub on: String,
    /// Calls made for each request served.
    #[serde(default = "one")]
    pub calls_per_request: f64,
}

fn one() -> f64 {
    1.0
}

/// An HTTP health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path to GET; a 2xx answer is well.
    pub path: String,
    /// Named port; absent means the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Time between checks.
    #[serde(default = "health_interval_ms")]
    pub interval_ms: u32,
    /// Time allowed for one answer.
    #[serde(default = "health_timeout_ms")]
    pub timeout_ms: u32,
    /// Failures in a row that make an instance unhealthy.
    #[serde(default = "health_failures_max")]
    pub failures_max: u32,
    /// Time from start in which the first success must come.
    #[serde(default = "health_start_ms_max")]
    pub start_ms_max: u32,
}

fn health_interval_ms() -> u32 {
    1_000
}
fn health_timeout_ms() -> u32 {
    1_000
}
fn health_failures_max() -> u32 {
    3
}
fn health_start_ms_max() -> u32 {
    30_000
}

/// Where an instance tells its own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceMetrics {
    /// Named port; absent means the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Path to GET.
    #[serde(default = "metrics_path")]
    pub path: String,
    /// Time between two scrapes.
    #[serde(default = "metrics_interval_ms")]
    pub interval_ms: u32,
}

fn metrics_path() -> String {
    "/metrics".to_owned()
}
fn metrics_interval_ms() -> u32 {
    6_000
}

/// The promise to callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// 99th percentile of latency.
    pub latency_p99_ms: u32,
    /// Share of failed requests.
    pub error_rate: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Self { latency_p99_ms: 250, error_rate: 0.001 }
    }
}

/// How an instance is stopped: weight to zero, wait, TERM, wait, KILL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// Time without new traffic before TERM.
    pub drain_ms: u32,
    /// Time from TERM to KILL.
    pub grace_ms: u32,
}

impl Default for Stop {
    fn default() -> Self {
        Self { drain_ms: 2_000, grace_ms: 10_000 }
    }
}

/// A command or webhook around a step: `{when: before, step: start, command: [check, fast]}`, or `webhook: http://…` in
/// the place of `command`. It may be called again after a crash: the idempotency key
/// `<operation>/<step>/<target>` comes in `SPRINGTIDE_IDEMPOTENCY_KEY` or the `Idempotency-Key` header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HookFields", into = "HookFields")]
pub struct Hook {
    /// Before or after which step.
    pub when: HookWhen,
    /// The step.
    pub step: StepName,
    /// What to call.
    pub call: HookCall,
    /// Time allowed.
    pub timeout_ms: u32,
}

/// A hook as written: `command` and `webhook` stand beside the other fields, and exactly one of them is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookFields {
    when: HookWhen,
    step: StepName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    #[serde(default = "hook_timeout_ms")]
    timeout_ms: u32,
}

impl TryFrom<HookFields> for Hook {
    type Error = &'static str;
    fn try_from(fields: HookFields) -> Result<Self, Self::Error> {
        let call = match (fields.command, fields.webhook) {
            (Some(command), None) if !command.is_empty() => HookCall::Command(command),
            (None, Some(url)) => HookCall::Webhook(url),
            _ => return Err("a hook has either `command` (a program and its arguments) or `webhook` (a URL)"),
        };
        Ok(Self { when: fields.when, step: fields.step, call, timeout_ms: fields.timeout_ms })
    }
}

impl From<Hook> for HookFields {
    fn from(hook: Hook) -> Self {
        let (command, webhook) = match hook.call {
            HookCall::Command(command) => (Some(command), None),
            HookCall::Webhook(url) => (None, Some(url)),
        };
        Self { when: hook.when, step: hook.step, command, webhook, timeout_ms: hook.timeout_ms }
    }
}

fn hook_timeout_ms() -> u32 {
    10_000
}

/// Which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookWhen {
    /// Before the step; a failure stops the operation.
    Before,
    /// After the step.
    After,
}

/// What a hook calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookCall {
    /// A program and its arguments, run by the server.
    Command(Vec<String>),
    /// A URL that gets a POST.
    Webhook(String),
}

/// The steps of the operations that change instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    /// Where and how, from the CMDB: the plan is made, checked and committed.
    Attributes,
    /// Package and config reach the hosts.
    Deploy,
    /// Alarms of the new instances are muted, with an end.
    Silence,
    /// Instances start and check themselves.
    Start,
    /// Traffic comes 1% → 10% → 100%, each stage judged.
    Gray,
    /// Traffic leaves (scale-in, drain).
    Drain,
    /// Instances stop.
    Stop,
    /// The health report is written.
    Report,
}

/// A dependency outside, with a fixed capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Name.
    pub name: ExternalName,
    /// What it takes.
    pub requests_per_second_max: f64,
    /// Where it answers, `host:port`; absent when no traffic of ours is routed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What is deployed: bytes, identical everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Name.
    pub name: PackageName,
    /// Version, for people.
    pub version: String,
    /// Digest of the tar.zst. `apply` fills it from `source` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// File or folder to pack, or a ready `.tar.zst`, relative to the manifest. Only the CLI reads it; never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Program and arguments; a relative program is looked up in the unpacked package.
    pub command: Vec<String>,
}

/// What differs between places: variables, resolved when an instance starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Name.
    pub name: EnvironmentName,
    /// Variables.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Variables that differ in a datacenter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datacenters: BTreeMap<DatacenterName, BTreeMap<String, String>>,
}

/// Configuration files, the same bytes everywhere. `${NAME}` refers to a variable of the environment
/// or to one of the built-in ones, and is resolved at start into the instance's folder; `$$` is a dollar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigSet {
    /// Name.
    pub name: ConfigSetName,
    /// File name → content.
    pub files: BTreeMap<String, String>,
}

/// A planned crowd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Name.
    pub name: EventName,
    /// The business that expects it.
    pub business: BusinessName,
    /// When the crowd comes, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
    /// When it has gone, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Peak requests a second at each entry service.
    pub entry_requests_per_second: BTreeMap<ServiceName, f64>,
}
