//! The fields of each kind, as manifests write them. A test holds this table against the types in `resource`.

use super::schema::Type::*;
use super::schema::{self, Field, Type, may, must};
use crate::policy::BUSINESS_LEVEL_MAX;
use crate::resource::Kind;

const NAME: Type = Checked("a name", schema::name);
const POSITIVE_U32: Type = Whole(1, u32::MAX as u64);

/// The fields of a kind, `kind` itself left out.
pub(super) fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Region | Kind::Business => NAMED,
        Kind::Datacenter => DATACENTER,
        Kind::Rack => RACK,
        Kind::Circuit => CIRCUIT,
        Kind::HostType => HOST_TYPE,
        Kind::Host => HOST,
        Kind::External => EXTERNAL,
        Kind::Package => PACKAGE,
        Kind::Environment => ENVIRONMENT,
        Kind::ConfigSet => CONFIG_SET,
        Kind::Service => SERVICE,
        Kind::Event => EVENT,
        Kind::Policy => POLICY,
        Kind::Preset => PRESET,
        Kind::AlertRule => ALERT_RULE,
        Kind::Receiver => RECEIVER,
    }
}

const NAMED: &[Field] = &[must("name", NAME)];
const DATACENTER: &[Field] = &[must("name", NAME), must("region", NAME)];
const RACK: &[Field] = &[must("name", NAME), must("datacenter", NAME), may("power_watts_max", POSITIVE_U32)];
const CIRCUIT: &[Field] =
    &[must("name", NAME), must("between", Pair(&NAME)), must("bandwidth_mbps", Whole(1, u64::MAX))];
const HOST_TYPE: &[Field] = &[
    must("name", NAME),
    must("cpu", Checked("an amount of CPU, such as 0.5", schema::cpu)),
    must("memory", Checked("an amount of memory, such as 256MiB", schema::memory)),
    may("power_watts", POSITIVE_U32),
];
const LAYERS: Type = Choice(&["access", "logic", "storage"]);
const PORT_RANGE: Type = Record(&[must("first", Whole(1, 65_535)), must("last", Whole(1, 65_535))]);
const HOST: &[Field] = &[
    must("name", NAME),
    must("rack", NAME),
    must("host_type", NAME),
    must("address", Checked("an IP address", schema::ip)),
    may("pool", NAME),
    may("exclusive", LAYERS),
    may("ports", PORT_RANGE),
];
const EXTERNAL: &[Field] = &[
    must("name", NAME),
    must("requests_per_second_max", Number),
    may("address", Checked("host:port", schema::host_port)),
];
const PACKAGE: &[Field] = &[
    must("name", NAME),
    must("version", Checked("a text", schema::not_empty)),
    may("digest", Checked("a digest", schema::digest)),
    may("source", Checked("a text", schema::not_empty)),
    must("command", List(&Text)),
];
const VARIABLES: Type = Map(schema::variable, &Text);
const ENVIRONMENT: &[Field] =
    &[must("name", NAME), may("variables", VARIABLES), may("datacenters", Map(schema::name, &VARIABLES))];
const CONFIG_SET: &[Field] = &[must("name", NAME), must("files", Map(schema::file_name, &Text))];

const SHAPE: &[Field] = &[
    must("cpu", Checked("an amount of CPU, such as 0.5", schema::cpu)),
    must("memory", Checked("an amount of memory, such as 256MiB", schema::memory)),
    may("pids_max", POSITIVE_U32),
];
const ROUTE: Type = Record(&[
    may("host", Checked("a text", schema::not_empty)),
    may("path_prefix", Checked("a path", schema::url_path)),
]);
const DEPENDENCY: Type = Record(&[must("on", NAME), may("calls_per_request", Number)]);
const HEALTH_CHECK: Type = Record(&[
    must("path", Checked("a path", schema::url_path)),
    may("port", Checked("a port name", schema::port_name)),
    may("interval_ms", Whole(10, 3_600_000)),
    may("timeout_ms", Whole(1, 3_600_000)),
    may("failures_max", Whole(1, 1_000)),
    may("start_ms_max", Whole(1, 86_400_000)),
]);
const METRICS: Type = Record(&[
    may("port", Checked("a port name", schema::port_name)),
    may("path", Checked("a path", schema::url_path)),
    may("interval_ms", Whole(1_000, 3_600_000)),
]);
const SLO: Type = Record(&[may("latency_p99_ms", POSITIVE_U32), may("error_rate", Number)]);
const STOP: Type = Record(&[may("drain_ms", Whole(0, 3_600_000)), may("grace_ms", Whole(0, 3_600_000))]);
const STEPS: Type = Choice(&["attributes", "deploy", "silence", "start", "gray", "drain", "stop", "report"]);
const HOOK: Type = OneOf(
    &["command", "webhook"],
    &[
        must("when", Choice(&["before", "after"])),
        must("step", STEPS),
        may("command", List(&Text)),
        may("webhook", Checked("a URL", schema::url)),
        may("timeout_ms", Whole(1, 3_600_000)),
    ],
);
const TRAFFIC: Type = Record(&[
    may("protocol", Choice(&["http1", "http2"])),
    may("balance", Choice(&["least-load", "user-hash"])),
    may("hash_header", Checked("a header name", schema::header_name)),
    may("connections_max", Whole(1, 100_000)),
]);
const SERVICE: &[Field] = &[
    must("name", NAME),
    must("business", NAME),
    must("layer", LAYERS),
    must("package", NAME),
    may("args", List(&Text)),
    may("config", NAME),
    may("environment", NAME),
    must("shape", Shorthand(schema::shape, SHAPE)),
    may("ports", List(&Checked("a port name", schema::port_name))),
    may("routes", List(&ROUTE)),
    may("dependencies", List(&DEPENDENCY)),
    may("health_check", HEALTH_CHECK),
    may("metrics", METRICS),
    must("instances", Map(schema::name, &Whole(0, 1_000_000))),
    may("criticality", Choice(&["low", "normal", "high", "critical"])),
    may("pool", NAME),
    may("per_host_max", POSITIVE_U32),
    may("avoid", List(&NAME)),
    may("slo", SLO),
    may("stop", STOP),
    may("persistent_paths", List(&Text)),
    may("cache_seconds_max", Whole(0, u32::MAX as u64)),
    may("traffic", TRAFFIC),
    may("hooks", List(&HOOK)),
];
const EVENT: &[Field] = &[
    must("name", NAME),
    must("business", NAME),
    may("starts_at", Checked("a time, such as 2027-02-05T20:00:00+08:00", schema::time)),
    may("ends_at", Checked("a time, such as 2027-02-05T20:00:00+08:00", schema::time)),
    must("entry_requests_per_second", Map(schema::name, &Number)),
];

