//! Golden signals written into the series, under these names and labels.

use super::machine::Machine;
use super::rest::{DISK, Device, NIC, SLICE, SPACE};
use super::traffic::{Flow, Flows};
use crate::series::{Description, Kind, Refused, RowId, SeriesStore};
use model::UnixMs;

macro_rules! descriptions {
    ($($kind:ident $name:ident in $unit:literal: $help:literal;)*) => {
        &[$(Description { name: stringify!($name), kind: Kind::$kind, unit: $unit, help: $help }),*]
    };
}

/// All metrics written here.
pub(super) fn descriptions() -> impl Iterator<Item = &'static Description> {
    DESCRIPTIONS.iter().chain(&DISK).chain(&NIC).chain(&SPACE).chain(&SLICE)
}

const DESCRIPTIONS: &[Description] = descriptions! {
    Counter springtide_instance_requests_total in "requests": "Requests answered by an instance, one way or another.";
    Counter springtide_instance_errors_total in "errors": "Requests to an instance that failed: 5xx, broken connections, timeouts.";
    Counter springtide_instance_rejects_total in "rejects": "Fast rejections by an instance; also counted as errors.";
    Gauge springtide_instance_in_flight_requests in "requests": "Requests in flight at an instance.";
    Gauge springtide_instance_requests_per_second in "second": "Requests answered a second, over 5 s.";
    Gauge springtide_instance_errors_per_second in "second": "Errors a second, over 5 s.";
    Gauge springtide_instance_latency_p50_seconds in "seconds": "Median latency over 5 s.";
    Gauge springtide_instance_latency_p99_seconds in "seconds": "99th percentile of latency over 5 s.";
    Histogram springtide_instance_latency_seconds in "seconds": "Latency of an instance as its proxies saw it.";
    Counter springtide_instance_back_seconds_total in "seconds": "Time that an instance took until the heads of its answers.";
    Counter springtide_instance_back_answers_total in "answers": "Answers of an instance whose time until the head was measured.";
    Counter springtide_service_requests_total in "requests": "Requests answered by a service, one way or another.";
    Counter springtide_service_errors_total in "errors": "Requests to a service that failed, fast rejections included; those alone: springtide_service_rejects_total.";
    Counter springtide_service_rejects_total in "rejects": "Fast rejections by a service; also counted as errors.";
    Gauge springtide_service_requests_per_second in "second": "Requests answered a second, over 5 s.";
    Gauge springtide_service_errors_per_second in "second": "Errors a second, over 5 s.";
    Gauge springtide_service_rejects_per_second in "second": "Fast rejections a second, over 5 s.";
    Gauge springtide_service_latency_p50_seconds in "seconds": "Median latency over 5 s, of all requests to the service.";
    Gauge springtide_service_latency_p99_seconds in "seconds": "99th percentile of latency over 5 s, of all requests to the service.";
    Histogram springtide_service_latency_seconds in "seconds": "Latency of a service as its proxies saw it.";
    Counter springtide_service_retries_total in "retries": "Attempts at a service after the first of a call.";
    Counter springtide_service_queue_seconds_total in "seconds": "Time that requests to a service waited in proxies.";
    Gauge springtide_service_queue_delay_seconds in "seconds": "Mean wait in proxies of one request to a service, over 5 s.";
    Gauge springtide_service_back_latency_p50_seconds in "seconds": "Median time of a service until the head of its answer, over 5 s.";
    Gauge springtide_service_back_latency_p99_seconds in "seconds": "99th percentile of the time of a service until the head of its answer, over 5 s.";
    Histogram springtide_service_back_latency_seconds in "seconds": "Time of a service until the head of its answer.";
    Counter springtide_edge_requests_total in "requests": "Requests of a caller answered by a service.";
    Counter springtide_edge_errors_total in "errors": "Requests of a caller to a service that failed.";
    Counter springtide_edge_rejects_total in "rejects": "Fast rejections of a caller at a service; also counted as errors.";
    Counter springtide_edge_retries_total in "retries": "Attempts of a caller at a service after the first of a call.";
    Counter springtide_edge_queue_seconds_total in "seconds": "Time that requests of a caller to a service waited in proxies.";
    Gauge springtide_edge_rejects_per_second in "second": "Fast rejections of a caller at a service a second, over 5 s.";
    Gauge springtide_edge_queue_delay_seconds in "seconds": "Mean wait in proxies of one request of a caller to a service, over 5 s.";
    Gauge springtide_edge_latency_p50_seconds in "seconds": "Median latency of a caller at a service, over 5 s.";
    Gauge springtide_edge_back_latency_p50_seconds in "seconds": "Median time until the head of a service's answer to a caller, over 5 s.";
    Gauge springtide_edge_back_latency_p99_seconds in "seconds": "99th percentile of the time until the head of a service's answer to a caller, over 5 s.";
    Counter springtide_edge_latency_seconds_total in "seconds": "Sum of the latencies of a caller at a service.";
    Counter springtide_edge_back_seconds_total in "seconds": "Sum of the times until the heads of a service's answers to a caller.";
    Gauge springtide_edge_requests_per_second in "second": "Requests of a caller to a service a second, over 5 s.";
    Gauge springtide_edge_errors_per_second in "second": "Errors of a caller at a service a second, over 5 s.";
    Gauge springtide_edge_latency_p99_seconds in "seconds": "99th percentile of latency of a caller at a service, over 5 s.";
    Counter springtide_slice_cpu_seconds_total in "seconds": "CPU used by a slice.";
    Counter springtide_slice_throttled_seconds_total in "seconds": "Time a slice was throttled.";
    Counter springtide_slice_throttled_periods_total in "periods": "Periods in which a slice was throttled.";
    Counter springtide_slice_periods_total in "periods": "Periods of a slice's CPU quota.";
    Counter springtide_slice_oom_kills_total in "kills": "Kills in a slice for want of memory.";
    Counter springtide_slice_cpu_pressure_seconds_total in "seconds": "Time in which some task of a slice waited for CPU.";
    Counter springtide_slice_memory_pressure_seconds_total in "seconds": "Time in which some task of a slice waited for memory.";
    Counter springtide_slice_cpu_pressure_full_seconds_total in "seconds": "Time in which all tasks of a slice waited for CPU.";
    Counter springtide_slice_memory_pressure_full_seconds_total in "seconds": "Time in which all tasks of a slice waited for memory.";
    Gauge springtide_slice_cpu_cores in "cores": "CPU used by a slice, over 5 s.";
    Gauge springtide_slice_throttled_ratio in "ratio": "Share of periods in which a slice was throttled, over 5 s.";
    Gauge springtide_slice_cpu_pressure_ratio in "ratio": "Share of time in which some task of a slice waited for CPU, over 5 s.";
    Gauge springtide_slice_memory_pressure_ratio in "ratio": "Share of time in which some task of a slice waited for memory, over 5 s.";
    Gauge springtide_slice_memory_bytes in "bytes": "Memory in use by a slice.";
    Gauge springtide_slice_tasks in "tasks": "Processes and threads of a slice.";
    Counter springtide_host_cpu_seconds_total in "seconds": "CPU used on a host, all cores.";
    Counter springtide_host_cpu_steal_seconds_total in "seconds": "CPU that the hypervisor took from a host.";
    Counter springtide_host_cpu_pressure_seconds_total in "seconds": "Time in which some task of a host waited for CPU.";
    Counter springtide_host_memory_pressure_seconds_total in "seconds": "Time in which some task of a host waited for memory.";
    Counter springtide_host_io_pressure_seconds_total in "seconds": "Time in which some task of a host waited for disks.";
    Counter springtide_host_cpu_pressure_full_seconds_total in "seconds": "Time in which all tasks of a host waited for CPU.";
    Counter springtide_host_memory_pressure_full_seconds_total in "seconds": "Time in which all tasks of a host waited for memory.";
    Counter springtide_host_io_pressure_full_seconds_total in "seconds": "Time in which all tasks of a host waited for disks.";
    Gauge springtide_host_used_cores in "cores": "CPU used on a host, over 5 s.";
    Gauge springtide_host_cores in "cores": "Cores of a host.";
    Gauge springtide_host_memory_used_bytes in "bytes": "Memory in use on a host.";
    Gauge springtide_host_memory_bytes in "bytes": "Memory of a host.";
    Gauge springtide_proxies in "proxies": "Proxies heard from in the last 5 s.";
};

