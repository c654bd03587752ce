//! Simulated proxies: each follows policies over ADS on a connection of its own, and has them in force as `proxy` does.

use anyhow::{Result, bail};
use api::fleet::Policies;
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use model::Clocks;
use policy::{Head, NoHeaders, Place, PolicySet};
use prost::Message;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

/// Datacenters over which they are spread.
const DATACENTERS: usize = 4;
/// First and longest wait before a new stream.
const BACK_OFF_MS: (u64, u64) = (50, 400);
/// Revisions whose arrival is remembered.
const ARRIVALS_MAX: usize = 64;

/// What one proxy has.
#[derive(Default)]
struct Kept {
    in_force: Arc<PolicySet>,
    /// When the set of a revision was in force, and the revision.
    arrivals: Vec<(u64, Instant)>,
    connected: bool,
}

/// One proxy.
struct Proxy {
    name: String,
    datacenter: String,
    began: Instant,
    kept: Mutex<Kept>,
}

/// All of them; they end when dropped.
pub struct Proxies {
    all: Vec<Arc<Proxy>>,
    _runtime: Runtime,
}

/// Threads of their own, so that what this process measures is not what holds them up.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Proxies {
    /// Starts `count` proxies that follow the server at `place`.
    pub fn start(count: usize, place: (String, String)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let proxy = |n| {
            let datacenter = format!("dc-{}", n % DATACENTERS);
            Arc::new(Proxy { name: format!("proxy-{n}"), datacenter, began: Instant::now(), kept: Mutex::default() })
        };
        let all: Vec<Arc<Proxy>> = (0..count).map(proxy).collect();
        let following = all.clone();
        runtime.spawn(async move {
            let mut tasks = JoinSet::new();
            following.into_iter().for_each(|proxy| drop(tasks.spawn(proxy.follow(place.clone()))));
            tasks.join_all().await;
        });
        Self { all, _runtime: Runtime(Some(runtime)) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Waits until each has had a first answer.
    pub async fn all_connected(&self, seconds_max: u64) -> Result<()> {
        self.until(seconds_max, "connected", |proxy| proxy.kept().connected).await
    }

    /// Waits until each has exactly these in force, from a server that is there.
    pub async fn all_hold(&self, names: &BTreeSet<String>, seconds_max: u64) -> Result<()> {
        self.until(seconds_max, "on the new server's policies", |proxy| {
            let kept = proxy.kept();
            let held = kept.in_force.entries().iter().map(|entry| entry.policy.name.to_string());
            kept.connected && held.collect::<BTreeSet<_>>() == *names
        })
        .await
    }

    /// Times from `since` until the policies of a revision (or a later one) were in force on each proxy, in ms.
    pub async fn at_revision(&self, revision: u64, since: Instant, seconds_max: u64) -> Result<Vec<f64>> {
        self.until(seconds_max, "at the revision", |proxy| proxy.arrived(revision).is_some()).await?;
        let after = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1e3;
        Ok(self.all.iter().filter_map(|proxy| proxy.arrived(revision)).map(after).collect())
    }

    /// How many take a request to `/NAME`.
    pub fn taking(&self, name: &str) -> usize {
        let path = format!("/{name}");
        self.all.iter().filter(|proxy| proxy.takes(&path)).count()
    }

    async fn until(&self, seconds_max: u64, what: &str, is: impl Fn(&Proxy) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        loop {
            let missing = self.all.iter().filter(|proxy| !is(proxy)).count();
            if missing == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{missing} of {} proxies are not {what} after {seconds_max} s", self.count());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Proxy {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of this lock panics")
    }

    fn arrived(&self, revision: u64) -> Option<Instant> {
        self.kept().arrivals.iter().find(|(at, _)| *at >= revision).map(|(_, when)| *when)
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn takes(&self, path: &str) -> bool {
        let head = Head {
            business: "",
            service: "bank",
            caller: "outside",
            datacenter: &self.datacenter,
            method: "GET",
            host: "bank",
            path,
            query: "",
            headers: &NoHeaders,
            user: Some(1),
            priority: 0,
        };
        let in_force = Arc::clone(&self.kept().in_force);
        in_force.decide(&head, self.now_us()).is_some()
    }

    async fn follow(self: Arc<Self>, place: (String, String)) {
        let mut wait_ms = BACK_OFF_MS.0;
        loop {
            if self.stream(&place).await.is_some() {
                wait_ms = BACK_OFF_MS.0;
            }
            self.kept().connected = false;
            let spread_ms = rand::random_range(wait_ms / 2..=wait_ms);
            tokio::time::sleep(Duration::from_millis(spread_ms)).await;
            wait_ms = (wait_ms * 2).min(BACK_OFF_MS.1);
        }
    }

    /// One stream; something when it ever stood.
    async fn stream(&self, (server, token): &(String, String)) -> Option<()> {
        let channel = Endpoint::from_shared(server.clone()).ok()?.tcp_nodelay(true).connect().await.ok()?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let (to, requests) = mpsc::channel(4);
        let locality = Some(Locality { zone: self.datacenter.clone(), ..Locality::default() });
        let node = Some(Node { id: self.name.clone(), locality, ..Node::default() });
        let type_url = api::policies::TYPE_URL.to_owned();
        to.send(DiscoveryRequest { node, type_url: type_url.clone(), ..Default::default() }).await.ok()?;
        let mut request = tonic::Request::new(ReceiverStream::new(requests));
        let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
        request.metadata_mut().insert("authorization", bearer);
        let mut answers = client.stream_aggregated_resources(request).await.ok()?.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            let received = Policies::decode(answer.resources.first()?.value.as_slice()).ok()?;
            self.take(received);
            let acknowledged = DiscoveryRequest {
                type_url: type_url.clone(),
                version_info: answer.version_info,
                response_nonce: answer.nonce,
                ..Default::default()
            };
            if to.send(acknowledged).await.is_err() {
                break;
            }
        }
        Some(())
    }

    fn take(&self, received: Policies) {
        let revision = received.revision;
        // The clock since this process began is as good as the one since boot: neither is ever set.
        let at = Clocks { boot_id: "bench".to_owned(), boot_ms: self.now_us() / 1_000, unix_ms: 0 };
        let file = api::policies::kept(received, at.clone());
        let place = Place { datacenter: self.datacenter.clone(), proxies: file.proxies.clone(), rate_scale: 1.0 };
        let (set, refused) = policy::compile(&file, &place, &at, self.now_us());
        assert!(refused.is_empty(), "{}: {refused:?}", self.name);
        let mut kept = self.kept();
        kept.in_force = Arc::new(set.inheriting(&kept.in_force));
        kept.connected = true;
        kept.arrivals.push((revision, Instant::now()));
        if kept.arrivals.len() > ARRIVALS_MAX {
            kept.arrivals.remove(0);
        }
    }
}
