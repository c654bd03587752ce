//! What the senders say of themselves, as series of the server.

use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SENT: &str = "springtide_remote_write_sent_samples_total";
const DROPPED: &str = "springtide_remote_write_dropped_samples_total";
const FAILED: &str = "springtide_remote_write_failed_requests_total";
const LAG: &str = "springtide_remote_write_lag_seconds";

const DESCRIPTIONS: [Description; 4] = [
    about(SENT, Kind::Counter, "samples", "Samples that a receiver of remote write acknowledged."),
    about(
        DROPPED,
        Kind::Counter,
        "samples",
        "Samples that a receiver refused for good, or that were gone before it took them.",
    ),
    about(FAILED, Kind::Counter, "requests", "Requests that failed and are tried again."),
    about(LAG, Kind::Gauge, "seconds", "Age of the oldest sample that a receiver has not acknowledged."),
];

const fn about(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Description {
    Description { name, kind, unit, help }
}

/// Counters of one receiver.
#[derive(Debug, Default)]
pub struct Counts {
    /// The receiver, without credentials.
    pub receiver: String,
    /// Samples acknowledged.
    pub sent: AtomicU64,
    /// Samples dropped.
    pub dropped: AtomicU64,
    /// Requests that failed and are tried again.
    pub failed: AtomicU64,
    /// Everything up to this time is acknowledged.
    pub acknowledged_ms: AtomicU64,
}

/// Makes the metrics known.
pub fn describe(series: &mut SeriesStore) {
    DESCRIPTIONS.iter().for_each(|description| series.describe(*description));
}

/// Writes all receivers' counters.
pub fn write<'a>(all: impl Iterator<Item = &'a Counts>, series: &mut SeriesStore, now: UnixMs) {
    for counts in all {
        let lag = now.saturating_sub(counts.acknowledged_ms.load(Relaxed)) as f64 / 1_000.0;
        let values = [
            (SENT, counts.sent.load(Relaxed) as f64),
            (DROPPED, counts.dropped.load(Relaxed) as f64),
            (FAILED, counts.failed.load(Relaxed) as f64),
            (LAG, lag),
        ];
        for (name, value) in values {
            // The store counts what it refuses, and shows the count.
            let _ = series.push(name, &[("receiver", &counts.receiver)], now, value);
        }
    }
}
