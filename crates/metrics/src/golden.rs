//! Golden signals: what proxies and agents count, turned into rates, quantiles and cumulative traffic.
//!
//! Cardinality, by design (docs/metrics.md has the sums). Kept for each instance: traffic, one window and one slice (about 40
//! series, one of them a histogram). For each service: the same without a slice, and a second histogram. For each pair
//! caller → service: two windows (16 series), never caller → instance. For each host: about 25 series, and 5 or 8 for each disk and
//! interface. Proxies are summed away: a proxy is no label, its edges are kept only to tell how far each counter has come.
//! So series grow with instances + services + pairs, not with proxies × instances; the limits below hold per server,
//! which at fleet size owns a share of the services.
//!
//! A counter that went back is a restarted proxy or slice: it counts from zero again; so is one whose latency buckets
//! show that all of it is new. The counters of an edge met for
//! the first time may be old (the server restarted, not the proxy); they are taken only as far as the sample's own
//! latency buckets, which are what came since the proxy's last sample, vouch for them.

mod feed;
mod machine;
mod rest;
#[cfg(test)]
mod tests;
mod top;
mod traffic;
mod window;

pub use rest::{Device, HostRest, SliceRest};
pub use top::{Pair, Row, Top};
pub use traffic::Traffic;

use crate::series::SeriesStore;
use machine::Machine;
use model::{LatencyHistogram, UnixMs};
use std::collections::BTreeMap;
use traffic::Flows;

/// Seconds that rates and quantiles look back.
pub const WINDOW_S: u64 = 5;
/// A proxy silent for longer gives no rates for the time of its silence, and its requests in flight count no more.
pub const PROXY_SILENT_MS_MAX: u64 = 5_000;
/// A proxy, slice or host not heard from for this long is forgotten.
pub const SILENT_MS_MAX: u64 = 60_000;
/// An instance, service or pair without traffic and without a slice for this long is forgotten.
pub const IDLE_MS_MAX: u64 = 900_000;
/// Instances known at the same time; beyond, new ones are not taken, and counted.
pub const INSTANCES_MAX: usize = 20_000;
/// Edges known at the same time, over all proxies; beyond, new ones are not taken, and counted.
pub const EDGES_MAX: usize = 200_000;
/// Readers of stress readings at the same time; beyond, the one that read longest ago begins anew.
pub const TAPS_MAX: usize = 64;

/// Counters of one caller → service → instance edge of one proxy (`springtide.v1.EdgeSample`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeSample {
    /// Service that calls, or `outside`.
    pub caller: String,
    /// Service called.
    pub service: String,
    /// Instance that answered; empty: the proxy itself.
    pub instance: String,
    /// Answered, one way or another (counter).
    pub requests: u64,
    /// Failed (counter).
    pub errors: u64,
    /// Fast rejections, also in errors (counter).
    pub rejects: u64,
    /// In flight now.
    pub in_flight: u32,
    /// Sum of latencies (counter).
    pub latency_us_sum: u64,
    /// Latency buckets that moved since the proxy's last sample: index and by how much.
    pub buckets: Vec<(u32, u64)>,
    /// Sent to the instance (counter).
    pub started: u64,
    /// Of those, attempts after the first (counter).
    pub retries: u64,
    /// Sum of the times that requests waited in the proxy (counter).
    pub queue_us_sum: u64,
    /// Sum of the times from then until the head of the answer (counter).
    pub back_us_sum: u64,
    /// Buckets of that time that moved since the proxy's last sample: index and by how much.
    pub back_buckets: Vec<(u32, u64)>,
}

/// Counters and gauges of one slice (`springtide.v1.SliceSample`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceSample {
    /// Its instance.
    pub instance: String,
    /// Service of the instance.
    pub service: String,
    /// CPU used (counter).
    pub cpu_usage_us: u64,
    /// Time throttled (counter).
    pub throttled_us: u64,
    /// Periods throttled (counter).
    pub throttled_periods: u64,
    /// Periods (counter).
    pub periods: u64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Kills for want of memory (counter).
    pub oom_kills: u64,
    /// Time in which some task waited for CPU (counter).
    pub cpu_pressure_us: Option<u64>,
    /// Time in which some task waited for memory (counter).
    pub memory_pressure_us: Option<u64>,
    /// Time of reading, by the agent's clock.
    pub time_us: u64,
    /// Time in which all tasks waited for CPU (counter).
    pub cpu_pressure_full_us: Option<u64>,
    /// Time in which all tasks waited for memory (counter).
    pub memory_pressure_full_us: Option<u64>,
    /// What comes every few seconds only.
    pub rest: Option<SliceRest>,
}

/// Counters and gauges of one host (`springtide.v1.HostSample`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostSample {
    /// CPU busy, all cores (counter).
    pub cpu_busy_us: u64,
    /// CPU stolen by the hypervisor (counter).
    pub cpu_steal_us: u64,
    /// Cores.
    pub cores: u32,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory.
    pub memory_total_bytes: u64,
    /// Time in which some task waited for CPU (counter).
    pub cpu_pressure_us: Option<u64>,
    /// Time in which some task waited for memory (counter).
    pub memory_pressure_us: Option<u64>,
    /// Time in which some task waited for disks (counter).
    pub io_pressure_us: Option<u64>,
    /// Time in which all tasks waited for CPU (counter).
    pub cpu_pressure_full_us: Option<u64>,
    /// Time in which all tasks waited for memory (counter).
    pub memory_pressure_full_us: Option<u64>,
    /// Time in which all tasks waited for disks (counter).
    pub io_pressure_full_us: Option<u64>,
    /// What comes every few seconds only.
    pub rest: Option<HostRest>,
}

