//! A client of the agents' protocol: it answers assignments as an agent would, without processes. Like an agent it keeps
//! what it runs over a restart of the server, and comes back by itself.

use api::fleet::fleet_client::FleetClient;
use api::fleet::{
    AgentDown, AgentHello, AgentSamples, AgentUp, Assignment, Assignments, InstanceReport, InstanceReports, Intent,
    LogChunk, Phase, Policies, PoliciesTaken, Scraped, ScrapedSeries, SliceSample, agent_down, agent_up,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

/// What an agent has been told and done.
#[derive(Debug, Default)]
pub struct Seen {
    /// Policies as last sent.
    pub policies: Policies,
    pub running: BTreeMap<String, Assignment>,
    /// How often each instance was started and stopped: the effects, counted where they happen.
    pub starts: BTreeMap<String, u32>,
    pub stops: BTreeMap<String, u32>,
    pub mesh: String,
    pub snapshots: u32,
    pub refused: Option<Status>,
    pub cancelled_logs: BTreeSet<u64>,
    pub fast: BTreeSet<String>,
    /// The config file that each instance was first given.
    pub given: BTreeMap<String, String>,
}

pub struct Agent {
    pub seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    /// An agent that finds its server through the data folder, as `dev` would tell it.
    pub fn start(host: &str, data: &Path) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (host, data, mine) = (host.to_owned(), data.to_owned(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                if let Err(status) = session(&host, &data, &mine).await {
                    mine.lock().expect("no panic").refused = Some(status);
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        Self { seen, task }
    }

    /// One agent for each host of the harness' facilities.
    pub fn fleet(hosts: u32, data: &Path) -> Vec<Self> {
        let names = (0..2).flat_map(|d| (0..hosts).map(move |h| format!("host-{d}-{h}")));
        names.map(|name| Self::start(&name, data)).collect()
    }

    pub fn running(&self) -> BTreeSet<String> {
        self.seen.lock().expect("no panic").running.keys().cloned().collect()
    }
}

/// Where the fleet listener is, and its token.
pub fn place(data: &Path) -> Option<(String, String)> {
    let about: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("server.json")).ok()?).ok()?;
    let token = std::fs::read_to_string(data.join("fleet-token")).ok()?;
    Some((format!("http://{}", about["fleet"].as_str()?), token))
}

pub fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {token}").parse().expect("a token is ascii");
    request.metadata_mut().insert("authorization", value);
    request
}

/// One stream, until it ends.
async fn session(host: &str, data: &Path, seen: &Arc<Mutex<Seen>>) -> Result<(), Status> {
    let Some((url, token)) = place(data) else { return Ok(()) };
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let mut client = FleetClient::connect(url).await.map_err(unavailable)?;
    let (to, up) = mpsc::channel(1_024);
    let instances = {
        let seen = seen.lock().expect("no panic");
        seen.running.values().map(|at| report(at, phase_of(at))).collect()
    };
    let hello = AgentHello {
        host: host.to_owned(),
        protocol: 1,
        isolation: "none".to_owned(),
        instances,
        ..AgentHello::default()
    };
    send(&to, agent_up::Message::Hello(hello)).await;
    let mut down: Streaming<AgentDown> = client.agent(authorized(ReceiverStream::new(up), &token)).await?.into_inner();
    let mut reading = tokio::time::interval(Duration::from_millis(100));
    let mut named = BTreeSet::new();
    loop {
        let message = tokio::select! {
            message = down.message() => message?,
            _ = reading.tick() => {
                let samples = samples(seen);
                send(&to, agent_up::Message::Samples(samples)).await;
                for scraped in scraped(seen, &mut named) {
                    send(&to, agent_up::Message::Scraped(scraped)).await;
                }
                continue;
            }
        };
        let Some(message) = message else { return Ok(()) };
        match message.message {
            Some(agent_down::Message::Assignments(assignments)) => take(seen, assignments, &to).await,
            Some(agent_down::Message::Log(request)) => {
                let data = format!("log of {}, {} lines\n", request.instance, request.tail_lines).into_bytes();
                let end = !request.follow;
                send(&to, agent_up::Message::Log(LogChunk { id: request.id, data, end, error: String::new() })).await;
            }
            Some(agent_down::Message::LogCancel(cancel)) => {
                seen.lock().expect("no panic").cancelled_logs.insert(cancel.id);
            }
            Some(agent_down::Message::Policies(policies)) => {
                let taken = PoliciesTaken { revision: policies.revision };
                seen.lock().expect("no panic").policies = policies;
                send(&to, agent_up::Message::Policies(taken)).await;
            }
            Some(agent_down::Message::FastSampling(wish)) => {
                seen.lock().expect("no panic").fast.extend(wish.services);
            }
            None => {}
        }
    }
}

