//! The server's own process, from `/proc/self`, beside what it knows of its work.

use super::Own;
use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;

const CPU: &str = "springtide_server_cpu_seconds_total";
const RESIDENT: &str = "springtide_server_resident_memory_bytes";
const REVISION: &str = "springtide_server_store_revision";
const AGENTS: &str = "springtide_server_agents";
const OPERATIONS: &str = "springtide_server_open_operations";
const COMMITS: &str = "springtide_server_commits_total";
const CONFLICTS: &str = "springtide_server_conflicts_total";

const DESCRIPTIONS: [Description; 7] = [
    describe(CPU, Kind::Counter, "seconds", "CPU used by the server."),
    describe(RESIDENT, Kind::Gauge, "bytes", "Memory of the server that is resident."),
    describe(REVISION, Kind::Gauge, "", "Revision of the store."),
    describe(AGENTS, Kind::Gauge, "agents", "Agents connected."),
    describe(OPERATIONS, Kind::Gauge, "operations", "Operations that have not ended."),
    describe(COMMITS, Kind::Counter, "commits", "Commits made since the start."),
    describe(CONFLICTS, Kind::Counter, "conflicts", "Commits that did not happen, because a guard failed."),
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
    pub fn write(&self, series: &mut SeriesStore, now: UnixMs, own: Own) {
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
        for (name, value) in values {
            // The store counts what it refuses, and shows the count.
            let _ = series.push(name, &[], now, value);
        }
    }
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1_024.0
}
