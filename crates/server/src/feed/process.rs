//! The server's own process, from `/proc/self`, beside what it knows of its work.

use super::Own;
use crate::incidents::Health;
use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;

const CPU: &str = "springtide_server_cpu_seconds_total";
const RESIDENT: &str = "springtide_server_resident_memory_bytes";
const REVISION: &str = "springtide_server_store_revision";
const AGENTS: &str = "springtide_server_agents";
const OPERATIONS: &str = "springtide_server_open_operations";
const COMMITS: &str = "springtide_server_commits_total";
const CONFLICTS: &str = "springtide_server_conflicts_total";

const FRAMES: &str = "springtide_detect_frames_total";
const REFUSED: &str = "springtide_detect_frames_refused_total";
const BLIND: &str = "springtide_detect_frames_blind_total";
const SERIES: &str = "springtide_detect_series";
const DROPPED: &str = "springtide_detect_messages_dropped_total";
const SAMPLES_DROPPED: &str = "springtide_detect_samples_dropped_total";
const SKEWED: &str = "springtide_detect_samples_skewed_total";
const BEYOND: &str = "springtide_detect_edges_refused_total";
const LATE: &str = "springtide_detect_frame_late_seconds";
const DETECT_CPU: &str = "springtide_detect_cpu_seconds_total";
const CRASHES: &str = "springtide_detect_crashes_total";
const OPEN: &str = "springtide_incidents_open";

const DESCRIPTIONS: [Description; 19] = [
    describe(CPU, Kind::Counter, "seconds", "CPU used by the server."),
    describe(RESIDENT, Kind::Gauge, "bytes", "Memory of the server that is resident."),
    describe(REVISION, Kind::Gauge, "", "Revision of the store."),
    describe(AGENTS, Kind::Gauge, "agents", "Agents connected."),
    describe(OPERATIONS, Kind::Gauge, "operations", "Operations that have not ended."),
    describe(COMMITS, Kind::Counter, "commits", "Commits made since the start."),
    describe(CONFLICTS, Kind::Counter, "conflicts", "Commits that did not happen, because a guard failed."),
    describe(FRAMES, Kind::Counter, "frames", "Seconds that detection has looked at."),
    describe(REFUSED, Kind::Counter, "", "Seconds that came late, twice, or of another shape."),
    describe(BLIND, Kind::Counter, "", "Seconds in which nearly nobody was heard, and nothing was concluded."),
    describe(SERIES, Kind::Gauge, "series", "Series that detection watches."),
    describe(DROPPED, Kind::Counter, "", "Samples dropped since detection was behind, or did not run."),
    describe(SAMPLES_DROPPED, Kind::Counter, "", "Values that were none, negative, late or repeated."),
    describe(SKEWED, Kind::Counter, "", "Values whose time was that of arrival, since a clock was off."),
    describe(BEYOND, Kind::Counter, "", "Edges beyond the bound, which are not watched."),
    describe(LATE, Kind::Gauge, "seconds", "Time from a second's end to its being looked at."),
    describe(DETECT_CPU, Kind::Counter, "seconds", "CPU used by the thread of detection."),
    describe(CRASHES, Kind::Counter, "", "Times that detection crashed, or could not be started anew."),
    describe(OPEN, Kind::Gauge, "", "Incidents that go on."),
];

const fn describe(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Description {
    Description { name, kind, unit, help }
}

/// Reads the server's own process.
#[derive(Debug, Default)]
pub struct Process {}

impl Process {
    /// Makes the metrics known.
    pub fn describe(series: &mut SeriesStore) {
        DESCRIPTIONS.iter().for_each(|description| series.describe(*description));
    }

    /// Writes one reading.
    pub fn write(&self, series: &mut SeriesStore, now: UnixMs, own: &Own) {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        let values = [
            (CPU, cpu),
            (RESIDENT, resident_bytes()),
            (REVISION, own.revision as f64),
            (AGENTS, own.agents as f64),
            (OPERATIONS, own.operations_open as f64),
            (COMMITS, own.commits as f64),
            (CONFLICTS, own.conflicts as f64),
        ];
        let values = values.into_iter().chain(detection(&own.detection));
        for (name, value) in values {
            // The store counts what it refuses, and shows the count.
            let _ = series.push(name, &[], now, value);
        }
    }
}

fn detection(of: &Health) -> [(&'static str, f64); 12] {
    let dropped = of.samples;
    [
        (FRAMES, of.detector.frames as f64),
        (REFUSED, of.detector.refused as f64),
        (BLIND, of.detector.blind as f64),
        (SERIES, of.detector.series as f64),
        (DROPPED, of.dropped as f64),
        (SAMPLES_DROPPED, (dropped.not_a_number + dropped.not_newer + dropped.negative) as f64),
        (SKEWED, dropped.skewed as f64),
        (BEYOND, of.refused as f64),
        (LATE, of.late_ms as f64 / 1e3),
        (DETECT_CPU, of.cpu_ms as f64 / 1e3),
        (CRASHES, of.crashes as f64),
        (OPEN, of.open as f64),
    ]
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1_024.0
}
