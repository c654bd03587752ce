//! HTTP/1.1 to an endpoint: one request at a time on a connection, driven by the request itself.
//!
//! No task and no channel of its own: what reads the answer is what waits for it, so a request wakes one task, not two, and
//! its head is written straight from what came in. Requests are never sent on before the answer to the last one was read to
//! its end. Absent: upgrades, and trailers of requests.

mod decode;
mod head;
mod upload;

pub use decode::{Decoder, Piece};
pub use upload::Upload;

use crate::body::poll_silence;
use crate::headers::Marks;
use crate::outgoing::Outgoing;
use crate::pool::Opened;
use bytes::BytesMut;
use http::response::Parts;
use hyper::body::Frame;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use upload::Fault;

/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Bytes asked for in one read, at first.
const READ_BYTES: usize = 8 * 1024;
/// The same for an answer that keeps filling them.
const READ_BYTES_MAX: usize = 128 * 1024;
/// Least room for a read; with less, new room is made.
const READ_ROOM_MIN: usize = 2 * 1024;
/// Interim answers (1xx) before the answer.
const INTERIMS_MAX: u32 = 16;

/// A connection to an endpoint. Boxed wherever it goes: it changes hands several times a request.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// How much of it was searched for the end of a head.
    searched: usize,
    read_bytes: usize,
    lines: Vec<head::Line>,
    sending: Vec<u8>,
    sent: usize,
    /// Bytes of the request under way that were written.
    wrote: bool,
    /// Kept across requests: most end before it is due, so that the timer wheel is hardly ever touched.
    pub timer: Pin<Box<Sleep>>,
    opened: Opened,
}

/// Why an attempt brought no answer.
pub enum Attempt {
    /// Not a byte was written.
    Unsent(io::Error),
    /// Written, or partly; not a byte came back.
    Silent(io::Error),
    /// It broke off amid the head of the answer, or that is malformed.
    Broken(io::Error),
    /// The caller broke off its body.
    CallerGone,
    /// Nothing moved for too long.
    Late,
}

impl Connection {
    /// Opens one.
    pub async fn open(address: SocketAddr, timeout: Duration, opened: Opened) -> io::Result<Box<Self>> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {address} in {timeout:?}"));
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await.map_err(|_| late())??;
        stream.set_nodelay(true)?;
        Ok(Box::new(Self {
            stream,
            received: BytesMut::new(),
            searched: 0,
            read_bytes: READ_BYTES,
            lines: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            wrote: false,
            timer: Box::pin(tokio::time::sleep(timeout)),
            opened,
        }))
    }

    /// Open, and nothing came on it unasked. No system call as long as nothing happened.
    pub fn is_well(&self) -> bool {
        match self.stream.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(_) => {
                matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// Sends a request and waits for the head of its answer. What is left of `upload` after a failure, nothing of which was
    /// written, may be sent elsewhere.
    pub async fn ask(
        mut self: Box<Self>,
        outgoing: &Outgoing<'_>,
        upload: &mut Option<Box<Upload>>,
        limit: Duration,
        began: Instant,
    ) -> Result<(Parts, Receiving), Attempt> {
        self.sending.clear();
        (self.sent, self.wrote, self.searched) = (0, false, 0);
        // From the front again, if nobody holds the last answer any more: the same memory is still in the cache.
        let _ = self.received.try_reclaim(READ_BYTES);
        head::write(&mut self.sending, outgoing, upload.as_deref());
        upload.iter_mut().for_each(|upload| upload.begin(&mut self.sending));
        let (mut sending, mut heard, mut interims) = (true, false, 0);
        let head::Head { parts, marks, decoder, keep } = poll_fn(|cx| {
            if sending {
                match self.poll_send(upload.as_deref_mut(), cx) {
                    Poll::Ready(Ok(())) => sending = false,
                    Poll::Ready(Err(Fault::Caller)) => return Poll::Ready(Err(Attempt::CallerGone)),
                    Poll::Ready(Err(Fault::Write(error))) if !self.wrote => {
                        return Poll::Ready(Err(Attempt::Unsent(error)));
                    }
                    // It may have answered before it closed.
                    Poll::Ready(Err(Fault::Write(_))) => sending = false,
                    Poll::Pending => {}
                }
            }
            loop {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(bytes)) if bytes > 0 => heard = true,
                    Poll::Ready(ended) => {
                        let error = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                        return Poll::Ready(Err(if heard { Attempt::Broken(error) } else { Attempt::Silent(error) }));
                    }
                    Poll::Pending => break,
                }
                loop {
                    match self.head(&outgoing.parts.method).map_err(Attempt::Broken)? {
                        Some(head) if head.parts.status.is_informational() && interims < INTERIMS_MAX => interims += 1,
                        Some(head) if head.parts.status.is_informational() => {
                            let error =
                                io::Error::new(io::ErrorKind::InvalidData, "an upgrade, or endless interim answers");
                            return Poll::Ready(Err(Attempt::Broken(error)));
                        }
                        Some(head) => return Poll::Ready(Ok(head)),
                        None => break,
                    }
                }
            }
            let last = upload.as_ref().map_or(began, |upload| upload.last.max(began));
            poll_silence(&mut self.timer, last, limit, cx).map(|()| Err(Attempt::Late))
        })
        .await?;
        let upload = if sending { upload.take() } else { None };
        Ok((parts, Receiving { connection: self, marks, decoder, keep, upload }))
    }

    /// Writes what is to be written, and then what the caller sends.
    fn poll_send(&mut self, mut upload: Option<&mut Upload>, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            while self.sent < self.sending.len() {
                let stream = Pin::new(&mut self.stream);
                let wrote =
                    std::task::ready!(stream.poll_write(cx, &self.sending[self.sent..])).map_err(Fault::Write)?;
                if wrote == 0 {
                    return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                }
                self.opened.sent(wrote);
                self.sent += wrote;
                self.wrote = true;
            }
            let Some(upload) = &mut upload else { return Poll::Ready(Ok(())) };
            self.sending.clear();
            self.sent = 0;
            if std::task::ready!(upload.poll((&mut self.stream, &self.opened), &mut self.sending, cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads once; 0 at the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.capacity() - self.received.len() < READ_ROOM_MIN {
            self.received.reserve(self.read_bytes);
        }
        let room = self.received.capacity() - self.received.len();
        let bytes = std::task::ready!(pin!(self.stream.read_buf(&mut self.received)).poll(cx))?;
        self.opened.received(bytes);
        if bytes == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(bytes))
    }

    /// The head of an answer, if all of it is there; it is taken off what came.
    fn head(&mut self, method: &http::Method) -> io::Result<Option<head::Head>> {
        if self.searched > 0 && !head::ends(&self.received, self.searched) {
            self.searched = self.received.len();
        } else if let Some(head) = head::read(&mut self.received, &mut self.lines, method)? {
            self.searched = 0;
            return Ok(Some(head));
        } else {
            self.searched = self.received.len();
        }
        if self.received.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer whose head does not end"));
        }
        Ok(None)
    }
}

