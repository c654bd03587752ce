//! ADS: naming for the data plane. Stock Envoy and our own proxy read the same resources.
//!
//! Delta xDS is absent: a state-of-the-world answer for endpoints carries only the clusters that changed, which is
//! what delta would save.

pub mod cache;
pub mod encode;
pub mod followers;
pub mod stream;

use crate::policies::enforcers::Enforcers;
use cache::Cache;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use followers::Followers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Streams served at once.
const STREAMS_MAX: u32 = 20_000;
/// Answers waiting in one stream; beyond it changes gather in the cache instead.
const ANSWERS_QUEUED_MAX: usize = 4;

/// The service.
#[derive(Debug, Clone, Default)]
pub struct Ads {
    cache: Cache,
    followers: Followers,
    enforcers: Enforcers,
    streams: Arc<AtomicU32>,
}

impl Ads {
    /// Serves `cache`, and keeps account of who follows it.
    pub fn new(cache: Cache, followers: Followers, enforcers: Enforcers) -> Self {
        Self { cache, followers, enforcers, streams: Arc::default() }
    }
}

/// Counts a stream while it lives.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Answers = ReceiverStream<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let counted = Counted(self.streams.clone());
        if self.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS_MAX {
            return Err(Status::resource_exhausted(format!("{STREAMS_MAX} xDS streams are open, the most allowed")));
        }
        let (to, answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let (cache, followers) = (self.cache.clone(), (self.followers.clone(), self.enforcers.clone()));
        let requests = request.into_inner();
        tokio::spawn(async move {
            let _counted = counted;
            serve(cache, followers, requests, to).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta xDS is not served: set api_type to GRPC (state of the world) in ads_config"))
    }
}

/// Carries one stream until either side ends it.
async fn serve(
    cache: Cache,
    (followers, enforcers): (Followers, Enforcers),
    mut requests: Streaming<DiscoveryRequest>,
    to: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut wakes = cache.wakes();
    let mut state = stream::Stream::new(cache.version());
    let mut seat = None;
    // Its name and datacenter, which only the first request says.
    let mut node = (String::new(), String::new());
    let mut enforces = None;
    loop {
        let answers = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    if let Some(said) = &request.node {
                        let zone = said.locality.as_ref().map(|at| at.zone.clone()).unwrap_or_default();
                        node = (said.id.clone(), zone);
                    }
                    seat.get_or_insert_with(|| followers.join(&node.0, Instant::now()));
                    match state.request(&cache, &request) {
                        Ok(answers) => answers,
                        Err(refused) => {
                            // The client may be gone already; then nobody needs to know.
                            let _ = to.send(Err(Status::invalid_argument(refused.to_string()))).await;
                            return;
                        }
                    }
                }
                Ok(None) | Err(_) => return,
            },
            woken = wakes.changed() => match woken {
                Ok(()) => state.changed(&cache),
                Err(_) => return,
            },
            () = to.closed() => return,
        };
        if let Some(seat) = &seat {
            seat.set(state.confirmed(), Instant::now());
        }
        if let Some((taken, refused)) = state.policies() {
            enforces.get_or_insert_with(|| enforcers.join(&node.0, &node.1)).set(taken, refused);
        }
        for answer in answers {
            if to.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

/// Where stock Envoy listens; our own proxy has addresses of its own.
const ENTRY_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 10_080);
/// The same for calls between services.
const MESH_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 10_081);

/// Puts the two listeners into the cache.
pub fn set_listeners(cache: &Cache) {
    cache.set(cache::Type::Listener, "entry", &encode::listener("entry", ENTRY_ADDRESS.into()));
    cache.set(cache::Type::Listener, "mesh", &encode::listener("mesh", MESH_ADDRESS.into()));
}
