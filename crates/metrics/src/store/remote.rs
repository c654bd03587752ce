//! Prometheus remote write (1.0): snappy's block format around a protobuf `WriteRequest`, read without a copy of any label.
//!
//! A request is looked through as a whole before anything of it is taken: a malformed one changes nothing. Then its series
//! are taken shard by shard. A series is found by a hash of its labels' bytes as they were sent; only a new one's are read.
//! Exemplars, metadata and native histograms are skipped; the last are counted, since their points are lost.

use super::bits::{Damaged, Reader, put_varint};
use super::hash::Key;
use super::index::Slot;
use super::labels::{self, BadLabels};
use super::refused::Refused;
use super::shard::Shard;
use super::{SHARDS, Store, shard_of, tidy};
use std::cell::RefCell;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a request's body, as sent, at most.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Bytes of a request's body, uncompressed, at most.
pub const PLAIN_BYTES_MAX: usize = 64 << 20;
/// Bytes of the labels of the first refused series that are told.
const TOLD_BYTES_MAX: usize = 300;
/// Source of series without a label `instance`.
const SOURCE: &str = "remote-write";
/// Bytes that a thread keeps for the next request.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Why a body is no write request. It is never right the next time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not compressed as it must be.
    #[error("the body is not in snappy's block format ({0}): remote write 1.0 compresses so, without framing")]
    Snappy(String),
    /// It is too large.
    #[error("the body has {0} bytes uncompressed: at most {PLAIN_BYTES_MAX} are taken; send fewer samples at once")]
    TooLarge(usize),
    /// It is no protobuf of this kind.
    #[error(
        "byte {offset} of the uncompressed body: {what}; a prometheus.WriteRequest of remote write 1.0 would be right"
    )]
    Protobuf {
        /// Where.
        offset: usize,
        /// What.
        what: &'static str,
    },
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Points taken.
    pub taken: u64,
    /// Points refused.
    pub refused: u64,
    /// The first refusal: why, and of which series.
    pub first: Option<(Refused, String)>,
    /// Points of native histograms, which are not kept.
    pub histograms: u64,
}

impl Written {
    /// What the sender is told, when not everything was taken.
    pub fn complaint(&self) -> Option<String> {
        let mut text = String::new();
        if let Some((why, series)) = &self.first {
            let all = self.taken + self.refused;
            let _ = write!(
                text,
                "{} of {all} samples were refused and the rest taken; the first, of {series}: {why}",
                self.refused
            );
        }
        if self.histograms > 0 {
            let separator = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{separator}{} native histograms were left out: send classic ones", self.histograms);
        }
        Some(text).filter(|text| !text.is_empty())
    }
}

/// One series of a request: where its labels and its samples lie.
#[derive(Debug)]
struct Entry {
    key: Key,
    labels: Range<u32>,
    samples: Range<u32>,
}

