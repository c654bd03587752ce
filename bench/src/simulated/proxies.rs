//! Simulated proxies: one for each datacenter, carrying traffic to what runs there.

use super::agents::{bearer, channel};
use super::shape::Callers;
use super::{Answers, Behaviour, Instance, Place, Running, Runtime, unix_ms};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{EdgeSample, ProxyHello, ProxySamples, ProxyUp, proxy_up};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;

/// Time between samples.
const SAMPLE_MS: u64 = 1_000;
/// Wait before a stream is opened again.
const AGAIN_MS: u64 = 500;

/// All of them; they end when dropped.
pub struct Proxies {
    _runtime: Runtime,
}

/// Counters of an edge so far; fractions of a request wait for the next second.
#[derive(Default)]
struct Counted {
    requests: f64,
    failed: f64,
    rejected: f64,
    latency_us_sum: u64,
}

impl Proxies {
    /// Starts one for each datacenter.
    pub fn start(
        datacenters: &[String],
        place: &Place,
        running: &Arc<Running>,
        callers: Callers,
        behaviour: &Arc<dyn Behaviour>,
    ) -> Self {
        let runtime = Runtime::new();
        let callers = Arc::new(callers);
        for (at, datacenter) in datacenters.iter().enumerate() {
            let proxy = Proxy {
                name: format!("proxy-{datacenter}"),
                phase_ms: at as u64 * SAMPLE_MS / datacenters.len() as u64,
                datacenter: datacenter.clone(),
                place: place.clone(),
                running: Arc::clone(running),
                callers: Arc::clone(&callers),
                behaviour: Arc::clone(behaviour),
            };
            runtime.spawn(async move {
                let mut edges = HashMap::new();
                loop {
                    // A server that is away is met again; the counters went on meanwhile.
                    let _ = proxy.stream(&mut edges).await;
                    tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
                }
            });
        }
        Self { _runtime: runtime }
    }
}

struct Proxy {
    name: String,
    phase_ms: u64,
    datacenter: String,
    place: Place,
    running: Arc<Running>,
    callers: Arc<Callers>,
    behaviour: Arc<dyn Behaviour>,
}

impl Proxy {
    async fn stream(&self, edges: &mut HashMap<(String, String), Counted>) -> Option<()> {
        let mut client = FleetClient::new(channel(&self.place)?);
        let (to, messages) = mpsc::channel(4);
        let hello = ProxyHello {
            proxy: self.name.clone(),
            protocol: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            datacenter: self.datacenter.clone(),
            entry: "127.0.0.1:8080".to_owned(),
            mesh: "127.0.0.1:8081".to_owned(),
        };
        to.send(ProxyUp { message: Some(proxy_up::Message::Hello(hello)) }).await.ok()?;
        let request = bearer(tonic::Request::new(ReceiverStream::new(messages)), &self.place.token);
        let mut down = client.proxy(request).await.ok()?.into_inner();
        let first = Duration::from_millis((self.phase_ms + SAMPLE_MS - unix_ms() % SAMPLE_MS) % SAMPLE_MS);
        let mut rhythm = interval_at(tokio::time::Instant::now() + first, Duration::from_millis(SAMPLE_MS));
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                message = down.message() => { message.ok()??; }
                _ = rhythm.tick() => {
                    let samples = self.read(edges);
                    to.send(ProxyUp { message: Some(proxy_up::Message::Samples(samples)) }).await.ok()?;
                }
            }
        }
    }

    fn read(&self, edges: &mut HashMap<(String, String), Counted>) -> ProxySamples {
        let now = unix_ms();
        let mut samples = Vec::new();
        for instance in self.running.list() {
            if instance.datacenter != self.datacenter {
                continue;
            }
            let outside = [String::from("outside")];
            for caller in self.callers.get(&instance.service).map_or(&outside[..], Vec::as_slice) {
                let Some(answers) = self.behaviour.answers(caller, &instance, now) else { continue };
                let counted = edges.entry((caller.clone(), instance.name.clone())).or_default();
                samples.extend(counted.second(caller, &instance, answers));
            }
        }
        ProxySamples { time_unix_us: now * 1_000, edges: samples, ..ProxySamples::default() }
    }
}

impl Counted {
    /// One more second of it; nothing when no request came.
    fn second(&mut self, caller: &str, instance: &Instance, answers: Answers) -> Option<EdgeSample> {
        let before = self.requests as u64;
        self.requests += answers.rps;
        self.failed += answers.rps * answers.failed;
        self.rejected += answers.rps * answers.rejected;
        let came = self.requests as u64 - before;
        if came == 0 {
            return None;
        }
        let slow = (self.requests / 50.0) as u64 - (before as f64 / 50.0) as u64;
        let latencies = [(answers.p50_ms, came - slow.min(came)), (answers.p99_ms, slow.min(came))];
        let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
        for (latency_ms, count) in latencies.into_iter().filter(|(_, count)| *count > 0) {
            let latency_us = (latency_ms * 1e3) as u64;
            self.latency_us_sum += latency_us * count;
            *buckets.entry(model::histogram::bucket_of(latency_us) as u32).or_default() += count;
        }
        let (bucket, bucket_count) = buckets.into_iter().unzip();
        Some(EdgeSample {
            caller: caller.to_owned(),
            service: instance.service.clone(),
            instance: instance.name.clone(),
            requests: self.requests as u64,
            errors: (self.failed + self.rejected) as u64,
            rejects: self.rejected as u64,
            in_flight: (answers.rps * answers.p50_ms / 1e3) as u32,
            latency_us_sum: self.latency_us_sum,
            bucket,
            bucket_count,
            started: self.requests as u64,
            ..EdgeSample::default()
        })
    }
}
