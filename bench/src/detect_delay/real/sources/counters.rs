//! Columns of a second, turned into the counters that proxies and agents would show after it.

use super::super::business::Business;
use api::fleet::{AgentSamples, EdgeSample, HostSample, SliceSample};
use model::histogram::bucket_of;
use std::collections::BTreeMap;

/// Normal deviates at the middles of nine equal parts: the shape of a second's latencies.
const DEVIATES: [f32; 9] = [-1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 2.326];
/// Cores and memory of a host.
const CORES: u32 = 64;
const MEMORY: u64 = 256 << 30;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    requests: u64,
    errors: u64,
    rejects: u64,
    latency_us: u64,
}

/// One second at one edge.
#[derive(Clone, Copy)]
struct Moved {
    requests: f32,
    errors: f32,
    rejects: f32,
    median_ms: f32,
    tail_ms: f32,
    in_flight: f32,
}

/// Counters of one business.
pub struct Counters {
    proxies: usize,
    /// Callers of each service and their shares, `outside` too.
    callers: Vec<Vec<(String, f32)>>,
    /// By instance and place among its callers.
    instances: Vec<Vec<Count>>,
    /// By pair, of those that call an external.
    pairs: Vec<Count>,
    slices: Vec<u64>,
    busy_us: Vec<u64>,
    waited_us: Vec<u64>,
}

impl Counters {
    /// Nothing counted yet.
    pub fn new(business: &Business, proxies: usize) -> Self {
        let fleet = &business.fleet;
        let mut callers: Vec<Vec<(String, f32)>> = vec![Vec::new(); fleet.services.len()];
        for (at, nature) in fleet.services.iter().enumerate() {
            if nature.outside_rps > 0.0 {
                callers[at].push(("outside".to_owned(), nature.outside_rps));
            }
            for (callee, calls) in &nature.calls {
                callers[*callee as usize].push((nature.name.clone(), calls * fleet.usual_rps(at as u32)));
            }
        }
        for of in &mut callers {
            let sum: f32 = of.iter().map(|(_, rps)| rps).sum();
            of.iter_mut().for_each(|(_, rps)| *rps /= sum.max(1e-9));
        }
        let instances = fleet.members.iter().map(|at| vec![Count::default(); callers[at.service as usize].len()]);
        Self {
            proxies,
            instances: instances.collect(),
            pairs: vec![Count::default(); fleet.pairs.len()],
            slices: vec![0; fleet.members.len()],
            busy_us: vec![0; fleet.hosts.len()],
            waited_us: vec![0; fleet.hosts.len()],
            callers,
        }
    }

    /// What each proxy sends: edges that moved.
    pub fn edges(&mut self, business: &Business) -> Vec<Vec<EdgeSample>> {
        let (fleet, frame) = (&business.fleet, &business.frame);
        let mut sent = vec![Vec::new(); self.proxies];
        for (at, member) in fleet.members.iter().enumerate() {
            let columns = &frame.instances;
            let moved = Moved {
                requests: columns.requests[at],
                errors: columns.errors[at],
                rejects: columns.rejects[at],
                median_ms: columns.latency_ms[at],
                tail_ms: columns.tail_ms[at],
                in_flight: columns.in_flight[at],
            };
            if moved.requests.is_nan() || moved.requests <= 0.0 {
                continue;
            }
            let service = &fleet.services[member.service as usize].name;
            let callers = &self.callers[member.service as usize];
            for (place, (part, (caller, _))) in split(moved, callers).into_iter().zip(callers).enumerate() {
                if part.requests > 0.0 {
                    let edge = self.instances[at][place].edge(part, caller, service, &member.name);
                    sent[at % self.proxies].push(edge);
                }
            }
        }
        self.externals(business, &mut sent);
        sent
    }

    fn externals(&mut self, business: &Business, sent: &mut [Vec<EdgeSample>]) {
        let (fleet, columns) = (&business.fleet, &business.frame.pairs);
        for (at, pair) in fleet.pairs.iter().enumerate() {
            let callee = &fleet.services[pair.callee as usize];
            if !callee.external || columns.requests[at].is_nan() || columns.requests[at] <= 0.0 {
                continue;
            }
            let moved = Moved {
                requests: columns.requests[at],
                errors: columns.errors[at],
                rejects: columns.rejects[at],
                median_ms: columns.latency_ms[at],
                tail_ms: columns.tail_ms[at],
                in_flight: 0.0,
            };
            let caller = &fleet.services[pair.caller as usize].name;
            sent[at % self.proxies].push(self.pairs[at].edge(moved, caller, &callee.name, ""));
        }
    }

