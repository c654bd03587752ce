//! The checker refuses each kind of unlawful plan, and names it.

use super::fleet::*;
use crate::{PlaceRequest, Plan, Violation, check, plan};
use model::{InstanceId, Layer};

/// A lawful plan of two instances in d1 (a, c), made wrong by the change; what the checker says.
fn after(change: impl FnOnce(&mut Fleet, &mut PlaceRequest, &mut Plan)) -> Vec<Violation> {
    let mut fleet = four_hosts();
    let mut wish = request("lottery", &[("d1", 2)]);
    let mut plan = plan(&fleet.snapshot, &wish);
    check(&fleet.snapshot, &wish, &plan).unwrap();
    change(&mut fleet, &mut wish, &mut plan);
    check(&fleet.snapshot, &wish, &plan).unwrap_err()
}

/// The second instance, on c.
fn second() -> InstanceId {
    name("lottery-2")
}

#[test]
fn ids() {
    let dup = after(|_, _, plan| plan.adds[1].instance = name("lottery-1"));
    assert_eq!(dup, [Violation::DuplicateId(name("lottery-1"))]);
    let exists = after(|fleet, wish, plan| {
        let mut earlier = plan.clone();
        earlier.adds.truncate(1);
        earlier.adds[0].ports.insert("http".to_owned(), 20_009);
        fleet.commit(&wish.service, &earlier);
    });
    assert_eq!(exists, [Violation::DuplicateId(name("lottery-1"))]);
    let early = after(|_, wish, _| wish.first_number = 2);
    assert_eq!(early, [Violation::WrongId(name("lottery-1"))]);
    let other = after(|_, _, plan| plan.adds[1].instance = name("gift-2"));
    assert_eq!(other, [Violation::WrongId(name("gift-2"))]);
}

#[test]
fn counts() {
    let wrong =
        |wanted, placed, missing| vec![Violation::WrongCount { datacenter: name("d1"), wanted, placed, missing }];
    assert_eq!(after(|_, _, plan| plan.adds.truncate(1)), wrong(2, 1, 0));
    assert_eq!(after(|_, wish, _| wish.adds = [(name("d1"), 1)].into()), wrong(1, 2, 0));
    assert_eq!(after(|_, wish, _| wish.adds.clear()), wrong(0, 2, 0));
    let lie = |_: &mut Fleet, _: &mut PlaceRequest, plan: &mut Plan| {
        let reasons = Default::default();
        plan.shortfalls.push(crate::Shortfall { datacenter: name("d1"), wanted: 3, placed: 2, reasons });
    };
    assert_eq!(after(lie), wrong(2, 2, 1));
}

#[test]
fn places() {
    let unknown = after(|_, _, plan| plan.adds[1].host = name("ghost"));
    assert_eq!(unknown, [Violation::UnknownHost { host: name("ghost"), instance: second() }]);
    let elsewhere = after(|_, _, plan| plan.adds[1].host = name("d"));
    let (host, datacenter) = (name("d"), name("d1"));
    assert_eq!(elsewhere, [Violation::OtherDatacenter { host, instance: second(), datacenter }]);
    let nobody = after(|_, wish, plan| {
        wish.service = name("nobody");
        plan.adds[0].instance = name("nobody-1");
        plan.adds[1].instance = name("nobody-2");
    });
    assert_eq!(nobody, [Violation::UnknownService(name("nobody"))]);
}

#[test]
fn admission() {
    assert_eq!(after(|fleet, _, _| fleet.cordon("c")), [Violation::Cordoned(name("c"))]);
    assert_eq!(after(|_, wish, _| wish.unavailable = [name("c")].into()), [Violation::Unavailable(name("c"))]);
    let pool = after(|fleet, _, _| fleet.change_host("c", |host| host.pool = name("gpu")));
    assert_eq!(pool, [Violation::WrongPool(name("c"))]);
    let layer = after(|fleet, _, _| fleet.change_host("c", |host| host.exclusive = Some(Layer::Storage)));
    assert_eq!(layer, [Violation::ExclusiveToOtherLayer(name("c"))]);
}

#[test]
fn neighbours() {
    let both_on_c = |plan: &mut Plan| {
        plan.adds[0].host = name("c");
        plan.adds[0].ports.insert("http".to_owned(), 20_001);
    };
    let limit = after(|fleet, _, plan| {
        both_on_c(plan);
        fleet.change_service("lottery", |service| service.per_host_max = Some(1));
    });
    assert_eq!(limit, [Violation::PerHostMax { host: name("c"), instances: 2, max: 1 }]);
    let itself = after(|fleet, _, plan| {
        both_on_c(plan);
        fleet.change_service("lottery", |service| service.avoid = vec![name("lottery")]);
    });
    let pair = |other| Violation::Avoids { host: name("c"), service: name("lottery"), other: name(other) };
    assert_eq!(itself, [pair("lottery")]);
    for declared_by in ["lottery", "gift"] {
        let enemies = after(|fleet, _, _| {
            fleet.service("gift", "1C1G");
            let mut gifts = plan(&fleet.snapshot, &request("gift", &[("d1", 2)]));
            gifts.adds.retain(|added| added.host.as_str() == "c");
            gifts.adds[0].ports.insert("http".to_owned(), 20_005);
            fleet.commit(&name("gift"), &gifts);
            let other = if declared_by == "gift" { "lottery" } else { "gift" };
            fleet.change_service(declared_by, |service| service.avoid = vec![name(other)]);
        });
        assert_eq!(enemies, [pair("gift")]);
    }
}

#[test]
fn capacity() {
    let cpu = after(|fleet, _, _| {
        fleet.host_type("weak", "0.5", "8GiB");
        fleet.change_host("c", |host| host.host_type = name("weak"));
    });
    assert_eq!(cpu, [Violation::OverCpu { host: name("c"), capacity_millis: 500, wanted_millis: 1_000 }]);
    let memory = after(|fleet, _, _| {
        fleet.host_type("lean", "4", "1000MiB");
        fleet.change_host("c", |host| host.host_type = name("lean"));
    });
    let (capacity_bytes, wanted_bytes) = (1_000 << 20, 1 << 30);
    assert_eq!(memory, [Violation::OverMemory { host: name("c"), capacity_bytes, wanted_bytes }]);
    let gone = after(|fleet, _, _| fleet.change_host("c", |host| host.host_type = name("unheard-of")));
    assert_eq!(gone.len(), 2, "a host of unknown type carries nothing: {gone:?}");
}

#[test]
fn ports() {
    let missing = after(|_, _, plan| plan.adds[1].ports.clear());
    assert_eq!(missing, [Violation::WrongPorts(second())]);
    let renamed = after(|_, _, plan| {
        plan.adds[1].ports = [("admin".to_owned(), 20_000)].into();
    });
    assert_eq!(renamed, [Violation::WrongPorts(second())]);
    let outside = after(|_, _, plan| plan.adds[1].ports = [("http".to_owned(), 80)].into());
    assert_eq!(outside, [Violation::PortOutOfRange { host: name("c"), instance: second(), port: 80 }]);
    let twice = after(|_, _, plan| plan.adds[0].host = name("c"));
    assert_eq!(twice, [Violation::PortTaken { host: name("c"), port: 20_000 }]);
}