const ROUTE_PREFIX: Type = Checked("a path", schema::url_path);
const ANSWER: Type = Record(ANSWER_FIELDS);
const ANSWER_FIELDS: &[Field] =
    &[may("status", Whole(200, 599)), may("headers", Map(schema::header_name, &Text)), may("body", Text)];
const THROTTLE: Type = OneOf(
    &["users_percent", "requests_per_second", "business_levels_from"],
    &[
        may("users_percent", Number),
        may("requests_per_second", Number),
        may("business_levels_from", Whole(0, BUSINESS_LEVEL_MAX as u64)),
    ],
);
const DEGRADE: Type = Record(&[may("cached_seconds_max", Whole(1, 86_400)), may("answer", ANSWER)]);
const SLOW: Type = Record(&[
    must("requests_per_second", Number),
    may("key_header", Checked("a header", schema::header_name)),
    may("waiting_max", POSITIVE_U32),
]);
const ACTION: Type = OneOf(
    &["throttle", "suppress", "degrade", "slow"],
    &[may("throttle", THROTTLE), may("suppress", ANSWER), may("degrade", DEGRADE), may("slow", SLOW)],
);
const WHEN: Type = Checked("a CEL expression", schema::when);
const ORDER: Type = Whole(0, u32::MAX as u64);
const EXPIRES_AT: Type = Checked("a time, such as 2027-02-05T20:30:00+08:00", schema::time);
const POLICY: &[Field] = &policy(must("expires_at", EXPIRES_AT));
/// A policy whose end is given beside the manifest.
pub(super) const POLICY_ENDING: &[Field] = &policy(may("expires_at", EXPIRES_AT));

const fn policy(expires_at: Field) -> [Field; 10] {
    [
        must("name", NAME),
        may("business", NAME),
        may("service", NAME),
        may("route", ROUTE_PREFIX),
        may("datacenter", NAME),
        may("when", WHEN),
        must("action", ACTION),
        may("order", ORDER),
        expires_at,
        may("preset", NAME),
    ]
}

const PRESET_POLICY: Type = Record(&[
    must("name", NAME),
    may("business", NAME),
    may("service", NAME),
    may("route", ROUTE_PREFIX),
    may("datacenter", NAME),
    may("when", WHEN),
    must("action", ACTION),
    may("order", ORDER),
    must("for", Checked("a life, such as 30m", schema::life)),
]);
const PRESET: &[Field] = &[must("name", NAME), must("policies", List(&PRESET_POLICY))];

const SEVERITIES: Type = Choice(&["info", "warning", "critical"]);
const ALERT_RULE: &[Field] = &[
    must("name", NAME),
    must("expression", Checked("a rule, such as `errors(service=pay) > 2% for 10s`", schema::rule)),
    may("severity", SEVERITIES),
    may("summary", Checked("a text", schema::not_empty)),
];
const RECEIVER: &[Field] = &[
    must("name", NAME),
    may("webhook", Checked("a URL", schema::url)),
    may("command", List(&Text)),
    may("services", List(&NAME)),
    may("severity_min", SEVERITIES),
    may("resolved", Flag),
    may("timeout_ms", Whole(100, 60_000)),
    may("repeat_minutes", Whole(1, 10_080)),
];
