//! Operations: ask for one, look at it, steer it.

use super::access::Who;
use super::extract::{Json, name};
use super::problem::{self, Failure};
use super::{App, describe};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use api::http::{
    Allowed, OperationOrder, OperationPlan, OperationRequest, OperationView, PlannedAt, Problem, StepRequest,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use control::{Aim, Commit};
use http::header;
use model::{
    DatacenterName, HostName, Operation, OperationId, OperationPhase, OperationSpec, PlannedInstance, ServiceName,
    UnixMs, keys,
};
use std::collections::BTreeMap;
use store::records::Kind;

/// Length of a stress test where none is asked for.
const STRESS_MS_DEFAULT: u32 = 20_000;
/// Operations listed from the store; ended ones beyond `control`'s own bound are records.
const LISTED_MAX: usize = 10_000;

/// What is decided in the loop: the commit and the operation it makes.
type Decided = (Commit, Operation);

/// Opens an operation.
#[utoipa::path(post, path = "/v1/operations", request_body = OperationOrder, responses(
    (status = 200, description = "the operation", body = OperationView), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn open(
    State(app): State<App>,
    Who(who): Who,
    Json(order): Json<OperationOrder>,
) -> Result<Json<OperationView>, Failure> {
    if let OperationRequest::Undrain { host } = &order.request {
        let operation = undrain(&app, who, name(host)?).await?;
        return Ok(Json(OperationView { operation, allowed: Allowed::default() }));
    }
    let operation = opened(&app, who, order).await?;
    viewed(&app, operation).await
}

/// The view of an operation: with what may be done with it.
async fn viewed(app: &App, operation: Operation) -> Result<Json<OperationView>, Failure> {
    Ok(Json(app.control.read(move |world| view(world, operation)).await?))
}

fn view(world: &World, operation: Operation) -> OperationView {
    OperationView { allowed: allowed(world, &operation, now_ms()), operation }
}

/// What may be done with an operation as it stands.
pub fn allowed(world: &World, operation: &Operation, now: UnixMs) -> Allowed {
    let found = control::allowed(&world.snapshot, &world.observed, operation, now);
    Allowed {
        verbs: found.verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
        step: found.step.map(describe::operation::word),
        targets: found.targets,
    }
}

/// Opens an operation other than `undrain`.
pub async fn opened(app: &App, who: String, order: OperationOrder) -> Result<Operation, Failure> {
    let decided = app.control.decide(move |world, now| {
        let spec = spec(world, &order.request)?;
        let opened = control::open(&world.snapshot, &world.observed, spec, order.hold, &who, now);
        let (id, commit) = opened.map_err(|refused| problem::refusal(&refused))?;
        let operation = written(&commit, &id)?;
        Ok((commit, operation))
    });
    Ok(decided.await?.1)
}

/// What a scale would do now.
#[utoipa::path(post, path = "/v1/operations/plan", request_body = OperationRequest, responses(
    (status = 200, body = OperationPlan), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn plan(
    State(app): State<App>,
    Json(request): Json<OperationRequest>,
) -> Result<Json<OperationPlan>, Failure> {
    let planned = app.control.read(move |world| {
        let OperationSpec::Scale { service, instances } = spec(world, &request)? else {
            return Err(problem::malformed("only a scale has a plan before it is asked for"));
        };
        Ok(control::preview(&world.snapshot, &world.observed, &service, &instances, now_ms()))
    });
    let preview = planned.await??;
    let at = |planned: PlannedInstance| PlannedAt {
        instance: planned.instance.to_string(),
        host: planned.host.to_string(),
        datacenter: planned.datacenter.to_string(),
    };
    Ok(Json(OperationPlan {
        adds: preview.adds.into_iter().map(at).collect(),
        removes: preview.removes.into_iter().map(at).collect(),
        shortages: preview.shortages,
    }))
}

/// The operation as the commit writes it.
fn written(commit: &Commit, id: &OperationId) -> Result<Operation, Failure> {
    let key = keys::operation(id);
    let value = commit.writes.iter().find(|write| write.key == key).and_then(|write| write.value.as_deref());
    let value = value.ok_or_else(|| problem::internal(format!("the commit does not write operation {id}")))?;
    serde_json::from_slice(value).map_err(|error| problem::internal(error.to_string()))
}

fn spec(world: &World, request: &OperationRequest) -> Result<OperationSpec, Failure> {
    match request {
        OperationRequest::Scale { service, to, instances } => {
            let service: ServiceName = name(service)?;
            let instances = match (to, instances.is_empty()) {
                (Some(to), true) => spread(world, &service, *to)?,
                (None, false) => {
                    let named = instances.iter().map(|(at, count)| Ok((name::<DatacenterName>(at)?, *count)));
                    named.collect::<Result<_, Failure>>()?
                }
                _ => return Err(problem::malformed("either `to` or `instances` is needed, and not both")),
            };
            Ok(OperationSpec::Scale { service, instances })
        }
        OperationRequest::Drain { host } => Ok(OperationSpec::Drain { host: name(host)? }),
        OperationRequest::Stress { service, instance, duration_ms_max } => Ok(OperationSpec::Stress {
            service: name(service)?,
            instance: instance.as_deref().map(name).transpose()?,
            duration_ms_max: duration_ms_max.unwrap_or(STRESS_MS_DEFAULT),
        }),
        OperationRequest::Undrain { .. } => Err(problem::internal("undrain opens no operation")),
    }
}

/// Spreads a total over the datacenters as the manifest does: largest remainders, ties by name.
fn spread(world: &World, service: &ServiceName, to: u32) -> Result<BTreeMap<DatacenterName, u32>, Failure> {
    let unknown = || problem::refusal(&control::Refusal::UnknownService(service.clone()));
    let declared = world.snapshot.service(service).ok_or_else(unknown)?;
    Ok(share_out(&declared.instances, to))
}

fn share_out(shape: &BTreeMap<DatacenterName, u32>, to: u32) -> BTreeMap<DatacenterName, u32> {
    let sum: u64 = shape.values().map(|count| u64::from(*count)).sum();
    // A manifest of zeros says where, not how much: evenly then.
    let parts = |count: u32| if sum == 0 { 1 } else { u64::from(count) };
    let whole = if sum == 0 { shape.len() as u64 } else { sum }.max(1);
    let mut shares: Vec<(u64, &DatacenterName, u32)> = shape
        .iter()
        .map(|(at, count)| {
            let exact = parts(*count) * u64::from(to);
            (exact % whole, at, (exact / whole) as u32)
        })
        .collect();
    let given: u32 = shares.iter().map(|(.., count)| count).sum();
    shares.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    for share in shares.iter_mut().take(to.saturating_sub(given) as usize) {
        share.2 += 1;
    }
    shares.into_iter().map(|(_, at, count)| (at.clone(), count)).collect()
}

/// Takes a host's cordon off; the answer is an operation that has ended already.
async fn undrain(app: &App, who: String, host: HostName) -> Result<Operation, Failure> {
    let asked = host.clone();
    let by = who.clone();
    let decided = app.control.decide(move |world, now| {
        let commit = control::undrain(&world.snapshot, &host, &who).map_err(|refused| problem::refusal(&refused))?;
        Ok((commit, now))
    });
    let (revision, now) = decided.await?;
    let id = OperationId::new(format!("undrain-{revision}")).expect("a number after a word is a name");
    Ok(ended(&id, &OperationSpec::Drain { host: asked }, &by, now))
}

/// An operation that had nothing to walk through: only what every operation has is filled in.
fn ended(id: &OperationId, spec: &OperationSpec, who: &str, now: UnixMs) -> Operation {
    let operation = serde_json::json!({
        "id": id, "spec": spec, "phase": OperationPhase::Succeeded, "who": who, "created_at": now, "finished_at": now,
        "steps": [], "adds": [], "removes": [], "batch": 0, "batches": 0, "gray_permille": 0, "verdicts": [],
        "failures": [], "log": [], "report": null,
    });
    serde_json::from_value(operation).expect("these are the fields of an operation")
}

/// All operations kept in the store, newest first.
#[utoipa::path(get, path = "/v1/operations", responses((status = 200, description = "operations", body = Vec<OperationView>)))]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<OperationView>>, Failure> {
    let found = app.control.read(|world| {
        let mut all: Vec<Operation> = world.snapshot.operations.values().map(|at| (*at.value).clone()).collect();
        all.sort_by_key(|operation| std::cmp::Reverse((operation.created_at, number(&operation.id))));
        all.truncate(LISTED_MAX);
        all.into_iter().map(|operation| view(world, operation)).collect()
    });
    Ok(Json(found.await?))
}

