//! The index of a block: texts once, columns of times once, then each series.

use super::super::bits::{Damaged, Reader, put_varint};
use super::super::chunk::{Chunk, Data, times_span};
use super::super::labels::Labels;
use super::super::matcher::Condition;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// How a chunk is kept.
const PACKS: u8 = 0;
const CODED: u8 = 1;

/// Writes an index.
#[derive(Default)]
pub(super) struct Builder {
    texts: HashMap<Arc<str>, u32>,
    texts_bytes: Vec<u8>,
    times: HashMap<Arc<[u8]>, u32>,
    times_bytes: Vec<u8>,
    series: u64,
    series_bytes: Vec<u8>,
}

impl Builder {
    fn text(&mut self, text: &Arc<str>) -> u64 {
        if let Some(known) = self.texts.get(text) {
            return u64::from(*known);
        }
        let id = self.texts.len() as u32;
        put_varint(&mut self.texts_bytes, text.len() as u64);
        self.texts_bytes.extend_from_slice(text.as_bytes());
        self.texts.insert(text.clone(), id);
        u64::from(id)
    }

    fn times(&mut self, times: &Arc<[u8]>) -> u64 {
        if let Some(known) = self.times.get(times) {
            return u64::from(*known);
        }
        let id = self.times.len() as u32;
        put_varint(&mut self.times_bytes, times.len() as u64);
        self.times_bytes.extend_from_slice(times);
        self.times.insert(times.clone(), id);
        u64::from(id)
    }

    pub(super) fn series(&mut self, source: &str, labels: &[(Arc<str>, Arc<str>)], chunks: &[Chunk]) {
        self.series += 1;
        let mut bytes = std::mem::take(&mut self.series_bytes);
        let source = self.text(&source.into());
        put_varint(&mut bytes, source);
        put_varint(&mut bytes, labels.len() as u64);
        for (name, value) in labels {
            put_varint(&mut bytes, self.text(name));
            put_varint(&mut bytes, self.text(value));
        }
        put_varint(&mut bytes, chunks.len() as u64);
        for chunk in chunks {
            match &chunk.data {
                Data::Packs(packs) => {
                    bytes.push(PACKS);
                    put_varint(&mut bytes, chunk.first_ms);
                    put_varint(&mut bytes, chunk.last_ms - chunk.first_ms);
                    put_varint(&mut bytes, u64::from(chunk.points));
                    put_varint(&mut bytes, packs.len() as u64);
                }
                Data::Coded { times, values } => {
                    bytes.push(CODED);
                    put_varint(&mut bytes, self.times(times));
                    put_varint(&mut bytes, values.len() as u64);
                }
            }
        }
        self.series_bytes = bytes;
    }

    pub(super) fn finish(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(self.texts_bytes.len() + self.times_bytes.len() + self.series_bytes.len() + 30);
        put_varint(&mut to, self.texts.len() as u64);
        to.extend_from_slice(&self.texts_bytes);
        put_varint(&mut to, self.times.len() as u64);
        to.extend_from_slice(&self.times_bytes);
        put_varint(&mut to, self.series);
        to.extend_from_slice(&self.series_bytes);
        to
    }
}

/// Where a chunk lies, and how it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) points: u16,
    /// The column of its times; none: they are in its packs.
    pub(crate) times: Option<u32>,
    /// From the beginning of the chunks.
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

#[derive(Debug)]
struct SeriesAt {
    source: u32,
    labels: Range<u32>,
    places: Range<u32>,
}

/// An index, read.
#[derive(Debug)]
pub(crate) struct BlockIndex {
    texts: Vec<Arc<str>>,
    times: Vec<Arc<[u8]>>,
    labels: Vec<(u32, u32)>,
    places: Vec<Place>,
    series: Vec<SeriesAt>,
}

/// A count that each of so many bytes bounds: no index says more things than it has bytes.
fn count(from: &mut Reader<'_>) -> Result<usize, Damaged> {
    from.length()
}

impl BlockIndex {
    pub(super) fn read(plain: &[u8]) -> Result<Self, Damaged> {
        let mut from = Reader(plain);
        let texts = count(&mut from)?;
        let texts = (0..texts).map(|_| from.text().map(Arc::from)).collect::<Result<Vec<Arc<str>>, _>>()?;
        let times = count(&mut from)?;
        let read = |from: &mut Reader<'_>| from.length().and_then(|length| from.bytes(length)).map(Arc::from);
        let times = (0..times).map(|_| read(&mut from)).collect::<Result<Vec<Arc<[u8]>>, _>>()?;
        let spans = times.iter().map(|times| times_span(times)).collect::<Result<Vec<_>, _>>()?;
        let series = count(&mut from)?;
        let mut index =
            Self { texts, times, labels: Vec::new(), places: Vec::new(), series: Vec::with_capacity(series) };
        let mut offset = 0;
        for _ in 0..series {
            index.read_series(&mut from, &spans, &mut offset)?;
        }
        Ok(index)
    }

