//! A request's life, phase by phase: accept (the worker's) → route → decide → choose → prepare → send → answer.
//!
//! HTTP/1.0, 1.1 and 2, without upgrades. A request that may be sent twice goes back to *choose* when an attempt failed and
//! protection grants a retry; each attempt counts at its endpoint. What protection decides is in `protect`.

use crate::access_log::Line;
use crate::balance::{key_of, mixed};
use crate::body::{AnswerBody, Passing};
use crate::edge::Outcome;
use crate::endpoint::Moment;
use crate::exchange::{self, Failure, Link, Sending, Wanted};
use crate::flight::Flight;
use crate::headers::{self, Peer, REJECT};
use crate::local::{Local, LocalCluster, Upstream};
use crate::outgoing::Outgoing;
use crate::own::{self, Own};
use crate::protect::{self, Came, Context, Reply, Ticket, Told, Verdict};
use crate::worker::Worker;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, request, response};
use hyper::body::{Body, Incoming};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

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
    pub began: Moment,
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
    let began = worker.clock.now();
    let head_only = request.method() == Method::HEAD;
    let line = worker.pen.as_ref().and_then(|pen| pen.begin(&request, side, peer, began.at));
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
            Err(answer) => return self.refuse(None, request.headers(), &answer),
        };
        if let Some(line) = self.line.borrow_mut().as_mut() {
            line.service = Arc::clone(&cluster.shared.name);
        }
        match self.decide(&cluster, &mut request) {
            Decision::Pass(context, ticket) => {
                let (parts, body) = request.into_parts();
                let body = if body.is_end_stream() { Sending::Nothing } else { Sending::Whole(body) };
                self.send(&cluster, (&parts, body), context, ticket).await
            }
            Decision::Answer(answer) => self.refuse(Some(&cluster), request.headers(), &answer),
            Decision::Reply(reply) => self.reply(&cluster, request.headers(), *reply),
            Decision::Slow(context, entry) => Box::pin(self.slow(&cluster, &context, &entry, request)).await,
        }
    }

    /// Phases *choose*, *send* and *answer*, again when a retry is granted.
    async fn send(
        &self,
        cluster: &LocalCluster,
        (parts, mut body): (&request::Parts, Sending),
        mut context: Option<Context>,
        mut ticket: Ticket,
    ) -> Response<AnswerBody> {
        let repeatable = exchange::repeatable(&parts.method, &body);
        let mut now = self.began;
        let mut failed = None;
        for attempt in 0.. {
            let chosen = self.choose(cluster, context.as_ref(), &parts.headers, failed.as_ref(), now);
            let Some(mut flight) = chosen else {
                return self.refuse(Some(cluster), &parts.headers, &own::NO_ENDPOINT.by(&cluster.shared.name));
            };
            let upstream = Rc::clone(&flight.upstream);
            flight.slot = upstream.slots.take();
            // Boxed, so that the futures of those that need not wait, which are many, stay small.
            if !flight.slot
                && let Err(answer) = Box::pin(self.wait(cluster, context.as_ref(), &mut flight, now)).await
            {
                return answer;
            }
            // What was spent here is taken off what the next hop may spend.
            now = self.worker.clock.now();
            let (told, timeout) = match self.ready(cluster, context.as_ref(), &mut flight, &parts.headers, now) {
                Ok(ready) => ready,
                Err(answer) => return *answer,
            };
            flight.turn(attempt, now);
            let wanted = Wanted {
                upstream: &upstream,
                http2: cluster.shared.http2,
                connect_timeout: cluster.shared.connect_timeout,
                timeout,
                now: now.at,
            };
            ticket.sent();
            let outgoing = Outgoing { parts, outside: self.side == Side::Entry, peer: self.peer, told };
            let result = exchange::exchange(&wanted, &outgoing, &mut body).await;
            now = self.worker.clock.now();
            if result.is_ok() {
                flight.answered(now);
            }
            let at = (cluster, &upstream);
            if let Some(wait) = self.again(at, context.as_mut(), &mut ticket, attempt, repeatable, (&result, now)) {
                spent(flight, result, now);
                Box::pin(tokio::time::sleep(wait)).await;
                now = self.worker.clock.now();
                failed = Some(upstream);
                continue;
            }
            let (answer, link) = match result {
                Ok(answered) => answered,
                Err(failure) => return self.fail(cluster, flight, failure, &mut ticket, now),
            };
            let mut response = self.pass(cluster, flight, answer, (link, timeout), &mut ticket, now);
            if let AnswerBody::Passing(passing) = response.body_mut() {
                passing.prime().await;
                if passing.broke() {
                    return own::BROKEN.response(self.grpc);
                }
            }
            return match &self.worker.protection {
                Some(protection) if ticket.is_kept() => Box::pin(protection.keep(ticket, response, now.us)).await,
                _ => response,
            };
        }
        unreachable!("the loop ends by an answer")
    }

    /// No attempt brought an answer.
    fn fail(
        &self,
        cluster: &LocalCluster,
        mut flight: Flight,
        failure: Failure,
        ticket: &mut Ticket,
        now: Moment,
    ) -> Response<AnswerBody> {
        if let Some(protection) = &self.worker.protection {
            protection.failed(ticket, &failure, now.us);
        }
        explain(failure, &mut flight).by(&cluster.shared.name).response(self.grpc)
    }

    /// Waits for a place at the endpoint, within bounds; an error when the request is not sent after all.
    async fn wait(
        &self,
        cluster: &LocalCluster,
        context: Option<&Context>,
        flight: &mut Flight,
        now: Moment,
    ) -> Result<(), Response<AnswerBody>> {
        let remaining = context.map_or(Duration::MAX, |context| context.remaining(now.us));
        let patience = remaining.min(cluster.shared.connect_timeout);
        let slots = &flight.upstream.slots;
        flight.slot =
            slots.waiting() < cluster.shared.pending_max && tokio::time::timeout(patience, slots.wait()).await.is_ok();
        if !flight.slot && !context.is_some_and(|context| context.deadline.expired(self.now_us())) {
            flight.outcome = Outcome::Reject;
            return Err(own::OVERFLOW.by(&cluster.shared.name).response(self.grpc));
        }
        Ok(())
    }

    /// What the next hop is told, and how long it may take; or why the request is not sent after all.
    fn ready(
        &self,
        cluster: &LocalCluster,
        context: Option<&Context>,
        flight: &mut Flight,
        headers: &HeaderMap,
        now: Moment,
    ) -> Result<(Told, Duration), Box<Response<AnswerBody>>> {
        let (Some(context), Some(protection)) = (context, &self.worker.protection) else {
            return Ok((Told::default(), cluster.shared.timeout));
        };
        if context.deadline.expired(now.us) {
            flight.outcome = Outcome::Reject;
            return Err(Box::new(protection.late(cluster).response(self.grpc)));
        }
        let timeout = cluster.shared.timeout.min(context.remaining(now.us));
        Ok((protection.prepare(cluster, context, headers, now.us), timeout))
    }

    /// The wait before another attempt, if there is to be one.
    fn again(
        &self,
        (cluster, upstream): (&LocalCluster, &Rc<Upstream>),
        context: Option<&mut Context>,
        ticket: &mut Ticket,
        attempt: u32,
        repeatable: bool,
        (result, now): (&Result<(response::Parts, Link), Failure>, Moment),
    ) -> Option<Duration> {
        let (context, protection) = (context?, self.worker.protection.as_ref()?);
        let service = cluster.service.as_ref()?;
        if !repeatable {
            return None;
        }
        if attempt == 0 {
            service.budget.called();
        }
        let came = match result {
            Ok((answer, _)) if answer.status.is_success() => return None,
            Ok((answer, _)) => Came::Answer(answer),
            Err(failure) => Came::Failure(failure),
        };
        let now_us = now.us;
        // A refusal tells the level that a retry is weighed by; what a good answer tells is heard once, when it is passed on.
        if let Came::Answer(answer) = &came
            && let Some(advert) = protection.hear(service, &answer.headers, now_us)
        {
            upstream.state.hear(advert, now.ms());
        }
        let elsewhere = || cluster.has_room_beside(upstream, context.priority.as_u16(), now.ms());
        let wait = protection.again(service, context, attempt, &came, elsewhere, now_us)?;
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
        let Some(protection) = &self.worker.protection else {
            // The lane of the process before this one may deliver through it.
            let from_lane = self.side == Side::Mesh && headers::has(request.headers(), &headers::LANE);
            return Decision::Pass(None, Ticket::default().of_lane(from_lane));
        };
        let context = protection.enter(self, cluster, request);
        match protection.decide(self, cluster, &context, request) {
            Verdict::Go(ticket) => Decision::Pass(Some(context), ticket.of_lane(context.from_lane)),
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
        now: Moment,
    ) -> Option<Flight> {
        let priority = context.map_or(0, |context| context.priority.as_u16());
        let key = cluster.shared.hash_header.as_ref().and_then(|name| match context.and_then(|context| context.user) {
            Some(user) if *name == protect::USER => Some(mixed(user.as_u64())),
            _ => headers.get(name).map(|value| key_of(value.as_bytes())),
        });
        let now_ms = now.ms();
        let upstream = match failed {
            None => cluster.pick(priority, key, now_ms)?,
            Some(failed) => cluster.pick_other(failed, priority, now_ms)?,
        };
        if let Some(line) = self.line.borrow_mut().as_mut() {
            line.instance = Arc::clone(&upstream.state.instance);
        }
        let edge = upstream.edges.from(self.caller(headers), &self.local.table, &self.worker.reporter);
        Some(Flight::new(Rc::clone(upstream), edge, self.worker.clock, now))
    }

    /// The calling service, as the edges name it.
    pub fn caller<'h>(&self, headers: &'h HeaderMap) -> &'h str {
        match self.side {
            Side::Entry => crate::table::OUTSIDE,
            Side::Mesh => headers.get(headers::CALLER).and_then(|v| v.to_str().ok()).unwrap_or_default(),
        }
    }

    /// Phase *answer*: judges the endpoint by it and passes it down.
    fn pass(
        &self,
        cluster: &LocalCluster,
        mut flight: Flight,
        mut answer: response::Parts,
        (mut link, limit): (Link, Duration),
        ticket: &mut Ticket,
        now: Moment,
    ) -> Response<AnswerBody> {
        let http2 = matches!(link, Link::Http2(_));
        let limit = (!http2 || !own::is_grpc(&answer.headers)).then_some(limit);
        judge(&mut flight, &answer, http2);
        let marks = link.marks(&answer.headers);
        headers::strip(&mut answer.headers, marks);
        answer.version = Version::HTTP_11;
        ticket.mark(&mut answer);
        if let Some(protection) = &self.worker.protection {
            let heard = protection.answered(self, cluster, ticket, (&mut answer, marks), now.us);
            if let Some(advert) = heard {
                flight.upstream.state.hear(advert, now.ms());
            }
        }
        let body = if let Some(whole) = link.whole() {
            flight.give_back(link, now);
            AnswerBody::Own((!whole.is_empty()).then_some(whole))
        } else if link.is_done() {
            flight.give_back(link, now);
            AnswerBody::Own(None)
        } else {
            AnswerBody::Passing(Box::new(Passing::new(flight, link, limit, now.at)))
        };
        Response::from_parts(answer, body)
    }

    /// Answers for protection, and counts it.
    fn reply(&self, cluster: &LocalCluster, headers: &HeaderMap, reply: Reply) -> Response<AnswerBody> {
        let edge = cluster.own.from(self.caller(headers), &self.local.table, &self.worker.reporter);
        edge.end(reply.outcome, self.worker.clock.now().us_since(self.began));
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
    fn refuse(&self, cluster: Option<&LocalCluster>, headers: &HeaderMap, answer: &Own) -> Response<AnswerBody> {
        let edges = cluster.map_or(self.local.unrouted.as_ref(), |c| &c.own);
        let edge = edges.from(self.caller(headers), &self.local.table, &self.worker.reporter);
        edge.end(answer.outcome(), self.worker.clock.now().us_since(self.began));
        tracing::debug!(peer = %self.peer.ip, status = %answer.status, "answered by the proxy itself");
        answer.response(self.grpc)
    }
}

fn upgrades(headers: &HeaderMap) -> bool {
    headers::has(headers, &header::UPGRADE)
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

/// An attempt that another one follows counts at its endpoint.
fn spent(mut flight: Flight, result: Result<(response::Parts, Link), Failure>, now: Moment) {
    match result {
        Ok((answer, mut link)) => {
            judge(&mut flight, &answer, matches!(link, Link::Http2(_)));
            if link.whole().is_some() {
                flight.give_back(link, now);
            }
        }
        Err(failure) => drop(explain(failure, &mut flight)),
    }
}

/// What an answer says about its endpoint. A rejection is a sign of life, not of failure.
fn judge(flight: &mut Flight, answer: &response::Parts, http2: bool) {
    let (status, headers) = (answer.status, &answer.headers);
    let may_reject = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
    if may_reject && headers.contains_key(REJECT) {
        flight.succeeded();
        flight.outcome = Outcome::Reject;
    } else if status.is_server_error() || (http2 && own::grpc_failed(headers) == Some(true)) {
        flight.failed();
    } else if !(http2 && own::is_grpc(headers) && own::grpc_failed(headers).is_none()) {
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
