//! Reading: series by conditions on their labels, over a time range, bounded.

use super::chunk::Chunk;
use super::head::Piece;
use super::labels::Labels;
use super::matcher::{Condition, Matcher};
use super::pack::{self, Point};
use super::{NAME, SHARDS, Store};
use crate::SeriesPoints;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Series in one answer at most.
pub const SERIES_SELECT_MAX: usize = 200_000;
/// Points in one answer at most, before they are cut to the range.
pub const POINTS_SELECT_MAX: usize = 50_000_000;
/// Texts in one answer of names or values at most.
pub const TEXTS_MAX: usize = 100_000;

/// Why a read was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many series.
    #[error("more than {SERIES_SELECT_MAX} series match: name more labels")]
    Series,
    /// Too many points.
    #[error("more than {POINTS_SELECT_MAX} points lie in the range: name more labels, or a shorter time")]
    Points,
    /// Too many names or values.
    #[error("there are more than {TEXTS_MAX} of them: name labels that select fewer series")]
    Texts,
    /// A regular expression that does not compile, or is too large.
    #[error("regular expression {pattern:?} of label {label}: {why}")]
    Pattern {
        /// The label.
        label: String,
        /// The expression.
        pattern: String,
        /// What is wrong.
        why: String,
    },
}

/// Labels and points of one series, gathered from where they lie.
pub(crate) type Gathered = BTreeMap<Labels, Vec<Vec<Point>>>;

pub(crate) fn compile(matchers: &[Matcher]) -> Result<Vec<Condition>, TooMuch> {
    let compile = |matcher: &Matcher| {
        Condition::compile(matcher).map_err(|error| TooMuch::Pattern {
            label: matcher.label.clone(),
            pattern: matcher.value.clone(),
            why: error.to_string(),
        })
    };
    matchers.iter().map(compile).collect()
}

impl Store {
    /// Series for which every matcher holds, with their points from `from_ms` to `to_ms`, both included, in order of labels
    /// and of time. Stale markers and other values that are no numbers are among them. A series without a point in the
    /// range is not.
    pub fn select(&self, matchers: &[Matcher], from_ms: u64, to_ms: u64) -> Result<Vec<SeriesPoints>, TooMuch> {
        let conditions = compile(matchers)?;
        let mut gathered = Gathered::new();
        let mut points = 0;
        for at in 0..SHARDS {
            // The lock is held while parts are taken out; they are read after.
            let found = self.lock(at).select(&conditions, from_ms, to_ms, &mut points, POINTS_SELECT_MAX);
            if points > POINTS_SELECT_MAX {
                return Err(TooMuch::Points);
            }
            if gathered.len() + found.len() > SERIES_SELECT_MAX {
                return Err(TooMuch::Series);
            }
            for series in found {
                let run = read_pieces(&series.pieces, from_ms, to_ms);
                if !run.is_empty() {
                    gathered.insert(series.labels, vec![run]);
                }
            }
        }
        // After memory: what leaves it meanwhile is met here, perhaps a second time, which merging sorts out.
        if let Some(disk) = &self.disk {
            disk.select(&conditions, from_ms, to_ms, &mut points, &mut gathered)?;
        }
        Ok(gathered.into_iter().map(|(labels, runs)| series_points(&labels, runs)).collect())
    }

    /// Names of the labels of series that match and have a point in the range, in order.
    pub fn label_names(&self, matchers: &[Matcher], from_ms: u64, to_ms: u64) -> Result<Vec<String>, TooMuch> {
        self.texts(matchers, from_ms, to_ms, None)
    }

    /// Values of a label among series that match and have a point in the range, in order.
    pub fn label_values(
        &self,
        label: &str,
        matchers: &[Matcher],
        from_ms: u64,
        to_ms: u64,
    ) -> Result<Vec<String>, TooMuch> {
        self.texts(matchers, from_ms, to_ms, Some(label))
    }

    fn texts(
        &self,
        matchers: &[Matcher],
        from_ms: u64,
        to_ms: u64,
        values_of: Option<&str>,
    ) -> Result<Vec<String>, TooMuch> {
        let conditions = compile(matchers)?;
        let mut texts: BTreeSet<Arc<str>> = BTreeSet::new();
        for at in 0..SHARDS {
            self.lock(at).texts(&conditions, from_ms, to_ms, values_of, &mut texts);
            if texts.len() > TEXTS_MAX {
                return Err(TooMuch::Texts);
            }
        }
        if let Some(disk) = &self.disk {
            disk.texts(&conditions, from_ms, to_ms, values_of, &mut texts)?;
        }
        Ok(texts.iter().map(|text| text.to_string()).collect())
    }
}

fn read_pieces(pieces: &[Piece], from_ms: u64, to_ms: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for piece in pieces {
        // What lies in memory was written by this process; it cannot be damaged.
        let read = match piece {
            Piece::Chunk(chunk) => Chunk::read(chunk, &mut points),
            Piece::Packs(packs) => pack::read_all(packs, &mut points),
            Piece::Points(near) => {
                points.extend_from_slice(near);
                Ok(())
            }
        };
        read.expect("packs and chunks in memory are whole");
    }
    points.retain(|(time, _)| (from_ms..=to_ms).contains(time));
    points
}

/// Puts runs of points into one order; of points at the same time the first run's is taken.
pub(crate) fn merged(mut runs: Vec<Vec<Point>>) -> Vec<Point> {
    runs.retain(|run| !run.is_empty());
    let mut points = match runs.len() {
        0 => return Vec::new(),
        1 => runs.swap_remove(0),
        _ => runs.concat(),
    };
    if points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        points.sort_by_key(|(time, _)| *time);
        points.dedup_by_key(|(time, _)| *time);
    }
    points
}

pub(crate) fn series_points(labels: &[(Arc<str>, Arc<str>)], runs: Vec<Vec<Point>>) -> SeriesPoints {
    let mut name = String::new();
    let mut others = BTreeMap::new();
    for (label, value) in labels {
        if &**label == NAME {
            name = value.to_string();
        } else {
            others.insert(label.to_string(), value.to_string());
        }
    }
    SeriesPoints { name, labels: others, points: merged(runs) }
}
