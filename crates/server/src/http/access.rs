//! Who may come in, and as whom: peers of the Unix socket by their credentials, loopback TCP by a token.
//!
//! A browser page must not drive the API through a name that resolves to loopback: over TCP the `Host` must be a
//! loopback one, and so must an `Origin`.

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

/// Lets holders of the token in, from this machine's own pages and programs only.
pub async fn tcp(State(token): State<Arc<str>>, mut request: Request, next: Next) -> Result<Response, Failure> {
    check_origin(request.headers())?;
    let path = request.uri().path();
    let open = path == "/healthz" || path == "/" || path.starts_with("/assets/");
    if !open {
        check_token(request.headers(), &token)?;
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

fn check_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(http::header::HOST).unwrap_or("");
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

    #[test]
    fn a_foreign_page_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "127.0.0.1:80".parse().expect("a value"));
        assert!(check_origin(&headers).is_ok());
        headers.insert("origin", "http://localhost:3000".parse().expect("a value"));
        assert!(check_origin(&headers).is_ok());
        headers.insert("origin", "https://evil.example".parse().expect("a value"));
        assert_eq!(check_origin(&headers).expect_err("foreign").status, 403);
        headers.insert("origin", "null".parse().expect("a value"));
        assert!(check_origin(&headers).is_err());
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_000), "4000000000");
    }
}
