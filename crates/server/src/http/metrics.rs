//! Numbers over the API.

use super::App;
use super::extract::Json;
use super::problem::Failure;
use api::http::{SeriesView, TopView};
use axum::extract::State;

/// Series over a time range.
#[utoipa::path(get, path = "/v1/metrics/range", responses((status = 200, body = Vec<SeriesView>)))]
pub async fn range(State(_app): State<App>) -> Result<Json<Vec<SeriesView>>, Failure> {
    Ok(Json(Vec::new()))
}

/// Everything, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn exposition(State(_app): State<App>) -> Result<String, Failure> {
    Ok(String::new())
}

/// The fleet at this second.
#[utoipa::path(get, path = "/v1/top", responses((status = 200, body = TopView)))]
pub async fn top(State(_app): State<App>) -> Result<Json<TopView>, Failure> {
    Ok(Json(TopView::default()))
}
