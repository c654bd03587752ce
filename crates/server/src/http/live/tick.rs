//! The numbers of one second, as columns over a layout.

use crate::control_loop::world::World;
use crate::http::views::phase;
use crate::incidents::Shown;
use api::http::{Incident, IncidentCause};
use api::live::{
    HostColumns, InstanceColumns, Layout, LiveCause, LiveIncident, LiveOperation, LiveStep, PHASES, ServiceColumns,
    Tick,
};
use control::HostState;
use metrics::golden::Row;
use model::{Operation, OperationSpec, UnixMs};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Time for which an ended operation is still shown.
const ENDED_SHOWN_MS: u64 = 900_000;
/// Operations in a tick.
const OPERATIONS_MAX: usize = 100;
/// Incidents in a tick.
const INCIDENTS_MAX: usize = 50;
/// Causes of each, and evidence of each of these.
const CAUSES_MAX: usize = 3;
const EVIDENCE_MAX: usize = 4;

/// The tick at `now`.
pub fn tick(world: &World, layout: &Layout, now: UnixMs) -> Tick {
    let measured = world.feed.top(now);
    let rows = |rows: Vec<Row>| rows.into_iter().map(|row| (row.name.clone(), row)).collect::<HashMap<_, _>>();
    let (services, instances, hosts) = (rows(measured.services), rows(measured.instances), rows(measured.hosts));
    Tick {
        layout: layout.number.clone(),
        at: now,
        settled: world.observed.settled,
        services: service_columns(world, layout, &services),
        instances: instance_columns(world, layout, &instances),
        hosts: host_columns(world, layout, &hosts),
        operations: operations(world, now),
        incidents: Vec::new(),
        detection_trouble: None,
    }
}

/// Three digits are more than a pixel shows.
pub fn rounded(value: Option<f64>) -> Option<f32> {
    let value = value.filter(|value| value.is_finite())?;
    if value == 0.0 {
        return Some(0.0);
    }
    let scale = 10f64.powf(2.0 - value.abs().log10().floor());
    Some(((value * scale).round() / scale) as f32)
}

fn share(part: Option<f64>, whole: Option<f64>) -> Option<f32> {
    rounded(part.zip(whole.filter(|whole| *whole > 0.0)).map(|(part, whole)| part / whole))
}

fn service_columns(world: &World, layout: &Layout, rows: &HashMap<String, Row>) -> ServiceColumns {
    let mut columns = ServiceColumns::default();
    for of in &layout.services {
        let row = rows.get(&of.name);
        let number = |field: fn(&Row) -> Option<f64>| row.and_then(field);
        let rejected = number(|row| row.rejects_per_second);
        let errors = number(|row| row.errors_per_second);
        columns.rps.push(rounded(number(|row| row.qps)));
        columns.failed_rps.push(rounded(errors.map(|errors| (errors - rejected.unwrap_or(0.0)).max(0.0))));
        columns.rejected_rps.push(rounded(rejected));
        columns.p50_ms.push(rounded(number(|row| row.p50_ms)));
        columns.p99_ms.push(rounded(number(|row| row.p99_ms)));
        let service = world.snapshot.service(&of.name);
        let quota = service.map(|service| {
            let quotas = world.placements_of(&service.name).map(|(_, placement)| f64::from(placement.shape.cpu.0));
            quotas.sum::<f64>() / 1_000.0
        });
        columns.cpu.push(share(number(|row| row.cpu_cores), quota));
        columns.healthy.push(service.map_or(0, |service| world.healthy(&service.name)));
        columns.wanted.push(service.map_or(0, |service| world.snapshot.instances_wanted(service).values().sum()));
    }
    columns
}

fn instance_columns(world: &World, layout: &Layout, rows: &HashMap<String, Row>) -> InstanceColumns {
    let mut columns = InstanceColumns::default();
    for of in &layout.instances {
        let row = rows.get(&of.name);
        let placed = world.placement(&of.name);
        let placement = placed.map(|(_, placement)| placement);
        let is_lost = placed.is_some_and(|(host, _)| world.is_lost(host));
        let seen =
            placement.filter(|_| !is_lost).and_then(|placement| world.observed.instances.get(&placement.instance));
        let word = seen.map_or(PHASES[0], |seen| phase(seen.phase));
        columns.phase.push(PHASES.iter().position(|known| *known == word).unwrap_or(0) as u8);
        let number = |field: fn(&Row) -> Option<f64>| row.and_then(field);
        columns.rps.push(rounded(number(|row| row.qps)));
        columns.p99_ms.push(rounded(number(|row| row.p99_ms)));
        columns.errors.push(share(number(|row| row.errors_per_second), number(|row| row.qps)));
        let cores = placement.map(|placement| f64::from(placement.shape.cpu.0) / 1_000.0);
        columns.cpu.push(share(number(|row| row.cpu_cores), cores));
        let bytes = placement.map(|placement| placement.shape.memory.0 as f64);
        columns.memory.push(share(row.and_then(|row| row.memory_bytes).map(|bytes| bytes as f64), bytes));
    }
    columns
}

