//! What hosts and slices tell every few seconds, and at once when something tripped there.
//!
//! Written into the series when it comes, not each second: a value that stands still for six seconds is one point, not six.

use crate::series::{Description, Kind};

/// What of a slice need not be known each second; absent where its hierarchy does not tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceRest {
    /// Page cache.
    pub memory_file_bytes: Option<u64>,
    /// Heap and stacks.
    pub memory_anon_bytes: Option<u64>,
    /// Most memory at any time.
    pub memory_peak_bytes: Option<u64>,
    /// Time in which some task waited for disks (counter).
    pub io_pressure_us: Option<u64>,
    /// Time in which all tasks waited for disks (counter).
    pub io_pressure_full_us: Option<u64>,
    /// Bytes read (counter).
    pub io_read_bytes: Option<u64>,
    /// Bytes written (counter).
    pub io_written_bytes: Option<u64>,
    /// Requests that read (counter).
    pub io_reads: Option<u64>,
    /// Requests that wrote (counter).
    pub io_writes: Option<u64>,
}

/// A disk or an interface, and its counters in the order of [`DISK`] or [`NIC`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Counters.
    pub counters: Vec<f64>,
}

/// What of a host need not be known each second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostRest {
    /// Disks: bytes read and written, requests that read and wrote, seconds busy.
    pub disks: Vec<Device>,
    /// Interfaces: bytes, packets, errors and drops received, then sent.
    pub nics: Vec<Device>,
    /// Bytes of the data folder's file system, and those left.
    pub space_bytes: (u64, u64),
    /// Inodes of it, and those left.
    pub inodes: (u64, u64),
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit, help }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit, help }
}

/// Of a disk.
pub(super) const DISK: [Description; 5] = [
    counter("springtide_host_disk_read_bytes_total", "bytes", "Bytes read from a disk."),
    counter("springtide_host_disk_written_bytes_total", "bytes", "Bytes written to a disk."),
    counter("springtide_host_disk_reads_total", "reads", "Requests that read from a disk."),
    counter("springtide_host_disk_writes_total", "writes", "Requests that wrote to a disk."),
    counter("springtide_host_disk_busy_seconds_total", "seconds", "Time in which a disk had a request under way."),
];

/// Of an interface.
pub(super) const NIC: [Description; 8] = [
    counter("springtide_host_network_received_bytes_total", "bytes", "Bytes that an interface received."),
    counter("springtide_host_network_received_packets_total", "packets", "Packets that an interface received."),
    counter("springtide_host_network_received_errors_total", "errors", "Packets received broken."),
    counter("springtide_host_network_received_drops_total", "drops", "Packets received and dropped."),
    counter("springtide_host_network_sent_bytes_total", "bytes", "Bytes that an interface sent."),
    counter("springtide_host_network_sent_packets_total", "packets", "Packets that an interface sent."),
    counter("springtide_host_network_sent_errors_total", "errors", "Packets that could not be sent."),
    counter("springtide_host_network_sent_drops_total", "drops", "Packets dropped instead of being sent."),
];

/// Of a host's file system.
pub(super) const SPACE: [Description; 4] = [
    gauge("springtide_host_space_bytes", "bytes", "Size of the file system with the agent's data."),
    gauge("springtide_host_space_free_bytes", "bytes", "Bytes left there for users without privileges."),
    gauge("springtide_host_inodes", "inodes", "Inodes of the file system with the agent's data."),
    gauge("springtide_host_free_inodes", "inodes", "Inodes left there."),
];

/// Of a slice.
pub(super) const SLICE: [Description; 9] = [
    gauge("springtide_slice_memory_file_bytes", "bytes", "Page cache of a slice, part of its memory."),
    gauge("springtide_slice_memory_anon_bytes", "bytes", "Heap and stacks of a slice, part of its memory."),
    gauge("springtide_slice_memory_peak_bytes", "bytes", "Most memory that a slice had at any time."),
    counter("springtide_slice_io_read_bytes_total", "bytes", "Bytes that a slice read from disks (cgroup v2)."),
    counter("springtide_slice_io_written_bytes_total", "bytes", "Bytes that a slice wrote to disks (cgroup v2)."),
    counter("springtide_slice_io_reads_total", "reads", "Requests of a slice that read (cgroup v2)."),
    counter("springtide_slice_io_writes_total", "writes", "Requests of a slice that wrote (cgroup v2)."),
    counter(
        "springtide_slice_io_pressure_seconds_total",
        "seconds",
        "Time in which some task of a slice waited for disks.",
    ),
    counter(
        "springtide_slice_io_pressure_full_seconds_total",
        "seconds",
        "Time in which all tasks of a slice waited for disks.",
    ),
];

impl SliceRest {
    /// Values in the order of [`SLICE`].
    pub(super) fn values(&self) -> [Option<f64>; SLICE.len()] {
        let plain = |value: Option<u64>| value.map(|value| value as f64);
        let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
        [
            plain(self.memory_file_bytes),
            plain(self.memory_anon_bytes),
            plain(self.memory_peak_bytes),
            plain(self.io_read_bytes),
            plain(self.io_written_bytes),
            plain(self.io_reads),
            plain(self.io_writes),
            seconds(self.io_pressure_us),
            seconds(self.io_pressure_full_us),
        ]
    }
}

impl HostRest {
    /// Values in the order of [`SPACE`].
    pub(super) fn space(&self) -> [f64; SPACE.len()] {
        [self.space_bytes.0 as f64, self.space_bytes.1 as f64, self.inodes.0 as f64, self.inodes.1 as f64]
    }
}
