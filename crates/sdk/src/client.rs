//! Calls to other services, by name, through the mesh: doomed ones are shed here, deadlines and priorities go along, and
//! what failed is tried again within a budget.

use crate::context::set;
use crate::{Context, Sdk};
use admission::wire::{self, Why};
use admission::{Callee, RetryBudget, RetryConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Life of a connection that nobody uses.
const IDLE_SECONDS_MAX: u64 = 30;
/// Services that one client keeps a view of; calls to more are made without one.
const CALLEES_MAX: usize = 1_024;
/// Caller of a call.
const CALLER: &str = "x-springtide-caller";

/// Calls other services. Cheap to clone; clones share views, budgets and connections.
#[derive(Clone)]
pub struct Client {
    sdk: Sdk,
    http: Http<HttpConnector, Full<Bytes>>,
    callees: Arc<Mutex<BTreeMap<String, Arc<View>>>>,
}

/// What is known of one service called.
struct View {
    callee: Callee,
    budget: RetryBudget,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The service would reject it: not sent.
    #[error("{service} is overloaded: the call was not sent")]
    Shed {
        /// The service.
        service: String,
    },
    /// No time is left for it.
    #[error("no time was left for {service} to answer")]
    Deadline {
        /// The service.
        service: String,
    },
    /// It cannot be sent, or broke off.
    #[error("{service} could not be called: {why}")]
    Broken {
        /// The service.
        service: String,
        /// In words.
        why: String,
    },
}

/// An attempt's end.
enum Attempt {
    Answered(Response<Bytes>),
    Broken(String),
}

impl Client {
    pub(crate) fn new(sdk: Sdk) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS_MAX))
            .build(connector);
        Self { sdk, http, callees: Arc::default() }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.sdk.0.clock.now_us()
    }

    /// Calls `service` on behalf of a task. Its answer may be a rejection (see `x-springtide-reject`): then the service
    /// was reached, and said no.
    ///
    /// A safe or idempotent method (or one with an `idempotency-key`) that failed is tried again after a pause with full
    /// jitter, within 10% of all calls, and never against an overloaded service.
    ///
    /// # Errors
    /// It was not sent, has no time left, or broke off.
    pub async fn call(
        &self,
        context: &mut Context,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, CallError> {
        let view = self.view(service);
        let passes = wire::admitted_has(&context.admitted, service);
        if !passes && !view.callee.allows(context.priority, self.now_us()) {
            view.callee.shed(context.priority);
            self.sdk.0.counts.shed();
            return Err(CallError::Shed { service: service.to_owned() });
        }
        view.budget.called();
        let may_repeat = repeatable(&request);
        let mut attempt = 0;
        loop {
            let ended = self.attempt(&view, context, service, &request, attempt).await?;
            let again = may_repeat && worth_again(&ended);
            match self.pause(&view, context, attempt, again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return self.end(context, service, ended),
            }
            attempt += 1;
            self.sdk.0.counts.retried();
        }
    }

    fn view(&self, service: &str) -> Arc<View> {
        let mut callees = self.callees.lock().expect("no holder of this lock panics");
        if let Some(view) = callees.get(service) {
            return Arc::clone(view);
        }
        let budget = RetryBudget::new(RetryConfig::default(), self.now_us());
        let view = Arc::new(View { callee: Callee::new(), budget });
        if callees.len() < CALLEES_MAX {
            callees.insert(service.to_owned(), Arc::clone(&view));
        }
        view
    }

    async fn attempt(
        &self,
        view: &View,
        context: &Context,
        service: &str,
        request: &Request<Bytes>,
        attempt: u32,
    ) -> Result<Attempt, CallError> {
        let now_us = self.now_us();
        let remaining = Duration::from_micros(context.deadline.remaining_us(now_us));
        let late = || CallError::Deadline { service: service.to_owned() };
        if remaining.is_zero() {
            return Err(late());
        }
        let prepared = self.prepare(view, context, service, request, attempt);
        let prepared = prepared.map_err(|why| CallError::Broken { service: service.to_owned(), why })?;
        let exchanged = tokio::time::timeout(remaining, self.exchange(prepared)).await.map_err(|_| late())?;
        Ok(match exchanged {
            Ok(answer) => {
                self.hear(view, answer.headers());
                Attempt::Answered(answer)
            }
            Err(why) => Attempt::Broken(why),
        })
    }

    fn prepare(
        &self,
        view: &View,
        context: &Context,
        service: &str,
        request: &Request<Bytes>,
        attempt: u32,
    ) -> Result<Request<Full<Bytes>>, String> {
        let place = &self.sdk.0.place;
        let mesh = place.mesh.as_ref().ok_or("SPRINGTIDE_MESH is not set: run it as an instance of springtide")?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut sent = Request::new(Full::new(request.body().clone()));
        *sent.method_mut() = request.method().clone();
        *sent.uri_mut() = format!("http://{mesh}{path}").parse().map_err(|why| format!("{path:?}: {why}"))?;
        sent.headers_mut().clone_from(request.headers());
        let host = HeaderValue::from_str(service).map_err(|why| format!("{service:?}: {why}"))?;
        sent.headers_mut().insert(header::HOST, host);
        set(sent.headers_mut(), CALLER, &place.service);
        context.write(sent.headers_mut(), attempt, self.now_us());
        if let Some(shed) = wire::shed(&view.callee.take_shed()) {
            set(sent.headers_mut(), wire::SHED, &shed);
        }
        Ok(sent)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let answer = self.http.request(request).await.map_err(|why| why.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|why| why.to_string())?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Takes the level in that rides on an answer; nonsense is not believed.
    fn hear(&self, view: &View, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let heard = text(wire::ORCA).map(wire::parse_orca_text);
        let heard = heard.or_else(|| text(wire::ORCA_BINARY).map(wire::parse_orca_binary));
        if let Some(Ok(Some(advert))) = heard {
            view.callee.heard(advert, self.now_us());
        }
    }

    /// The pause before another attempt; `None`: there is to be none.
    fn pause(&self, view: &View, context: &Context, attempt: u32, again: bool) -> Option<Duration> {
        if !again {
            return None;
        }
        let now_us = self.now_us();
        // Not `allows`: that may use up a probe.
        let allowed = context.priority.within(view.callee.level(now_us));
        let remaining_us = context.deadline.remaining_us(now_us);
        let granted = view.budget.retry(attempt, allowed, Some(remaining_us), rand::random(), now_us);
        granted.ok().map(Duration::from_micros)
    }

    fn end(&self, context: &mut Context, service: &str, ended: Attempt) -> Result<Response<Bytes>, CallError> {
        match ended {
            Attempt::Broken(why) => Err(CallError::Broken { service: service.to_owned(), why }),
            Attempt::Answered(answer) => {
                if !answer.headers().contains_key(wire::REJECT) {
                    context.admitted = wire::admitted_with(&context.admitted, service);
                }
                Ok(answer)
            }
        }
    }
}

/// Whether sending it twice does what sending it once does.
fn repeatable(request: &Request<Bytes>) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    safe.contains(request.method()) || request.headers().contains_key("idempotency-key")
}

/// A failure that another endpoint may not share. A rejection says that trying again is in vain.
fn worth_again(ended: &Attempt) -> bool {
    match ended {
        Attempt::Broken(_) => true,
        Attempt::Answered(answer) => {
            let status = answer.status();
            let gateway = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
            let reject = answer.headers().get(wire::REJECT).and_then(|value| value.to_str().ok());
            gateway && reject.is_none_or(|value| matches!(wire::parse_reject(value), Ok((Why::NoEndpoint, _))))
        }
    }
}
