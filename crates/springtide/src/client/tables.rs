//! The tables of `get` and `operation list`.

use super::output::{Table, age, bytes};
use super::progress;
use api::http::{AuditEntry, HostView, InstanceView, ResourceView, ServiceView};
use model::{Curve, GateVerdict, Kind, Operation, Resource};
use serde::Serialize;
use std::collections::BTreeMap;

/// A word of the model as written on the wire: `too_few_requests` → `too few requests`.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn cores(millis: u64) -> String {
    format!("{:.1}", millis as f64 / 1_000.0)
}

/// Services, as wanted and as seen.
pub fn services(services: &[ServiceView]) -> Table {
    let head = ["NAME", "BUSINESS", "LAYER", "PACKAGE", "HEALTHY", "PLACED", "OPERATION"];
    let mut table = Table::new(&head).numbers(&[4, 5]).spare(&[1, 2, 5]);
    for one in services {
        let healthy = format!("{}/{}", one.healthy, one.wanted);
        let operation = one.operation.clone().unwrap_or_default();
        let (name, business) = (one.name.clone(), one.business.clone());
        table.row([name, business, one.layer.clone(), one.package.clone(), healthy, one.placed.to_string(), operation]);
    }
    table
}

/// Hosts, as declared and as seen.
pub fn hosts(hosts: &[HostView]) -> Table {
    let head = ["NAME", "DATACENTER", "RACK", "POOL", "STATE", "SINCE", "INSTANCES", "CPU", "MEMORY", "ISOLATION"];
    let mut table = Table::new(&head).numbers(&[6]).spare(&[9, 3, 2, 5]);
    for one in hosts {
        let state = if one.cordoned { format!("{}, drained", one.state) } else { one.state.clone() };
        let since = if one.since == 0 { String::new() } else { age(one.since) };
        let cpu = format!("{}/{}", cores(one.cpu_millis_used), cores(one.cpu_millis));
        let memory = format!("{}/{}", bytes(one.memory_bytes_used), bytes(one.memory_bytes));
        let place = [one.name.clone(), one.datacenter.clone(), one.rack.clone(), one.pool.clone()];
        table.row(place.into_iter().chain([
            state,
            since,
            one.instances.to_string(),
            cpu,
            memory,
            one.isolation.clone(),
        ]));
    }
    table
}

/// Instances, as wanted and as seen.
pub fn instances(instances: &[InstanceView]) -> Table {
    let head = [
        "INSTANCE",
        "SERVICE",
        "HOST",
        "DATACENTER",
        "PHASE",
        "SINCE",
        "ENDPOINT",
        "WEIGHT",
        "VERSION",
        "RESTARTS",
        "MESSAGE",
    ];
    let mut table = Table::new(&head).numbers(&[7, 9]).spare(&[3, 1, 8, 5]);
    for one in instances {
        let phase = match one.intent {
            model::InstanceIntent::Draining => format!("{} (draining)", one.phase),
            _ => one.phase.clone(),
        };
        let since = if one.since == 0 { String::new() } else { age(one.since) };
        table.row([
            one.instance.to_string(),
            one.service.to_string(),
            one.host.clone(),
            one.datacenter.clone(),
            phase,
            since,
            one.endpoint.clone(),
            one.weight.to_string(),
            one.package_version.clone(),
            one.restarts.to_string(),
            one.message.clone(),
        ]);
    }
    table
}

/// Operations.
pub fn operations(operations: &[Operation]) -> Table {
    let mut table = Table::new(&["OPERATION", "WHAT", "PHASE", "BY", "AGE", "ADDS", "REMOVES", "MESSAGE"])
        .numbers(&[5, 6])
        .spare(&[3, 5, 6]);
    for one in operations {
        table.row([
            one.id.to_string(),
            progress::title(one),
            progress::standing(one).to_owned(),
            one.who.clone(),
            age(one.created_at),
            one.adds.len().to_string(),
            one.removes.len().to_string(),
            progress::reason(one),
        ]);
    }
    table
}

/// Judgements of gray stages.
pub fn verdicts(verdicts: &[GateVerdict]) -> Table {
    let head = ["GRAY", "OUTCOME", "REQUESTS NEW", "RUNNING", "ERRORS NEW", "RUNNING", "P99 NEW", "RUNNING"];
    let mut table = Table::new(&head).numbers(&[0, 2, 3, 4, 5, 6, 7]);
    let ms = |value: f64| if value > 0.0 { format!("{value:.1} ms") } else { "-".to_owned() };
    for one in verdicts {
        table.row([
            format!("{:.1}%", f64::from(one.gray_permille) / 10.0),
            word(&one.outcome),
            one.requests_new.to_string(),
            one.requests_running.to_string(),
            format!("{:.3}%", one.error_rate_new * 100.0),
            format!("{:.3}%", one.error_rate_running * 100.0),
            ms(one.latency_p99_ms_new),
            ms(one.latency_p99_ms_running),
        ]);
    }
    table
}

fn interval(of: &model::Interval) -> String {
    let high = if of.high.is_finite() { format!("{:.0}", of.high) } else { "?".to_owned() };
    format!("{:.0} to {high}", of.low)
}