fn host_columns(world: &World, layout: &Layout, rows: &HashMap<String, Row>) -> HostColumns {
    let mut columns = HostColumns::default();
    for of in &layout.hosts {
        let row = rows.get(&of.name);
        let declared = world.snapshot.host(&of.name);
        let state = match declared.and_then(|host| world.observed.hosts.get(&host.name)).map(|seen| seen.state) {
            None => 0,
            Some(HostState::Connected) => 1,
            Some(HostState::Lost) => 2,
        };
        let intent = declared.and_then(|host| world.snapshot.host_intents.get(&host.name));
        columns.state.push(if intent.is_some_and(|at| at.value.cordoned) { state + 4 } else { state });
        columns.cpu.push(share(row.and_then(|row| row.cpu_cores), row.and_then(|row| row.cpu_cores_max)));
        let memory = |bytes: fn(&Row) -> Option<u64>| row.and_then(bytes).map(|bytes| bytes as f64);
        columns.memory.push(share(memory(|row| row.memory_bytes), memory(|row| row.memory_bytes_max)));
        let given = declared.map(|host| crate::http::views::host_view(world, host));
        let (used, all) = given.map(|at| (at.cpu_millis_used as f64, at.cpu_millis as f64)).unzip();
        columns.given.push(share(used, all));
    }
    columns
}

/// Incidents that go on, and those that ended lately, newest first.
pub fn incidents(shown: &Shown, now: UnixMs) -> Vec<LiveIncident> {
    let recent =
        |of: &&Incident| of.merged_into.is_none() && of.ended_at.is_none_or(|ended| ended + ENDED_SHOWN_MS > now);
    let cause = |of: &IncidentCause| LiveCause {
        what: of.what.clone(),
        confidence: of.confidence,
        service: of.service.clone(),
        evidence: of.evidence.iter().take(EVIDENCE_MAX).cloned().collect(),
    };
    let live = |of: &Incident| LiveIncident {
        id: of.id.clone(),
        state: of.state.clone(),
        title: of.title.clone(),
        severity: of.severity.clone(),
        started_at: of.started_at,
        ended_at: of.ended_at,
        acknowledged_by: of.acknowledged_by.clone(),
        silenced_until: of.silenced_until,
        reach: of.reach.clone(),
        causes: of.causes.iter().take(CAUSES_MAX).map(cause).collect(),
    };
    let views = shown.incidents.values().rev().map(|told| &told.view);
    views.filter(recent).take(INCIDENTS_MAX).map(live).collect()
}

fn operations(world: &World, now: UnixMs) -> Vec<LiveOperation> {
    let shown = |operation: &Operation| operation.finished_at.is_none_or(|at| at + ENDED_SHOWN_MS > now);
    // Keyed by time and id: newest first, and two of one millisecond keep their order.
    let all: BTreeMap<(UnixMs, String), &Operation> = world
        .snapshot
        .operations
        .values()
        .map(|at| &*at.value)
        .filter(|operation| shown(operation))
        .map(|operation| ((operation.created_at, operation.id.to_string()), operation))
        .collect();
    all.into_values().rev().take(OPERATIONS_MAX).map(|operation| live(world, operation, now)).collect()
}

fn live(world: &World, operation: &Operation, now: UnixMs) -> LiveOperation {
    let (kind, target) = match &operation.spec {
        OperationSpec::Scale { service, .. } => ("scale", service.to_string()),
        OperationSpec::Rollout { service, .. } => ("rollout", service.to_string()),
        OperationSpec::Drain { host } => ("drain", host.to_string()),
        OperationSpec::Stress { service, .. } => ("stress", service.to_string()),
    };
    LiveOperation {
        id: operation.id.to_string(),
        kind: kind.to_owned(),
        target,
        phase: word(&operation.phase),
        who: operation.who.clone(),
        created_at: operation.created_at,
        finished_at: operation.finished_at,
        gray_permille: operation.gray_permille,
        steps: operation
            .steps
            .iter()
            .map(|step| LiveStep {
                name: word(&step.name),
                state: word(&step.state),
                started_at: step.started_at,
                finished_at: step.finished_at,
                done: step.done,
                total: step.total,
            })
            .collect(),
        message: operation.told().to_owned(),
        allowed: crate::http::operations::allowed(world, operation, now),
    }
}

/// The word that the API has for a unit variant.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("a unit variant is a string");
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept_and_nonsense_is_absent() {
        assert_eq!(rounded(Some(1234.5)), Some(1230.0));
        assert_eq!(rounded(Some(0.012_345)), Some(0.0123));
        assert_eq!(rounded(Some(0.0)), Some(0.0));
        assert_eq!(rounded(Some(f64::NAN)), None);
        assert_eq!(share(Some(1.0), Some(0.0)), None);
    }
}
