//! The health report of an operation: one self-contained page that a person wants to read, kept as a record.
//!
//! Gathering happens in the control loop and copies little; drawing happens beside it. Scripts are absent on purpose:
//! the page must open from a disk, years later.

mod page;
mod plot;

pub use page::html;

use crate::control_loop::world::World;
use metrics::Selector;
use model::{Operation, ServiceName, UnixMs};
use plot::{Line, Plot};

/// Time shown before the operation began.
const BEFORE_MS: u64 = 30_000;
/// Longest time shown.
const SHOWN_MS_MAX: u64 = 900_000;
/// Points of one line.
const POINTS_MAX: u64 = 300;

/// What a page shows.
pub struct Page {
    operation: Operation,
    written_at: UnixMs,
    healthy: u32,
    wanted: u32,
    plots: Vec<Plot>,
}

/// Names of lines, and the metrics they draw.
type Metrics = &'static [(&'static str, &'static str)];

/// The plots: title, unit, factor, and the metrics drawn with their names.
const PLOTS: [(&str, &str, f64, Metrics); 4] = [
    ("Requests", "requests a second", 1.0, &[("requests", "springtide_service_requests_per_second")]),
    (
        "Latency",
        "ms",
        1_000.0,
        &[("p99", "springtide_service_latency_p99_seconds"), ("p50", "springtide_service_latency_p50_seconds")],
    ),
    (
        "Errors",
        "a second",
        1.0,
        &[
            ("errors", "springtide_service_errors_per_second"),
            ("fast rejects", "springtide_service_rejects_per_second"),
        ],
    ),
    ("CPU", "cores, all instances", 1.0, &[("used", "springtide_slice_cpu_cores")]),
];

/// Gathers what the page shows.
pub fn gather(world: &World, operation: &Operation, now: UnixMs) -> Page {
    let service = service_of(world, operation);
    let declared = service.as_ref().and_then(|name| world.snapshot.service(name));
    let from = operation.created_at.saturating_sub(BEFORE_MS).max(now.saturating_sub(SHOWN_MS_MAX));
    let marks = operation.verdicts.iter().map(|at| (at.at, format!("{}%", f64::from(at.gray_permille) / 10.0)));
    let marks: Vec<_> = marks.collect();
    let plots = service.iter().flat_map(|service| {
        PLOTS.iter().map(|(title, unit, factor, metrics)| Plot {
            title: (*title).to_owned(),
            unit: (*unit).to_owned(),
            from,
            to: now,
            begun: operation.created_at,
            lines: metrics
                .iter()
                .map(|(name, metric)| line(world, service, name, metric, *factor, from, now))
                .collect(),
            marks: marks.clone(),
        })
    });
    Page {
        operation: operation.clone(),
        written_at: now,
        healthy: service.as_ref().map_or(0, |service| world.healthy(service)),
        wanted: declared.map_or(0, |service| world.snapshot.instances_wanted(service).values().sum()),
        plots: plots.collect(),
    }
}

/// The service concerned: the operation's own, or the first that a drain moves.
fn service_of(world: &World, operation: &Operation) -> Option<ServiceName> {
    let own = operation.spec.service().cloned();
    own.or_else(|| {
        let instances = operation.adds.iter().chain(&operation.removes).map(|at| at.instance.as_str());
        let mut names = instances.filter_map(|id| ServiceName::new(id.rsplit_once('-')?.0).ok());
        names.find(|name| world.snapshot.service(name).is_some())
    })
}

/// One line: series of several instances are summed at each step.
fn line(world: &World, service: &ServiceName, name: &str, metric: &str, factor: f64, from: UnixMs, to: UnixMs) -> Line {
    let step_ms = (to.saturating_sub(from) / POINTS_MAX).max(1_000);
    let selector = Selector::of(metric).with("service", service.as_str());
    let mut sums = std::collections::BTreeMap::new();
    for series in world.feed.range(&selector, from, to, step_ms) {
        for (at, value) in series.points {
            *sums.entry(at / step_ms * step_ms).or_insert(0.0) += value * factor;
        }
    }
    Line { name: name.to_owned(), points: sums.into_iter().collect() }
}

#[cfg(test)]
mod tests;
