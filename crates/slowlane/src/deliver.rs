//! Sends one item to where its service answers: the proxy's mesh listener, which chooses the endpoint.

use crate::Item;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// Name of the header that makes a delivery one with its repetitions (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Marks a delivery of the slow lane on the mesh: policies do not slow it again.
pub const LANE: &str = "x-springtide-lane";
/// The attempt of a delivery, as on every call that is repeated: 0 for the first.
pub const ATTEMPT: &str = "x-springtide-attempt";
/// Time for one delivery, from connecting to the end of the answer.
pub const DELIVERY: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read; its status is all that counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver answered.
    Status(u16),
    /// No answer; whether the receiver acted is unknown, hence the key.
    Failed(String),
}

/// Delivers items.
pub trait Deliver: Send + Sync + 'static {
    /// Sends the item once; `attempt` counts from 1.
    fn deliver(&self, item: &Item, attempt: u32) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'static>>;
}

/// Delivers over HTTP/1.1 to one address, with the service as `Host`.
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
            match tokio::time::timeout(DELIVERY, send(address, request)).await {
                Ok(Ok(status)) => Delivery::Status(status),
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

async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok::<_, hyper::Error>(status)
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        status = &mut exchange => Ok(status?),
        // The connection ends first when the answer ends with it; what is left of the answer is read then.
        ended = &mut connection => { ended?; Ok(exchange.await?) }
    }
}
