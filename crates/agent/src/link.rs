//! The stream to the server: hello, then reports, samples and logs up, wishes down; connected again for ever.
//!
//! Nothing an instance needs depends on it.

use crate::Numbers;
use crate::host::Host;
use crate::logs::{self, LOG_REQUESTS_MAX};
use crate::policies;
use crate::sampler;
use crate::up::{Up, UpCodec};
use api::fleet::{AgentDown, AgentHello, Assignments, InstanceReports, agent_down, agent_up};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// The method of the service.
const PATH: &str = "/springtide.v1.Fleet/Agent";
/// Version of the stream's protocol.
const PROTOCOL: u32 = 1;
/// Messages waiting to be sent.
const UP_QUEUE_MAX: usize = 64;
/// Shortest and longest wait before connecting again, in milliseconds. A restarted server decides nothing before a quorum
/// of agents has reported: the longest wait bounds that time.
const RECONNECT_MS: (u64, u64) = (100, 1_000);
/// Longest wait for a connection, in milliseconds.
const CONNECT_MS_MAX: u64 = 3_000;
/// A silent connection is asked for a sign of life this often, and given up after as long again, in milliseconds.
const KEEP_ALIVE_MS: u64 = 5_000;
/// Largest message taken: a snapshot carries config files.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The link.
pub struct Link {
    /// What instances share.
    pub host: Arc<Host>,
    /// The server.
    pub endpoint: Endpoint,
    /// `Bearer …`.
    pub bearer: MetadataValue<Ascii>,
    /// How instances are isolated, as reported.
    pub isolation: &'static str,
    /// Assignments go here.
    pub downs: mpsc::Sender<Assignments>,
    /// Samples and readings come from here.
    pub numbers: Numbers,
    /// Of the last assignments taken.
    pub revision: Arc<AtomicU64>,
}

/// Builds the endpoint of a server.
///
/// # Errors
/// When the address is no URL.
pub fn endpoint(server: &str) -> Result<Endpoint, tonic::transport::Error> {
    let keep_alive = Duration::from_millis(KEEP_ALIVE_MS);
    Ok(Endpoint::from_shared(server.to_owned())?
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

impl Link {
    /// Connects for ever.
    pub async fn run(mut self) {
        let mut wait_ms = RECONNECT_MS.0;
        let random = RandomState::new();
        for attempt in 0_u64.. {
            let mut heard = false;
            let ended = self.session(&mut heard).await;
            if heard {
                wait_ms = RECONNECT_MS.0;
            }
            match ended {
                Ok(()) => tracing::info!("the server closed the stream"),
                Err(status) if status.code() == tonic::Code::Unauthenticated => {
                    tracing::error!("the server refuses the token: {}", status.message());
                }
                Err(status) => tracing::info!("no stream to the server: {}", status.message()),
            }
            // Spread over the upper half, lest a fleet comes back in step.
            let spread_ms = random.hash_one(attempt) % (wait_ms / 2 + 1);
            tokio::time::sleep(Duration::from_millis(wait_ms - spread_ms)).await;
            wait_ms = (wait_ms * 2).min(RECONNECT_MS.1);
        }
    }

    async fn session(&mut self, heard: &mut bool) -> Result<(), Status> {
        let channel = self.endpoint.connect().await.map_err(|error| Status::unavailable(root_cause(&error)))?;
        let (out, messages) = mpsc::channel(UP_QUEUE_MAX);
        // Samples from before are worthless now.
        while self.numbers.samples.try_recv().is_ok() {}
        let stream = self.host.scrapes.new_stream();
        let hello = agent_up::Message::Hello(self.hello());
        out.send(hello.into()).await.map_err(|_| Status::internal("the queue is new"))?;
        let inbound = self.open(channel, messages).await?;
        let (host, downs) = (Arc::clone(&self.host), self.downs.clone());
        tokio::select! {
            ended = receive(host, downs, inbound, out.clone(), heard) => ended,
            () = send(&self.host, &mut self.numbers, stream, out) => Ok(()),
        }
    }

    async fn open(&self, channel: Channel, messages: mpsc::Receiver<Up>) -> Result<Streaming<AgentDown>, Status> {
        let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", self.bearer.clone());
        client.ready().await.map_err(|error| Status::unavailable(root_cause(&error)))?;
        Ok(client.streaming(request, PathAndQuery::from_static(PATH), UpCodec).await?.into_inner())
    }

    fn hello(&self) -> AgentHello {
        let (cpu_millis, memory_bytes) = sampler::machine();
        AgentHello {
            host: self.host.name.clone(),
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.host.boot_id.clone(),
            isolation: self.isolation.to_owned(),
            cpu_millis,
            memory_bytes,
            instances: self.host.board.take_all(),
            revision: self.revision.load(Ordering::Relaxed),
        }
    }
}

/// Passes on whatever there is to tell, until nobody listens.
async fn send(host: &Host, numbers: &mut Numbers, stream: u64, out: mpsc::Sender<Up>) {
    loop {
        let up = tokio::select! {
            instances = host.board.take_news() => agent_up::Message::Reports(InstanceReports { instances }).into(),
            Some(samples) = numbers.samples.recv() => Up::Encoded(samples),
            Some((of, reading)) = numbers.readings.recv() => match of == stream {
                true => reading,
                // Written for a stream that has ended: its numbers stand for other names now.
                false => continue,
            },
        };
        if out.send(up).await.is_err() {
            return;
        }
    }
}

async fn receive(
    host: Arc<Host>,
    downs: mpsc::Sender<Assignments>,
    mut inbound: Streaming<AgentDown>,
    out: mpsc::Sender<Up>,
    heard: &mut bool,
) -> Result<(), Status> {
    // Dropped with the stream: a log request does not outlive it.
    let mut tails: JoinSet<()> = JoinSet::new();
    let mut cancels: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    while let Some(AgentDown { message }) = inbound.message().await? {
        *heard = true;
        while tails.try_join_next().is_some() {}
        cancels.retain(|_, tail| !tail.is_finished());
        match message {
            Some(agent_down::Message::Assignments(assignments)) => {
                if downs.send(assignments).await.is_err() {
                    return Ok(());
                }
            }
            Some(agent_down::Message::Policies(policies)) => {
                if let Some(taken) = policies::take(&host, policies).await
                    && out.send(agent_up::Message::Policies(taken).into()).await.is_err()
                {
                    return Ok(());
                }
            }
            Some(agent_down::Message::FastSampling(fast)) => host.sampler.fast(fast.services, fast.life_ms),
            Some(agent_down::Message::Log(request)) if tails.len() < LOG_REQUESTS_MAX => {
                let id = request.id;
                cancels.insert(id, tails.spawn(logs::serve(Arc::clone(&host), request, out.clone())));
            }
            Some(agent_down::Message::Log(request)) => {
                let error = format!("{LOG_REQUESTS_MAX} logs are being read on this host already: try again later");
                let refusal = api::fleet::LogChunk { id: request.id, end: true, error, data: Vec::new() };
                let _ends_with_the_stream = out.send(agent_up::Message::Log(refusal).into()).await;
            }
            Some(agent_down::Message::LogCancel(cancel)) => {
                if let Some(tail) = cancels.remove(&cancel.id) {
                    tail.abort();
                }
            }
            None => tracing::warn!("the server sent a message this agent does not know: it is newer"),
        }
    }
    Ok(())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
