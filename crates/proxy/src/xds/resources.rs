//! From xDS messages to what the proxy needs of them. Pure; whatever it cannot serve it refuses with a reason (a NACK).

use crate::table::Health;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, Metadata, address, socket_address};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, VirtualHost, route, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration, value::Kind};
use http::HeaderName;
use prost::{Message, Name};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Type of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type of route configurations.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Type of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type of endpoint assignments.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Name under which a cluster says which protocol its endpoints speak.
pub const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Name space of our own metadata.
const OURS: &str = "springtide";
/// Time to connect when the cluster does not say.
const CONNECT_MS: u64 = 1_000;
/// Time without progress when the cluster does not say.
const TIMEOUT_MS: u64 = 15_000;
/// Time between active checks when the cluster does not say.
const HEALTH_INTERVAL_MS: u64 = 1_000;
/// Shortest time between active checks.
const HEALTH_INTERVAL_MS_MIN: u64 = 50;
/// Time for the answer to an active check when the cluster does not say.
const HEALTH_TIMEOUT_MS: u64 = 1_000;
/// Failed checks in a row when the cluster does not say.
const HEALTH_FAILURES_MAX: u64 = 3;
/// Requests of one worker at one endpoint when the cluster does not say.
const IN_FLIGHT_MAX: u64 = 1_024;
/// Requests that wait for a place there when the cluster does not say.
const PENDING_MAX: u64 = 1_024;
/// Largest of either that is believed.
const LIMIT_MAX: u64 = 100_000;
/// Longest life of an override that is believed: leases are short by design.
const OVERRIDE_LIFE_MS_MAX: u64 = 60_000;
/// Business level of a service that has none.
const BUSINESS_LEVEL: u64 = 16;
/// Least important business level.
const BUSINESS_LEVEL_MAX: u64 = 63;

/// Why a resource is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind} {name:?}: {what}")]
pub struct Refused {
    /// Kind of resource.
    pub kind: &'static str,
    /// Its name; empty when it could not be read.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

fn refused(kind: &'static str, name: &str, what: impl Into<String>) -> Refused {
    Refused { kind, name: name.to_owned(), what: what.into() }
}

/// A listener: where its routes are.
#[derive(Debug, Clone, PartialEq)]
pub enum ListenerRoutes {
    /// In this route configuration.
    Named(String),
    /// With it.
    Inline(Routes),
}

/// Routes of a listener, by domain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// Domain (as xDS writes it) and its routes.
    pub domains: Vec<(String, Vec<PathRoute>)>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRoute {
    /// The whole path, not its start.
    pub exact: bool,
    /// Path.
    pub path: String,
    /// Cluster.
    pub cluster: String,
}

/// A cluster without its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSpec {
    /// Business; empty when the metadata does not say.
    pub business: String,
    /// Business level, 0 to 63.
    pub business_level: u8,
    /// Name of its assignment in EDS; `None` when the endpoints are given.
    pub eds: Option<String>,
    /// Endpoints of a static cluster.
    pub endpoints: Vec<EndpointSpec>,
    /// Host names and ports to be resolved (STRICT_DNS).
    pub names: Vec<(String, u16)>,
    /// Header whose value chooses the endpoint.
    pub hash_header: Option<HeaderName>,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// Connections of the whole proxy to one endpoint.
    pub connections_max: Option<usize>,
    /// Requests of one worker at one endpoint.
    pub in_flight_max: usize,
    /// Requests that wait for a place there.
    pub pending_max: u32,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without progress.
    pub timeout: Duration,
    /// Active checks.
    pub health: Option<Health>,
}

/// One endpoint as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Instance; its address when the metadata does not say.
    pub instance: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its datacenter, the zone of its locality; empty when that does not say.
    pub datacenter: String,
    /// Steady weight.
    pub weight: u32,
    /// Gets no new request.
    pub draining: bool,
    /// The control plane knows that it is not well.
    pub unhealthy: bool,
    /// Leased weight, and its remaining life in ms when sent.
    pub leased: Option<(u32, u64)>,
    /// Port of the active check when it is another.
    pub health_port: Option<u16>,
}

fn decode<M: Message + Name + Default>(any: &Any, kind: &'static str) -> Result<M, Refused> {
    if any.type_url != M::type_url() {
        return Err(refused(kind, "", format!("type {:?}, expected {:?}", any.type_url, M::type_url())));
    }
    M::decode(any.value.as_slice()).map_err(|error| refused(kind, "", format!("cannot be read: {error}")))
}

/// Reads a listener.
pub fn listener(any: &Any) -> Result<(String, ListenerRoutes), Refused> {
    const KIND: &str = "listener";
    let listener: Listener = decode(any, KIND)?;
    let name = listener.name;
    let filters = listener
        .filter_chains
        .into_iter()
        .chain(listener.default_filter_chain)
        .flat_map(|chain| chain.filters)
        .filter_map(|filter| match filter.config_type {
            Some(filter::ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        })
        .chain(listener.api_listener.and_then(|api| api.api_listener));
    for any in filters {
        if any.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let manager: HttpConnectionManager = decode(&any, KIND).map_err(|r| Refused { name: name.clone(), ..r })?;
        return match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Ok((name, ListenerRoutes::Named(rds.route_config_name))),
            Some(RouteSpecifier::RouteConfig(config)) => Ok((name, ListenerRoutes::Inline(routes_of(config)?))),
            _ => Err(refused(KIND, &name, "its connection manager has neither rds nor route_config")),
        };
    }
    Err(refused(KIND, &name, "it has no http connection manager"))
}

