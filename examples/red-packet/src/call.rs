//! Calls to other services, through the mesh, on kept connections.

use crate::config::Place;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sdk::{CallError, Context};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Calls on their way at a time; more wait.
const CALLS_MAX: usize = 512;
/// Largest answer accepted.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// Life of a connection that nobody uses.
const IDLE_SECONDS_MAX: u64 = 30;

/// Who sent the request, forwarded on every call.
pub const USER: HeaderName = HeaderName::from_static("x-user-id");
/// Which service calls.
const CALLER: HeaderName = HeaderName::from_static("x-springtide-caller");
/// Marks a 429 or 503 as a rejection by protection; passed on.
pub const REJECT: HeaderName = HeaderName::from_static("x-springtide-reject");

/// The way to the other services: the SDK's where the role has it, else a plain client.
pub struct Mesh {
    sdk: Option<sdk::Client>,
    client: Client<HttpConnector, Full<Bytes>>,
    address: Option<String>,
    caller: HeaderValue,
    free: Semaphore,
    timeout: Duration,
}

/// A call without a good answer.
#[derive(Debug)]
pub struct Failed {
    /// The service called.
    pub service: &'static str,
    /// Why.
    pub why: Why,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum Why {
    /// Not in time.
    Timeout,
    /// Not reached, or broken off.
    Broken(String),
    /// Another status than 2xx; with the value of [`REJECT`], if it had one.
    Status(StatusCode, Option<HeaderValue>),
}

impl Mesh {
    /// Calls are made in the name of the place's service.
    pub fn new(place: &Place, timeout_ms: u64, sdk: Option<sdk::Client>) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS_MAX))
            .build(connector);
        Ok(Self {
            sdk,
            client,
            address: place.mesh.clone(),
            caller: HeaderValue::from_str(&place.service)?,
            free: Semaphore::new(CALLS_MAX),
            timeout: Duration::from_millis(timeout_ms),
        })
    }

    /// POSTs to a service and gives the body of its good answer.
    pub async fn post(
        &self,
        service: &'static str,
        path: &str,
        user: &HeaderValue,
        body: Bytes,
        task: &mut Option<Context>,
    ) -> Result<Bytes, Failed> {
        let called = async {
            match (&self.sdk, task) {
                (Some(client), Some(context)) => protected(client, context, service, path, user, body).await,
                _ => self.exchange(service, path, user, body).await,
            }
        };
        let answer = tokio::time::timeout(self.timeout, called).await;
        answer.unwrap_or(Err(Why::Timeout)).map_err(|why| Failed { service, why })
    }

    async fn exchange(&self, service: &'static str, path: &str, user: &HeaderValue, body: Bytes) -> Result<Bytes, Why> {
        let address = self.address.as_ref().ok_or_else(|| Why::Broken("SPRINGTIDE_MESH is not set".to_owned()))?;
        let _free = self.free.acquire().await.expect("the semaphore is never closed");
        let uri: Uri = format!("http://{address}{path}").parse().map_err(broken)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, HeaderValue::from_static(service));
        request.headers_mut().insert(CALLER, self.caller.clone());
        request.headers_mut().insert(USER, user.clone());
        let response = self.client.request(request).await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(Why::Status(response.status(), response.headers().get(REJECT).cloned()));
        }
        let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(broken)?;
        Ok(whole.to_bytes())
    }
}

/// A call by the SDK: it carries the task's priority and deadline on, and sheds what would be rejected.
async fn protected(
    client: &sdk::Client,
    context: &mut Context,
    service: &str,
    path: &str,
    user: &HeaderValue,
    body: Bytes,
) -> Result<Bytes, Why> {
    let request = Request::builder().method(Method::POST).uri(path).header(USER, user).body(body).map_err(broken)?;
    let answer = client.call(context, service, request).await.map_err(|error| match error {
        CallError::Deadline { .. } => Why::Timeout,
        CallError::Shed { .. } => {
            let by = HeaderValue::from_str(&format!("overload; by={service}")).ok();
            Why::Status(StatusCode::SERVICE_UNAVAILABLE, by)
        }
        CallError::Broken { why, .. } => Why::Broken(why),
    })?;
    if !answer.status().is_success() {
        return Err(Why::Status(answer.status(), answer.headers().get(REJECT).cloned()));
    }
    Ok(answer.into_body())
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Why {
    Why::Broken(error.into().to_string())
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Why::Timeout => write!(f, "{} did not answer in time", self.service),
            Why::Broken(why) => write!(f, "{} could not be called: {why}", self.service),
            Why::Status(status, _) => write!(f, "{} answered {status}", self.service),
        }
    }
}
