//! The text and binary forms in which priorities, deadlines, demand and load travel between hops.
//!
//! Nothing that comes over the wire is believed unchecked: every reader returns a typed [`Fault`], and the
//! caller goes on as if the header were not there. Absent: HTTP itself, and the decision whom to trust.

mod base64;
mod orca;

use crate::callee::{SHED_PAIRS_MAX, ShedReport};
use crate::gate::Reason;
use crate::priority::{Bucket, Priority};
use crate::user::UserHash;
use std::fmt::{self, Write};

pub use orca::{orca_binary, orca_text, parse_orca_binary, parse_orca_text};

/// Priority of the task, `u16` decimal.
pub const PRIORITY: &str = "x-springtide-priority";
/// The keyed user hash, 16 hex digits.
pub const USER: &str = "x-springtide-user";
/// Remaining time of the task when sent, in milliseconds.
pub const DEADLINE_MS: &str = "x-springtide-deadline-ms";
/// 0 for the first attempt of this call, then 1, 2…
pub const ATTEMPT: &str = "x-springtide-attempt";
/// Services that admitted a call of this task already, comma separated.
pub const ADMITTED: &str = "x-springtide-admitted";
/// Calls that this caller shed since its last call, as `bucket:count` pairs.
pub const SHED: &str = "x-springtide-shed";
/// Set by a proxy during a stress test of the called service: its controller judges, no gate does.
pub const UNGATED: &str = "x-springtide-ungated";
/// On an answer: who rejected, and why.
pub const REJECT: &str = "x-springtide-reject";
/// On an answer: the policy that answered in the service's place, inside the service. A proxy's own answers lack it.
pub const INSTEAD: &str = "x-springtide-instead";
/// On an answer: the ORCA load report in its text form.
pub const ORCA: &str = "endpoint-load-metrics";
/// In gRPC metadata: the ORCA load report in its binary form.
pub const ORCA_BINARY: &str = "endpoint-load-metrics-bin";

/// Services named in [`ADMITTED`] at most; a task that passed more is judged anew at the next.
pub const ADMITTED_MAX: usize = 32;
/// Bytes of any value that are read.
pub const VALUE_BYTES_MAX: usize = 4_096;
/// Greatest attempt number that is believed.
const ATTEMPT_MAX: u32 = 100;

