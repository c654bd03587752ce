//! The xDS client: aggregated, state of the world, over one stream (the xDS protocol page of Envoy's documentation).
//!
//! Whatever happens to the stream, the last good state stays in force. Delta xDS is absent: a state-of-the-world answer
//! for endpoints holds only what changed already.

pub mod policies;
mod resolve;
pub mod resources;
pub mod saved;
pub mod state;

use crate::endpoint::Clock;
use crate::table::Table;
use crate::{Config, Error, Warnings};
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use policies::{POLICIES, Policies};
use resources::{CLUSTER, ENDPOINTS, LISTENER, ROUTES};
use state::State;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// The types, in the order in which they are asked for and saved: what is referred to goes first.
pub const TYPES: &[&str] = &[CLUSTER, ENDPOINTS, LISTENER, ROUTES];
/// All that is asked for: policies first, since they must be in force before the first route is.
const ASKED: &[&str] = &[POLICIES, CLUSTER, ENDPOINTS, LISTENER, ROUTES];
/// First wait before a new stream; doubles up to [`BACK_OFF_MS_MAX`], each with full jitter.
const BACK_OFF_MS: u64 = 100;
/// Longest wait before a new stream.
const BACK_OFF_MS_MAX: u64 = 1_000;
/// A stream that lived this long starts the back-off anew.
const STREAM_GOOD: Duration = Duration::from_secs(10);
/// Requests on their way to the server.
const REQUESTS_QUEUED_MAX: usize = 64;
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Time to connect to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between pings on a silent stream, and for their answer: a lost server is noticed within both.
const PING: Duration = Duration::from_secs(5);
/// Time between a change and its saving, so that a burst is written once.
const SAVE_DELAY: Duration = Duration::from_millis(300);
/// Between saves at least this many times as long as one takes to encode: a large fleet's state costs at most 5%.
const SAVE_SHARE: u32 = 20;
/// `INVALID_ARGUMENT`, as a NACK says.
const INVALID_ARGUMENT: i32 = 3;

/// A channel to the server that connects when used.
pub fn channel(server: &str) -> Result<Channel, Error> {
    let wrong = |what: String| Error::Server { server: server.to_owned(), what };
    if !server.starts_with("http://") {
        return Err(wrong("another scheme, or none".to_owned()));
    }
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    Ok(endpoint.connect_lazy())
}

/// A request with the fleet token.
pub fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    match format!("Bearer {token}").parse::<MetadataValue<Ascii>>() {
        Ok(value) => drop(request.metadata_mut().insert("authorization", value)),
        Err(_) => tracing::error!("the fleet token is not visible ASCII: sending none"),
    }
    request
}

/// Waits before another attempt, longer each time.
#[derive(Debug)]
pub struct BackOff {
    next_ms: u64,
    began: Instant,
}

impl Default for BackOff {
    /// At its shortest.
    fn default() -> Self {
        Self { next_ms: BACK_OFF_MS, began: Instant::now() }
    }
}

