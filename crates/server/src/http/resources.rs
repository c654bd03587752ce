//! Stored resources: list, get, delete.

use super::access::Who;
use super::extract::{Json, kind};
use super::problem::{self, Failure};
use super::{App, apply};
use api::http::{ApplyResponse, Problem, ResourceView};
use axum::extract::{Path, State};
use model::ResourceKey;

/// All resources of a kind, by name.
#[utoipa::path(get, path = "/v1/resources/{kind}", params(("kind" = String, Path, description = "Service, Host, …")),
    responses((status = 200, body = Vec<ResourceView>), (status = 404, body = Problem)))]
pub async fn list(State(app): State<App>, Path(of): Path<String>) -> Result<Json<Vec<ResourceView>>, Failure> {
    let of = kind(&of)?;
    let found = app.control.read(move |world| {
        let from = ResourceKey { kind: of, name: String::new() };
        let all = world.snapshot.resources.range(from..).take_while(|(key, _)| key.kind == of);
        all.map(|(_, at)| ResourceView { revision: at.revision, resource: (*at.value).clone() }).collect()
    });
    Ok(Json(found.await?))
}

/// One resource.
#[utoipa::path(get, path = "/v1/resources/{kind}/{name}",
    params(("kind" = String, Path, description = "Service, Host, …"), ("name" = String, Path, description = "its name")),
    responses((status = 200, body = ResourceView), (status = 404, body = Problem)))]
pub async fn get(
    State(app): State<App>,
    Path((of, name)): Path<(String, String)>,
) -> Result<Json<ResourceView>, Failure> {
    let key = ResourceKey { kind: kind(&of)?, name };
    let asked = key.clone();
    let found = app.control.read(move |world| {
        let at = world.snapshot.resources.get(&key)?;
        Some(ResourceView { revision: at.revision, resource: (*at.value).clone() })
    });
    found.await?.map(Json).ok_or_else(|| missing(&asked))
}

/// Deletes a resource that no other refers to; a service's instances are drained and stopped.
#[utoipa::path(delete, path = "/v1/resources/{kind}/{name}",
    params(("kind" = String, Path, description = "Service, Host, …"), ("name" = String, Path, description = "its name")),
    responses((status = 200, body = ApplyResponse), (status = 404, body = Problem),
        (status = 422, body = Problem, description = "others refer to it")))]
pub async fn delete(
    State(app): State<App>,
    who: Who,
    Path((of, name)): Path<(String, String)>,
) -> Result<Json<ApplyResponse>, Failure> {
    let key = ResourceKey { kind: kind(&of)?, name };
    let asked = key.clone();
    let known = app.control.read(move |world| world.snapshot.resources.contains_key(&asked));
    if !known.await? {
        return Err(missing(&key));
    }
    apply::commit(&app, who, move |snapshot| model::plan::delete(snapshot, &key)).await
}

fn missing(key: &ResourceKey) -> Failure {
    problem::not_found(format!("there is no {key}: `springtide get {}` lists those that are", key.kind.as_str()))
}
