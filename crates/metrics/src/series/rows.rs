//! Label sets that have series, found once for all their metrics.
//!
//! An instance has some forty series under the same labels, written each second. The row of its labels is found once, a
//! series within it by its metric's number; what finds it in the shared store is kept beside its newest point. So no label is
//! compared, hashed or copied for a point of a series that is known.

use super::{Buckets, LABEL_BYTES_MAX, LABELS_MAX, Labels, label_name_is_good};
use crate::store::{Key, Refused};
use model::UnixMs;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Number of a metric, in the order of their descriptions.
pub(crate) type MetricId = u16;

/// A row; good until the next [`Rows::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId(u32);

/// Newest point of a series.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) metric: MetricId,
    pub(crate) time_ms: UnixMs,
    pub(crate) value: f64,
    /// What finds it in the shared store, once it is there.
    pub(crate) key: Option<Key>,
}

/// All series under the same labels.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) series: Vec<Newest>,
    pub(crate) histograms: Vec<(MetricId, Buckets)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    found: HashMap<Box<[u8]>, RowId>,
    rows: Vec<Option<Row>>,
    free: Vec<RowId>,
    texts: BTreeSet<Arc<str>>,
    identity: Vec<u8>,
}

/// Writes the bytes that tell label sets apart: UTF-8 has no byte 255.
fn identify<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, to: &mut Vec<u8>) {
    to.clear();
    for text in labels.flat_map(|(name, value)| [name, value]) {
        to.extend_from_slice(text.as_bytes());
        to.push(u8::MAX);
    }
}

/// The labels' texts.
pub(crate) fn borrowed(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (&**name, &**value))
}

impl Rows {
    /// The row of labels in any order, made when it is new; `full`: none may be.
    pub(crate) fn find(&mut self, labels: &[(&str, &str)], full: bool) -> Result<RowId, Refused> {
        let mut sorted;
        let mut labels = labels;
        if !labels.is_sorted() {
            sorted = labels.to_vec();
            sorted.sort_unstable();
            labels = &sorted;
        }
        identify(labels.iter().copied(), &mut self.identity);
        match self.found.get(&*self.identity) {
            Some(row) => Ok(*row),
            None if full => Err(Refused::TooManySeries),
            None => self.add(labels),
        }
    }

    fn add(&mut self, sorted: &[(&str, &str)]) -> Result<RowId, Refused> {
        let good = |(name, value): &(&str, &str)| label_name_is_good(name) && value.len() <= LABEL_BYTES_MAX;
        let twice = sorted.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if twice || sorted.len() > LABELS_MAX || !sorted.iter().all(good) {
            return Err(Refused::BadLabel);
        }
        let labels = sorted.iter().map(|(name, value)| (self.text(name), self.text(value))).collect();
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            RowId(self.rows.len() as u32 - 1)
        });
        self.rows[row.0 as usize] = Some(Row { labels, series: Vec::new(), histograms: Vec::new() });
        self.found.insert(self.identity.as_slice().into(), row);
        Ok(row)
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }

    pub(crate) fn row(&mut self, row: RowId) -> &mut Row {
        self.rows[row.0 as usize].as_mut().expect("a row is there until it is forgotten")
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.texts.is_empty() && self.rows.iter().all(Option::is_none)
    }

    /// All rows, by their labels.
    pub(crate) fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().flatten().collect();
        rows.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
        rows
    }

    /// Forgets series without a point since `oldest`, and rows without a series; gives how many series are left.
    pub(crate) fn forget(&mut self, oldest: UnixMs) -> usize {
        let mut left = 0;
        for (at, place) in self.rows.iter_mut().enumerate() {
            let Some(row) = place else { continue };
            row.series.retain(|newest| newest.time_ms >= oldest);
            row.histograms.retain(|(_, newest)| newest.time_ms >= oldest);
            let series = row.series.len() + row.histograms.len();
            left += series;
            if series == 0 {
                identify(borrowed(&row.labels), &mut self.identity);
                self.found.remove(&*self.identity);
                *place = None;
                self.free.push(RowId(at as u32));
            }
        }
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        left
    }
}
