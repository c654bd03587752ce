//! The online stress test: samples in, the share of live traffic to give the instance under test out.

use model::LatencyHistogram;

/// One 100-ms reading of a service under stress, all proxies summed. Counters only grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time of the reading of traffic, microseconds since the epoch.
    pub traffic_time_us: u64,
    /// Requests sent to the instance under test (counter).
    pub started: u64,
    /// Requests it answered, one way or another (counter).
    pub completed: u64,
    /// Requests that failed there (counter).
    pub errors: u64,
    /// Latencies since the last reading.
    pub latency: LatencyHistogram,
    /// Requests in flight at the instance.
    pub in_flight: u32,
    /// Requests started at the whole service, this instance included (counter).
    pub service_started: u64,
    /// Time of the reading of the slice, microseconds since the epoch; 0 when there is none yet.
    pub slice_time_us: u64,
    /// CPU used by the slice (counter).
    pub cpu_usage_us: u64,
    /// Time throttled (counter).
    pub throttled_us: u64,
}
