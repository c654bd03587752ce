//! The slow lane in a proxy: requests that a `slow` policy takes are kept, answered with 202, and released through the
//! proxy's own mesh listener. Absent: the queue itself (`slowlane`).
//!
//! `/.well-known/springtide/lane/<id>` says on either listener where an item stands. On the mesh, `…/lane` tells how much
//! waits, `…/lane/dead` lists what its receiver refused, and `POST …/lane/dead/<id>/retry` puts one back.

use super::context::DEADLINE_MS;
use super::{Context, LaneAt, Protection, Reply, Told, locked};
use crate::headers::Peer;
use crate::outgoing::{Outgoing, target};
use crate::request::Side;
use api::fleet::{DeadLetter, LaneAnswer};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use model::PolicyAction;
use policy::{Entry, PolicySet};
use slowlane::deliver::{Http, IDEMPOTENCY_KEY};
use slowlane::embedded::{BYTES_MAX, Embedded};
use slowlane::runner::Counts;
use slowlane::streams::Streams;
use slowlane::{Driver, ITEM_BYTES_MAX, Item, ItemHeader, Rates, Runner, State};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Where the lane answers.
pub const PATH: &str = "/.well-known/springtide/lane";
/// Dead letters listed at once.
const DEAD_LIST_MAX: usize = 1_000;
/// Of those, told to the control plane, and letters of their targets there: together well below a message of gRPC.
const LETTERS_MAX: usize = 500;
const TARGET_CHARS_MAX: usize = 512;
/// Letters of a caller's idempotency key.
const KEY_BYTES_MAX: usize = 256;
/// Time for a slowed request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The lane of one proxy.
pub struct Lane {
    driver: Arc<dyn Driver>,
    rates: watch::Sender<Rates>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Lane {
    /// Opens the lane `name` and begins to release through `mesh`. `None` when there is to be none.
    pub fn start(at: &LaneAt, name: &str, mesh: SocketAddr) -> Result<Option<Arc<Self>>, slowlane::Error> {
        let driver: Arc<dyn Driver> = match at {
            LaneAt::Nowhere => return Ok(None),
            LaneAt::Folder(folder) => Arc::new(Embedded::open(folder, name, BYTES_MAX)?),
            LaneAt::Redis(url) => Arc::new(Streams::later(url, name)?),
        };
        let (rates, rates_now) = watch::channel(Rates::default());
        let (stop, stopping) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let deliver = Arc::new(Http { address: reachable(mesh) });
        let failed =
            |source| slowlane::Error::Disk { what: "cannot start the thread of", path: name.to_owned(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let parts = (Arc::clone(&driver), Arc::clone(&counts));
        let run = move || {
            runtime.block_on(async move { Runner::new(parts.0, deliver, rates_now, parts.1).run(stopping).await });
        };
        let thread = std::thread::Builder::new().name("slow-lane".into()).spawn(run).map_err(failed)?;
        Ok(Some(Arc::new(Self { driver, rates, counts, stop, thread: Mutex::new(Some(thread)) })))
    }

    /// Begins to stop: nothing more is released.
    pub fn tell(&self) {
        self.stop.send_replace(true);
    }

    /// Stops releasing; waits for deliveries on their way. What waits stays safe.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        if locked(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the slow lane's thread panicked");
        }
    }

    /// Follows the rates of the policies in force; those of others stay what their items came with.
    pub fn follow(&self, set: &PolicySet) {
        let slow = set.entries().iter().filter(|entry| matches!(entry.policy.action, PolicyAction::Slow(_)));
        let milli_rps = slow.map(|entry| (entry.policy.name.to_string(), milli(entry.rate()))).collect();
        // An entry's rate is this proxy's part already.
        let rates = Rates { milli_rps, proxies: 1 };
        self.rates.send_if_modified(|now| {
            let new = *now != rates;
            if new {
                *now = rates;
            }
            new
        });
    }

    /// Items delivered, to be delivered again, and refused for good, since the start.
    pub fn counts(&self) -> [u64; 3] {
        let Counts { done, retried, dead } = &*self.counts;
        [done.load(Relaxed), retried.load(Relaxed), dead.load(Relaxed)]
    }
}

fn milli(rps: f64) -> u64 {
    (rps * 1_000.0).ceil() as u64
}

/// The mesh listener as this machine reaches it.
fn reachable(mesh: SocketAddr) -> SocketAddr {
    let ip = match mesh.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, mesh.port())
}

