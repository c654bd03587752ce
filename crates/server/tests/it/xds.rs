//! Naming as a client of ADS meets it: from an apply to endpoints, never an empty list, only what changed.

use crate::agent::{Agent, authorized, place};
use crate::harness::{Server, apply, apply_pay, facilities, service, service_of, settled, until};
use crate::proxy::Proxy;
use api::http::OperationRequest;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Node};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use model::OperationPhase;
use prost::{Message, Name};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Looks at what must not happen yet, 20 ms apart: a few turns of the control loop.
const LOOKS: u32 = 25;

/// An ADS client that acknowledges everything, as Envoy does.
pub struct Client {
    to: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
    names: BTreeMap<String, Vec<String>>,
}

impl Client {
    pub async fn connect(data: &Path) -> Self {
        let (url, token) = place(data).expect("the server is ready");
        let mut client = AggregatedDiscoveryServiceClient::connect(url).await.expect("connected");
        let (to, requests) = mpsc::channel(64);
        let answers = client.stream_aggregated_resources(authorized(ReceiverStream::new(requests), &token)).await;
        Self { to, answers: answers.expect("a stream").into_inner(), names: BTreeMap::new() }
    }

    pub async fn subscribe<M: Name>(&mut self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.names.insert(M::type_url(), names.clone());
        self.send(M::type_url(), names, "", "").await;
    }

