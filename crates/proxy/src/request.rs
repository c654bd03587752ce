//! A request's life: route, choose, prepare, send (once more if safe), answer.
//!
//! HTTP/1.0 and 1.1 without upgrades. No retries beyond the one for a pooled connection that turned out to be closed.

use crate::body::{AnswerBody, Passing, RequestBody, Upload};
use crate::edge::Outcome;
use crate::exchange::{self, Failure, Wanted};
use crate::flight::Flight;
use crate::headers::{self, Peer, REJECT};
use crate::local::{Local, LocalCluster, Upstream};
use crate::worker::Worker;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From outside.
    Entry,
    /// From our own services.
    Mesh,
}

/// An answer of the proxy itself.
struct Own {
    status: StatusCode,
    reject: Option<&'static str>,
    text: &'static str,
}

const fn own(status: StatusCode, reject: Option<&'static str>, text: &'static str) -> Own {
    Own { status, reject, text }
}

const NOT_READY: Own = own(
    StatusCode::SERVICE_UNAVAILABLE,
    Some("not-ready"),
    "the proxy has no routes yet: it waits for its control plane\n",
);
const NO_ROUTE: Own = own(StatusCode::NOT_FOUND, Some("no-route"), "no service is routed for this host and path\n");
const NO_ENDPOINT: Own =
    own(StatusCode::SERVICE_UNAVAILABLE, Some("no-endpoint"), "no endpoint of the service takes requests\n");
const OVERFLOW: Own =
    own(StatusCode::SERVICE_UNAVAILABLE, Some("overflow"), "too many requests wait for this endpoint\n");
const BAD_HOST: Own = own(StatusCode::BAD_REQUEST, None, "exactly one valid host header is needed\n");
const NO_UPGRADE: Own =
    own(StatusCode::NOT_IMPLEMENTED, None, "upgrade and connect are not supported: send plain requests\n");
const BROKEN: Own = own(StatusCode::BAD_GATEWAY, None, "the endpoint broke the connection\n");
const UNREACHABLE: Own = own(StatusCode::BAD_GATEWAY, None, "the endpoint refused the connection\n");
const LATE: Own = own(StatusCode::GATEWAY_TIMEOUT, None, "the endpoint did not answer in time\n");
const SLOW_UPLOAD: Own = own(StatusCode::REQUEST_TIMEOUT, None, "the request body did not come in time\n");

/// Answers one request.
pub async fn answer(worker: &Worker, side: Side, peer: &Peer, request: Request<Incoming>) -> Response<AnswerBody> {
    let began = Instant::now();
    let mut response = match start(worker, side, peer, began, &request) {
        Ok((flight, cluster)) => forward(side, peer, request, flight, &cluster).await,
        Err(answer) => answer.response(),
    };
    if worker.drain.stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Finds the endpoint and opens the count; a failure is counted here too.
fn start(
    worker: &Worker,
    side: Side,
    peer: &Peer,
    began: Instant,
    request: &Request<Incoming>,
) -> Result<(Flight, Rc<LocalCluster>), Own> {
    let local = worker.local();
    let caller = match side {
        Side::Entry => crate::table::OUTSIDE,
        Side::Mesh => request.headers().get(headers::CALLER).and_then(|v| v.to_str().ok()).unwrap_or_default(),
    };
    let refuse = |answer: Own, cluster: Option<&LocalCluster>| {
        let edges = cluster.map_or(local.unrouted.as_ref(), |c| &c.own);
        let edge = edges.from(caller, &local.table, &worker.reporter);
        edge.end(answer.outcome(), began.elapsed().as_micros() as u64);
        tracing::debug!(peer = %peer.ip, status = %answer.status, uri = %request.uri(), "answered by the proxy itself");
        answer
    };
    let cluster = match route(&local, side, request) {
        Ok(cluster) => cluster,
        Err(answer) => return Err(refuse(answer, None)),
    };
    let now_ms = worker.clock.ms(began);
    match cluster.pick(now_ms) {
        Some(upstream) => {
            let edge = upstream.edges.from(caller, &local.table, &worker.reporter);
            Ok((Flight::new(Rc::clone(upstream), edge, worker.clock, began), cluster))
        }
        None => Err(refuse(NO_ENDPOINT, Some(&cluster))),
    }
}

fn route(local: &Local, side: Side, request: &Request<Incoming>) -> Result<Rc<LocalCluster>, Own> {
    if request.method() == Method::CONNECT || upgrades(request.headers()) {
        return Err(NO_UPGRADE);
    }
    let host = host(request)?;
    if !local.table.ready {
        return Err(NOT_READY);
    }
    let hosts = match side {
        Side::Entry => &local.table.entry,
        Side::Mesh => &local.table.mesh,
    };
    let name = hosts.find(host, request.uri().path()).ok_or(NO_ROUTE)?;
    local.clusters.get(name).cloned().ok_or(NO_ENDPOINT)
}

fn upgrades(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}

/// The host a request is for: an absolute target outranks the header (RFC 9112, 3.2.2); HTTP/1.0 may lack both.
fn host(request: &Request<Incoming>) -> Result<&str, Own> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(BAD_HOST);
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str());
    }
    match first {
        Some(value) => value.to_str().map_err(|_| BAD_HOST),
        None if request.version() == Version::HTTP_10 => Ok(""),
        None => Err(BAD_HOST),
    }
}

