//! Header hygiene: what is for one hop only (RFC 9110, section 7.6.1).
//!
//! Requests are written by `outgoing`. No rewriting of paths, cookies or locations.

use admission::{UserHash, UserKey, wire};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::cell::OnceCell;
use std::net::IpAddr;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// The same, as a header's value, made once for the connection.
    pub text: HeaderValue,
    /// The user that it stands for, hashed when first asked for: once for the connection.
    user: OnceCell<UserHash>,
}

impl Peer {
    /// The user that the address stands for, where requests name none. The key is the proxy's only one.
    pub fn user(&self, key: &UserKey) -> UserHash {
        *self.user.get_or_init(|| match self.ip {
            IpAddr::V4(ip) => key.hash(&ip.octets()),
            IpAddr::V6(ip) => key.hash(&ip.octets()),
        })
    }
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        // An IPv4 caller of an IPv6 listener is still an IPv4 caller.
        let ip = ip.to_canonical();
        let text = HeaderValue::from_str(&ip.to_string()).expect("an address is visible ASCII");
        Self { ip, text, user: OnceCell::new() }
    }
}

/// The calling service.
pub const CALLER: HeaderName = HeaderName::from_static("x-springtide-caller");
/// Why the proxy, or a service behind it, rejected fast.
pub const REJECT: HeaderName = HeaderName::from_static("x-springtide-reject");
/// Which policy answered in the place of a service, inside it.
pub const INSTEAD: HeaderName = HeaderName::from_static(wire::INSTEAD);
/// A delivery of the slow lane.
pub const LANE: HeaderName = HeaderName::from_static(slowlane::deliver::LANE);
/// The answer to such a delivery is the service's own.
pub const DELIVERED: HeaderName = HeaderName::from_static(slowlane::deliver::DELIVERED);
/// Client addresses along the way.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Load report of an answer, as text.
pub const ORCA: HeaderName = HeaderName::from_static(wire::ORCA);
/// The same in gRPC metadata.
pub const ORCA_BINARY: HeaderName = HeaderName::from_static(wire::ORCA_BINARY);
/// Headers that only our own side may set.
pub const OWN_PREFIX: &str = "x-springtide-";

/// Which headers of an answer the proxy itself acts on, noted while its head is walked anyway: most answers have hardly
/// any of them, and each look-up by name costs a hash.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    /// `Connection`.
    pub connection: bool,
    /// Any that is for one hop only, `Connection` among them.
    pub hop: bool,
    /// `Transfer-Encoding`.
    pub coding: bool,
    /// `Content-Length`.
    pub length: bool,
    /// A load report.
    pub load: bool,
}

impl Marks {
    /// Of a head that is there.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut marks = Self::default();
        headers.keys().for_each(|name| marks.note(name));
        marks
    }

    /// One more header.
    pub fn note(&mut self, name: &HeaderName) {
        self.connection |= *name == header::CONNECTION;
        self.hop |= hop_by_hop(name);
        self.coding |= *name == header::TRANSFER_ENCODING;
        self.length |= *name == header::CONTENT_LENGTH;
        self.load |= *name == ORCA || *name == ORCA_BINARY;
    }
}

/// Whether a header is there, by a walk: that costs less than a hash up to a dozen headers.
pub fn has(headers: &HeaderMap, wanted: &HeaderName) -> bool {
    headers.keys().any(|name| name == wanted)
}

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

/// Headers that `Connection` names, as far as they may be removed.
pub fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()) {
        for token in value.split(',').map(str::trim) {
            if !token.eq_ignore_ascii_case("keep-alive")
                && !token.eq_ignore_ascii_case("close")
                && let Ok(name) = HeaderName::from_bytes(token.as_bytes())
                && !protected(&name)
            {
                named.push(name);
            }
        }
    }
    named
}

/// Removes from an answer with these marks what is for one hop only.
pub fn strip(headers: &mut HeaderMap, marks: Marks) {
    if !marks.hop {
        return;
    }
    let mut gone = named_in_connection(headers);
    gone.extend(headers.keys().filter(|name| hop_by_hop(name)).cloned());
    for name in &gone {
        headers.remove(name);
    }
}

/// The caller takes trailers, as gRPC does: `TE` is hop-by-hop, but over HTTP/2 this is all it may say.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::TE) else { return false };
    value.to_str().is_ok_and(|text| text.split(',').any(|token| token.trim().eq_ignore_ascii_case("trailers")))
}
