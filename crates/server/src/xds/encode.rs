//! Builds the xDS messages: clusters, endpoints, listeners, routes. Pure: what they say is decided elsewhere.
//!
//! Load statistics, TLS contexts and filters other than the router are absent: the data plane needs none of them yet.

use crate::policies::PoliciesPut;
use control::Endpoint;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config,
};
use envoy_types::pb::google::protobuf::{Any, Duration, Struct, UInt32Value, Value, value};
use model::{Balance, External, Protocol, Service, Snapshot, UnixMs};
use prost::{Message, Name};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// Namespace of our metadata.
pub const METADATA: &str = "springtide";
/// The user, as the proxies' own header says it.
const USER_HEADER: &str = "x-springtide-user";
/// Time allowed for a TCP connection to an instance.
const CONNECT_TIMEOUT_MS: u32 = 1_000;
/// Time allowed for a whole request.
pub const REQUEST_TIMEOUT_MS: u32 = 15_000;
/// How long a client waits for a first endpoint list: an empty one is never sent, so it must not hold up the rest.
const INITIAL_FETCH_TIMEOUT_MS: u32 = 1_000;
/// The port that an External's address has when it names none.
const EXTERNAL_PORT_DEFAULT: u16 = 80;

/// A leased change of weights, with its remaining life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeasedWeights {
    /// Weight of each overridden instance.
    pub weights: BTreeMap<String, u32>,
    /// Remaining life.
    pub life_ms: u64,
}

/// Wraps a message for the wire.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn duration_ms(ms: u32) -> Option<Duration> {
    Some(Duration { seconds: i64::from(ms / 1_000), nanos: (ms % 1_000) as i32 * 1_000_000 })
}

fn text(value: impl Into<String>) -> Value {
    Value { kind: Some(value::Kind::StringValue(value.into())) }
}

fn number(value: f64) -> Value {
    Value { kind: Some(value::Kind::NumberValue(value)) }
}

fn metadata(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Option<core::Metadata> {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Some(core::Metadata {
        filter_metadata: HashMap::from([(METADATA.to_owned(), Struct { fields })]),
        ..Default::default()
    })
}

fn address(host: &str, port: u16) -> Option<core::Address> {
    Some(core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    })
}

fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        initial_fetch_timeout: duration_ms(INITIAL_FETCH_TIMEOUT_MS),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        ..Default::default()
    })
}

/// The cluster of a service; its endpoints come over EDS.
pub fn service_cluster(service: &Service) -> cluster::Cluster {
    let mut about = vec![
        ("timeout_ms", number(f64::from(REQUEST_TIMEOUT_MS))),
        ("business", text(service.business.as_str())),
        ("business_level", number(f64::from(service.criticality.business_level()))),
    ];
    // An active check goes to the port that carries traffic; one on another port is the agent's alone.
    let first = service.ports.first();
    let checked = service.health_check.as_ref().filter(|check| check.port.is_none() || check.port.as_ref() == first);
    if let Some(check) = checked {
        about.push(("health_path", text(&check.path)));
        about.push(("health_interval_ms", number(f64::from(check.interval_ms))));
        about.push(("health_timeout_ms", number(f64::from(check.timeout_ms))));
        about.push(("health_failures_max", number(f64::from(check.failures_max))));
    }
    about.push(("business", text(service.business.as_str())));
    let traffic = &service.traffic;
    if let Some(max) = traffic.connections_max {
        about.push(("connections_max", number(f64::from(max))));
    }
    if traffic.balance == Balance::UserHash {
        about.push(("hash_header", text(hash_header(service))));
    }
    cluster::Cluster {
        name: service.name.to_string(),
        connect_timeout: duration_ms(CONNECT_TIMEOUT_MS),
        lb_policy: match traffic.balance {
            Balance::LeastLoad => cluster::cluster::LbPolicy::LeastRequest as i32,
            Balance::UserHash => cluster::cluster::LbPolicy::RingHash as i32,
        },
        typed_extension_protocol_options: match traffic.protocol {
            Protocol::Http1 => HashMap::new(),
            Protocol::Http2 => http2_options(),
        },
        circuit_breakers: traffic.connections_max.map(connections_max),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds as i32,
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig { eds_config: ads(), ..Default::default() }),
        metadata: metadata(about),
        ..Default::default()
    }
}

