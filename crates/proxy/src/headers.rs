//! Header hygiene: what may pass from one hop to the next.
//!
//! Hop-by-hop fields are RFC 9110 section 7.6.1. No rewriting of paths, cookies or locations.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// The same, as a header's value, made once for the connection.
    pub text: HeaderValue,
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        // An IPv4 caller of an IPv6 listener is still an IPv4 caller.
        let ip = ip.to_canonical();
        let text = HeaderValue::from_str(&ip.to_string()).expect("an address is visible ASCII");
        Self { ip, text }
    }
}

/// The calling service.
pub const CALLER: HeaderName = HeaderName::from_static("x-springtide-caller");
/// Why the proxy, or a service behind it, rejected fast.
pub const REJECT: HeaderName = HeaderName::from_static("x-springtide-reject");
/// Client addresses along the way.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers that a request gets on its way through: caller, forwarded, priority, user, deadline, and what is rarer.
const ADDED: usize = 8;
/// Headers that only our own side may set.
const OWN_PREFIX: &str = "x-springtide-";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

fn hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == header::PROXY_AUTHORIZATION
        || *name == header::PROXY_AUTHENTICATE
}

/// Framing and identity must not be removed by naming them in `Connection`.
fn protected(name: &HeaderName) -> bool {
    *name == header::HOST || *name == header::CONTENT_LENGTH || name.as_str().starts_with(OWN_PREFIX)
}

/// Removes hop-by-hop fields, those that `Connection` names, and those for which `also` holds.
pub fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    // One walk finds the few that must go; most messages have none, and removal costs a hash each.
    let gone: Vec<HeaderName> = headers.keys().filter(|name| hop_by_hop(name) || also(name)).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| !protected(name))
        .collect();
    for name in gone.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The caller takes trailers, as gRPC does: `TE` is hop-by-hop, but over HTTP/2 this is all it may say.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::TE) else { return false };
    value.to_str().is_ok_and(|text| text.split(',').any(|token| token.trim().eq_ignore_ascii_case("trailers")))
}

/// HTTP/2 may split `Cookie` for compression; other protocols get it whole (RFC 9113, section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let mut whole = first.as_bytes().to_vec();
    let before = whole.len();
    for crumb in crumbs {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    if whole.len() > before
        && let Ok(value) = HeaderValue::from_bytes(&whole)
    {
        headers.insert(header::COOKIE, value);
    }
}

/// Prepares the head of a request for the next hop.
pub fn prepare(headers: &mut HeaderMap, from_outside: bool, peer: &Peer) {
    strip(headers, |name| *name == header::EXPECT || (from_outside && name.as_str().starts_with(OWN_PREFIX)));
    // What is added on the way, at once: growing twice costs more than all of it.
    headers.reserve(ADDED);
    if from_outside {
        headers.insert(CALLER, HeaderValue::from_static(crate::table::OUTSIDE));
    }
    let before: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let way = if before.is_empty() {
        peer.text.clone()
    } else {
        let text = format!("{}, {}", before.join(", "), peer.ip);
        HeaderValue::from_str(&text).unwrap_or_else(|_| peer.text.clone())
    };
    headers.insert(FORWARDED_FOR, way);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_end_to_end_fields_pass() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Secret, host, x-springtide-user"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("x-springtide-user", "7"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "8.8.8.8"),
            ("cookie", "c"),
        ]);
        prepare(&mut headers, false, &peer("127.0.0.1"));
        let wanted = map(&[
            ("host", "a"),
            ("x-springtide-user", "7"),
            ("x-forwarded-for", "9.9.9.9, 8.8.8.8, 127.0.0.1"),
            ("cookie", "c"),
        ]);
        assert_eq!(headers, wanted);
    }

    #[test]
    fn outside_cannot_pose_as_a_service() {
        let mut headers = map(&[("x-springtide-caller", "pay"), ("x-springtide-priority", "0"), ("host", "a")]);
        prepare(&mut headers, true, &peer("::ffff:10.0.0.1"));
        let wanted = map(&[("host", "a"), ("x-springtide-caller", "outside"), ("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(headers, wanted);
    }
}
