//! Answers of the proxy itself: what it says when no endpoint does.
//!
//! A rejection names its reason in `x-springtide-reject`, for programs; the body says it for people.

use crate::body::AnswerBody;
use crate::edge::Outcome;
use crate::headers::REJECT;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::sync::Arc;

/// Start of the content type of gRPC.
const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An answer of the proxy itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Status.
    pub status: StatusCode,
    /// Why it was rejected fast; `None` when it was not a rejection.
    pub reject: Option<&'static str>,
    /// For people, one line.
    pub text: &'static str,
    /// The service that it is said of; it goes with the reason.
    pub by: Option<Arc<str>>,
}

const fn own(status: StatusCode, reject: Option<&'static str>, text: &'static str) -> Own {
    Own { status, reject, text, by: None }
}

pub const NOT_READY: Own = own(
    StatusCode::SERVICE_UNAVAILABLE,
    Some("not-ready"),
    "the proxy has no routes yet: it waits for its control plane\n",
);
pub const NO_ROUTE: Own = own(StatusCode::NOT_FOUND, Some("no-route"), "no service is routed for this host and path\n");
pub const NO_ENDPOINT: Own =
    own(StatusCode::SERVICE_UNAVAILABLE, Some("no-endpoint"), "no endpoint of the service takes requests\n");
pub const OVERFLOW: Own =
    own(StatusCode::SERVICE_UNAVAILABLE, Some("overflow"), "too many requests wait for this endpoint\n");
pub const BAD_HOST: Own = own(StatusCode::BAD_REQUEST, None, "exactly one valid host header is needed\n");
pub const NO_UPGRADE: Own =
    own(StatusCode::NOT_IMPLEMENTED, None, "upgrade and connect are not supported: send plain requests\n");
pub const BROKEN: Own = own(StatusCode::BAD_GATEWAY, None, "the endpoint broke the connection\n");
pub const UNREACHABLE: Own = own(StatusCode::BAD_GATEWAY, None, "the endpoint refused the connection\n");
pub const LATE: Own = own(StatusCode::GATEWAY_TIMEOUT, None, "the endpoint did not answer in time\n");
pub const SLOW_UPLOAD: Own = own(StatusCode::REQUEST_TIMEOUT, None, "the request body did not come in time\n");

impl Own {
    /// How such a request counts.
    pub fn outcome(&self) -> Outcome {
        match (self.status.is_server_error(), self.reject) {
            (true, Some(_)) => Outcome::Reject,
            (true, None) if self.status != StatusCode::NOT_IMPLEMENTED => Outcome::Error,
            _ => Outcome::Done,
        }
    }

    /// The same, said of a service.
    pub fn by(self, service: &Arc<str>) -> Self {
        Self { by: Some(Arc::clone(service)), ..self }
    }

    fn reason(&self) -> Option<HeaderValue> {
        let reason = self.reject?;
        match &self.by {
            Some(service) => HeaderValue::from_str(&format!("{reason}; by={service}")).ok(),
            None => Some(HeaderValue::from_static(reason)),
        }
    }

    /// The answer; a caller that speaks gRPC gets it as gRPC has it: status 200, and trailers only.
    pub fn response(&self, grpc: bool) -> Response<AnswerBody> {
        if grpc {
            return self.grpc_response();
        }
        let mut response = Response::new(AnswerBody::Own(Some(Bytes::from_static(self.text.as_bytes()))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(reason) = self.reason() {
            headers.insert(REJECT, reason);
        }
        response
    }

    fn grpc_response(&self) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::Own(None));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(self.grpc_status()));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.text.trim_ascii_end()));
        if let Some(reason) = self.reason() {
            headers.insert(REJECT, reason);
        }
        response
    }

    /// As gRPC clients read HTTP's status themselves (grpc's http-grpc-status-mapping), but a timeout says so.
    fn grpc_status(&self) -> &'static str {
        match self.status {
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "4",
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => "12",
            StatusCode::BAD_REQUEST => "13",
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => "3",
            StatusCode::FORBIDDEN => "7",
            _ => "14",
        }
    }
}

/// True for a request or answer of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// What `grpc-status` says of the endpoint: `Some(true)` when it failed (UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS), `Some(false)` when it did its work, whatever the caller thinks of it.
pub fn grpc_failed(headers: &HeaderMap) -> Option<bool> {
    headers.get(GRPC_STATUS).map(|status| matches!(status.as_bytes(), b"2" | b"4" | b"13" | b"14" | b"15"))
}
