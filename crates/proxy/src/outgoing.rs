//! The head of a request as the next hop gets it: what passes, what stays here, what is added.
//!
//! The request itself stays as it came: it may be sent again. Written straight into the bytes of HTTP/1.1, or into a map of
//! headers for HTTP/2 and for the slow lane; which headers go is decided here for all of them.

use crate::headers::{CALLER, FORWARDED_FOR, OWN_PREFIX, Peer, has, named_in_connection};
use crate::protect::Told;
use crate::table::OUTSIDE;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Uri, Version};

/// Where headers go.
pub trait Sink {
    /// One as it came.
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue);
    /// One of ours.
    fn add(&mut self, name: &HeaderName, value: &[u8]);
}

impl Sink for Vec<u8> {
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.add(name, value.as_bytes());
    }

    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

impl Sink for HeaderMap {
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }

    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.append(name.clone(), value);
        }
    }
}

/// A request on its way to the next hop.
pub struct Outgoing<'a> {
    /// As it came.
    pub parts: &'a Parts,
    /// It came in by the entry.
    pub outside: bool,
    /// Who sent it.
    pub peer: &'a Peer,
    /// What protection tells.
    pub told: Told,
}

impl Outgoing<'_> {
    /// Path and query.
    pub fn target(&self) -> &str {
        target(&self.parts.uri)
    }

    /// Writes all headers but those that frame the body: that is the protocol's.
    pub fn write(&self, sink: &mut impl Sink) {
        let Parts { headers, uri, version, .. } = self.parts;
        let named = if has(headers, &header::CONNECTION) { named_in_connection(headers) } else { Vec::new() };
        let joins_cookies = *version == Version::HTTP_2;
        let mut forwarded = false;
        if let Some(authority) = uri.authority() {
            sink.add(&header::HOST, authority.as_str().as_bytes());
        }
        for (name, value) in headers {
            let text = name.as_str();
            match text {
                "connection"
                | "transfer-encoding"
                | "te"
                | "trailer"
                | "upgrade"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authorization"
                | "proxy-authenticate"
                | "expect"
                | "content-length" => {}
                "host" if uri.authority().is_some() => {}
                "x-forwarded-for" => forwarded = true,
                "cookie" if joins_cookies => {}
                _ if text.starts_with(OWN_PREFIX) && (self.outside || self.told.replaces(text)) => {}
                _ if named.contains(name) => {}
                _ => sink.pass(name, value),
            }
        }
        if joins_cookies {
            cookies(headers, sink);
        }
        if self.outside {
            sink.add(&CALLER, OUTSIDE.as_bytes());
        }
        if forwarded {
            sink.add(&FORWARDED_FOR, &way(headers, self.peer));
        } else {
            sink.add(&FORWARDED_FOR, self.peer.text.as_bytes());
        }
        self.told.write(sink);
    }

    /// The same as a map.
    pub fn headers(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.parts.headers.len() + 8);
        self.write(&mut map);
        map
    }
}

/// Path and query of a target; an absolute one may have none.
pub fn target(uri: &Uri) -> &str {
    match uri.path_and_query() {
        Some(target) if !target.as_str().is_empty() => target.as_str(),
        _ => "/",
    }
}

/// Client addresses along the way, with the last one added.
fn way(headers: &HeaderMap, peer: &Peer) -> Vec<u8> {
    let mut way = Vec::new();
    for before in headers.get_all(FORWARDED_FOR).iter().filter(|value| value.to_str().is_ok()) {
        way.extend_from_slice(before.as_bytes());
        way.extend_from_slice(b", ");
    }
    way.extend_from_slice(peer.text.as_bytes());
    way
}

/// HTTP/2 may split `Cookie` for compression; other protocols get it whole (RFC 9113, section 8.2.3).
fn cookies(headers: &HeaderMap, sink: &mut impl Sink) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in crumbs {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    sink.add(&header::COOKIE, &whole);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::net::IpAddr;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn sent(outside: bool, peer: &str, uri: &str, headers: HeaderMap) -> HeaderMap {
        let mut request = Request::builder().uri(uri).body(()).expect("a request");
        *request.headers_mut() = headers;
        let parts = request.into_parts().0;
        let peer = Peer::from(peer.parse::<IpAddr>().expect("an address"));
        let outgoing = Outgoing { parts: &parts, outside, peer: &peer, told: Told::default() };
        let mut wire = Vec::new();
        outgoing.write(&mut wire);
        let sent = outgoing.headers();
        let lines: usize = wire.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(lines, sent.len(), "both forms say the same");
        sent
    }

    #[test]
    fn only_end_to_end_fields_pass() {
        let headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Secret, host, x-springtide-user"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("x-springtide-user", "7"),
            ("x-springtide-lane", "cash"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "8.8.8.8"),
            ("cookie", "c"),
        ]);
        let wanted = map(&[
            ("host", "a"),
            ("x-springtide-user", "7"),
            ("x-forwarded-for", "9.9.9.9, 8.8.8.8, 127.0.0.1"),
            ("cookie", "c"),
        ]);
        assert_eq!(sent(false, "127.0.0.1", "/", headers), wanted);
    }

    #[test]
    fn outside_cannot_pose_as_a_service() {
        let headers = map(&[("x-springtide-caller", "pay"), ("x-springtide-priority", "0"), ("host", "a")]);
        let wanted = map(&[("host", "b:1"), ("x-springtide-caller", "outside"), ("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(sent(true, "::ffff:10.0.0.1", "http://b:1/x", headers), wanted);
    }

    #[test]
    fn an_absolute_target_without_a_path_is_the_root() {
        assert_eq!(target(&Uri::from_static("http://a")), "/");
        assert_eq!(target(&Uri::from_static("http://a/b?c")), "/b?c");
        assert_eq!(target(&Uri::from_static("*")), "*");
    }
}
