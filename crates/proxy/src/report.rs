//! The reporter: merges the workers' counters and pushes samples to the server, each second, and each 100 ms for
//! services under stress.
//!
//! Counters survive a broken stream; what was not sent then is in the next sample. No sample is kept on disk.

use crate::Config;
use crate::bursts::Bursts;
use crate::carried;
use crate::dry_run::Samples;
use crate::edge::{Edge, EdgeKey, Reading};
use crate::endpoint::Clock;
use crate::protect::Shared;
use crate::table::Table;
use crate::xds::{BackOff, authorized};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{
    DryRunRequest, EdgeSample, FastSampling, LaneAnswer, LaneRequest, PolicySample, ProtectionSample, ProxyHello,
    ProxySamples, ProxyUp, Trip, proxy_down, proxy_up,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Version of the protocol.
const PROTOCOL: u32 = 1;
/// Time between readings of services under stress.
const FAST: Duration = Duration::from_millis(100);
/// Fast readings in one reading of everything.
const FASTS_PER_WHOLE: u32 = 10;
/// Time over which the samples of many proxies are spread.
const SPREAD_MS: u64 = 100;
/// Samples on their way; a stream that does not take them is ended.
const SAMPLES_QUEUED_MAX: usize = 32;
/// Time after which an edge without workers (its instance is gone) is forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// Time for the last sample to leave when the proxy ends.
const LAST: Duration = Duration::from_millis(500);
/// Longest life of fast sampling that is believed.
const FAST_LIFE_MS_MAX: u32 = 60_000;

/// One edge over all workers.
#[derive(Default)]
struct Merged {
    cells: Vec<Arc<Edge>>,
    /// Of cells whose worker let go of them.
    gone: Reading,
    gone_buckets: BTreeMap<usize, u64>,
    gone_back: BTreeMap<usize, u64>,
    /// As last sent.
    sent: Reading,
    sent_buckets: HashMap<usize, u64>,
    sent_back: HashMap<usize, u64>,
    /// Without cells since.
    idle_since: Option<Instant>,
}

impl Reading {
    fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.requests += other.requests;
        self.errors += other.errors;
        self.rejects += other.rejects;
        self.latency_us_sum += other.latency_us_sum;
        self.retries += other.retries;
        self.queue_us_sum += other.queue_us_sum;
        self.back_us_sum += other.back_us_sum;
    }
}

/// Buckets that moved since they were last sent: index, and by how much.
fn moved(
    gone: &BTreeMap<usize, u64>,
    living: impl Iterator<Item = (usize, u64)>,
    sent: &mut HashMap<usize, u64>,
) -> (Vec<u32>, Vec<u64>) {
    let mut sums = gone.clone();
    for (bucket, count) in living {
        *sums.entry(bucket).or_default() += count;
    }
    let mut moved = (Vec::new(), Vec::new());
    for (bucket, count) in sums {
        let before = sent.insert(bucket, count).unwrap_or(0);
        if count > before {
            moved.0.push(bucket as u32);
            moved.1.push(count - before);
        }
    }
    moved
}

impl Merged {
    /// Reads the sum; cells that nobody writes any more are folded in.
    fn read(&mut self, now: Instant) -> Reading {
        let Self { cells, gone, gone_buckets, gone_back, .. } = self;
        cells.retain(|cell| {
            if Arc::strong_count(cell) > 1 {
                return true;
            }
            gone.add(&cell.read());
            for (bucket, count) in cell.buckets() {
                *gone_buckets.entry(bucket).or_default() += count;
            }
            for (bucket, count) in cell.back_buckets() {
                *gone_back.entry(bucket).or_default() += count;
            }
            false
        });
        self.idle_since = if self.cells.is_empty() { self.idle_since.or(Some(now)) } else { None };
        let mut sum = self.gone.clone();
        self.cells.iter().for_each(|cell| sum.add(&cell.read()));
        sum
    }

