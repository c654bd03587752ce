//! A client of the proxies' protocol: it reports even traffic at every instance that its agents run.

use crate::agent::{Agent, Seen, authorized, place};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{EdgeSample, Intent, ProxyHello, ProxySamples, ProxyUp, proxy_down, proxy_up};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Requests at each instance in each sample.
const REQUESTS: u64 = 40;
/// Latency of each, as a bucket (about 1 ms).
const LATENCY_US: u64 = 1_000;

pub struct Proxy {
    task: tokio::task::JoinHandle<()>,
    fast: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub fn start(data: &Path, agents: &[Agent]) -> Self {
        let seen: Vec<_> = agents.iter().map(|agent| agent.seen.clone()).collect();
        let data = data.to_owned();
        let fast = Arc::new(Mutex::new(BTreeSet::new()));
        let wished = fast.clone();
        let task = tokio::spawn(async move {
            let mut counters = BTreeMap::new();
            loop {
                session(&data, &seen, &mut counters, &wished).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        Self { task, fast }
    }

    /// Services that it was asked to sample fast.
    pub fn fast(&self) -> BTreeSet<String> {
        self.fast.lock().expect("no panic").clone()
    }
}

async fn session(
    data: &Path,
    agents: &[Arc<Mutex<Seen>>],
    counters: &mut BTreeMap<String, u64>,
    fast: &Mutex<BTreeSet<String>>,
) -> Option<()> {
    let (url, token) = place(data)?;
    let mut client = FleetClient::connect(url).await.ok()?;
    let (to, up) = mpsc::channel(64);
    let hello = ProxyHello {
        proxy: "test".to_owned(),
        protocol: 1,
        datacenter: "north".to_owned(),
        entry: "127.0.0.1:8080".to_owned(),
        mesh: "127.0.0.1:8081".to_owned(),
        ..ProxyHello::default()
    };
    to.send(ProxyUp { message: Some(proxy_up::Message::Hello(hello)) }).await.ok()?;
    let mut down = client.proxy(authorized(ReceiverStream::new(up), &token)).await.ok()?.into_inner();
    let mut reading = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            message = down.message() => {
                if let Some(proxy_down::Message::FastSampling(wish)) = message.ok()??.message {
                    fast.lock().expect("no panic").extend(wish.services);
                }
                continue;
            }
            _ = reading.tick() => {}
        }
        let mut edges = Vec::new();
        for agent in agents {
            let running = agent.lock().expect("no panic").running.clone();
            for at in running.into_values().filter(|at| at.intent() != Intent::Deployed) {
                let requests = counters.entry(at.instance.clone()).or_default();
                *requests += REQUESTS;
                edges.push(EdgeSample {
                    caller: "outside".to_owned(),
                    service: at.service,
                    instance: at.instance,
                    requests: *requests,
                    started: *requests,
                    latency_us_sum: *requests * LATENCY_US,
                    bucket: vec![model::histogram::bucket_of(LATENCY_US) as u32],
                    bucket_count: vec![REQUESTS],
                    ..EdgeSample::default()
                });
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let samples = ProxySamples { time_unix_us: now.as_micros() as u64, edges, ..ProxySamples::default() };
        to.send(ProxyUp { message: Some(proxy_up::Message::Samples(samples)) }).await.ok()?;
    }
}
