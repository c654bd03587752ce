//! What there is to say about an operation: where it stands, its steps, its judgements, its log.

use super::{list, row, span, table};
use api::http::{Description, Section};
use model::{Operation, OperationSpec, StepRun, UnixMs};
use serde::Serialize;

/// The word that a value has in JSON.
pub fn word(value: impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().replace('_', " ")
}

/// What an operation is to do, in words.
pub fn purpose(spec: &OperationSpec) -> String {
    match spec {
        OperationSpec::Scale { service, instances } => {
            let counts: Vec<String> = instances.iter().map(|(at, count)| format!("{count} in {at}")).collect();
            format!("scale {service} to {}", counts.join(", "))
        }
        OperationSpec::Rollout { service, .. } => format!("roll package and config of {service} out"),
        OperationSpec::Drain { host } => format!("drain {host}"),
        OperationSpec::Stress { service, instance: Some(instance), .. } => format!("measure {service} at {instance}"),
        OperationSpec::Stress { service, .. } => format!("measure {service}"),
    }
}

/// The page of an operation.
pub fn page(operation: &Operation, now: UnixMs) -> Description {
    let ended = operation.finished_at.unwrap_or(now);
    let mut state = vec![
        row("purpose", purpose(&operation.spec)),
        row("phase", phase(operation)),
        row("asked by", &operation.who),
        row("took", span(ended.saturating_sub(operation.created_at))),
        row("batch", format!("{} of {}", (operation.batch + 1).min(operation.batches), operation.batches)),
        row("adds, removes", format!("{}, {}", operation.adds.len(), operation.removes.len())),
    ];
    state.extend(operation.report.iter().map(|report| row("report", report)));
    state.extend(operation.failures.iter().map(|failure| row("failure", failure)));
    let steps = operation.steps.iter().map(|step| step_row(step, now)).collect();
    let mut sections: Vec<Section> =
        vec![list("state", state), table("steps", &["step", "state", "took", "done", "attempts", "message"], steps)];
    if !operation.verdicts.is_empty() {
        sections.push(verdicts(operation));
    }
    let log = operation
        .log
        .iter()
        .map(|line| vec![format!("+{}", span(line.at.saturating_sub(operation.created_at))), line.text.clone()]);
    sections.push(table("log", &["after", "what happened"], log.collect()));
    Description { title: format!("Operation {}", operation.id), sections }
}

fn step_row(step: &StepRun, now: UnixMs) -> Vec<String> {
    let took = step.started_at.map(|from| span(step.finished_at.unwrap_or(now).saturating_sub(from)));
    vec![
        word(step.name),
        word(step.state),
        took.unwrap_or_default(),
        format!("{}/{}", step.done, step.total),
        step.attempts.to_string(),
        step.message.clone(),
    ]
}

fn verdicts(operation: &Operation) -> Section {
    let rows = operation.verdicts.iter().map(|at| {
        vec![
            format!("{}%", f64::from(at.gray_permille) / 10.0),
            word(at.outcome),
            format!("{} / {}", at.requests_new, at.requests_running),
            format!("{:.3}% / {:.3}%", at.error_rate_new * 100.0, at.error_rate_running * 100.0),
            format!("{:.1} / {:.1} ms", at.latency_p99_ms_new, at.latency_p99_ms_running),
        ]
    });
    let head = ["weight", "verdict", "requests new / running", "errors new / running", "p99 new / running"];
    table("gray release", &head, rows.collect())
}

/// Where it stands; a hold at a failed step is told from a pause of somebody's.
fn phase(operation: &Operation) -> String {
    match operation.held_at() {
        Some(step) => format!("held at step {}, which failed", word(step.name)),
        None => word(operation.phase),
    }
}
