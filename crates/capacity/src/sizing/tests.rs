//! Sizing over small fleets, and its rules over random ones.

use super::*;
use model::{BindingResource, Interval, Kind, Layer, Resource, ResourceKey, Shape, StressEnd, Versioned};
use proptest::prelude::*;
use std::sync::Arc;

fn put(snapshot: &mut Snapshot, yaml_like: serde_json::Value) {
    let resource: Resource = serde_json::from_value(yaml_like).expect("a literal resource is valid");
    let value = Arc::new(resource);
    snapshot.resources.insert(value.key(), Versioned { value, revision: 1 });
}

/// Two datacenters with three hosts of 8 cores each, and the red-packet services.
fn fleet() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let all = &mut snapshot;
    put(all, serde_json::json!({"kind": "Region", "name": "south"}));
    put(all, serde_json::json!({"kind": "HostType", "name": "c8", "cpu": 8, "memory": "16GiB", "power_watts": 400}));
    put(all, serde_json::json!({"kind": "Package", "name": "any", "version": "1", "command": ["x"]}));
    for dc in ["dc-a", "dc-b"] {
        put(all, serde_json::json!({"kind": "Datacenter", "name": dc, "region": "south"}));
        let rack = format!("{dc}-r1");
        put(all, serde_json::json!({"kind": "Rack", "name": rack, "datacenter": dc, "power_watts_max": 1500}));
        for n in 1..=3 {
            let name = format!("{dc}-h{n}");
            put(
                all,
                serde_json::json!({"kind": "Host", "name": name, "rack": rack, "host_type": "c8", "address": "127.1.1.1"}),
            );
        }
    }
    put(all, serde_json::json!({"kind": "External", "name": "bank", "requests_per_second_max": 300.0}));
    service(all, "sso", "access", &[("lottery", 1.0)]);
    service(all, "lottery", "logic", &[("gift", 0.5), ("message", 1.0)]);
    service(all, "gift", "logic", &[("pay", 1.0)]);
    service(all, "message", "logic", &[]);
    service(all, "pay", "logic", &[("bank", 1.0), ("message", 1.0)]);
    snapshot
}

fn service(all: &mut Snapshot, name: &str, layer: &str, calls: &[(&str, f64)]) {
    let calls: Vec<_> = calls.iter().map(|(on, n)| serde_json::json!({"on": on, "calls_per_request": n})).collect();
    put(
        all,
        serde_json::json!({"kind": "Service", "name": name, "business": "red-packet", "layer": layer, "package": "any",
            "shape": {"cpu": 0.5, "memory": "128MiB"}, "ports": ["http"], "dependencies": calls,
            "instances": {"dc-a": 1, "dc-b": 1}}),
    );
}

/// Changes a declared service.
fn change(all: &mut Snapshot, name: &str, how: impl FnOnce(&mut Service)) {
    let key = ResourceKey { kind: Kind::Service, name: name.to_owned() };
    let at = all.resources.get_mut(&key).expect("declared");
    let Resource::Service(service) = Arc::make_mut(&mut at.value) else { panic!("a service") };
    how(service);
}

fn event(rps: f64) -> Event {
    let event =
        serde_json::json!({"name": "midnight", "business": "red-packet", "entry_requests_per_second": {"sso": rps}});
    serde_json::from_value(event).expect("a literal event is valid")
}

/// A curve measured on hosts of type `c8`.
fn curve(service: &str, low: f64) -> (ServiceName, BTreeMap<HostTypeName, Curve>) {
    let curve = curve_on("c8", service, low);
    (curve.service.clone(), BTreeMap::from([(curve.host_type.clone(), curve)]))
}

fn curve_on(host_type: &str, service: &str, low: f64) -> Curve {
    let name = ServiceName::new(service).expect("a name");
    let flat = |value: f64| Interval { value, low: value, high: value };
    Curve {
        operation: if host_type == "c8" { "op-7" } else { "op-8" }.parse().expect("a name"),
        service: name,
        host_type: host_type.parse().expect("a name"),
        package_version: "1".to_owned(),
        instance: "x-1".parse().expect("a name"),
        shape: Shape { cpu: model::CpuMillis(500), memory: model::MemoryBytes(1 << 27), pids_max: 512 },
        measured_at: 0,
        duration_ms: 9_000,
        cpu_us_per_request: flat(5_000.0),
        background_cores: 0.0,
        knee_rps: low * 0.9,
        capacity_rps: Interval { value: low * 1.02, low, high: low * 1.04 },
        binding: BindingResource::Cpu,
        plain_estimate_rps: low,
        requests: 1_000,
        errors: 0,
        ended: StressEnd::Converged,
        points: Vec::new(),
    }
}