/// A reading of an instance under stress; counters only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StressReading {
    /// Time of the reading of traffic, by the proxies' clocks: the mean over the proxies that carry the service.
    pub traffic_time_us: u64,
    /// Requests sent to the instance (counter).
    pub started: u64,
    /// Requests it answered (counter).
    pub completed: u64,
    /// Requests that failed there (counter).
    pub errors: u64,
    /// Latencies since this instance was read last.
    pub latency: LatencyHistogram,
    /// Requests in flight at the instance.
    pub in_flight: u32,
    /// Requests started at the whole service (counter).
    pub service_started: u64,
    /// Time of the reading of the slice; 0 when there is none yet.
    pub slice_time_us: u64,
    /// CPU used by the slice (counter).
    pub cpu_usage_us: u64,
    /// Time throttled (counter).
    pub throttled_us: u64,
}

/// Latencies as they stood when an instance under stress was read last.
#[derive(Debug)]
struct Tap {
    latency: LatencyHistogram,
    traffic_time_us: u64,
    read: u64,
}

/// All golden signals of a server.
#[derive(Debug, Default)]
pub struct Golden {
    flows: Flows,
    machine: Machine,
    taps: BTreeMap<String, Tap>,
    reads: u64,
}

impl Golden {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the metrics that [`Golden::tick`] writes known.
    pub fn describe(store: &mut SeriesStore) {
        feed::descriptions().for_each(|description| store.describe(*description));
    }

    /// Takes a proxy's sample: its clock at the reading, and the edges that moved.
    pub fn proxy(&mut self, proxy: &str, time_us: u64, edges: &[EdgeSample], now: UnixMs) {
        self.flows.proxy(proxy, time_us, edges, now);
    }

    /// Takes an agent's sample: its clock at the reading, its host, and the slices read.
    pub fn agent(
        &mut self,
        host: &str,
        time_ms: UnixMs,
        sample: Option<&HostSample>,
        slices: &[SliceSample],
        now: UnixMs,
    ) {
        self.machine.agent(host, time_ms, sample, slices, now);
    }

    /// Forgets who went silent, and writes all signals into the series; gives how many points the store refused. Call it
    /// each second.
    pub fn tick(&mut self, now: UnixMs, store: &mut SeriesStore) -> u64 {
        self.machine.forget(now);
        let machine = &self.machine;
        self.flows.forget(now, |instance| machine.slices.contains_key(instance));
        let flows = &self.flows;
        self.taps.retain(|instance, _| flows.instances.contains_key(instance));
        feed::feed(&self.flows, &mut self.machine, now, store)
    }

    /// The fleet over the last seconds.
    pub fn top(&self, now: UnixMs) -> Top {
        top::top(&self.flows, &self.machine, now)
    }

    /// Calls to and from a service over the last seconds.
    pub fn pairs_of(&self, service: &str, now: UnixMs) -> Vec<Pair> {
        top::pairs_of(&self.flows, service, now)
    }

    /// Traffic of an instance since it was first heard of; `None` when it never had any.
    pub fn traffic(&self, instance: &str) -> Option<&Traffic> {
        self.flows.instances.get(instance).map(|flow| &flow.traffic)
    }

    /// Traffic of all instances, by id.
    pub fn traffic_all(&self) -> impl Iterator<Item = (&str, &Traffic)> {
        self.flows.instances.iter().map(|(instance, flow)| (instance.as_str(), &flow.traffic))
    }

    /// Newest counters of an instance under stress; `None` before its first traffic. The first reading has no latencies.
    pub fn stress(&mut self, instance: &str, now: UnixMs) -> Option<StressReading> {
        let flow = self.flows.instances.get(instance)?;
        let known = self.taps.get(instance);
        let earlier = known.map_or(0, |tap| tap.traffic_time_us);
        let latency = known.map(|tap| flow.traffic.latency.since(&tap.latency)).unwrap_or_default();
        let slice = self.machine.slices.get(instance).map(|slice| &slice.newest);
        let service = self.flows.services.get(&flow.service);
        let reading = StressReading {
            traffic_time_us: self.flows.time_us(&flow.service, now).max(earlier),
            started: flow.traffic.started,
            completed: flow.traffic.requests,
            errors: flow.traffic.errors,
            latency,
            in_flight: self.flows.in_flight_at(instance, now),
            service_started: service.map_or(0, |service| service.traffic.started),
            slice_time_us: slice.map_or(0, |slice| slice.time_us),
            cpu_usage_us: slice.map_or(0, |slice| slice.cpu_usage_us),
            throttled_us: slice.map_or(0, |slice| slice.throttled_us),
        };
        self.reads += 1;
        let latency = flow.traffic.latency.clone();
        let tap = Tap { latency, traffic_time_us: reading.traffic_time_us, read: self.reads };
        self.taps.insert(instance.to_owned(), tap);
        if self.taps.len() > TAPS_MAX {
            let oldest = self.taps.iter().min_by_key(|(_, tap)| tap.read).map(|(instance, _)| instance.clone());
            oldest.map(|instance| self.taps.remove(&instance));
        }
        Some(reading)
    }

    /// Ends the readings of an instance; a later one begins anew.
    pub fn stress_end(&mut self, instance: &str) {
        self.taps.remove(instance);
    }

    /// Instances and edges not taken because there were too many.
    pub fn refused(&self) -> u64 {
        self.flows.refused + self.machine.refused
    }
}
