//! Incidents in words: titles, evidence, and the commands that may help.

use super::board::Case;
use api::http::{Incident as View, IncidentCause, IncidentFinding};
use detect::{Cause, CauseKind, EntityKind, EntityRef, Evidence, FindingRecord, IncidentState, Signal, Topology};
use model::Severity;
use std::collections::BTreeMap;

/// Services from which on an incident is critical by its reach alone.
const SERVICES_CRITICAL: u32 = 3;

/// Who stands where, by name: what commands need.
#[derive(Debug, Default)]
pub struct Whereabouts {
    /// Service and host of each instance.
    instances: BTreeMap<String, (String, String)>,
    /// Instances of each service.
    counts: BTreeMap<String, u32>,
}

impl Whereabouts {
    /// Those of a topology.
    pub fn of(topology: &Topology) -> Self {
        let mut all = Self::default();
        for instance in topology.instances() {
            let service = topology.services()[instance.service as usize].name.clone();
            let host = topology.hosts()[instance.host as usize].name.clone();
            *all.counts.entry(service.clone()).or_default() += 1;
            all.instances.insert(instance.name.clone(), (service, host));
        }
        all
    }

    fn service_of(&self, entity: &EntityRef) -> Option<String> {
        match entity.kind {
            EntityKind::Service => Some(entity.name.clone()),
            EntityKind::Instance => self.instances.get(&entity.name).map(|(service, _)| service.clone()),
            _ => None,
        }
    }
}

/// An incident as people see it.
pub fn view(case: &Case, places: &Whereabouts, silenced_until: Option<u64>) -> View {
    let of = &case.incident;
    View {
        id: of.id.clone(),
        state: state(of.state).to_owned(),
        title: title(case),
        severity: severity(case).to_string(),
        started_at: of.onset_ms,
        opened_at: of.opened_ms,
        updated_at: of.updated_ms,
        ended_at: of.resolved_ms.filter(|_| !of.state.is_open()),
        acknowledged_by: of.acknowledged_by.clone(),
        silenced_until,
        rule: case.rule.as_ref().map(|rule| rule.name.clone()),
        reach: reach(case),
        services: of.blast.services.clone(),
        instances: of.blast.instances.clone(),
        datacenters: of.blast.datacenters.clone(),
        causes: of.causes.iter().map(|cause| cause_view(cause, places)).collect(),
        going_on: case.going_on.clone(),
        findings: of.findings.iter().map(finding).collect(),
        next: next(case, places),
        reopened: of.reopened,
        merged_into: of.merged_into.clone(),
        change: case.change,
    }
}

fn state(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Open => "open",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
        IncidentState::Merged => "merged",
    }
}

/// How bad: a rule says it; else a lost place, a whole service that fails, or a wide reach is critical.
pub fn severity(case: &Case) -> Severity {
    if let Some(rule) = &case.rule {
        return rule.severity;
    }
    let of = &case.incident;
    let place = |cause: &Cause| {
        matches!(cause.entity.kind, EntityKind::Host | EntityKind::Rack | EntityKind::Datacenter)
            && cause.kind == CauseKind::Loss
    };
    let fails = |found: &FindingRecord| {
        found.entity.kind == EntityKind::Service && matches!(found.signal, Signal::Errors | Signal::Rejects)
    };
    let bad = of.causes.first().is_some_and(place)
        || of.findings.iter().any(fails)
        || of.blast.services_count >= SERVICES_CRITICAL;
    if bad { Severity::Critical } else { Severity::Warning }
}

fn title(case: &Case) -> String {
    if let Some(rule) = &case.rule {
        let meant = rule.summary.as_deref().unwrap_or(&rule.expression);
        return format!("rule {}: {meant}", rule.name);
    }
    match case.incident.causes.first() {
        Some(cause) => format!("{} {}", cause.kind, cause.entity),
        None => format!("trouble at {}", case.incident.blast.services.join(", ")),
    }
}

