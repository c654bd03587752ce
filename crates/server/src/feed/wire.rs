//! Samples as they come over the wire, as what `metrics` takes in.

use api::fleet;
use metrics::golden::{Device, EdgeSample, HostRest, HostSample, SliceRest, SliceSample};

/// Disks or interfaces of one host; the rest is cut off.
const DEVICES_MAX: usize = 64;

/// Of a slice.
pub fn slice(at: &fleet::SliceSample) -> SliceSample {
    SliceSample {
        instance: at.instance.clone(),
        service: at.service.clone(),
        cpu_usage_us: at.cpu_usage_us,
        throttled_us: at.throttled_us,
        throttled_periods: at.throttled_periods,
        periods: at.periods,
        memory_bytes: at.memory_bytes,
        pids: at.pids,
        oom_kills: at.oom_kills,
        cpu_pressure_us: at.cpu_pressure_us,
        memory_pressure_us: at.memory_pressure_us,
        time_us: at.time_unix_us,
        cpu_pressure_full_us: at.cpu_pressure_full_us,
        memory_pressure_full_us: at.memory_pressure_full_us,
        rest: at.rest.as_ref().map(slice_rest),
    }
}

fn slice_rest(at: &fleet::SliceRest) -> SliceRest {
    SliceRest {
        memory_file_bytes: at.memory_file_bytes,
        memory_anon_bytes: at.memory_anon_bytes,
        memory_peak_bytes: at.memory_peak_bytes,
        io_pressure_us: at.io_pressure_us,
        io_pressure_full_us: at.io_pressure_full_us,
        io_read_bytes: at.io_read_bytes,
        io_written_bytes: at.io_written_bytes,
        io_reads: at.io_reads,
        io_writes: at.io_writes,
    }
}

/// Of a host.
pub fn host(at: &fleet::HostSample) -> HostSample {
    HostSample {
        cpu_busy_us: at.cpu_busy_us,
        cpu_steal_us: at.cpu_steal_us,
        cores: at.cores,
        memory_used_bytes: at.memory_used_bytes,
        memory_total_bytes: at.memory_total_bytes,
        cpu_pressure_us: at.cpu_pressure_us,
        memory_pressure_us: at.memory_pressure_us,
        io_pressure_us: at.io_pressure_us,
        cpu_pressure_full_us: at.cpu_pressure_full_us,
        memory_pressure_full_us: at.memory_pressure_full_us,
        io_pressure_full_us: at.io_pressure_full_us,
        rest: at.rest.as_ref().map(host_rest),
    }
}

fn device(name: &str, counters: &[u64]) -> Device {
    Device { name: name.to_owned(), counters: counters.iter().map(|count| *count as f64).collect() }
}

fn host_rest(at: &fleet::HostRest) -> HostRest {
    let disk = |at: &fleet::DiskSample| {
        let mut disk = device(&at.device, &[at.read_bytes, at.written_bytes, at.reads, at.writes]);
        disk.counters.push(at.busy_ms as f64 / 1e3);
        disk
    };
    let nic = |at: &fleet::NicSample| {
        let received = [at.received_bytes, at.received_packets, at.received_errors, at.received_drops];
        let sent = [at.sent_bytes, at.sent_packets, at.sent_errors, at.sent_drops];
        device(&at.device, &[received, sent].concat())
    };
    HostRest {
        disks: at.disks.iter().take(DEVICES_MAX).map(disk).collect(),
        nics: at.nics.iter().take(DEVICES_MAX).map(nic).collect(),
        space_bytes: (at.space_total_bytes, at.space_free_bytes),
        inodes: (at.inodes_total, at.inodes_free),
    }
}

fn buckets(index: &[u32], count: &[u64]) -> Vec<(u32, u64)> {
    index.iter().copied().zip(count.iter().copied()).collect()
}

/// Of an edge.
pub fn edge(at: &fleet::EdgeSample) -> EdgeSample {
    EdgeSample {
        caller: at.caller.clone(),
        service: at.service.clone(),
        instance: at.instance.clone(),
        requests: at.requests,
        errors: at.errors,
        rejects: at.rejects,
        in_flight: at.in_flight,
        latency_us_sum: at.latency_us_sum,
        buckets: buckets(&at.bucket, &at.bucket_count),
        started: at.started,
        retries: at.retries,
        queue_us_sum: at.queue_us_sum,
        back_us_sum: at.back_us_sum,
        back_buckets: buckets(&at.back_bucket, &at.back_bucket_count),
    }
}
