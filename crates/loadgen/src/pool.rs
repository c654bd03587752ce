//! Keep-alive connections to one target: bounded, one request on each at a time, waiters served in order.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::stats::Outcome;

/// Header that marks a 429 or 503 as a rejection by protection.
const REJECT_HEADER: &str = "x-springtide-reject";

type Sender = SendRequest<Full<Bytes>>;

/// The connections to one target.
#[derive(Debug)]
pub(crate) struct Pool {
    target: SocketAddr,
    free: Semaphore,
    idle: Mutex<Vec<Sender>>,
}

impl Pool {
    pub(crate) fn new(target: SocketAddr, connections_max: u32) -> Self {
        Self { target, free: Semaphore::new(connections_max as usize), idle: Mutex::new(Vec::new()) }
    }

    /// Sends one request and reads its whole answer. Dropping the future closes its connection.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Outcome {
        let _free = self.free.acquire().await.expect("the semaphore is never closed");
        // A kept connection may have been closed by the server meanwhile: hyper gives the request back when not a byte
        // of it was sent. Each turn uses up one idle connection, a new one ends the loop.
        loop {
            let (mut sender, kept) = match self.take_idle().await {
                Some(sender) => (sender, true),
                None => match connect(self.target).await {
                    Some(sender) => (sender, false),
                    None => return Outcome::Connect,
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => return self.finish(sender, response).await,
                Err(mut refused) => match refused.take_message().filter(|_| kept) {
                    Some(unsent) => request = unsent,
                    None => return Outcome::Broken,
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<Sender> {
        loop {
            let mut sender = self.idle.lock().expect("no holder of this lock panics").pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn finish(&self, sender: Sender, response: Response<Incoming>) -> Outcome {
        let status = response.status().as_u16();
        let reject = response.headers().get(REJECT_HEADER).filter(|_| matches!(status, 429 | 503));
        let reject = reject.map(|why| String::from_utf8_lossy(why.as_bytes()).into_owned());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return Outcome::Broken;
            }
        }
        if !sender.is_closed() {
            self.idle.lock().expect("no holder of this lock panics").push(sender);
        }
        reject.map_or(Outcome::Status(status), Outcome::Rejected)
    }
}

async fn connect(target: SocketAddr) -> Option<Sender> {
    let stream = TcpStream::connect(target).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    // It ends when the sender is dropped or the server closes; its error shows at the request.
    tokio::spawn(connection);
    Some(sender)
}
