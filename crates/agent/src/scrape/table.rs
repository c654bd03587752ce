//! The series of one instance: numbered when first seen, then recognised by the place and bytes of their lines.
//!
//! An exposition hardly changes from one scrape to the next, so a line is first compared with the one that stood there the
//! last time: no hashing, no parsing of labels, no allocation. Pure: bytes in, a message out. All bounds are named here.

use super::text::{self, Fault, Line, Named, TooMuch};
use api::fleet::{Scraped, ScrapedFamily, ScrapedSeries};
use std::collections::HashMap;
use std::sync::Arc;

/// Series of one instance at most; further ones are left out, and counted.
pub const SERIES_MAX: usize = 2_000;
/// Bytes of one answer that are read; what follows is left out, and that is said.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Bytes of one line at most.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Families whose kind and help are kept.
const FAMILIES_MAX: usize = 1_000;
/// Bytes of a help text that are kept.
const HELP_BYTES_MAX: usize = 200;

#[derive(Debug)]
struct Series {
    key: Arc<[u8]>,
    /// The scrape it last had a value in.
    seen: u64,
    /// Its place among the lines of that scrape.
    place: usize,
    is_told: bool,
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    is_told: bool,
}

/// What one scrape left out: samples, and for which limit first.
#[derive(Debug, Default)]
struct Cut {
    samples: u32,
    reason: String,
}

impl Cut {
    fn add(&mut self, reason: impl FnOnce() -> String) {
        self.samples += 1;
        if self.reason.is_empty() {
            self.reason = reason();
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    series: Vec<Option<Series>>,
    free: Vec<u32>,
    ids: HashMap<Arc<[u8]>, u32>,
    families: HashMap<Box<[u8]>, Family>,
    /// Ids in the order of lines, of the last scrape and of this one.
    before: Vec<u32>,
    order: Vec<u32>,
    /// The place in `before` where the next line is looked for.
    next: usize,
    scrape: u64,
    values: Vec<(u32, f64)>,
    /// The family named last, its kind and its help as they stand in the text.
    heading: (Vec<u8>, Vec<u8>, Vec<u8>),
    /// An unfinished line.
    line: Vec<u8>,
    lines: u64,
    bytes: usize,
    exposed: u32,
    not_finite: u32,
    cut: Cut,
    is_over: bool,
    /// Series that the host has room for.
    room: usize,
}

/// A bad line, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadLine {
    line: u64,
    #[source]
    fault: Fault,
}

impl Table {
    /// How many series there may be, beside the bound of one instance.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// A new answer begins.
    pub fn begin(&mut self) {
        self.scrape += 1;
        self.before.clear();
        std::mem::swap(&mut self.before, &mut self.order);
        self.values.clear();
        self.line.clear();
        self.heading.0.clear();
        (self.next, self.lines, self.bytes, self.exposed, self.not_finite) = (0, 0, 0, 0, 0);
        self.cut = Cut::default();
        self.is_over = false;
    }

    /// Takes a part of the answer; false when no more of it is wanted.
    ///
    /// # Errors
    /// The first bad line: then nothing of this answer is believed.
    pub fn feed(&mut self, mut part: &[u8]) -> Result<bool, BadLine> {
        let room = ANSWER_BYTES_MAX - self.bytes;
        let is_too_long = part.len() > room;
        part = &part[..part.len().min(room)];
        self.bytes += part.len();
        while let Some(end) = part.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&part[..end], &part[end + 1..]);
            part = rest;
            if self.line.is_empty() {
                self.take(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take(&whole)?;
                whole.clear();
                self.line = whole;
            }
            if self.is_over {
                return Ok(false);
            }
        }
        if is_too_long {
            self.line.clear();
            self.cut.add(|| format!("more than {ANSWER_BYTES_MAX} bytes"));
            return Ok(false);
        }
        self.line.extend_from_slice(part);
        if self.line.len() > LINE_BYTES_MAX {
            self.line.truncate(LINE_BYTES_MAX + 1);
            let line = std::mem::take(&mut self.line);
            self.take(&line)?;
        }
        Ok(true)
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// The last line, which has no end, is a bad one.
    pub fn finish(&mut self) -> Result<(), BadLine> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() || self.is_over { Ok(()) } else { self.take(&line) }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), BadLine> {
        self.lines += 1;
        self.take_line(line).map_err(|fault| BadLine { line: self.lines, fault })
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.len() > LINE_BYTES_MAX {
            self.exposed += 1;
            self.cut.add(|| format!("a line of more than {LINE_BYTES_MAX} bytes"));
            return Ok(());
        }
        if let Some((id, value)) = self.expected(line) {
            self.next += 1;
            self.put(id, value?);
            return Ok(());
        }
        match text::line(line)? {
            Line::Nothing => {}
            Line::End => self.is_over = true,
            Line::Type { name, kind } => self.head(name, Some(kind), None),
            Line::Help { name, text } => self.head(name, None, Some(text)),
            Line::Sample { key, value } => match self.ids.get(key) {
                Some(id) => {
                    let id = *id;
                    self.next = self.series[id as usize].as_ref().map_or(0, |series| series.place + 1);
                    self.put(id, value);
                }
                None => self.meet(key, value)?,
            },
        }
        Ok(())
    }

    /// The series that stood here in the last answer, if this line is its.
    fn expected(&self, line: &[u8]) -> Option<(u32, Result<f64, Fault>)> {
        let id = *self.before.get(self.next)?;
        let series = self.series[id as usize].as_ref()?;
        let rest = line.strip_prefix(&*series.key)?;
        matches!(rest.first(), Some(b' ' | b'\t')).then(|| (id, text::value(rest)))
    }

