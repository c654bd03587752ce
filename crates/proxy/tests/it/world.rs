//! The resources that a control plane sends, built the way ours builds them.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3::{self as core, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3 as ep;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config,
};
use envoy_types::pb::google::protobuf::{Any, Duration, Struct, UInt32Value, Value, value::Kind};
use envoy_types::util::pack_any;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

#[derive(Clone)]
pub struct Endpoint {
    pub instance: String,
    pub address: SocketAddr,
    pub weight: u32,
    pub draining: bool,
    pub leased: Option<(u32, u64)>,
}

#[derive(Clone, Default)]
pub struct Service {
    pub endpoints: Vec<Endpoint>,
    pub numbers: Vec<(&'static str, f64)>,
    pub health_path: Option<&'static str>,
    pub http2: bool,
}

/// Everything that the plane says.
#[derive(Clone, Default)]
pub struct World {
    pub services: BTreeMap<String, Service>,
    /// Clusters that CDS leaves out although routes may name them.
    pub hidden: Vec<String>,
    /// Host, prefix, service of the entry.
    pub routes: Vec<(&'static str, &'static str, &'static str)>,
    /// Policies in force: their names, their JSON (without `name` and `expires_at`) and life.
    pub policies: Option<Vec<(String, String, u64)>>,
}

pub fn endpoint(instance: &str, address: SocketAddr, weight: u32) -> Endpoint {
    Endpoint { instance: instance.into(), address, weight, draining: false, leased: None }
}

impl World {
    /// One service `web` on these endpoints, at `/` for any host.
    pub fn web(endpoints: Vec<Endpoint>) -> Self {
        Self::default().service("web", endpoints).route("*", "/", "web")
    }

    pub fn service(mut self, name: &str, endpoints: Vec<Endpoint>) -> Self {
        self.services.insert(name.into(), Service { endpoints, ..Service::default() });
        self
    }

    pub fn number(mut self, service: &str, name: &'static str, value: f64) -> Self {
        self.services.get_mut(service).expect("a known service").numbers.push((name, value));
        self
    }

    pub fn health(mut self, service: &str, path: &'static str) -> Self {
        self.services.get_mut(service).expect("a known service").health_path = Some(path);
        self
    }

    pub fn http2(mut self, service: &str) -> Self {
        self.services.get_mut(service).expect("a known service").http2 = true;
        self
    }

    pub fn route(mut self, host: &'static str, prefix: &'static str, service: &'static str) -> Self {
        self.routes.push((host, prefix, service));
        self
    }

    /// Puts one more policy in force for a time.
    pub fn policy(self, json: &str, life_ms: u64) -> Self {
        let name = format!("p{}", self.policies.as_ref().map_or(0, Vec::len));
        self.named(&name, json, life_ms)
    }

    /// The same, under this name.
    pub fn named(mut self, name: &str, json: &str, life_ms: u64) -> Self {
        self.policies.get_or_insert_default().push((name.to_owned(), json.to_owned(), life_ms));
        self
    }

    fn policies_resource(policies: &[(String, String, u64)]) -> (String, Any) {
        let one = |(name, json, life_ms): &(String, String, u64)| api::fleet::PolicyInForce {
            name: name.clone(),
            version: 1,
            expires_at_unix_ms: u64::MAX / 4,
            life_ms: *life_ms,
            policy: format!(
                "{{\"name\":\"{name}\",\"expires_at\":\"2099-01-01T00:00:00Z\",{}",
                json.trim_start().strip_prefix('{').expect("an object")
            ),
        };
        let message = api::fleet::Policies {
            revision: 1,
            policies: policies.iter().map(one).collect(),
            proxies: [("east".to_owned(), 1)].into(),
        };
        let any =
            Any { type_url: proxy::xds::policies::POLICIES.to_owned(), value: prost::Message::encode_to_vec(&message) };
        ("policies".to_owned(), any)
    }

    pub fn resources(&self) -> HashMap<&'static str, Vec<(String, Any)>> {
        let mut resources = self.routing();
        if let Some(policies) = &self.policies {
            resources.insert(proxy::xds::policies::POLICIES, vec![Self::policies_resource(policies)]);
        }
        resources
    }

