//! One health question: a GET over a connection of its own, so that a full pool or a stuck connection cannot hide an
//! instance's state.

use crate::assignment::Check;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks once; any 2xx or 3xx is health.
///
/// # Errors
/// A sentence: what was asked and what came.
pub async fn ask(address: IpAddr, check: &Check) -> Result<(), String> {
    let target = SocketAddr::new(address, check.port);
    let url = format!("http://{target}{}", check.path);
    let answer = timeout(Duration::from_millis(check.timeout_ms), get(target, &url, &check.path)).await;
    answer.unwrap_or_else(|_| Err(format!("{url} did not answer within {} ms", check.timeout_ms)))
}

async fn get(target: SocketAddr, url: &str, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| format!("{url}: {error}");
    let stream = TcpStream::connect(target).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = Request::get(path)
        .header("host", target.to_string())
        .header("user-agent", "springtide-agent")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let mut response = std::pin::pin!(sender.send_request(request));
    // The connection is driven only as long as the head takes; the body is nobody's business.
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        _ended = connection => response.await,
    };
    let status = response.map_err(|error| failed(&error))?.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(format!("{url} answered {status}"))
}
