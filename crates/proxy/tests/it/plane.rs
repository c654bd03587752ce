//! A control plane: a real ADS server and fleet listener on a runtime of its own, which can be killed.

use crate::world::World;
use api::fleet::fleet_server::{Fleet, FleetServer};
use api::fleet::{AgentDown, AgentUp, EdgeSample, FastSampling, ProxyDown, ProxyHello, ProxyUp, proxy_down, proxy_up};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Any;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const TOKEN: &str = "fleet-token";

type Resources = HashMap<&'static str, Vec<(String, Any)>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What came over the sample stream.
#[derive(Default)]
pub struct Heard {
    pub hello: Option<ProxyHello>,
    /// Newest sample of each edge, by caller, service, instance.
    pub edges: HashMap<(String, String, String), EdgeSample>,
    /// Sum of all bucket counts of each edge.
    pub buckets: HashMap<(String, String, String), u64>,
    /// Samples of each service.
    pub samples: HashMap<String, u64>,
    /// Newest count of each policy.
    pub policies: HashMap<String, api::fleet::PolicySample>,
    /// Newest sample of protection of each service.
    pub protection: HashMap<String, api::fleet::ProtectionSample>,
}

#[derive(Clone)]
struct Service {
    world: watch::Receiver<(u64, Arc<Resources>)>,
    /// Newest request of each type.
    requests: Arc<Mutex<HashMap<String, DiscoveryRequest>>>,
    nacks: Arc<Mutex<Vec<String>>>,
    heard: Arc<Mutex<Heard>>,
    fast: watch::Receiver<FastSampling>,
}

pub struct Plane {
    runtime: Option<Runtime>,
    address: SocketAddr,
    world: watch::Sender<(u64, Arc<Resources>)>,
    fast: watch::Sender<FastSampling>,
    service: Service,
}

impl Plane {
    pub fn start() -> Self {
        Self::at(testkit::address())
    }

    pub fn at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (world, receiver) = watch::channel((0, Arc::default()));
        let (fast, fast_receiver) = watch::channel(FastSampling::default());
        let service = Service {
            world: receiver,
            requests: Arc::default(),
            nacks: Arc::default(),
            heard: Arc::default(),
            fast: fast_receiver,
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tonic::transport::Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(service.clone()))
            .add_service(FleetServer::new(service.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Self { runtime: Some(runtime), address, world, fast, service }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn tell(&self, world: World) -> u64 {
        self.tell_raw(world.resources())
    }

    pub fn tell_raw(&self, resources: Resources) -> u64 {
        let version = self.world.borrow().0 + 1;
        self.world.send_replace((version, Arc::new(resources)));
        version
    }

    /// Every type was acknowledged (or refused) at this version.
    pub fn acknowledged(&self, version: u64) -> bool {
        let requests = self.service.requests.lock().expect("not poisoned");
        let world = self.world.borrow().1.clone();
        let policies = world.get_key_value(proxy::xds::policies::POLICIES).map(|(type_url, _)| type_url);
        proxy::xds::TYPES.iter().chain(policies).all(|t| requests.get(*t).is_some_and(|r| nonce_of(r) == Some(version)))
    }

    pub fn nacks(&self) -> Vec<String> {
        self.service.nacks.lock().expect("not poisoned").clone()
    }

    pub fn sample_fast(&self, service: &str, life_ms: u32) {
        self.fast.send_replace(FastSampling { services: vec![service.into()], life_ms });
    }

    pub fn heard<T>(&self, read: impl FnOnce(&Heard) -> T) -> T {
        read(&self.service.heard.lock().expect("not poisoned"))
    }

    pub fn version_of(&self, type_url: &str) -> Option<String> {
        let requests = self.service.requests.lock().expect("not poisoned");
        requests.get(type_url).map(|request| request.version_info.clone())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Waits until its sockets are closed: another may want the address.
        self.runtime.take().expect("lives until dropped").shutdown_timeout(Duration::from_secs(5));
    }
}

fn nonce_of(request: &DiscoveryRequest) -> Option<u64> {
    request.response_nonce.split(':').next()?.parse().ok()
}

fn check_token<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("authorization").and_then(|v| v.to_str().ok()) {
        Some(value) if value == format!("Bearer {TOKEN}") => Ok(()),
        _ => Err(Status::unauthenticated("no token")),
    }
}

impl Service {
    fn answer(&self, type_url: &str, names: &BTreeSet<String>, serial: u64) -> Option<DiscoveryResponse> {
        let (version, resources) = self.world.borrow().clone();
        if version == 0 {
            return None;
        }
        let (type_url, of_type) = resources.get_key_value(type_url)?;
        let resources =
            of_type.iter().filter(|(n, _)| names.is_empty() || names.contains(n)).map(|(_, any)| any.clone()).collect();
        Some(DiscoveryResponse {
            version_info: version.to_string(),
            resources,
            type_url: (*type_url).to_owned(),
            nonce: format!("{version}:{serial}"),
            ..Default::default()
        })
    }