/// An answer on its way, and what is left to be sent of its request.
pub struct Receiving {
    connection: Box<Connection>,
    /// What the headers of its head are.
    pub marks: Marks,
    decoder: Decoder,
    /// The endpoint keeps the connection after it.
    keep: bool,
    upload: Option<Box<Upload>>,
}

impl Receiving {
    /// Its limit on silence.
    pub fn timer(&mut self) -> &mut Pin<Box<Sleep>> {
        &mut self.connection.timer
    }

    /// Nothing more is to come.
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Bytes that are to come, when that is known.
    pub fn exact(&self) -> Option<u64> {
        self.decoder.exact()
    }

    /// The body, if all of it is there already, as it is for most answers.
    pub fn whole(&mut self) -> Option<bytes::Bytes> {
        let left = usize::try_from(self.decoder.exact()?).ok()?;
        if left > self.connection.received.len() {
            return None;
        }
        self.decoder = Decoder::Length(0);
        Some(self.connection.received.split_to(left).freeze())
    }

    /// The next piece of the body.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<bytes::Bytes>>>> {
        if let Some(upload) = &mut self.upload {
            match self.connection.poll_send(Some(upload), cx) {
                Poll::Ready(sent) => {
                    self.keep &= sent.is_ok();
                    self.upload = None;
                }
                Poll::Pending => {}
            }
        }
        loop {
            match self.decoder.decode(&mut self.connection.received) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(malformed) => {
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, malformed))));
                }
            }
            if std::task::ready!(self.connection.poll_fill(cx))? == 0 {
                if self.decoder != Decoder::Close {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                self.decoder = Decoder::Length(0);
            }
        }
    }

    /// The connection, when it may serve another request.
    pub fn finish(self) -> Option<Box<Connection>> {
        let Self { mut connection, decoder, keep, upload, .. } = self;
        if !keep || !decoder.is_done() || upload.is_some() || !connection.received.is_empty() {
            return None;
        }
        if connection.received.capacity() > READ_BYTES {
            connection.received = BytesMut::new();
        }
        connection.read_bytes = READ_BYTES;
        Some(connection)
    }
}
