//! A page about one thing.

use super::App;
use super::extract::Json;
use super::problem::Failure;
use api::http::{Description, Problem};
use axum::extract::{Path, State};

/// A page about one thing.
#[utoipa::path(get, path = "/v1/describe/{kind}/{name}",
    params(("kind" = String, Path, description = "Service, Host, Operation, Instance, …"), ("name" = String, Path, description = "its name")),
    responses((status = 200, body = Description), (status = 404, body = Problem)))]
pub async fn describe(
    State(_app): State<App>,
    Path((_of, _name)): Path<(String, String)>,
) -> Result<Json<Description>, Failure> {
    Ok(Json(Description::default()))
}
