//! Numbers on their way in: samples of agents and proxies become series, golden signals and observed traffic.

mod links;
mod policies;
mod process;
mod protection;
mod trips;
mod wire;

use crate::clock::now_ms;
use crate::incidents::Health;
use crate::remote_write;
use api::fleet;
use control::{Observed, StressSample, Traffic};
use links::Links;
use metrics::golden::{EdgeSample, Pair, SliceSample, Top};
use metrics::series::{Limits, SeriesStore};
use metrics::{Golden, Selector, SeriesPoints, Store};
use model::{Circuit, InstanceId, UnixMs};
use policies::Policies;
use process::Process;
use protection::Protection;
use std::sync::Arc;
use trips::{Teller, Trips};

/// Time between writes of the golden signals into the series.
const SERIES_MS: u64 = 1_000;
/// Time between updates of the traffic that `control` judges by.
const TRAFFIC_MS: u64 = 200;
/// Time between rounds in which idle series are forgotten.
const FORGET_MS: u64 = 10_000;
/// Edges or slices in one sample; the rest is cut off.
const SAMPLES_MAX: usize = 100_000;

/// All numbers of the fleet. Owned by the control loop; the store under the series is shared with the handlers that read.
pub struct Feed {
    golden: Golden,
    series: SeriesStore,
    process: Process,
    protection: Protection,
    links: Links,
    trips: Trips,
    /// Receivers of remote write.
    pub remote_write: Vec<Arc<remote_write::Counts>>,
    policies: Policies,
    wrote_series: UnixMs,
    wrote_traffic: UnixMs,
    forgot: UnixMs,
}

impl Default for Feed {
    fn default() -> Self {
        Self::over(Arc::new(Store::in_memory(metrics::store::Limits::default())))
    }
}

/// What the server says of itself with each write of the series.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Revision of the store.
    pub revision: u64,
    /// Agents connected.
    pub agents: usize,
    /// Operations not ended.
    pub operations_open: usize,
    /// Commits made since the start.
    pub commits: u64,
    /// Commits that did not happen since the start.
    pub conflicts: u64,
    /// How detection itself does.
    pub detection: Health,
    /// Circuits as declared now.
    pub circuits: Vec<Circuit>,
}

impl Feed {
    /// Over a store that others read and write too.
    pub fn over(store: Arc<Store>) -> Self {
        let mut series = SeriesStore::over(store, Limits::default());
        Golden::describe(&mut series);
        Process::describe(&mut series);
        Protection::describe(&mut series);
        Policies::describe(&mut series);
        remote_write::describe(&mut series);
        Links::describe(&mut series);
        Trips::describe(&mut series);
        Self {
            golden: Golden::new(),
            series,
            process: Process::default(),
            protection: Protection::default(),
            policies: Policies::default(),
            links: Links::default(),
            trips: Trips::default(),
            remote_write: Vec::new(),
            wrote_series: 0,
            wrote_traffic: 0,
            forgot: 0,
        }
    }

    /// Takes an agent's reading in.
    pub fn agent_samples(&mut self, host: &str, samples: &fleet::AgentSamples) {
        let slices: Vec<SliceSample> = samples.slices.iter().take(SAMPLES_MAX).map(wire::slice).collect();
        let about = samples.host.as_ref().map(wire::host);
        self.golden.agent(host, samples.time_unix_ms, about.as_ref(), &slices, now_ms());
        self.trips.take(&Teller::Host(host.to_owned()), &samples.trips);
    }

    /// Takes the reading of a proxy in a datacenter in.
    pub fn proxy_samples(&mut self, proxy: &str, datacenter: &str, samples: &fleet::ProxySamples) {
        let edges: Vec<EdgeSample> = samples.edges.iter().take(SAMPLES_MAX).map(wire::edge).collect();
        self.golden.proxy(proxy, samples.time_unix_us, &edges, now_ms());
        self.protection.take(proxy, &samples.protection, now_ms());
        self.policies.take(proxy, &samples.policies, now_ms());
        self.links.take(proxy, datacenter, &samples.links);
        self.trips.take(&Teller::Proxy(proxy.to_owned()), &samples.trips);
    }

    /// True when it is time to bring the traffic of instances under judgement up to date.
    pub fn traffic_due(&mut self, now: UnixMs) -> bool {
        let due = now.saturating_sub(self.wrote_traffic) >= TRAFFIC_MS;
        if due {
            self.wrote_traffic = now;
        }
        due
    }

    /// Brings the observed traffic of an instance up to date.
    pub fn observe_traffic(&self, instance: &InstanceId, observed: &mut Observed) {
        let Some(seen) = self.golden.traffic(instance.as_str()) else { return };
        let known = observed.traffic.get(instance);
        if known.is_some_and(|known| known.requests == seen.requests && known.rejects == seen.rejects) {
            return;
        }
        let traffic = Traffic {
            requests: seen.requests,
            errors: seen.errors,
            rejects: seen.rejects,
            latency: seen.latency.clone(),
        };
        observed.traffic.insert(instance.clone(), traffic);
    }

    /// Writes what is due into the series.
    pub fn tick(&mut self, now: UnixMs, own: impl FnOnce() -> Own) {
        if now.saturating_sub(self.wrote_series) < SERIES_MS {
            return;
        }
        self.wrote_series = now;
        self.golden.tick(now, &mut self.series);
        let own = own();
        self.links.write(&mut self.series, &own.circuits, now);
        self.trips.write(&mut self.series, now);
        self.process.write(&mut self.series, now, &own);
        self.protection.write(&mut self.series, now);
        remote_write::write(self.remote_write.iter().map(|counts| &**counts), &mut self.series, now);
        self.policies.write(&mut self.series, now);
        if now.saturating_sub(self.forgot) >= FORGET_MS {
            self.forgot = now;
            self.series.push_about(now);
            self.series.forget_idle(now);
        }
    }

    /// A reading of an instance under stress.
    pub fn stress_sample(&mut self, instance: &InstanceId, now: UnixMs) -> Option<StressSample> {
        let read = self.golden.stress(instance.as_str(), now)?;
        Some(StressSample {
            traffic_time_us: read.traffic_time_us,
            started: read.started,
            completed: read.completed,
            errors: read.errors,
            latency: read.latency,
            in_flight: read.in_flight,
            service_started: read.service_started,
            slice_time_us: read.slice_time_us,
            cpu_usage_us: read.cpu_usage_us,
            throttled_us: read.throttled_us,
        })
    }

    /// Ends the readings of an instance under stress.
    pub fn stress_end(&mut self, instance: &InstanceId) {
        self.golden.stress_end(instance.as_str());
    }

    /// The fleet over the last seconds.
    pub fn top(&self, now: UnixMs) -> Top {
        self.golden.top(now)
    }

    /// Calls to and from a service over the last seconds.
    pub fn pairs_of(&self, service: &str, now: UnixMs) -> Vec<Pair> {
        self.golden.pairs_of(service, now)
    }

    /// Series over a time range.
    pub fn range(&self, selector: &Selector, from: UnixMs, to: UnixMs, step_ms: u64) -> Vec<SeriesPoints> {
        self.series.range(selector, from, to, step_ms)
    }

    /// Names, kinds and meanings of all metrics.
    pub fn descriptions(&self) -> Vec<metrics::Description> {
        self.series.descriptions().copied().collect()
    }

    /// Everything, in Prometheus' text format.
    pub fn exposition(&self, now: UnixMs) -> String {
        self.series.exposition(now)
    }
}
