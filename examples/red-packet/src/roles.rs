//! What each service answers.

use crate::call::{Failed, Mesh, REJECT, USER, Why};
use crate::config::{Config, Place, Role};
use crate::records::{Records, Refused};
use crate::work::Work;
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use sdk::{Context as Task, Protected, Sdk, Start, Ticket};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tower::{Layer, Service, service_fn};

/// Largest body accepted.
const BODY_BYTES_MAX: usize = 64 * 1_024;
/// What a winner may get.
const GIFTS: [&str; 4] = ["coupon", "hongbao", "sticker", "fireworks"];

/// One running service.
pub struct App {
    role: Role,
    place: Place,
    config: Config,
    work: Work,
    /// `lottery` and `pay` protect themselves; the others show that it also goes without.
    sdk: Option<Sdk>,
    mesh: Mesh,
    records: Option<Records>,
    delay_ms: AtomicU64,
    /// Numbers transfers and rolls the dice.
    turns: AtomicU64,
    dice: RandomState,
}

type Answer = Response<Full<Bytes>>;

/// An answer that is not 2xx.
struct Refusal {
    status: StatusCode,
    reject: Option<HeaderValue>,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, reject: None, message: message.into() }
    }
}

impl From<Failed> for Refusal {
    /// A rejection further down is passed on as one, so that nobody tries again in vain.
    fn from(failed: Failed) -> Self {
        let (status, reject) = match &failed.why {
            Why::Timeout => (StatusCode::GATEWAY_TIMEOUT, None),
            Why::Status(status, Some(reject)) => (*status, Some(reject.clone())),
            Why::Broken(_) | Why::Status(_, None) => (StatusCode::BAD_GATEWAY, None),
        };
        Self { status, reject, message: failed.to_string() }
    }
}

/// A request as the roles see it.
struct Asked {
    method: Method,
    path: String,
    user: HeaderValue,
    body: Bytes,
    ticket: Option<Ticket>,
    task: Option<Task>,
}

impl App {
    /// Brings the service up; records opens its file.
    pub fn new(role: Role, place: Place, config: Config) -> Result<Self> {
        let records = match role {
            Role::Records => {
                let folder =
                    place.data.as_ref().context("SPRINGTIDE_DATA is not set: records must be a storage service")?;
                Some(Records::open(folder, config.fsync)?)
            }
            _ => None,
        };
        let sdk = match role {
            Role::Lottery | Role::Pay => Some(protection(&config)?),
            _ => None,
        };
        Ok(Self {
            role,
            work: Work::new(&config),
            mesh: Mesh::new(&place, config.call_timeout_ms, sdk.as_ref().map(Sdk::client))?,
            sdk,
            records,
            delay_ms: AtomicU64::new(config.delay_ms),
            turns: AtomicU64::new(0),
            dice: RandomState::new(),
            place,
            config,
        })
    }

    /// Answers one request, behind the SDK's protection where the role has it.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Protected<Infallible>> {
        let Some(sdk) = self.sdk.clone() else { return self.served(request).await.map(BodyExt::boxed_unsync) };
        let served = service_fn(move |request| {
            let app = Arc::clone(&self);
            async move { Ok::<_, Infallible>(app.served(request).await) }
        });
        let answered = sdk.layer().layer(served).call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    async fn served(&self, request: Request<Incoming>) -> Answer {
        let answered = match request.uri().path() {
            "/healthz" => self.health(),
            "/stats" => Ok(self.stats()),
            _ => match read(request).await {
                Ok(asked) => self.role_answer(asked).await,
                Err(refusal) => Err(refusal),
            },
        };
        answered.unwrap_or_else(refuse)
    }

