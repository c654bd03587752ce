//! Refusals of the API: a status and a [`Problem`] that says what was wrong and what would be right.

use api::http::{Fault, Problem};
use axum::Json;
use axum::response::{IntoResponse, Response};
use control::Refusal;
use http::StatusCode;

/// A refusal on its way to the client.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// What is said.
    pub problem: Problem,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

fn failure(status: StatusCode, code: &str, message: impl Into<String>) -> Failure {
    Failure { status, problem: Problem { code: code.to_owned(), message: message.into(), faults: Vec::new() } }
}

/// 404.
pub fn not_found(message: impl Into<String>) -> Failure {
    failure(StatusCode::NOT_FOUND, "not_found", message)
}

/// 409: something else came first, or stands in the way.
pub fn conflict(message: impl Into<String>) -> Failure {
    failure(StatusCode::CONFLICT, "conflict", message)
}

/// 401.
pub fn unauthorized(message: impl Into<String>) -> Failure {
    failure(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

/// 403: known, but not from there.
pub fn forbidden(message: impl Into<String>) -> Failure {
    failure(StatusCode::FORBIDDEN, "unauthorized", message)
}

/// 400: the request itself is malformed.
pub fn malformed(message: impl Into<String>) -> Failure {
    failure(StatusCode::BAD_REQUEST, "refused", message)
}

/// 422 without a place in a manifest.
pub fn unprocessable(message: impl Into<String>) -> Failure {
    failure(StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
}

/// 503: too much at once, or going down.
pub fn unavailable(message: impl Into<String>) -> Failure {
    failure(StatusCode::SERVICE_UNAVAILABLE, "refused", message)
}

/// 507: the disk does not take it.
pub fn no_room(message: impl Into<String>) -> Failure {
    failure(StatusCode::INSUFFICIENT_STORAGE, "refused", message)
}

/// 507 for a full disk, 500 otherwise.
pub fn disk(error: &std::io::Error, message: String) -> Failure {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            no_room(format!("{message}: make room on the disk of the data folder, then try again"))
        }
        _ => internal(message),
    }
}

/// 500.
pub fn internal(message: impl Into<String>) -> Failure {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

/// 422 with each place at fault.
pub fn faults(faults: Vec<model::Fault>) -> Failure {
    let count = faults.len();
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    let message = match count {
        1 => first,
        _ => format!("{count} faults, the first: {first}"),
    };
    let mut refused = failure(StatusCode::UNPROCESSABLE_ENTITY, "invalid_manifest", message);
    let view = |at: model::Fault| Fault { file: at.file, line: at.line, field: at.field, message: at.message };
    refused.problem.faults = faults.into_iter().map(view).collect();
    refused
}

/// What `control` refused: what does not exist is 404, what the state forbids 409, what cannot be is 422.
pub fn refusal(refused: &Refusal) -> Failure {
    let message = refused.to_string();
    match refused {
        Refusal::UnknownService(_)
        | Refusal::UnknownHost(_)
        | Refusal::UnknownDatacenter(_)
        | Refusal::UnknownOperation(_)
        | Refusal::UnknownInstance { .. }
        | Refusal::UnknownTarget { .. } => not_found(message),
        Refusal::Busy { .. }
        | Refusal::HostBusy { .. }
        | Refusal::Final { .. }
        | Refusal::WrongPhase { .. }
        | Refusal::HeldAtFailure { .. }
        | Refusal::NotAt { .. }
        | Refusal::NotBegun { .. }
        | Refusal::Unskippable { .. }
        | Refusal::NoSteps { .. }
        | Refusal::Serving { .. }
        | Refusal::TooManyGivenUp { .. } => conflict(message),
        _ => unprocessable(message),
    }
}
