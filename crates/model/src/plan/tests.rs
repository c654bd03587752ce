//! Tests of `plan`.

use super::*;
use crate::placement::*;
use crate::samples::{FLEET, declared, stored, texts};
use crate::unit::*;

fn key(kind: Kind, name: &str) -> ResourceKey {
    ResourceKey { kind, name: name.to_owned() }
}

fn with_scale(mut snapshot: Snapshot) -> Snapshot {
    let value = br#"{"service":"lottery","instances":{"east":7},"operation":"op-1"}"#;
    snapshot.fold("/scales/lottery", Some(value), 2).unwrap();
    snapshot
}

fn with_instance_on(mut snapshot: Snapshot, host: &str) -> Snapshot {
    let placement = Placement {
        instance: "lottery-1".parse().unwrap(),
        service: "lottery".parse().unwrap(),
        layer: Layer::Logic,
        package: "app".parse().unwrap(),
        package_version: "1.10".to_owned(),
        package_digest: Digest::of(b""),
        config_digest: Digest::of(b""),
        shape: "1C1G".parse().unwrap(),
        ports: BTreeMap::new(),
        intent: InstanceIntent::Running,
    };
    let on = HostPlacements { host: host.parse().unwrap(), instances: vec![placement] };
    snapshot.fold(&crate::keys::placements(&on.host), Some(&serde_json::to_vec(&on).unwrap()), 3).unwrap();
    snapshot
}

#[test]
fn applying_twice_changes_nothing() {
    let plan = plan(&stored(FLEET), &declared(FLEET), true).unwrap();
    assert_eq!((plan.changes.len(), plan.unchanged), (0, 18));
}

#[test]
fn shows_changed_fields() {
    let text = FLEET.replace("cpu: 500m", "cpu: 2").replace("{on: bank}", "{on: bank, calls_per_request: 3}");
    let plan = plan(&stored(FLEET), &declared(&text), false).unwrap();
    assert_eq!(plan.changes.len(), 1);
    let fields: Vec<String> =
        plan.changes[0].fields.iter().map(|f| format!("{}: {} → {}", f.field, f.before, f.after)).collect();
    assert_eq!(fields, ["dependencies[0].calls_per_request: 1.0 → 3.0", "shape.cpu: \"0.5\" → \"2\""]);
}

#[test]
fn a_package_is_stored_without_its_source() {
    let text = FLEET.replace("version: 1.10", "version: 1.10\nsource: target/app");
    let plan = plan(&stored(FLEET), &declared(&text), false).unwrap();
    assert_eq!(plan.changes, []);
}

#[test]
fn counts_set_by_scale_end_only_when_the_manifest_counts_change() {
    let snapshot = with_scale(stored(FLEET));
    let reset = |text: &str, prune| plan(&snapshot, &declared(text), prune).unwrap().scales_reset;
    assert_eq!(reset(&FLEET.replace("cpu: 500m", "cpu: 2"), false), []);
    let lottery: ServiceName = "lottery".parse().unwrap();
    assert_eq!(reset(&FLEET.replace("{east: 2, west: 2}", "{east: 3, west: 2}"), false), [lottery]);
}

#[test]
fn prune_deletes_what_is_absent_and_only_then() {
    let without = FLEET.split("---").filter(|part| !part.contains("midnight")).collect::<Vec<_>>().join("---");
    let snapshot = stored(FLEET);
    assert_eq!(plan(&snapshot, &declared(&without), false).unwrap().changes, []);
    let pruned = plan(&snapshot, &declared(&without), true).unwrap();
    assert_eq!(pruned.changes.len(), 1);
    assert_eq!((&pruned.changes[0].key, &pruned.changes[0].after), (&key(Kind::Event, "midnight"), &None));
}

#[test]
fn a_host_with_instances_stays() {
    let snapshot = with_instance_on(stored(FLEET), "host-w");
    let drain = "Host host-w carries 1 instances; drain it first: springtide drain host-w";
    let without = FLEET.split("---").filter(|part| !part.contains("name: host-w")).collect::<Vec<_>>().join("---");
    assert_eq!(texts(&plan(&snapshot, &declared(&without), true).unwrap_err()), [drain]);
    assert_eq!(texts(&delete(&snapshot, &key(Kind::Host, "host-w")).unwrap_err()), [drain]);
    let moved = FLEET.replace("127.1.2.1", "127.1.2.9");
    let found = texts(&plan(&snapshot, &declared(&moved), false).unwrap_err());
    assert!(
        found[0].starts_with("fleet.yaml:41: address: cannot change while the host carries 1 instances"),
        "{found:?}"
    );
    let exclusive = FLEET.replace("address: 127.1.2.1", "address: 127.1.2.1\nexclusive: access");
    let found = texts(&plan(&snapshot, &declared(&exclusive), false).unwrap_err());
    assert!(found[0].contains("exclusive: the host carries lottery-1 of another layer"), "{found:?}");
}

#[test]
fn delete_says_who_refers() {
    let snapshot = stored(FLEET);
    let refused = |kind, name| texts(&delete(&snapshot, &key(kind, name)).unwrap_err());
    assert_eq!(
        refused(Kind::Service, "lottery"),
        ["Service sso refers to Service lottery in `dependencies[0].on`; change or delete Service sso first"]
    );
    assert_eq!(refused(Kind::Service, "lotery"), ["Service lotery does not exist; did you mean `lottery`?"]);
    let gone = delete(&snapshot, &key(Kind::Service, "records")).unwrap();
    assert_eq!(gone.changes.len(), 1);
    assert!(gone.changes[0].before.is_some() && gone.changes[0].after.is_none());
}

#[test]
fn a_deleted_service_takes_its_scale_along() {
    let mut snapshot = stored(FLEET);
    snapshot.fold("/scales/records", Some(br#"{"service":"records","instances":{},"operation":"op-1"}"#), 2).unwrap();
    let gone = delete(&snapshot, &key(Kind::Service, "records")).unwrap();
    assert_eq!(gone.scales_reset, ["records".parse().unwrap()]);
}