async fn forward(
    side: Side,
    peer: &Peer,
    request: Request<Incoming>,
    mut flight: Flight,
    cluster: &LocalCluster,
) -> Response<AnswerBody> {
    let upstream = Rc::clone(&flight.upstream);
    if !take_slot(&upstream, cluster).await {
        flight.outcome = Outcome::Reject;
        return OVERFLOW.response();
    }
    flight.slot = true;
    let wanted = Wanted {
        upstream: &upstream,
        connect_timeout: cluster.shared.connect_timeout,
        timeout: cluster.shared.timeout,
    };
    match exchange::exchange(&wanted, prepare(side, peer, request)).await {
        Ok((mut response, connection)) => {
            judge(&mut flight, &response);
            headers::strip(response.headers_mut(), |_| false);
            *response.version_mut() = Version::HTTP_11;
            let (head, body) = response.into_parts();
            let body = if body.is_end_stream() {
                flight.give_back(connection);
                AnswerBody::Own(None)
            } else {
                let mut passing = Passing::new(body, flight, connection, wanted.timeout);
                passing.prime().await;
                if passing.broke() {
                    return BROKEN.response();
                }
                AnswerBody::Passing(passing)
            };
            Response::from_parts(head, body)
        }
        Err(failure) => explain(failure, &mut flight).response(),
    }
}

/// Waits for a place at the endpoint, within bounds.
async fn take_slot(upstream: &Upstream, cluster: &LocalCluster) -> bool {
    if let Ok(permit) = upstream.slots.try_acquire() {
        permit.forget();
        return true;
    }
    if upstream.pending.get() >= cluster.shared.pending_max {
        return false;
    }
    let waiting = Waiting::new(upstream);
    let permit = tokio::time::timeout(cluster.shared.connect_timeout, upstream.slots.acquire()).await;
    drop(waiting);
    match permit {
        Ok(Ok(permit)) => {
            permit.forget();
            true
        }
        _ => false,
    }
}

/// Counts a waiting request, also when its caller gives up.
struct Waiting<'a>(&'a Upstream);

impl<'a> Waiting<'a> {
    fn new(upstream: &'a Upstream) -> Self {
        upstream.pending.set(upstream.pending.get() + 1);
        Self(upstream)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}

fn prepare(side: Side, peer: &Peer, request: Request<Incoming>) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    headers::prepare(&mut parts.headers, side == Side::Entry, peer);
    if let Some(authority) = parts.uri.authority() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.insert(header::HOST, host);
        }
        parts.uri = parts.uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    }
    parts.version = Version::HTTP_11;
    let body = if body.is_end_stream() {
        RequestBody::Empty
    } else {
        let upload = Upload { last: Cell::new(Instant::now()), ended: Cell::new(false), failed: Cell::new(false) };
        RequestBody::Stream(body, Rc::new(upload))
    };
    Request::from_parts(parts, body)
}

/// What an answer says about its endpoint. A rejection is a sign of life, not of failure.
fn judge(flight: &mut Flight, response: &Response<Incoming>) {
    let status = response.status();
    let may_reject = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
    if may_reject && response.headers().contains_key(REJECT) {
        flight.succeeded();
        flight.outcome = Outcome::Reject;
    } else if status.is_server_error() {
        flight.failed();
    } else {
        flight.succeeded();
    }
}

fn explain(failure: Failure, flight: &mut Flight) -> Own {
    let answer = match failure {
        Failure::Upload => return SLOW_UPLOAD,
        Failure::CallerGone => return BROKEN,
        Failure::Connect(error) => {
            tracing::debug!(address = %flight.upstream.state.address, %error, "cannot connect");
            if error.kind() == std::io::ErrorKind::TimedOut { LATE } else { UNREACHABLE }
        }
        Failure::Broken(error) => {
            tracing::debug!(address = %flight.upstream.state.address, %error, "connection broke");
            BROKEN
        }
        Failure::Late => LATE,
    };
    flight.failed();
    answer
}

impl Own {
    fn outcome(&self) -> Outcome {
        match (self.status.is_server_error(), self.reject) {
            (true, Some(_)) => Outcome::Reject,
            (true, None) if self.status != StatusCode::NOT_IMPLEMENTED => Outcome::Error,
            _ => Outcome::Done,
        }
    }

    fn response(&self) -> Response<AnswerBody> {
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