#[derive(Debug, Default)]
struct Scratch {
    plain: Vec<u8>,
    by_shard: [Vec<Entry>; SHARDS],
    samples: Vec<(u64, f64)>,
    /// Labels that do not lie side by side, put so.
    moved: Vec<u8>,
    histograms: u64,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Store {
    /// Takes a request of remote write in, as it was sent.
    pub fn write(&self, body: &[u8], now_ms: u64) -> Result<Written, Malformed> {
        SCRATCH.with_borrow_mut(|scratch| {
            let length = uncompress(body, &mut scratch.plain)?;
            let plain = std::mem::take(&mut scratch.plain);
            let parsed = scratch.parse(&plain[..length], |bytes| self.secret.key(bytes));
            let written = parsed.map(|()| self.take(scratch, &plain[..length], now_ms));
            if plain.len() <= KEPT_BYTES_MAX {
                scratch.plain = plain;
            } else {
                *scratch = Scratch::default();
            }
            written
        })
    }

    fn take(&self, scratch: &Scratch, plain: &[u8], now_ms: u64) -> Written {
        let mut written = Written { histograms: scratch.histograms, ..Written::default() };
        let (mut newest, mut odd, mut slots) = (0, Vec::new(), Vec::new());
        for (at, entries) in scratch.by_shard.iter().enumerate().filter(|(_, entries)| !entries.is_empty()) {
            let mut shard = self.lock(at);
            // All are looked up first: the misses of the cache then overlap, instead of each being waited for.
            slots.clear();
            slots.extend(entries.iter().map(|entry| shard.find(entry.key)));
            for (entry, slot) in entries.iter().zip(&slots) {
                let bytes = scratch.labels(plain, entry);
                // A series may be there twice, and new the first time.
                let slot = match slot.or_else(|| shard.find(entry.key)) {
                    Some(slot) => slot,
                    None => match self.add_sent(&mut shard, entry.key, bytes) {
                        Ok(Some(slot)) => slot,
                        Ok(None) => {
                            odd.push(entry);
                            continue;
                        }
                        Err(why) => {
                            self.refuse(&mut written, why, scratch.samples(entry).len(), bytes);
                            continue;
                        }
                    },
                };
                for (time_ms, value) in scratch.samples(entry) {
                    match self.timely(*time_ms, now_ms).and_then(|()| shard.push(slot, *time_ms, tidy(*value))) {
                        Ok(()) => {
                            newest = newest.max(*time_ms);
                            written.taken += 1;
                        }
                        Err(why) => self.refuse(&mut written, why, 1, bytes),
                    }
                }
            }
        }
        self.newest_ms.fetch_max(newest, Relaxed);
        odd.into_iter().for_each(|entry| self.take_odd(scratch, plain, entry, now_ms, &mut written));
        written
    }

    /// Adds a series whose labels were sent in canonical form; gives none when they were not.
    fn add_sent(&self, shard: &mut Shard, key: Key, bytes: &[u8]) -> Result<Option<Slot>, Refused> {
        let mut pairs = pairs(bytes)?;
        let source = source(&pairs);
        let mut canonical = Vec::with_capacity(bytes.len());
        labels::canonical(&mut pairs, &mut canonical)?;
        if canonical != bytes {
            return Ok(None);
        }
        self.add(shard, key, &canonical, source).map(Some)
    }

    /// Takes a series whose labels are not in order, or otherwise not as the specification has them.
    fn take_odd(&self, scratch: &Scratch, plain: &[u8], entry: &Entry, now_ms: u64, written: &mut Written) {
        let bytes = scratch.labels(plain, entry);
        for (time_ms, value) in scratch.samples(entry) {
            let taken = pairs(bytes).and_then(|mut pairs| {
                let source = source(&pairs);
                self.append_labels(source, &mut pairs, *time_ms, *value, now_ms)
            });
            match taken {
                Ok(_) => written.taken += 1,
                Err(why) => self.refuse(written, why, 1, bytes),
            }
        }
    }

    fn refuse(&self, written: &mut Written, why: Refused, count: usize, bytes: &[u8]) {
        self.counts.add(why, count as u64);
        written.refused += count as u64;
        if written.first.is_none() {
            written.first = Some((why, told(bytes)));
        }
    }
}

fn pairs(bytes: &[u8]) -> Result<Vec<(&str, &str)>, Refused> {
    labels::decode(bytes).collect::<Result<_, _>>().map_err(|_| Refused::BadLabels(BadLabels::Value))
}

/// Whose series it is: what Prometheus scraped it from.
fn source<'a>(pairs: &[(&'a str, &'a str)]) -> &'a str {
    pairs.iter().find(|(name, _)| *name == "instance").map_or(SOURCE, |(_, value)| value)
}

/// Labels as people write them, cut where they are too long.
fn told(bytes: &[u8]) -> String {
    let mut text = String::from("{");
    for (name, value) in labels::decode(bytes).filter_map(Result::ok) {
        if text.len() > TOLD_BYTES_MAX {
            text.push_str(", …");
            break;
        }
        let separator = if text.len() > 1 { ", " } else { "" };
        let value: String = value.chars().take(TOLD_BYTES_MAX).collect();
        let _ = write!(text, "{separator}{name}={value:?}");
    }
    text.push('}');
    text
}

/// Uncompresses into a buffer that only grows; gives the length.
fn uncompress(body: &[u8], to: &mut Vec<u8>) -> Result<usize, Malformed> {
    let snappy = |error: snap::Error| Malformed::Snappy(error.to_string());
    let length = snap::raw::decompress_len(body).map_err(snappy)?;
    if length > PLAIN_BYTES_MAX {
        return Err(Malformed::TooLarge(length));
    }
    if to.len() < length {
        to.resize(length, 0);
    }
    snap::raw::Decoder::new().decompress(body, &mut to[..length]).map_err(snappy)
}

const VARINT: u64 = 0;
const EIGHT: u64 = 1;
const BYTES: u64 = 2;
const FOUR: u64 = 5;

/// Field and wire type of what is read here.
const SERIES: u64 = 1 << 3 | BYTES;
const LABEL: u64 = 1 << 3 | BYTES;
const SAMPLE: u64 = 2 << 3 | BYTES;
const HISTOGRAM: u64 = 4 << 3 | BYTES;
const VALUE: u64 = 1 << 3 | EIGHT;
const TIME: u64 = 2 << 3 | VARINT;

impl Scratch {
    fn labels<'a>(&'a self, plain: &'a [u8], entry: &Entry) -> &'a [u8] {
        let (start, end) = (entry.labels.start as usize, entry.labels.end as usize);
        if start >= plain.len() { &self.moved[start - plain.len()..end - plain.len()] } else { &plain[start..end] }
    }