/// Writes for one tick. The store counts what it refuses, and its exposition shows the counts.
struct Pen<'a> {
    store: &'a mut SeriesStore,
    now: UnixMs,
    refused: u64,
}

impl Pen<'_> {
    fn note(&mut self, done: Result<(), Refused>) {
        self.refused += u64::from(done.is_err());
    }

    fn row(&mut self, labels: &[(&str, &str)]) -> Option<RowId> {
        self.store.row(labels).inspect_err(|_| self.refused += 1).ok()
    }

    fn put(&mut self, name: &str, row: RowId, value: f64) {
        let done = self.store.push_to(row, name, self.now, value);
        self.note(done);
    }

    fn put_some(&mut self, name: &str, row: RowId, value: Option<f64>) {
        if let Some(value) = value {
            self.put(name, row, value);
        }
    }

    fn put_us(&mut self, name: &str, row: RowId, us: u64) {
        self.put(name, row, us as f64 / 1e6);
    }

    fn latency(&mut self, name: &str, row: RowId, flow: &Flow) {
        let traffic = &flow.traffic;
        let done = self.store.set_histogram(row, name, self.now, &traffic.latency, traffic.latency_us_sum);
        self.note(done);
    }

    fn back(&mut self, name: &str, row: RowId, flow: &Flow) {
        let traffic = &flow.traffic;
        let done = self.store.set_histogram(row, name, self.now, &traffic.back, traffic.back_us_sum);
        self.note(done);
    }

    fn devices(&mut self, host: &str, devices: &[Device], of: &[Description]) {
        for device in devices {
            let Some(row) = self.row(&[("device", device.name.as_str()), ("host", host)]) else { continue };
            of.iter().zip(&device.counters).for_each(|(metric, value)| self.put(metric.name, row, *value));
        }
    }
}

