//! Answers of the proxy itself: what it says when no endpoint does.
//!
//! A rejection names its reason in `x-springtide-reject`, for programs; the body says it for people.

use crate::body::AnswerBody;
use crate::edge::Outcome;
use crate::headers::REJECT;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

/// An answer of the proxy itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Status.
    pub status: StatusCode,
    /// Why it was rejected fast; `None` when it was not a rejection.
    pub reject: Option<&'static str>,
    /// For people, one line.
    pub text: &'static str,
}

const fn own(status: StatusCode, reject: Option<&'static str>, text: &'static str) -> Own {
    Own { status, reject, text }
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

    /// The answer.
    pub fn response(&self) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::Own(Some(Bytes::from_static(self.text.as_bytes()))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(reason) = self.reject {
            headers.insert(REJECT, HeaderValue::from_static(reason));
        }
        response
    }
}
