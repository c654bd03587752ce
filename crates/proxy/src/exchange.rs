//! One exchange with an endpoint: connection, request, head of the answer, and the one retry that is safe.
//!
//! Which endpoint is decided before; the retry stays with it, on a fresh connection.

use crate::body::{RequestBody, Upload, poll_silence};
use crate::local::Upstream;
use crate::pool::Connection;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Where to, and how patiently.
pub struct Wanted<'a> {
    /// The endpoint.
    pub upstream: &'a Upstream,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without progress until the head of the answer is there.
    pub timeout: Duration,
}

/// Why there is no answer.
pub enum Failure {
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

/// Sends a request and waits for the head of its answer.
pub async fn exchange(
    wanted: &Wanted<'_>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), Failure> {
    let Some(mut connection) = wanted.upstream.pool.take() else {
        return fresh(wanted, request).await;
    };
    let spare = spare(&request);
    match attempt(&mut connection, request, wanted.timeout).await {
        Ok(response) => Ok((response, connection)),
        Err(Attempt::Unsent(request)) => fresh(wanted, *request).await,
        Err(Attempt::Silent(error)) => match spare {
            Some(request) => fresh(wanted, request).await,
            None => Err(Failure::Broken(error)),
        },
        Err(Attempt::Failed(failure)) => Err(failure),
    }
}

async fn fresh(
    wanted: &Wanted<'_>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), Failure> {
    let address = wanted.upstream.state.address;
    let mut connection = Connection::open(address, wanted.connect_timeout).await.map_err(Failure::Connect)?;
    match attempt(&mut connection, request, wanted.timeout).await {
        Ok(response) => Ok((response, connection)),
        Err(Attempt::Unsent(_)) => {
            let error = io::Error::new(io::ErrorKind::ConnectionReset, "closed before the request was written");
            Err(Failure::Connect(error))
        }
        Err(Attempt::Silent(error)) => Err(Failure::Broken(error)),
        Err(Attempt::Failed(failure)) => Err(failure),
    }
}

/// A second copy of a request that may be sent twice: idempotent (RFC 9110, 9.2.2) and without a body.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    if !idempotent || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn attempt(
    connection: &mut Connection,
    request: Request<RequestBody>,
    limit: Duration,
) -> Result<Response<Incoming>, Attempt> {
    let upload: Option<Rc<Upload>> = match request.body() {
        RequestBody::Empty => None,
        RequestBody::Stream(_, upload) => Some(Rc::clone(upload)),
    };
    let received = connection.received();
    let began = Instant::now();
    let mut sent = pin!(connection.sender.try_send_request(request));
    let timer = &mut connection.timer;
    let answer = poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        // An upload that moves is progress: the endpoint may well wait for all of it.
        let last = upload.as_ref().map_or(began, |upload| upload.last.get().max(began));
        poll_silence(timer, last, limit, cx).map(|()| None)
    })
    .await;
    match answer {
        Some(Ok(response)) => Ok(response),
        Some(Err(mut failed)) => Err(match failed.take_message() {
            Some(request) => Attempt::Unsent(Box::new(request)),
            None if upload.is_some_and(|upload| upload.failed.get()) => Attempt::Failed(Failure::CallerGone),
            None if connection.received() == received => Attempt::Silent(failed.into_error()),
            None => Attempt::Failed(Failure::Broken(failed.into_error())),
        }),
        None if upload.is_some_and(|upload| !upload.ended.get()) => Err(Attempt::Failed(Failure::Upload)),
        None => Err(Attempt::Failed(Failure::Late)),
    }
}
