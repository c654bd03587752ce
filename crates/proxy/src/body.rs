//! Bodies on their way through: watched for progress, never collected.
//!
//! Trailers pass, over HTTP/1.1 as far as hyper passes them. No compression, no buffering beyond hyper's own.

use crate::access_log::Line;
use crate::edge::Outcome;
use crate::exchange::Link;
use crate::flight::Flight;
use crate::own;
use crate::worker::Busy;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Longest that one answer may take from its head to its last byte.
const WHOLE_MS_MAX: u64 = 15 * 60 * 1_000;

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The endpoint's connection broke.
    #[error("the answer broke off: {0}")]
    Broken(#[from] io::Error),
    /// The endpoint went silent.
    #[error("the answer made no progress for {0:?}")]
    Stalled(Duration),
    /// It went on for too long.
    #[error("the answer took longer than {WHOLE_MS_MAX} ms")]
    Endless,
}

/// How far the upload of a request body is.
pub struct Upload {
    /// When the last piece came from the caller.
    pub last: Cell<Instant>,
    /// All of it was taken.
    pub ended: Cell<bool>,
    /// The caller broke it off.
    pub failed: Cell<bool>,
}

/// Body of a request on its way up, over HTTP/2.
pub enum RequestBody {
    /// None.
    Empty,
    /// Streamed.
    Stream(Incoming, Rc<Upload>),
}

impl RequestBody {
    /// One that is streamed.
    pub fn new(body: Incoming) -> Self {
        let upload = Upload { last: Cell::new(Instant::now()), ended: Cell::new(false), failed: Cell::new(false) };
        Self::Stream(body, Rc::new(upload))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Stream(inner, upload) = self.get_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(&mut *inner).poll_frame(cx));
        upload.last.set(Instant::now());
        match &frame {
            Some(Err(_)) => upload.failed.set(true),
            None => upload.ended.set(true),
            Some(Ok(_)) => upload.ended.set(inner.is_end_stream()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(inner, _) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(inner, _) => inner.size_hint(),
        }
    }
}

/// A limit on silence. The timer is moved only when it fires or is due too late: a request that ends in time, as nearly
/// all do, costs the timer wheel nothing.
pub fn poll_silence(timer: &mut Pin<Box<Sleep>>, last: Instant, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
    let due = tokio::time::Instant::from_std(last + limit);
    if timer.deadline() > due {
        timer.as_mut().reset(due);
    }
    while timer.as_mut().poll(cx).is_ready() {
        if tokio::time::Instant::now() >= due {
            return Poll::Ready(());
        }
        timer.as_mut().reset(due);
    }
    Poll::Pending
}

/// A piece of an answer.
type Piece = Result<Frame<Bytes>, BodyError>;

/// An answer on its way down.
pub struct Passing {
    /// What came before hyper asked for it.
    first: Option<Piece>,
    /// Until the end: the request it answers and the connection it comes from.
    rest: Option<(Flight, Link)>,
    /// Until then the caller's connection does not idle.
    busy: Option<Busy>,
    /// On silence and on the whole; none for gRPC, whose streams may rest: pings tell whether the peer lives.
    limit: Option<Duration>,
    head_at: Instant,
    last: Instant,
    /// It broke off.
    failed: bool,
}

impl Passing {
    /// The answer to `flight`, just begun.
    pub fn new(flight: Flight, link: Link, limit: Option<Duration>, now: Instant) -> Self {
        Self { first: None, rest: Some((flight, link)), busy: None, limit, head_at: now, last: now, failed: false }
    }

    fn is_done(&self) -> bool {
        self.rest.as_ref().map_or(!self.failed, |(_, link)| link.is_done())
    }

