//! Sends one item to where its service answers: the proxy's mesh listener, which chooses the endpoint.

use crate::Item;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// Name of the header that makes a delivery one with its repetitions (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Marks a delivery of the slow lane on the mesh: policies do not slow it again.
pub const LANE: &str = "x-springtide-lane";
/// Marks an answer to such a delivery as the receiver's own: whoever hands on what an endpoint answered sets it, and nobody
/// else. An answer without it, whatever its status, ends no item.
pub const DELIVERED: &str = "x-springtide-delivered";
/// The attempt of a delivery, as on every call that is repeated: 0 for the first.
pub const ATTEMPT: &str = "x-springtide-attempt";
/// Why an answer is not the receiver's own.
const REJECT: &str = "x-springtide-reject";
/// Which policy answered in the receiver's place, inside it.
const INSTEAD: &str = "x-springtide-instead";
const GRPC_STATUS: &str = "grpc-status";
/// Time for one delivery, from connecting to the end of the answer.
pub const DELIVERY: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read; its status is all that counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver answered.
    Status(u16),
    /// The receiver answered, and this is its `grpc-status`.
    Grpc(u16),
    /// Somebody else answered (no [`DELIVERED`]): the receiver never saw it, whatever the status says.
    Rejected(String),
    /// No answer; whether the receiver acted is unknown, hence the key.
    Failed(String),
}

/// Delivers items.
pub trait Deliver: Send + Sync + 'static {
    /// Sends the item once; `attempt` counts from 1.
    fn deliver(&self, item: &Item, attempt: u32) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'static>>;
}

/// Delivers to one address, with the service as `Host`: over HTTP/1.1, and calls of gRPC over HTTP/2 with prior knowledge,
/// since their status is in the trailers.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// Of the mesh listener.
    pub address: SocketAddr,
}

impl Deliver for Http {
    fn deliver(&self, item: &Item, attempt: u32) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'static>> {
        let (address, request) = (self.address, request(item, attempt));
        Box::pin(async move {
            let request = match request {
                Ok(request) => request,
                // It was a request when it was accepted: this is our own fault, and not the receiver's refusal.
                Err(error) => return Delivery::Failed(format!("the item is no valid request: {error}")),
            };
            let sent = async {
                if is_grpc(request.headers()) { call(address, request).await } else { send(address, request).await }
            };
            match tokio::time::timeout(DELIVERY, sent).await {
                Ok(Ok(delivery)) => delivery,
                Ok(Err(error)) => Delivery::Failed(error.to_string()),
                Err(_) => Delivery::Failed(format!("no answer within {} s", DELIVERY.as_secs())),
            }
        })
    }
}

fn request(item: &Item, attempt: u32) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder().method(item.method.as_str()).uri(item.target.parse::<Uri>()?);
    for given in &item.headers {
        request = request.header(given.name.as_str(), HeaderValue::from_maybe_shared(given.value.clone())?);
    }
    let mut request = request.body(Full::new(item.body.clone()))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&item.service)?);
    headers.insert(HeaderName::from_static(IDEMPOTENCY_KEY), HeaderValue::from_str(&item.key)?);
    headers.insert(HeaderName::from_static(LANE), HeaderValue::from_str(&item.policy)?);
    headers.insert(HeaderName::from_static(ATTEMPT), HeaderValue::from(attempt.saturating_sub(1)));
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    Ok(request)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Who answered in the receiver's place, unless it was the receiver.
fn rejected(status: StatusCode, headers: &HeaderMap) -> Option<Delivery> {
    let said = headers.get(REJECT).or_else(|| headers.get(INSTEAD));
    if said.is_none() && headers.contains_key(DELIVERED) {
        return None;
    }
    let unsaid = || format!("answered {status} on its way");
    Some(Delivery::Rejected(said.map_or_else(unsaid, |said| String::from_utf8_lossy(said.as_bytes()).into_owned())))
}

/// What `grpc-status` says, in the trailers or, of an answer without messages, in the headers.
fn grpc_status(headers: &HeaderMap) -> Option<Delivery> {
    let status = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
    Some(Delivery::Grpc(status))
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Delivery, Fault> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok::<_, hyper::Error>(rejected(head.status, &head.headers).unwrap_or(Delivery::Status(head.status.as_u16())))
    };
    driven(connection, exchange).await
}

/// The same over HTTP/2, to the trailers.
async fn call(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Delivery, Fault> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let host = request.headers_mut().remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = format!("http://{host}{target}").parse()?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut told = rejected(head.status, &head.headers).or_else(|| grpc_status(&head.headers));
        // Messages are let go, however many: the status comes after them.
        while let Some(frame) = body.frame().await {
            if let Ok(trailers) = frame?.into_trailers() {
                told = told.or_else(|| grpc_status(&trailers));
            }
        }
        let silent = || Delivery::Failed(format!("status {} and no grpc-status", head.status));
        Ok::<_, hyper::Error>(told.unwrap_or_else(silent))
    };
    driven(connection, exchange).await
}

async fn driven(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = hyper::Result<Delivery>>,
) -> Result<Delivery, Fault> {
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        delivery = &mut exchange => Ok(delivery?),
        // The connection ends first when the answer ends with it; what is left of the answer is read then.
        ended = &mut connection => { ended?; Ok(exchange.await?) }
    }
}
