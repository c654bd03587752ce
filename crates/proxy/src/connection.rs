//! One inbound connection: which protocol it speaks, and its life until it ends or the worker does.
//!
//! Clear text is HTTP/1.1, or HTTP/2 with prior knowledge, told apart by the first bytes, which stay unread. With a
//! certificate the entry speaks TLS only, and ALPN decides. No upgrade from HTTP/1.1 to h2c: RFC 9113 dropped it.

use crate::headers::Peer;
use crate::request::{self, Side};
use crate::tls::ALPN_HTTP2;
use crate::worker::{Drain, IDLE_S_MAX, Idle, Stage, Worker};
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Connections that one worker serves; further ones are closed at once.
const CONNECTIONS_MAX: usize = 20_000;
/// Largest head of a request.
const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the first bytes of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(IDLE_S_MAX);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests on one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 256;
/// Streams that a caller opened and reset before they were looked at; more end the connection (rapid reset).
const RESET_STREAMS_MAX: usize = 64;
/// Time between pings on a silent HTTP/2 connection, and for their answer.
const PING: Duration = Duration::from_secs(30);
/// First bytes of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes that tell it from any method: none begins with `PRI`.
const PREFACE_BYTES_MIN: usize = 3;
/// Pause when fewer bytes than those came; doubles up to the largest.
const PREFACE_PAUSE_MS: u64 = 1;
const PREFACE_PAUSE_MS_MAX: u64 = 64;

/// Runs the futures of HTTP/2 on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub struct LocalSpawn;

impl<F> hyper::rt::Executor<F> for LocalSpawn
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves a connection as a task of its own.
pub fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: IpAddr, side: Side) {
    if worker.drain.open() >= CONNECTIONS_MAX {
        tracing::warn!(%peer, "connection closed: this worker already serves {CONNECTIONS_MAX}");
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection gone before it was served");
        return;
    }
    let worker = Rc::clone(worker);
    let from = Peer::from(peer);
    let tls = (side == Side::Entry).then(|| worker.tls.borrow().clone()).flatten();
    tokio::task::spawn_local(async move {
        let entered = Entered::new(&worker.drain);
        // Boxed where rare, so that the task of the common connection stays small.
        let ended: Result<(), Box<dyn std::error::Error>> = match tls {
            Some(config) => Box::pin(encrypted(&worker, stream, config.into(), &from, side, &entered)).await,
            None => match begin(&entered, stream).await {
                Begun::Http1(stream) => {
                    one(&worker, TokioIo::new(stream), &from, side, &entered).await.map_err(Into::into)
                }
                Begun::Http2(stream) => {
                    Box::pin(many(&worker, TokioIo::new(stream), &from, side, &entered)).await.map_err(Into::into)
                }
                Begun::Ended => Ok(()),
            },
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
    });
}

/// What the first bytes say.
enum Begun {
    Http1(TcpStream),
    Http2(TcpStream),
    /// Nothing came, in time or before the worker closed what idles.
    Ended,
}

async fn begin(entered: &Entered<'_>, stream: TcpStream) -> Begun {
    let told = tokio::time::timeout(HEAD_TIMEOUT, entered.until_closing(speaks_http2(&stream))).await;
    match told {
        Ok(Some(Ok(true))) => Begun::Http2(stream),
        Ok(Some(Ok(false))) => Begun::Http1(stream),
        Ok(Some(Err(_)) | None) | Err(_) => Begun::Ended,
    }
}

async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE_BYTES_MIN];
    let mut pause_ms = PREFACE_PAUSE_MS;
    loop {
        let came = stream.peek(&mut start).await?;
        if !PREFACE.starts_with(&start[..came]) || came == 0 {
            return Ok(false);
        }
        if came >= PREFACE_BYTES_MIN {
            return Ok(true);
        }
        // The socket counts as readable already: only time can tell.
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(PREFACE_PAUSE_MS_MAX);
    }
}

async fn encrypted(
    worker: &Rc<Worker>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    from: &Peer,
    side: Side,
    entered: &Entered<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, entered.until_closing(acceptor.accept(stream))).await;
    let Ok(Some(stream)) = handshake else { return Ok(()) };
    let stream = stream?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    let io = TokioIo::new(stream);
    if http2 {
        many(worker, io, from, side, entered).await?;
    } else {
        one(worker, io, from, side, entered).await?;
    }
    Ok(())
}

/// HTTP/1.1: one request at a time.
async fn one(
    worker: &Worker,
    io: impl Read + Write + Unpin + 'static,
    from: &Peer,
    side: Side,
    entered: &Entered<'_>,
) -> hyper::Result<()> {
    let service = service_fn(|request| async move {
        let busy = entered.idle.begin();
        let mut response = request::answer(worker, side, from, request).await;
        response.body_mut().keep(busy);
        Ok::<_, Infallible>(response)
    });
    // No timer of hyper's: it would be set for each request. The worker's sweep finds who waits for too long.
    let connection = http1::Builder::new().max_header_size(REQUEST_HEAD_BYTES_MAX).serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut closing = false;
    poll_fn(|cx| {
        match entered.stage(cx.waker()) {
            Stage::Closing if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ if entered.overdue() => return Poll::Ready(Ok(())),
            _ => {}
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// HTTP/2: many requests at a time, each a task.
async fn many(
    worker: &Rc<Worker>,
    io: impl Read + Write + Unpin + 'static,
    from: &Peer,
    side: Side,
    entered: &Entered<'_>,
) -> hyper::Result<()> {
    let worker = Rc::clone(worker);
    let from = Rc::new(from.clone());
    let service = service_fn(move |request| {
        let (worker, from) = (Rc::clone(&worker), Rc::clone(&from));
        async move { Ok::<_, Infallible>(request::answer(&worker, side, &from, request).await) }
    });
    let connection = http2::Builder::new(LocalSpawn)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_header_list_size(REQUEST_HEAD_BYTES_MAX as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut leaving = false;
    poll_fn(|cx| {
        // GOAWAY costs no request, so it is sent as soon as the worker stops; HTTP/1.1 has nothing like it.
        if !leaving && entered.stage(cx.waker()) >= Stage::Stopping {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// A connection's entry in the drain; leaves with the connection.
struct Entered<'a> {
    drain: &'a Drain,
    id: u64,
    idle: Rc<Idle>,
    known: Cell<bool>,
}

impl<'a> Entered<'a> {
    fn new(drain: &'a Drain) -> Self {
        let (id, idle) = drain.enter();
        Self { drain, id, idle, known: Cell::new(false) }
    }

    /// How far the worker's end is. A task's waker stays the same, so it is kept once.
    fn stage(&self, waker: &Waker) -> Stage {
        if !self.known.replace(true) {
            self.drain.wake_by(self.id, waker.clone());
        }
        self.drain.stage()
    }

    /// Gives up when the worker closes what idles.
    async fn until_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.stage(cx.waker()) == Stage::Closing => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Entered<'_> {
    /// Idle, or at one head, for too long.
    fn overdue(&self) -> bool {
        self.idle.age_s() >= IDLE_S_MAX
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.drain.leave(self.id);
    }
}