impl BackOff {
    /// An attempt begins.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// The attempt ended: waits.
    pub async fn wait(&mut self) {
        if self.began.elapsed() >= STREAM_GOOD {
            self.next_ms = BACK_OFF_MS;
        }
        let wait_ms = rand::random_range(self.next_ms / 2..=self.next_ms);
        self.next_ms = (self.next_ms * 2).min(BACK_OFF_MS_MAX);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// The client.
pub struct Client {
    config: Arc<Config>,
    clock: Clock,
    warnings: Arc<Warnings>,
    state: State,
    policies: Policies,
    /// Version last accepted, by type.
    versions: HashMap<&'static str, String>,
    tables: watch::Sender<Arc<Table>>,
    /// Changes since the last save began.
    unsaved: bool,
    save_due: Instant,
    saves: mpsc::Sender<Vec<u8>>,
    saver: JoinHandle<()>,
    resolver: resolve::Resolver,
}

/// What one stream knows.
#[derive(Default)]
struct Asked {
    nonces: HashMap<&'static str, String>,
    names: HashMap<&'static str, BTreeSet<String>>,
}

impl Client {
    /// Starts from the saved state, if there is one.
    pub fn new(config: Arc<Config>, clock: Clock, warnings: Arc<Warnings>, tables: watch::Sender<Arc<Table>>) -> Self {
        let state = match saved::load(&config.state) {
            Ok(Some(state)) => {
                tracing::info!(path = %config.state.display(), "serving the saved state until the server answers");
                state
            }
            Ok(None) => State::default(),
            Err(error) => {
                tracing::error!(%error, "starting without a saved state");
                State::default()
            }
        };
        let policies = Policies::load(&config.state, &config.datacenter, clock);
        let (saves, to_save) = mpsc::channel(1);
        let saver = tokio::spawn(save_changes(Arc::clone(&config), to_save));
        let mut client = Self {
            config,
            clock,
            warnings,
            state,
            policies,
            versions: HashMap::new(),
            tables,
            unsaved: false,
            save_due: Instant::now(),
            saves,
            saver,
            resolver: resolve::Resolver::start(),
        };
        client.publish();
        client
    }

    fn publish(&mut self) {
        self.resolver.ask(self.state.names());
        let table = Table { policies: self.policies.in_force(), ..self.state.table() };
        self.tables.send_replace(Arc::new(table));
    }

    /// Follows the server for ever.
    pub async fn run(&mut self, channel: Channel) {
        let mut back_off = BackOff::default();
        loop {
            back_off.begin();
            match self.stream(channel.clone()).await {
                Ok(()) => tracing::info!("xds stream ended; the last good state stays in force"),
                Err(status) => {
                    tracing::warn!(code = ?status.code(), message = status.message(), "xds stream broke; the last good state stays in force");
                }
            }
            let waited = back_off.wait();
            let mut waited = std::pin::pin!(waited);
            loop {
                tokio::select! {
                    () = &mut waited => break,
                    () = self.aside() => {}
                }
            }
        }
    }

    /// Saves what is not saved yet.
    pub async fn finish(self) {
        if self.unsaved && self.saves.send(saved::encode(&self.state)).await.is_err() {
            tracing::error!("the last good state is not saved: its writer is gone");
        }
        drop(self.saves);
        // It logs its own failures.
        let _ = self.saver.await;
    }

    /// Waits for whatever is due beside the stream, and does it.
    async fn aside(&mut self) {
        tokio::select! {
            Some((name, addresses)) = self.resolver.next() => {
                if self.state.resolve(name, addresses) {
                    self.publish();
                }
            }
            () = tokio::time::sleep_until(self.save_due), if self.unsaved => self.save(),
        }
    }

    /// Hands the state to the one who writes; while he is busy, changes gather.
    fn save(&mut self) {
        self.save_due = Instant::now() + SAVE_DELAY;
        if let Ok(place) = self.saves.try_reserve() {
            let began = Instant::now();
            place.send(saved::encode(&self.state));
            self.unsaved = false;
            self.save_due += began.elapsed() * SAVE_SHARE;
        }
    }

    async fn stream(&mut self, channel: Channel) -> Result<(), tonic::Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let (to, requests) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let mut asked = Asked::default();
        for request in self.initial(&mut asked) {
            // Fits: the queue is larger than the number of types, and empty.
            to.try_send(request).map_err(|error| tonic::Status::internal(error.to_string()))?;
        }
        let request = authorized(ReceiverStream::new(requests), &self.config.token);
        let mut opening = std::pin::pin!(client.stream_aggregated_resources(request));
        let mut answers = loop {
            tokio::select! {
                opened = &mut opening => break opened?.into_inner(),
                () = self.aside() => {}
            }
        };
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Ok(()) };
                    for request in self.take(&answer, &mut asked) {
                        if to.send(request).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                () = self.aside() => {}
            }
        }
    }

    fn node(&self) -> Node {
        Node {
            id: self.config.name.clone(),
            cluster: "springtide-proxy".to_owned(),
            locality: Some(Locality { zone: self.config.datacenter.clone(), ..Default::default() }),
            user_agent_name: "springtide".to_owned(),
            ..Default::default()
        }
    }

    fn wanted(&self, type_url: &str) -> BTreeSet<String> {
        match type_url {
            ENDPOINTS => self.state.assignment_names(),
            ROUTES => self.state.route_names(),
            _ => BTreeSet::new(),
        }
    }

    fn initial(&self, asked: &mut Asked) -> Vec<DiscoveryRequest> {
        let first = |type_url: &&'static str| {
            // Whoever does not enforce policies must not confirm them.
            if *type_url == POLICIES && self.config.protection.is_none() {
                return None;
            }
            let names = self.wanted(type_url);
            // Asking for no name would subscribe to all: what depends on names waits until there are some.
            if names.is_empty() && matches!(*type_url, ENDPOINTS | ROUTES) {
                return None;
            }
            asked.names.insert(*type_url, names.clone());
            Some(self.request(type_url, names, ""))
        };
        let mut requests: Vec<_> = ASKED.iter().filter_map(first).collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node());
        }
        requests
    }

    fn request(&self, type_url: &str, names: BTreeSet<String>, nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: self.versions.get(type_url).cloned().unwrap_or_default(),
            resource_names: names.into_iter().collect(),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        }
    }

    /// Takes an answer; returns the acknowledgement and whatever is to be asked for because of it.
    fn take(&mut self, answer: &DiscoveryResponse, asked: &mut Asked) -> Vec<DiscoveryRequest> {
        let Some(type_url) = ASKED.iter().copied().find(|known| *known == answer.type_url) else {
            tracing::warn!(type_url = answer.type_url, "answer of a type that was not asked for");
            return Vec::new();
        };
        let verdict = match type_url {
            POLICIES => self.policies.accept(&answer.resources),
            _ => self.state.accept(type_url, &answer.resources, self.clock.now_ms()),
        };
        asked.nonces.insert(type_url, answer.nonce.clone());
        if verdict.empty_ignored > 0 {
            self.warnings.empty_ignored.fetch_add(verdict.empty_ignored, Relaxed);
            tracing::warn!(type_url, count = verdict.empty_ignored, "empty answer ignored; the last good state stays");
        }
        let names = self.wanted(type_url);
        asked.names.insert(type_url, names.clone());
        if verdict.refused.is_empty() {
            self.versions.insert(type_url, answer.version_info.clone());
        }
        let mut acknowledgement = self.request(type_url, names, &answer.nonce);
        if !verdict.refused.is_empty() {
            let message = verdict.refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::warn!(type_url, message, "resources refused");
            self.warnings.refused.fetch_add(verdict.refused.len() as u64, Relaxed);
            acknowledgement.error_detail = Some(RpcStatus { code: INVALID_ARGUMENT, message, details: Vec::new() });
        }
        self.publish();
        if !self.unsaved && type_url != POLICIES {
            self.unsaved = true;
            self.save_due = self.save_due.max(Instant::now() + SAVE_DELAY);
        }
        let mut requests = vec![acknowledgement];
        requests.extend(self.follow_up(type_url, asked));
        requests
    }

    /// Subscriptions that changed because of an answer of another type.
    fn follow_up(&self, because_of: &str, asked: &mut Asked) -> Option<DiscoveryRequest> {
        let dependent = match because_of {
            CLUSTER => ENDPOINTS,
            LISTENER => ROUTES,
            _ => return None,
        };
        let names = self.wanted(dependent);
        if names.is_empty() || asked.names.get(dependent) == Some(&names) {
            return None;
        }
        asked.names.insert(dependent, names.clone());
        let nonce = asked.nonces.get(dependent).cloned().unwrap_or_default();
        Some(self.request(dependent, names, &nonce))
    }
}

/// Writes states, one after the other.
async fn save_changes(config: Arc<Config>, mut states: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = states.recv().await {
        let path = config.state.clone();
        let saved = tokio::task::spawn_blocking(move || saved::save(&path, &bytes)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "the last good state is not saved");
        }
    }
}
