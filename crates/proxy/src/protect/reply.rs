//! Answers that protection gives in a service's place.

use crate::body::AnswerBody;
use crate::edge::Outcome;
use crate::headers::REJECT;
use crate::own::Own;
use admission::wire::{self, Why};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use model::Answer;

/// Seconds after which a caller may try again, where waiting helps.
const RETRY_AFTER_S: &str = "1";

/// An answer without an endpoint.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// How the request counts.
    pub outcome: Outcome,
    /// For callers of gRPC: the answer as one of the proxy's own, whose body is text.
    pub text: &'static str,
}

const fn about(why: Why) -> (StatusCode, &'static str) {
    match why {
        Why::Overload => (StatusCode::SERVICE_UNAVAILABLE, "the service is overloaded for requests of this priority\n"),
        Why::Deadline => {
            (StatusCode::GATEWAY_TIMEOUT, "the time for this request is over, or would be before it is served\n")
        }
        Why::Overflow => (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for this service\n"),
        Why::Policy => (StatusCode::TOO_MANY_REQUESTS, "an operator's policy holds requests like this one back\n"),
        Why::Tenant => (StatusCode::TOO_MANY_REQUESTS, "this tenant has used its share of the service\n"),
        Why::Throttle => {
            (StatusCode::SERVICE_UNAVAILABLE, "the service refuses most requests: this one was not sent\n")
        }
        Why::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no endpoint of the service takes requests\n"),
    }
}

impl Reply {
    /// A fast rejection; `by` is the service, or the policy.
    pub fn reject(why: Why, by: &str) -> Self {
        let (status, text) = about(why);
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Ok(reason) = HeaderValue::from_maybe_shared(Bytes::from(wire::reject(why, by))) {
            headers.insert(REJECT, reason);
        }
        Self { status, headers, body: Bytes::from_static(text.as_bytes()), outcome: Outcome::Reject, text }
    }

    /// What a policy has configured.
    pub fn configured(answer: &Answer) -> Self {
        let mut headers = HeaderMap::with_capacity(answer.headers.len());
        for (name, value) in &answer.headers {
            // The server refuses what is no header; one of a newer version is left out here.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        let body = Bytes::copy_from_slice(answer.body.as_bytes());
        Self {
            status,
            headers,
            body,
            outcome: Outcome::Done,
            text: "an operator's policy answers in the service's place\n",
        }
    }

    /// JSON.
    pub fn json(status: StatusCode, body: String) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, body: Bytes::from(body), outcome: Outcome::Done, text: "" }
    }

    /// An error in words; one that is the proxy's or its disk's fault may be tried again.
    pub fn error(status: StatusCode, text: String) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let ours = status.is_server_error();
        if ours {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        let outcome = if ours { Outcome::Error } else { Outcome::Done };
        Self { status, headers, body: Bytes::from(text), outcome, text: "the slow lane does not take this request\n" }
    }

    /// The answer.
    pub fn response(self, grpc: bool) -> Response<AnswerBody> {
        if grpc {
            let own = Own { status: self.status, reject: None, text: self.text };
            let mut response = own.response(true);
            if let Some(reason) = self.headers.get(REJECT) {
                response.headers_mut().insert(REJECT, reason.clone());
            }
            return response;
        }
        let body = (!self.body.is_empty()).then_some(self.body);
        let mut response = Response::new(AnswerBody::Own(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
