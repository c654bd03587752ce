//! Accepts connections and serves a router on each. All connections end with the task: nothing outlives the server.

use crate::config::Error;
use crate::http::access::Peer;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Time in which the head of a request must come.
const HEAD_SECONDS_MAX: u64 = 10;
/// Time between checks that a quiet HTTP/2 peer is still there, and allowed for its answer.
const KEEP_ALIVE_SECONDS: u64 = 5;
/// Pause after the system refused a connection (no file descriptors left, say).
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves TCP connections until the task is dropped; with TLS where there is a configuration for it.
pub async fn tcp(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<(), Error> {
    let tls = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let Some((stream, _)) = next(&mut connections, connections_max, || listener.accept()).await else { continue };
        // Without it small messages wait for the peer's delayed acknowledgement; a closed socket fails below anyway.
        let _ = stream.set_nodelay(true);
        match tls.clone() {
            None => connections.spawn(connection(stream, router.clone(), None)),
            Some(tls) => connections.spawn(secured(tls, stream, router.clone())),
        };
    }
}

/// A connection whose handshake comes in time.
async fn secured(tls: TlsAcceptor, stream: TcpStream, router: Router) {
    match tokio::time::timeout(Duration::from_secs(HEAD_SECONDS_MAX), tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, router, None).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS on a connection to the HTTP API"),
        Err(_) => tracing::debug!("no TLS handshake within {HEAD_SECONDS_MAX} s"),
    }
}

/// Serves Unix connections until the task is dropped; each request carries the peer's credentials.
pub async fn unix(listener: UnixListener, router: Router, connections_max: usize) -> Result<(), Error> {
    let mut connections = JoinSet::new();
    loop {
        let Some((stream, _)) = next(&mut connections, connections_max, || listener.accept()).await else { continue };
        let peer = Peer { uid: stream.peer_cred().ok().map(|credentials| credentials.uid()) };
        connections.spawn(connection(stream, router.clone(), Some(peer)));
    }
}

/// The next connection, once there is room for it.
async fn next<T, F: Future<Output = std::io::Result<T>>>(
    connections: &mut JoinSet<()>,
    connections_max: usize,
    accept: impl FnOnce() -> F,
) -> Option<T> {
    while connections.try_join_next().is_some() {}
    if connections.len() >= connections_max {
        connections.join_next().await;
    }
    match accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            None
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, peer: Option<Peer>) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX));
    let keep_alive = Duration::from_secs(KEEP_ALIVE_SECONDS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(keep_alive).keep_alive_timeout(keep_alive);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