/// Reads a route configuration.
pub fn routes(any: &Any) -> Result<(String, Routes), Refused> {
    let config: RouteConfiguration = decode(any, "routes")?;
    Ok((config.name.clone(), routes_of(config)?))
}

fn routes_of(config: RouteConfiguration) -> Result<Routes, Refused> {
    let mut domains = Vec::new();
    for host in config.virtual_hosts {
        let routes = host_routes(&config.name, &host)?;
        domains.extend(host.domains.into_iter().map(|domain| (domain.to_ascii_lowercase(), routes.clone())));
    }
    Ok(Routes { domains })
}

fn host_routes(name: &str, host: &VirtualHost) -> Result<Vec<PathRoute>, Refused> {
    let refuse = |what: &str| refused("routes", name, format!("virtual host {:?}: {what}", host.name));
    host.routes
        .iter()
        .map(|route| {
            let (exact, path) = match route.r#match.as_ref().and_then(|m| m.path_specifier.clone()) {
                Some(PathSpecifier::Prefix(path)) => (false, path),
                Some(PathSpecifier::Path(path)) => (true, path),
                _ => return Err(refuse("only prefix and path matches are supported")),
            };
            let Some(route::Action::Route(action)) = &route.action else {
                return Err(refuse("only routes to a cluster are supported"));
            };
            let Some(ClusterSpecifier::Cluster(cluster)) = &action.cluster_specifier else {
                return Err(refuse("only a single cluster is supported"));
            };
            Ok(PathRoute { exact, path, cluster: cluster.clone() })
        })
        .collect()
}

/// Reads a cluster.
pub fn cluster(any: &Any) -> Result<(String, ClusterSpec), Refused> {
    const KIND: &str = "cluster";
    let cluster: Cluster = decode(any, KIND)?;
    let name = cluster.name.clone();
    let kind = match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).ok(),
        Some(ClusterDiscoveryType::ClusterType(_)) => None,
        None => Some(DiscoveryType::Static),
    };
    let numbers = Metadatum::of(cluster.metadata.as_ref());
    let http2 =
        speaks_http2(&cluster.typed_extension_protocol_options).map_err(|r| Refused { name: name.clone(), ..r })?;
    let hash_header = numbers.text("hash_header").map(|text| HeaderName::try_from(&text).map_err(|_| text)).transpose();
    let hash_header =
        hash_header.map_err(|text| refused(KIND, &name, format!("hash_header {text:?} is no header name")))?;
    let (mut eds, mut endpoints, mut names) = (None, Vec::new(), Vec::new());
    match kind {
        Some(DiscoveryType::Eds) => {
            let named = cluster.eds_cluster_config.map(|eds| eds.service_name).filter(|named| !named.is_empty());
            eds = Some(named.unwrap_or_else(|| name.clone()));
        }
        Some(DiscoveryType::Static) => {
            let assignment = cluster.load_assignment.unwrap_or_default();
            endpoints = endpoints_of(&assignment).map_err(|what| refused(KIND, &name, what))?;
        }
        Some(DiscoveryType::StrictDns) => {
            let assignment = cluster.load_assignment.unwrap_or_default();
            names = names_of(&assignment).map_err(|what| refused(KIND, &name, what))?;
        }
        _ => return Err(refused(KIND, &name, "only the types EDS, STATIC and STRICT_DNS are supported")),
    }
    let health = numbers.text("health_path").map(|path| Health {
        path,
        interval: Duration::from_millis(
            numbers.number("health_interval_ms").unwrap_or(HEALTH_INTERVAL_MS).max(HEALTH_INTERVAL_MS_MIN),
        ),
        timeout: Duration::from_millis(numbers.number("health_timeout_ms").unwrap_or(HEALTH_TIMEOUT_MS)),
        failures_max: numbers.number("health_failures_max").unwrap_or(HEALTH_FAILURES_MAX).clamp(1, 100) as u32,
    });
    let connect_timeout =
        cluster.connect_timeout.as_ref().and_then(duration).unwrap_or(Duration::from_millis(CONNECT_MS));
    let timeout = Duration::from_millis(numbers.number("timeout_ms").filter(|ms| *ms > 0).unwrap_or(TIMEOUT_MS));
    let limit = |field, default| numbers.number(field).unwrap_or(default).clamp(1, LIMIT_MAX);
    let in_flight_max = limit("in_flight_max", IN_FLIGHT_MAX) as usize;
    let pending_max = limit("pending_max", PENDING_MAX) as u32;
    let connections_max = numbers.number("connections_max").map(|max| max.clamp(1, LIMIT_MAX) as usize);
    let business_level = numbers.number("business_level").unwrap_or(BUSINESS_LEVEL).min(BUSINESS_LEVEL_MAX) as u8;
    let spec = ClusterSpec {
        business: numbers.text("business").unwrap_or_default(),
        business_level,
        eds,
        endpoints,
        names,
        hash_header,
        http2,
        connections_max,
        in_flight_max,
        pending_max,
        connect_timeout,
        timeout,
        health,
    };
    Ok((name, spec))
}

