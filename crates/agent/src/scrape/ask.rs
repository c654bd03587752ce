//! One scrape: a GET over a connection of its own, read piece by piece as it comes.

use super::table::Table;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What we read, the plainest first.
const ACCEPT: &str = "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";

/// Asks once and reads the answer into the table.
///
/// # Errors
/// A sentence: what was asked and what came.
pub async fn ask(target: SocketAddr, path: &str, limit: Duration, table: &mut Table) -> Result<(), String> {
    table.begin();
    let url = format!("http://{target}{path}");
    let read = timeout(limit, read(target, path, table)).await;
    let read = read.unwrap_or_else(|_| Err(format!("not read to its end within {} ms", limit.as_millis())));
    read.map_err(|why| format!("{url}: {why}"))
}

async fn read(target: SocketAddr, path: &str, table: &mut Table) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(target).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::get(path)
        .header("host", target.to_string())
        .header("user-agent", concat!("springtide-agent/", env!("CARGO_PKG_VERSION")))
        .header("accept", ACCEPT)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let answer = async {
        let mut response = sender.send_request(request).await.map_err(|error| text(&error))?;
        if response.status() != 200 {
            return Err(format!("answered {}", response.status()));
        }
        while let Some(frame) = response.frame().await {
            let frame = frame.map_err(|error| text(&error))?;
            let wanted = frame.data_ref().map_or(Ok(true), |part| table.feed(part)).map_err(|error| text(&error))?;
            if !wanted {
                break;
            }
        }
        table.finish().map_err(|error| text(&error))
    };
    // The connection is driven only as long as the answer is wanted; it goes with both.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    }
}
