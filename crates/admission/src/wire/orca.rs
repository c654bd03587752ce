//! Adverts as ORCA load reports (xDS proposal "Open Request Cost Aggregation"): the text form for HTTP, the protobuf
//! `xds.data.orca.v3.OrcaLoadReport` for gRPC, whose `named_metrics` (field 8, a map of doubles) carry ours.
//! Other parts of a report are stepped over: services may report their utilisation beside it.

use super::{Fault, ORCA, ORCA_BINARY, base64, bounded, malformed};
use crate::advert::Advert;
use std::fmt::Write;

/// Names of our metrics, in the order of [`Numbers`].
const NAMES: [&str; 4] =
    ["springtide_level", "springtide_demand_rps", "springtide_capacity_rps", "springtide_queue_delay_ms"];
/// Prefix of named metrics in the text form.
const TEXT_PREFIX: &str = "named_metrics.";
const TEXT_WANTED: &str = "TEXT and key=number pairs, comma separated";
const BINARY_WANTED: &str = "an OrcaLoadReport in base64";
/// Field number of `named_metrics`.
const NAMED_METRICS: u64 = 8;

/// Values by name, as they come.
#[derive(Default)]
struct Numbers([Option<f64>; 4]);

impl Numbers {
    fn of(advert: &Advert) -> [f64; 4] {
        [
            f64::from(advert.level),
            f64::from(advert.demand_rps),
            f64::from(advert.capacity_rps),
            f64::from(advert.queue_delay_us) / 1e3,
        ]
    }

    fn set(&mut self, name: &str, value: f64) {
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            self.0[at] = Some(value);
        }
    }

    /// A report without a level is somebody else's: no advert.
    fn advert(self) -> Result<Option<Advert>, Fault> {
        let [level, demand_rps, capacity_rps, queue_delay_ms] = self.0;
        let Some(level) = level else { return Ok(None) };
        let or_zero = |number: Option<f64>| number.unwrap_or(0.0);
        Advert::from_numbers(level, or_zero(demand_rps), or_zero(capacity_rps), or_zero(queue_delay_ms))
            .map(Some)
            .map_err(Fault::Advert)
    }
}

/// Writes an advert as the value of [`ORCA`].
pub fn orca_text(advert: &Advert) -> String {
    let mut text = String::with_capacity(192);
    text.push_str("TEXT ");
    for (at, (name, value)) in NAMES.iter().zip(Numbers::of(advert)).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}{TEXT_PREFIX}{name}={value}").expect("a String takes any text");
    }
    text
}

/// Reads the value of [`ORCA`]; `None` where it is a report without our metrics.
pub fn parse_orca_text(value: &str) -> Result<Option<Advert>, Fault> {
    let pairs = bounded(ORCA, value)?.strip_prefix("TEXT ").ok_or_else(|| malformed(ORCA, TEXT_WANTED))?;
    let mut numbers = Numbers::default();
    for pair in pairs.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, number) = pair.split_once('=').ok_or_else(|| malformed(ORCA, TEXT_WANTED))?;
        let number = number.trim().parse().map_err(|_| malformed(ORCA, TEXT_WANTED))?;
        numbers.set(name.trim().strip_prefix(TEXT_PREFIX).unwrap_or(""), number);
    }
    numbers.advert()
}

/// Writes an advert as the value of [`ORCA_BINARY`].
pub fn orca_binary(advert: &Advert) -> String {
    let mut bytes = Vec::with_capacity(160);
    for (name, value) in NAMES.iter().zip(Numbers::of(advert)) {
        let length = 2 + name.len() + 9;
        // Tags: field 8 length-delimited; key: field 1 length-delimited; value: field 2 of 64 bits.
        bytes.extend([0x42, length as u8, 0x0a, name.len() as u8]);
        bytes.extend(name.as_bytes());
        bytes.push(0x11);
        bytes.extend(value.to_le_bytes());
    }
    base64::encode(&bytes)
}

/// Reads the value of [`ORCA_BINARY`]; `None` where it is a report without our metrics.
pub fn parse_orca_binary(value: &str) -> Result<Option<Advert>, Fault> {
    let fault = || malformed(ORCA_BINARY, BINARY_WANTED);
    let bytes = base64::decode(bounded(ORCA_BINARY, value)?).ok_or_else(fault)?;
    let mut report = Fields(&bytes);
    let mut numbers = Numbers::default();
    while !report.0.is_empty() {
        let (number, field) = report.next().ok_or_else(fault)?;
        if let (NAMED_METRICS, Field::Bytes(entry)) = (number, field) {
            let (name, value) = map_entry(entry).ok_or_else(fault)?;
            numbers.set(name, value);
        }
    }
    numbers.advert()
}

/// An entry of a `map<string, double>`; both fields default to zero, as protobuf says.
fn map_entry(bytes: &[u8]) -> Option<(&str, f64)> {
    let mut entry = Fields(bytes);
    let (mut name, mut value) = ("", 0.0);
    while !entry.0.is_empty() {
        match entry.next()? {
            (1, Field::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            _ => {}
        }
    }
    Some((name, value))
}

/// What remains to be read of a protobuf message.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Varint,
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Fields<'a> {
    /// The next field and its number; `None` where the message is cut short or of no known wire type.
    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => self.varint().map(|_| Field::Varint)?,
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed32)?,
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