/// The header that a service's requests are spread by.
fn hash_header(service: &Service) -> &str {
    service.traffic.hash_header.as_deref().unwrap_or(USER_HEADER)
}

fn http2_options() -> HashMap<String, Any> {
    let protocol_config = Some(explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Default::default()));
    let explicit = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config });
    let options = HttpProtocolOptions { upstream_protocol_options: Some(explicit), ..Default::default() };
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), any(&options))])
}

/// Envoy bounds connections for each endpoint too, beside those of the whole cluster.
fn connections_max(max: u32) -> cluster::CircuitBreakers {
    let max_connections = Some(UInt32Value { value: max });
    let thresholds = cluster::circuit_breakers::Thresholds { max_connections, ..Default::default() };
    cluster::CircuitBreakers { per_host_thresholds: vec![thresholds], ..Default::default() }
}

/// The policies, with the life that each has left at `now`.
pub fn policies(put: &PoliciesPut, now: UnixMs) -> Any {
    Any { type_url: api::policies::TYPE_URL.to_owned(), value: put.message(now).encode_to_vec() }
}

/// The cluster of an External with an address; `None` without one.
pub fn external_cluster(external: &External) -> Option<cluster::Cluster> {
    let (host, port) = split_address(external.address.as_deref()?);
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_ip { cluster::cluster::DiscoveryType::Static } else { cluster::cluster::DiscoveryType::StrictDns };
    let name = external.name.to_string();
    let lb_endpoints = vec![lb_endpoint(&host, port, 1, core::HealthStatus::Healthy, None)];
    let locality = endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    let assignment =
        endpoint::ClusterLoadAssignment { cluster_name: name.clone(), endpoints: vec![locality], ..Default::default() };
    Some(cluster::Cluster {
        name,
        connect_timeout: duration_ms(CONNECT_TIMEOUT_MS),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(kind as i32)),
        load_assignment: Some(assignment),
        metadata: metadata([("timeout_ms", number(f64::from(REQUEST_TIMEOUT_MS)))]),
        ..Default::default()
    })
}

/// Host and port of `host:port`, `[v6]:port` or a bare host.
fn split_address(text: &str) -> (String, u16) {
    if let Ok(whole) = text.parse::<SocketAddr>() {
        return (whole.ip().to_string(), whole.port());
    }
    match text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.to_owned(), port),
        None => (text.to_owned(), EXTERNAL_PORT_DEFAULT),
    }
}

fn lb_endpoint(
    host: &str,
    port: u16,
    weight: u32,
    health: core::HealthStatus,
    metadata: Option<core::Metadata>,
) -> endpoint::LbEndpoint {
    endpoint::LbEndpoint {
        health_status: health as i32,
        metadata,
        load_balancing_weight: Some(UInt32Value { value: weight.max(1) }),
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: address(host, port),
            ..Default::default()
        })),
    }
}

/// The endpoints of a service, one locality for each datacenter.
pub fn endpoints(
    service: &str,
    endpoints: &[Endpoint],
    leased: Option<&LeasedWeights>,
) -> endpoint::ClusterLoadAssignment {
    let mut localities: BTreeMap<&str, Vec<endpoint::LbEndpoint>> = BTreeMap::new();
    for at in endpoints {
        let mut about = vec![("instance", text(at.instance.as_str())), ("host", text(at.host.as_str()))];
        if let Some(leased) = leased
            && let Some(weight) = leased.weights.get(at.instance.as_str())
        {
            about.push(("override_weight", number(f64::from(*weight))));
            about.push(("override_life_ms", number(leased.life_ms as f64)));
        }
        let health = if at.draining { core::HealthStatus::Draining } else { core::HealthStatus::Healthy };
        let host = at.address.ip().to_string();
        localities.entry(at.datacenter.as_str()).or_default().push(lb_endpoint(
            &host,
            at.address.port(),
            at.weight,
            health,
            metadata(about),
        ));
    }
    let endpoints = localities
        .into_iter()
        .map(|(zone, lb_endpoints)| endpoint::LocalityLbEndpoints {
            locality: Some(core::Locality { zone: zone.to_owned(), ..Default::default() }),
            lb_endpoints,
            ..Default::default()
        })
        .collect();
    endpoint::ClusterLoadAssignment { cluster_name: service.to_owned(), endpoints, ..Default::default() }
}

