//! Local thresholds that agents and proxies saw crossed, counted; what they mean together is for `detect`.

use api::fleet::{Trip, TripKind};
use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;
use std::collections::BTreeMap;

/// Hosts and proxies whose trips are counted.
const TELLERS_MAX: usize = 20_000;
/// Trips in one sample; the rest is cut off.
const TRIPS_MAX: usize = 1_000;

const TRIPS: Description = Description {
    name: "springtide_trips_total",
    kind: Kind::Counter,
    unit: "trips",
    help: "Local thresholds crossed, as hosts' agents and proxies told them at once, by kind.",
};

/// Who told it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The agent of this host.
    Host(String),
    /// This proxy.
    Proxy(String),
}

/// All counts.
#[derive(Debug, Default)]
pub struct Trips {
    counts: BTreeMap<Teller, BTreeMap<&'static str, u64>>,
}

/// As a label's value.
pub fn kind_of(trip: &Trip) -> Option<&'static str> {
    Some(match trip.kind() {
        TripKind::TripUnspecified => return None,
        TripKind::TripOomKill => "oom-kill",
        TripKind::TripThrottled => "throttled",
        TripKind::TripInstanceExit => "instance-exit",
        TripKind::TripDiskFull => "disk-full",
        TripKind::TripErrors => "errors",
    })
}

impl Trips {
    /// Tells the store what is written.
    pub fn describe(store: &mut SeriesStore) {
        store.describe(TRIPS);
    }

    /// Counts the trips of a sample; kinds of a newer version are not known here.
    pub fn take(&mut self, teller: &Teller, trips: &[Trip]) {
        if trips.is_empty() || (!self.counts.contains_key(teller) && self.counts.len() >= TELLERS_MAX) {
            return;
        }
        let counts = self.counts.entry(teller.clone()).or_default();
        for kind in trips.iter().take(TRIPS_MAX).filter_map(kind_of) {
            *counts.entry(kind).or_default() += 1;
        }
    }

    /// Writes all counts.
    pub fn write(&self, store: &mut SeriesStore, now: UnixMs) {
        for (teller, counts) in &self.counts {
            let label = match teller {
                Teller::Host(name) => ("host", name.as_str()),
                Teller::Proxy(name) => ("proxy", name.as_str()),
            };
            for (kind, count) in counts {
                // The store counts what it refuses, and its exposition shows the counts.
                let _ = store.push(TRIPS.name, &[label, ("trip", kind)], now, *count as f64);
            }
        }
    }
}