/// Writes everything at `now`; gives how many points were refused.
pub(super) fn feed(flows: &Flows, machine: &mut Machine, now: UnixMs, store: &mut SeriesStore) -> u64 {
    let mut pen = Pen { store, now, refused: 0 };
    if let Some(row) = pen.row(&[]) {
        pen.put("springtide_proxies", row, flows.proxies(now) as f64);
    }
    instances(flows, &mut pen);
    services(flows, &mut pen);
    edges(flows, &mut pen);
    slices(machine, &mut pen);
    hosts(machine, &mut pen);
    pen.refused
}

fn seconds(us: Option<f64>) -> Option<f64> {
    us.map(|us| us / 1e6)
}

fn instances(flows: &Flows, pen: &mut Pen<'_>) {
    let in_flight = flows.in_flight(pen.now);
    for (instance, flow) in &flows.instances {
        let Some(row) = pen.row(&[("instance", instance.as_str()), ("service", flow.service.as_str())]) else {
            continue;
        };
        let (rates, latency) = (flow.window.rates(pen.now), flow.window.latency(pen.now));
        pen.put("springtide_instance_requests_total", row, flow.traffic.requests as f64);
        pen.put("springtide_instance_errors_total", row, flow.traffic.errors as f64);
        pen.put("springtide_instance_rejects_total", row, flow.traffic.rejects as f64);
        let in_flight = in_flight.get(instance.as_str()).copied().unwrap_or(0);
        pen.put("springtide_instance_in_flight_requests", row, f64::from(in_flight));
        pen.put("springtide_instance_requests_per_second", row, rates.requests);
        pen.put("springtide_instance_errors_per_second", row, rates.errors);
        pen.put_some("springtide_instance_latency_p50_seconds", row, seconds(latency.quantile_us(0.5)));
        pen.put_some("springtide_instance_latency_p99_seconds", row, seconds(latency.quantile_us(0.99)));
        pen.latency("springtide_instance_latency_seconds", row, flow);
        pen.put_us("springtide_instance_back_seconds_total", row, flow.traffic.back_us_sum);
        pen.put("springtide_instance_back_answers_total", row, flow.traffic.back_answers as f64);
    }
}

