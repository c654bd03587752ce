//! A part of the store under one lock: its series, how they are found, and what is yet to be written of them.

use super::chunk::{Chunk, Data};
use super::hash::{BuildAsIs, Key};
use super::head::{Head, Piece, Pushed};
use super::index::{Index, PairId, Slot};
use super::journal::Notes;
use super::labels::{self, Labels};
use super::matcher::Condition;
use super::refused::Refused;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes noted and not yet written, of one shard, at most; beyond, points live in memory only, and are counted.
pub(crate) const NOTES_BYTES_MAX: usize = 4 << 20;

/// Where series come from, and how many.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Arc<str>,
    pub(crate) series: AtomicUsize,
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    key: Key,
    pub(crate) labels: Box<[PairId]>,
    source: Arc<Source>,
    /// Segment of the log that knows this series.
    noted_in: u32,
    pub(crate) head: Head,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    keys: HashMap<Key, Slot, BuildAsIs>,
    series: Vec<Option<Series>>,
    free: Vec<Slot>,
    pub(crate) index: Index,
    /// Series with chunks that can be compressed.
    pub(crate) pending: Vec<Slot>,
    pub(crate) notes: Notes,
    /// Segment that notes go to; 0: nothing is noted.
    pub(crate) segment: u32,
    /// Points that were not noted since there was no room.
    pub(crate) unnoted: u64,
    /// Bytes of the series, as counted last, and what was added since.
    pub(crate) series_bytes: usize,
    pub(crate) points: u64,
}

/// A series found, with its labels and its parts.
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) pieces: Vec<Piece>,
}

impl Shard {
    pub(crate) fn find(&self, key: Key) -> Option<Slot> {
        self.keys.get(&key).copied()
    }