    fn routing(&self) -> HashMap<&'static str, Vec<(String, Any)>> {
        let shown = || self.services.iter().filter(|(name, _)| !self.hidden.contains(name));
        HashMap::from([
            (proxy::xds::resources::CLUSTER, shown().map(|(n, s)| (n.clone(), cluster(n, s))).collect()),
            (proxy::xds::resources::ENDPOINTS, shown().map(|(n, s)| (n.clone(), assignment(n, s))).collect()),
            (proxy::xds::resources::LISTENER, ["entry", "mesh"].map(|n| (n.to_owned(), listener(n))).to_vec()),
            (
                proxy::xds::resources::ROUTES,
                vec![("entry".to_owned(), self.entry_routes()), ("mesh".to_owned(), self.mesh_routes())],
            ),
        ])
    }

    fn entry_routes(&self) -> Any {
        let mut hosts = BTreeMap::<&str, Vec<_>>::new();
        for (host, prefix, service) in &self.routes {
            hosts.entry(host).or_default().push(path_route(prefix, service));
        }
        let hosts = hosts.into_iter().map(|(host, routes)| virtual_host(host, routes)).collect();
        routes("entry", hosts)
    }

    fn mesh_routes(&self) -> Any {
        let hosts = self.services.keys().map(|name| virtual_host(name, vec![path_route("/", name)])).collect();
        routes("mesh", hosts)
    }
}

fn virtual_host(domain: &str, routes: Vec<route::Route>) -> route::VirtualHost {
    route::VirtualHost { name: domain.into(), domains: vec![domain.into()], routes, ..Default::default() }
}

fn path_route(prefix: &str, service: &str) -> route::Route {
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(service.into())),
        ..Default::default()
    };
    let matched = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix.into())),
        ..Default::default()
    };
    route::Route { r#match: Some(matched), action: Some(route::route::Action::Route(action)), ..Default::default() }
}

fn routes(name: &str, virtual_hosts: Vec<route::VirtualHost>) -> Any {
    pack_any(route::RouteConfiguration { name: name.into(), virtual_hosts, ..Default::default() })
}

pub fn listener(name: &str) -> Any {
    let rds = hcm::Rds { route_config_name: name.into(), ..Default::default() };
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "hcm".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
    };
    let chain = listener::FilterChain { filters: vec![filter], ..Default::default() };
    pack_any(listener::Listener { name: name.into(), filter_chains: vec![chain], ..Default::default() })
}

fn metadata(fields: Vec<(&str, Kind)>) -> Option<core::Metadata> {
    let fields = fields.into_iter().map(|(k, v)| (k.to_owned(), Value { kind: Some(v) })).collect();
    Some(core::Metadata {
        filter_metadata: HashMap::from([("springtide".to_owned(), Struct { fields })]),
        ..Default::default()
    })
}

/// Longest wait for a connection or a place: more than a machine stands still.
const CONNECT_S: i64 = 9;

fn cluster(name: &str, service: &Service) -> Any {
    let mut fields: Vec<_> = service.numbers.iter().map(|(k, v)| (*k, Kind::NumberValue(*v))).collect();
    fields.extend(service.health_path.map(|path| ("health_path", Kind::StringValue(path.into()))));
    pack_any(Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
        connect_timeout: Some(Duration { seconds: CONNECT_S, nanos: 0 }),
        metadata: metadata(fields),
        typed_extension_protocol_options: if service.http2 { http2() } else { HashMap::new() },
        ..Default::default()
    })
}

fn http2() -> HashMap<String, Any> {
    let protocol_config = Some(explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Default::default()));
    let explicit = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config });
    let options = HttpProtocolOptions { upstream_protocol_options: Some(explicit), ..Default::default() };
    HashMap::from([(proxy::xds::resources::PROTOCOL_OPTIONS.to_owned(), pack_any(options))])
}

fn assignment(name: &str, service: &Service) -> Any {
    let lb_endpoints = service.endpoints.iter().map(lb_endpoint).collect();
    let locality = ep::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    pack_any(ep::ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![locality], ..Default::default() })
}

fn lb_endpoint(sent: &Endpoint) -> ep::LbEndpoint {
    let socket = core::SocketAddress {
        address: sent.address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(sent.address.port().into())),
        ..Default::default()
    };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    let mut fields = vec![("instance", Kind::StringValue(sent.instance.clone()))];
    if let Some((weight, life_ms)) = sent.leased {
        fields.push(("override_weight", Kind::NumberValue(weight.into())));
        fields.push(("override_life_ms", Kind::NumberValue(life_ms as f64)));
    }
    let status = if sent.draining { HealthStatus::Draining } else { HealthStatus::Healthy };
    ep::LbEndpoint {
        health_status: status as i32,
        metadata: metadata(fields),
        load_balancing_weight: Some(UInt32Value { value: sent.weight }),
        host_identifier: Some(ep::lb_endpoint::HostIdentifier::Endpoint(ep::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
    }
}