    fn samples(&self, entry: &Entry) -> &[(u64, f64)] {
        &self.samples[entry.samples.start as usize..entry.samples.end as usize]
    }

    /// Looks a whole request through, noting where each series lies.
    fn parse(&mut self, plain: &[u8], key: impl Fn(&[u8]) -> Key) -> Result<(), Malformed> {
        self.by_shard.iter_mut().for_each(Vec::clear);
        self.samples.clear();
        self.moved.clear();
        self.histograms = 0;
        let at = |rest: Reader<'_>| plain.len() - rest.0.len();
        let mut from = Reader(plain);
        while !from.is_empty() {
            let begin = at(from);
            let broken = |what| move |_| Malformed::Protobuf { offset: begin, what };
            let tag = from.varint().map_err(broken("a field's tag is cut off"))?;
            if tag != SERIES {
                skip(&mut from, tag).map_err(broken("a field is cut off, or of an unknown kind"))?;
                continue;
            }
            let length = from.length().map_err(broken("a series is cut off"))?;
            let series = from.bytes(length).map_err(broken("a series is cut off"))?;
            self.parse_series(plain, at(from) - length, series, &key).map_err(broken("a series is damaged"))?;
        }
        Ok(())
    }

    fn parse_series(
        &mut self,
        plain: &[u8],
        offset: usize,
        series: &[u8],
        key: &impl Fn(&[u8]) -> Key,
    ) -> Result<(), Damaged> {
        let mut from = Reader(series);
        while from.0.first() == Some(&(LABEL as u8)) {
            from.byte()?;
            let length = from.length()?;
            from.bytes(length)?;
        }
        let mut labels = offset..offset + series.len() - from.0.len();
        let first = self.samples.len() as u32;
        while !from.is_empty() {
            match from.varint()? {
                SAMPLE => {
                    let length = from.length()?;
                    let sample = sample(from.bytes(length)?)?;
                    self.samples.push(sample);
                }
                LABEL => {
                    let length = from.length()?;
                    let label = from.bytes(length)?;
                    labels = self.move_labels(plain, labels, label);
                }
                HISTOGRAM => {
                    self.histograms += 1;
                    skip(&mut from, HISTOGRAM)?;
                }
                tag => skip(&mut from, tag)?,
            }
        }
        let samples = first..self.samples.len() as u32;
        let labels = labels.start as u32..labels.end as u32;
        let mut entry = Entry { key: Key(0, 0), labels, samples };
        entry.key = key(self.labels(plain, &entry));
        if !entry.samples.is_empty() {
            self.by_shard[shard_of(entry.key)].push(entry);
        }
        Ok(())
    }

    /// Puts labels side by side that were sent apart.
    fn move_labels(&mut self, plain: &[u8], known: Range<usize>, label: &[u8]) -> Range<usize> {
        let begin = if known.start >= plain.len() {
            known.start
        } else {
            let begin = self.moved.len();
            self.moved.extend_from_slice(&plain[known]);
            plain.len() + begin
        };
        self.moved.push(LABEL as u8);
        put_varint(&mut self.moved, label.len() as u64);
        self.moved.extend_from_slice(label);
        begin..plain.len() + self.moved.len()
    }
}

/// A sample; a time before 1970 becomes 0, which is refused as too old.
fn sample(bytes: &[u8]) -> Result<(u64, f64), Damaged> {
    let mut from = Reader(bytes);
    let (mut time_ms, mut value) = (0, 0.0);
    while !from.is_empty() {
        match from.varint()? {
            VALUE => value = f64::from_bits(from.word()?),
            TIME => time_ms = u64::try_from(from.varint()? as i64).unwrap_or(0),
            tag => skip(&mut from, tag)?,
        }
    }
    Ok((time_ms, value))
}

fn skip(from: &mut Reader<'_>, tag: u64) -> Result<(), Damaged> {
    if tag >> 3 == 0 {
        return Err(Damaged);
    }
    match tag & 7 {
        VARINT => from.varint().map(|_| ()),
        EIGHT => from.bytes(8).map(|_| ()),
        BYTES => from.length().and_then(|length| from.bytes(length)).map(|_| ()),
        FOUR => from.bytes(4).map(|_| ()),
        _ => Err(Damaged),
    }
}

#[cfg(test)]
mod tests;