    /// What each agent reads; a host that is silent is left out.
    pub fn readings(&mut self, business: &Business, second: u64) -> BTreeMap<String, AgentSamples> {
        let (fleet, frame) = (&business.fleet, &business.frame);
        let time_unix_ms = (second + 1) * 1_000;
        let mut read = BTreeMap::new();
        for (at, host) in fleet.hosts.iter().enumerate() {
            let columns = &frame.hosts;
            if columns.cpu[at].is_nan() {
                continue;
            }
            self.busy_us[at] += (columns.cpu[at] * CORES as f32 * 1e6) as u64;
            self.waited_us[at] += (columns.pressure[at].max(0.0) * 1e6) as u64;
            let host_sample = HostSample {
                cpu_busy_us: self.busy_us[at],
                cores: CORES,
                memory_used_bytes: (columns.memory[at] * MEMORY as f32) as u64,
                memory_total_bytes: MEMORY,
                cpu_pressure_us: Some(self.waited_us[at]),
                ..HostSample::default()
            };
            let samples = AgentSamples { time_unix_ms, host: Some(host_sample), ..AgentSamples::default() };
            read.insert(host.name.clone(), samples);
        }
        for (at, member) in fleet.members.iter().enumerate() {
            let columns = &frame.instances;
            let Some(samples) = read.get_mut(&fleet.hosts[member.host as usize].name) else { continue };
            if columns.cpu[at].is_nan() {
                continue;
            }
            self.slices[at] += (columns.cpu[at] * 1e6) as u64;
            samples.slices.push(SliceSample {
                instance: member.name.clone(),
                service: fleet.services[member.service as usize].name.clone(),
                cpu_usage_us: self.slices[at],
                memory_bytes: columns.memory[at].max(0.0) as u64,
                pids: 1,
                time_unix_us: time_unix_ms * 1_000,
                ..SliceSample::default()
            });
        }
        read
    }
}

impl Count {
    fn edge(&mut self, moved: Moved, caller: &str, service: &str, instance: &str) -> EdgeSample {
        let requests = moved.requests as u64;
        self.requests += requests;
        // On the wire rejects are errors, too.
        self.errors += (moved.errors + moved.rejects) as u64;
        self.rejects += moved.rejects as u64;
        let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
        if moved.median_ms > 0.0 {
            let sigma = (moved.tail_ms / moved.median_ms).max(1.01).ln() / 2.326;
            for at in 0..requests {
                let part = (at * DEVIATES.len() as u64 * 2 + DEVIATES.len() as u64) / (2 * requests);
                let deviate = DEVIATES[part.min(DEVIATES.len() as u64 - 1) as usize];
                let us = (moved.median_ms * 1e3 * (sigma * deviate).exp()) as u64;
                *buckets.entry(bucket_of(us) as u32).or_default() += 1;
                self.latency_us += us;
            }
        }
        let (bucket, bucket_count) = buckets.into_iter().unzip();
        EdgeSample {
            caller: caller.to_owned(),
            service: service.to_owned(),
            instance: instance.to_owned(),
            requests: self.requests,
            errors: self.errors,
            rejects: self.rejects,
            in_flight: moved.in_flight.max(0.0) as u32,
            latency_us_sum: self.latency_us,
            bucket,
            bucket_count,
            started: if instance.is_empty() { 0 } else { self.requests },
            ..EdgeSample::default()
        }
    }
}

/// A second shared among callers: whole requests, what is left goes to the first.
fn split(moved: Moved, callers: &[(String, f32)]) -> Vec<Moved> {
    let part = |value: f32, share: f32| if value.is_finite() { (value * share).floor() } else { 0.0 };
    let mut parts: Vec<Moved> = callers
        .iter()
        .map(|(_, share)| Moved {
            requests: part(moved.requests, *share),
            errors: part(moved.errors, *share),
            rejects: part(moved.rejects, *share),
            in_flight: part(moved.in_flight, *share),
            ..moved
        })
        .collect();
    let sums =
        parts.iter().fold((0.0, 0.0, 0.0), |sum, at| (sum.0 + at.requests, sum.1 + at.errors, sum.2 + at.rejects));
    if let Some(first) = parts.first_mut() {
        first.requests += moved.requests - sums.0;
        first.errors += if moved.errors.is_finite() { moved.errors - sums.1 } else { 0.0 };
        first.rejects += if moved.rejects.is_finite() { moved.rejects - sums.2 } else { 0.0 };
    }
    parts
}
