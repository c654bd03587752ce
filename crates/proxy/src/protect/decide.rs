//! Phase *decide*: whether a request goes on, and what else becomes of it.

use super::cache::{BODY_BYTES_MAX, Found, Key};
use super::context::{self, Arrival, SHED};
use super::service::Admitted;
use super::{Context, Protection, Reply, Service, Told, locked};
use crate::body::AnswerBody;
use crate::exchange::Failure;
use crate::headers::{DELIVERED, INSTEAD, Marks, ORCA, ORCA_BINARY, REJECT};
use crate::local::LocalCluster;
use crate::outgoing::target;
use crate::request::{Call, Side};
use admission::wire::{self, Why};
use admission::{Advert, UserHash};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use model::PolicyAction;
use policy::{Entry, Head, Headers};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What becomes of a request.
pub enum Verdict {
    /// It goes on to an endpoint.
    Go(Ticket),
    /// It is answered here.
    Reply(Box<Reply>),
    /// It waits in the slow lane of this policy.
    Slow(Arc<Entry>),
}

/// Goes with a request that was let through.
#[derive(Default)]
pub struct Ticket {
    admitted: Option<Admitted>,
    /// Its answer is kept under this.
    keep: Option<Key>,
    /// The slow lane delivers it, and is told whether the service itself answered.
    from_lane: bool,
}

impl Ticket {
    /// The same, of a delivery of the slow lane or not.
    pub fn of_lane(self, from_lane: bool) -> Self {
        Self { from_lane, ..self }
    }

    /// Marks what an endpoint answered to a delivery of the slow lane. This alone lets the lane end an item, so it belongs
    /// where an endpoint's answer is passed on, and nowhere else.
    pub fn mark(&self, answer: &mut Parts) {
        if !self.from_lane {
            return;
        }
        answer.headers.remove(DELIVERED);
        // Of a service that rejected, or let a policy answer, nobody has done the work.
        if !answer.headers.contains_key(REJECT) && !answer.headers.contains_key(INSTEAD) {
            answer.headers.insert(DELIVERED, HeaderValue::from_static("1"));
        }
    }

    /// Its answer is to be kept.
    pub fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    /// It leaves: from now on the service may be at work on it.
    pub fn sent(&mut self) {
        if let Some(admitted) = &mut self.admitted {
            admitted.sent();
        }
    }

    /// It is sent once more, at this time.
    pub fn sent_again(&mut self, now_us: u64) {
        if let Some(admitted) = &mut self.admitted {
            admitted.sent_again(now_us);
        }
    }
}

struct HeadersOf<'a>(&'a HeaderMap);

impl Headers for HeadersOf<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The host that a request is for, as it says it.
fn host(request: &Request<Incoming>) -> &str {
    let given = || request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().host().or_else(given).unwrap_or_default();
    crate::table::without_port(host)
}

impl Protection {
    /// The context of a request that goes to `cluster`.
    pub fn enter(&self, call: &Call<'_>, cluster: &LocalCluster, request: &Request<Incoming>) -> Context {
        let arrival = Arrival {
            outside: call.side == Side::Entry,
            peer: call.peer,
            service: &cluster.shared.name,
            business_level: cluster.shared.business_level,
            timeout: cluster.shared.timeout,
            now_us: call.began.us,
        };
        self.context(&arrival, request.headers(), request.uri())
    }

    /// Decides on a request.
    pub fn decide(
        &self,
        call: &Call<'_>,
        cluster: &LocalCluster,
        context: &Context,
        request: &mut Request<Incoming>,
    ) -> Verdict {
        let Some(service) = &cluster.service else { return Verdict::Go(Ticket::default()) };
        let now_us = context.now_us;
        if call.side == Side::Mesh {
            self.hear_shed(service, request.headers_mut(), now_us);
        }
        if context.deadline.expired(now_us) {
            return self.refuse(service, Why::Deadline);
        }
        let keep = match self.under_policies(call, (cluster, service), context, request) {
            Ok(keep) => keep,
            Err(verdict) => return verdict,
        };
        if let Some(limit) = &self.shared.settings.tenant
            && let Some(tenant) = context::find(&limit.source, request.headers(), request.uri())
            && !service.tenant_admits(self.shared.user_key.hash(tenant).as_u64(), now_us)
        {
            return self.refuse(service, Why::Tenant);
        }
        // A stress test drives one instance to its knee on purpose: its controller judges, not the gate.
        if cluster.shared.balance.leased(call.began.ms()) {
            return Verdict::Go(Ticket { keep, ..Ticket::default() });
        }
        match service.admit(context.priority, context.passes, context.deadline.at_us(), now_us) {
            Ok(admitted) => Verdict::Go(Ticket { admitted: Some(admitted), keep, ..Ticket::default() }),
            Err(why) => self.refuse(service, why),
        }
    }

