//! Simulated agents: a stream for each host, a hundred streams to a connection.

use super::{Behaviour, Instance, Place, Running, Runtime, unix_ms};
use anyhow::{Result, bail};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{
    AgentHello, AgentSamples, AgentUp, Assignment, Assignments, HostSample, InstanceReport, InstanceReports, Intent,
    Phase, PoliciesTaken, SliceSample, agent_down, agent_up,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Streams on one connection: a server takes 200.
const STREAMS_MAX: usize = 100;
/// Messages waiting to be sent by one agent.
const QUEUE_MAX: usize = 16;
/// Time between samples.
const SAMPLE_MS: u64 = 1_000;
/// Wait before a stream is opened again.
const AGAIN_MS: u64 = 500;
/// Cores and memory of a host.
const HOST: (u32, u64) = (8, 16 << 30);

/// A host to simulate.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
}

/// All of them; they end when dropped.
pub struct Agents {
    /// What they run.
    pub running: Arc<Running>,
    connected: Arc<AtomicUsize>,
    count: usize,
    _runtime: Runtime,
}

impl Agents {
    /// Starts an agent for each host.
    pub fn start(hosts: Vec<HostSpec>, place: &Place, behaviour: Arc<dyn Behaviour>) -> Self {
        let runtime = Runtime::new();
        let (running, connected): (Arc<Running>, Arc<AtomicUsize>) = Default::default();
        let count = hosts.len();
        for (at, group) in hosts.chunks(STREAMS_MAX).enumerate() {
            let (group, place) = (group.to_vec(), place.clone());
            let (running, connected) = (Arc::clone(&running), Arc::clone(&connected));
            let behaviour = Arc::clone(&behaviour);
            runtime.spawn(async move {
                let Some(channel) = channel(&place) else { return };
                for (nth, host) in group.into_iter().enumerate() {
                    let agent = Agent {
                        // Their seconds are spread evenly: a fleet does not sample in step.
                        phase_ms: ((at * STREAMS_MAX + nth) as u64 * SAMPLE_MS) / count as u64,
                        host,
                        token: place.token.clone(),
                        running: Arc::clone(&running),
                        connected: Arc::clone(&connected),
                        behaviour: Arc::clone(&behaviour),
                    };
                    tokio::spawn(agent.follow(channel.clone()));
                }
            });
        }
        Self { running, connected, count, _runtime: runtime }
    }

