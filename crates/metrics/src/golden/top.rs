//! The fleet over the last seconds, as rows for `top`.

use super::PROXY_SILENT_MS_MAX;
use super::machine::{Machine, Use};
use super::traffic::{Flow, Flows};
use model::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

/// Age beyond which what an agent said is not shown as current: agents speak at least every 6 s.
const SHOWN_MS_MAX: u64 = 15_000;

/// One row. Absent numbers mean: not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Name.
    pub name: String,
    /// Service (instances); empty otherwise.
    pub group: String,
    /// Requests a second.
    pub qps: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f64>,
    /// Errors a second.
    pub errors_per_second: Option<f64>,
    /// Fast rejections a second.
    pub rejects_per_second: Option<f64>,
    /// Requests in flight (instances and services).
    pub in_flight: Option<u32>,
    /// CPU used, in cores; of a service: the sum.
    pub cpu_cores: Option<f64>,
    /// Cores there are (hosts).
    pub cpu_cores_max: Option<f64>,
    /// Memory used; of a service: the sum.
    pub memory_bytes: Option<u64>,
    /// Memory there is (hosts).
    pub memory_bytes_max: Option<u64>,
    /// Share of time throttled, 0 to 1; of a service: its worst instance's.
    pub throttled: Option<f64>,
    /// Share of time some task waited for CPU, 0 to 1; of a service: its worst instance's.
    pub cpu_pressure: Option<f64>,
    /// Share of time some task waited for memory, 0 to 1; of a service: its worst instance's.
    pub memory_pressure: Option<f64>,
}

/// Rows by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Top {
    /// Services with traffic or slices.
    pub services: Vec<Row>,
    /// Instances with traffic or slices.
    pub instances: Vec<Row>,
    /// Hosts.
    pub hosts: Vec<Row>,
}

/// Calls of one service to another over the last seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pair {
    /// Service that calls, or `outside`.
    pub caller: String,
    /// Service called.
    pub service: String,
    /// Requests a second.
    pub requests_per_second: Option<f64>,
    /// Errors a second, fast rejections too.
    pub errors_per_second: Option<f64>,
    /// Fast rejections a second.
    pub rejects_per_second: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f64>,
}

/// The pairs that a service is one of.
pub(crate) fn pairs_of(flows: &Flows, name: &str, now: UnixMs) -> Vec<Pair> {
    let its = flows.pairs.iter().filter(|((caller, service), _)| caller == name || service == name);
    its.map(|((caller, service), flow)| {
        let mut row = Row::default();
        row.set_flow(flow, now);
        Pair {
            caller: caller.clone(),
            service: service.clone(),
            requests_per_second: row.qps,
            errors_per_second: row.errors_per_second,
            rejects_per_second: row.rejects_per_second,
            p50_ms: row.p50_ms,
            p99_ms: row.p99_ms,
        }
    })
    .collect()
}

impl Row {
    fn set_flow(&mut self, flow: &Flow, now: UnixMs) {
        let rates = flow.window.rates(now);
        let latency = flow.window.latency(now);
        self.qps = Some(rates.requests);
        self.errors_per_second = Some(rates.errors);
        self.rejects_per_second = Some(rates.rejects);
        self.p50_ms = latency.quantile_us(0.5).map(|us| us / 1_000.0);
        self.p99_ms = latency.quantile_us(0.99).map(|us| us / 1_000.0);
    }

    fn set_use(&mut self, rates: Use) {
        self.cpu_cores = rates.cpu_cores;
        self.throttled = rates.throttled;
        self.cpu_pressure = rates.cpu_pressure;
        self.memory_pressure = rates.memory_pressure;
    }

    /// Adds an instance's row to its service's.
    fn add(&mut self, instance: &Self) {
        let worse = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        self.in_flight = sum(self.in_flight, instance.in_flight);
        self.cpu_cores = sum(self.cpu_cores, instance.cpu_cores);
        self.memory_bytes = sum(self.memory_bytes, instance.memory_bytes);
        self.throttled = worse(self.throttled, instance.throttled);
        self.cpu_pressure = worse(self.cpu_pressure, instance.cpu_pressure);
        self.memory_pressure = worse(self.memory_pressure, instance.memory_pressure);
    }
}

fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

pub(crate) fn top(flows: &Flows, machine: &Machine, now: UnixMs) -> Top {
    let instances = instances(flows, machine, now);
    let mut services: BTreeMap<&str, Row> = BTreeMap::new();
    for (name, flow) in &flows.services {
        services.entry(name).or_default().set_flow(flow, now);
    }
    for row in &instances {
        services.entry(&row.group).or_default().add(row);
    }
    let services = services.into_iter().map(|(name, row)| Row { name: name.to_owned(), ..row }).collect();
    Top { services, instances, hosts: hosts(machine, now) }
}

fn instances(flows: &Flows, machine: &Machine, now: UnixMs) -> Vec<Row> {
    let slices = machine.slices.iter().filter(|(_, slice)| slice.heard + SHOWN_MS_MAX >= now);
    let slices: BTreeMap<&str, _> = slices.map(|(instance, slice)| (instance.as_str(), slice)).collect();
    // An instance without a slice is shown as long as traffic of it may be under way.
    let recent = flows.instances.iter().filter(|(_, flow)| flow.heard + 2 * PROXY_SILENT_MS_MAX >= now);
    let names: BTreeSet<&str> = slices.keys().copied().chain(recent.map(|(instance, _)| instance.as_str())).collect();
    let in_flight = flows.in_flight(now);
    let row = |name: &str| {
        let mut row = Row { name: name.to_owned(), ..Row::default() };
        if let Some(slice) = slices.get(name) {
            row.group.clone_from(&slice.newest.service);
            row.memory_bytes = Some(slice.newest.memory_bytes);
            row.set_use(slice.readings.rates());
        }
        if let Some(flow) = flows.instances.get(name) {
            row.group.clone_from(&flow.service);
            row.in_flight = Some(in_flight.get(name).copied().unwrap_or(0));
            row.set_flow(flow, now);
        }
        row
    };
    names.into_iter().map(row).collect()
}

fn hosts(machine: &Machine, now: UnixMs) -> Vec<Row> {
    let shown = machine.hosts.iter().filter(|(_, host)| host.heard + SHOWN_MS_MAX >= now);
    let row = |(name, host): (&String, &super::machine::Host)| {
        let mut row = Row { name: name.clone(), ..Row::default() };
        row.set_use(host.readings.rates());
        row.throttled = None;
        row.cpu_cores_max = Some(f64::from(host.newest.cores));
        row.memory_bytes = Some(host.newest.memory_used_bytes);
        row.memory_bytes_max = Some(host.newest.memory_total_bytes);
        row
    };
    shown.map(row).collect()
}