fn number(id: &OperationId) -> u64 {
    id.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// One operation; ended ones of long ago come from the records.
#[utoipa::path(get, path = "/v1/operations/{id}", params(("id" = String, Path, description = "op-3")),
    responses((status = 200, description = "the operation", body = OperationView), (status = 404, body = Problem)))]
pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Json<OperationView>, Failure> {
    let operation = find(&app, &name(&id)?).await?;
    viewed(&app, operation).await
}

/// An operation from the store or the records.
pub async fn find(app: &App, id: &OperationId) -> Result<Operation, Failure> {
    let asked = id.clone();
    let kept = app.control.read(move |world| world.snapshot.operations.get(&asked).map(|at| (*at.value).clone()));
    if let Some(operation) = kept.await? {
        return Ok(operation);
    }
    let bytes = record(app, Kind::Operation, id).await?;
    let missing = || problem::refusal(&control::Refusal::UnknownOperation(id.clone()));
    serde_json::from_slice(&bytes.ok_or_else(missing)?).map_err(|error| problem::internal(error.to_string()))
}

async fn record(app: &App, kind: Kind, id: &OperationId) -> Result<Option<Vec<u8>>, Failure> {
    let (records, id) = (app.records.clone(), id.clone());
    let read = tokio::task::spawn_blocking(move || records.get(kind, id.as_str())).await;
    let read = read.map_err(|error| problem::internal(error.to_string()))?;
    Ok(read.map_err(|error| problem::internal(error.to_string()))?.map(|record| record.bytes))
}

