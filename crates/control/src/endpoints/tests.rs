//! Who serves, with which weight, in each state of knowledge.

use super::*;
use crate::contract::{HostObserved, InstanceObserved};
use model::{Layer, Resource, keys};

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn fold(snapshot: &mut Snapshot, key: &str, value: &serde_json::Value) {
    let revision = snapshot.revision + 1;
    snapshot.fold(key, Some(value.to_string().as_bytes()), revision).unwrap();
}

fn resource(snapshot: &mut Snapshot, value: serde_json::Value) {
    let parsed: Resource = serde_json::from_value(value.clone()).unwrap();
    fold(snapshot, &keys::resource(&parsed.key()), &value);
}

/// Service `web` with instances 1, 2, … of the given intents, all on `h`.
fn fleet(intents: &[InstanceIntent]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    resource(&mut snapshot, serde_json::json!({"kind": "Rack", "name": "r", "datacenter": "dc"}));
    resource(
        &mut snapshot,
        serde_json::json!({"kind": "Host", "name": "h", "rack": "r", "host_type": "t", "address": "127.1.1.1"}),
    );
    resource(
        &mut snapshot,
        serde_json::json!({"kind": "Service", "name": "web", "business": "b", "layer": "logic", "package": "p",
            "shape": "1C1G", "ports": ["http"], "instances": {}}),
    );
    let placement = |n: usize, intent: &InstanceIntent| Placement {
        instance: name(&format!("web-{}", n + 1)),
        service: name("web"),
        layer: Layer::Logic,
        package: name("p"),
        package_version: "1".to_owned(),
        package_digest: model::Digest::of(b"p"),
        config_digest: model::Digest::of(b"c"),
        shape: name("1C1G"),
        ports: [("http".to_owned(), 20_000 + n as u16)].into(),
        intent: *intent,
    };
    let instances: Vec<Placement> = intents.iter().enumerate().map(|(n, intent)| placement(n, intent)).collect();
    let host: HostName = name("h");
    let on = model::HostPlacements { host: host.clone(), instances };
    fold(&mut snapshot, &keys::placements(&host), &serde_json::to_value(on).unwrap());
    snapshot
}

fn observed(state: HostState, phases: &[Phase]) -> Observed {
    let mut observed = Observed::default();
    observed.hosts.insert(name("h"), HostObserved { state, since: 0, isolation: String::new() });
    for (n, phase) in phases.iter().enumerate() {
        let seen = InstanceObserved {
            host: name("h"),
            phase: *phase,
            since: 0,
            restarts: 0,
            message: String::new(),
            pid: 1,
            package_digest: String::new(),
            config_digest: String::new(),
        };
        observed.instances.insert(name(&format!("web-{}", n + 1)), seen);
    }
    observed
}

fn weights(snapshot: &Snapshot, observed: &Observed) -> Vec<(String, u32)> {
    let all = endpoints(snapshot, observed, &name("web"));
    all.into_iter().map(|endpoint| (endpoint.instance.to_string(), endpoint.weight)).collect()
}

const RUNNING: InstanceIntent = InstanceIntent::Running;

#[test]
fn the_unwell_are_left_out_unless_all_are() {
    let snapshot = fleet(&[RUNNING, RUNNING, InstanceIntent::Deployed]);
    let some = observed(HostState::Connected, &[Phase::Healthy, Phase::Unhealthy, Phase::Deployed]);
    assert_eq!(weights(&snapshot, &some), [("web-1".to_owned(), 1_000)]);
    let none = observed(HostState::Connected, &[Phase::Backoff, Phase::Unhealthy, Phase::Deployed]);
    assert_eq!(weights(&snapshot, &none), [("web-1".to_owned(), 1_000), ("web-2".to_owned(), 1_000)]);
}

#[test]
fn what_is_unknown_serves_and_a_lost_host_keeps_its_last_word() {
    let snapshot = fleet(&[RUNNING, RUNNING]);
    assert_eq!(weights(&snapshot, &Observed::default()).len(), 2, "a server that has just started");
    let lost = observed(HostState::Lost, &[Phase::Healthy, Phase::Unhealthy]);
    assert_eq!(weights(&snapshot, &lost), [("web-1".to_owned(), 1_000)]);
    let absent = observed(HostState::Connected, &[Phase::Healthy]);
    assert_eq!(weights(&snapshot, &absent), [("web-1".to_owned(), 1_000)], "its agent knows of no second one");
}

#[test]
fn the_draining_stay_listed_without_weight() {
    let snapshot = fleet(&[RUNNING, InstanceIntent::Draining]);
    let all = observed(HostState::Connected, &[Phase::Healthy, Phase::Healthy]);
    let found = endpoints(&snapshot, &all, &name("web"));
    let flags: Vec<(u32, bool)> = found.iter().map(|endpoint| (endpoint.weight, endpoint.draining)).collect();
    assert_eq!(flags, [(1_000, false), (0, true)]);
    assert_eq!(found[0].address, "127.1.1.1:20000".parse().unwrap());
}