/// A tenth of a core for each instance, by the wall clock.
fn samples(seen: &Mutex<Seen>) -> AgentSamples {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let now_us = now.as_micros() as u64;
    let seen = seen.lock().expect("no panic");
    let slices = seen.running.values().map(|at| SliceSample {
        instance: at.instance.clone(),
        service: at.service.clone(),
        cpu_usage_us: now_us / 10 % 1_000_000_000_000,
        memory_bytes: 1 << 20,
        pids: 3,
        time_unix_us: now_us,
        ..SliceSample::default()
    });
    AgentSamples { time_unix_ms: now_us / 1_000, slices: slices.collect(), ..AgentSamples::default() }
}

/// One number of each instance that is asked for its own, its name once in a stream.
fn scraped(seen: &Mutex<Seen>, named: &mut BTreeSet<String>) -> Vec<Scraped> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seen = seen.lock().expect("no panic");
    let asked = seen.running.values().filter_map(|at| Some((at, at.metrics.as_ref()?)));
    let scraped = asked.map(|(at, metrics)| {
        let label = vec!["path".to_owned(), metrics.path.clone()];
        let series = ScrapedSeries { id: 7, name: "draws_total".into(), label };
        Scraped {
            instance: at.instance.clone(),
            service: at.service.clone(),
            time_unix_ms: now.as_millis() as u64,
            series: named.insert(at.instance.clone()).then_some(series).into_iter().collect(),
            id: vec![7],
            value: vec![now.as_millis() as f64],
            ..Scraped::default()
        }
    });
    scraped.collect()
}

async fn send(to: &mpsc::Sender<AgentUp>, message: agent_up::Message) {
    // The stream may have ended; the next session reports anew.
    let _ = to.send(AgentUp { message: Some(message) }).await;
}

fn phase_of(at: &Assignment) -> Phase {
    match at.intent() {
        Intent::Deployed => Phase::Deployed,
        _ => Phase::Healthy,
    }
}

fn report(at: &Assignment, phase: Phase) -> InstanceReport {
    InstanceReport {
        instance: at.instance.clone(),
        service: at.service.clone(),
        phase: phase as i32,
        since_unix_ms: 1,
        pid: 4_242,
        package_digest: at.package_digest.clone(),
        config_digest: at.config_digest.clone(),
        ports: at.ports.clone(),
        ..InstanceReport::default()
    }
}

async fn take(seen: &Arc<Mutex<Seen>>, assignments: Assignments, to: &mpsc::Sender<AgentUp>) {
    let mut reports = Vec::new();
    {
        let mut seen = seen.lock().expect("no panic");
        seen.mesh = assignments.mesh_address.clone();
        let mut gone = assignments.remove.clone();
        if assignments.snapshot {
            seen.snapshots += 1;
            let listed: BTreeSet<&String> = assignments.set.iter().map(|at| &at.instance).collect();
            gone.extend(seen.running.keys().filter(|id| !listed.contains(id)).cloned());
        }
        for at in assignments.set {
            let file = at.config_files.get("worker.conf").cloned().unwrap_or_default();
            seen.given.entry(at.instance.clone()).or_insert(file);
            let before = seen.running.get(&at.instance).map(|at| at.intent());
            if at.intent() == Intent::Running && before != Some(Intent::Running) {
                *seen.starts.entry(at.instance.clone()).or_default() += 1;
                reports.push(report(&at, Phase::Starting));
            }
            reports.push(report(&at, phase_of(&at)));
            seen.running.insert(at.instance.clone(), at);
        }
        for instance in gone {
            if let Some(at) = seen.running.remove(&instance) {
                *seen.stops.entry(instance).or_default() += 1;
                reports.push(report(&at, Phase::Stopped));
            }
        }
    }
    for report in reports {
        send(to, agent_up::Message::Reports(InstanceReports { instances: vec![report] })).await;
    }
}
