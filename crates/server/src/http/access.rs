//! Who may come in, and as whom: peers of the Unix socket by their credentials, TCP by a token.
//!
//! A browser page must not drive the API through a name that resolves to loopback: over clear TCP the `Host` must be a
//! loopback one, and so must an `Origin`. Over TLS the name is the certificate's matter, and an `Origin` must be that name.

use super::problem::{self, Failure};
use crate::token;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use std::sync::Arc;

/// Who asks, for the audit: `unix:root`, `token:api`.
#[derive(Debug, Clone)]
pub struct Who(pub String);

/// The peer of a Unix socket.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its user; absent when the kernel does not say.
    pub uid: Option<u32>,
}

/// Lets peers of the Unix socket in: the file's mode has decided already who can connect.
pub async fn socket(mut request: Request, next: Next) -> Result<Response, Failure> {
    let uid = request.extensions().get::<Peer>().and_then(|peer| peer.uid);
    let uid = uid.ok_or_else(|| problem::unauthorized("the peer's credentials cannot be read"))?;
    request.extensions_mut().insert(Who(format!("unix:{}", user(uid))));
    Ok(next.run(request).await)
}

/// The name of a user; the number when it has none.
fn user(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

/// From where the API can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This machine, in the clear.
    Loopback,
    /// Other machines too, by TLS.
    Beyond,
}

impl Reach {
    /// Of a listener with TLS, or without.
    pub fn of(tls: bool) -> Self {
        if tls { Self::Beyond } else { Self::Loopback }
    }
}

/// What a TCP listener lets in.
#[derive(Debug, Clone)]
pub struct Door {
    /// The token.
    pub token: Arc<str>,
    /// From where.
    pub reach: Reach,
}

/// Lets holders of the token in, from the API's own pages and from programs only.
pub async fn tcp(State(door): State<Door>, mut request: Request, next: Next) -> Result<Response, Failure> {
    check_origin(request.headers(), request.uri().authority().map(|at| at.as_str()), door.reach)?;
    let path = request.uri().path();
    let open = path == "/healthz" || path == "/" || path.starts_with("/assets/");
    if !open {
        check_token(request.headers(), &door.token)?;
    }
    request.extensions_mut().insert(Who("token:api".to_owned()));
    Ok(next.run(request).await)
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Failure> {
    match token::bearer(headers) {
        Some(given) if token::same(given, token) => Ok(()),
        Some(_) => {
            Err(problem::unauthorized("the token is wrong: the right one is in the data folder, file api-token"))
        }
        None => Err(problem::unauthorized(
            "a token is needed: send `Authorization: Bearer <token>`, from the data folder's file api-token",
        )),
    }
}

/// HTTP/2 says in `:authority` what HTTP/1.1 says in `Host`.
fn check_origin(headers: &HeaderMap, authority: Option<&str>, reach: Reach) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(http::header::HOST).or(authority).unwrap_or("");
    if reach == Reach::Beyond {
        return match text(http::header::ORIGIN) {
            Some(origin) if origin.strip_prefix("https://") != Some(host) => {
                Err(problem::forbidden(format!("Origin {origin:?} is refused: only pages of https://{host} itself")))
            }
            _ => Ok(()),
        };
    }
    if !is_loopback(host) {
        return Err(problem::forbidden(format!("Host {host:?} is refused: use 127.0.0.1, [::1] or localhost")));
    }
    match text(http::header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://").is_some_and(is_loopback) => Ok(()),
        Some(origin) => Err(problem::forbidden(format!("Origin {origin:?} is refused: only this machine's own pages"))),
    }
}

/// True for a loopback host with or without a port.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_pass() {
        for right in ["localhost", "LOCALHOST:80", "127.0.0.1:7000", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_loopback(right), "{right}");
        }
        for wrong in
            ["", "evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example"]
        {
            assert!(!is_loopback(wrong), "{wrong}");
        }
    }

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().expect("a value"));
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_foreign_page_is_refused() {
        let check = |origin| check_origin(&headers("127.0.0.1:80", origin), None, Reach::Loopback);
        assert!(check(None).is_ok());
        assert!(check(Some("http://localhost:3000")).is_ok());
        assert_eq!(check(Some("https://evil.example")).expect_err("foreign").status, 403);
        assert!(check(Some("null")).is_err());
    }

    #[test]
    fn beyond_loopback_a_page_is_of_the_very_name_that_was_called() {
        let check = |host, origin| check_origin(&headers(host, origin), None, Reach::Beyond);
        assert!(check("room.example:7401", None).is_ok());
        assert!(check("room.example:7401", Some("https://room.example:7401")).is_ok());
        for foreign in ["https://evil.example", "http://room.example:7401", "https://room.example", "null"] {
            assert_eq!(check("room.example:7401", Some(foreign)).expect_err(foreign).status, 403);
        }
        // As HTTP/2 says it.
        let mut of_http2 = headers("x", Some("https://room.example"));
        of_http2.remove("host");
        assert!(check_origin(&of_http2, Some("room.example"), Reach::Beyond).is_ok());
        assert!(check_origin(&of_http2, Some("127.0.0.1"), Reach::Beyond).is_err());
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_000), "4000000000");
    }
}
