//! A request's life, phase by phase: accept (the worker's) → route → decide → choose → prepare → send → answer.
//!
//! HTTP/1.0, 1.1 and 2, without upgrades. A request that may be sent twice goes back to *choose* when an attempt failed and
//! protection grants a retry; each attempt counts at its endpoint. What protection decides is in `protect`.

use crate::access_log::Line;
use crate::balance::{key_of, mixed};
use crate::body::{AnswerBody, Passing, RequestBody, Upload};
use crate::edge::Outcome;
use crate::exchange::{self, Failure, Link, Wanted};
use crate::flight::Flight;
use crate::headers::{self, Peer, REJECT};
use crate::local::{Local, LocalCluster, Upstream};
use crate::own::{self, Own};
use crate::protect::{self, Came, Context, Reply, Ticket, Verdict};
use crate::worker::Worker;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From outside.
    Entry,
    /// From our own services.
    Mesh,
}

/// One request on its way through the phases.
pub struct Call<'a> {
    /// The worker that has it.
    pub worker: &'a Worker,
    /// The table that it is answered by, even if a new one comes meanwhile.
    pub local: Rc<Local>,
    /// Which listener it came in by.
    pub side: Side,
    /// Who sent it.
    pub peer: &'a Peer,
    /// When its head was there.
    pub began: Instant,
    /// It speaks gRPC.
    pub grpc: bool,
    /// Its line in the access log, when that takes it.
    line: RefCell<Option<Box<Line>>>,
}

/// What is to be done with a request that has a route.
enum Decision {
    /// It goes on to an endpoint.
    Pass(Option<Context>, Ticket),
    /// The proxy answers it.
    Answer(Own),
    /// Protection answers it.
    Reply(Box<Reply>),
    /// It waits in the slow lane of this policy.
    Slow(Context, Arc<policy::Entry>),
}