    /// Offers a request to the sample, and does what a policy wants that takes it. Nearly all requests are in neither, and
    /// their heads are not looked at.
    fn under_policies(
        &self,
        call: &Call<'_>,
        (cluster, service): (&LocalCluster, &Service),
        context: &Context,
        request: &Request<Incoming>,
    ) -> Result<Option<Key>, Verdict> {
        let (user, now_us) = (context.user.map(UserHash::as_u64), context.now_us);
        // A delivery of the slow lane was sampled when its caller sent it.
        let place = if context.from_lane { None } else { locked(&self.sample).place(user, now_us) };
        let policies = &call.local.table.policies;
        if place.is_none() && policies.is_empty() {
            return Ok(None);
        }
        let adapter = HeadersOf(request.headers());
        let head = Head {
            business: &cluster.shared.business,
            service: &service.name,
            caller: call.caller(request.headers()),
            datacenter: &self.shared.datacenter,
            method: request.method().as_str(),
            host: host(request),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: &adapter,
            user,
            priority: context.priority.as_u16(),
        };
        if let Some(place) = place {
            let headers = request.headers().iter().filter_map(|(n, v)| Some((n.as_str(), v.to_str().ok()?)));
            locked(&self.sample).keep(place, &head, headers, now_us);
        }
        // What was slowed already is paced by its own lane: kept again, as known, it would end undelivered.
        let taken =
            if context.from_lane { policies.decide_released(&head, now_us) } else { policies.decide(&head, now_us) };
        match taken {
            Some(taken) => self.taken(service, context, request, &head, taken.entry),
            None => Ok(None),
        }
    }

    fn refuse(&self, service: &Service, why: Why) -> Verdict {
        service.counted.reject(why);
        Verdict::Reply(Box::new(Reply::reject(why, &service.name)))
    }

    /// Refused by a policy; the slow lane tries again later.
    fn refuse_by(&self, service: &Service, entry: &Entry) -> Verdict {
        service.counted.reject(Why::Policy);
        Verdict::Reply(Box::new(Reply::reject(Why::Policy, entry.policy.name.as_str())))
    }

    /// The answer to a request whose time ran out while it waited: it is dropped unstarted.
    pub fn late(&self, cluster: &LocalCluster) -> Reply {
        cluster.service.iter().for_each(|service| service.counted.reject(Why::Deadline));
        Reply::reject(Why::Deadline, &cluster.shared.name)
    }

    /// Demand that its caller shed: it is for whoever judges, this proxy or, if the service does, the service.
    fn hear_shed(&self, service: &Service, headers: &mut HeaderMap, now_us: u64) {
        if service.is_aware(now_us) {
            return;
        }
        let Some(value) = headers.remove(SHED) else { return };
        match value.to_str().map(wire::parse_shed) {
            Ok(Ok(report)) => report.pairs().iter().for_each(|(bucket, count)| {
                service.reported(bucket.middle(), *count, now_us);
            }),
            _ => drop(service.counted.reports_refused.fetch_add(1, Relaxed)),
        }
    }

    /// What a policy that takes a request does: an answer, or leave to go on (and to keep the answer that comes).
    fn taken(
        &self,
        service: &Service,
        context: &Context,
        request: &Request<Incoming>,
        head: &Head<'_>,
        entry: &Arc<Entry>,
    ) -> Result<Option<Key>, Verdict> {
        let answered = |reply| {
            service.counted.policy_answers.fetch_add(1, Relaxed);
            Err(Verdict::Reply(Box::new(reply)))
        };
        match &entry.policy.action {
            // What the lane releases was promised to the service: an answer in its stead would end it undelivered.
            PolicyAction::Suppress(_) | PolicyAction::Degrade(_) if context.from_lane => {
                Err(self.refuse_by(service, entry))
            }
            PolicyAction::Throttle(_) => Err(self.refuse_by(service, entry)),
            PolicyAction::Suppress(answer) => answered(Reply::configured(answer)),
            PolicyAction::Slow(_) => Err(Verdict::Slow(Arc::clone(entry))),
            PolicyAction::Degrade(degrade) => {
                let configured = degrade.answer.as_ref();
                let Some(age_s) = degrade.cached_seconds_max else {
                    return answered(
                        configured.map_or_else(|| Reply::configured(&model::Answer::default()), Reply::configured),
                    );
                };
                let asked = (request.method(), head.host, target(request.uri()));
                let user = context.user.filter(|_| !context.by_address).map(UserHash::as_u64);
                let key = Key::new(&entry.policy.name, asked, request.headers(), user);
                let found = key
                    .as_ref()
                    .map(|key| self.cache.borrow_mut().find(key, u64::from(age_s) * 1_000_000, context.now_us));
                match (found, configured) {
                    (Some(Found::Fresh(reply)), _) => answered(reply),
                    (Some(Found::Fetch), _) => {
                        entry.counts.count_passed();
                        Ok(key)
                    }
                    (_, Some(answer)) => answered(Reply::configured(answer)),
                    (_, None) => {
                        entry.counts.count_passed();
                        Ok(None)
                    }
                }
            }
        }
    }