fn services(flows: &Flows, pen: &mut Pen<'_>) {
    for (service, flow) in &flows.services {
        let Some(row) = pen.row(&[("service", service.as_str())]) else { continue };
        let (rates, latency) = (flow.window.rates(pen.now), flow.window.latency(pen.now));
        pen.put("springtide_service_requests_total", row, flow.traffic.requests as f64);
        pen.put("springtide_service_errors_total", row, flow.traffic.errors as f64);
        pen.put("springtide_service_rejects_total", row, flow.traffic.rejects as f64);
        pen.put("springtide_service_requests_per_second", row, rates.requests);
        pen.put("springtide_service_errors_per_second", row, rates.errors);
        pen.put("springtide_service_rejects_per_second", row, rates.rejects);
        pen.put_some("springtide_service_latency_p50_seconds", row, seconds(latency.quantile_us(0.5)));
        pen.put_some("springtide_service_latency_p99_seconds", row, seconds(latency.quantile_us(0.99)));
        pen.latency("springtide_service_latency_seconds", row, flow);
        let back = flow.window.back(pen.now);
        pen.put("springtide_service_retries_total", row, flow.traffic.retries as f64);
        pen.put_us("springtide_service_queue_seconds_total", row, flow.traffic.queue_us_sum);
        pen.put_some("springtide_service_queue_delay_seconds", row, seconds(rates.queue_delay_us()));
        pen.put_some("springtide_service_back_latency_p50_seconds", row, seconds(back.quantile_us(0.5)));
        pen.put_some("springtide_service_back_latency_p99_seconds", row, seconds(back.quantile_us(0.99)));
        pen.back("springtide_service_back_latency_seconds", row, flow);
    }
}

fn edges(flows: &Flows, pen: &mut Pen<'_>) {
    for ((caller, service), flow) in &flows.pairs {
        let Some(row) = pen.row(&[("caller", caller.as_str()), ("service", service.as_str())]) else { continue };
        let (rates, latency) = (flow.window.rates(pen.now), flow.window.latency(pen.now));
        pen.put("springtide_edge_requests_total", row, flow.traffic.requests as f64);
        pen.put("springtide_edge_errors_total", row, flow.traffic.errors as f64);
        pen.put("springtide_edge_rejects_total", row, flow.traffic.rejects as f64);
        pen.put("springtide_edge_retries_total", row, flow.traffic.retries as f64);
        pen.put_us("springtide_edge_queue_seconds_total", row, flow.traffic.queue_us_sum);
        pen.put_us("springtide_edge_latency_seconds_total", row, flow.traffic.latency_us_sum);
        pen.put_us("springtide_edge_back_seconds_total", row, flow.traffic.back_us_sum);
        pen.put("springtide_edge_rejects_per_second", row, rates.rejects);
        pen.put_some("springtide_edge_queue_delay_seconds", row, seconds(rates.queue_delay_us()));
        pen.put_some("springtide_edge_latency_p50_seconds", row, seconds(latency.quantile_us(0.5)));
        let back = flow.window.back(pen.now);
        pen.put_some("springtide_edge_back_latency_p50_seconds", row, seconds(back.quantile_us(0.5)));
        pen.put_some("springtide_edge_back_latency_p99_seconds", row, seconds(back.quantile_us(0.99)));
        pen.put("springtide_edge_requests_per_second", row, rates.requests);
        pen.put("springtide_edge_errors_per_second", row, rates.errors);
        pen.put_some("springtide_edge_latency_p99_seconds", row, seconds(latency.quantile_us(0.99)));
    }
}