/// Envoy's way to say which protocol the endpoints speak; HTTP/1.1 when it does not.
fn speaks_http2(options: &HashMap<String, Any>) -> Result<bool, Refused> {
    let Some(any) = options.get(PROTOCOL_OPTIONS) else { return Ok(false) };
    let options: HttpProtocolOptions = decode(any, "cluster")?;
    Ok(matches!(
        options.upstream_protocol_options,
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(_))
        }))
    ))
}

fn duration(proto: &ProtoDuration) -> Option<Duration> {
    let whole = Duration::new(u64::try_from(proto.seconds).ok()?, u32::try_from(proto.nanos).ok()?);
    (!whole.is_zero()).then_some(whole)
}

/// Reads an assignment.
pub fn assignment(any: &Any) -> Result<(String, Vec<EndpointSpec>), Refused> {
    const KIND: &str = "endpoints";
    let assignment: ClusterLoadAssignment = decode(any, KIND)?;
    let endpoints = endpoints_of(&assignment).map_err(|what| refused(KIND, &assignment.cluster_name, what))?;
    Ok((assignment.cluster_name, endpoints))
}

fn endpoints_of(assignment: &ClusterLoadAssignment) -> Result<Vec<EndpointSpec>, String> {
    // One locality for each weight class is how weights go to gRPC clients; the endpoint's own weight says the same.
    let zone =
        |locality: &LocalityLbEndpoints| locality.locality.as_ref().map_or_else(String::new, |at| at.zone.clone());
    let all = assignment
        .endpoints
        .iter()
        .flat_map(|locality| locality.lb_endpoints.iter().map(move |at| (at, zone(locality))));
    all.map(|(sent, datacenter)| endpoint(sent, datacenter)).collect()
}

fn endpoint(sent: &LbEndpoint, datacenter: String) -> Result<EndpointSpec, String> {
    let Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &sent.host_identifier else {
        return Err("an endpoint has no address of its own".to_owned());
    };
    let address = socket_address(endpoint.address.as_ref())?;
    let data = Metadatum::of(sent.metadata.as_ref());
    let leased = match (data.number("override_weight"), data.number("override_life_ms")) {
        (Some(weight), Some(life_ms)) if life_ms > 0 => {
            Some((u32::try_from(weight).unwrap_or(u32::MAX), life_ms.min(OVERRIDE_LIFE_MS_MAX)))
        }
        _ => None,
    };
    let status = HealthStatus::try_from(sent.health_status).unwrap_or(HealthStatus::Unknown);
    Ok(EndpointSpec {
        instance: data.text("instance").unwrap_or_else(|| address.to_string()),
        address,
        datacenter,
        weight: sent.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
        draining: status == HealthStatus::Draining,
        unhealthy: matches!(status, HealthStatus::Unhealthy | HealthStatus::Timeout),
        leased,
        health_port: endpoint
            .health_check_config
            .as_ref()
            .and_then(|config| u16::try_from(config.port_value).ok())
            .filter(|port| *port != 0),
    })
}

fn names_of(assignment: &ClusterLoadAssignment) -> Result<Vec<(String, u16)>, String> {
    let sent = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    sent.map(|sent| match &sent.host_identifier {
        Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) => host_and_port(endpoint.address.as_ref()),
        _ => Err("an endpoint has no address of its own".to_owned()),
    })
    .collect()
}

fn socket_address(address: Option<&Address>) -> Result<SocketAddr, String> {
    let (host, port) = host_and_port(address)?;
    let ip: IpAddr = host
        .parse()
        .map_err(|_| format!("endpoint address {host:?} is not an IP address: names need the type STRICT_DNS"))?;
    Ok(SocketAddr::new(ip, port))
}

fn host_and_port(address: Option<&Address>) -> Result<(String, u16), String> {
    let Some(address::Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else {
        return Err("an endpoint has no socket address".to_owned());
    };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return Err(format!("endpoint {:?} has no numeric port", socket.address));
    };
    let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or(format!("port {port} is not in 1..=65535"))?;
    Ok((socket.address.clone(), port))
}

/// Our own metadata.
struct Metadatum<'a>(BTreeMap<&'a str, &'a Kind>);

impl<'a> Metadatum<'a> {
    fn of(metadata: Option<&'a Metadata>) -> Self {
        let fields = metadata.and_then(|m| m.filter_metadata.get(OURS)).map(|s| &s.fields);
        let pairs = fields.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.kind.as_ref()?)));
        Self(pairs.collect())
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Kind::StringValue(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Kind::NumberValue(number) if *number >= 0.0 && number.is_finite() => Some(*number as u64),
            _ => None,
        }
    }
}
