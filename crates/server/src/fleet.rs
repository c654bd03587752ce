//! The streams of agents and proxies: hello first, then what they report goes to the control loop.
//!
//! What they are told is decided in the loop (`assign`, `links`); nothing is kept here but log requests on their way.

pub mod assign;
pub mod links;
pub mod listener;
pub mod logs;
pub mod scraped;

use crate::control_loop::{Input, Loop};
use crate::incidents::Incidents;
use crate::policies::Protect;
use api::fleet::fleet_server::Fleet;
use api::fleet::{
    AgentDown, AgentHello, AgentSamples, AgentUp, InstanceReport, LogRequest, ProxyDown, ProxyHello, ProxySamples,
    ProxyUp, agent_up, proxy_down, proxy_up,
};
use links::{AgentSender, DOWN_QUEUED_MAX, ProxySender};
use logs::Logs;
use model::HostName;
use scraped::{Readings, Told};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Version of the protocol spoken.
pub const PROTOCOL: u32 = 1;
/// Oldest version of the protocol understood.
const PROTOCOL_OLDEST: u32 = 1;
/// Time in which a stream must say hello.
const HELLO_SECONDS_MAX: u64 = 10;

/// What agents and proxies tell the loop.
pub enum FleetInput {
    /// An agent is here; answered with its epoch, or why it may not be.
    AgentHello(HostName, Box<AgentHello>, AgentSender, oneshot::Sender<Result<u64, Status>>),
    /// Instances changed.
    AgentReports(HostName, u64, Vec<InstanceReport>),
    /// Slices and the host were read.
    AgentSamples(HostName, u64, Arc<AgentSamples>),
    /// The stream ended.
    AgentGone(HostName, u64),
    /// The policies of a revision are written on a host.
    AgentPolicies(HostName, u64, u64),
    /// Proxies are asked something; answered with the names of those that were.
    AskProxies(Box<proxy_down::Message>, oneshot::Sender<Vec<String>>),
    /// A proxy is here.
    ProxyHello(Box<ProxyHello>, ProxySender, oneshot::Sender<u64>),
    /// Edges were read.
    ProxySamples(String, u64, Arc<ProxySamples>),
    /// The stream ended.
    ProxyGone(String, u64),
    /// A client wants a log; answered whether the agent was told.
    LogRequest(HostName, LogRequest, oneshot::Sender<bool>),
    /// The client has gone.
    LogCancel(HostName, u64),
}

/// The service.
#[derive(Clone)]
pub struct FleetService {
    control: Loop,
    logs: Logs,
    protect: Protect,
    incidents: Incidents,
    readings: Readings,
}

impl FleetService {
    /// Reports to `control`, hands log chunks to `logs`, what proxies answer to `protect`, samples to `incidents`, too, and
    /// instances' own numbers to `series`.
    pub fn new(control: Loop, logs: Logs, protect: Protect, incidents: Incidents, series: Arc<metrics::Store>) -> Self {
        Self { control, logs, protect, incidents, readings: Readings::new(series) }
    }

    async fn tell(&self, input: FleetInput) -> Result<(), Status> {
        self.control.tell(Input::Fleet(input)).await.map_err(|ended| Status::unavailable(ended.to_string()))
    }

    /// Where instances' own numbers of this stream go.
    async fn told(&self, host: &HostName, epoch: u64) -> Result<Told, Status> {
        let of = host.clone();
        let datacenter = self.control.read(move |world| world.snapshot.datacenter_of(&of).map(ToString::to_string));
        let datacenter = datacenter.await.map_err(|ended| Status::unavailable(ended.to_string()))?;
        Ok(self.readings.begin(host.clone(), datacenter.unwrap_or_default(), epoch))
    }

    async fn agent_stream(
        &self,
        host: &HostName,
        epoch: u64,
        mut up: Streaming<AgentUp>,
        told: &mut Told,
    ) -> Result<(), Status> {
        while let Some(message) = up.message().await? {
            let host = host.clone();
            match message.message {
                Some(agent_up::Message::Reports(reports)) => {
                    self.tell(FleetInput::AgentReports(host, epoch, reports.instances)).await?;
                }
                Some(agent_up::Message::Samples(samples)) => {
                    let samples = Arc::new(samples);
                    self.incidents.agent(host.as_str(), &samples);
                    self.tell(FleetInput::AgentSamples(host, epoch, samples)).await?;
                }
                Some(agent_up::Message::Log(chunk)) => self.logs.take(chunk),
                Some(agent_up::Message::Scraped(reading)) => told.take(&reading),
                Some(agent_up::Message::Policies(taken)) => {
                    self.tell(FleetInput::AgentPolicies(host, epoch, taken.revision)).await?;
                }
                // A second hello changes nothing; an unknown message is one of a newer version.
                Some(agent_up::Message::Hello(_)) | None => {}
            }
        }
        Ok(())
    }

