//! Answers that protection gives in a service's place.

use crate::body::AnswerBody;
use crate::edge::Outcome;
use crate::headers::{DELIVERED, REJECT};
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
    /// For callers of gRPC: its status, where the HTTP status says another thing.
    pub grpc: Option<&'static str>,
}

/// FAILED_PRECONDITION, which clients of gRPC do not send again: there is no answer, and asking again gives none.
const NO_MESSAGE: &str = "9";
/// Headers that gRPC callers get too, as metadata.
const METADATA: [HeaderName; 5] = [
    REJECT,
    header::LOCATION,
    LANE_ID,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
];
/// The id of a request in the slow lane.
pub const LANE_ID: HeaderName = HeaderName::from_static("x-springtide-lane-id");

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
        Self { status, headers, body: Bytes::from_static(text.as_bytes()), outcome: Outcome::Reject, text, grpc: None }
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
            // A message that suits the caller cannot be made up; an operator may configure `grpc-status` itself.
            grpc: status.is_success().then_some(NO_MESSAGE),
        }
    }

    /// JSON.
    pub fn json(status: StatusCode, body: String) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, body: Bytes::from(body), outcome: Outcome::Done, text: "", grpc: None }
    }

    /// 202: the request waits in the slow lane under this id.
    pub fn accepted(id: &str, location: &str) -> Self {
        let body = format!("{{\"id\":{id:?},\"state\":\"waiting\",\"location\":{location:?}}}\n");
        let mut reply = Self::json(StatusCode::ACCEPTED, body);
        for (name, value) in [(header::LOCATION, location), (LANE_ID, id)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                reply.headers.insert(name, value);
            }
        }
        reply.grpc = Some(NO_MESSAGE);
        reply.text = "accepted: it waits in the slow lane and will be delivered; do not send it again\n";
        reply
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
        Self {
            status,
            headers,
            body: Bytes::from(text),
            outcome,
            text: "the slow lane does not take this request\n",
            grpc: None,
        }
    }

    /// The answer.
    pub fn response(mut self, grpc: bool) -> Response<AnswerBody> {
        // No answer in a service's place says that it is the service's, whatever an operator or a kept answer has in it.
        self.headers.remove(DELIVERED);
        if grpc {
            let own = Own { status: self.status, reject: None, text: self.text, by: None };
            let mut response = own.response(true);
            if let Some(status) = self.grpc {
                response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
            }
            for name in METADATA {
                if let Some(value) = self.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
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