fn curves() -> Curves {
    ["sso", "lottery", "gift", "message", "pay"].into_iter().map(|name| curve(name, 100.0)).collect()
}

fn of<'a>(sizing: &'a Sizing, name: &str) -> &'a ServiceSize {
    sizing.services.iter().find(|sized| sized.service == name).expect("sized")
}

#[test]
fn load_walks_down_the_fan_out_and_sizes_each_service() {
    let sizing = size(&fleet(), &event(400.0), &curves());
    let loads: Vec<(&str, f64)> = sizing.services.iter().map(|s| (s.service.as_str(), s.load_rps)).collect();
    let expected =
        [("sso", 400.0), ("lottery", 400.0), ("gift", 200.0), ("pay", 200.0), ("message", 600.0), ("bank", 200.0)];
    assert_eq!(loads, expected);
    let lottery = of(&sizing, "lottery");
    // 400 rps on one datacenter at 66% of 100 rps each: 7 in each.
    assert_eq!(lottery.needed.values().copied().collect::<Vec<_>>(), [7, 7]);
    assert!((lottery.utilisation - 4.0 / 14.0).abs() < 1e-9 && (lottery.utilisation_one_lost - 4.0 / 7.0).abs() < 1e-9);
    assert_eq!(lottery.basis.to_string(), "curve op-7");
    assert!((of(&sizing, "bank").utilisation - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(sizing.shortages, []);
}

#[test]
fn an_external_beyond_its_limit_is_a_shortage() {
    let sizing = size(&fleet(), &event(650.0), &curves());
    let text: Vec<String> = sizing.shortages.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["external bank takes 300 rps but 325 rps are expected"]);
}

#[test]
fn a_service_without_curve_keeps_its_counts_and_is_named() {
    let mut curves = curves();
    curves.remove("pay");
    let sizing = size(&fleet(), &event(400.0), &curves);
    assert_eq!(of(&sizing, "pay").needed, of(&sizing, "pay").now);
    assert_eq!(of(&sizing, "pay").capacity_rps, None);
    assert!(matches!(&sizing.shortages[..], [Shortage::NoCurve { service, .. }] if service.as_str() == "pay"));
}

#[test]
fn hosts_too_small_are_named_by_datacenter_pool_and_resource() {
    let mut snapshot = fleet();
    snapshot
        .resources
        .retain(|key, _| key.kind != Kind::Host || !key.name.starts_with("dc-b-h") || key.name == "dc-b-h1");
    let sizing = size(&snapshot, &event(590.0), &curves());
    let text: Vec<String> = sizing.shortages.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["dc-b, pool general: 18.5 cores needed, 8.0 free"]);
}

#[test]
fn hosts_kept_for_another_layer_do_not_count() {
    let mut snapshot = fleet();
    for n in 1..=3 {
        let key = ResourceKey { kind: Kind::Host, name: format!("dc-a-h{n}") };
        let at = snapshot.resources.get_mut(&key).expect("declared");
        let Resource::Host(host) = Arc::make_mut(&mut at.value) else { panic!("a host") };
        host.exclusive = Some(Layer::Storage);
    }
    let sizing = size(&snapshot, &event(100.0), &curves());
    assert!(
        sizing
            .shortages
            .iter()
            .any(|s| s.to_string() == "dc-a, pool general for the access layer: 0.5 cores needed, 0.0 free"),
        "{:?}",
        sizing.shortages
    );
}

#[test]
fn power_and_limits_per_host_are_checked() {
    let mut snapshot = fleet();
    put(
        &mut snapshot,
        serde_json::json!({"kind": "Rack", "name": "dc-a-r1", "datacenter": "dc-a", "power_watts_max": 1100}),
    );
    change(&mut snapshot, "sso", |service| service.per_host_max = Some(2));
    let sizing = size(&snapshot, &event(590.0), &curves());
    let text: Vec<String> = sizing.shortages.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "sso needs 9 instances in dc-a, its per_host_max leaves room for 6",
            "sso needs 9 instances in dc-b, its per_host_max leaves room for 6",
            "rack dc-a-r1: its hosts draw 1200 W at full load, its feed carries 1100 W",
        ]
    );
}

