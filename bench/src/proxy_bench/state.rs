//! The routing state that our proxy serves: written as it saves it itself, so that it runs with no server in reach.

use anyhow::{Result, ensure};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as ep;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use envoy_types::util::pack_any;
use proxy::xds::{resources, saved, state::State};
use std::net::SocketAddr;
use std::path::Path;

/// The only service.
const SERVICE: &str = "web";

/// Writes the state: everything on the entry goes to one service with one endpoint.
pub fn write(path: &Path, origin: SocketAddr) -> Result<()> {
    let mut state = State::default();
    let all = [
        (resources::CLUSTER, vec![cluster()]),
        (resources::ENDPOINTS, vec![assignment(origin)]),
        (resources::LISTENER, vec![listener("entry"), listener("mesh")]),
        (resources::ROUTES, vec![routes("entry", "*"), routes("mesh", SERVICE)]),
    ];
    for (type_url, resources) in all {
        let verdict = state.accept(type_url, &resources, 0);
        ensure!(verdict.refused.is_empty(), "the bench's own state is refused: {:?}", verdict.refused);
    }
    saved::save(path, &saved::encode(&state))?;
    Ok(())
}

fn cluster() -> Any {
    pack_any(Cluster {
        name: SERVICE.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
        ..Default::default()
    })
}

fn assignment(origin: SocketAddr) -> Any {
    let socket = core::SocketAddress {
        address: origin.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(origin.port().into())),
        ..Default::default()
    };
    let endpoint = ep::Endpoint {
        address: Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) }),
        ..Default::default()
    };
    let lb_endpoint = ep::LbEndpoint {
        load_balancing_weight: Some(UInt32Value { value: 1_000 }),
        host_identifier: Some(ep::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = ep::LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint], ..Default::default() };
    pack_any(ep::ClusterLoadAssignment {
        cluster_name: SERVICE.into(),
        endpoints: vec![locality],
        ..Default::default()
    })
}

fn listener(name: &str) -> Any {
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

fn routes(name: &str, domain: &str) -> Any {
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(SERVICE.into())),
        ..Default::default()
    };
    let matched = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..Default::default()
    };
    let route = route::Route {
        r#match: Some(matched),
        action: Some(route::route::Action::Route(action)),
        ..Default::default()
    };
    let host = route::VirtualHost {
        name: domain.into(),
        domains: vec![domain.into()],
        routes: vec![route],
        ..Default::default()
    };
    pack_any(route::RouteConfiguration { name: name.into(), virtual_hosts: vec![host], ..Default::default() })
}
