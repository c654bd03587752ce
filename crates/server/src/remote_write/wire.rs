//! The connection to a receiver: HTTP/1.1, over TLS where its URL says https. It is kept from one request to the next.
//!
//! Beside reqwest, whose TLS would bring libraries of its own. Absent: HTTP/2, redirects, proxies of the environment, client certificates.

use super::Receiver;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use reqwest::Body;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The handshake failed.
    #[error("TLS: {source}{}", advice(.source))]
    Tls {
        /// What was wrong.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            ": no authority that is trusted here signed its certificate; --remote-write-ca FILE names others"
        }
        _ => "",
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection, and the task that drives it: it ends with it.
type Open = (SendRequest<Body>, JoinSet<()>);

/// The way to one receiver.
pub struct Wire {
    host: String,
    port: u16,
    /// The `Host` header.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    open: Option<Open>,
}

impl Wire {
    /// To a receiver; `trusted` where it speaks TLS. Connects with the first request.
    pub fn to(receiver: &Receiver, trusted: Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let url = receiver.url();
        let named = url.host_str().unwrap_or_default();
        let host = named.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let authority = url.port().map_or_else(|| named.to_owned(), |port| format!("{named}:{port}"));
        let refused =
            |why: &dyn std::fmt::Display| format!("{}: the host's name cannot be used: {why}", receiver.shown());
        let authority = HeaderValue::from_str(&authority).map_err(|error| refused(&error))?;
        let tls = match trusted {
            Some(config) => {
                let name = ServerName::try_from(host.clone()).map_err(|error| refused(&error))?;
                Some((TlsConnector::from(config), name))
            }
            None => None,
        };
        Ok(Self { host, port, authority, tls, open: None })
    }

    /// Sends a request for its URL, and waits for the head of the answer.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        // Between two parties that speak directly a request names a path, and the host apart (RFC 9112, section 3.2.1).
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Into::into).unwrap_or_default();
        request.headers_mut().insert(header::HOST, self.authority.clone());
        let mut open = self.ready().await?;
        let answer = open.0.send_request(request).await?;
        self.open = Some(open);
        Ok(answer)
    }

    async fn ready(&mut self) -> Result<Open, Error> {
        if let Some(mut open) = self.open.take()
            && open.0.ready().await.is_ok()
        {
            return Ok(open);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Open, Error> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(Error::Connect)?;
        // A request is written whole: nothing is gained by waiting for more.
        tcp.set_nodelay(true).map_err(Error::Connect)?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some((tls, name)) => {
                Box::new(tls.connect(name.clone(), tcp).await.map_err(|source| Error::Tls { source })?)
            }
            None => Box::new(tcp),
        };
        let (to, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driven = JoinSet::new();
        driven.spawn(async {
            // How it ended is what the request at work is told.
            let _ = connection.await;
        });
        Ok((to, driven))
    }
}