/// A listener whose routes, of the same name, come over RDS.
pub fn listener(name: &str, at: SocketAddr) -> listener::Listener {
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..Default::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds {
            config_source: ads(),
            route_config_name: name.to_owned(),
        })),
        strip_port_mode: Some(hcm::http_connection_manager::StripPortMode::StripAnyHostPort(true)),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&manager))),
    };
    listener::Listener {
        name: name.to_owned(),
        address: address(&at.ip().to_string(), at.port()),
        filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

fn route_to(cluster: &str, prefix: &str, hash_header: Option<&str>) -> route::Route {
    let by_header = |name: &str| route::route_action::HashPolicy {
        policy_specifier: Some(route::route_action::hash_policy::PolicySpecifier::Header(
            route::route_action::hash_policy::Header { header_name: name.to_owned(), ..Default::default() },
        )),
        ..Default::default()
    };
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(route::route::Action::Route(route::RouteAction {
            timeout: duration_ms(REQUEST_TIMEOUT_MS),
            hash_policy: hash_header.map(by_header).into_iter().collect(),
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// The header a stock Envoy spreads the service's requests by, if it asks for that.
fn hashed(service: &Service) -> Option<&str> {
    (service.traffic.balance == Balance::UserHash).then(|| hash_header(service))
}

/// Path prefix, service, and the header that its requests are spread by.
type RouteTo<'a> = (&'a str, &'a str, Option<&'a str>);

/// Requests from outside: by host, then by the longest path prefix; routes without a host match under every host.
pub fn entry_routes(snapshot: &Snapshot) -> route::RouteConfiguration {
    let mut hosts: BTreeMap<&str, Vec<RouteTo<'_>>> = BTreeMap::new();
    let mut any_host = Vec::new();
    for service in snapshot.services() {
        for at in &service.routes {
            let to = (at.path_prefix.as_str(), service.name.as_str(), hashed(service));
            match &at.host {
                Some(host) => hosts.entry(host).or_default().push(to),
                None => any_host.push(to),
            }
        }
    }
    for routes in hosts.values_mut() {
        routes.extend(&any_host);
    }
    hosts.insert("*", any_host);
    let virtual_hosts = hosts
        .into_iter()
        .map(|(host, mut routes)| {
            // Stable: of two equal prefixes, the one that names the host stays first.
            routes.sort_by_key(|(prefix, ..)| std::cmp::Reverse(prefix.len()));
            route::VirtualHost {
                name: format!("entry/{host}"),
                domains: vec![host.to_owned()],
                routes: routes.into_iter().map(|(prefix, to, hash)| route_to(to, prefix, hash)).collect(),
                ..Default::default()
            }
        })
        .collect();
    route::RouteConfiguration { name: "entry".to_owned(), virtual_hosts, ..Default::default() }
}

/// Calls between services: the `Host` header names the service or external.
pub fn mesh_routes(snapshot: &Snapshot) -> route::RouteConfiguration {
    let services = snapshot.services().filter(|s| !s.ports.is_empty()).map(|s| (s.name.as_str(), hashed(s)));
    let externals = snapshot.externals().filter(|e| e.address.is_some()).map(|e| (e.name.as_str(), None));
    let virtual_hosts = services
        .chain(externals)
        .map(|(name, hash)| route::VirtualHost {
            name: format!("mesh/{name}"),
            domains: vec![name.to_owned()],
            routes: vec![route_to(name, "/", hash)],
            ..Default::default()
        })
        .collect();
    route::RouteConfiguration { name: "mesh".to_owned(), virtual_hosts, ..Default::default() }
}