fn counted(count: u32, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn reach(case: &Case) -> Vec<String> {
    let blast = &case.incident.blast;
    let mut said = Vec::new();
    if blast.services_count > 0 {
        let named: Vec<&str> = blast.services.iter().take(5).map(String::as_str).collect();
        let more = if blast.services.len() > named.len() { ", …" } else { "" };
        said.push(format!("{}: {}{more}", counted(blast.services_count, "service"), named.join(", ")));
    }
    if blast.instances_count > 0 {
        let hosts =
            if blast.hosts_count > 0 { format!(" on {}", counted(blast.hosts_count, "host")) } else { String::new() };
        said.push(format!("{}{hosts}", counted(blast.instances_count, "instance")));
    }
    if !blast.datacenters.is_empty() {
        said.push(format!("in {}", blast.datacenters.join(", ")));
    }
    said
}

/// A name as `serde` writes it: `demand_surge`.
fn word(of: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(of).ok();
    value.as_ref().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

fn cause_view(cause: &Cause, places: &Whereabouts) -> IncidentCause {
    IncidentCause {
        what: format!("{} {}", cause.kind, cause.entity),
        confidence: (f64::from(cause.score) * 1_000.0).round() / 1_000.0,
        kind: word(&cause.kind),
        entity_kind: word(&cause.entity.kind),
        entity: cause.entity.name.clone(),
        service: places.service_of(&cause.entity),
        evidence: cause.evidence.iter().filter_map(evidence).collect(),
    }
}

fn percent(share: f32) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

fn evidence(of: &Evidence) -> Option<String> {
    Some(match of {
        Evidence::Signal { entity, signal, baseline, observed } => signal_moved(entity, *signal, *baseline, *observed),
        Evidence::Explains { share } => format!("explains {} of what was found", percent(*share)),
        Evidence::Place { ill, of } => format!("{ill} of the {of} instances there are ill"),
        Evidence::Concentration { share } if *share < 0.01 => return None,
        Evidence::Concentration { share } => format!("{} of the service's failures come from it", percent(*share)),
        Evidence::Own { share } => format!("{} of the excess is its own, not its callees'", percent(*share)),
        Evidence::Release { seconds_before, ill_new, ill_old } => {
            format!("a release began {seconds_before} s before; ill are {ill_new} new and {ill_old} old instances")
        }
        Evidence::Callers { count: 0 } => return None,
        Evidence::Callers { count: 1 } => "1 caller suffers".to_owned(),
        Evidence::Callers { count } => format!("{count} callers suffer"),
    })
}

fn signal_moved(entity: &EntityRef, signal: Signal, expected: f32, seen: f32) -> String {
    if signal == Signal::Presence {
        return match entity.kind {
            EntityKind::Instance if expected >= 1.0 => {
                format!("{entity} answers nothing where {} requests/s are due", amount(expected))
            }
            _ => format!("{entity} does not report"),
        };
    }
    let is_ratio = matches!(signal, Signal::Latency | Signal::LatencyTail) && (expected - 1.0).abs() < 1e-3;
    if is_ratio {
        return format!("{} of {entity}: {seen:.1} times the usual", signal_name(signal));
    }
    let form = |value: f32| form(entity.kind, signal, value);
    format!("{} of {entity}: {} → {}", signal_name(signal), form(expected), form(seen))
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Presence => "presence",
        Signal::Requests => "requests",
        Signal::Errors => "errors",
        Signal::Rejects => "fast rejections",
        Signal::Latency => "latency",
        Signal::LatencyTail => "p99 latency",
        Signal::InFlight => "requests in flight",
        Signal::Cpu => "CPU",
        Signal::Memory => "memory",
        Signal::Pressure => "pressure",
    }
}

/// Three digits are enough.
fn amount(value: f32) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn form(kind: EntityKind, signal: Signal, value: f32) -> String {
    match signal {
        Signal::Errors | Signal::Rejects | Signal::Pressure => percent(value),
        Signal::Latency | Signal::LatencyTail => format!("{} ms", amount(value)),
        Signal::Requests => format!("{}/s", amount(value)),
        Signal::Cpu if kind == EntityKind::Host => percent(value),
        Signal::Cpu => format!("{value:.2} cores"),
        Signal::Memory if kind == EntityKind::Host => percent(value),
        Signal::Memory => format!("{} MiB", amount(value / 1_048_576.0)),
        Signal::InFlight | Signal::Presence => amount(value),
    }
}

fn finding(of: &FindingRecord) -> IncidentFinding {
    let number = |value: f32| Some(f64::from(value)).filter(|value| value.is_finite());
    IncidentFinding {
        what: signal_moved(&of.entity, of.signal, of.baseline, of.observed),
        signal: word(&of.signal),
        entity_kind: word(&of.entity.kind),
        entity: of.entity.name.clone(),
        expected: number(of.baseline),
        seen: number(of.observed),
        since: of.since_ms,
        last_seen: of.seen_ms,
    }
}

/// Commands that may help, most promising first.
fn next(case: &Case, places: &Whereabouts) -> Vec<String> {
    let of = &case.incident;
    if !of.state.is_open() {
        return Vec::new();
    }
    let mut commands = Vec::new();
    if let Some(cause) = of.causes.first() {
        for_cause(cause, case, places, &mut commands);
    } else if let Some(service) = of.blast.services.first() {
        relieve(service, places, &mut commands);
    }
    if of.acknowledged_by.is_none() {
        commands.push(format!("springtide incident ack {}", of.id));
    }
    commands.push(format!("springtide incident silence {} --for 30m", of.id));
    commands
}

fn for_cause(cause: &Cause, case: &Case, places: &Whereabouts, commands: &mut Vec<String>) {
    let name = &cause.entity.name;
    let service = places.service_of(&cause.entity);
    match (cause.kind, cause.entity.kind) {
        (CauseKind::Release, _) => {
            let running = case.going_on.iter().filter(|on| on.kind == "operation" && on.service.as_ref() == Some(name));
            commands.extend(running.rev().map(|on| format!("springtide operation rollback {}", on.name)));
        }
        (_, EntityKind::Instance) => {
            commands.push(format!("springtide logs {name} --tail 100"));
            if let Some((service, _)) = places.instances.get(name) {
                let more = places.counts.get(service).copied().unwrap_or(1) + 1;
                commands.push(format!("springtide scale {service} --to {more}"));
            }
            if let Some((_, host)) = places.instances.get(name).filter(|_| cause.kind != CauseKind::Loss) {
                commands.push(format!("springtide drain {host}"));
            }
        }
        (_, EntityKind::Host) => commands.push(format!("springtide drain {name}")),
        (_, EntityKind::External) => {
            commands.push(format!("springtide protect throttle --service {name} --users 20 --for 30m"));
        }
        _ => {}
    }
    let services = service.into_iter().chain(case.incident.blast.services.first().cloned());
    if cause.entity.kind != EntityKind::Instance
        && let Some(service) = services.into_iter().find(|service| places.counts.contains_key(service))
    {
        relieve(&service, places, commands);
    }
}

/// More instances, or fewer requests.
fn relieve(service: &str, places: &Whereabouts, commands: &mut Vec<String>) {
    if let Some(count) = places.counts.get(service) {
        commands.push(format!("springtide scale {service} --to {}", count + count.div_ceil(4)));
    }
    commands.push(format!("springtide protect throttle --service {service} --users 20 --for 30m"));
}
