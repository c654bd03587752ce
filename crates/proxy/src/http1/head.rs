//! Heads of HTTP/1.1: a request's into bytes, an answer's out of them.

use super::decode::Decoder;
use super::upload::{self, Upload};
use crate::headers::Marks;
use crate::outgoing::Outgoing;
use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Headers of an answer.
const HEADERS_MAX: usize = 100;

/// Where a header is in the head: name and value.
pub type Line = (Range<u32>, Range<u32>);

/// Writes the head of a request, and what frames its body.
pub fn write(out: &mut Vec<u8>, outgoing: &Outgoing<'_>, upload: Option<&Upload>) {
    out.extend_from_slice(outgoing.parts.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(outgoing.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    outgoing.write(out);
    match upload {
        Some(upload) => upload.frame(out),
        // To say that there is none is expected of methods that usually have one (RFC 9110, section 8.6).
        None if says_zero(outgoing) => upload::length(out, 0),
        None => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn says_zero(outgoing: &Outgoing<'_>) -> bool {
    let method = &outgoing.parts.method;
    (*method != Method::GET && *method != Method::HEAD)
        && (matches!(*method, Method::POST | Method::PUT | Method::PATCH)
            || outgoing.parts.headers.contains_key(header::CONTENT_LENGTH))
}

/// Whether a head may end in what came, of which the first bytes were searched before.
pub fn ends(received: &[u8], searched: usize) -> bool {
    let new = &received[searched.saturating_sub(3).min(received.len())..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// The head of an answer.
pub struct Head {
    /// Itself.
    pub parts: Parts,
    /// What its headers are.
    pub marks: Marks,
    /// What frames its body.
    pub decoder: Decoder,
    /// The connection is kept after it.
    pub keep: bool,
}

/// Takes the head of an answer off what came; `None` while it is not there. `lines` only lends its room.
pub fn read(received: &mut BytesMut, lines: &mut Vec<Line>, method: &Method) -> io::Result<Option<Head>> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, received, &mut headers);
    let bytes = match parsed {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(error)),
    };
    let start = received.as_ptr() as usize;
    let place = |text: &[u8]| {
        let from = text.as_ptr() as usize - start;
        from as u32..(from + text.len()) as u32
    };
    lines.clear();
    lines.extend(response.headers.iter().map(|header| (place(header.name.as_bytes()), place(header.value))));
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(malformed)?;
    let head = received.split_to(bytes).freeze();
    let mut headers = HeaderMap::with_capacity(lines.len() + 2);
    let mut marks = Marks::default();
    let at = |range: &Range<u32>| range.start as usize..range.end as usize;
    for (name, value) in lines.iter() {
        let name = HeaderName::from_bytes(&head[at(name)]).map_err(malformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice(at(value))).map_err(malformed)?;
        marks.note(&name);
        headers.append(name, value);
    }
    let keep = keeps(version, &headers, marks);
    let mut parts = Response::new(()).into_parts().0;
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    let decoder = Decoder::of(method, &mut parts, marks).map_err(malformed)?;
    Ok(Some(Head { parts, marks, decoder, keep: keep && decoder != Decoder::Close }))
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Whether the endpoint keeps the connection (RFC 9112, section 9.3).
fn keeps(version: Version, headers: &HeaderMap, marks: Marks) -> bool {
    if version == Version::HTTP_11 && !marks.connection {
        return true;
    }
    let says = |wanted: &str| {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}