fn slices(machine: &mut Machine, pen: &mut Pen<'_>) {
    for (instance, slice) in &mut machine.slices {
        let (at, rates) = (&slice.newest, slice.readings.rates());
        let Some(row) = pen.row(&[
            ("host", slice.host.as_str()),
            ("instance", instance.as_str()),
            ("service", at.service.as_str()),
        ]) else {
            continue;
        };
        pen.put_us("springtide_slice_cpu_seconds_total", row, at.cpu_usage_us);
        pen.put_us("springtide_slice_throttled_seconds_total", row, at.throttled_us);
        pen.put("springtide_slice_throttled_periods_total", row, at.throttled_periods as f64);
        pen.put("springtide_slice_periods_total", row, at.periods as f64);
        pen.put("springtide_slice_oom_kills_total", row, at.oom_kills as f64);
        pen.put("springtide_slice_memory_bytes", row, at.memory_bytes as f64);
        pen.put("springtide_slice_tasks", row, f64::from(at.pids));
        let pressures = [
            ("springtide_slice_cpu_pressure_seconds_total", at.cpu_pressure_us),
            ("springtide_slice_cpu_pressure_full_seconds_total", at.cpu_pressure_full_us),
            ("springtide_slice_memory_pressure_seconds_total", at.memory_pressure_us),
            ("springtide_slice_memory_pressure_full_seconds_total", at.memory_pressure_full_us),
        ];
        for (name, us) in pressures {
            pen.put_some(name, row, us.map(|us| us as f64 / 1e6));
        }
        if let Some(rest) = slice.rest.take() {
            SLICE.iter().zip(rest.values()).for_each(|(metric, value)| pen.put_some(metric.name, row, value));
        }
        pen.put_some("springtide_slice_cpu_cores", row, rates.cpu_cores);
        pen.put_some("springtide_slice_throttled_ratio", row, rates.throttled);
        pen.put_some("springtide_slice_cpu_pressure_ratio", row, rates.cpu_pressure);
        pen.put_some("springtide_slice_memory_pressure_ratio", row, rates.memory_pressure);
    }
}

fn hosts(machine: &mut Machine, pen: &mut Pen<'_>) {
    for (host, known) in &mut machine.hosts {
        let at = &known.newest;
        let Some(row) = pen.row(&[("host", host.as_str())]) else { continue };
        pen.put_us("springtide_host_cpu_seconds_total", row, at.cpu_busy_us);
        pen.put_us("springtide_host_cpu_steal_seconds_total", row, at.cpu_steal_us);
        let pressures = [
            ("springtide_host_cpu_pressure_seconds_total", at.cpu_pressure_us),
            ("springtide_host_memory_pressure_seconds_total", at.memory_pressure_us),
            ("springtide_host_io_pressure_seconds_total", at.io_pressure_us),
            ("springtide_host_cpu_pressure_full_seconds_total", at.cpu_pressure_full_us),
            ("springtide_host_memory_pressure_full_seconds_total", at.memory_pressure_full_us),
            ("springtide_host_io_pressure_full_seconds_total", at.io_pressure_full_us),
        ];
        for (name, us) in pressures {
            pen.put_some(name, row, us.map(|us| us as f64 / 1e6));
        }
        pen.put_some("springtide_host_used_cores", row, known.readings.rates().cpu_cores);
        pen.put("springtide_host_cores", row, f64::from(at.cores));
        pen.put("springtide_host_memory_used_bytes", row, at.memory_used_bytes as f64);
        pen.put("springtide_host_memory_bytes", row, at.memory_total_bytes as f64);
        let Some(rest) = known.rest.take() else { continue };
        SPACE.iter().zip(rest.space()).for_each(|(metric, value)| pen.put(metric.name, row, value));
        pen.devices(host, &rest.disks, &DISK);
        pen.devices(host, &rest.nics, &NIC);
    }
}