/// Why a value was not believed.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Longer than any true value.
    TooLong {
        /// Which header.
        header: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not of the form that the header has.
    Malformed {
        /// Which header.
        header: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// A load report whose numbers cannot be.
    Advert(crate::AdvertFault),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { header, bytes } => {
                write!(f, "{header}: {bytes} bytes, more than {VALUE_BYTES_MAX}")
            }
            Self::Malformed { header, wanted } => write!(f, "{header}: expected {wanted}"),
            Self::Advert(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

fn malformed(header: &'static str, wanted: &'static str) -> Fault {
    Fault::Malformed { header, wanted }
}

fn bounded<'a>(header: &'static str, value: &'a str) -> Result<&'a str, Fault> {
    if value.len() > VALUE_BYTES_MAX { Err(Fault::TooLong { header, bytes: value.len() }) } else { Ok(value.trim()) }
}

/// Digits only: `str::parse` would also take a sign.
fn digits<T: std::str::FromStr>(header: &'static str, value: &str, wanted: &'static str) -> Result<T, Fault> {
    let value = bounded(header, value)?;
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if plain { value.parse().map_err(|_| malformed(header, wanted)) } else { Err(malformed(header, wanted)) }
}

/// Reads [`PRIORITY`].
pub fn parse_priority(value: &str) -> Result<Priority, Fault> {
    digits(PRIORITY, value, "a whole number from 0 to 65535").map(Priority::from_u16)
}

/// Writes [`PRIORITY`].
pub fn priority(priority: Priority) -> String {
    priority.as_u16().to_string()
}

/// Reads [`USER`].
pub fn parse_user(value: &str) -> Result<UserHash, Fault> {
    let value = bounded(USER, value)?;
    let hex = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = if hex { u64::from_str_radix(value, 16).ok() } else { None };
    hash.map(UserHash::from_u64).ok_or_else(|| malformed(USER, "16 hex digits"))
}

/// Writes [`USER`].
pub fn user(user: UserHash) -> String {
    format!("{:016x}", user.as_u64())
}

/// Reads [`DEADLINE_MS`]: remaining milliseconds, for [`crate::Deadline::after_ms`].
pub fn parse_deadline_ms(value: &str) -> Result<u64, Fault> {
    digits(DEADLINE_MS, value, "the remaining time in whole milliseconds")
}

/// Reads [`ATTEMPT`].
pub fn parse_attempt(value: &str) -> Result<u32, Fault> {
    let wanted = "an attempt number from 0 to 100";
    digits(ATTEMPT, value, wanted)
        .and_then(|attempt| if attempt <= ATTEMPT_MAX { Ok(attempt) } else { Err(malformed(ATTEMPT, wanted)) })
}

/// Whether [`ADMITTED`] names the service, so that a call of this task passes there.
pub fn admitted_has(value: &str, service: &str) -> bool {
    value.len() <= VALUE_BYTES_MAX && value.split(',').take(ADMITTED_MAX).any(|name| name.trim() == service)
}

/// [`ADMITTED`] with the service added, unless it is full or names it already.
pub fn admitted_with(value: &str, service: &str) -> String {
    let full = value.split(',').count() >= ADMITTED_MAX || value.len() + service.len() >= VALUE_BYTES_MAX;
    if value.trim().is_empty() {
        service.to_owned()
    } else if full || admitted_has(value, service) {
        value.to_owned()
    } else {
        format!("{value},{service}")
    }
}

/// Writes [`SHED`]; `None` when nothing was shed.
pub fn shed(report: &ShedReport) -> Option<String> {
    let mut text = String::new();
    for (bucket, count) in report.pairs() {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{}:{count}", bucket.number()).expect("a String takes any text");
    }
    (!text.is_empty()).then_some(text)
}

/// Reads [`SHED`].
pub fn parse_shed(value: &str) -> Result<ShedReport, Fault> {
    let wanted = "up to 16 pairs bucket:count, bucket below 1024";
    let mut report = ShedReport::EMPTY;
    for (at, pair) in bounded(SHED, value)?.split(',').enumerate() {
        let (bucket, count) = pair.split_once(':').ok_or_else(|| malformed(SHED, wanted))?;
        let bucket = Bucket::new(digits(SHED, bucket, wanted)?).ok_or_else(|| malformed(SHED, wanted))?;
        if at >= SHED_PAIRS_MAX || !report.push(bucket, digits(SHED, count, wanted)?) {
            return Err(malformed(SHED, wanted));
        }
    }
    Ok(report)
}

/// Why a request was answered without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its priority is not within the level.
    Overload,
    /// Its deadline has passed, or would before it were served.
    Deadline,
    /// As many requests wait or are in flight as may.
    Overflow,
    /// An operator's policy.
    Policy,
    /// Its tenant used its share.
    Tenant,
    /// The caller's own throttle.
    Throttle,
    /// No endpoint could take it.
    NoEndpoint,
}

impl Why {
    const ALL: [Self; 7] =
        [Self::Overload, Self::Deadline, Self::Overflow, Self::Policy, Self::Tenant, Self::Throttle, Self::NoEndpoint];

    /// As written in [`REJECT`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Deadline => "deadline",
            Self::Overflow => "overflow",
            Self::Policy => "policy",
            Self::Tenant => "tenant",
            Self::Throttle => "throttle",
            Self::NoEndpoint => "no-endpoint",
        }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Overload => Self::Overload,
            Reason::Expired | Reason::Doomed => Self::Deadline,
            Reason::Overflow => Self::Overflow,
        }
    }
}

/// Writes [`REJECT`]: `overload; by=lottery`.
pub fn reject(why: Why, by: &str) -> String {
    format!("{}; by={by}", why.as_str())
}

/// Reads [`REJECT`]: why, and who.
pub fn parse_reject(value: &str) -> Result<(Why, &str), Fault> {
    let fault = || malformed(REJECT, "a reason and who rejected, as in \"overload; by=lottery\"");
    let (why, by) = bounded(REJECT, value)?.split_once(';').ok_or_else(fault)?;
    let why = Why::ALL.into_iter().find(|known| known.as_str() == why.trim()).ok_or_else(fault)?;
    Ok((why, by.trim().strip_prefix("by=").ok_or_else(fault)?))
}

#[cfg(test)]
mod tests;
