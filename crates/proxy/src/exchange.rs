//! One exchange with an endpoint: connection, request, head of the answer, and the one retry that is safe.
//!
//! Which endpoint is decided before; the retry stays with it, on a fresh connection.

use crate::body::{RequestBody, Upload, poll_silence};
use crate::local::Upstream;
use crate::multiplex::{self, Stream};
use crate::pool::Connection;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Turns that a connection, told to close, gets to do so before another takes its place.
const EVICT_TURNS_MAX: u32 = 8;

/// What an answer comes over, until its end.
pub enum Link {
    /// A connection of its own.
    Http1(Connection),
    /// A place on a shared one.
    Http2(Stream),
}

impl Link {
    /// Its limit on silence.
    pub fn timer(&mut self) -> &mut Pin<Box<Sleep>> {
        match self {
            Self::Http1(connection) => &mut connection.timer,
            Self::Http2(stream) => &mut stream.timer,
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
}

/// Why there is no answer.
pub enum Failure {
    /// All connections that it may have are taken.
    Full,
    /// No connection.
    Connect(io::Error),
    /// The connection broke.
    Broken(hyper::Error),
    /// No answer in time.
    Late,
    /// The caller did not send its body in time.
    Upload,
    /// The caller broke off.
    CallerGone,
}

enum Attempt {
    /// Nothing reached the endpoint; the request is whole.
    Unsent(Box<Request<RequestBody>>),
    /// Written, or partly; not a byte came back.
    Silent(hyper::Error),
    Failed(Failure),
}

/// Sends a request and waits for the head of its answer. `spare` is a copy of it (see [`spare`]); what is left of it after
/// a failure may be sent elsewhere.
pub async fn exchange(
    wanted: &Wanted<'_>,
    request: Request<RequestBody>,
    spare: &mut Option<Request<RequestBody>>,
) -> Result<(Response<Incoming>, Link), Failure> {
    if wanted.http2 {
        // Boxed, so that the futures of HTTP/1.1, which are many, stay small.
        return Box::pin(multiplexed(wanted, request, spare)).await;
    }
    let Some(mut connection) = wanted.upstream.pool.take() else {
        return fresh(wanted, request).await;
    };
    match attempt(&mut connection, request, wanted.timeout).await {
        Ok(response) => Ok((response, Link::Http1(connection))),
        Err(Attempt::Unsent(request)) => fresh(wanted, *request).await,
        Err(Attempt::Silent(error)) => match spare.take() {
            Some(request) => fresh(wanted, request).await,
            None => Err(Failure::Broken(error)),
        },
        Err(Attempt::Failed(failure)) => Err(failure),
    }
}

async fn fresh(wanted: &Wanted<'_>, request: Request<RequestBody>) -> Result<(Response<Incoming>, Link), Failure> {
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
    let address = upstream.state.address;
    let mut connection = Connection::open(address, connect_timeout, opened).await.map_err(Failure::Connect)?;
    match attempt(&mut connection, request, wanted.timeout).await {
        Ok(response) => Ok((response, Link::Http1(connection))),
        Err(Attempt::Unsent(_)) => Err(Failure::Connect(unwritten())),
        Err(Attempt::Silent(error)) => Err(Failure::Broken(error)),
        Err(Attempt::Failed(failure)) => Err(failure),
    }
}

fn unwritten() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "closed before the request was written")
}

/// The same over HTTP/2. What came of a stream that broke cannot be told from its connection, so a request that was
/// written is sent again only when it may be sent twice.
async fn multiplexed(
    wanted: &Wanted<'_>,
    request: Request<RequestBody>,
    spare: &mut Option<Request<RequestBody>>,
) -> Result<(Response<Incoming>, Link), Failure> {
    let Wanted { upstream, connect_timeout, timeout, .. } = *wanted;
    let mut request = multiplex::absolute(request);
    let mut retried = false;
    loop {
        let place = upstream.sessions.take(upstream.state.address, connect_timeout, || upstream.opened());
        let mut stream = place.await.map_err(|error| match error.kind() {
            io::ErrorKind::QuotaExceeded => Failure::Full,
            _ => Failure::Connect(error),
        })?;
        let upload = upload_of(&request);
        let began = Instant::now();
        let sent = stream.sender.try_send_request(request);
        let answer = in_time(sent, &mut stream.timer, upload.as_deref(), began, timeout).await;
        let failed = match answer {
            Some(Ok(response)) => return Ok((response, Link::Http2(stream))),
            Some(Err(failed)) => attempt_of(failed, upload.as_deref(), true),
            None => return Err(late(upload.as_deref())),
        };
        request = match failed {
            Attempt::Failed(failure) => return Err(failure),
            Attempt::Unsent(_) if retried => return Err(Failure::Connect(unwritten())),
            Attempt::Unsent(unsent) => *unsent,
            Attempt::Silent(error) => match spare.take().filter(|_| !retried) {
                Some(copy) => multiplex::absolute(copy),
                None => return Err(Failure::Broken(error)),
            },
        };
        retried = true;
    }
}

/// A second copy of a request that may be sent twice: idempotent (RFC 9110, 9.2.2) and without a body.
pub fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    if !idempotent || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn attempt(
    connection: &mut Connection,
    request: Request<RequestBody>,
    limit: Duration,
) -> Result<Response<Incoming>, Attempt> {
    let upload = upload_of(&request);
    let received = connection.received();
    let began = Instant::now();
    let sent = connection.sender.try_send_request(request);
    match in_time(sent, &mut connection.timer, upload.as_deref(), began, limit).await {
        Some(Ok(response)) => Ok(response),
        Some(Err(failed)) => Err(attempt_of(failed, upload.as_deref(), connection.received() == received)),
        None => Err(Attempt::Failed(late(upload.as_deref()))),
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Waits for an answer; `None` when nothing moved for `limit`. An upload that moves is progress: the endpoint may well
/// wait for all of it.
async fn in_time(
    sent: impl Future<Output = Sent>,
    timer: &mut Pin<Box<Sleep>>,
    upload: Option<&Upload>,
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

fn upload_of(request: &Request<RequestBody>) -> Option<Rc<Upload>> {
    match request.body() {
        RequestBody::Empty => None,
        RequestBody::Stream(_, upload) => Some(Rc::clone(upload)),
    }
}

fn attempt_of(mut failed: TrySendError<Request<RequestBody>>, upload: Option<&Upload>, silent: bool) -> Attempt {
    match failed.take_message() {
        Some(request) => Attempt::Unsent(Box::new(request)),
        None if upload.is_some_and(|upload| upload.failed.get()) => Attempt::Failed(Failure::CallerGone),
        None if silent => Attempt::Silent(failed.into_error()),
        None => Attempt::Failed(Failure::Broken(failed.into_error())),
    }
}

fn late(upload: Option<&Upload>) -> Failure {
    if upload.is_some_and(|upload| !upload.ended.get()) { Failure::Upload } else { Failure::Late }
}
