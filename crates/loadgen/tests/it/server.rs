//! A small hyper server whose path says what it does.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What the server saw.
#[derive(Default)]
pub struct Seen {
    pub first: Option<Instant>,
    pub connections: u32,
    /// Path, host, user.
    pub requests: Vec<(String, String, String)>,
}

/// A running server; dropping it stops it.
pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! { () = accept(listener, shared) => {}, _ = stopped => {} }
            });
        });
        Self { address: told.recv().unwrap(), seen, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        seen.lock().unwrap().connections += 1;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            // A client that goes away is part of these tests.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Seen>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = |name: &str| request.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
    let (host, user) = (header("host"), header("x-user-id"));
    let first = {
        let mut seen = seen.lock().unwrap();
        seen.requests.push((path.clone(), host, user));
        *seen.first.get_or_insert_with(Instant::now)
    };
    let mut response = Response::new(Full::new(Bytes::from_static(b"fine")));
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap(), parts.next()) {
        ("sleep", Some(ms)) => tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await,
        ("status", Some(status)) => *response.status_mut() = status.parse().unwrap(),
        ("reject", Some(status)) => {
            *response.status_mut() = status.parse().unwrap();
            response.headers_mut().insert("x-springtide-reject", "overload".parse().unwrap());
        }
        // Whoever comes in the second from 1 to 2 after the first request waits for its end.
        ("stall", _) if (1.0..2.0).contains(&first.elapsed().as_secs_f64()) => {
            tokio::time::sleep_until((first + Duration::from_secs(2)).into()).await;
        }
        ("close", _) => {
            response.headers_mut().insert("connection", "close".parse().unwrap());
        }
        _ => {}
    }
    Ok(response)
}

/// Runs a future on a runtime of one thread, as the callers of the generator do.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
