//! Label sets in one canonical byte form, and Prometheus' rules for names.
//!
//! The form is that of remote write: each label a protobuf field 1 that holds name (field 1) and value (field 2). Sorted by
//! name, without empty values, it is the identity of a series; so what a careful sender sends needs no rewriting.

use super::bits::{Damaged, Reader, put_varint};
use std::sync::Arc;

/// Labels in the order of their names, texts shared.
pub(crate) type Labels = Vec<(Arc<str>, Arc<str>)>;

/// Label that holds a series' name.
pub const NAME: &str = "__name__";
/// Labels of one series at most, the name included.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's name, or of a metric's, at most.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a label's value at most.
pub const VALUE_BYTES_MAX: usize = 2_048;

const FIELD_LABEL: u8 = 0x0a;
const FIELD_NAME: u8 = 0x0a;
const FIELD_VALUE: u8 = 0x12;

/// What is wrong with a label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum BadLabels {
    /// No name of the metric.
    #[error("there is no label __name__, or it is empty")]
    NoName,
    /// The metric's name breaks Prometheus' rules.
    #[error("the metric's name is refused: letters, digits, _ and :, not beginning with a digit, at most 256 bytes")]
    MetricName,
    /// A label's name breaks Prometheus' rules.
    #[error("a label's name is refused: letters, digits and _, not beginning with a digit, at most 256 bytes")]
    LabelName,
    /// A value is too long, or no UTF-8.
    #[error("a label's value is refused: UTF-8 of at most 2048 bytes")]
    Value,
    /// A label is there twice.
    #[error("a label is there twice")]
    Twice,
    /// Too many.
    #[error("there are more than 64 labels")]
    TooMany,
}

fn good(name: &str, colon: bool) -> bool {
    let letter = |c: &u8| c.is_ascii_alphabetic() || *c == b'_' || (colon && *c == b':');
    let bytes = name.as_bytes();
    bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(letter)
        && bytes.iter().all(|c| letter(c) || c.is_ascii_digit())
}

/// Whether this may be a metric's name.
pub fn metric_name_is_good(name: &str) -> bool {
    good(name, true)
}

/// Whether this may be a label's name.
pub fn label_name_is_good(name: &str) -> bool {
    good(name, false)
}

fn varint_bytes(value: usize) -> usize {
    if value < 0x80 { 1 } else { (usize::BITS - value.leading_zeros()).div_ceil(7) as usize }
}

fn put(to: &mut Vec<u8>, name: &str, value: &str) {
    let inner = 2 + varint_bytes(name.len()) + name.len() + varint_bytes(value.len()) + value.len();
    to.push(FIELD_LABEL);
    put_varint(to, inner as u64);
    to.push(FIELD_NAME);
    put_varint(to, name.len() as u64);
    to.extend_from_slice(name.as_bytes());
    to.push(FIELD_VALUE);
    put_varint(to, value.len() as u64);
    to.extend_from_slice(value.as_bytes());
}

/// Checks labels, orders them, leaves empty values out, and writes their canonical form.
pub(crate) fn canonical(labels: &mut Vec<(&str, &str)>, to: &mut Vec<u8>) -> Result<(), BadLabels> {
    labels.retain(|(_, value)| !value.is_empty());
    if labels.len() > LABELS_MAX {
        return Err(BadLabels::TooMany);
    }
    labels.sort_unstable();
    let mut named = false;
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 && labels[at - 1].0 == *name {
            return Err(BadLabels::Twice);
        }
        if *name == NAME {
            named = true;
            if !metric_name_is_good(value) {
                return Err(BadLabels::MetricName);
            }
        } else if !label_name_is_good(name) {
            return Err(BadLabels::LabelName);
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(BadLabels::Value);
        }
    }
    if !named {
        return Err(BadLabels::NoName);
    }
    to.clear();
    labels.iter().for_each(|(name, value)| put(to, name, value));
    Ok(())
}

/// The labels of a byte form, canonical or not.
pub(crate) fn decode(bytes: &[u8]) -> Decode<'_> {
    Decode(Reader(bytes))
}

/// Labels of a byte form, one after another.
#[derive(Debug, Clone)]
pub(crate) struct Decode<'a>(Reader<'a>);

impl<'a> Decode<'a> {
    fn label(&mut self) -> Result<(&'a str, &'a str), Damaged> {
        if self.0.byte()? != FIELD_LABEL {
            return Err(Damaged);
        }
        let length = self.0.length()?;
        let mut inner = Reader(self.0.bytes(length)?);
        let (mut name, mut value) = ("", "");
        while !inner.is_empty() {
            match inner.byte()? {
                FIELD_NAME => name = inner.text()?,
                FIELD_VALUE => value = inner.text()?,
                _ => return Err(Damaged),
            }
        }
        Ok((name, value))
    }
}

impl<'a> Iterator for Decode<'a> {
    type Item = Result<(&'a str, &'a str), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.label();
        if read.is_err() {
            self.0 = Reader(&[]);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(labels: &[(&str, &str)]) -> Result<Vec<u8>, BadLabels> {
        let mut to = Vec::new();
        canonical(&mut labels.to_vec(), &mut to).map(|()| to)
    }

    #[test]
    fn one_form_whatever_the_order() {
        let long = "x".repeat(300);
        let left = form(&[("b", "2"), (NAME, "up"), ("a", &long), ("c", "")]).expect("good");
        assert_eq!(left, form(&[("a", &long), ("b", "2"), (NAME, "up")]).expect("good"));
        let read: Vec<_> = decode(&left).map(|label| label.expect("whole")).collect();
        assert_eq!(read, [(NAME, "up"), ("a", long.as_str()), ("b", "2")]);
        assert!(decode(&left[..left.len() - 1]).any(|label| label.is_err()));
    }

    #[test]
    fn what_prometheus_would_not_take_is_refused() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let many: Vec<String> = (0..70).map(|n| format!("l{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).chain([(NAME, "up")]).collect();
        let bad: [(&[(&str, &str)], BadLabels); 8] = [
            (&[("a", "1")], BadLabels::NoName),
            (&[(NAME, ""), ("a", "1")], BadLabels::NoName),
            (&[(NAME, "1up")], BadLabels::MetricName),
            (&[(NAME, "up"), ("a:b", "1")], BadLabels::LabelName),
            (&[(NAME, "up"), ("", "1")], BadLabels::LabelName),
            (&[(NAME, "up"), ("a", "1"), ("a", "2")], BadLabels::Twice),
            (&[(NAME, "up"), ("a", &long)], BadLabels::Value),
            (&many, BadLabels::TooMany),
        ];
        for (labels, why) in bad {
            assert_eq!(form(labels), Err(why), "{labels:?}");
        }
        assert!(form(&[(NAME, "node:cpu:rate5m"), ("Host_1", "深圳")]).is_ok());
    }
}
