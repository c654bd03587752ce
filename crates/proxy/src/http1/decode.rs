//! Where the body of an answer ends (RFC 9112, section 6.3), and its pieces. Pure: bytes in, pieces out.
//!
//! Strict where leniency would let two readers see two bodies: sizes are plain hex, lines end in CRLF.

use crate::headers::Marks;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, StatusCode, Version};

/// Longest line that gives a chunk's size, extensions included.
const SIZE_LINE_BYTES_MAX: usize = 4 * 1024;
/// Largest block of trailers.
const TRAILERS_BYTES_MAX: usize = 16 * 1024;
/// Most trailers.
const TRAILERS_MAX: usize = 64;
/// Hex digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 15;

/// A body that is not as HTTP has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// One step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of the body.
    Data(Bytes),
    /// What follows the last chunk.
    Trailers(HeaderMap),
    /// That was all.
    End,
    /// More bytes are needed.
    More,
}

/// How far a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes are to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    Close,
}

/// Where in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Before a size.
    Size,
    /// So many bytes of this chunk are to come.
    Data(u64),
    /// Before the line end after a chunk.
    DataEnd,
    /// After the last chunk.
    Trailers,
    /// Over.
    End,
}

impl Decoder {
    /// The body of an answer to a request of this method, whose headers have these marks; removes a length that another
    /// framing overrules.
    pub fn of(method: &Method, parts: &mut Parts, marks: Marks) -> Result<Self, Malformed> {
        let status = parts.status;
        let bare = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        if marks.coding
            && let Some(coding) = parts.headers.get_all(header::TRANSFER_ENCODING).iter().next_back()
        {
            let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            if parts.version != Version::HTTP_11 {
                return Err(Malformed("a transfer coding in HTTP/1.0"));
            }
            parts.headers.remove(header::CONTENT_LENGTH);
            return Ok(match (bare || *method == Method::HEAD, chunked) {
                (true, _) => Self::Length(0),
                (false, true) => Self::Chunked(Chunk::Size),
                (false, false) => Self::Close,
            });
        }
        let length = if marks.length { length(&parts.headers)? } else { None };
        if bare || *method == Method::HEAD {
            return Ok(Self::Length(0));
        }
        Ok(length.map_or(Self::Close, Self::Length))
    }

    /// Nothing more is to come.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// What is to come, when that is known.
    pub fn exact(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(Chunk::End) => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next piece off the front of what came.
    pub fn decode(&mut self, from: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(data(left, from)),
            Self::Close if from.is_empty() => Ok(Piece::More),
            Self::Close => Ok(Piece::Data(from.split().freeze())),
            Self::Chunked(chunk) => chunk.decode(from),
        }
    }
}

fn data(left: &mut u64, from: &mut BytesMut) -> Piece {
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
    if take == 0 {
        return Piece::More;
    }
    *left -= take as u64;
    Piece::Data(from.split_to(take).freeze())
}

impl Chunk {
    fn decode(&mut self, from: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(from, SIZE_LINE_BYTES_MAX)? else { return Ok(Piece::More) };
                    let size = size(&from[..line])?;
                    from.advance(line + 2);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(left) => return Ok(data(left, from)),
                Self::DataEnd => {
                    if from.len() < 2 {
                        return Ok(Piece::More);
                    }
                    if !from.starts_with(b"\r\n") {
                        return Err(Malformed("a chunk longer than its size"));
                    }
                    from.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some((trailers, bytes)) = trailers(from)? else { return Ok(Piece::More) };
                    from.advance(bytes);
                    *self = Self::End;
                    return Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) });
                }
                Self::End => return Ok(Piece::End),
            }
        }
    }
}

/// Length of the line at the front, without its end; `None` while that is not there.
fn line(from: &[u8], bytes_max: usize) -> Result<Option<usize>, Malformed> {
    match from.iter().take(bytes_max).position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && from[end - 1] == b'\r' => Ok(Some(end - 1)),
        Some(_) => Err(Malformed("a chunk's size that does not end in CRLF")),
        None if from.len() >= bytes_max => Err(Malformed("a chunk's size that does not end")),
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return Err(Malformed("a chunk without a size that can be read"));
    }
    digits.iter().try_fold(0_u64, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Malformed("a chunk's size that is not hexadecimal"))?;
        Ok(size << 4 | u64::from(digit))
    })
}

/// The trailers at the front and their bytes; `None` while their end is not there.
fn trailers(from: &[u8]) -> Result<Option<(HeaderMap, usize)>, Malformed> {
    if from.starts_with(b"\r\n") {
        return Ok(Some((HeaderMap::new(), 2)));
    }
    let mut lines = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(from, &mut lines) {
        Ok(httparse::Status::Complete((bytes, parsed))) => {
            let mut trailers = HeaderMap::with_capacity(parsed.len());
            for line in parsed {
                let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a trailer's name"))?;
                let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed("a trailer's value"))?;
                trailers.append(name, value);
            }
            Ok(Some((trailers, bytes)))
        }
        Ok(httparse::Status::Partial) if from.len() < TRAILERS_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Partial) => Err(Malformed("trailers that do not end")),
        Err(_) => Err(Malformed("trailers that cannot be read")),
    }
}

/// The one length that all headers agree on.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for part in headers.get_all(header::CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','))
    {
        let number = decimal(part.trim_ascii()).ok_or(Malformed("a length that is no number"))?;
        if length.is_some_and(|length| length != number) {
            return Err(Malformed("two lengths"));
        }
        length = Some(number);
    }
    Ok(length)
}

/// Digits alone: no sign, no space, at least one.
fn decimal(digits: &[u8]) -> Option<u64> {
    let next = |number: u64, digit: &u8| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, next) }
}

#[cfg(test)]
mod tests;
