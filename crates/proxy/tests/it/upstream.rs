//! Real HTTP/1.1 servers behind the proxy, each on threads of its own, counting what reaches them.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Workers of one upstream.
pub const WORKERS: usize = 4;

type Body = BoxBody<Bytes, std::io::Error>;

#[derive(Default)]
pub struct Seen {
    pub connections: AtomicU64,
    pub requests: AtomicU64,
    pub checks: AtomicU64,
    pub failing: AtomicBool,
    pub rejecting: AtomicBool,
    /// 503 without a reason.
    pub unavailable: AtomicBool,
    /// A policy answers inside the service, as the SDK has it.
    pub instead: AtomicBool,
    /// Idempotency keys, one for each time that one came.
    pub keys: Mutex<Vec<String>>,
    pub last: Mutex<Option<(String, HeaderMap)>>,
    pub last_version: Mutex<Option<Version>>,
    pub check_version: Mutex<Option<Version>>,
    /// Load report on every answer, as a service with the SDK gives it.
    pub load: Mutex<Option<&'static str>>,
    /// Workers of `/work?MS`.
    pub workers: OnceLock<Arc<Semaphore>>,
    /// Work that was ended.
    pub worked: AtomicU64,
}

pub struct Upstream {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl Upstream {
    pub fn start() -> Self {
        Self::at(testkit::address())
    }

    pub fn at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let seen = Arc::new(Seen::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, SeqCst);
                let seen = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&seen), request));
                // Either protocol: the first bytes tell.
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    pub fn requests(&self) -> u64 {
        self.seen.requests.load(SeqCst)
    }

    /// Idempotency keys that came, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.seen.keys.lock().expect("not poisoned").clone();
        keys.sort();
        keys
    }

    pub fn connections(&self) -> u64 {
        self.seen.connections.load(SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Waits until its sockets are closed: another may want the address.
        self.runtime.take().expect("lives until dropped").shutdown_timeout(Duration::from_secs(5));
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let load = *seen.load.lock().expect("not poisoned");
    let mut response = respond(seen, request).await?;
    if let Some(load) = load {
        response.headers_mut().insert("endpoint-load-metrics", HeaderValue::from_static(load));
    }
    Ok(response)
}

/// Work that a caller's leaving does not end, as real work is: a queue, a few workers, a fixed time each.
async fn work(seen: Arc<Seen>, ms: u64) {
    let workers = Arc::clone(seen.workers.get_or_init(|| Arc::new(Semaphore::new(WORKERS))));
    let task = tokio::spawn(async move {
        let _worker = workers.acquire_owned().await;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        seen.worked.fetch_add(1, SeqCst);
    });
    task.await.expect("work does not panic");
}

async fn respond(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let path = request.uri().path().to_owned();
    if path == "/health" {
        *seen.check_version.lock().expect("not poisoned") = Some(request.version());
        seen.checks.fetch_add(1, SeqCst);
        let status = if seen.failing.load(SeqCst) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        return Ok(Response::builder().status(status).body(full("")).expect("valid"));
    }
    seen.requests.fetch_add(1, SeqCst);
    *seen.last.lock().expect("not poisoned") = Some((request.uri().to_string(), request.headers().clone()));
    *seen.last_version.lock().expect("not poisoned") = Some(request.version());
    if seen.rejecting.load(SeqCst) {
        let response =
            Response::builder().status(503).header("x-springtide-reject", "overload; by=web").body(full("no"));
        return Ok(response.expect("valid"));
    }
    if seen.unavailable.load(SeqCst) {
        return Ok(Response::builder().status(503).body(full("not now")).expect("valid"));
    }
    if seen.instead.load(SeqCst) {
        let response = Response::builder().header("x-springtide-instead", "quiet").body(full("later"));
        return Ok(response.expect("valid"));
    }
    if let Some(key) = request.headers().get("idempotency-key") {
        let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
        seen.keys.lock().expect("not poisoned").push(key);
    }
    if seen.failing.load(SeqCst) {
        return Ok(Response::builder().status(500).body(full("failing")).expect("valid"));
    }
    let argument: u64 = request.uri().query().and_then(|q| q.parse().ok()).unwrap_or(0);
    Ok(match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(argument)).await;
            Response::new(full("slow"))
        }
        "/work" => {
            work(seen, argument).await;
            Response::new(full("worked"))
        }
        "/echo" => Response::new(request.into_body().map_err(std::io::Error::other).boxed()),
        "/count" => {
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            Response::new(full(body.len().to_string()))
        }
        "/big" => Response::new(big(argument)),
        "/break" => {
            let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"half"))) });
            let then = stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("cut"))
            });
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(first, then))))
        }
        "/stall" => {
            let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"half"))) });
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(first, stream::pending()))))
        }
        "/status" => Response::builder().status(argument as u16).body(full("")).expect("valid"),
        "/trailers" => trailers(argument, request).await?,
        "/watch" => watch(argument),
        "/hops" => Response::builder()
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("x-kept", "1")
            .body(full("hops"))
            .expect("valid"),
        _ => Response::new(full("hello")),
    })
}

/// A body of `bytes` bytes in chunks, whose content depends on its position.
fn big(bytes: u64) -> Body {
    const CHUNK: u64 = 16 * 1024;
    let frames = stream::iter((0..bytes.div_ceil(CHUNK)).map(move |index| {
        let len = CHUNK.min(bytes - index * CHUNK) as usize;
        Ok(Frame::data(Bytes::from(vec![(index % 251) as u8; len])))
    }));
    StreamBody::new(frames).boxed()
}

/// gRPC: the body again, then trailers with this status.
async fn trailers(grpc_status: u64, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let trailers = HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from(grpc_status)),
        (HeaderName::from_static("x-length"), HeaderValue::from(body.len())),
    ]);
    let frames = stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]);
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(BodyExt::boxed(StreamBody::new(frames))).expect("valid"))
}

/// gRPC: a stream that rests for so long.
fn watch(rest_ms: u64) -> Response<Body> {
    let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"first"))) });
    let then = stream::once(async move {
        tokio::time::sleep(Duration::from_millis(rest_ms)).await;
        Ok(Frame::data(Bytes::from_static(b" and last")))
    });
    let body = BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(first, then)));
    Response::builder().header("content-type", "application/grpc").body(body).expect("valid")
}