/// Curves, newest first.
pub fn curves(curves: &[Curve]) -> Table {
    let head = [
        "OPERATION",
        "SERVICE",
        "VERSION",
        "HOST TYPE",
        "SHAPE",
        "CAPACITY",
        "95% INTERVAL",
        "CPU/REQUEST",
        "BINDING",
        "AGE",
    ];
    let mut table = Table::new(&head).numbers(&[5, 7]).spare(&[3, 4, 2, 7]);
    for one in curves {
        table.row([
            one.operation.to_string(),
            one.service.to_string(),
            one.package_version.clone(),
            one.host_type.to_string(),
            one.shape.to_string(),
            format!("{}{:.0}/s", if super::curve::is_lower_bound(one) { "≥ " } else { "" }, one.capacity_rps.value),
            if super::curve::is_lower_bound(one) { "-".to_owned() } else { interval(&one.capacity_rps) },
            format!("{:.0} µs", one.cpu_us_per_request.value),
            super::curve::binding(one),
            age(one.measured_at),
        ]);
    }
    table
}

/// The audit.
pub fn audit(entries: &[AuditEntry]) -> Table {
    let mut table = Table::new(&["#", "WHEN", "WHO", "REVISION", "WHAT", "CHANGE"]).numbers(&[0, 3]).spare(&[3]);
    for one in entries {
        let change = match (one.before.is_null(), one.after.is_null()) {
            (true, false) => "created",
            (false, true) => "deleted",
            _ => "changed",
        };
        let when = model::time::rfc3339(one.at);
        table.row([
            one.sequence.to_string(),
            when,
            one.who.clone(),
            one.revision.to_string(),
            one.what.clone(),
            change.to_owned(),
        ]);
    }
    table
}

fn counts<K: ToString, V: ToString>(map: &BTreeMap<K, V>) -> String {
    let parts: Vec<String> =
        map.iter().map(|(name, count)| format!("{}={}", name.to_string(), count.to_string())).collect();
    parts.join(" ")
}

fn optional<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(String::new, ToString::to_string)
}

/// Resources of one kind, as declared.
pub fn resources(kind: Kind, views: &[ResourceView]) -> Table {
    let head: &[&str] = match kind {
        Kind::Region | Kind::Business => &["NAME"],
        Kind::Datacenter => &["NAME", "REGION"],
        Kind::Rack => &["NAME", "DATACENTER", "POWER WATTS"],
        Kind::Circuit => &["NAME", "FROM", "TO", "MBPS"],
        Kind::HostType => &["NAME", "CPU", "MEMORY", "POWER WATTS"],
        Kind::Host => &["NAME", "RACK", "HOST TYPE", "ADDRESS", "POOL"],
        Kind::External => &["NAME", "REQUESTS/S", "ADDRESS"],
        Kind::Package => &["NAME", "VERSION", "DIGEST"],
        Kind::Environment => &["NAME", "VARIABLES", "DATACENTERS"],
        Kind::ConfigSet => &["NAME", "FILES"],
        Kind::Service => &["NAME", "BUSINESS", "LAYER", "PACKAGE", "SHAPE", "INSTANCES"],
        Kind::Event => &["NAME", "BUSINESS", "STARTS", "ENTRIES"],
        Kind::Policy => &["NAME", "ACTION", "ORDER", "ENDS"],
        Kind::Preset => &["NAME", "POLICIES"],
        Kind::AlertRule => &["NAME", "SEVERITY", "EXPRESSION"],
        Kind::Receiver => &["NAME", "TO", "FROM SEVERITY", "SERVICES"],
    };
    let mut table = Table::new(head);
    for view in views {
        let name = view.resource.name().to_owned();
        table.row(std::iter::once(name).chain(cells(&view.resource)));
    }
    table
}

fn cells(resource: &Resource) -> Vec<String> {
    match resource {
        Resource::Region(_) | Resource::Business(_) => Vec::new(),
        Resource::Datacenter(of) => vec![of.region.to_string()],
        Resource::Rack(of) => vec![of.datacenter.to_string(), optional(&of.power_watts_max.map(|watts| watts.0))],
        Resource::Circuit(of) => {
            vec![of.between[0].to_string(), of.between[1].to_string(), of.bandwidth_mbps.0.to_string()]
        }
        Resource::HostType(of) => {
            vec![of.cpu.to_string(), of.memory.to_string(), optional(&of.power_watts.map(|watts| watts.0))]
        }
        Resource::Host(of) => {
            vec![of.rack.to_string(), of.host_type.to_string(), of.address.to_string(), of.pool.to_string()]
        }
        Resource::External(of) => vec![of.requests_per_second_max.to_string(), optional(&of.address)],
        Resource::Package(of) => vec![of.version.clone(), optional(&of.digest)],
        Resource::Environment(of) => vec![of.variables.len().to_string(), of.datacenters.len().to_string()],
        Resource::ConfigSet(of) => vec![of.files.keys().cloned().collect::<Vec<_>>().join(" ")],
        Resource::Service(of) => vec![
            of.business.to_string(),
            of.layer.as_str().to_owned(),
            of.package.to_string(),
            of.shape.to_string(),
            counts(&of.instances),
        ],
        Resource::Event(of) => {
            vec![of.business.to_string(), optional(&of.starts_at), counts(&of.entry_requests_per_second)]
        }
        Resource::Policy(of) => vec![of.action.to_string(), of.order.to_string(), of.expires_at.to_string()],
        Resource::Preset(of) => {
            vec![of.policies.iter().map(|policy| policy.name.to_string()).collect::<Vec<_>>().join(" ")]
        }
        Resource::AlertRule(of) => vec![of.severity.to_string(), of.expression.clone()],
        Resource::Receiver(of) => {
            let services: Vec<&str> = of.services.iter().map(|service| service.as_str()).collect();
            let to = of.webhook.clone().unwrap_or_else(|| of.command.join(" "));
            vec![to, of.severity_min.to_string(), services.join(" ")]
        }
    }
}
