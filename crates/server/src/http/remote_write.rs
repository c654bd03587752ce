//! Prometheus remote write, received: points of others go straight into the series, not through the control loop.
//!
//! What the sender makes of the answer: 204 is taken; 400 and 413 and 415 are never sent again, so they are said of what
//! would be wrong the next time too; 503 is sent again.

use super::App;
use super::problem::{self, Failure};
use crate::clock::now_ms;
use api::http::Problem;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use http::{HeaderMap, StatusCode, header};
use metrics::store::{BODY_BYTES_MAX, Malformed, Written};
use std::time::Duration;

/// Requests that are taken in at once; more wait.
pub const AT_ONCE_MAX: usize = 16;
/// Time that a request waits for its turn.
const WAIT_SECONDS_MAX: u64 = 10;
/// Bodies up to this size are read where they arrived; larger ones on a thread of their own.
const SMALL_BYTES_MAX: usize = 256 << 10;

/// Bounds the body.
pub fn body_max() -> DefaultBodyLimit {
    DefaultBodyLimit::max(BODY_BYTES_MAX)
}

/// Takes samples in: `prometheus.WriteRequest` of remote write 1.0, compressed in snappy's block format.
#[utoipa::path(post, path = "/api/v1/write",
    request_body(content = Vec<u8>, content_type = "application/x-protobuf"),
    responses((status = 204, description = "all taken"),
        (status = 400, body = Problem, description = "malformed, or some samples were refused and the rest taken: not to be sent again"),
        (status = 415, body = Problem, description = "another encoding or version"),
        (status = 503, body = Problem, description = "too busy: to be sent again")))]
pub async fn write(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<StatusCode, Failure> {
    check(&headers)?;
    let turn = tokio::time::timeout(Duration::from_secs(WAIT_SECONDS_MAX), app.writes.acquire()).await;
    let _turn = turn.map_err(|_| {
        problem::unavailable(format!(
            "{AT_ONCE_MAX} writes are at work and none ended within {WAIT_SECONDS_MAX} s: send again"
        ))
    })?;
    let taken = if body.len() <= SMALL_BYTES_MAX {
        app.series.write(&body, now_ms())
    } else {
        let series = app.series.clone();
        let write = move || series.write(&body, now_ms());
        tokio::task::spawn_blocking(write).await.map_err(|error| problem::internal(error.to_string()))?
    };
    answer(taken)
}

fn answer(taken: Result<Written, Malformed>) -> Result<StatusCode, Failure> {
    match taken {
        Ok(written) => written.complaint().map_or(Ok(StatusCode::NO_CONTENT), |what| Err(problem::malformed(what))),
        Err(error @ Malformed::TooLarge(_)) => {
            Err(Failure { status: StatusCode::PAYLOAD_TOO_LARGE, ..problem::malformed(error.to_string()) })
        }
        Err(error) => Err(problem::malformed(error.to_string())),
    }
}

/// Only what the body is read as; an absent header is taken for the right one.
fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    let refused =
        |what: String| Err(Failure { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..problem::malformed(what) });
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| *encoding != "snappy") {
        return refused(format!("Content-Encoding {encoding:?}: snappy would be right"));
    }
    match text(header::CONTENT_TYPE) {
        Some(kind) if !kind.starts_with("application/x-protobuf") => {
            refused(format!("Content-Type {kind:?}: application/x-protobuf would be right"))
        }
        Some(kind) if kind.contains("io.prometheus.write.v2") => refused(format!(
            "Content-Type {kind:?} is remote write 2.0: set protobuf_message to prometheus.WriteRequest"
        )),
        _ => Ok(()),
    }
}