/// True for what the lane answers itself.
pub fn is_ours(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Protection {
    /// Keeps a request that `entry` slows.
    pub async fn slow(
        &self,
        entry: &Entry,
        context: &Context,
        service: &str,
        (side, peer): (Side, &Peer),
        request: Request<Incoming>,
    ) -> Reply {
        let (PolicyAction::Slow(slow), Some(lane)) = (&entry.policy.action, self.shared.lane()) else {
            let what = "this proxy has no slow lane (--slow-lane)\n".to_owned();
            return Reply::error(StatusCode::SERVICE_UNAVAILABLE, what);
        };
        let (parts, body) = request.into_parts();
        let key = match parts.headers.get(slow.key_header.as_str()).map(HeaderValue::to_str) {
            None => String::new(),
            Some(Ok(key)) if key.len() <= KEY_BYTES_MAX => key.to_owned(),
            Some(_) => {
                let what = format!("{}: expected up to {KEY_BYTES_MAX} visible ASCII letters\n", slow.key_header);
                return Reply::error(StatusCode::BAD_REQUEST, what);
            }
        };
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, ITEM_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let what = format!("a slowed request must come whole, with a body of at most {ITEM_BYTES_MAX} bytes\n");
                return Reply::error(StatusCode::PAYLOAD_TOO_LARGE, what);
            }
            Err(_) => {
                return Reply::error(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time\n".to_owned());
            }
        };
        let told = Told { context: Some((*context, context.now_us)), ..Told::default() };
        let mut headers = Outgoing { parts: &parts, outside: side == Side::Entry, peer, told }.headers();
        for own in [DEADLINE_MS, header::HOST, header::CONTENT_LENGTH, HeaderName::from_static(IDEMPOTENCY_KEY)] {
            headers.remove(own);
        }
        let kept = |(name, value): (&HeaderName, &HeaderValue)| ItemHeader {
            name: name.as_str().to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let item = Item {
            key,
            policy: entry.policy.name.to_string(),
            service: service.to_owned(),
            method: parts.method.to_string(),
            target: target(&parts.uri).to_owned(),
            headers: headers.iter().map(kept).collect(),
            body,
            rate_milli_rps: milli(entry.rate()),
            waiting_max: slow.waiting_max.into(),
            ..Item::default()
        };
        match lane.driver.push(item).await {
            Ok(pushed) => Reply::accepted(&pushed.id, &format!("{PATH}/{}", pushed.id)),
            Err(error) => refusal(&error),
        }
    }

    /// Answers a request to [`PATH`].
    pub async fn lane(&self, side: Side, method: &Method, path: &str) -> Reply {
        let unknown = || Reply::error(StatusCode::NOT_FOUND, format!("nothing here; an item is at {PATH}/<id>\n"));
        let Some(lane) = self.shared.lane() else {
            return Reply::error(StatusCode::NOT_FOUND, "this proxy has no slow lane (--slow-lane)\n".to_owned());
        };
        let rest = path.strip_prefix(PATH).unwrap_or_default().trim_matches('/');
        let parts: Vec<&str> = rest.split('/').collect();
        let inside = side == Side::Mesh;
        let answer = match (method.as_str(), parts.as_slice()) {
            ("GET", [""]) if inside => lane.summary().await,
            ("GET", ["dead"]) if inside => lane.list().await,
            ("POST", ["dead", id, "retry"]) if inside => match lane.driver.revive(id).await {
                Ok(true) => Ok(Reply::json(StatusCode::OK, format!("{{\"id\":{id:?},\"state\":\"waiting\"}}\n"))),
                Ok(false) => return unknown(),
                Err(error) => Err(error),
            },
            ("GET", [id]) if !id.is_empty() => match lane.driver.state(id).await {
                Ok(Some(state)) => Ok(Reply::json(StatusCode::OK, said(id, &state))),
                Ok(None) => {
                    let holder = id.rsplit_once('.').map_or("another proxy", |(lane, _)| lane);
                    let what = format!(
                        "no item {id} here; it is with {holder}, or was done so long ago that it is forgotten\n"
                    );
                    return Reply::error(StatusCode::NOT_FOUND, what);
                }
                Err(error) => Err(error),
            },
            _ => return unknown(),
        };
        answer.unwrap_or_else(|error| refusal(&error))
    }
}

fn said(id: &str, state: &State) -> String {
    match state {
        State::Waiting => format!("{{\"id\":{id:?},\"state\":\"waiting\"}}\n"),
        State::Done { status } => format!("{{\"id\":{id:?},\"state\":\"done\",\"status\":{status}}}\n"),
        State::Dead { status, reason } => {
            format!("{{\"id\":{id:?},\"state\":\"dead\",\"status\":{status},\"reason\":{reason:?}}}\n")
        }
    }
}

fn refusal(error: &slowlane::Error) -> Reply {
    use slowlane::Error;
    let status = match error {
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::KeyReused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    if status.is_server_error() {
        tracing::warn!(%error, "the slow lane does not take a request");
    }
    Reply::error(status, format!("{error}\n"))
}

impl Lane {
    async fn summary(&self) -> Result<Reply, slowlane::Error> {
        let depth = self.driver.depth().await?;
        let backlog = self.driver.backlog().await?;
        let lanes: Vec<String> =
            backlog.iter().map(|of| format!("{{\"policy\":{:?},\"waiting\":{}}}", of.policy, of.waiting)).collect();
        let [done, retried, dead] = self.counts();
        let text = format!(
            "{{\"waiting\":{},\"dead\":{},\"bytes\":{},\"policies\":[{}],\"released\":{{\"done\":{done},\"retried\":{retried},\"dead\":{dead}}}}}\n",
            depth.waiting,
            depth.dead,
            depth.bytes,
            lanes.join(",")
        );
        Ok(Reply::json(StatusCode::OK, text))
    }

    async fn list(&self) -> Result<Reply, slowlane::Error> {
        let dead = self.driver.dead(0, DEAD_LIST_MAX).await?;
        let one = |of: &slowlane::Dead| {
            let item = &of.item;
            format!(
                "{{\"id\":{:?},\"policy\":{:?},\"service\":{:?},\"method\":{:?},\"target\":{:?},\"accepted_unix_ms\":{},\"status\":{},\"reason\":{:?}}}",
                item.id,
                item.policy,
                item.service,
                item.method,
                item.target,
                item.accepted_unix_ms,
                of.status,
                of.reason
            )
        };
        let list: Vec<String> = dead.iter().map(one).collect();
        Ok(Reply::json(StatusCode::OK, format!("[{}]\n", list.join(","))))
    }

    /// The dead letters, for the control plane; or one of them put back.
    pub async fn answer(&self, retry: &str) -> Result<LaneAnswer, slowlane::Error> {
        if !retry.is_empty() {
            return Ok(LaneAnswer { retried: self.driver.revive(retry).await?, ..LaneAnswer::default() });
        }
        let depth = self.driver.depth().await?;
        let letters = self.driver.dead(0, LETTERS_MAX).await?.into_iter().map(|of| DeadLetter {
            id: of.item.id,
            policy: of.item.policy,
            service: of.item.service,
            method: of.item.method,
            target: of.item.target.chars().take(TARGET_CHARS_MAX).collect(),
            accepted_unix_ms: of.item.accepted_unix_ms,
            status: of.status.into(),
            reason: of.reason,
        });
        Ok(LaneAnswer { letters: letters.collect(), dead: depth.dead, waiting: depth.waiting, ..LaneAnswer::default() })
    }
}