    /// Agents whose streams stand.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Waits until all are connected.
    pub async fn all_connected(&self, seconds_max: u64) -> Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds_max);
        while self.connected() < self.count {
            if tokio::time::Instant::now() > deadline {
                bail!("{} of {} simulated agents are connected after {seconds_max} s", self.connected(), self.count);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

pub(super) fn channel(place: &Place) -> Option<Channel> {
    Some(Endpoint::from_shared(place.server.clone()).ok()?.tcp_nodelay(true).connect_lazy())
}

pub(super) fn bearer<T>(mut request: tonic::Request<T>, token: &str) -> tonic::Request<T> {
    let value: MetadataValue<Ascii> = format!("Bearer {token}").parse().expect("a token is plain text");
    request.metadata_mut().insert("authorization", value);
    request
}

/// One agent.
struct Agent {
    host: HostSpec,
    phase_ms: u64,
    token: String,
    running: Arc<Running>,
    connected: Arc<AtomicUsize>,
    behaviour: Arc<dyn Behaviour>,
}

/// What an agent knows of an instance it was given.
struct Slice {
    instance: Arc<Instance>,
    phase: Phase,
    since_ms: u64,
    cpu_us: f64,
    config_digest: String,
    package_digest: String,
    ports: std::collections::HashMap<String, u32>,
}

/// Its instances, and since when it reads them.
#[derive(Default)]
struct Hosted {
    slices: BTreeMap<String, Slice>,
    revision: u64,
    read_ms: u64,
    busy_us: f64,
}

impl Agent {
    async fn follow(self, channel: Channel) {
        let mut hosted = Hosted::default();
        loop {
            // A server that is away or restarts is met again: the instances went on meanwhile.
            let _ = self.stream(channel.clone(), &mut hosted).await;
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }

    async fn stream(&self, channel: Channel, hosted: &mut Hosted) -> Option<()> {
        let mut client = FleetClient::new(channel).max_decoding_message_size(64 << 20);
        let (to, messages) = mpsc::channel(QUEUE_MAX);
        to.send(up(agent_up::Message::Hello(self.hello(hosted)))).await.ok()?;
        let request = bearer(tonic::Request::new(ReceiverStream::new(messages)), &self.token);
        let mut down = client.agent(request).await.ok()?.into_inner();
        let into_second = unix_ms() % SAMPLE_MS;
        let first = Duration::from_millis((self.phase_ms + SAMPLE_MS - into_second) % SAMPLE_MS);
        let mut rhythm = interval_at(tokio::time::Instant::now() + first, Duration::from_millis(SAMPLE_MS));
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.connected.fetch_add(1, Ordering::Relaxed);
        let _connected = Counted(&self.connected);
        loop {
            tokio::select! {
                message = down.message() => match message.ok()??.message {
                    Some(agent_down::Message::Assignments(given)) => {
                        let instances = self.take(hosted, given);
                        to.send(up(agent_up::Message::Reports(InstanceReports { instances }))).await.ok()?;
                    }
                    Some(agent_down::Message::Policies(policies)) => {
                        let taken = PoliciesTaken { revision: policies.revision };
                        to.send(up(agent_up::Message::Policies(taken))).await.ok()?;
                    }
                    _ => {}
                },
                _ = rhythm.tick() => {
                    let now = unix_ms();
                    let instances = self.health(hosted, now);
                    if !instances.is_empty() {
                        to.send(up(agent_up::Message::Reports(InstanceReports { instances }))).await.ok()?;
                    }
                    let samples = self.read(hosted, now);
                    to.send(up(agent_up::Message::Samples(samples))).await.ok()?;
                }
            }
        }
    }

    fn hello(&self, hosted: &Hosted) -> AgentHello {
        AgentHello {
            host: self.host.name.clone(),
            protocol: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: "simulated".to_owned(),
            isolation: "none".to_owned(),
            cpu_millis: HOST.0 * 1_000,
            memory_bytes: HOST.1,
            instances: hosted.slices.values().map(report).collect(),
            revision: hosted.revision,
        }
    }

    /// Takes assignments; gives what is to be reported of them.
    fn take(&self, hosted: &mut Hosted, given: Assignments) -> Vec<InstanceReport> {
        hosted.revision = given.revision;
        let mut reports = Vec::new();
        let named = |id: &String| given.set.iter().any(|of| of.instance == *id);
        let unnamed = hosted.slices.keys().filter(|id| given.snapshot && !named(id)).cloned();
        for id in unnamed.chain(given.remove.iter().cloned()).collect::<Vec<_>>() {
            self.running.all().remove(&id);
            if let Some(slice) = hosted.slices.remove(&id) {
                reports.push(InstanceReport {
                    phase: Phase::Stopped as i32,
                    since_unix_ms: unix_ms(),
                    ..report(&slice)
                });
            }
        }
        for assignment in given.set {
            reports.push(self.set(hosted, assignment));
        }
        reports
    }

    fn set(&self, hosted: &mut Hosted, given: Assignment) -> InstanceReport {
        let phase = match given.intent() {
            Intent::Running | Intent::Draining => Phase::Healthy,
            Intent::Deployed | Intent::Unspecified => Phase::Deployed,
        };
        let instance = Arc::new(Instance {
            name: given.instance.clone(),
            service: given.service.clone(),
            host: self.host.name.clone(),
            datacenter: self.host.datacenter.clone(),
            cpu_millis: given.cpu_millis,
            memory_bytes: given.memory_bytes,
        });
        if phase == Phase::Healthy {
            self.running.all().insert(given.instance.clone(), Arc::clone(&instance));
        }
        let known = hosted.slices.remove(&given.instance);
        let since_ms = known.as_ref().filter(|known| known.phase == phase).map_or_else(unix_ms, |known| known.since_ms);
        let slice = Slice {
            instance,
            phase,
            since_ms,
            cpu_us: known.map_or(0.0, |known| known.cpu_us),
            config_digest: given.config_digest,
            package_digest: given.package_digest,
            ports: given.ports,
        };
        let told = report(&slice);
        hosted.slices.insert(given.instance, slice);
        told
    }

    /// Health that changed.
    fn health(&self, hosted: &mut Hosted, now: u64) -> Vec<InstanceReport> {
        let mut changed = Vec::new();
        let started = hosted.slices.values_mut().filter(|of| matches!(of.phase, Phase::Healthy | Phase::Unhealthy));
        for slice in started {
            let well = self.behaviour.healthy(&slice.instance, now);
            let phase = if well { Phase::Healthy } else { Phase::Unhealthy };
            if phase != slice.phase {
                (slice.phase, slice.since_ms) = (phase, now);
                changed.push(report(slice));
            }
        }
        changed
    }

    /// Reads the host and its slices.
    fn read(&self, hosted: &mut Hosted, now: u64) -> AgentSamples {
        let passed_us = now.saturating_sub(hosted.read_ms).min(2 * SAMPLE_MS) as f64 * 1e3;
        hosted.read_ms = now;
        let (mut slices, mut busy_us, mut memory) = (Vec::with_capacity(hosted.slices.len()), 0.0, HOST.1 / 20);
        for slice in hosted.slices.values_mut() {
            let uses = match slice.phase {
                Phase::Healthy | Phase::Unhealthy => self.behaviour.uses(&slice.instance, now),
                _ => continue,
            };
            let used_us = passed_us * uses.cpu * f64::from(slice.instance.cpu_millis) / 1e3;
            slice.cpu_us += used_us;
            busy_us += used_us;
            let memory_bytes = (uses.memory * slice.instance.memory_bytes as f64) as u64;
            memory += memory_bytes;
            slices.push(SliceSample {
                instance: slice.instance.name.clone(),
                service: slice.instance.service.clone(),
                cpu_usage_us: slice.cpu_us as u64,
                memory_bytes,
                pids: 12,
                time_unix_us: now * 1_000,
                ..SliceSample::default()
            });
        }
        hosted.busy_us += busy_us + 0.02 * passed_us * f64::from(HOST.0);
        let host = HostSample {
            cpu_busy_us: hosted.busy_us as u64,
            cores: HOST.0,
            memory_used_bytes: memory,
            memory_total_bytes: HOST.1,
            ..HostSample::default()
        };
        AgentSamples { time_unix_ms: now, host: Some(host), slices, ..AgentSamples::default() }
    }
}

/// One stream less, however it ended.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn up(message: agent_up::Message) -> AgentUp {
    AgentUp { message: Some(message) }
}

fn report(slice: &Slice) -> InstanceReport {
    InstanceReport {
        instance: slice.instance.name.clone(),
        service: slice.instance.service.clone(),
        phase: slice.phase as i32,
        since_unix_ms: slice.since_ms,
        package_digest: slice.package_digest.clone(),
        config_digest: slice.config_digest.clone(),
        ports: slice.ports.clone(),
        message: if slice.phase == Phase::Unhealthy { "GET /healthz: no answer".to_owned() } else { String::new() },
        ..InstanceReport::default()
    }
}