    /// What the next hop is told: the context, calls that were shed on behalf of its callers, and that a stress test is on
    /// (said by others, it would open their gates: only the proxy's word stands).
    pub fn prepare(&self, cluster: &LocalCluster, context: &Context, headers: &HeaderMap, now_us: u64) -> Told {
        let ungated = cluster.shared.balance.leased(now_us / 1_000);
        let mut shed = None;
        if let Some(service) = &cluster.service
            && service.is_aware(now_us)
            && !headers.contains_key(SHED)
        {
            shed = wire::shed(&service.callee.take_shed());
        }
        Told { context: Some((*context, now_us)), ungated, shed }
    }

    /// The head of an answer came: what it says about the service, and what the caller is told.
    pub fn answered(
        &self,
        call: &Call<'_>,
        cluster: &LocalCluster,
        ticket: &mut Ticket,
        (answer, marks): (&mut Parts, Marks),
        now_us: u64,
    ) -> Option<Advert> {
        let service = cluster.service.as_ref()?;
        let status = answer.status;
        let refused = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
        if let Some(admitted) = ticket.admitted.take() {
            admitted.answered(!status.is_server_error() && !refused, refused, now_us);
        }
        let heard = if marks.load { self.hear(service, &answer.headers, now_us) } else { None };
        if call.side == Side::Mesh {
            if heard.is_none() {
                self.tell(call, service, &mut answer.headers, now_us);
            }
        } else if marks.load {
            answer.headers.remove(ORCA);
            answer.headers.remove(ORCA_BINARY);
        }
        heard
    }

    /// No answer came.
    pub fn failed(&self, ticket: &mut Ticket, failure: &Failure, now_us: u64) {
        let Some(admitted) = ticket.admitted.take() else { return };
        match failure {
            // What it works on for nobody stands before the next.
            Failure::Late => admitted.late(now_us),
            // A connection that was refused, and half a request, say nothing about queues.
            _ => admitted.lost(now_us),
        }
    }

    /// What an answer says about the load of its service; none when it says nothing that can be believed.
    pub fn hear(&self, service: &Service, headers: &HeaderMap, now_us: u64) -> Option<Advert> {
        let report = match headers.get(ORCA) {
            Some(text) => text.to_str().ok().map(wire::parse_orca_text),
            None => Some(wire::parse_orca_binary(headers.get(ORCA_BINARY)?.to_str().ok()?)),
        };
        match report {
            Some(Ok(Some(advert))) => {
                service.heard(advert, now_us);
                Some(advert)
            }
            // A load report of somebody else's, without our names in it: passed on as it is.
            Some(Ok(None)) => Some(Advert::UNKNOWN),
            _ => {
                service.counted.reports_refused.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// The service's level and demand, for a caller on the mesh.
    pub fn tell(&self, call: &Call<'_>, service: &Service, headers: &mut HeaderMap, now_us: u64) {
        let advert = service.advert(now_us);
        let (name, text) =
            if call.grpc { (ORCA_BINARY, wire::orca_binary(&advert)) } else { (ORCA, wire::orca_text(&advert)) };
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            headers.insert(name, value);
        }
    }

    /// Keeps an answer for a `degrade` policy if it is small: reads it to its end, and passes it on.
    pub async fn keep(&self, ticket: Ticket, response: Response<AnswerBody>, now_us: u64) -> Response<AnswerBody> {
        let Some(key) = ticket.keep else { return response };
        let small = response.body().size_hint().upper().is_some_and(|bytes| bytes <= BODY_BYTES_MAX as u64);
        if !small || response.status() != StatusCode::OK {
            return response;
        }
        let (head, body) = response.into_parts();
        match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                self.cache.borrow_mut().keep(key, head.status, &head.headers, body.clone(), now_us);
                Response::from_parts(head, AnswerBody::Own((!body.is_empty()).then_some(body)))
            }
            Err(_) => crate::own::BROKEN.response(false),
        }
    }
}
