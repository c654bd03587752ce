//! What is believed and what is not, over any sequence of answers.

use super::*;
use crate::endpoint::Clock;
use envoy_types::pb::envoy::config::cluster::v3::{self as cds, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::util::pack_any;
use proptest::prelude::*;

fn address(host: &str, port: u32) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: host.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

fn assignment(name: &str, endpoints: &[(&str, u32)]) -> eds::ClusterLoadAssignment {
    let lb_endpoints = endpoints
        .iter()
        .map(|(host, port)| eds::LbEndpoint {
            host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
                address: address(host, *port),
                ..Default::default()
            })),
            ..Default::default()
        })
        .collect();
    let locality = eds::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    eds::ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![locality], ..Default::default() }
}

fn cluster(name: &str, kind: cluster::DiscoveryType, endpoints: &[(&str, u32)]) -> Any {
    pack_any(cds::Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(kind as i32)),
        load_assignment: Some(assignment(name, endpoints)),
        ..Default::default()
    })
}

fn eds_cluster(name: &str) -> Any {
    cluster(name, cluster::DiscoveryType::Eds, &[])
}

fn route_config(domains: &[(&str, &str)]) -> rds::RouteConfiguration {
    let hosts = domains.iter().map(|(domain, cluster)| rds::VirtualHost {
        domains: vec![(*domain).into()],
        routes: vec![rds::Route {
            r#match: Some(rds::RouteMatch {
                path_specifier: Some(rds::route_match::PathSpecifier::Prefix("/".into())),
                ..Default::default()
            }),
            action: Some(rds::route::Action::Route(rds::RouteAction {
                cluster_specifier: Some(rds::route_action::ClusterSpecifier::Cluster((*cluster).into())),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    });
    rds::RouteConfiguration { name: "mesh".into(), virtual_hosts: hosts.collect(), ..Default::default() }
}

fn listener(routes: hcm::http_connection_manager::RouteSpecifier) -> Any {
    let manager = hcm::HttpConnectionManager { route_specifier: Some(routes), ..Default::default() };
    let filter = lds::Filter {
        config_type: Some(lds::filter::ConfigType::TypedConfig(pack_any(manager))),
        ..Default::default()
    };
    let chain = lds::FilterChain { filters: vec![filter], ..Default::default() };
    pack_any(lds::Listener { name: "mesh".into(), filter_chains: vec![chain], ..Default::default() })
}

fn rds_listener() -> Any {
    listener(hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds {
        route_config_name: "mesh".into(),
        ..Default::default()
    }))
}

fn good(verdict: Verdict) {
    assert!(verdict.refused.is_empty(), "{:?}", verdict.refused);
}

#[test]
fn a_listener_that_had_routes_keeps_them_when_told_of_none() {
    let mut state = State::default();
    good(state.accept(res::ROUTES, &[pack_any(route_config(&[("pay", "pay")]))], 0));
    let verdict = state.accept(res::ROUTES, &[pack_any(route_config(&[]))], 0);
    assert_eq!((verdict.empty_ignored, verdict.refused.len()), (1, 0), "a server that lost its data knows of no route");
    good(state.accept(res::ROUTES, &[pack_any(route_config(&[("gift", "gift")]))], 0));
    assert_eq!(state.routes.parsed["mesh"].domains.len(), 1);
    assert_eq!(state.routes.parsed["mesh"].domains[0].0, "gift", "other routes are believed");
}

#[test]
fn it_is_whole_once_there_is_something_of_all_that_is_named() {
    let mut state = State::default();
    assert!(!state.table().whole);
    for (type_url, resources, whole) in [
        (res::LISTENER, vec![rds_listener()], false),
        (res::ROUTES, vec![pack_any(route_config(&[("pay", "pay"), ("gift", "gift")]))], false),
        (res::CLUSTER, vec![eds_cluster("pay"), eds_cluster("gift")], false),
        (res::ENDPOINTS, vec![pack_any(assignment("pay", &[("10.0.0.1", 80)]))], true),
    ] {
        good(state.accept(type_url, &resources, 0));
        assert_eq!(state.table().whole, whole, "after {type_url}");
    }
    let mut empty = State::default();
    good(empty.accept(res::LISTENER, &[rds_listener()], 0));
    good(empty.accept(res::ROUTES, &[pack_any(route_config(&[]))], 0));
    assert!(empty.table().whole, "a fleet without services");
}

#[test]
fn inline_routes_static_clusters_and_domains_with_ports() {
    let mut state = State::default();
    let routes = route_config(&[("Bank:*", "bank"), ("*.pay.example", "bank"), ("*", "other")]);
    good(state.accept(
        res::LISTENER,
        &[listener(hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes))],
        0,
    ));
    let bank = cluster("bank", cluster::DiscoveryType::Static, &[("10.0.0.1", 80), ("::1", 81)]);
    good(state.accept(res::CLUSTER, &[bank], 0));
    let table = state.table();
    assert!(table.ready);
    assert_eq!(table.mesh.find("bank:9", "/x").map(AsRef::as_ref), Some("bank"));
    assert_eq!(table.mesh.find("a.pay.example", "/x").map(AsRef::as_ref), Some("bank"));
    assert_eq!(table.mesh.find("else", "/x").map(AsRef::as_ref), Some("other"));
    let addresses: Vec<_> = table.clusters["bank"].endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:80", "[::1]:81"]);
}

#[test]
fn names_are_resolved_and_an_empty_resolution_is_not_believed() {
    let mut state = State::default();
    let bank = cluster("bank", cluster::DiscoveryType::StrictDns, &[("bank.example", 443)]);
    good(state.accept(res::CLUSTER, std::slice::from_ref(&bank), 0));
    let name = ("bank.example".to_owned(), 443);
    assert_eq!(state.names(), BTreeSet::from([name.clone()]));
    assert!(state.table().clusters["bank"].endpoints.is_empty());
    let addresses = vec!["10.0.0.2:443".parse().expect("valid"), "10.0.0.1:443".parse().expect("valid")];
    assert!(state.resolve(name.clone(), addresses.clone()));
    assert_eq!(state.table().clusters["bank"].endpoints.len(), 2);
    assert!(!state.resolve(name.clone(), addresses), "the same");
    assert!(!state.resolve(name, Vec::new()), "not believed");
    assert_eq!(state.table().clusters["bank"].endpoints.len(), 2);
}

#[test]
fn refusals_say_what_and_where() {
    let mut state = State::default();
    let cases = [
        (res::CLUSTER, cluster("c", cluster::DiscoveryType::Static, &[("bank", 80)]), "STRICT_DNS"),
        (res::CLUSTER, cluster("c", cluster::DiscoveryType::OriginalDst, &[]), "only the types"),
        (res::CLUSTER, cluster("c", cluster::DiscoveryType::Static, &[("1.1.1.1", 0)]), "1..=65535"),
        (res::ENDPOINTS, pack_any(assignment("c", &[("1.1.1.1", 70_000)])), "1..=65535"),
        (
            res::LISTENER,
            pack_any(lds::Listener { name: "c".into(), ..Default::default() }),
            "no http connection manager",
        ),
        (res::ROUTES, Any { type_url: res::ROUTES.into(), value: vec![255] }, "cannot be read"),
    ];
    for (type_url, any, what) in cases {
        let verdict = state.accept(type_url, &[any], 0);
        let texts: Vec<_> = verdict.refused.iter().map(ToString::to_string).collect();
        assert!(texts.len() == 1 && texts[0].contains(what), "{texts:?} should say {what:?}");
    }
    assert!(state.table().clusters.is_empty());
}

#[test]
fn load_and_ejections_outlive_an_update_and_unchanged_clusters_are_shared() {
    let mut state = State::default();
    good(state.accept(res::CLUSTER, &[eds_cluster("a"), eds_cluster("b")], 0));
    let both = [pack_any(assignment("a", &[("1.1.1.1", 1)])), pack_any(assignment("b", &[("1.1.1.1", 2)]))];
    good(state.accept(res::ENDPOINTS, &both, 0));
    let before = state.table();
    let clock = Clock::start();
    let ejected = (0..crate::endpoint::FAILURES_MAX).any(|_| before.clusters["a"].endpoints[0].failed(clock.now_ms()));
    assert!(ejected);
    good(state.accept(res::ENDPOINTS, &[pack_any(assignment("a", &[("1.1.1.1", 1), ("1.1.1.1", 3)]))], 0));
    let after = state.table();
    assert!(!after.clusters["a"].endpoints[0].available(clock.now_ms()), "still ejected");
    assert!(after.clusters["a"].endpoints[1].available(clock.now_ms()));
    assert!(Arc::ptr_eq(&before.clusters["b"], &after.clusters["b"]));
    assert!(Arc::ptr_eq(&before.mesh, &after.mesh), "an endpoint update leaves the routes as they are");
}

/// An answer of the control plane, good or bad.
#[derive(Debug, Clone)]
enum Step {
    Clusters(BTreeSet<u8>),
    Endpoints(u8, u8),
    Routes(BTreeSet<u8>),
    Listeners(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::btree_set(0_u8..4, 0..4);
    prop_oneof![
        some().prop_map(Step::Clusters),
        (0_u8..4, 0_u8..3).prop_map(|(cluster, endpoints)| Step::Endpoints(cluster, endpoints)),
        some().prop_map(Step::Routes),
        any::<bool>().prop_map(Step::Listeners),
    ]
}

proptest! {
    /// A routed cluster that had endpoints keeps some, whatever is sent; and what is saved makes the same table.
    #[test]
    fn a_routed_cluster_never_loses_its_last_endpoint(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = State::default();
        let mut had: BTreeSet<String> = BTreeSet::new();
        let name = |n: &u8| format!("s{n}");
        for step in steps {
            match step {
                Step::Clusters(set) => {
                    let all: Vec<_> = set.iter().map(|n| eds_cluster(&name(n))).collect();
                    good(state.accept(res::CLUSTER, &all, 0));
                }
                Step::Endpoints(cluster, count) => {
                    let endpoints: Vec<_> = (1..=u32::from(count)).map(|port| ("1.1.1.1", port)).collect();
                    good(state.accept(res::ENDPOINTS, &[pack_any(assignment(&name(&cluster), &endpoints))], 0));
                }
                Step::Routes(set) => {
                    let names: Vec<_> = set.iter().map(name).collect();
                    let domains: Vec<_> = names.iter().map(|n| (n.as_str(), n.as_str())).collect();
                    good(state.accept(res::ROUTES, &[pack_any(route_config(&domains))], 0));
                }
                Step::Listeners(some) => {
                    let all: Vec<_> = some.then(rds_listener).into_iter().collect();
                    good(state.accept(res::LISTENER, &all, 0));
                }
            }
            let table = state.table();
            for n in 0..4 {
                let name = name(&n);
                let routed = table.mesh.find(&name, "/").is_some();
                let usable = table.clusters.get(name.as_str()).is_some_and(|c| !c.endpoints.is_empty());
                if usable && routed {
                    had.insert(name);
                } else if !routed {
                    had.remove(&name);
                } else {
                    prop_assert!(!had.contains(&name), "{name} is routed, had endpoints, and has none");
                }
            }
        }
        let mut again = State::default();
        for type_url in crate::xds::TYPES {
            good(again.accept(type_url, &state.raw(type_url), 0));
        }
        let (table, copy) = (state.table(), again.table());
        for n in 0..4 {
            let name = name(&n);
            prop_assert_eq!(table.mesh.find(&name, "/"), copy.mesh.find(&name, "/"));
            let count = |t: &Table| t.clusters.get(name.as_str()).map(|c| c.endpoints.len());
            prop_assert_eq!(count(&table), count(&copy));
        }
    }
}
