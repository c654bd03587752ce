//! Why a point was not taken, and how often that was.

use super::labels::BadLabels;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a point was not taken. Each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// The metric was not described, or as something else.
    #[error("the metric is not described as this kind: describe it first")]
    Undescribed,
    /// A label that cannot be exposed.
    #[error("a label is refused: names are a-z, 0-9 and _, not le; values have at most 256 bytes; at most 8 labels")]
    BadLabel,
    /// Labels against Prometheus' rules.
    #[error(transparent)]
    BadLabels(#[from] BadLabels),
    /// No room for one more series.
    #[error("the store has as many series as it may: those it has live on")]
    TooManySeries,
    /// No room for one more series of this source.
    #[error("the source has as many series as one source may: those it has live on")]
    SourceFull,
    /// Memory is short: no new series, those that exist live on.
    #[error("the store's memory is full: no new series until older points are on disk")]
    Memory,
    /// It is older than the points among which a late one still finds its place.
    #[error("the point is older than the newest points of its series")]
    OutOfOrder,
    /// There is another value at this time.
    #[error("the series has another value at this time")]
    Duplicate,
    /// Its time lies further back than points are taken.
    #[error("the time lies too far back: the sender's clock is late, or the point waited too long")]
    TooOld,
    /// Its time lies ahead.
    #[error("the time lies ahead: the sender's clock is early")]
    TooNew,
    /// It is not a number.
    #[error("the value is not a finite number")]
    NotFinite,
}

impl Refused {
    /// The reason as a label's value.
    pub fn reason(self) -> &'static str {
        REASONS[self.at()]
    }

    fn at(self) -> usize {
        match self {
            Self::Undescribed => 0,
            Self::BadLabel | Self::BadLabels(_) => 1,
            Self::TooManySeries => 2,
            Self::OutOfOrder => 3,
            Self::NotFinite => 4,
            Self::SourceFull => 5,
            Self::Memory => 6,
            Self::Duplicate => 7,
            Self::TooOld => 8,
            Self::TooNew => 9,
        }
    }
}

/// All reasons.
pub const REASONS: [&str; 10] = [
    "undescribed",
    "bad_label",
    "too_many_series",
    "out_of_order",
    "not_finite",
    "source_full",
    "memory",
    "duplicate",
    "too_old",
    "too_new",
];

/// Counts of refusals, by reason.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; REASONS.len()]);

impl Counts {
    pub(crate) fn add(&self, why: Refused, count: u64) {
        self.0[why.at()].fetch_add(count, Relaxed);
    }

    pub(crate) fn all(&self) -> [(&'static str, u64); REASONS.len()] {
        let mut all = REASONS.map(|reason| (reason, 0));
        for (at, count) in all.iter_mut().zip(&self.0) {
            at.1 = count.load(Relaxed);
        }
        all
    }
}