    async fn proxy_stream(&self, proxy: &str, epoch: u64, mut up: Streaming<ProxyUp>) -> Result<(), Status> {
        while let Some(message) = up.message().await? {
            match message.message {
                Some(proxy_up::Message::Samples(samples)) => {
                    let samples = Arc::new(samples);
                    self.incidents.proxy(proxy, &samples);
                    self.tell(FleetInput::ProxySamples(proxy.to_owned(), epoch, samples)).await?;
                }
                Some(proxy_up::Message::DryRun(found)) => self.protect.dry_runs.take(proxy, found.id, found),
                Some(proxy_up::Message::Lane(answer)) => self.protect.lanes.take(proxy, answer.id, answer),
                // A second hello changes nothing; an unknown message is one of a newer version.
                Some(proxy_up::Message::Hello(_)) | None => {}
            }
        }
        Ok(())
    }
}

fn check_protocol(theirs: u32) -> Result<(), Status> {
    if (PROTOCOL_OLDEST..=PROTOCOL).contains(&theirs) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "protocol version {theirs} is not spoken here, {PROTOCOL_OLDEST} to {PROTOCOL} are: upgrade the older side"
    )))
}

/// Waits for the first message of a stream.
async fn first<M>(up: &mut Streaming<M>) -> Result<M, Status> {
    let waited = tokio::time::timeout(Duration::from_secs(HELLO_SECONDS_MAX), up.message()).await;
    let message = waited.map_err(|_| Status::deadline_exceeded(format!("no hello within {HELLO_SECONDS_MAX} s")))?;
    message?.ok_or_else(|| Status::invalid_argument("the stream ended before its hello"))
}

type Down<M> = Pin<Box<dyn tokio_stream::Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl Fleet for FleetService {
    type AgentStream = Down<AgentDown>;
    type ProxyStream = Down<ProxyDown>;

    async fn agent(&self, request: Request<Streaming<AgentUp>>) -> Result<Response<Self::AgentStream>, Status> {
        let mut up = request.into_inner();
        let (to, down) = mpsc::channel(DOWN_QUEUED_MAX);
        let service = self.clone();
        // The answer must not wait for the hello: a client may send it only once the stream stands.
        tokio::spawn(async move {
            let (host, epoch) = match service.greet_agent(&mut up, to.clone()).await {
                Ok(greeted) => greeted,
                Err(refused) => return tell_client(&to, refused),
            };
            // From here on the loop's link alone keeps the stream open: when it drops the link, the stream ends.
            let weak = to.downgrade();
            drop(to);
            let ended = match service.told(&host, epoch).await {
                Ok(mut told) => {
                    let ended = service.agent_stream(&host, epoch, up, &mut told).await;
                    told.ended();
                    ended
                }
                Err(status) => Err(status),
            };
            if let (Err(status), Some(to)) = (ended, weak.upgrade()) {
                tell_client(&to, status);
            }
            // When the loop has ended nobody needs to know.
            let _ = service.tell(FleetInput::AgentGone(host, epoch)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(down))))
    }

    async fn proxy(&self, request: Request<Streaming<ProxyUp>>) -> Result<Response<Self::ProxyStream>, Status> {
        let mut up = request.into_inner();
        let (to, down) = mpsc::channel(DOWN_QUEUED_MAX);
        let service = self.clone();
        tokio::spawn(async move {
            let (proxy, epoch) = match service.greet_proxy(&mut up, to.clone()).await {
                Ok(greeted) => greeted,
                Err(refused) => return tell_client(&to, refused),
            };
            let weak = to.downgrade();
            drop(to);
            let ended = service.proxy_stream(&proxy, epoch, up).await;
            if let (Err(status), Some(to)) = (ended, weak.upgrade()) {
                tell_client(&to, status);
            }
            let _ = service.tell(FleetInput::ProxyGone(proxy, epoch)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(down))))
    }
}

/// Ends a stream with a status, if anybody still reads it.
fn tell_client<M>(to: &mpsc::Sender<Result<M, Status>>, status: Status) {
    // A client that is gone, or does not read, sees the stream end all the same.
    let _ = to.try_send(Err(status));
}

impl FleetService {
    async fn greet_agent(&self, up: &mut Streaming<AgentUp>, to: AgentSender) -> Result<(HostName, u64), Status> {
        let Some(agent_up::Message::Hello(hello)) = first(up).await?.message else {
            return Err(Status::invalid_argument("the first message of an agent is its hello"));
        };
        check_protocol(hello.protocol)?;
        let host = HostName::new(&hello.host).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (reply, epoch) = oneshot::channel();
        self.tell(FleetInput::AgentHello(host.clone(), Box::new(hello), to, reply)).await?;
        let epoch = epoch.await.map_err(|_| Status::unavailable("the server is shutting down"))??;
        Ok((host, epoch))
    }

    async fn greet_proxy(&self, up: &mut Streaming<ProxyUp>, to: ProxySender) -> Result<(String, u64), Status> {
        let Some(proxy_up::Message::Hello(hello)) = first(up).await?.message else {
            return Err(Status::invalid_argument("the first message of a proxy is its hello"));
        };
        check_protocol(hello.protocol)?;
        if hello.proxy.is_empty() {
            return Err(Status::invalid_argument("a proxy needs a name"));
        }
        let name = hello.proxy.clone();
        let (reply, epoch) = oneshot::channel();
        self.tell(FleetInput::ProxyHello(Box::new(hello), to, reply)).await?;
        let epoch = epoch.await.map_err(|_| Status::unavailable("the server is shutting down"))?;
        Ok((name, epoch))
    }
}
