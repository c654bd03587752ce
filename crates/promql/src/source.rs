//! Where series come from. The evaluator knows nothing else of storage.

use crate::labels::{Labels, Matcher};

/// Time in Unix milliseconds, and value.
pub type Sample = (i64, f64);

/// The bits of a value that says: this series ended here. As Prometheus writes it.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the mark of an end.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// Takes series as they are found; what it refuses ends the selection and comes back from it.
pub type Visit<'v> = &'v mut dyn FnMut(Labels, &[Sample]) -> Result<(), Refused>;

/// Why a selection ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The visitor refused: the evaluator knows why.
    Visitor,
    /// The source itself failed.
    Source(String),
}

/// Anything that has series.
pub trait Source {
    /// Shows each series that passes all matchers, with its samples from `from_ms` to `to_ms`, both included, in order of
    /// time, at most one at one time. Each series is shown once; those without a sample may be left out.
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64, visit: Visit<'_>) -> Result<(), Refused>;
}
