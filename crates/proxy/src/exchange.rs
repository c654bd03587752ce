//! One exchange with an endpoint: connection, request, head of the answer, and the one retry that is safe.
//!
//! Which endpoint is decided before; the retry stays with it, on a fresh connection.

use crate::body::{self, RequestBody, poll_silence};
use crate::headers::{self, Marks};
use crate::http1::{Attempt, Connection, Receiving, Upload};
use crate::local::Upstream;
use crate::multiplex::{self, Stream};
use crate::outgoing::Outgoing;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::TrySendError;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Turns that a connection, told to close, gets to do so before another takes its place.
const EVICT_TURNS_MAX: u32 = 8;

/// What an answer comes over, until its end.
pub enum Link {
    /// A connection of its own.
    Http1(Receiving),
    /// A place on a shared one; boxed, so that answers over HTTP/1.1, which are many, stay small.
    Http2(Box<(Stream, Incoming)>),
}

impl Link {
    /// Its limit on silence.
    pub fn timer(&mut self) -> &mut Pin<Box<Sleep>> {
        match self {
            Self::Http1(receiving) => receiving.timer(),
            Self::Http2(shared) => &mut shared.0.timer,
        }
    }

    /// What the headers of the answer's head are.
    pub fn marks(&self, headers: &HeaderMap) -> Marks {
        match self {
            Self::Http1(receiving) => receiving.marks,
            Self::Http2(_) => Marks::of(headers),
        }
    }

    /// Nothing more is to come.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Http1(receiving) => receiving.is_done(),
            Self::Http2(shared) => shared.1.is_end_stream(),
        }
    }

    /// Bytes that are to come, when that is known.
    pub fn exact(&self) -> Option<u64> {
        match self {
            Self::Http1(receiving) => receiving.exact(),
            Self::Http2(shared) => shared.1.size_hint().exact(),
        }
    }

    /// The whole body, if it is there already.
    pub fn whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(receiving) => receiving.whole(),
            Self::Http2(_) => None,
        }
    }

    /// The next piece of the body.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self {
            Self::Http1(receiving) => receiving.poll(cx),
            Self::Http2(shared) => {
                Pin::new(&mut shared.1).poll_frame(cx).map(|frame| frame.map(|piece| piece.map_err(io::Error::other)))
            }
        }
    }
}

/// Where to, and how patiently.
pub struct Wanted<'a> {
    /// The endpoint.
    pub upstream: &'a Upstream,
    /// It speaks HTTP/2.
    pub http2: bool,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without progress until the head of the answer is there.
    pub timeout: Duration,
    /// When it is sent.
    pub now: Instant,
}

/// Why there is no answer.
pub enum Failure {
    /// All connections that it may have are taken.
    Full,
    /// No connection.
    Connect(io::Error),
    /// The connection broke.
    Broken(io::Error),
    /// No answer in time.
    Late,
    /// The caller did not send its body in time.
    Upload,
    /// The caller broke off.
    CallerGone,
}

/// The body of a request, before and while it is sent.
pub enum Sending {
    /// None.
    Nothing,
    /// Not begun.
    Whole(Incoming),
    /// Over HTTP/1.1, perhaps begun.
    Begun(Option<Box<Upload>>),
    /// Given away.
    Gone,
}

impl Sending {
    /// There is none, so that it may be sent twice.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn take(&mut self) -> RequestBody {
        match std::mem::replace(self, Self::Gone) {
            Self::Whole(body) => RequestBody::new(body),
            nothing => {
                *self = nothing;
                RequestBody::Empty
            }
        }
    }

    fn begin(&mut self, now: Instant) -> &mut Option<Box<Upload>> {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Whole(body) => Self::Begun(Some(Box::new(Upload::new(body, now)))),
            other => other,
        };
        match self {
            Self::Begun(upload) => upload,
            _ => unreachable!("only a body is begun"),
        }
    }
}

