//! Header hygiene: what may pass from one hop to the next.
//!
//! Hop-by-hop fields are RFC 9110 section 7.6.1. No rewriting of paths, cookies or locations.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// The calling service.
pub const CALLER: HeaderName = HeaderName::from_static("x-springtide-caller");
/// Why the proxy, or a service behind it, rejected fast.
pub const REJECT: HeaderName = HeaderName::from_static("x-springtide-reject");
/// Client addresses along the way.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
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

/// Prepares the head of a request for the next hop.
pub fn prepare(headers: &mut HeaderMap, from_outside: bool, peer: IpAddr) {
    strip(headers, |name| *name == header::EXPECT || (from_outside && name.as_str().starts_with(OWN_PREFIX)));
    if from_outside {
        headers.insert(CALLER, HeaderValue::from_static(crate::table::OUTSIDE));
    }
    let mut text =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ");
    if !text.is_empty() {
        text.push_str(", ");
    }
    text.push_str(&peer.to_string());
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        prepare(&mut headers, false, "127.0.0.1".parse().expect("an address"));
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
        prepare(&mut headers, true, "::1".parse().expect("an address"));
        let wanted = map(&[("host", "a"), ("x-springtide-caller", "outside"), ("x-forwarded-for", "::1")]);
        assert_eq!(headers, wanted);
    }
}
