//! A fluid model of one instance under test: what arrives beyond its capacity queues.

use crate::world::{TURN_MS, World};
use control::{Event, StressSample};
use model::{InstanceId, LatencyHistogram, OperationId, ServiceName};

/// Requests a second that the instance under test completes at most.
pub const CAPACITY_RPS: f64 = 400.0;

/// The instance under test, as fast sampling sees it.
pub struct Bench {
    pub operation: OperationId,
    pub service: ServiceName,
    pub instance: InstanceId,
    pub until: u64,
    started: f64,
    completed: f64,
    service_started: f64,
    cpu_us: f64,
}

impl Bench {
    pub fn new(operation: OperationId, service: ServiceName, instance: InstanceId, until: u64) -> Self {
        Self { operation, service, instance, until, started: 0.0, completed: 0.0, service_started: 0.0, cpu_us: 0.0 }
    }

    /// One reading.
    pub fn turn(&mut self, now: u64, share: f64, rps: f64) -> Event {
        let seconds = TURN_MS as f64 / 1_000.0;
        self.service_started += rps * seconds;
        self.started += rps * seconds * share;
        let done = (self.started - self.completed).min(CAPACITY_RPS * seconds);
        self.completed += done;
        self.cpu_us += done * 1_000_000.0 / CAPACITY_RPS;
        let backlog = self.started - self.completed;
        let mut latency = LatencyHistogram::default();
        let us = 2_500.0 + backlog / CAPACITY_RPS * 1_000_000.0;
        (0..done as u64).for_each(|_| latency.record(us as u64));
        let sample = StressSample {
            traffic_time_us: now * 1_000,
            started: self.started as u64,
            completed: self.completed as u64,
            errors: 0,
            latency,
            in_flight: backlog as u32,
            service_started: self.service_started as u64,
            slice_time_us: now * 1_000,
            cpu_usage_us: self.cpu_us as u64,
            throttled_us: 0,
        };
        Event::Stress { operation: self.operation.clone(), sample }
    }
}

impl World {
    /// Share of a service's traffic that an instance gets, overrides that live included.
    pub fn share_of(&self, service: &ServiceName, instance: &InstanceId) -> f64 {
        let live = self.overrides.get(service).filter(|(_, until)| *until > self.now);
        let weights = control::endpoints(&self.snapshot, &self.observed, service).into_iter().map(|endpoint| {
            let of = live.and_then(|(all, _)| all.iter().find(|o| o.instance == endpoint.instance));
            (endpoint.instance, of.map_or(endpoint.weight, |o| o.weight))
        });
        let (mut own, mut all) = (0.0, 0.0);
        for (id, weight) in weights {
            all += f64::from(weight);
            own += if id == *instance { f64::from(weight) } else { 0.0 };
        }
        if all > 0.0 { own / all } else { 0.0 }
    }

    /// Sends a reading, when fast sampling is asked for and alive.
    pub fn run_bench(&mut self) {
        let Some(mut bench) = self.bench.take() else { return };
        if bench.until > self.now && !self.mute {
            let share = self.share_of(&bench.service, &bench.instance);
            let rps = self.rps.get(&bench.service).copied().unwrap_or(0.0);
            let event = bench.turn(self.now, share, rps);
            self.inbox.push_back(event);
        }
        self.bench = Some(bench);
    }
}