/// May be sent twice: idempotent (RFC 9110, 9.2.2) and without a body.
pub fn repeatable(method: &Method, body: &Sending) -> bool {
    body.is_nothing() && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Sends a request and waits for the head of its answer.
pub async fn exchange(
    wanted: &Wanted<'_>,
    outgoing: &Outgoing<'_>,
    body: &mut Sending,
) -> Result<(Parts, Link), Failure> {
    if wanted.http2 {
        // Boxed, so that the futures of HTTP/1.1, which are many, stay small.
        return Box::pin(multiplexed(wanted, outgoing, body)).await;
    }
    let repeatable = repeatable(&outgoing.parts.method, body);
    let mut pooled = wanted.upstream.pool.take();
    loop {
        let reused = pooled.is_some();
        let connection = match pooled.take() {
            Some(connection) => connection,
            None => Box::pin(fresh(wanted)).await?,
        };
        let mut nothing = None;
        let upload = if body.is_nothing() { &mut nothing } else { body.begin(wanted.now) };
        match connection.ask(outgoing, upload, wanted.timeout, wanted.now).await {
            Ok((parts, receiving)) => return Ok((parts, Link::Http1(receiving))),
            Err(Attempt::Unsent(_)) if reused => {}
            Err(Attempt::Unsent(error)) => return Err(Failure::Connect(error)),
            Err(Attempt::Silent(_)) if reused && repeatable => {}
            Err(Attempt::Silent(error) | Attempt::Broken(error)) => return Err(Failure::Broken(error)),
            Err(Attempt::CallerGone) => return Err(Failure::CallerGone),
            Err(Attempt::Late) if upload.as_ref().is_some_and(|upload| !upload.is_ended()) => {
                return Err(Failure::Upload);
            }
            Err(Attempt::Late) => return Err(Failure::Late),
        }
    }
}

async fn fresh(wanted: &Wanted<'_>) -> Result<Box<Connection>, Failure> {
    let Wanted { upstream, connect_timeout, .. } = *wanted;
    let mut opened = upstream.opened();
    if opened.is_none() && upstream.pool.evict() {
        for _ in 0..EVICT_TURNS_MAX {
            tokio::task::yield_now().await;
            opened = upstream.opened();
            if opened.is_some() {
                break;
            }
        }
    }
    let opened = opened.ok_or(Failure::Full)?;
    Connection::open(upstream.state.address, connect_timeout.min(wanted.timeout), opened)
        .await
        .map_err(Failure::Connect)
}

fn unwritten() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "closed before the request was written")
}

/// The same over HTTP/2. What came of a stream that broke cannot be told from its connection, so a request that was
/// written is sent again only when it may be sent twice.
async fn multiplexed(
    wanted: &Wanted<'_>,
    outgoing: &Outgoing<'_>,
    body: &mut Sending,
) -> Result<(Parts, Link), Failure> {
    let Wanted { upstream, connect_timeout, timeout, .. } = *wanted;
    let repeatable = repeatable(&outgoing.parts.method, body);
    let mut request = request(outgoing, body.take());
    let mut retried = false;
    loop {
        let within = connect_timeout.min(timeout);
        let place = upstream.sessions.take(upstream.state.address, within, || upstream.opened());
        let place = tokio::time::timeout(within, place).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut stream = place.map_err(|error| match error.kind() {
            io::ErrorKind::QuotaExceeded => Failure::Full,
            _ => Failure::Connect(error),
        })?;
        let upload = upload_of(&request);
        let began = Instant::now();
        let sent = stream.sender.try_send_request(request);
        let answer = in_time(sent, &mut stream.timer, upload.as_deref(), began, timeout).await;
        let failed = match answer {
            Some(Ok(response)) => {
                let (parts, body) = response.into_parts();
                return Ok((parts, Link::Http2(Box::new((stream, body)))));
            }
            Some(Err(failed)) => failed,
            None if upload.is_some_and(|upload| !upload.ended.get()) => return Err(Failure::Upload),
            None => return Err(Failure::Late),
        };
        request = match again(failed, upload.as_deref()) {
            Err(failure) => return Err(failure),
            Ok(Again::Unsent(_)) if retried => return Err(Failure::Connect(unwritten())),
            Ok(Again::Unsent(unsent)) => *unsent,
            Ok(Again::Silent(_)) if repeatable && !retried => self::request(outgoing, RequestBody::Empty),
            Ok(Again::Silent(error)) => return Err(Failure::Broken(error)),
        };
        retried = true;
    }
}

/// A request as HTTP/2 has it.
fn request(outgoing: &Outgoing<'_>, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.parts.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = outgoing.parts.uri.path_and_query().map_or_else(Default::default, |path| path.clone().into());
    *request.headers_mut() = outgoing.headers();
    if let Some(length) = outgoing.parts.headers.get(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
    }
    if headers::takes_trailers(&outgoing.parts.headers) {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    multiplex::absolute(request)
}

enum Again {
    /// Nothing reached the endpoint; the request is whole.
    Unsent(Box<Request<RequestBody>>),
    /// Written, or partly.
    Silent(io::Error),
}

fn again(mut failed: TrySendError<Request<RequestBody>>, upload: Option<&body::Upload>) -> Result<Again, Failure> {
    match failed.take_message() {
        Some(request) => Ok(Again::Unsent(Box::new(request))),
        None if upload.is_some_and(|upload| upload.failed.get()) => Err(Failure::CallerGone),
        None => Ok(Again::Silent(io::Error::other(failed.into_error()))),
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Waits for an answer; `None` when nothing moved for `limit`. An upload that moves is progress: the endpoint may well
/// wait for all of it.
async fn in_time(
    sent: impl Future<Output = Sent>,
    timer: &mut Pin<Box<Sleep>>,
    upload: Option<&body::Upload>,
    began: Instant,
    limit: Duration,
) -> Option<Sent> {
    let mut sent = pin!(sent);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let last = upload.map_or(began, |upload| upload.last.get().max(began));
        poll_silence(timer, last, limit, cx).map(|()| None)
    })
    .await
}

fn upload_of(request: &Request<RequestBody>) -> Option<Rc<body::Upload>> {
    match request.body() {
        RequestBody::Empty => None,
        RequestBody::Stream(_, upload) => Some(Rc::clone(upload)),
    }
}
