//! A fleet listener for one agent: the stream and the packages, served for real, everything received kept for questions.

use api::fleet::fleet_server::{Fleet, FleetServer};
use api::fleet::{
    AgentDown, AgentHello, AgentSamples, AgentUp, Assignment, Assignments, InstanceReport, LogRequest, Phase,
    ProxyDown, ProxyUp, Scraped, agent_down, agent_up,
};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::Stream;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const TOKEN: &str = "secret";

#[derive(Default)]
pub struct Seen {
    pub hellos: Vec<AgentHello>,
    pub reports: Vec<InstanceReport>,
    pub samples: Vec<AgentSamples>,
    pub scraped: Vec<Scraped>,
    /// Revisions of policies that were confirmed.
    pub policies: Vec<u64>,
    pub logs: BTreeMap<u64, (Vec<u8>, bool, String)>,
    pub packages: BTreeMap<String, Vec<u8>>,
    pub package_gets: u32,
    down: Option<mpsc::Sender<Result<AgentDown, Status>>>,
    /// Sent first on every new stream.
    pub snapshot: Option<Assignments>,
}

#[derive(Clone, Default)]
pub struct FakeFleet {
    seen: Arc<Mutex<Seen>>,
}

pub struct Listener {
    pub fleet: FakeFleet,
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("address"), FakeFleet::default()).await
    }

    pub async fn start_on(address: SocketAddr, fleet: FakeFleet) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = tonic::service::Routes::new(FleetServer::new(fleet.clone()))
            .into_axum_router()
            .route("/v1/packages/{digest}/blob", axum::routing::get(blob).with_state(fleet.clone()));
        let serving = tonic::transport::Server::builder()
            .accept_http1(true)
            .add_routes(router.into())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("served") });
        Self { fleet, address, task }
    }

    /// Ends listener and streams.
    pub async fn stop(self) -> FakeFleet {
        self.task.abort();
        let _aborted = self.task.await;
        self.fleet.seen().down = None;
        self.fleet
    }
}

async fn blob(
    State(fleet): State<FakeFleet>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Vec<u8>, StatusCode> {
    if headers.get("authorization").is_none_or(|value| value != "Bearer secret") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut seen = fleet.seen();
    seen.package_gets += 1;
    seen.packages.get(&digest).cloned().ok_or(StatusCode::NOT_FOUND)
}

impl FakeFleet {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no test panics while it holds it")
    }

    pub async fn send(&self, message: agent_down::Message) {
        let down = self.seen().down.clone().expect("an agent is connected");
        down.send(Ok(AgentDown { message: Some(message) })).await.expect("an agent is connected");
    }

    pub async fn set(&self, revision: u64, set: Vec<Assignment>, remove: &[&str]) {
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        let delta = Assignments { revision, snapshot: false, set, remove, mesh_address: "127.0.0.1:9".into() };
        self.send(agent_down::Message::Assignments(delta)).await;
    }

    pub async fn snapshot(&self, revision: u64, set: Vec<Assignment>) {
        let snapshot = Assignments { revision, snapshot: true, set, ..Default::default() };
        self.send(agent_down::Message::Assignments(snapshot)).await;
    }

    /// Waits for something to be true of what was seen.
    pub async fn until<T>(&self, what: &str, check: impl Fn(&Seen) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(value) = check(&self.seen()) {
                return value;
            }
            if Instant::now() > until {
                let reports = self.seen().reports.clone();
                panic!("waited in vain for {what}; last reports {:#?}", &reports[reports.len().saturating_sub(3)..]);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn connected(&self, hellos: usize) -> AgentHello {
        self.until("a hello", |seen| seen.hellos.get(hellos - 1).cloned()).await
    }

    /// Waits until the latest report of an instance has this phase.
    pub async fn phase(&self, instance: &str, phase: Phase) -> InstanceReport {
        self.report(instance, &format!("{phase:?}"), |report| report.phase() == phase).await
    }

    /// Waits until any report of an instance holds: what is soon over may be told and gone before it is looked for.
    pub async fn ever(&self, instance: &str, what: &str, check: impl Fn(&InstanceReport) -> bool) -> InstanceReport {
        let holds = |report: &&InstanceReport| report.instance == instance && check(report);
        self.until(&format!("{instance} {what}"), |seen| seen.reports.iter().find(holds).cloned()).await
    }

    pub async fn report(&self, instance: &str, what: &str, check: impl Fn(&InstanceReport) -> bool) -> InstanceReport {
        let latest = |seen: &Seen| seen.reports.iter().rev().find(|report| report.instance == instance).cloned();
        self.until(&format!("{instance} {what}"), |seen| latest(seen).filter(&check)).await
    }

    pub async fn log(&self, id: u64, instance: &str, tail_lines: u32, follow: bool) {
        let request = LogRequest { id, instance: instance.into(), tail_lines, follow };
        self.send(agent_down::Message::Log(request)).await;
    }
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Fleet for FakeFleet {
    type AgentStream = Stream_<AgentDown>;
    type ProxyStream = Stream_<ProxyDown>;

    async fn agent(&self, request: Request<Streaming<AgentUp>>) -> Result<Response<Self::AgentStream>, Status> {
        if request.metadata().get("authorization").is_none_or(|value| value != "Bearer secret") {
            return Err(Status::unauthenticated("wrong token"));
        }
        let (down, messages) = mpsc::channel(64);
        let mut up = request.into_inner();
        let fleet = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(AgentUp { message: Some(message) })) = up.message().await {
                fleet.take(message, &down);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn proxy(&self, _: Request<Streaming<ProxyUp>>) -> Result<Response<Self::ProxyStream>, Status> {
        Err(Status::unimplemented("agents only"))
    }
}

impl FakeFleet {
    fn take(&self, message: agent_up::Message, down: &mpsc::Sender<Result<AgentDown, Status>>) {
        let mut seen = self.seen();
        match message {
            agent_up::Message::Hello(hello) => {
                seen.reports.extend(hello.instances.clone());
                seen.hellos.push(hello);
                seen.down = Some(down.clone());
                if let Some(snapshot) = seen.snapshot.clone() {
                    let message = Some(agent_down::Message::Assignments(snapshot));
                    down.try_send(Ok(AgentDown { message })).expect("the queue is new");
                }
            }
            agent_up::Message::Reports(reports) => seen.reports.extend(reports.instances),
            agent_up::Message::Samples(samples) => seen.samples.push(samples),
            agent_up::Message::Scraped(scraped) => seen.scraped.push(scraped),
            agent_up::Message::Policies(taken) => seen.policies.push(taken.revision),
            agent_up::Message::Log(chunk) => {
                let log = seen.logs.entry(chunk.id).or_default();
                log.0.extend(chunk.data);
                log.1 |= chunk.end;
                log.2.push_str(&chunk.error);
            }
        }
    }
}