    /// Adds a series that is not there yet, under the key of its canonical labels.
    pub(crate) fn add(&mut self, key: Key, canonical: &[u8], source: Arc<Source>) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.series.push(None);
            self.series.len() as Slot - 1
        });
        let labels = self.index.add(slot, labels::decode(canonical).filter_map(Result::ok));
        source.series.fetch_add(1, Relaxed);
        self.series_bytes += size_of::<Series>() + labels.len() * size_of::<PairId>() + size_of::<(Key, Slot)>() * 2;
        self.keys.insert(key, slot);
        self.series[slot as usize] = Some(Series { key, labels, source, noted_in: 0, head: Head::default() });
        slot
    }

    /// Adds a point to a series.
    pub(crate) fn push(&mut self, slot: Slot, time_ms: u64, value: f64) -> Result<(), Refused> {
        let series = self.series[slot as usize].as_mut().expect("a slot that was found is taken");
        match series.head.push(time_ms, value)? {
            Pushed::Known => return Ok(()),
            Pushed::Taken => {}
            Pushed::Closed => {
                self.pending.push(slot);
                self.series_bytes += series.head.chunks.last().map_or(0, Chunk::bytes);
            }
        }
        self.points += 1;
        if self.segment > 0 {
            self.note(slot, time_ms, value);
        }
        Ok(())
    }

    fn note(&mut self, slot: Slot, time_ms: u64, value: f64) {
        if self.notes.bytes.len() > NOTES_BYTES_MAX {
            self.unnoted += 1;
            return;
        }
        let series = self.series[slot as usize].as_mut().expect("a slot that was found is taken");
        if series.noted_in != self.segment {
            series.noted_in = self.segment;
            let name = series.source.name.clone();
            let canonical = self.canonical(slot);
            self.notes.define(slot, &name, &canonical);
        }
        self.notes.point(slot, time_ms, value);
    }

    /// What was noted since the last call, and how many points of that.
    pub(crate) fn take_notes(&mut self, spare: Vec<u8>) -> (Vec<u8>, u64) {
        self.notes.take(spare)
    }

    /// Chunks of a series that are not compressed for good.
    pub(crate) fn packed(&mut self, slot: Slot) -> Vec<Chunk> {
        let packed = |chunk: &&Chunk| matches!(chunk.data, Data::Packs(_));
        self.head(slot).map(|head| head.chunks.iter().filter(packed).cloned().collect()).unwrap_or_default()
    }

    /// The canonical labels of a series.
    pub(crate) fn canonical(&self, slot: Slot) -> Vec<u8> {
        let mut to = Vec::new();
        let labels = self.labels(slot);
        let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        labels::canonical(&mut pairs, &mut to).expect("labels that were taken are good");
        to
    }

    pub(crate) fn labels(&self, slot: Slot) -> Labels {
        let series = self.series[slot as usize].as_ref().expect("a slot that was found is taken");
        let label = |pair: &PairId| {
            let (name, value) = self.index.label(*pair);
            (name.clone(), value.clone())
        };
        series.labels.iter().map(label).collect()
    }

    pub(crate) fn source(&self, slot: Slot) -> Option<Arc<str>> {
        self.series.get(slot as usize)?.as_ref().map(|series| series.source.name.clone())
    }

    pub(crate) fn head(&mut self, slot: Slot) -> Option<&mut Head> {
        self.series.get_mut(slot as usize)?.as_mut().map(|series| &mut series.head)
    }

    /// Slots in use, in order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        (0..self.series.len() as Slot).filter(|slot| self.series[*slot as usize].is_some()).collect()
    }

    /// Slots there are, in use or not.
    pub(crate) fn slots_end(&self) -> Slot {
        self.series.len() as Slot
    }

    /// Series for which the conditions hold, with what they have of a time range.
    pub(crate) fn select(
        &self,
        conditions: &[Condition],
        from_ms: u64,
        to_ms: u64,
        points: &mut usize,
        points_max: usize,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for slot in self.index.select(conditions, || self.slots()) {
            let series = self.series[slot as usize].as_ref().expect("the index knows living series");
            let mut pieces = Vec::new();
            *points += series.head.pieces(from_ms, to_ms, &mut pieces);
            if !pieces.is_empty() {
                found.push(Found { labels: self.labels(slot), pieces });
            }
            if *points > points_max {
                break;
            }
        }
        found
    }

    /// Names of labels, or values of one, of series for which the conditions hold and that have a point in a time range.
    pub(crate) fn texts(
        &self,
        conditions: &[Condition],
        from_ms: u64,
        to_ms: u64,
        values_of: Option<&str>,
        to: &mut BTreeSet<Arc<str>>,
    ) {
        for slot in self.index.select(conditions, || self.slots()) {
            let series = self.series[slot as usize].as_ref().expect("the index knows living series");
            if series.head.oldest_ms().is_none_or(|oldest| oldest > to_ms)
                || series.head.newest_ms().is_none_or(|newest| newest < from_ms)
            {
                continue;
            }
            for pair in &series.labels {
                let (name, value) = self.index.label(*pair);
                match values_of {
                    None => to.insert(name.clone()),
                    Some(label) if label == &**name => to.insert(value.clone()),
                    Some(_) => continue,
                };
            }
        }
    }

    /// Removes series, given in order.
    pub(crate) fn remove(&mut self, slots: &[Slot]) {
        let mut pairs = Vec::new();
        for slot in slots {
            let Some(series) = self.series[*slot as usize].take() else { continue };
            series.source.series.fetch_sub(1, Relaxed);
            self.keys.remove(&series.key);
            pairs.extend_from_slice(&series.labels);
            self.free.push(*slot);
        }
        self.index.remove(slots, pairs.into_iter());
        if self.keys.capacity() > 4 * self.keys.len().max(1_024) {
            self.keys.shrink_to(self.keys.len() * 2);
        }
        self.shrink_slots();
    }

    /// Gives back places at the end that are free.
    fn shrink_slots(&mut self) {
        let used = self.series.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if self.series.len() > 2 * used.max(1_024) {
            self.series.truncate(used);
            self.series.shrink_to_fit();
            self.free.retain(|slot| (*slot as usize) < used);
            self.free.shrink_to_fit();
        }
    }

    /// Counts the bytes of all series anew.
    pub(crate) fn count_bytes(&mut self) -> usize {
        let of = |series: &Series| series.labels.len() * size_of::<PairId>() + series.head.bytes();
        let series: usize = self.series.iter().flatten().map(of).sum();
        let keys = self.keys.capacity() * (size_of::<(Key, Slot)>() + 1);
        self.series_bytes = series + keys + self.series.capacity() * size_of::<Option<Series>>() + self.index.bytes();
        self.series_bytes
    }
}