    async fn serve(
        self,
        mut requests: Streaming<DiscoveryRequest>,
        to: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) {
        let mut world = self.world.clone();
        let mut subscribed = HashMap::<String, BTreeSet<String>>::new();
        let mut serial = 0;
        loop {
            let types: Vec<String> = tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    if let Some(error) = &request.error_detail {
                        self.nacks.lock().expect("not poisoned").push(error.message.clone());
                    }
                    let names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
                    let type_url = request.type_url.clone();
                    self.requests.lock().expect("not poisoned").insert(type_url.clone(), request);
                    let new = subscribed.insert(type_url.clone(), names.clone()) != Some(names);
                    if new { vec![type_url] } else { Vec::new() }
                }
                changed = world.changed() => {
                    if changed.is_err() { return }
                    subscribed.keys().cloned().collect()
                }
            };
            let all = std::iter::once(&proxy::xds::policies::POLICIES).chain(proxy::xds::TYPES);
            for type_url in all.filter(|t| types.iter().any(|s| s == **t)) {
                serial += 1;
                let answer = self.answer(type_url, &subscribed[*type_url], serial);
                if answer.is_some_and(|answer| to.try_send(Ok(answer)).is_err()) {
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        check_token(&request)?;
        let (to, answers) = mpsc::channel(16);
        tokio::spawn(self.clone().serve(request.into_inner(), to));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta"))
    }
}

#[tonic::async_trait]
impl Fleet for Service {
    type AgentStream = Answers<AgentDown>;
    type ProxyStream = Answers<ProxyDown>;

    async fn agent(&self, _: Request<Streaming<AgentUp>>) -> Result<Response<Self::AgentStream>, Status> {
        Err(Status::unimplemented("agents"))
    }

    async fn proxy(&self, request: Request<Streaming<ProxyUp>>) -> Result<Response<Self::ProxyStream>, Status> {
        check_token(&request)?;
        let mut up = request.into_inner();
        let heard = Arc::clone(&self.heard);
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                let mut heard = heard.lock().expect("not poisoned");
                match message.message {
                    Some(proxy_up::Message::Hello(hello)) => heard.hello = Some(hello),
                    Some(proxy_up::Message::Samples(samples)) => {
                        for policy in samples.policies {
                            heard.policies.insert(policy.policy.clone(), policy);
                        }
                        for service in samples.protection {
                            heard.protection.insert(service.service.clone(), service);
                        }
                        for edge in samples.edges {
                            let key = (edge.caller.clone(), edge.service.clone(), edge.instance.clone());
                            *heard.buckets.entry(key.clone()).or_default() += edge.bucket_count.iter().sum::<u64>();
                            *heard.samples.entry(edge.service.clone()).or_default() += 1;
                            heard.edges.insert(key, edge);
                        }
                    }
                    Some(proxy_up::Message::DryRun(_) | proxy_up::Message::Lane(_)) | None => {}
                }
            }
        });
        let (to, down) = mpsc::channel(4);
        let mut fast = self.fast.clone();
        tokio::spawn(async move {
            while fast.changed().await.is_ok() {
                let wish = fast.borrow_and_update().clone();
                let down = ProxyDown { message: Some(proxy_down::Message::FastSampling(wish)) };
                if to.send(Ok(down)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(down))))
    }
}
