//! One second of the fleet in columns: a value per entity id and signal, NaN where nothing was heard.
//!
//! A frame is filled in place and reused, so that a sample costs a store into a column and no allocation.

use crate::topology::Topology;

/// Columns of instances, by instance id.
#[derive(Debug, Clone, Default)]
pub struct InstanceColumns {
    /// Requests answered or failed in the second.
    pub requests: Vec<f32>,
    /// Of these, failed (without fast rejections).
    pub errors: Vec<f32>,
    /// Of these, rejected fast.
    pub rejects: Vec<f32>,
    /// Median latency of the second, ms.
    pub latency_ms: Vec<f32>,
    /// 99th percentile of the second, ms.
    pub tail_ms: Vec<f32>,
    /// Requests in flight.
    pub in_flight: Vec<f32>,
    /// CPU used, cores; NaN: its host or the instance does not report (this is the heartbeat).
    pub cpu: Vec<f32>,
    /// Memory in use, bytes.
    pub memory: Vec<f32>,
}

/// Columns of services, by service id: what no instance answered (no endpoint, rejected at the caller's proxy).
#[derive(Debug, Clone, Default)]
pub struct ServiceColumns {
    /// Requests that reached no instance.
    pub requests: Vec<f32>,
    /// Of these, failed.
    pub errors: Vec<f32>,
    /// Of these, rejected fast.
    pub rejects: Vec<f32>,
}

/// Columns of caller → callee pairs, by pair id.
#[derive(Debug, Clone, Default)]
pub struct PairColumns {
    /// Calls.
    pub requests: Vec<f32>,
    /// Of these, failed (without fast rejections).
    pub errors: Vec<f32>,
    /// Of these, rejected fast.
    pub rejects: Vec<f32>,
    /// Median latency of the second, ms.
    pub latency_ms: Vec<f32>,
    /// 99th percentile of the second, ms.
    pub tail_ms: Vec<f32>,
}

/// Columns of hosts, by host id.
#[derive(Debug, Clone, Default)]
pub struct HostColumns {
    /// Share of CPU used; NaN: the host does not report (this is the heartbeat).
    pub cpu: Vec<f32>,
    /// Share of memory used.
    pub memory: Vec<f32>,
    /// Share of time that some task waited for CPU.
    pub pressure: Vec<f32>,
}

/// One second of the fleet.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The second, unix time; frames come in its order.
    pub second: u64,
    /// Instances.
    pub instances: InstanceColumns,
    /// Services.
    pub services: ServiceColumns,
    /// Pairs.
    pub pairs: PairColumns,
    /// Hosts.
    pub hosts: HostColumns,
}

impl Frame {
    /// A frame shaped for a topology, in which nothing was heard.
    pub fn new(topology: &Topology) -> Self {
        let mut frame = Self::default();
        frame.clear(topology, 0);
        frame
    }

    /// Reshapes for a topology and forgets all values; keeps the memory.
    pub fn clear(&mut self, topology: &Topology, second: u64) {
        self.second = second;
        let fill = |columns: &mut [&mut Vec<f32>], count: usize| {
            for column in columns {
                column.clear();
                column.resize(count, f32::NAN);
            }
        };
        let i = &mut self.instances;
        let of_instances: &mut [&mut Vec<f32>] = &mut [
            &mut i.requests,
            &mut i.errors,
            &mut i.rejects,
            &mut i.latency_ms,
            &mut i.tail_ms,
            &mut i.in_flight,
            &mut i.cpu,
            &mut i.memory,
        ];
        fill(of_instances, topology.instances.len());
        let s = &mut self.services;
        fill(&mut [&mut s.requests, &mut s.errors, &mut s.rejects], topology.services.len());
        let p = &mut self.pairs;
        let of_pairs: &mut [&mut Vec<f32>] =
            &mut [&mut p.requests, &mut p.errors, &mut p.rejects, &mut p.latency_ms, &mut p.tail_ms];
        fill(of_pairs, topology.pairs.len());
        let h = &mut self.hosts;
        fill(&mut [&mut h.cpu, &mut h.memory, &mut h.pressure], topology.hosts.len());
    }

    /// How many series a topology has: the cells of its frame.
    pub fn series(topology: &Topology) -> usize {
        8 * topology.instances.len() + 3 * topology.services.len() + 5 * topology.pairs.len() + 3 * topology.hosts.len()
    }

    /// True when the columns have the lengths of a topology.
    pub fn fits(&self, topology: &Topology) -> bool {
        self.instances.requests.len() == topology.instances.len()
            && self.services.requests.len() == topology.services.len()
            && self.pairs.requests.len() == topology.pairs.len()
            && self.hosts.cpu.len() == topology.hosts.len()
    }
}

/// A count of the second as the detectors take it: nothing heard, negative, infinite and absurd values are none.
pub(crate) fn count(value: f32) -> f32 {
    if value.is_finite() && value > 0.0 { value.min(COUNT_MAX) } else { 0.0 }
}

/// A positive measure, or none.
pub(crate) fn measure(value: f32) -> Option<f32> {
    (value.is_finite() && value >= 0.0).then_some(value.min(MEASURE_MAX))
}

/// Largest count of one series in one second.
const COUNT_MAX: f32 = 1e9;
/// Largest measure taken as such.
const MEASURE_MAX: f32 = 1e15;
