//! The Prometheus text format, version 0.0.4, and what OpenMetrics 1.0 has beside it, line by line.
//!
//! (https://prometheus.io/docs/instrumenting/exposition_formats, https://prometheus.io/docs/specs/om/open_metrics_spec.)
//! Pure, and bounded by the line it is given. Timestamps and exemplars are checked and dropped: a value's time is that of
//! the scrape. Deliberately absent: the protobuf format, native histograms, and quoted UTF-8 names.

/// Bytes of a metric's or a label's name at most.
pub const NAME_BYTES_MAX: usize = 200;
/// Bytes of one label's value at most.
pub const VALUE_BYTES_MAX: usize = 256;
/// Labels of one series at most.
pub const LABELS_MAX: usize = 16;
/// Bytes of a bad line that are shown.
const SHOWN_BYTES_MAX: usize = 60;
/// Digits that a number of 64 bits holds whatever they are.
const DIGITS_MAX: usize = 15;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} in `{shown}`; wanted {wanted}")]
pub struct Fault {
    what: &'static str,
    wanted: &'static str,
    shown: String,
}

fn fault(what: &'static str, wanted: &'static str, line: &[u8]) -> Fault {
    let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]).into_owned();
    Fault { what, wanted, shown }
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// Empty, or a comment that means nothing.
    Nothing,
    /// `# TYPE`: of which kind the family is.
    Type {
        /// The family.
        name: &'a [u8],
        /// As it is written there.
        kind: &'a [u8],
    },
    /// `# HELP`: what it means, escaped.
    Help {
        /// The family.
        name: &'a [u8],
        /// The text.
        text: &'a [u8],
    },
    /// `# EOF`: nothing follows.
    End,
    /// A value.
    Sample {
        /// Name and labels as they stand there.
        key: &'a [u8],
        /// The value.
        value: f64,
    },
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_start(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    &text[begin..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_space(*byte) && *byte != b'\r').map_or(0, |at| at + 1);
    &text[..end]
}

/// The first word, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = trim_start(text);
    let end = text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len());
    text.split_at(end)
}

fn name_length(text: &[u8], with_colon: bool) -> usize {
    let good = |at: usize, byte: u8| {
        byte.is_ascii_alphabetic() || byte == b'_' || (with_colon && byte == b':') || (at > 0 && byte.is_ascii_digit())
    };
    text.iter().enumerate().position(|(at, byte)| !good(at, *byte)).unwrap_or(text.len())
}

/// Reads a line, without its end.
///
/// # Errors
/// What stands in it instead of a sample or a comment.
pub fn line(text: &[u8]) -> Result<Line<'_>, Fault> {
    let text = trim_end(trim_start(text));
    match text.first() {
        None => Ok(Line::Nothing),
        Some(b'#') => Ok(comment(&text[1..])),
        Some(_) => {
            let length = key_length(text)?;
            Ok(Line::Sample { key: trim_end(&text[..length]), value: value(&text[length..])? })
        }
    }
}

fn comment(text: &[u8]) -> Line<'_> {
    let (keyword, rest) = word(text);
    let (name, rest) = word(rest);
    match keyword {
        b"TYPE" => Line::Type { name, kind: trim_start(rest) },
        b"HELP" => Line::Help { name, text: trim_start(rest) },
        b"EOF" if name.is_empty() => Line::End,
        _ => Line::Nothing,
    }
}

/// How long name and labels are, spaces between them included.
fn key_length(text: &[u8]) -> Result<usize, Fault> {
    let name = name_length(text, true);
    if name == 0 {
        return Err(fault("no metric name", "a letter, `_` or `:`", text));
    }
    let space = text[name..].iter().take_while(|byte| is_space(**byte)).count();
    if text.get(name + space) != Some(&b'{') {
        return Ok(name);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate().skip(name + space + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Ok(at + 1),
            _ => {}
        }
    }
    Err(fault("labels without an end", "`}`", text))
}

