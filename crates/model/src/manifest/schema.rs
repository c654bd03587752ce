//! What a field may hold: the types of the schema, and the checks of single values.

use crate::alert::RULE_BYTES_MAX;
use crate::policy::WHEN_BYTES_MAX;
use crate::unit::*;
use std::str::FromStr;

/// A field of a kind.
pub(super) struct Field {
    /// Its name.
    pub name: &'static str,
    /// True when a manifest must have it.
    pub required: bool,
    /// What it holds.
    pub of: Type,
}

/// What a field holds.
pub(super) enum Type {
    /// Any scalar, kept as written.
    Text,
    /// A scalar that a check accepts, and what to call it; the check says what would be right.
    Checked(&'static str, fn(&str) -> Result<(), String>),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, bounds included.
    Whole(u64, u64),
    /// A finite number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Any number of these.
    List(&'static Type),
    /// Exactly two of these.
    Pair(&'static Type),
    /// Names, which a check accepts, to these.
    Map(fn(&str) -> Result<(), String>, &'static Type),
    /// Known fields.
    Record(&'static [Field]),
    /// Known fields, of which exactly one of the first names stands.
    OneOf(&'static [&'static str], &'static [Field]),
    /// Known fields, or a shorthand that a check accepts.
    Shorthand(fn(&str) -> Result<(), String>, &'static [Field]),
}

/// A field that must be there.
pub(super) const fn must(name: &'static str, of: Type) -> Field {
    Field { name, required: true, of }
}

/// A field that may be there.
pub(super) const fn may(name: &'static str, of: Type) -> Field {
    Field { name, required: false, of }
}

fn parses<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(|_| ()).map_err(|refused| refused.to_string())
}

pub(super) fn name(text: &str) -> Result<(), String> {
    parses::<crate::name::ServiceName>(text)
}

pub(super) fn cpu(text: &str) -> Result<(), String> {
    parses::<CpuMillis>(text)
}

pub(super) fn memory(text: &str) -> Result<(), String> {
    parses::<MemoryBytes>(text)
}

pub(super) fn shape(text: &str) -> Result<(), String> {
    parses::<Shape>(text)
}

pub(super) fn digest(text: &str) -> Result<(), String> {
    parses::<Digest>(text)
}

pub(super) fn ip(text: &str) -> Result<(), String> {
    text.parse::<std::net::IpAddr>()
        .map(|_| ())
        .map_err(|_| format!("{text:?} is not an IP address (127.1.1.1 or fd00::1)"))
}

pub(super) fn time(text: &str) -> Result<(), String> {
    match crate::time::parse_rfc3339(text) {
        Some(_) => Ok(()),
        None => Err(format!("{text:?} is not a time; write RFC 3339, such as 2027-02-05T20:00:00+08:00")),
    }
}

/// Longest name of a port, so that `PORT_<NAME>` stays a sane variable.
const PORT_NAME_BYTES_MAX: usize = 32;

pub(super) fn port_name(text: &str) -> Result<(), String> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if !text.is_empty() && text.len() <= PORT_NAME_BYTES_MAX && text.bytes().all(fits) {
        return Ok(());
    }
    Err(format!("{text:?} is not a port name: use 1 to {PORT_NAME_BYTES_MAX} of a-z, 0-9 and '_', such as `http`"))
}

pub(super) fn variable(text: &str) -> Result<(), String> {
    if crate::config::is_variable_name(text) {
        return Ok(());
    }
    Err(format!("{text:?} is not a variable name: use A-Z, a-z, 0-9 and '_', not beginning with a digit"))
}

pub(super) fn file_name(text: &str) -> Result<(), String> {
    let part_ok = |part: &str| !part.is_empty() && part != "." && part != "..";
    if text.len() <= 255 && !text.contains('\0') && text.split('/').all(part_ok) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not a file name: use a relative path without `..`, such as `app.conf` or `conf.d/app.conf`"
    ))
}

pub(super) fn url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(format!("{text:?} is not a URL; write http://host:port/path or https://…"))
}

pub(super) fn host_port(text: &str) -> Result<(), String> {
    let parts = text.rsplit_once(':');
    if parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Ok(());
    }
    Err(format!("{text:?} is not host:port, such as bank.example:443 or 127.0.0.1:9100"))
}

pub(super) fn url_path(text: &str) -> Result<(), String> {
    if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '?' || c == '#') {
        return Ok(());
    }
    Err(format!("{text:?} is not a path; begin with `/` and leave out blanks, `?` and `#`"))
}

pub(super) fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(())
}

pub(super) fn life(text: &str) -> Result<(), String> {
    parses::<crate::policy::Life>(text)
}

pub(super) fn rule(text: &str) -> Result<(), String> {
    not_empty(text.trim())?;
    if text.len() > RULE_BYTES_MAX {
        return Err(format!("is {} bytes long; at most {RULE_BYTES_MAX} are allowed", text.len()));
    }
    Ok(())
}

pub(super) fn when(text: &str) -> Result<(), String> {
    not_empty(text.trim())?;
    if text.len() > WHEN_BYTES_MAX {
        return Err(format!("is {} bytes long; at most {WHEN_BYTES_MAX} are allowed", text.len()));
    }
    Ok(())
}

/// A field name of RFC 9110, in lower case.
pub(super) fn header_name(text: &str) -> Result<(), String> {
    let token = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&c);
    if !text.is_empty() && text.len() <= HEADER_NAME_BYTES_MAX && text.bytes().all(token) {
        return Ok(());
    }
    Err(format!("{text:?} is not a header's name in lower case, such as `content-type`"))
}

/// Longest name of a header.
const HEADER_NAME_BYTES_MAX: usize = 128;
