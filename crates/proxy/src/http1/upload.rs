//! The body of a request on its way up: as it comes, in its length or in chunks. Never collected.

use crate::outgoing::Sink;
use crate::pool::Opened;
use bytes::{Buf, Bytes};
use http::header;
use hyper::body::{Body, Incoming};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Largest piece that is copied beside what else is to be written, so that both leave in one write.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Why a request is not sent to its end.
pub enum Fault {
    /// Its caller broke off.
    Caller,
    /// The endpoint takes no more.
    Write(io::Error),
}

/// A body under way.
pub struct Upload {
    body: Incoming,
    /// Bytes to come; `None` when only its end will tell.
    left: Option<u64>,
    /// The first piece, until something was written: it may have to be sent elsewhere.
    held: Option<Bytes>,
    /// A large piece being written, and whether a line end follows it.
    piece: Bytes,
    line_end: bool,
    ended: bool,
    /// When the last piece came from the caller.
    pub last: Instant,
}

impl Upload {
    /// Of a request that came at this time.
    pub fn new(body: Incoming, now: Instant) -> Self {
        let left = body.size_hint().exact();
        Self { body, left, held: None, piece: Bytes::new(), line_end: false, ended: false, last: now }
    }

    /// All of it was taken from the caller.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The header that frames it.
    pub fn frame(&self, out: &mut Vec<u8>) {
        match self.left {
            Some(left) => length(out, left),
            None => out.add(&header::TRANSFER_ENCODING, b"chunked"),
        }
    }

    /// Begins, or begins anew elsewhere: what there is of it goes with the head.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.piece.clear();
        self.line_end = false;
        if let Some(held) = self.held.clone() {
            self.put(held, out);
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut self.body).poll_frame(&mut cx)
            && let Ok(data) = frame.into_data()
        {
            self.held = Some(data.clone());
            self.took(&data);
            self.put(data, out);
        }
    }

    /// Writes a large piece, or puts the next one into `out`; true when there is nothing more.
    pub fn poll(
        &mut self,
        (stream, opened): (&mut TcpStream, &Opened),
        out: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Fault>> {
        self.held = None;
        while !self.piece.is_empty() {
            let wrote = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &self.piece)).map_err(Fault::Write)?;
            if wrote == 0 {
                return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
            }
            opened.sent(wrote);
            self.piece.advance(wrote);
        }
        if std::mem::take(&mut self.line_end) {
            out.extend_from_slice(b"\r\n");
        }
        if self.ended || self.left == Some(0) {
            self.ended = true;
            return Poll::Ready(Ok(out.is_empty()));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            // What a large piece left is still to be written.
            Poll::Pending if !out.is_empty() => return Poll::Ready(Ok(false)),
            Poll::Pending => return Poll::Pending,
        };
        self.last = Instant::now();
        match frame {
            None if self.left.is_none() => {
                self.ended = true;
                out.extend_from_slice(b"0\r\n\r\n");
            }
            None | Some(Err(_)) => return Poll::Ready(Err(Fault::Caller)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.took(&data);
                    self.put(data, out);
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    fn took(&mut self, data: &Bytes) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
    }

    fn put(&mut self, data: Bytes, out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        let chunked = self.left.is_none();
        if chunked {
            out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        if data.len() > COPIED_BYTES_MAX {
            self.piece = data;
            self.line_end = chunked;
            return;
        }
        out.extend_from_slice(&data);
        if chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The length of a body.
pub fn length(out: &mut Vec<u8>, length: u64) {
    out.add(&header::CONTENT_LENGTH, length.to_string().as_bytes());
}