/// Reads what follows name and labels: the value, perhaps a timestamp, perhaps an exemplar.
///
/// # Errors
/// When it is no number, or something else follows.
pub fn value(text: &[u8]) -> Result<f64, Fault> {
    let (number, rest) = word(text);
    let value = parse(number).ok_or_else(|| fault("no value", "a number, NaN, +Inf or -Inf", text))?;
    let (timestamp, rest) = word(rest);
    if timestamp.is_empty() || timestamp[0] == b'#' {
        return Ok(value);
    }
    if parse(timestamp).is_none() {
        return Err(fault("no timestamp after the value", "a number, or nothing", text));
    }
    match word(rest).0.first() {
        None | Some(b'#') => Ok(value),
        Some(_) => Err(fault("more after the timestamp", "the end of the line", text)),
    }
}

fn parse(text: &[u8]) -> Option<f64> {
    if !text.is_empty() && text.len() <= DIGITS_MAX && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) as f64);
    }
    // Rust's grammar is that of the format, but for the words it knows beside `NaN` and `Inf`.
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A series' name and labels, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Label and value, as they stand there; empty values are left out.
    pub labels: Vec<(String, String)>,
}

/// Why a series is not taken, although its line is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMuch {
    /// A name is too long.
    Name,
    /// A label's value is too long.
    Value,
    /// Too many labels.
    Labels,
}

/// Reads name and labels of a key that [`line`] gave.
///
/// # Errors
/// What is wrong with the labels; within, which limit they exceed.
pub fn named(key: &[u8]) -> Result<Result<Named, TooMuch>, Fault> {
    let (name, mut rest) = key.split_at(name_length(key, true));
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut too_much = (name.len() > NAME_BYTES_MAX).then_some(TooMuch::Name);
    rest = trim_start(rest);
    if !rest.is_empty() {
        rest = trim_start(&rest[1..]);
        while rest != b"}" {
            let (label, value, after) = label(rest, key)?;
            rest = after;
            if label.len() > NAME_BYTES_MAX {
                too_much = Some(TooMuch::Name);
            } else if value.len() > VALUE_BYTES_MAX {
                too_much = Some(TooMuch::Value);
            } else if labels.len() == LABELS_MAX {
                too_much = Some(TooMuch::Labels);
            } else if labels.iter().any(|(known, _)| *known == label) {
                return Err(fault("a label that stands twice", "each label once", key));
            } else if !value.is_empty() {
                labels.push((label, value));
            }
        }
    }
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(too_much.map_or(Ok(Named { name, labels }), Err))
}

/// One label, and what follows it and its comma.
fn label<'k>(text: &'k [u8], key: &[u8]) -> Result<(String, String, &'k [u8]), Fault> {
    let (name, rest) = text.split_at(name_length(text, false));
    if name.is_empty() {
        return Err(fault("no label name", "a letter or `_`", key));
    }
    let rest =
        trim_start(rest).strip_prefix(b"=").ok_or_else(|| fault("a label without `=`", "name=\"value\"", key))?;
    let rest =
        trim_start(rest).strip_prefix(b"\"").ok_or_else(|| fault("a bare label value", "name=\"value\"", key))?;
    let (value, length) = unescape(rest).ok_or_else(|| fault("a label value without an end", "`\"`", key))?;
    let value = String::from_utf8(value).map_err(|_| fault("a label value that is no UTF-8", "UTF-8", key))?;
    let rest = trim_start(&rest[length..]);
    let rest = match rest.strip_prefix(b",") {
        Some(after) => trim_start(after),
        None if rest == b"}" => rest,
        None => return Err(fault("no `,` between labels", "`,` or `}`", key)),
    };
    Ok((String::from_utf8_lossy(name).into_owned(), value, rest))
}

/// Text up to the closing quote, and how long that is with the quote. Unknown escapes stay as they are.
fn unescape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match (*text.get(at)?, text.get(at + 1)) {
            (b'"', _) => return Some((value, at + 1)),
            (b'\\', Some(b'n')) => value.push(b'\n'),
            (b'\\', Some(escaped @ (b'\\' | b'"'))) => value.push(*escaped),
            (b'\\', Some(other)) => value.extend([b'\\', *other]),
            (byte, _) => {
                value.push(byte);
                at += 1;
                continue;
            }
        }
        at += 2;
    }
}

/// A help text, unescaped.
pub fn help(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace("\\n", "\n").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests;
