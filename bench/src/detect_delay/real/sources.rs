//! Simulated agents and proxies: real streams of the real protocol, each with its hello, its counters and its samples.

mod counters;

use super::business::Business;
use super::cmdb::PACKAGE;
use super::process::Server;
use anyhow::{Context, Result};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{
    AgentHello, AgentSamples, AgentUp, InstanceReport, Phase, ProxyHello, ProxySamples, ProxyUp, agent_up, proxy_up,
};
use counters::Counters;
use model::Digest;
use std::collections::BTreeMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Proxies of each business.
const PROXIES: usize = 2;
/// Agents that share one connection; each has a stream of its own.
const AGENTS_A_CONNECTION: usize = 50;
/// Samples on their way in one stream.
const QUEUED_MAX: usize = 16;

/// All sources.
pub struct Sources {
    streams: Streams,
    counters: Vec<Counters>,
    readings: BTreeMap<String, AgentSamples>,
    edges: BTreeMap<String, ProxySamples>,
}

/// Name of a proxy.
fn proxy_name(business: u32, at: usize) -> String {
    format!("b{business}-proxy{at}")
}

/// The streams as they stand.
struct Streams {
    agents: BTreeMap<String, mpsc::Sender<AgentUp>>,
    proxies: BTreeMap<String, mpsc::Sender<ProxyUp>>,
    tasks: JoinSet<()>,
}

impl Streams {
    async fn connect(
        (url, token): (String, String),
        agents: Vec<Vec<AgentHello>>,
        proxies: Vec<String>,
    ) -> Result<Self> {
        let mut streams = Self { agents: BTreeMap::new(), proxies: BTreeMap::new(), tasks: JoinSet::new() };
        for some in agents {
            let channel = connect(&url).await?;
            for hello in some {
                let name = hello.host.clone();
                let to = agent(channel.clone(), &token, agent_up::Message::Hello(hello), &mut streams.tasks).await?;
                streams.agents.insert(name, to);
            }
        }
        for name in proxies {
            let to = proxy(connect(&url).await?, &token, &name, &mut streams.tasks).await?;
            streams.proxies.insert(name, to);
        }
        Ok(streams)
    }
}

impl Sources {
    /// Connects all of them; their streams live on `side`, so that generating a second holds none of them up.
    pub async fn connect(side: &Handle, server: &Server, businesses: &[Business]) -> Result<Self> {
        let mut agents = Vec::new();
        let mut proxies = Vec::new();
        for business in businesses {
            let hosts: Vec<u32> = (0..business.fleet.hosts.len() as u32).collect();
            let some = hosts.chunks(AGENTS_A_CONNECTION);
            agents.extend(some.map(|some| some.iter().map(|host| hello(business, *host)).collect()));
            proxies.extend((0..PROXIES).map(|at| proxy_name(business.number, at)));
        }
        let streams = side.spawn(Streams::connect(server.place()?, agents, proxies)).await??;
        let counters = businesses.iter().map(|business| Counters::new(business, PROXIES)).collect();
        Ok(Self { streams, counters, readings: BTreeMap::new(), edges: BTreeMap::new() })
    }

    /// Takes what a second brought a business.
    pub fn take(&mut self, business: &Business, second: u64) {
        let counters = &mut self.counters[business.number as usize];
        for (at, edges) in counters.edges(business).into_iter().enumerate() {
            let time_unix_us = (second + 1) * 1_000_000;
            let samples = ProxySamples { time_unix_us, edges, ..ProxySamples::default() };
            self.edges.insert(proxy_name(business.number, at), samples);
        }
        self.readings.extend(counters.readings(business, second));
    }

    /// Sends what was taken.
    pub async fn send(&mut self, second: u64) -> Result<()> {
        for (name, samples) in std::mem::take(&mut self.edges) {
            let message = Some(proxy_up::Message::Samples(samples));
            let to = self.streams.proxies.get(&name).context("a proxy that was connected")?;
            to.send(ProxyUp { message }).await.with_context(|| format!("{name} lost its stream in second {second}"))?;
        }
        for (name, samples) in std::mem::take(&mut self.readings) {
            let message = Some(agent_up::Message::Samples(samples));
            let to = self.streams.agents.get(&name).context("an agent that was connected")?;
            to.send(AgentUp { message }).await.with_context(|| format!("{name} lost its stream in second {second}"))?;
        }
        Ok(())
    }
}

async fn connect(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?)
}

fn authorized<T>(message: T, token: &str) -> Result<tonic::Request<T>> {
    let mut request = tonic::Request::new(message);
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

async fn agent(
    channel: Channel,
    token: &str,
    hello: agent_up::Message,
    streams: &mut JoinSet<()>,
) -> Result<mpsc::Sender<AgentUp>> {
    let (to, up) = mpsc::channel(QUEUED_MAX);
    to.send(AgentUp { message: Some(hello) }).await?;
    let mut client = FleetClient::new(channel);
    let mut down = client.agent(authorized(ReceiverStream::new(up), token)?).await?.into_inner();
    streams.spawn(async move { while let Ok(Some(_)) = down.message().await {} });
    Ok(to)
}

async fn proxy(channel: Channel, token: &str, name: &str, streams: &mut JoinSet<()>) -> Result<mpsc::Sender<ProxyUp>> {
    let (to, up) = mpsc::channel(QUEUED_MAX);
    let hello = ProxyHello {
        proxy: name.to_owned(),
        protocol: 1,
        version: "bench".to_owned(),
        datacenter: "dc0".to_owned(),
        entry: "127.0.0.1:9".to_owned(),
        ..ProxyHello::default()
    };
    to.send(ProxyUp { message: Some(proxy_up::Message::Hello(hello)) }).await?;
    let mut client = FleetClient::new(channel);
    let mut down = client.proxy(authorized(ReceiverStream::new(up), token)?).await?.into_inner();
    streams.spawn(async move { while let Ok(Some(_)) = down.message().await {} });
    Ok(to)
}

/// An agent that comes back to instances that run.
fn hello(business: &Business, host: u32) -> AgentHello {
    let fleet = &business.fleet;
    let package = Digest::of(PACKAGE).to_string();
    let here = fleet.members.iter().filter(|member| member.host == host);
    let report = |member: &super::super::fleet::Member| InstanceReport {
        instance: member.name.clone(),
        service: fleet.services[member.service as usize].name.clone(),
        phase: Phase::Healthy as i32,
        since_unix_ms: 1,
        pid: 1,
        package_digest: package.clone(),
        ..InstanceReport::default()
    };
    AgentHello {
        host: fleet.hosts[host as usize].name.clone(),
        protocol: 1,
        version: "bench".to_owned(),
        isolation: "none".to_owned(),
        cpu_millis: 64_000,
        memory_bytes: 256 << 30,
        instances: here.map(report).collect(),
        ..AgentHello::default()
    }
}