#[test]
fn one_datacenter_is_sized_to_66_percent_and_says_so() {
    let mut snapshot = fleet();
    change(&mut snapshot, "sso", |service| service.instances = BTreeMap::from([("dc-a".parse().expect("a name"), 3)]));
    let sizing = size(&snapshot, &event(130.0), &curves());
    let sso = of(&sizing, "sso");
    assert_eq!(sso.needed.values().copied().collect::<Vec<_>>(), [2]);
    assert!(sso.utilisation <= UTILISATION_LOST_MAX);
    assert!(sso.fewer_suffice(), "three run, two suffice");
    assert!(sso.basis.to_string().contains("its loss is not covered"), "{}", sso.basis);
}

#[test]
fn a_small_event_never_sizes_below_one_in_each_datacenter() {
    let sizing = size(&fleet(), &event(0.0), &curves());
    assert!(sizing.services.iter().filter(|s| !s.external).all(|s| s.needed.values().all(|n| *n == 1)));
}

#[test]
fn a_cycle_and_an_unknown_entry_are_named_and_do_not_hang() {
    let mut snapshot = fleet();
    service(&mut snapshot, "message", "logic", &[("gift", 1.0)]);
    let mut event = event(100.0);
    event.entry_requests_per_second.insert("nobody".parse().expect("a name"), 5.0);
    let text: Vec<String> = size(&snapshot, &event, &curves()).shortages.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "nobody is not declared; declare it or drop the reference",
            "dependencies form a cycle through bank, gift, message, pay"
        ]
    );
}

#[test]
fn a_larger_shape_counts_for_more_only_where_cpu_ran_out() {
    let mut snapshot = fleet();
    change(&mut snapshot, "sso", |service| service.shape.cpu = model::CpuMillis(1_000));
    let mut curves = curves();
    assert_eq!(of(&size(&snapshot, &event(100.0), &curves), "sso").capacity_rps, Some(200.0));
    let sso = curves.get_mut("sso").and_then(|of| of.get_mut("c8"));
    sso.expect("a curve").binding = BindingResource::Serial;
    let sizing = size(&snapshot, &event(100.0), &curves);
    assert_eq!(of(&sizing, "sso").capacity_rps, Some(100.0));
    assert!(of(&sizing, "sso").basis.to_string().contains("another shape"));
}

/// The fleet with one host of another type in dc-b.
fn mixed(host: serde_json::Value) -> Snapshot {
    let mut snapshot = fleet();
    put(&mut snapshot, serde_json::json!({"kind": "HostType", "name": "c16", "cpu": 16, "memory": "32GiB"}));
    let mut whole = serde_json::json!({"kind": "Host", "name": "dc-b-h9", "rack": "dc-b-r1", "host_type": "c16",
        "address": "127.1.1.9"});
    whole.as_object_mut().expect("an object").extend(host.as_object().expect("an object").clone());
    put(&mut snapshot, whole);
    snapshot
}

fn with_c16(low: f64) -> Curves {
    let mut curves = curves();
    let curve = curve_on("c16", "sso", low);
    curves.get_mut("sso").expect("measured").insert(curve.host_type.clone(), curve);
    curves
}

#[test]
fn the_host_type_on_which_an_instance_takes_least_decides() {
    let snapshot = mixed(serde_json::json!({}));
    for (low, capacity, basis) in [
        (60.0, 60.0, "curve op-8; host type c16, on which an instance takes least"),
        (250.0, 100.0, "curve op-7; host type c8, on which an instance takes least"),
    ] {
        let sizing = size(&snapshot, &event(400.0), &with_c16(low));
        let sso = of(&sizing, "sso");
        assert_eq!((sso.capacity_rps, sso.basis.to_string().as_str()), (Some(capacity), basis));
        assert!(sso.utilisation_one_lost <= UTILISATION_LOST_MAX);
    }
}

#[test]
fn a_host_type_that_the_service_cannot_land_on_says_nothing() {
    for host in [serde_json::json!({"pool": "gpu"}), serde_json::json!({"exclusive": "storage"})] {
        let sizing = size(&mixed(host.clone()), &event(400.0), &with_c16(60.0));
        let sso = of(&sizing, "sso");
        assert_eq!((sso.capacity_rps, sso.basis.to_string().as_str()), (Some(100.0), "curve op-7"), "{host}");
    }
    let mut elsewhere = mixed(serde_json::json!({}));
    change(&mut elsewhere, "sso", |service| service.instances = BTreeMap::from([("dc-a".parse().expect("a name"), 3)]));
    assert_eq!(of(&size(&elsewhere, &event(100.0), &with_c16(60.0)), "sso").capacity_rps, Some(100.0));
}

