//! What operators ask for: opening an operation (steering one is `steer`'s). Each answer is one commit, or a
//! typed refusal; nothing is planned here, the engine does that when it first looks at the operation.

use crate::contract::{Commit, Observed, Phase, Write};
use crate::refusal::{NothingToDo, Refusal};
use crate::wanted::{Wanted, busy_with, difference, operation_number, placed_counts, stale};
use crate::{journal, limits};
use model::{
    DatacenterName, HostIntent, HostName, InstanceId, InstanceIntent, LogLine, Operation, OperationId, OperationPhase,
    OperationSpec, ServiceName, Snapshot, StepName, UnixMs, keys,
};
use std::collections::BTreeMap;

/// Opens an operation: its id, and the commit that makes it durable. With `hold` it waits for a decision at a step that
/// fails, instead of undoing itself; a stress test has no such step.
pub fn open(
    snapshot: &Snapshot,
    observed: &Observed,
    spec: OperationSpec,
    hold: bool,
    who: &str,
    now: UnixMs,
) -> Result<(OperationId, Commit), Refusal> {
    let steps = precheck(snapshot, observed, &spec)?;
    let number = snapshot.counter(&keys::operation_counter()) + 1;
    let mut op = new_operation(number, spec, &steps, who, now);
    op.planned_at = snapshot.revision;
    op.hold = hold && !matches!(op.spec, OperationSpec::Stress { .. });
    let mut commit = Commit { who: who.to_owned(), ..Commit::default() };
    count_operations(snapshot, number, &mut commit);
    if let OperationSpec::Drain { host } = &op.spec {
        set_cordon(snapshot, host, true, &mut commit);
    }
    let id = op.id.clone();
    journal::write_new(&op, &mut commit);
    commit.operation = Some(id.clone());
    Ok((id, commit))
}

/// Lets a drained host take placements again.
pub fn undrain(snapshot: &Snapshot, host: &HostName, who: &str) -> Result<Commit, Refusal> {
    known_host(snapshot, host)?;
    if let Some(operation) = drain_of(snapshot, host) {
        return Err(Refusal::HostBusy { host: host.clone(), operation });
    }
    if !snapshot.host_intents.get(host).is_some_and(|at| at.value.cordoned) {
        return Err(Refusal::NothingToDo(NothingToDo::NotCordoned(host.clone())));
    }
    let mut commit = Commit { who: who.to_owned(), ..Commit::default() };
    set_cordon(snapshot, host, false, &mut commit);
    Ok(commit)
}

/// Writes the counter of operations, guarded.
pub(crate) fn count_operations(snapshot: &Snapshot, number: u64, commit: &mut Commit) {
    let key = keys::operation_counter();
    commit.guards.push((key.clone(), snapshot.counters.get(&key).map_or(0, |at| at.revision)));
    commit.writes.push(Write { key, value: Some(number.to_string().into_bytes()) });
}

/// Where a host's cordon is.
pub(crate) fn cordon_key(host: &HostName) -> String {
    keys::host_intent(host)
}

/// Writes a host's cordon, guarded.
pub(crate) fn set_cordon(snapshot: &Snapshot, host: &HostName, cordoned: bool, commit: &mut Commit) {
    let key = cordon_key(host);
    commit.guards.push((key.clone(), snapshot.host_intents.get(host).map_or(0, |at| at.revision)));
    let value = cordoned.then(|| journal::json(&HostIntent { cordoned }));
    commit.writes.push(Write { key, value });
}

/// A fresh operation.
pub(crate) fn new_operation(number: u64, spec: OperationSpec, steps: &[StepName], who: &str, now: UnixMs) -> Operation {
    Operation {
        id: OperationId::new(format!("op-{number}")).expect("op and a number make a name"),
        spec,
        phase: OperationPhase::Pending,
        who: who.to_owned(),
        created_at: now,
        finished_at: None,
        steps: steps.iter().map(|&name| journal::waiting(name)).collect(),
        adds: Vec::new(),
        removes: Vec::new(),
        batch: 0,
        batches: 1,
        gray_permille: 0,
        verdicts: Vec::new(),
        failures: Vec::new(),
        log: vec![LogLine { at: now, text: format!("asked for by {who}") }],
        report: None,
        scale_before: None,
        planned_at: 0,
        hold: false,
        given_up: Vec::new(),
        overtaken: false,
    }
}

/// Refuses what cannot begin; otherwise the steps it will take.
pub(crate) fn precheck(
    snapshot: &Snapshot,
    observed: &Observed,
    spec: &OperationSpec,
) -> Result<Vec<StepName>, Refusal> {
    if let Some(service) = spec.service()
        && let Some(operation) = busy_with(snapshot, service)
    {
        return Err(Refusal::Busy { service: service.clone(), operation });
    }
    match spec {
        OperationSpec::Scale { service, instances } => precheck_scale(snapshot, service, instances),
        OperationSpec::Rollout { service, .. } => precheck_rollout(snapshot, service),
        OperationSpec::Drain { host } => precheck_drain(snapshot, host),
        OperationSpec::Stress { service, instance, duration_ms_max } => {
            precheck_stress(snapshot, observed, service, instance.as_ref(), *duration_ms_max)
        }
    }
}

