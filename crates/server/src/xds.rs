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
use futures_util::{Stream, StreamExt};
use std::collections::VecDeque;
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
/// Answers made and not yet in that queue: what a client asks for without reading what it gets. More end its stream.
const ANSWERS_OWED_MAX: usize = 64;

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
///
/// Requests are read also while answers find no room: a client that reads only once its own requests are through, and a
/// server that reads only once its answers are, would wait for one another for ever.
async fn serve(
    cache: Cache,
    (followers, enforcers): (Followers, Enforcers),
    mut requests: impl Stream<Item = Result<DiscoveryRequest, Status>> + Unpin,
    to: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut wakes = cache.wakes();
    let mut state = stream::Stream::new(cache.view().version());
    let mut seat = None;
    // Its name and datacenter, which only the first request says.
    let mut node = (String::new(), String::new());
    let mut enforces = None;
    let mut owed: VecDeque<DiscoveryResponse> = VecDeque::new();
    loop {
        tokio::select! {
            request = requests.next() => {
                let Some(Ok(request)) = request else { return };
                if let Some(said) = &request.node {
                    let zone = said.locality.as_ref().map(|at| at.zone.clone()).unwrap_or_default();
                    node = (said.id.clone(), zone);
                }
                seat.get_or_insert_with(|| followers.join(&node.0, Instant::now()));
                match state.request(&cache, &request) {
                    Ok(answers) => owed.extend(answers),
                    Err(refused) => return end(&to, Status::invalid_argument(refused.to_string())),
                }
                if owed.len() > ANSWERS_OWED_MAX {
                    let why = format!("{ANSWERS_OWED_MAX} answers wait to be read: read them, then ask for more");
                    return end(&to, Status::resource_exhausted(why));
                }
            }
            // While answers are owed, changes gather in the cache.
            woken = wakes.changed(), if owed.is_empty() => match woken {
                Ok(()) => owed.extend(state.changed(&cache)),
                Err(_) => return,
            },
            place = to.reserve(), if !owed.is_empty() => {
                let (Ok(place), Some(answer)) = (place, owed.pop_front()) else { return };
                place.send(Ok(answer));
            }
            () = to.closed() => return,
        }
        if let Some(seat) = &seat {
            seat.set(state.confirmed(), Instant::now());
        }
        if let Some((taken, refused)) = state.policies() {
            enforces.get_or_insert_with(|| enforcers.join(&node.0, &node.1)).set(taken, refused);
        }
    }
}

/// Ends a stream with the reason, where the client still has room for it.
fn end(to: &mpsc::Sender<Result<DiscoveryResponse, Status>>, why: Status) {
    // A client that reads nothing, or is gone, sees the end without its reason.
    let _ = to.try_send(Err(why));
}

/// Where stock Envoy listens; our own proxy has addresses of its own.
const ENTRY_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 10_080);
/// The same for calls between services.
const MESH_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 10_081);

/// Puts the two listeners into the cache.
pub fn set_listeners(cache: &Cache) {
    let mut batch = cache.batch();
    batch.set(cache::Type::Listener, "entry", &encode::listener("entry", ENTRY_ADDRESS.into()));
    batch.set(cache::Type::Listener, "mesh", &encode::listener("mesh", MESH_ADDRESS.into()));
    batch.commit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn set_endpoints(cache: &Cache, names: &[String]) {
        let mut batch = cache.batch();
        names.iter().for_each(|name| batch.set(cache::Type::Endpoints, name, &encode::endpoints(name, &[], None)));
        batch.commit();
    }

    fn request(of: cache::Type, names: &[String]) -> Result<DiscoveryRequest, Status> {
        Ok(DiscoveryRequest { type_url: of.url().to_owned(), resource_names: names.to_vec(), ..Default::default() })
    }

    #[tokio::test]
    async fn requests_are_read_while_nobody_reads_the_answers() {
        let cache = Cache::default();
        let (ask, asked) = mpsc::channel(1);
        let (to, mut answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let serving = serve(cache.clone(), Default::default(), ReceiverStream::new(asked), to);
        let serving = tokio::spawn(serving);
        let names: Vec<String> = (0..20).map(|n| format!("service-{n}")).collect();
        set_endpoints(&cache, &names);
        // One answer each, of which only four have room: a server that waited for it would read no further.
        for n in 1..=names.len() {
            let asked = ask.send_timeout(request(cache::Type::Endpoints, &names[..n]), Duration::from_secs(10)).await;
            assert!(asked.is_ok(), "request {n} is not read");
        }
        // All that was asked for comes once it is read.
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < names.len() {
            let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv()).await.expect("comes");
            let answer = answer.expect("goes on").expect("is served");
            seen.extend(answer.resources.iter().map(|resource| resource.value.clone()));
        }
        drop(ask);
        serving.await.expect("ends with its requests");
    }

    #[tokio::test]
    async fn a_client_that_only_asks_is_ended() {
        let cache = Cache::default();
        let (ask, asked) = mpsc::channel(1);
        let (to, _answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let serving = tokio::spawn(serve(cache.clone(), Default::default(), ReceiverStream::new(asked), to));
        let names: Vec<String> = (0..2 * ANSWERS_OWED_MAX).map(|n| format!("service-{n}")).collect();
        set_endpoints(&cache, &names);
        let mut read = 0;
        while ask.send(request(cache::Type::Endpoints, &names[..read + 1])).await.is_ok() {
            read += 1;
            assert!(read < names.len() - 1, "it takes on and on");
        }
        assert!(read > ANSWERS_OWED_MAX, "{read}");
        serving.await.expect("is ended");
    }
}