    async fn send(&self, type_url: String, resource_names: Vec<String>, version: &str, nonce: &str) {
        let node = Some(Node { id: "test".to_owned(), ..Node::default() });
        let request = DiscoveryRequest {
            node,
            type_url,
            resource_names,
            version_info: version.to_owned(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        };
        self.to.send(request).await.expect("the stream stands");
    }

    async fn answer(&mut self) -> DiscoveryResponse {
        let answer = self.unacknowledged().await;
        self.acknowledge(&answer).await;
        answer
    }

    async fn unacknowledged(&mut self) -> DiscoveryResponse {
        let answer = tokio::time::timeout(Duration::from_secs(30), self.answers.message()).await;
        answer.expect("an answer in time").expect("no error").expect("no end")
    }

    async fn acknowledge(&self, answer: &DiscoveryResponse) {
        let names = self.names.get(&answer.type_url).cloned().unwrap_or_default();
        self.send(answer.type_url.clone(), names, &answer.version_info, &answer.nonce).await;
    }

    /// The next answer of a type; others are acknowledged and passed over.
    pub async fn next<M: Message + Name + Default>(&mut self) -> Vec<M> {
        loop {
            let answer = self.answer().await;
            if answer.type_url == M::type_url() {
                return answer.resources.iter().map(|any| M::decode(any.value.as_slice()).expect("decodes")).collect();
            }
        }
    }
}

pub fn endpoints(assignment: &ClusterLoadAssignment) -> Vec<&LbEndpoint> {
    assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applied_service_reaches_the_data_plane() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<Cluster>(&[]).await;
    assert!(xds.next::<Cluster>().await.is_empty(), "nothing is declared yet, and the client must not wait");
    xds.subscribe::<Listener>(&[]).await;
    let listeners = xds.next::<Listener>().await;
    assert_eq!(listeners.iter().map(|at| at.name.as_str()).collect::<Vec<_>>(), ["entry", "mesh"]);
    let chain = &listeners[0].filter_chains[0].filters[0];
    let Some(filter::ConfigType::TypedConfig(manager)) = &chain.config_type else { panic!("{chain:?}") };
    let manager = HttpConnectionManager::decode(manager.value.as_slice()).expect("a connection manager");
    assert_eq!(manager.http_filters[0].name, "envoy.filters.http.router");

    let bank = "kind: External\nname: bank\nrequests_per_second_max: 100\naddress: '127.0.0.1:9999'\n".to_owned();
    let sso = service_of("sso", 1, 0, "1").replace(
        "layer: logic",
        "layer: access\nroutes: [{ path_prefix: /a }, { path_prefix: /a/long, host: x.example }]",
    );
    let files = [("f.yaml", facilities(2)), ("s.yaml", sso), ("b.yaml", bank)];
    apply(&client, &files).await;
    let clusters = xds.next::<Cluster>().await;
    assert_eq!(clusters.iter().map(|at| at.name.as_str()).collect::<Vec<_>>(), ["bank", "sso"]);
    xds.subscribe::<ClusterLoadAssignment>(&["sso"]).await;
    xds.subscribe::<RouteConfiguration>(&["entry", "mesh"]).await;
    let routes = until_routes(&mut xds).await;
    let entry = &routes["entry"];
    let host = |name: &str| entry.virtual_hosts.iter().find(|at| at.domains == [name]).expect(name);
    assert_eq!((host("x.example").routes.len(), host("*").routes.len()), (2, 1));
    let domains: Vec<_> = routes["mesh"].virtual_hosts.iter().flat_map(|at| at.domains.clone()).collect();
    assert_eq!(domains, ["sso", "bank"]);

    let _agents = Agent::fleet(2, server.data.path());
    let assigned = xds.next::<ClusterLoadAssignment>().await;
    assert_eq!((assigned.len(), assigned[0].cluster_name.as_str()), (1, "sso"));
    assert_eq!(endpoints(&assigned[0]).len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_release_is_done_once_those_that_follow_know_of_it() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut xds = Client::connect(server.data.path()).await;
    // The release is a change of its own, some turns after the placements': what is not yet known is the release alone.
    let slowly = "hooks: [{ when: before, step: gray, command: [sleep, '0.5'] }]\ninstances:";
    let pay = service(1, 0).replace("instances:", slowly);
    apply(&client, &[("f.yaml", facilities(1)), ("p.yaml", pay)]).await;
    xds.subscribe::<ClusterLoadAssignment>(&["pay"]).await;
    let _agents = Agent::fleet(1, server.data.path());
    let mut released = xds.unacknowledged().await;
    while released.resources.is_empty() {
        xds.acknowledge(&released).await;
        released = xds.unacknowledged().await;
    }
    let first = || async { client.operations().await.expect("listed").pop().expect("the reconciler's") };
    until("the release", || async { (first().await.gray_permille == 1_000).then_some(()) }).await;
    for _ in 0..LOOKS {
        assert!(!first().await.phase.is_final(), "a proxy may not know where to send a request yet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    xds.acknowledge(&released).await;
    let ended = until("the end", || async { Some(first().await).filter(|op| op.phase.is_final()) }).await;
    assert_eq!(ended.phase, OperationPhase::Succeeded, "{ended:#?}");
    server.stop().await;
}

async fn until_routes(xds: &mut Client) -> BTreeMap<String, RouteConfiguration> {
    let mut routes = BTreeMap::new();
    while routes.len() < 2 {
        let next = xds.next::<RouteConfiguration>().await;
        routes.extend(next.into_iter().map(|at| (at.name.clone(), at)));
    }
    routes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_a_scale_in_and_are_never_pushed_empty() {
    let mut server = Server::start().await;
    let client = server.client();
    let both = [("f.yaml", facilities(2)), ("p.yaml", service(2, 0)), ("g.yaml", service_of("gift", 1, 0, "1"))];
    let both = both.map(|(path, text)| (path, if path == "g.yaml" { only_service(&text) } else { text }));
    apply(&client, &both).await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 2).await;
    settled(&client, "gift", 1).await;
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<ClusterLoadAssignment>(&["gift", "pay"]).await;
    let first = xds.next::<ClusterLoadAssignment>().await;
    assert_eq!(
        first.iter().map(|at| (at.cluster_name.as_str(), endpoints(at).len())).collect::<Vec<_>>(),
        [("gift", 1), ("pay", 2)]
    );

    let scale = OperationRequest::Scale { service: "pay".to_owned(), to: Some(1), instances: BTreeMap::new() };
    client.open_operation(&scale).await.expect("opened");
    let (mut draining, mut left) = (false, 2);
    while left > 1 {
        let next = xds.next::<ClusterLoadAssignment>().await;
        assert_eq!(next.len(), 1, "only the cluster that changed is sent");
        assert_eq!(next[0].cluster_name, "pay");
        let now = endpoints(&next[0]);
        assert!(!now.is_empty());
        draining |= now.iter().any(|at| at.health_status == HealthStatus::Draining as i32);
        left = now.len();
    }
    assert!(draining, "it drains before it goes");

    // A deleted service leaves by its cluster and its routes, not by an empty list.
    client.delete("Service", "gift").await.expect("deleted");
    settled(&client, "pay", 1).await;
    until("gift to be gone", || async { client.instances(Some("gift"), None).await.ok().filter(Vec::is_empty) }).await;
    xds.subscribe::<Cluster>(&[]).await;
    assert_eq!(xds.next::<Cluster>().await.iter().map(|at| at.name.clone()).collect::<Vec<_>>(), ["pay"]);
    server.stop().await;
}

/// The service document of a manifest and what only it names.
fn only_service(text: &str) -> String {
    let documents =
        text.split("---\n").filter(|part| !part.contains("kind: Business") && !part.contains("kind: Package"));
    documents.collect::<Vec<_>>().join("---\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_serves_what_the_fleet_runs() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 2, 2).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 4).await;
    drop(agents);
    server.restart().await;
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<ClusterLoadAssignment>(&["pay"]).await;
    let first = xds.next::<ClusterLoadAssignment>().await;
    assert_eq!(endpoints(&first[0]).len(), 4, "an agent that has not reported yet is unknown, not dead");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_stops_nothing_before_those_that_followed_it_have_heard_of_it() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 2, 0).await;
    let _agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 2).await;
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<ClusterLoadAssignment>(&["pay"]).await;
    assert_eq!(endpoints(&xds.next::<ClusterLoadAssignment>().await[0]).len(), 2);
    let remembered = server.data.path().join("proxies.json");
    until("its name to be remembered", || async {
        std::fs::read_to_string(&remembered).ok().filter(|names| names.contains("test"))
    })
    .await;
    drop(xds);
    server.restart().await;
    let scale = OperationRequest::Scale { service: "pay".to_owned(), to: Some(1), instances: BTreeMap::new() };
    let id = client.open_operation(&scale).await.expect("opened").id.to_string();
    // Five times as long as requests under way are given: it is on its way back, and still sends to both.
    until("a second of draining", || async {
        let operation = client.operation(&id).await.ok()?;
        let drain = operation.steps.iter().find(|step| step.name == model::StepName::Drain)?;
        assert_eq!(client.instances(Some("pay"), None).await.ok()?.len(), 2, "it was not waited for");
        (now_unix_ms() > drain.started_at? + 1_000).then_some(())
    })
    .await;
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<ClusterLoadAssignment>(&["pay"]).await;
    let told = xds.next::<ClusterLoadAssignment>().await;
    assert!(endpoints(&told[0]).iter().any(|at| at.health_status == HealthStatus::Draining as i32));
    let back = std::time::Instant::now();
    settled(&client, "pay", 1).await;
    assert!(back.elapsed() < Duration::from_secs(5), "confirmed, it goes on at once: {:?}", back.elapsed());
    server.stop().await;
}

fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as u64
}