    fn health(&self) -> Result<Answer, Refusal> {
        match &self.records {
            Some(records) if !records.is_well() => {
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "records cannot be written any more"))
            }
            _ => Ok(Response::new(Full::new(Bytes::from_static(b"ok\n")))),
        }
    }

    fn stats(&self) -> Answer {
        give(&json!({
            "service": self.place.service,
            "instance": self.place.instance,
            "role": self.role.as_str(),
            "work": self.work.stats(),
            "records": self.records.as_ref().map(Records::count),
        }))
    }

    async fn role_answer(&self, asked: Asked) -> Result<Answer, Refusal> {
        match (self.role, asked.path.as_str()) {
            (Role::Probe, _) => {
                self.work.run().await;
                Ok(give(&json!({"instance": self.place.instance})))
            }
            (Role::Sso, "/draw") => self.enter(asked).await,
            (Role::Lottery, "/draw") => self.draw(asked).await,
            (Role::Gift, "/gift") => self.gift().await,
            (Role::Message, "/message") => {
                self.work.run().await;
                Ok(give(&json!({"sent": true})))
            }
            (Role::Pay, "/pay") => self.pay(asked).await,
            (Role::Bank, "/transfer") => {
                tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Relaxed))).await;
                self.work.run().await;
                Ok(give(&json!({"transferred": true})))
            }
            (Role::Bank, path) if path.starts_with("/delay/") => self.set_delay(&asked),
            (Role::Records, _) => self.record(asked).await,
            (role, path) => Err(Refusal::new(StatusCode::NOT_FOUND, format!("{role} has no {path}"))),
        }
    }

    /// Entry: whoever comes without a name plays as a guest.
    async fn enter(&self, mut asked: Asked) -> Result<Answer, Refusal> {
        self.work.run().await;
        let drawn = self.mesh.post("lottery", "/draw", &asked.user, Bytes::new(), &mut asked.task).await?;
        Ok(as_json(drawn))
    }

    async fn draw(&self, mut asked: Asked) -> Result<Answer, Refusal> {
        self.work_of(&asked).await?;
        let user = asked.user.to_str().unwrap_or_default().to_owned();
        if self.roll() >= self.config.win_rate {
            return Ok(give(&json!({"user": user, "won": false})));
        }
        let Asked { user: who, task, .. } = &mut asked;
        let gift = self.mesh.post("gift", "/gift", who, Bytes::new(), task).await?;
        let paid = self.mesh.post("pay", "/pay", who, gift.clone(), task).await?;
        self.mesh.post("message", "/message", who, gift.clone(), task).await?;
        Ok(give(&json!({"user": user, "won": true, "gift": parsed("gift", &gift)?, "paid": parsed("pay", &paid)?})))
    }

    async fn gift(&self) -> Result<Answer, Refusal> {
        self.work.run().await;
        let at = (self.roll() * GIFTS.len() as f64) as usize;
        let cents = 1 + (self.roll() * 19_999.0) as u64;
        Ok(give(&json!({"gift": GIFTS[at.min(GIFTS.len() - 1)], "cents": cents})))
    }

    async fn pay(&self, mut asked: Asked) -> Result<Answer, Refusal> {
        self.work_of(&asked).await?;
        let gift: Value = serde_json::from_slice(&asked.body)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is no JSON; give {\"cents\": N}"))?;
        let transfer = format!("{}.{}", self.place.instance, self.turns.fetch_add(1, Relaxed) + 1);
        let Asked { user: who, task, body, .. } = &mut asked;
        self.mesh.post("bank", "/transfer", who, body.clone(), task).await?;
        let user = who.to_str().unwrap_or_default();
        let record = json!({"user": user, "cents": gift["cents"]}).to_string();
        self.mesh.post("records", &format!("/records/{transfer}"), who, record.into(), task).await?;
        Ok(give(&json!({"transfer": transfer})))
    }

    /// The role's own work, on a worker of the SDK's: waiting for others, afterwards, holds none.
    async fn work_of(&self, asked: &Asked) -> Result<(), Refusal> {
        let late = |_| Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the time for it was over before its work began");
        let _working = match &asked.ticket {
            Some(ticket) => Some(ticket.start().await.map_err(late)?),
            None => None,
        };
        self.work.run().await;
        Ok(())
    }

    fn set_delay(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let wanted = asked.path.trim_start_matches("/delay/").parse::<u64>();
        let (&Method::PUT, Ok(delay_ms)) = (&asked.method, wanted) else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "PUT /delay/MS with a whole number of milliseconds"));
        };
        self.delay_ms.store(delay_ms, Relaxed);
        Ok(give(&json!({"delay_ms": delay_ms})))
    }

    async fn record(&self, asked: Asked) -> Result<Answer, Refusal> {
        let records = self.records.as_ref().expect("the records role opened them");
        match (&asked.method, asked.path.strip_prefix("/records/")) {
            (&Method::GET, None) if asked.path == "/count" => Ok(give(&json!({"count": records.count()}))),
            (&Method::POST, Some(key)) => {
                self.work.run().await;
                records.append(key, &asked.body).await.map_err(|refused| match refused {
                    Refused::Bad(why) => Refusal::new(StatusCode::BAD_REQUEST, why),
                    Refused::Failed(why) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why),
                })?;
                Ok(give(&json!({"kept": key})))
            }
            (&Method::GET, Some(key)) => {
                self.work.run().await;
                let failed = |why: anyhow::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string());
                match records.get(key).map_err(failed)? {
                    Some(value) => Ok(Response::new(Full::new(value.into()))),
                    None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("nothing is kept under {key}"))),
                }
            }
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "records has GET /count, GET and POST /records/KEY")),
        }
    }

    /// 0 to 1, each time another.
    fn roll(&self) -> f64 {
        let hash = self.dice.hash_one(self.turns.fetch_add(1, Relaxed));
        (hash >> 11) as f64 / (1_u64 << 53) as f64
    }
}

async fn read(request: Request<Incoming>) -> Result<Asked, Refusal> {
    let (mut parts, body) = request.into_parts();
    let user = parts.headers.get(USER).cloned().unwrap_or(HeaderValue::from_static("guest"));
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is cut off or above 64 KiB"))?;
    let (ticket, task) = (parts.extensions.remove(), parts.extensions.remove());
    Ok(Asked { method: parts.method, path: parts.uri.path().to_owned(), user, body: body.to_bytes(), ticket, task })
}

/// One worker: the process has one thread, and its work is CPU.
fn protection(config: &Config) -> Result<Sdk> {
    let workers = config.workers.unwrap_or(1);
    let own = sdk::Config { workers, start: Start::Service, timeout_ms: config.call_timeout_ms };
    Ok(Sdk::from_environment(own)?)
}

fn parsed(service: &str, answer: &[u8]) -> Result<Value, Refusal> {
    let wrong = |_| Refusal::new(StatusCode::BAD_GATEWAY, format!("{service} did not answer with JSON"));
    serde_json::from_slice(answer).map_err(wrong)
}

fn as_json(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn give(value: &Value) -> Answer {
    as_json(format!("{value}\n").into())
}

fn refuse(refusal: Refusal) -> Answer {
    let mut answer = give(&json!({"error": refusal.message}));
    *answer.status_mut() = refusal.status;
    if let Some(reject) = refusal.reject {
        answer.headers_mut().insert(REJECT, reject);
    }
    answer
}