    fn sample(&mut self, key: &EdgeKey, reading: Reading) -> EdgeSample {
        let front = self.cells.iter().flat_map(|cell| cell.buckets());
        let (bucket, bucket_count) = moved(&self.gone_buckets, front, &mut self.sent_buckets);
        let back = self.cells.iter().flat_map(|cell| cell.back_buckets());
        let (back_bucket, back_bucket_count) = moved(&self.gone_back, back, &mut self.sent_back);
        let at_instance = !key.instance.is_empty();
        let sample = EdgeSample {
            caller: key.caller.to_string(),
            service: key.service.to_string(),
            instance: key.instance.to_string(),
            requests: reading.requests,
            errors: reading.errors,
            rejects: reading.rejects,
            in_flight: (reading.started - reading.requests) as u32,
            latency_us_sum: reading.latency_us_sum,
            bucket,
            bucket_count,
            started: if at_instance { reading.started } else { 0 },
            retries: reading.retries,
            queue_us_sum: reading.queue_us_sum,
            back_us_sum: reading.back_us_sum,
            back_bucket,
            back_bucket_count,
        };
        self.sent = reading;
        sample
    }
}

/// Time to shortly after the next whole second: what all agents and proxies read together is of the same second. The
/// processes of a machine are spread over a part of it.
fn to_second() -> Duration {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Duration::from_millis(1_000 - unix_ms % 1_000 + u64::from(std::process::id()) % SPREAD_MS)
}

/// The numbers of a service that tells them itself: those of its endpoints together.
fn told_by_endpoints(sample: &mut ProtectionSample, table: &Table, now_ms: u64) {
    let Some(cluster) = table.clusters.get(sample.service.as_str()) else { return };
    for told in cluster.endpoints.iter().filter_map(|state| state.told(now_ms)) {
        sample.demand_rps += told.demand_rps;
        sample.capacity_rps += told.capacity_rps;
        sample.queue_delay_us = sample.queue_delay_us.max(told.queue_delay_us);
    }
}

/// What the lane of this proxy says.
async fn lane_answer(protection: Option<Arc<Shared>>, request: LaneRequest) -> LaneAnswer {
    let answer = match protection.as_ref().and_then(|shared| shared.lane()) {
        Some(lane) => lane.answer(&request.retry).await.map_err(|error| error.to_string()),
        None => Err("it has no slow lane (--slow-lane)".to_owned()),
    };
    let answer = answer.unwrap_or_else(|error| LaneAnswer { error, ..LaneAnswer::default() });
    LaneAnswer { id: request.id, ..answer }
}

/// Services under stress, until when.
#[derive(Default)]
struct Stress {
    services: BTreeSet<String>,
    until: Option<Instant>,
}

impl Stress {
    fn set(&mut self, wish: FastSampling, now: Instant) {
        self.until = Some(now + Duration::from_millis(u64::from(wish.life_ms.min(FAST_LIFE_MS_MAX))));
        self.services = wish.services.into_iter().collect();
    }

