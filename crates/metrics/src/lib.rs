//! The hot series store, golden signals, and Prometheus exposition.
//!
//! No I/O, no clock and no thread: samples and `now` come in, numbers go out; one task of the server owns all of it.
//! Absent on purpose: long-term storage (remote write to a time series database is for that) and percentiles of
//! percentiles (histograms are merged, quantiles are taken last).

mod exposition;
pub mod golden;
pub mod series;
pub mod store;

pub use golden::Golden;
pub use series::{Description, Kind, Limits, RowId, Selector, SeriesPoints, SeriesStore};
pub use store::{Matcher, Op, Refused, Store, TooMuch};