fn precheck_scale(
    snapshot: &Snapshot,
    service: &ServiceName,
    instances: &BTreeMap<DatacenterName, u32>,
) -> Result<Vec<StepName>, Refusal> {
    let have = placed_counts(snapshot, service);
    let wants_any = instances.values().any(|n| *n > 0);
    if snapshot.service(service).is_none() && (wants_any || have.is_empty()) {
        return Err(Refusal::UnknownService(service.clone()));
    }
    if let Some(unknown) = instances.keys().find(|name| snapshot.datacenter(name).is_none()) {
        return Err(Refusal::UnknownDatacenter(unknown.clone()));
    }
    let (adds, removes) = difference(instances, &have);
    if adds.is_empty() && removes.is_empty() {
        return Err(Refusal::NothingToDo(NothingToDo::CountsMet(service.clone())));
    }
    let (asked, max) = (adds.values().map(|count| u64::from(*count)).sum(), limits::SCALE_ADDS_MAX);
    if asked > u64::from(max) {
        return Err(Refusal::TooManyAdds { service: service.clone(), asked, max });
    }
    Ok(journal::step_names(!adds.is_empty(), !removes.is_empty()))
}

fn precheck_rollout(snapshot: &Snapshot, name: &ServiceName) -> Result<Vec<StepName>, Refusal> {
    let service = snapshot.service(name).ok_or_else(|| Refusal::UnknownService(name.clone()))?;
    let wanted = Wanted::of(snapshot, service).map_err(|why| Refusal::Unresolved { service: name.clone(), why })?;
    if stale(snapshot, service, &wanted).is_empty() {
        return Err(Refusal::NothingToDo(NothingToDo::UpToDate(name.clone())));
    }
    Ok(journal::step_names(true, true))
}

fn precheck_drain(snapshot: &Snapshot, host: &HostName) -> Result<Vec<StepName>, Refusal> {
    known_host(snapshot, host)?;
    if let Some(operation) = drain_of(snapshot, host) {
        return Err(Refusal::HostBusy { host: host.clone(), operation });
    }
    let placed = snapshot.placements.get(host).map(|on| on.value.instances.as_slice()).unwrap_or_default();
    for placement in placed {
        if let Some(operation) = busy_with(snapshot, &placement.service) {
            return Err(Refusal::Busy { service: placement.service.clone(), operation });
        }
    }
    let cordoned = snapshot.host_intents.get(host).is_some_and(|at| at.value.cordoned);
    if placed.is_empty() && cordoned {
        return Err(Refusal::NothingToDo(NothingToDo::Drained(host.clone())));
    }
    Ok(journal::step_names(!placed.is_empty(), !placed.is_empty()))
}

fn precheck_stress(
    snapshot: &Snapshot,
    observed: &Observed,
    name: &ServiceName,
    instance: Option<&InstanceId>,
    duration_ms_max: u32,
) -> Result<Vec<StepName>, Refusal> {
    let service = snapshot.service(name).ok_or_else(|| Refusal::UnknownService(name.clone()))?;
    if service.ports.is_empty() {
        return Err(Refusal::NoPort(name.clone()));
    }
    let (min_ms, max_ms) = (limits::STRESS_MS_MIN, limits::STRESS_MS_MAX);
    if !(min_ms..=max_ms).contains(&duration_ms_max) {
        return Err(Refusal::BadDuration { asked_ms: duration_ms_max, min_ms, max_ms });
    }
    let healthy = healthy_instances(snapshot, observed, name);
    match instance {
        Some(instance) if !snapshot.placements_of(name).any(|(_, p)| &p.instance == instance) => {
            Err(Refusal::UnknownInstance { service: name.clone(), instance: instance.clone() })
        }
        Some(instance) if !healthy.contains(instance) => Err(Refusal::NotHealthy(instance.clone())),
        None if healthy.len() < 2 => {
            Err(Refusal::TooFewHealthy { service: name.clone(), healthy: healthy.len() as u32 })
        }
        _ => Ok(vec![StepName::Report]),
    }
}

/// Instances wanted running and reported healthy, by host.
pub(crate) fn healthy_instances(snapshot: &Snapshot, observed: &Observed, service: &ServiceName) -> Vec<InstanceId> {
    snapshot
        .placements_of(service)
        .filter(|(_, p)| p.intent == InstanceIntent::Running)
        .filter(|(_, p)| observed.instances.get(&p.instance).is_some_and(|seen| seen.phase == Phase::Healthy))
        .map(|(_, p)| p.instance.clone())
        .collect()
}

fn known_host(snapshot: &Snapshot, host: &HostName) -> Result<(), Refusal> {
    snapshot.host(host).map(|_| ()).ok_or_else(|| Refusal::UnknownHost(host.clone()))
}

/// The open drain of a host, if any.
fn drain_of(snapshot: &Snapshot, host: &HostName) -> Option<OperationId> {
    let drains = |op: &Operation| matches!(&op.spec, OperationSpec::Drain { host: at } if at == host);
    let mut open = snapshot.operations.values().filter(|at| !at.value.phase.is_final());
    open.find(|at| drains(&at.value)).map(|at| at.value.id.clone())
}

/// The newest operations first.
pub(crate) fn newest_first(snapshot: &Snapshot) -> Vec<&Operation> {
    let mut all: Vec<&Operation> = snapshot.operations.values().map(|at| at.value.as_ref()).collect();
    all.sort_by_key(|op| std::cmp::Reverse(operation_number(&op.id)));
    all
}
