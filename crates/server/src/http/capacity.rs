//! Curves and sizing.

use super::App;
use super::access::Who;
use super::extract::{Json, Params, name};
use super::operations;
use super::problem::{self, Failure};
use api::http::{OperationOrder, OperationRequest, Problem, ServiceSize, SizeRequest, SizeResponse};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use capacity::sizing;
use http::header;
use model::{Curve, DatacenterName, EventName, OperationId};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whose curves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveFilter {
    service: Option<String>,
}

/// Curves, newest first.
#[utoipa::path(get, path = "/v1/curves", params(("service" = Option<String>, Query, description = "only of this service")),
    responses((status = 200, description = "curves", body = Vec<Object>)))]
pub async fn curves(State(app): State<App>, Params(filter): Params<CurveFilter>) -> Result<Json<Vec<Curve>>, Failure> {
    let found = app.control.read(move |world| {
        let wanted = |curve: &&Curve| filter.service.as_deref().is_none_or(|of| curve.service.as_str() == of);
        world.curves.iter().rev().filter(wanted).cloned().collect()
    });
    Ok(Json(found.await?))
}

/// A curve, drawn.
#[utoipa::path(get, path = "/v1/curves/{operation}/svg", params(("operation" = String, Path, description = "op-3")),
    responses((status = 200, content_type = "image/svg+xml", body = String), (status = 404, body = Problem)))]
pub async fn svg(State(app): State<App>, Path(operation): Path<String>) -> Result<Response, Failure> {
    let id: OperationId = name(&operation)?;
    let asked = id.clone();
    let found = app.control.read(move |world| world.curves.iter().find(|curve| curve.operation == asked).cloned());
    let missing = || problem::not_found(format!("operation {id} has left no curve: `springtide stress` measures one"));
    let curve = found.await?.ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], capacity::plot::svg(&curve)).into_response())
}

/// What an event needs; with `apply`, opens the scale operations that bring it.
#[utoipa::path(post, path = "/v1/size", request_body = SizeRequest,
    responses((status = 200, body = SizeResponse), (status = 404, body = Problem)))]
pub async fn size(
    State(app): State<App>,
    Who(who): Who,
    Json(request): Json<SizeRequest>,
) -> Result<Json<SizeResponse>, Failure> {
    let event: EventName = name(&request.event)?;
    let sized = app.control.read(move |world| {
        let missing =
            || problem::not_found(format!("there is no event {event}: `springtide get Event` lists those that are"));
        let declared = world.snapshot.event(&event).ok_or_else(missing)?;
        Ok::<_, Failure>(sizing::size(&world.snapshot, declared, &world.newest_curves()))
    });
    let sizing = sized.await??;
    let mut answer = view(&sizing);
    if request.apply {
        let grows = sizing.services.iter().filter(|at| !at.external && at.needed != at.now);
        for at in grows {
            let instances = counts(&at.needed);
            let request = OperationRequest::Scale { service: at.service.clone(), to: None, instances };
            let order = OperationOrder { request, hold: false };
            match operations::opened(&app, who.clone(), order).await {
                Ok(operation) => answer.operations.push(operation.id.to_string()),
                Err(refused) => {
                    answer.shortages.push(format!("{}: not scaled: {}", at.service, refused.problem.message))
                }
            }
        }
    }
    Ok(Json(answer))
}

fn counts(of: &BTreeMap<DatacenterName, u32>) -> BTreeMap<String, u32> {
    of.iter().map(|(at, count)| (at.to_string(), *count)).collect()
}

fn view(sizing: &sizing::Sizing) -> SizeResponse {
    let services = sizing.services.iter().map(|at| ServiceSize {
        service: at.service.clone(),
        load_rps: at.load_rps,
        capacity_rps: at.capacity_rps,
        basis: at.basis.to_string(),
        now: counts(&at.now),
        needed: counts(&at.needed),
        utilisation: at.utilisation,
        utilisation_one_lost: at.utilisation_one_lost,
    });
    SizeResponse {
        event: sizing.event.to_string(),
        services: services.collect(),
        shortages: sizing.shortages.iter().map(ToString::to_string).collect(),
        operations: Vec::new(),
    }
}
