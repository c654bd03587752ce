//! What the planner chooses, and which reasons it gives.

use super::fleet::*;
use crate::{Plan, Planner, WhyNot, check, explain, plan, remove};
use model::{CpuMillis, HostName, Layer, MemoryBytes, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

fn hosts(plan: &Plan) -> Vec<&str> {
    plan.adds.iter().map(|added| added.host.as_str()).collect()
}

#[test]
fn spreads_over_racks_then_hosts_and_numbers_upwards() {
    let fleet = four_hosts();
    let mut wish = request("lottery", &[("d1", 4), ("d2", 1)]);
    wish.first_number = 7;
    let plan = plan(&fleet.snapshot, &wish);
    assert_eq!(hosts(&plan), ["a", "c", "b", "c", "d"]);
    assert_eq!(plan.adds[0].instance.as_str(), "lottery-7");
    assert_eq!(plan.adds[4].instance.as_str(), "lottery-11");
    assert_eq!(plan.adds[3].ports["http"], 20_001, "the second instance of c gets the next port");
    assert!(plan.shortfalls.is_empty());
    check(&fleet.snapshot, &wish, &plan).unwrap();
}

#[test]
fn best_fit_decides_among_equals() {
    let mut fleet = four_hosts();
    fleet.host_type("small", "2", "2GiB");
    fleet.change_host("b", |host| host.host_type = name("small"));
    fleet.change_host("c", |host| host.pool = name("other"));
    assert_eq!(hosts(&plan(&fleet.snapshot, &request("lottery", &[("d1", 1)]))), ["b"], "b is left with the least");
}

#[test]
fn draining_instances_take_room_but_do_not_count_for_spread() {
    let mut fleet = four_hosts();
    let lottery: ServiceName = name("lottery");
    let first = plan(&fleet.snapshot, &request("lottery", &[("d1", 2)]));
    assert_eq!(hosts(&first), ["a", "c"]);
    fleet.commit(&lottery, &first);
    fleet.drain(&name("c"), "lottery-2");
    let mut next = request("lottery", &[("d1", 1)]);
    next.first_number = 3;
    assert_eq!(hosts(&plan(&fleet.snapshot, &next)), ["c"]);
    fleet.change_service("lottery", |service| service.per_host_max = Some(1));
    assert_eq!(hosts(&plan(&fleet.snapshot, &next)), ["b"], "but it still counts for the limit");
}

#[test]
fn a_planner_remembers_what_it_placed() {
    let mut fleet = four_hosts();
    fleet.service("gift", "3C1G");
    let mut planner = Planner::new(&fleet.snapshot);
    let lottery = planner.plan(&request("lottery", &[("d2", 2)]));
    let gift = planner.plan(&request("gift", &[("d2", 1)]));
    assert_eq!((lottery.adds.len(), gift.adds.len()), (2, 0));
    let why = WhyNot::NotEnoughCpu { free: CpuMillis(2_000), wanted: CpuMillis(3_000) };
    assert_eq!(gift.shortfalls[0].reasons, BTreeMap::from([(why, 1)]));
}

#[test]
fn reasons_are_folded_and_ordered() {
    let mut fleet = four_hosts();
    fleet.cordon("c");
    fleet.change_host("b", |host| host.ports.last = 20_001);
    let plan = plan(&fleet.snapshot, &request("lottery", &[("d1", 9), ("nowhere", 2), ("d2", 0)]));
    assert_eq!(plan.adds.len(), 6);
    let full = WhyNot::NotEnoughCpu { free: CpuMillis(0), wanted: CpuMillis(1_000) };
    let expected = BTreeMap::from([(WhyNot::Cordoned, 1), (WhyNot::NoFreePort, 1), (full, 1)]);
    assert_eq!(plan.shortfalls[0].reasons, expected);
    assert_eq!((plan.shortfalls[0].wanted, plan.shortfalls[0].placed), (9, 6));
    assert_eq!((plan.shortfalls[1].datacenter.as_str(), plan.shortfalls[1].placed), ("nowhere", 0));
    assert!(plan.shortfalls[1].reasons.is_empty());
    assert_eq!(plan.shortfalls.len(), 2);
}

#[test]
fn an_id_too_long_is_a_reason_not_a_panic() {
    let mut fleet = four_hosts();
    let long = "x".repeat(61);
    fleet.service(&long, "1C1G");
    let mut wish = request(&long, &[("d1", 3)]);
    wish.first_number = 9;
    let plan = plan(&fleet.snapshot, &wish);
    assert_eq!(plan.adds.len(), 1);
    assert_eq!(plan.shortfalls[0].reasons, BTreeMap::from([(WhyNot::InstanceIdTooLong, 3)]));
    check(&fleet.snapshot, &wish, &plan).unwrap();
}

#[test]
fn an_unknown_service_is_all_shortfall() {
    let fleet = four_hosts();
    let wish = request("nobody", &[("d1", 2)]);
    let plan = plan(&fleet.snapshot, &wish);
    assert_eq!((plan.adds.len(), plan.shortfalls[0].wanted), (0, 2));
    check(&fleet.snapshot, &wish, &plan).unwrap();
}

/// One more instance of lottery on host a, as explained.
fn verdict(fleet: &Fleet, unavailable: &[&str]) -> Result<f64, WhyNot> {
    let unavailable: BTreeSet<HostName> = unavailable.iter().map(|host| name(host)).collect();
    let all = explain(&fleet.snapshot, &name("lottery"), &unavailable);
    assert_eq!(all.len(), 4);
    all.into_iter().find(|(host, _)| host.as_str() == "a").unwrap().1
}

fn after(change: impl FnOnce(&mut Fleet)) -> Result<f64, WhyNot> {
    let mut fleet = four_hosts();
    change(&mut fleet);
    verdict(&fleet, &[])
}

#[test]
fn each_reason_is_told_by_explain() {
    assert!(verdict(&four_hosts(), &[]).unwrap() > 0.99);
    assert_eq!(verdict(&four_hosts(), &["a"]), Err(WhyNot::Unavailable));
    assert_eq!(after(|fleet| fleet.cordon("a")), Err(WhyNot::Cordoned));
    assert_eq!(after(|fleet| fleet.change_host("a", |host| host.pool = name("gpu"))), Err(WhyNot::WrongPool));
    assert_eq!(after(|fleet| fleet.change_service("lottery", |of| of.pool = name("gpu"))), Err(WhyNot::WrongPool));
    let exclusive = |fleet: &mut Fleet| fleet.change_host("a", |host| host.exclusive = Some(Layer::Access));
    assert_eq!(after(exclusive), Err(WhyNot::ExclusiveToOtherLayer));
    let elsewhere = |fleet: &mut Fleet| {
        fleet.change_service("lottery", |of| of.instances = BTreeMap::from([(name("d2"), 1)]));
    };
    assert_eq!(after(elsewhere), Err(WhyNot::OtherDatacenter));
    assert_eq!(after(|fleet| fleet.change_host("a", |host| host.rack = name("lost"))), Err(WhyNot::OtherDatacenter));
    let none_allowed = |fleet: &mut Fleet| fleet.change_service("lottery", |of| of.per_host_max = Some(0));
    assert_eq!(after(none_allowed), Err(WhyNot::PerHostMax));
    let ports = |fleet: &mut Fleet| {
        fleet.change_service("lottery", |of| of.ports = (0..11).map(|port| format!("p{port}")).collect());
    };
    assert_eq!(after(ports), Err(WhyNot::NoFreePort));
    let cpu = WhyNot::NotEnoughCpu { free: CpuMillis(4_000), wanted: CpuMillis(5_000) };
    assert_eq!(after(|fleet| fleet.service("lottery", "5C1G")), Err(cpu));
    let memory = WhyNot::NotEnoughMemory { free: MemoryBytes(8 << 30), wanted: MemoryBytes(9 << 30) };
    assert_eq!(after(|fleet| fleet.service("lottery", "1C9G")), Err(memory.clone()));
    assert_eq!(memory.to_string(), "not enough memory: 8GiB free, 9GiB wanted");
}

#[test]
fn services_avoid_each_other_whichever_side_says_so() {
    for declared_by in ["lottery", "gift"] {
        let mut fleet = four_hosts();
        fleet.service("gift", "1C1G");
        let other = if declared_by == "gift" { "lottery" } else { "gift" };
        fleet.change_service(declared_by, |service| service.avoid = vec![name(other)]);
        let gifts = plan(&fleet.snapshot, &request("gift", &[("d1", 2)]));
        assert_eq!(hosts(&gifts), ["a", "c"]);
        fleet.commit(&name("gift"), &gifts);
        assert_eq!(verdict(&fleet, &[]), Err(WhyNot::Avoids { service: name("gift") }));
        let lotteries = plan(&fleet.snapshot, &request("lottery", &[("d1", 2)]));
        assert_eq!(hosts(&lotteries), ["b", "b"]);
    }
}

#[test]
fn a_service_that_avoids_itself_gets_one_a_host() {
    let mut fleet = four_hosts();
    fleet.change_service("lottery", |service| service.avoid = vec![name("lottery")]);
    let wish = request("lottery", &[("d1", 4)]);
    let plan = plan(&fleet.snapshot, &wish);
    assert_eq!(hosts(&plan), ["a", "c", "b"]);
    assert_eq!(plan.shortfalls[0].reasons, BTreeMap::from([(WhyNot::Avoids { service: name("lottery") }, 3)]));
    check(&fleet.snapshot, &wish, &plan).unwrap();
}

#[test]
fn victims_leave_the_rest_spread_and_are_the_newest() {
    let mut fleet = four_hosts();
    let placed = plan(&fleet.snapshot, &request("lottery", &[("d1", 6), ("d2", 1)]));
    assert_eq!(hosts(&placed), ["a", "c", "b", "c", "a", "c", "d"]);
    fleet.commit(&name("lottery"), &placed);
    let victims = |count| {
        let removes = BTreeMap::from([(name("d1"), count)]);
        let chosen = remove(&fleet.snapshot, &name("lottery"), &removes);
        chosen.into_iter().map(|(host, instance)| format!("{host} {instance}")).collect::<Vec<_>>()
    };
    assert_eq!(victims(4), ["c lottery-6", "a lottery-5", "c lottery-4", "b lottery-3"]);
    assert_eq!(victims(99).len(), 6, "never more than there are");
    fleet.drain(&name("c"), "lottery-6");
    let removes = BTreeMap::from([(name("d1"), 1)]);
    let chosen = remove(&fleet.snapshot, &name("lottery"), &removes);
    assert_eq!(chosen[0].1.as_str(), "lottery-5", "one that drains is not chosen again");
}

#[test]
fn a_shrunk_host_type_leaves_nothing_free() {
    let mut fleet = four_hosts();
    let placed = plan(&fleet.snapshot, &request("lottery", &[("d2", 4)]));
    fleet.commit(&name("lottery"), &placed);
    fleet.host_type("standard", "2", "2GiB");
    let mut wish = request("lottery", &[("d2", 1)]);
    wish.first_number = 5;
    let plan = plan(&fleet.snapshot, &wish);
    let why = WhyNot::NotEnoughCpu { free: CpuMillis(0), wanted: CpuMillis(1_000) };
    assert_eq!(plan.shortfalls[0].reasons, BTreeMap::from([(why, 1)]));
}