/// Answers one request.
pub async fn answer(worker: &Worker, side: Side, peer: &Peer, request: Request<Incoming>) -> Response<AnswerBody> {
    let http2 = request.version() == Version::HTTP_2;
    let grpc = http2 && own::is_grpc(request.headers());
    let began = Instant::now();
    let head_only = request.method() == Method::HEAD;
    let line = worker.pen.as_ref().and_then(|pen| pen.begin(&request, side, peer, began));
    let call = Call { worker, local: worker.local(), side, peer, began, grpc, line: RefCell::new(line) };
    let mut response = call.live(request).await;
    if let Some(mut line) = call.line.take() {
        line.answered(&response);
        line.whole = head_only;
        response = response.map(|body| body.logged(line));
    }
    // HTTP/2 has GOAWAY for that.
    if !http2 && worker.drain.stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Call<'_> {
    /// The phases, in order.
    async fn live(&self, mut request: Request<Incoming>) -> Response<AnswerBody> {
        if protect::is_lane(request.uri().path())
            && let Some(protection) = &self.worker.protection
        {
            let lane = protection.lane(self.side, request.method(), request.uri().path());
            return Box::pin(lane).await.response(self.grpc);
        }
        let cluster = match self.route(&request) {
            Ok(cluster) => cluster,
            Err(answer) => return self.refuse(None, &request, &answer),
        };
        if let Some(line) = self.line.borrow_mut().as_mut() {
            line.service = Arc::clone(&cluster.shared.name);
        }
        match self.decide(&cluster, &mut request) {
            Decision::Pass(context, ticket) => {
                let request = self.prepare(request, cluster.shared.http2);
                self.send(&cluster, request, context, ticket).await
            }
            Decision::Answer(answer) => self.refuse(Some(&cluster), &request, &answer),
            Decision::Reply(reply) => self.reply(&cluster, request.headers(), *reply),
            Decision::Slow(context, entry) => Box::pin(self.slow(&cluster, &context, &entry, request)).await,
        }
    }

    /// Phases *choose*, *send* and *answer*, again when a retry is granted.
    async fn send(
        &self,
        cluster: &LocalCluster,
        mut request: Request<RequestBody>,
        mut context: Option<Context>,
        mut ticket: Ticket,
    ) -> Response<AnswerBody> {
        let mut failed = None;
        for attempt in 0.. {
            let Some(mut flight) = self.choose(cluster, context.as_ref(), request.headers(), failed.as_ref()) else {
                return self.refuse(Some(cluster), &request, &own::NO_ENDPOINT);
            };
            let upstream = Rc::clone(&flight.upstream);
            if !take_slot(&upstream, cluster).await {
                flight.outcome = Outcome::Reject;
                return own::OVERFLOW.response(self.grpc);
            }
            flight.slot = true;
            let mut wanted = Wanted {
                upstream: &upstream,
                http2: cluster.shared.http2,
                connect_timeout: cluster.shared.connect_timeout,
                timeout: cluster.shared.timeout,
            };
            if let (Some(context), Some(protection)) = (&context, &self.worker.protection) {
                let now_us = self.now_us();
                if context.deadline.expired(now_us) {
                    flight.outcome = Outcome::Reject;
                    return protection.late(cluster).response(self.grpc);
                }
                wanted.timeout = wanted.timeout.min(context.remaining(now_us));
                protection.prepare(cluster, context, request.headers_mut(), now_us);
            }
            let mut spare = exchange::spare(&request);
            let result = exchange::exchange(&wanted, request, &mut spare).await;
            if let Some(wait) = self.again(cluster, context.as_mut(), &mut ticket, attempt, spare.is_some(), &result) {
                match result {
                    Ok((response, link)) => judge(&mut flight, &response, matches!(link, Link::Http2(_))),
                    Err(failure) => drop(explain(failure, &mut flight)),
                }
                drop(flight);
                tokio::time::sleep(wait).await;
                failed = Some(upstream);
                request = spare.expect("a retry is granted to a request that has a copy only");
                continue;
            }
            return match result {
                Ok((response, link)) => self.pass(cluster, flight, response, (link, wanted.timeout), ticket).await,
                Err(failure) => {
                    if let Some(protection) = &self.worker.protection {
                        protection.failed(&mut ticket, &failure, self.now_us());
                    }
                    explain(failure, &mut flight).response(self.grpc)
                }
            };
        }
        unreachable!("the loop ends by an answer")
    }

    /// The wait before another attempt, if there is to be one.
    fn again(
        &self,
        cluster: &LocalCluster,
        context: Option<&mut Context>,
        ticket: &mut Ticket,
        attempt: u32,
        has_copy: bool,
        result: &Result<(Response<Incoming>, Link), Failure>,
    ) -> Option<Duration> {
        let (context, protection) = (context?, self.worker.protection.as_ref()?);
        let service = cluster.service.as_ref()?;
        if !has_copy {
            return None;
        }
        if attempt == 0 {
            service.budget.called();
        }
        let came = match result {
            Ok((response, _)) => Came::Answer(response),
            Err(failure) => Came::Failure(failure),
        };
        let now_us = self.now_us();
        // A refusal tells the level that a retry is weighed by; what a good answer tells is heard once, when it is passed on.
        if let Came::Answer(response) = &came
            && !response.status().is_success()
        {
            protection.hear(service, response.headers(), now_us);
        }
        let wait = protection.again(service, context, attempt, &came, now_us)?;
        context.attempt += 1;
        ticket.sent_again(now_us + wait.as_micros() as u64);
        Some(wait)
    }

    fn now_us(&self) -> u64 {
        self.worker.clock.now_us()
    }

    /// Phase *route*: the cluster of this host and path.
    fn route(&self, request: &Request<Incoming>) -> Result<Rc<LocalCluster>, Own> {
        if request.method() == Method::CONNECT {
            return Err(own::NO_UPGRADE);
        }
        let host = host(request)?;
        let table = &self.local.table;
        if !table.ready {
            return Err(own::NOT_READY);
        }
        let hosts = match self.side {
            Side::Entry => &table.entry,
            Side::Mesh => &table.mesh,
        };
        let name = hosts.find(host, request.uri().path()).ok_or(own::NO_ROUTE)?;
        self.local.clusters.get(name).cloned().ok_or(own::NO_ENDPOINT)
    }

    /// Phase *decide*: whether it goes on at all. Protection speaks here.
    fn decide(&self, cluster: &LocalCluster, request: &mut Request<Incoming>) -> Decision {
        if upgrades(request.headers()) {
            return Decision::Answer(own::NO_UPGRADE);
        }
        let Some(protection) = &self.worker.protection else { return Decision::Pass(None, Ticket::default()) };
        let context = protection.enter(self, cluster, request);
        match protection.decide(self, cluster, &context, request) {
            Verdict::Go(ticket) => Decision::Pass(Some(context), ticket),
            Verdict::Reply(reply) => Decision::Reply(reply),
            Verdict::Slow(entry) => Decision::Slow(context, entry),
        }
    }

    /// Phase *choose*: the endpoint, another than the one that `failed` where there is one; opens the count of its edge.
    fn choose(
        &self,
        cluster: &LocalCluster,
        context: Option<&Context>,
        headers: &HeaderMap,
        failed: Option<&Rc<Upstream>>,
    ) -> Option<Flight> {
        let priority = context.map_or(0, |context| context.priority.as_u16());
        let key = cluster.shared.hash_header.as_ref().and_then(|name| match context.and_then(|context| context.user) {
            Some(user) if *name == protect::USER => Some(mixed(user.as_u64())),
            _ => headers.get(name).map(|value| key_of(value.as_bytes())),
        });
        let now_ms = self.worker.clock.ms(self.began);
        let upstream = match failed {
            None => cluster.pick(priority, key, now_ms)?,
            Some(failed) => cluster.pick_other(failed, priority, now_ms)?,
        };
        if let Some(line) = self.line.borrow_mut().as_mut() {
            line.instance = Arc::clone(&upstream.state.instance);
        }
        let edge = upstream.edges.from(self.caller(headers), &self.local.table, &self.worker.reporter);
        Some(Flight::new(Rc::clone(upstream), edge, self.worker.clock, self.began))
    }

    /// The calling service, as the edges name it.
    pub fn caller<'h>(&self, headers: &'h HeaderMap) -> &'h str {
        match self.side {
            Side::Entry => crate::table::OUTSIDE,
            Side::Mesh => headers.get(headers::CALLER).and_then(|v| v.to_str().ok()).unwrap_or_default(),
        }
    }

    /// Phase *answer*: judges the endpoint by it and passes it down.
    async fn pass(
        &self,
        cluster: &LocalCluster,
        mut flight: Flight,
        mut response: Response<Incoming>,
        (link, limit): (Link, Duration),
        mut ticket: Ticket,
    ) -> Response<AnswerBody> {
        let http2 = matches!(link, Link::Http2(_));
        let limit = (!http2 || !own::is_grpc(response.headers())).then_some(limit);
        judge(&mut flight, &response, http2);
        headers::strip(response.headers_mut(), |_| false);
        *response.version_mut() = Version::HTTP_11;
        if let Some(protection) = &self.worker.protection {
            let heard = protection.answered(self, cluster, &mut ticket, &mut response, self.now_us());
            if let Some(advert) = heard {
                flight.upstream.state.hear(advert.level, self.worker.clock.now_ms());
            }
        }
        let (head, body) = response.into_parts();
        let body = if body.is_end_stream() {
            flight.give_back(link);
            AnswerBody::Own(None)
        } else {
            let mut passing = Passing::new(body, flight, link, limit);
            passing.prime().await;
            if passing.broke() {
                return own::BROKEN.response(self.grpc);
            }
            AnswerBody::Passing(passing)
        };
        let response = Response::from_parts(head, body);
        match &self.worker.protection {
            Some(protection) if ticket.is_kept() => Box::pin(protection.keep(ticket, response, self.now_us())).await,
            _ => response,
        }
    }

    /// Answers for protection, and counts it.
    fn reply(&self, cluster: &LocalCluster, headers: &HeaderMap, reply: Reply) -> Response<AnswerBody> {
        let edge = cluster.own.from(self.caller(headers), &self.local.table, &self.worker.reporter);
        edge.end(reply.outcome, self.began.elapsed().as_micros() as u64);
        let mut response = reply.response(self.grpc);
        if let (Side::Mesh, Some(protection), Some(service)) = (self.side, &self.worker.protection, &cluster.service) {
            protection.tell(self, service, response.headers_mut(), self.now_us());
        }
        response
    }

    /// Keeps a request for later, and says where.
    async fn slow(
        &self,
        cluster: &LocalCluster,
        context: &Context,
        entry: &policy::Entry,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let caller = request.headers().get(headers::CALLER).cloned();
        let protection = self.worker.protection.as_ref().expect("protection gave the context");
        let reply = protection.slow(entry, context, &cluster.shared.name, (self.side, self.peer), request).await;
        let headers = HeaderMap::from_iter(caller.map(|caller| (headers::CALLER, caller)));
        self.reply(cluster, &headers, reply)
    }

    /// Answers without an endpoint, and counts it.
    fn refuse<B>(&self, cluster: Option<&LocalCluster>, request: &Request<B>, answer: &Own) -> Response<AnswerBody> {
        let edges = cluster.map_or(self.local.unrouted.as_ref(), |c| &c.own);
        let edge = edges.from(self.caller(request.headers()), &self.local.table, &self.worker.reporter);
        edge.end(answer.outcome(), self.began.elapsed().as_micros() as u64);
        let (peer, uri) = (self.peer.ip, request.uri());
        tracing::debug!(%peer, status = %answer.status, %uri, "answered by the proxy itself");
        answer.response(self.grpc)
    }

    /// Phase *prepare*: the request as the endpoint gets it.
    fn prepare(&self, request: Request<Incoming>, http2: bool) -> Request<RequestBody> {
        let (mut parts, body) = request.into_parts();
        let trailers = headers::takes_trailers(&parts.headers);
        headers::prepare(&mut parts.headers, self.side == Side::Entry, self.peer);
        if parts.version == Version::HTTP_2 {
            headers::join_cookies(&mut parts.headers);
        }
        if trailers && http2 {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
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
        return Err(own::BAD_HOST);
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str());
    }
    match first {
        Some(value) => value.to_str().map_err(|_| own::BAD_HOST),
        None if request.version() == Version::HTTP_10 => Ok(""),
        None => Err(own::BAD_HOST),
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

/// What an answer says about its endpoint. A rejection is a sign of life, not of failure.
fn judge(flight: &mut Flight, response: &Response<Incoming>, http2: bool) {
    let status = response.status();
    let may_reject = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
    if may_reject && response.headers().contains_key(REJECT) {
        flight.succeeded();
        flight.outcome = Outcome::Reject;
    } else if status.is_server_error() || (http2 && own::grpc_failed(response.headers()) == Some(true)) {
        flight.failed();
    } else if !(http2 && own::is_grpc(response.headers()) && own::grpc_failed(response.headers()).is_none()) {
        // Of gRPC the trailers will tell.
        flight.succeeded();
    }
}

fn explain(failure: Failure, flight: &mut Flight) -> Own {
    let answer = match failure {
        Failure::Upload => return own::SLOW_UPLOAD,
        Failure::CallerGone => return own::BROKEN,
        Failure::Full => {
            flight.outcome = Outcome::Reject;
            return own::OVERFLOW;
        }
        Failure::Connect(error) => {
            tracing::debug!(address = %flight.upstream.state.address, %error, "cannot connect");
            if error.kind() == std::io::ErrorKind::TimedOut { own::LATE } else { own::UNREACHABLE }
        }
        Failure::Broken(error) => {
            tracing::debug!(address = %flight.upstream.state.address, %error, "connection broke");
            own::BROKEN
        }
        Failure::Late => own::LATE,
    };
    flight.failed();
    answer
}
