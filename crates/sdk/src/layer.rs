//! The layer: decides, waits for a worker, serves, tells. In that order, each a function.

use crate::context::set;
use crate::ticket::Ticket;
use crate::{Context, Sdk, Start};
use admission::wire::{self, Why};
use admission::{Priority, Verdict};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use model::{Answer, PolicyAction, Throttle};
use policy::{Head, Headers};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Wake, Poll};
use tower::{Layer, Service};

/// Where the metrics are served.
const METRICS: &str = "/metrics";
/// Health checks are no traffic: they pass whatever the level.
const HEALTH: &str = "/healthz";
/// Caller of a request that does not say.
const CALLER: &str = "x-springtide-caller";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The body of a protected service's answers.
pub type Protected<E> = UnsyncBoxBody<Bytes, E>;

/// Puts [`Protect`] around a service.
#[derive(Clone)]
pub struct ProtectLayer {
    sdk: Sdk,
}

impl ProtectLayer {
    pub(crate) fn new(sdk: Sdk) -> Self {
        Self { sdk }
    }
}

impl<S> Layer<S> for ProtectLayer {
    type Service = Protect<S>;

    fn layer(&self, inner: S) -> Protect<S> {
        Protect { sdk: self.sdk.clone(), inner }
    }
}

/// A protected service.
#[derive(Clone)]
pub struct Protect<S> {
    sdk: Sdk,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Protect<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Protected<R::Error>>;
    type Error = S::Error;
    type Future = Boxed<Result<Self::Response, S::Error>>;

    /// Always ready: a request that cannot be served is rejected at once, it never waits here.
    fn poll_ready(&mut self, _: &mut Wake<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (sdk, mut inner) = (self.sdk.clone(), self.inner.clone());
        Box::pin(async move {
            match request.uri().path() {
                METRICS => return Ok(own(StatusCode::OK, sdk.exposition())),
                HEALTH => {
                    std::future::poll_fn(|wake| inner.poll_ready(wake)).await?;
                    return Ok(inner.call(request).await?.map(BodyExt::boxed_unsync));
                }
                _ => {}
            }
            let (ticket, context) = match sdk.admit(request.headers(), &request) {
                Ok(admitted) => admitted,
                Err(answer) => return Ok(sdk.tell(answer.response())),
            };
            let working = match sdk.0.config.start {
                Start::Service => {
                    request.extensions_mut().insert(ticket);
                    None
                }
                Start::Layer => match ticket.start().await {
                    Ok(working) => Some(working),
                    Err(_) => return Ok(sdk.tell(sdk.rejected(Why::Deadline).response())),
                },
            };
            request.extensions_mut().insert(context);
            std::future::poll_fn(|wake| inner.poll_ready(wake)).await?;
            let answer = inner.call(request).await;
            drop(working);
            let answer = answer.inspect_err(|_| sdk.0.counts.served(false))?;
            sdk.0.counts.served(!answer.status().is_server_error());
            Ok(sdk.tell(answer.map(BodyExt::boxed_unsync)))
        })
    }
}

/// Who answers in the service's place. Every such answer names it: the slow lane must not take one for a delivery.
enum By {
    /// A rejection, as [`wire::REJECT`] has it.
    Rejection(String),
    /// The policy of this name.
    Policy(String),
}

/// An answer in the place of the service's own.
struct Instead {
    status: StatusCode,
    by: By,
    headers: Vec<(String, String)>,
    body: String,
}

impl Instead {
    fn response<E>(self) -> Response<Protected<E>> {
        let mut answer = own(self.status, self.body);
        for (name, value) in &self.headers {
            let name = header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, header::HeaderValue::from_str(value)) {
                answer.headers_mut().insert(name, value);
            }
        }
        match &self.by {
            By::Rejection(reject) => set(answer.headers_mut(), wire::REJECT, reject),
            By::Policy(name) => set(answer.headers_mut(), wire::INSTEAD, name),
        }
        answer
    }
}

fn own<E>(status: StatusCode, text: String) -> Response<Protected<E>> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(BodyExt::boxed_unsync(body));
    *answer.status_mut() = status;
    answer
}

struct HeadersOf<'a>(&'a HeaderMap);