    fn head(&mut self, name: &[u8], kind: Option<&[u8]>, help: Option<&[u8]>) {
        let (known, of_kind, of_help) = &mut self.heading;
        if known != name {
            known.clear();
            known.extend_from_slice(name);
            of_kind.clear();
            of_help.clear();
        }
        for (to, from) in [(of_kind, kind), (of_help, help)] {
            if let Some(from) = from {
                to.clear();
                to.extend_from_slice(&from[..from.len().min(HELP_BYTES_MAX)]);
            }
        }
    }

    fn put(&mut self, id: u32, value: f64) {
        self.exposed += 1;
        let place = self.order.len();
        let Some(series) = self.series[id as usize].as_mut() else { return };
        if series.seen == self.scrape {
            self.cut.add(|| format!("`{}` stands twice", String::from_utf8_lossy(&series.key)));
            return;
        }
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        (series.seen, series.place) = (self.scrape, place);
        self.order.push(id);
        self.values.push((id, value));
    }

    /// A series that is new here.
    fn meet(&mut self, key: &[u8], value: f64) -> Result<(), Fault> {
        let why = match text::named(key)? {
            Ok(_) if !value.is_finite() => {
                self.exposed += 1;
                self.not_finite += 1;
                return Ok(());
            }
            Ok(_) if self.ids.len() >= SERIES_MAX => format!("more than {SERIES_MAX} series of one instance"),
            Ok(_) if self.ids.len() >= self.room => "more series than one host may have".to_owned(),
            Ok(_) => {
                self.note_family(key);
                let key: Arc<[u8]> = key.into();
                let id = self.free.pop().unwrap_or(self.series.len() as u32);
                if id as usize == self.series.len() {
                    self.series.push(None);
                }
                self.series[id as usize] = Some(Series { key: Arc::clone(&key), seen: 0, place: 0, is_told: false });
                self.ids.insert(key, id);
                self.put(id, value);
                return Ok(());
            }
            Err(TooMuch::Name) => format!("a name of more than {} bytes", text::NAME_BYTES_MAX),
            Err(TooMuch::Value) => format!("a label value of more than {} bytes", text::VALUE_BYTES_MAX),
            Err(TooMuch::Labels) => format!("more than {} labels", text::LABELS_MAX),
        };
        self.exposed += 1;
        self.cut.add(|| why);
        Ok(())
    }

    /// Keeps kind and help of the family under whose heading a new series stands.
    fn note_family(&mut self, key: &[u8]) {
        let (name, kind, help) = &self.heading;
        if name.is_empty() || !key.starts_with(name) || self.families.len() >= FAMILIES_MAX {
            return;
        }
        let metric = &key[..key.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t')).unwrap_or(key.len())];
        // OpenMetrics names the family of a counter without the suffix that its samples have, and puts when they began beside.
        let total = [name, &b"_total"[..]].concat();
        let name = match kind.as_slice() {
            b"counter" if metric == total => &total,
            b"counter" if metric != *name => return,
            _ => name,
        };
        if !self.families.contains_key(name.as_slice()) {
            let kind = match kind.as_slice() {
                known @ (b"counter" | b"gauge" | b"histogram" | b"summary") => {
                    String::from_utf8_lossy(known).into_owned()
                }
                _ => "unknown".to_owned(),
            };
            let family = Family { kind, help: text::help(help), is_told: false };
            self.families.insert(name.as_slice().into(), family);
        }
    }

    /// Series known now.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// A stream begins that knows nothing yet.
    pub fn forget_told(&mut self) {
        self.series.iter_mut().flatten().for_each(|series| series.is_told = false);
        self.families.values_mut().for_each(|family| family.is_told = false);
    }

    /// Drops what this answer did not have, and writes the rest: names of those that the stream does not know, and the
    /// values of all.
    pub fn tell(&mut self, told: &mut Scraped) {
        (told.exposed, told.not_finite, told.answer_bytes) = (self.exposed, self.not_finite, self.bytes as u64);
        (told.cut, told.cut_reason) = (self.cut.samples, self.cut.reason.clone());
        for (id, slot) in (0..).zip(&mut self.series) {
            let Some(series) = slot else { continue };
            if series.seen != self.scrape {
                if series.is_told {
                    told.gone.push(id);
                }
                self.ids.remove(&series.key);
                self.free.push(id);
                *slot = None;
            } else if !series.is_told {
                series.is_told = true;
                told.series.extend(wire(id, &series.key));
            }
        }
        for (name, family) in self.families.iter_mut().filter(|(_, family)| !family.is_told) {
            family.is_told = true;
            let name = String::from_utf8_lossy(name).into_owned();
            told.families.push(ScrapedFamily { name, kind: family.kind.clone(), help: family.help.clone() });
        }
        // Hardly ever out of order: ids are given in the order of lines.
        self.values.sort_unstable_by_key(|(id, _)| *id);
        let mut last = 0;
        for (id, value) in &self.values {
            told.id.push(id - last);
            told.value.push(*value);
            last = *id;
        }
    }

    /// An answer that is not believed: nothing has a value now. Gives the ids that the stream knew.
    pub fn drop_all(&mut self) -> Vec<u32> {
        let told = (0..).zip(&self.series).filter(|(_, series)| series.as_ref().is_some_and(|series| series.is_told));
        let gone = told.map(|(id, _)| id).collect();
        *self = Self { scrape: self.scrape, room: self.room, ..Self::default() };
        gone
    }
}

fn wire(id: u32, key: &[u8]) -> Option<ScrapedSeries> {
    let Named { name, labels } = text::named(key).ok()?.ok()?;
    let label = labels.into_iter().flat_map(|(name, value)| [name, value]).collect();
    Some(ScrapedSeries { id, name, label })
}

#[cfg(test)]
mod tests;