    fn lives(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// The reporter.
pub struct Reporter {
    config: Arc<Config>,
    entry: SocketAddr,
    mesh: SocketAddr,
    announced: Receiver<Arc<Edge>>,
    tables: watch::Receiver<Arc<Table>>,
    samples: Samples,
    edges: BTreeMap<EdgeKey, Merged>,
    stress: Stress,
    end: watch::Receiver<bool>,
    protection: Option<Arc<Shared>>,
    /// As last told, by service.
    protection_told: HashMap<Arc<str>, ProtectionSample>,
    clock: Clock,
    bursts: Bursts,
    carried: carried::All,
    /// Crossed since the last sample.
    trips: Vec<Trip>,
}

impl Reporter {
    /// Reads the edges that workers announce, what the policies of the table in force count, and the samples of heads.
    pub fn new(
        config: Arc<Config>,
        (entry, mesh): (SocketAddr, SocketAddr),
        announced: Receiver<Arc<Edge>>,
        tables: watch::Receiver<Arc<Table>>,
        samples: Samples,
        end: watch::Receiver<bool>,
    ) -> Self {
        let (edges, stress) = (BTreeMap::new(), Stress::default());
        let (protection, protection_told, clock) = (None, HashMap::new(), Clock::start());
        let (bursts, carried, trips) = (Bursts::default(), carried::All::default(), Vec::new());
        Self {
            config,
            entry,
            mesh,
            announced,
            tables,
            samples,
            edges,
            stress,
            end,
            protection,
            protection_told,
            clock,
            bursts,
            carried,
            trips,
        }
    }

    /// Reports until the end, and then once more.
    pub async fn run(mut self, channel: Channel) {
        let mut back_off = BackOff::default();
        loop {
            back_off.begin();
            if let Err(status) = self.stream(channel.clone()).await {
                tracing::warn!(code = ?status.code(), message = status.message(), "sample stream broke; counting goes on");
            }
            let mut end = self.end.clone();
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => return,
                () = back_off.wait() => {}
            }
        }
    }

    async fn stream(&mut self, channel: Channel) -> Result<(), tonic::Status> {
        let (to, samples) = mpsc::channel(SAMPLES_QUEUED_MAX);
        let hello = proxy_up::Message::Hello(ProxyHello {
            proxy: self.config.name.clone(),
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            datacenter: self.config.datacenter.clone(),
            entry: self.entry.to_string(),
            mesh: self.mesh.to_string(),
        });
        let queue = |message: proxy_up::Message| {
            let full = |_| tonic::Status::resource_exhausted("the server does not take samples");
            to.try_send(ProxyUp { message: Some(message) }).map_err(full)
        };
        queue(hello)?;
        let request = authorized(ReceiverStream::new(samples), &self.config.token);
        let mut end = self.end.clone();
        let mut client = FleetClient::new(channel);
        let mut opening = pin!(client.proxy(request));
        let opened = tokio::select! {
            opened = &mut opening => opened,
            // One that is just being opened still carries the last sample.
            _ = end.wait_for(|end| *end) => match tokio::time::timeout(LAST, opening).await {
                Ok(opened) => opened,
                Err(_) => return Ok(()),
            },
        };
        let mut down = opened?.into_inner();
        let mut tick = tokio::time::interval_at(Instant::now() + to_second(), FAST);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // A new stream begins with every edge, so that a restarted server knows where each counter stands.
        let mut all = true;
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                message = down.message() => match message?.map(|down| down.message) {
                    None => return Ok(()),
                    Some(Some(proxy_down::Message::FastSampling(wish))) => self.stress.set(wish, Instant::now()),
                    Some(Some(proxy_down::Message::DryRun(request))) => self.dry_run(request, to.clone()),
                    Some(Some(proxy_down::Message::Lane(request))) => self.lane(request, to.clone()),
                    Some(None) => {}
                },
                _ = end.wait_for(|end| *end) => {
                    queue(proxy_up::Message::Samples(self.samples(Instant::now(), true, all)))?;
                    break;
                }
                _ = tick.tick() => {
                    let whole = self.tripped() || all || ticks.is_multiple_of(FASTS_PER_WHOLE);
                    ticks = ticks.wrapping_add(1);
                    if !whole && !self.stress.lives(Instant::now()) {
                        continue;
                    }
                    let samples = self.samples(Instant::now(), whole, all);
                    if whole || !samples.edges.is_empty() {
                        queue(proxy_up::Message::Samples(samples))?;
                    }
                    all = false;
                }
            }
        }
        drop(to);
        // The server ends its side when it has read all of ours; if it does not, this is as long as we wait.
        let _ = tokio::time::timeout(LAST, async { while let Ok(Some(_)) = down.message().await {} }).await;
        Ok(())
    }

    /// Answers what policies would have done. A stream that ended meanwhile has nobody who waits for it.
    fn dry_run(&self, request: DryRunRequest, to: mpsc::Sender<ProxyUp>) {
        let (samples, datacenter) = (self.samples.clone(), self.config.datacenter.clone());
        // A large sample takes some milliseconds: not on the thread that steers.
        tokio::task::spawn_blocking(move || {
            let message = Some(proxy_up::Message::DryRun(samples.answer(request, datacenter)));
            let _ = to.blocking_send(ProxyUp { message });
        });
    }

    /// Answers what the slow lane says, as far as somebody still waits for it.
    fn lane(&self, request: LaneRequest, to: mpsc::Sender<ProxyUp>) {
        let protection = self.protection.clone();
        tokio::spawn(async move {
            let message = Some(proxy_up::Message::Lane(lane_answer(protection, request).await));
            let _ = to.send(ProxyUp { message }).await;
        });
    }

    /// Tells what the workers' protection did, too.
    pub fn with_protection(mut self, shared: Option<Arc<Shared>>, clock: Clock) -> Self {
        (self.protection, self.clock) = (shared, clock);
        self
    }

    /// What each policy in force did here.
    fn policies(&self) -> Vec<PolicySample> {
        let table = self.tables.borrow();
        let read = |entry: &Arc<policy::Entry>| PolicySample {
            policy: entry.policy.name.to_string(),
            version: entry.version,
            matched: entry.counts.matched(),
            taken: entry.counts.taken(),
            failed: entry.counts.failed(),
            failure: entry.counts.failure().unwrap_or_default().to_owned(),
            action: entry.policy.action.kind().to_owned(),
        };
        table.policies.entries().iter().map(read).collect()
    }

    /// Takes the edges that workers announced.
    fn meet(&mut self) {
        while let Ok(edge) = self.announced.try_recv() {
            self.bursts.follow(&edge.worker_errors);
            edge.carried.iter().for_each(|carried| self.carried.follow(carried));
            self.edges.entry(edge.key.clone()).or_default().cells.push(edge);
        }
    }

    /// Whether errors have just begun to come in a burst. To be asked once a tick.
    fn tripped(&mut self) -> bool {
        self.meet();
        let trip = self.bursts.tick();
        let is_news = trip.is_some();
        self.trips.extend(trip);
        is_news
    }

    /// Reads edges: those under stress, and if `whole` those that moved, and if `all` every one.
    fn samples(&mut self, now: Instant, whole: bool, all: bool) -> ProxySamples {
        self.meet();
        let mut edges = Vec::new();
        let lives = self.stress.lives(now);
        for (key, merged) in &mut self.edges {
            let stressed = lives && self.stress.services.contains(key.service.as_ref());
            if !stressed && !whole {
                continue;
            }
            let reading = merged.read(now);
            if stressed || all || reading != merged.sent {
                edges.push(merged.sample(key, reading));
            }
        }
        self.edges.retain(|_, merged| merged.idle_since.is_none_or(|since| now - since < FORGET));
        let time_unix_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        let policies = if whole { self.policies() } else { Vec::new() };
        let protection = if whole { self.protection(all) } else { Vec::new() };
        let trips = std::mem::take(&mut self.trips);
        let links = if whole { self.carried.samples(all) } else { Vec::new() };
        ProxySamples { time_unix_us, edges, policies, protection, trips, links }
    }

    /// Services whose numbers moved since they were last told; each, if `all`.
    fn protection(&mut self, all: bool) -> Vec<ProtectionSample> {
        let Some(shared) = &self.protection else { return Vec::new() };
        let now_us = self.clock.now_us();
        let table = Arc::clone(&self.tables.borrow());
        let mut moved = Vec::new();
        for service in shared.services() {
            let mut sample = service.sample(now_us);
            if sample.aware {
                told_by_endpoints(&mut sample, &table, now_us / 1_000);
            }
            let told = self.protection_told.entry(Arc::clone(&service.name)).or_default();
            if all || *told != sample {
                *told = sample.clone();
                moved.push(sample);
            }
        }
        moved
    }
}