type Steer = fn(&model::Snapshot, &OperationId, &str, UnixMs) -> Result<Commit, control::Refusal>;

async fn steer(app: &App, who: String, id: &str, steer: Steer) -> Result<Json<OperationView>, Failure> {
    let id: OperationId = name(id)?;
    let decided = app.control.decide(move |world, now| -> Result<Decided, Failure> {
        let commit = steer(&world.snapshot, &id, &who, now).map_err(|refused| problem::refusal(&refused))?;
        let operation = written(&commit, &id)?;
        Ok((commit, operation))
    });
    viewed(app, decided.await?.1).await
}

/// Holds an operation between moves.
#[utoipa::path(post, path = "/v1/operations/{id}/pause", params(("id" = String, Path, description = "op-3")),
    responses((status = 200, description = "the operation", body = OperationView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn pause(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Failure> {
    steer(&app, who, &id, control::pause).await
}

/// Lets a held operation go on.
#[utoipa::path(post, path = "/v1/operations/{id}/resume", params(("id" = String, Path, description = "op-3")),
    responses((status = 200, description = "the operation", body = OperationView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn resume(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Failure> {
    steer(&app, who, &id, control::resume).await
}

/// Has an operation undo what it did.
#[utoipa::path(post, path = "/v1/operations/{id}/rollback", params(("id" = String, Path, description = "op-3")),
    responses((status = 200, description = "the operation", body = OperationView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn rollback(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Failure> {
    steer(&app, who, &id, control::rollback).await
}

/// Has a step tried again, or one of its targets; what ended without success is opened once more.
#[utoipa::path(post, path = "/v1/operations/{id}/retry", params(("id" = String, Path, description = "op-3")),
    request_body = StepRequest, responses((status = 200, description = "the operation at work", body = OperationView),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn retry(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<OperationView>, Failure> {
    steer_step(&app, who, &id, &body, control::retry).await
}

/// Has a step passed over, or one of its targets.
#[utoipa::path(post, path = "/v1/operations/{id}/skip", params(("id" = String, Path, description = "op-3")),
    request_body = StepRequest, responses((status = 200, description = "the operation", body = OperationView),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn skip(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<OperationView>, Failure> {
    steer_step(&app, who, &id, &body, |snapshot, observed, id, aim, who, now| {
        control::skip(snapshot, observed, id, aim, who, now).map(|commit| (id.clone(), commit))
    })
    .await
}

/// Gives the operation at work, too: another one, when one that had ended is opened again.
type SteerStep = fn(
    &model::Snapshot,
    &control::Observed,
    &OperationId,
    &Aim,
    &str,
    UnixMs,
) -> Result<(OperationId, Commit), control::Refusal>;

async fn steer_step(
    app: &App,
    who: String,
    id: &str,
    body: &[u8],
    steer: SteerStep,
) -> Result<Json<OperationView>, Failure> {
    let (id, aim): (OperationId, Aim) = (name(id)?, aim(body)?);
    let decided = app.control.decide(move |world, now| -> Result<Decided, Failure> {
        let steered = steer(&world.snapshot, &world.observed, &id, &aim, &who, now);
        let (at_work, commit) = steered.map_err(|refused| problem::refusal(&refused))?;
        let operation = written(&commit, &at_work)?;
        Ok((commit, operation))
    });
    viewed(app, decided.await?.1).await
}

/// What a body says of the step meant; no body says nothing.
fn aim(body: &[u8]) -> Result<Aim, Failure> {
    let request: StepRequest = match body {
        [] => StepRequest::default(),
        body => serde_json::from_slice(body).map_err(|error| problem::malformed(format!("the body: {error}")))?,
    };
    let step = request.step.map(|step| {
        let known = "attributes, deploy, silence, start, gray, drain, stop or report";
        let read = serde_json::from_value(serde_json::Value::String(step.to_lowercase()));
        read.map_err(|_| problem::malformed(format!("there is no step {step:?}: {known} would be right")))
    });
    Ok(Aim { step: step.transpose()?, target: request.target })
}

/// The health report, a page for people.
#[utoipa::path(get, path = "/v1/operations/{id}/report", params(("id" = String, Path, description = "op-3")),
    responses((status = 200, content_type = "text/html", body = String), (status = 404, body = Problem)))]
pub async fn report(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: OperationId = name(&id)?;
    let Some(html) = record(&app, Kind::Report, &id).await? else {
        let operation = find(&app, &id).await?;
        let end =
            if operation.phase.is_final() { "it ended without one" } else { "it is written when the operation ends" };
        return Err(problem::not_found(format!("operation {id} has no report: {end}")));
    };
    // The page is self-contained: nothing in it may load or run.
    let policy = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; img-src data:")];
    Ok((policy, Html(html)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(of: &[(&str, u32)]) -> BTreeMap<DatacenterName, u32> {
        of.iter().map(|(at, count)| (DatacenterName::new(at).expect("a name"), *count)).collect()
    }

    #[test]
    fn a_total_is_spread_as_the_manifest_spreads_it() {
        assert_eq!(share_out(&shape(&[("a", 2), ("b", 2)]), 10), shape(&[("a", 5), ("b", 5)]));
        assert_eq!(share_out(&shape(&[("a", 2), ("b", 1)]), 10), shape(&[("a", 7), ("b", 3)]));
        assert_eq!(share_out(&shape(&[("a", 1), ("b", 1)]), 3), shape(&[("a", 2), ("b", 1)]));
        assert_eq!(share_out(&shape(&[("a", 0), ("b", 0)]), 3), shape(&[("a", 2), ("b", 1)]));
        assert_eq!(share_out(&shape(&[("a", 3)]), 0), shape(&[("a", 0)]));
    }

    #[test]
    fn nothing_is_lost_in_spreading() {
        for to in 0..200 {
            let shared = share_out(&shape(&[("a", 3), ("b", 5), ("c", 7)]), to);
            assert_eq!(shared.values().sum::<u32>(), to);
        }
    }
}