impl Headers for HeadersOf<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Sdk {
    /// Decides on a request: its policies, then the gate.
    fn admit<B>(&self, headers: &HeaderMap, request: &Request<B>) -> Result<(Ticket, Context), Instead> {
        let shared = &self.0;
        let now_us = shared.clock.now_us();
        let mut context = Context::read(headers, shared.config.timeout_ms, now_us);
        self.hear_shed(headers, now_us);
        if let Some(instead) = self.policy(&context, headers, request, now_us) {
            return Err(instead);
        }
        // A stress test drives this instance to its knee on purpose: a gate would hide where that is.
        if headers.contains_key(wire::UNGATED) {
            return Ok((Ticket::ungated(self, now_us, context.deadline), context));
        }
        let passes = wire::admitted_has(&context.admitted, &shared.place.service);
        match shared.gate.offer(context.priority, passes, Some(context.deadline.at_us()), now_us) {
            Verdict::Reject(reason) => Err(self.rejected(Why::from(reason))),
            Verdict::Admit => {
                context.admitted = wire::admitted_with(&context.admitted, &shared.place.service);
                Ok((Ticket::new(self, now_us, context.deadline), context))
            }
        }
    }

    /// Calls that the caller shed before they came here are demand too.
    fn hear_shed(&self, headers: &HeaderMap, now_us: u64) {
        let text = headers.get(wire::SHED).and_then(|value| value.to_str().ok());
        let Some(Ok(report)) = text.map(wire::parse_shed) else { return };
        for (bucket, count) in report.pairs() {
            self.0.gate.reported(bucket.middle(), *count, now_us);
        }
    }

    /// What a policy answers in the service's place. Rates and slow lanes are the proxies': they are shared among proxies
    /// and need a queue that outlives the instance.
    fn policy<B>(&self, context: &Context, headers: &HeaderMap, request: &Request<B>, now_us: u64) -> Option<Instead> {
        let shared = &self.0;
        let set = shared.policies.in_force(now_us);
        if set.is_empty() {
            return None;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = text("host");
        let head = Head {
            business: &shared.place.business,
            service: &shared.place.service,
            caller: text(CALLER),
            datacenter: &shared.place.datacenter,
            method: request.method().as_str(),
            host: host.rsplit_once(':').map_or(host, |(name, _)| name),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: &HeadersOf(headers),
            user: context.user_hash(),
            priority: context.priority.as_u16(),
        };
        let taken = set.decide(&head, now_us)?;
        let configured = |answer| configured(answer, taken.entry.policy.name.as_str());
        match taken.action() {
            PolicyAction::Throttle(Throttle::RequestsPerSecond(_)) | PolicyAction::Slow(_) => None,
            PolicyAction::Throttle(_) => Some(self.rejected(Why::Policy)),
            PolicyAction::Suppress(answer) => Some(configured(answer)),
            PolicyAction::Degrade(degrade) => degrade.answer.as_ref().map(configured),
        }
    }

    fn rejected(&self, why: Why) -> Instead {
        self.0.counts.rejected(why);
        let status = match why {
            Why::Policy | Why::Tenant => StatusCode::TOO_MANY_REQUESTS,
            Why::Deadline => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let by = By::Rejection(wire::reject(why, &self.0.place.service));
        Instead { status, by, headers: Vec::new(), body: format!("rejected: {}\n", why.as_str()) }
    }

    /// Level and demand ride on every answer, a rejection too.
    fn tell<E>(&self, mut answer: Response<Protected<E>>) -> Response<Protected<E>> {
        let shared = &self.0;
        let advert = shared.gate.advert(shared.clock.now_us());
        let grpc =
            answer.headers().get(header::CONTENT_TYPE).is_some_and(|of| of.as_bytes().starts_with(b"application/grpc"));
        if grpc {
            set(answer.headers_mut(), wire::ORCA_BINARY, &wire::orca_binary(&advert));
        } else {
            set(answer.headers_mut(), wire::ORCA, &wire::orca_text(&advert));
        }
        answer
    }

    /// The level below which this instance admits now.
    pub fn level(&self) -> u32 {
        self.0.gate.advert(self.0.clock.now_us()).level
    }

    /// Whether a priority would be admitted now, without counting it.
    pub fn admits(&self, priority: Priority) -> bool {
        priority.within(self.level())
    }
}

fn configured(answer: &Answer, policy: &str) -> Instead {
    Instead {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
        by: By::Policy(policy.to_owned()),
        headers: answer.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        body: answer.body.clone(),
    }
}