    /// Takes the first piece if it is there already: head and body then leave in one write. Over HTTP/2 the connection's task
    /// gets one turn to hand it over; a body that is not there yet holds nothing up.
    pub async fn prime(&mut self) {
        let mut turns = if matches!(self.rest, Some((_, Link::Http2(_)))) { 0 } else { 1 };
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(piece) => {
                self.first = piece;
                Poll::Ready(())
            }
            Poll::Pending if turns == 0 => {
                turns += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(()),
        })
        .await;
    }

    /// Broke before its first piece: there is still time to say so.
    pub fn broke(&self) -> bool {
        matches!(self.first, Some(Err(_)))
    }

    fn first_bytes(&self) -> u64 {
        self.first.as_ref().and_then(|piece| piece.as_ref().ok()?.data_ref()).map_or(0, |data| data.len() as u64)
    }

    fn finish(&mut self) {
        if let Some((flight, link)) = self.rest.take() {
            let now = flight.clock.now();
            flight.give_back(link, now);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Piece>> {
        if let Some((mut flight, _)) = self.rest.take() {
            flight.failed();
            flight.outcome = Outcome::Error;
        }
        self.failed = true;
        Poll::Ready(Some(Err(error)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(piece) = self.first.take() {
            return Poll::Ready(Some(piece));
        }
        let Some((_, link)) = &mut self.rest else { return Poll::Ready(None) };
        match link.poll(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.last = Instant::now();
                if let (Some(trailers), Some((flight, _))) = (frame.trailers_ref(), &mut self.rest) {
                    match own::grpc_failed(trailers) {
                        Some(true) => flight.failed(),
                        Some(false) => flight.succeeded(),
                        None => {}
                    }
                }
                if self.is_done() {
                    self.finish();
                } else if self.limit.is_some()
                    && self.last.saturating_duration_since(self.head_at).as_millis() as u64 > WHOLE_MS_MAX
                {
                    return self.fail(BodyError::Endless);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(error.into()),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let (Some((_, link)), Some(limit)) = (&mut self.rest, self.limit) else { return Poll::Pending };
                std::task::ready!(poll_silence(link.timer(), self.last, limit, cx));
                self.fail(BodyError::Stalled(limit))
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // An answer without a body is never polled.
        if self.is_done() {
            self.finish();
        }
    }
}

/// Body of an answer. Small, since hyper moves answers about: what is large is boxed.
pub enum AnswerBody {
    /// From the proxy itself, or from an endpoint with all of it there already, as it is for most.
    Own(Option<Bytes>),
    /// From an endpoint, piece by piece.
    Passing(Box<Passing>),
    /// Either, of a request that the access log takes.
    Logged(Box<Logged>),
}

impl AnswerBody {
    /// Keeps the caller's connection busy until a body from an endpoint ends; one of our own is as good as written.
    pub fn keep(&mut self, busy: Busy) {
        match self {
            Self::Own(_) => {}
            Self::Passing(passing) => passing.busy = Some(busy),
            Self::Logged(logged) => logged.inner.keep(busy),
        }
    }

    /// The same, written to the access log when it ends.
    pub fn logged(self, line: Box<Line>) -> Self {
        Self::Logged(Box::new(Logged { inner: self, line: Some(line) }))
    }
}

/// An answer and its line in the access log.
pub struct Logged {
    inner: AnswerBody,
    line: Option<Box<Line>>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.whole |= self.inner.is_end_stream();
            Line::send(line);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Passing(passing) => passing.poll(cx),
            Self::Logged(logged) => {
                let frame = std::task::ready!(Pin::new(&mut logged.inner).poll_frame(cx));
                if let Some(line) = &mut logged.line {
                    match &frame {
                        Some(Ok(frame)) => line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                        Some(Err(_)) => {}
                        None => line.whole = true,
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Passing(passing) => passing.first.is_none() && passing.is_done(),
            Self::Logged(logged) => logged.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |t| t.len() as u64)),
            Self::Logged(logged) => logged.inner.size_hint(),
            Self::Passing(passing) => {
                let left = passing.rest.as_ref().map_or(Some(0), |(_, link)| link.exact());
                match left {
                    Some(left) => SizeHint::with_exact(left + passing.first_bytes()),
                    None => SizeHint::default(),
                }
            }
        }
    }
}
