//! HTTP/2 connections to one endpoint, owned by one worker: many requests on each.
//!
//! Prior knowledge in clear text (h2c): inside the mesh there is no TLS. A connection that says GOAWAY takes no new
//! request; what is under way on it ends there.

use crate::body::RequestBody;
use crate::connection::LocalSpawn;
use crate::pool::{IDLE_MS_MAX, Opened};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version, header};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Sleep;

/// Requests on one connection before another is opened; the peer may allow fewer, the rest then waits inside of it.
pub const STREAMS_MAX: usize = 100;
/// Connections that one worker opens to one endpoint.
pub const SESSIONS_MAX: usize = 16;
/// Time between pings while requests are under way, and for their answer: a peer that is gone is noticed within both.
const PING: Duration = Duration::from_secs(10);
/// Largest head of an answer.
const RESPONSE_HEAD_BYTES_MAX: u32 = 128 * 1024;
/// Window of one stream and of one connection: what a peer may have sent that nobody has read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A place for one request on a shared connection.
pub struct Stream {
    /// Where the request goes in.
    pub sender: SendRequest<RequestBody>,
    /// Limit on silence.
    pub timer: Pin<Box<Sleep>>,
    busy: Rc<Cell<usize>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.busy.set(self.busy.get() - 1);
    }
}

struct Session {
    sender: SendRequest<RequestBody>,
    busy: Rc<Cell<usize>>,
    used: Cell<Instant>,
}

impl Session {
    fn stream(&self, timeout: Duration) -> Stream {
        self.used.set(Instant::now());
        self.busy.set(self.busy.get() + 1);
        let timer = Box::pin(tokio::time::sleep(timeout));
        Stream { sender: self.sender.clone(), timer, busy: Rc::clone(&self.busy) }
    }
}

/// The connections.
#[derive(Default)]
pub struct Sessions {
    open: RefCell<Vec<Session>>,
    /// One opens at a time, so that a burst shares it.
    opening: Mutex<()>,
}

impl Sessions {
    /// A place on the least busy connection, opening one if all are full and `opened` grants it.
    pub async fn take(
        &self,
        address: SocketAddr,
        timeout: Duration,
        opened: impl Fn() -> Option<Opened>,
    ) -> io::Result<Stream> {
        if let Some(stream) = self.free(timeout, STREAMS_MAX) {
            return Ok(stream);
        }
        let _turn = self.opening.lock().await;
        if let Some(stream) = self.free(timeout, STREAMS_MAX) {
            return Ok(stream);
        }
        let many = self.open.borrow().len() >= SESSIONS_MAX;
        let granted = if many { None } else { opened() };
        let Some(granted) = granted else {
            let full = || io::Error::new(io::ErrorKind::QuotaExceeded, "no connection left, and none is open");
            return self.free(timeout, usize::MAX).ok_or_else(full);
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {address} in {timeout:?}"));
        let sender = tokio::time::timeout(timeout, connect(address, granted)).await.map_err(|_| late())??;
        let session = Session { sender, busy: Rc::default(), used: Cell::new(Instant::now()) };
        let stream = session.stream(timeout);
        self.open.borrow_mut().push(session);
        Ok(stream)
    }

    /// A place on the least busy living connection with fewer than `below` requests.
    fn free(&self, timeout: Duration, below: usize) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|session| !session.sender.is_closed());
        let least = open.iter().min_by_key(|session| session.busy.get())?;
        (least.busy.get() < below).then(|| least.stream(timeout))
    }

    /// Closes those that are closed already or idle for too long.
    pub fn sweep(&self, now: Instant) {
        let age_max = Duration::from_millis(IDLE_MS_MAX);
        self.open.borrow_mut().retain(|session| {
            let idle = session.busy.get() == 0 && now.saturating_duration_since(session.used.get()) >= age_max;
            !session.sender.is_closed() && !idle
        });
    }
}

/// A request as HTTP/2 has it: scheme and authority in the target, no `Host` (RFC 9113, section 8.3.1).
pub fn absolute(request: Request<RequestBody>) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove(header::HOST);
    let authority = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target = std::mem::take(&mut parts.uri).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(target).expect("scheme, authority and path make a target");
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

async fn connect(address: SocketAddr, opened: Opened) -> io::Result<SendRequest<RequestBody>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::Builder::new(LocalSpawn)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(RESPONSE_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(Counted { stream, opened }))
        .await
        .map_err(io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%address, %error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// Counts what goes where.
struct Counted {
    stream: TcpStream,
    opened: Opened,
}

impl Counted {
    fn sent(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = done {
            self.opened.sent(bytes);
        }
        done
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.opened.received(buf.filled().len() - before);
        done
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(done)
    }
}
