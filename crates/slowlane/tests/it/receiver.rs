//! A payment service with a ledger, and the way to it: it honours the idempotency key, as a receiver of the slow lane must, and keeps count of
//! every delivery, so that an audit sees what was lost and what came twice.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

#[derive(Default)]
pub struct Ledger {
    /// Times each key was paid: 1, or the service itself is wrong.
    pub paid: Mutex<BTreeMap<String, u32>>,
    pub deliveries: AtomicU64,
    /// Status to refuse with; 0 pays.
    pub refuse: AtomicU16,
    /// Amounts below this are refused with 503.
    pub refuse_below: AtomicU32,
    /// Refusals say that they are no answer of the receiver.
    pub rejects: AtomicBool,
    /// It is answered on the way, with 200, and nothing is paid.
    pub astray: AtomicBool,
    pub last_attempt: Mutex<String>,
}

pub struct Receiver {
    pub address: SocketAddr,
    pub ledger: Arc<Ledger>,
    runtime: Option<Runtime>,
}

impl Receiver {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let ledger = Arc::new(Ledger::default());
        let shared = Arc::clone(&ledger);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ledger = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&ledger), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, ledger, runtime: Some(runtime) }
    }

    pub fn deliveries(&self) -> u64 {
        self.ledger.deliveries.load(SeqCst)
    }

    pub fn paid(&self) -> BTreeMap<String, u32> {
        self.ledger.paid.lock().expect("not poisoned").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.runtime.take().expect("lives until dropped").shutdown_background();
    }
}

async fn answer(ledger: Arc<Ledger>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (key, attempt) = (header("idempotency-key"), header("x-springtide-attempt"));
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    ledger.deliveries.fetch_add(1, SeqCst);
    *ledger.last_attempt.lock().expect("not poisoned") = attempt;
    if ledger.astray.load(SeqCst) {
        return Ok(Response::new(Full::default()));
    }
    let amount = std::str::from_utf8(&body).ok().and_then(|body| body.strip_prefix("amount=")?.parse::<u32>().ok());
    let failing = amount.is_some_and(|amount| amount < ledger.refuse_below.load(SeqCst));
    let refuse = if failing { 503 } else { ledger.refuse.load(SeqCst) };
    let status = if refuse != 0 {
        refuse
    } else {
        let mut paid = ledger.paid.lock().expect("not poisoned");
        let times = paid.entry(key).or_default();
        if *times > 0 {
            200
        } else {
            *times += 1;
            201
        }
    };
    let mut answer = Response::builder().status(status).header(slowlane::deliver::DELIVERED, "1");
    if refuse != 0 && ledger.rejects.load(SeqCst) {
        answer = answer.header("x-springtide-reject", "no-route");
    }
    Ok(answer.body(Full::default()).expect("valid"))
}