#[test]
fn a_host_type_nobody_measured_is_sized_with_another_s_curve_and_named() {
    let sizing = size(&mixed(serde_json::json!({})), &event(400.0), &curves());
    let basis = of(&sizing, "sso").basis.to_string();
    assert_eq!(basis, "curve op-7; no curve on host type c16: that on c8 stands in");
    let mut only_c16 = with_c16(60.0);
    only_c16.get_mut("sso").expect("measured").remove("c8");
    let sizing = size(&fleet(), &event(400.0), &only_c16);
    let basis = of(&sizing, "sso").basis.to_string();
    assert_eq!(basis, "curve op-8; no curve on host type c8: that on c16 stands in");
}

fn weights() -> impl Strategy<Value = BTreeMap<DatacenterName, u32>> {
    prop::collection::vec(1_u32..200, 1..6).prop_map(|counts| {
        counts.into_iter().enumerate().map(|(i, n)| (format!("dc-{i}").parse().expect("a name"), n)).collect()
    })
}

proptest! {
    #[test]
    fn utilisation_rules_hold(erlangs in 0.0_f64..5_000.0, weights in weights()) {
        let needed = spread::needed(erlangs, &weights);
        let (up, lost) = spread::utilisation(erlangs, &needed);
        prop_assert!(needed.keys().eq(weights.keys()) && needed.values().all(|n| *n >= 1));
        prop_assert!(lost <= UTILISATION_LOST_MAX + 1e-6, "{lost} with one lost");
        if weights.len() > 1 {
            prop_assert!(up <= UTILISATION_MAX + 1e-6, "{up} with all up");
        }
    }

    #[test]
    fn more_load_never_needs_fewer_anywhere(a in 0.0_f64..2_000.0, more in 0.0_f64..50.0, weights in weights()) {
        let (less, more) = (spread::needed(a, &weights), spread::needed(a + more, &weights));
        prop_assert!(less.iter().all(|(dc, n)| more[dc] >= *n), "{less:?} then {more:?}");
    }

    #[test]
    fn one_more_never_needs_fewer_anywhere(a in 1_u32..400, weights in weights()) {
        // Steps of a fraction of an instance: rounding shows here first.
        for step in 0..20 {
            let erlangs = f64::from(a) + f64::from(step) * 0.11;
            let (less, more) = (spread::needed(erlangs, &weights), spread::needed(erlangs + 0.11, &weights));
            prop_assert!(less.iter().all(|(dc, n)| more[dc] >= *n), "{less:?} then {more:?} at {erlangs}");
        }
    }

    #[test]
    fn nothing_is_wasted(erlangs in 10.0_f64..5_000.0, count in 4_usize..8) {
        let weights: BTreeMap<DatacenterName, u32> =
            (0..count).map(|i| (format!("dc-{i}").parse().expect("a name"), 5)).collect();
        let (up, lost) = spread::utilisation(erlangs, &spread::needed(erlangs, &weights));
        // A whole instance a datacenter is the grain.
        let grain = erlangs / (erlangs / 0.5 + count as f64);
        prop_assert!(up >= grain.min(0.49) || lost > UTILISATION_LOST_MAX * 0.85, "{up} up, {lost} lost");
    }
}

#[test]
fn covering_one_loss_never_takes_from_another_s_cover() {
    let weights = [194, 195, 193, 90].into_iter().enumerate();
    let weights = weights.map(|(i, n)| (format!("dc-{i}").parse().expect("a name"), n)).collect();
    let (less, more) = (spread::needed(254.104_708, &weights), spread::needed(255.248_725, &weights));
    assert!(less.iter().all(|(dc, n)| more[dc] >= *n), "{less:?} then {more:?}");
}

#[test]
fn unknown_host_types_are_named() {
    let mut snapshot = fleet();
    let key = ResourceKey { kind: Kind::HostType, name: "c8".to_owned() };
    snapshot.resources.remove(&key);
    let text = size(&snapshot, &event(1.0), &curves()).shortages.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text, ["host type c8 is not declared; its hosts count as empty"]);
}