    fn read_series(
        &mut self,
        from: &mut Reader<'_>,
        spans: &[(usize, u64, u64)],
        offset: &mut u64,
    ) -> Result<(), Damaged> {
        let text = |from: &mut Reader<'_>, texts: &[Arc<str>]| {
            let id = from.varint()?;
            if id < texts.len() as u64 { Ok(id as u32) } else { Err(Damaged) }
        };
        let source = text(from, &self.texts)?;
        let first_label = self.labels.len() as u32;
        for _ in 0..count(from)? {
            let name = text(from, &self.texts)?;
            self.labels.push((name, text(from, &self.texts)?));
        }
        let first_place = self.places.len() as u32;
        for _ in 0..count(from)? {
            let place = read_place(from, spans, *offset)?;
            *offset = place.offset + u64::from(place.bytes) + super::CHECK_BYTES as u64;
            self.places.push(place);
        }
        self.series.push(SeriesAt {
            source,
            labels: first_label..self.labels.len() as u32,
            places: first_place..self.places.len() as u32,
        });
        Ok(())
    }

    /// Series there are.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Source, labels and places of a series.
    pub(crate) fn series(&self, at: usize) -> (&Arc<str>, Labels, &[Place]) {
        let series = &self.series[at];
        let labels = self.labels_of(series).iter();
        let text = |id: &u32| self.texts[*id as usize].clone();
        let labels = labels.map(|(name, value)| (text(name), text(value))).collect();
        let places = &self.places[series.places.start as usize..series.places.end as usize];
        (&self.texts[series.source as usize], labels, places)
    }

    fn labels_of(&self, series: &SeriesAt) -> &[(u32, u32)] {
        &self.labels[series.labels.start as usize..series.labels.end as usize]
    }

    pub(crate) fn times(&self, id: u32) -> &Arc<[u8]> {
        &self.times[id as usize]
    }

    /// Series for which all conditions hold. Each text is compared once.
    pub(crate) fn select(&self, conditions: &[Condition]) -> Vec<usize> {
        let mut asked: Vec<(Option<u32>, HashMap<u32, bool>)> = conditions
            .iter()
            .map(|condition| {
                let name = self.texts.iter().position(|text| **text == *condition.label);
                (name.map(|name| name as u32), HashMap::new())
            })
            .collect();
        let mut holds = |at: &usize| {
            conditions.iter().zip(&mut asked).all(|(condition, (name, known))| {
                let labels = self.labels_of(&self.series[*at]);
                let value = name.and_then(|name| labels.iter().find(|(label, _)| *label == name)).map(|label| label.1);
                match value {
                    None => condition.absent,
                    Some(id) => *known.entry(id).or_insert_with(|| condition.holds(&self.texts[id as usize])),
                }
            })
        };
        (0..self.series.len()).filter(|at| holds(at)).collect()
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len() + 32).sum::<usize>()
            + self.times.iter().map(|times| times.len() + 32).sum::<usize>()
            + self.labels.len() * 8
            + self.places.len() * size_of::<Place>()
            + self.series.len() * size_of::<SeriesAt>()
    }
}

fn read_place(from: &mut Reader<'_>, spans: &[(usize, u64, u64)], offset: u64) -> Result<Place, Damaged> {
    let kind = from.byte()?;
    let (times, (points, first_ms, last_ms)) = match kind {
        CODED => {
            let id = usize::try_from(from.varint()?).map_err(|_| Damaged)?;
            (Some(id as u32), *spans.get(id).ok_or(Damaged)?)
        }
        PACKS => {
            let first_ms = from.varint()?;
            let last_ms = first_ms.checked_add(from.varint()?).ok_or(Damaged)?;
            (None, (usize::try_from(from.varint()?).map_err(|_| Damaged)?, first_ms, last_ms))
        }
        _ => return Err(Damaged),
    };
    let bytes = u32::try_from(from.varint()?).map_err(|_| Damaged)?;
    let points = u16::try_from(points).map_err(|_| Damaged)?;
    Ok(Place { first_ms, last_ms, points, times, offset, bytes })
}
