//! Keep-alive connections to one endpoint, owned by one worker.
//!
//! HTTP/1.1: one request at a time on each connection (HTTP/2 is in `multiplex`). No sharing between workers, hence no lock.

use crate::body::RequestBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Idle connections kept for one endpoint by one worker.
pub const IDLE_MAX: usize = 512;
/// Age at which an idle connection is closed, below the usual keep-alive of servers (60 to 75 s).
pub const IDLE_MS_MAX: u64 = 30_000;
/// Pooled connections looked at before a new one is opened.
const LOOKS_MAX: usize = 8;
/// Largest head of an answer.
const RESPONSE_HEAD_BYTES_MAX: usize = 128 * 1024;

/// One of the open connections to an endpoint, counted until its socket is closed.
pub struct Opened(Rc<Cell<usize>>);

impl Opened {
    /// Counts one more, if that keeps within `max`.
    pub fn within(count: &Rc<Cell<usize>>, max: usize) -> Option<Self> {
        if count.get() >= max {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(Rc::clone(count)))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection to an endpoint.
pub struct Connection {
    /// Where requests go in.
    pub sender: SendRequest<RequestBody>,
    /// Kept across requests: most end before it is due, so that the timer wheel is hardly ever touched.
    pub timer: Pin<Box<Sleep>>,
    /// Bytes that ever came from the endpoint.
    received: Rc<Cell<u64>>,
    /// Came from the pool.
    pub reused: bool,
}

impl Connection {
    /// Opens one.
    pub async fn open(address: SocketAddr, timeout: Duration, opened: Opened) -> io::Result<Self> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {address} in {timeout:?}"));
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await.map_err(|_| late())??;
        stream.set_nodelay(true)?;
        let received = Rc::new(Cell::new(0));
        let io = TokioIo::new(Counted { inner: stream, received: Rc::clone(&received), _opened: opened });
        let (sender, connection) = http1::Builder::new()
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "upstream connection ended");
            }
        });
        let timer = Box::pin(tokio::time::sleep(timeout));
        Ok(Self { sender, timer, received, reused: false })
    }

    /// Bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }
}

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// Takes the most recently used connection that is ready.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        for _ in 0..LOOKS_MAX {
            index = index.checked_sub(1)?;
            if idle[index].0.sender.is_closed() {
                idle.swap_remove(index);
            } else if idle[index].0.sender.is_ready() {
                let mut connection = idle.swap_remove(index).0;
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Gives one back after its answer was read to the end.
    pub fn give(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push((connection, Instant::now()));
        }
    }

    /// Closes the one that idles longest, to make room for another; false when none idles.
    pub fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return false;
        }
        idle.remove(0);
        true
    }

    /// Closes those that are too old or already closed.
    pub fn sweep(&self, now: Instant) {
        let age_max = Duration::from_millis(IDLE_MS_MAX);
        self.idle
            .borrow_mut()
            .retain(|(c, since)| !c.sender.is_closed() && now.saturating_duration_since(*since) < age_max);
    }
}

/// Counts what comes in, so that "not one byte came" is a fact when a retry is weighed.
struct Counted {
    inner: TcpStream,
    received: Rc<Cell<u64>>,
    _opened: Opened,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.received.set(self.received.get() + (buf.filled().len() - before) as u64);
        done
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
