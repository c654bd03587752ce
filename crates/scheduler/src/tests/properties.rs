//! Properties over random fleets: plans are lawful, complete, spread and deterministic; a wrong plan is refused.

use super::fleet::*;
use crate::{Added, PlaceRequest, Plan, check, plan, remove};
use model::{DatacenterName, Layer, Service, ServiceName};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

const SERVICES: [&str; 3] = ["alpha", "beta", "gamma"];

/// One random host: rack, size, pool, exclusive layer, cordoned, unavailable, ports.
#[derive(Debug, Clone)]
struct RandomHost(u8, u8, bool, Option<bool>, bool, bool, u16);

/// One random service: cpu in tenths, memory in bytes, ports, per_host_max, avoids, access layer.
#[derive(Debug, Clone)]
struct RandomService(u32, u64, u8, Option<u32>, Vec<u8>, bool);

#[derive(Debug, Clone)]
struct Scenario {
    fleet: Fleet,
    requests: Vec<PlaceRequest>,
}

fn rare(one_in: u32) -> impl Strategy<Value = bool> {
    prop::bool::weighted(1.0 / f64::from(one_in))
}

fn random_host() -> impl Strategy<Value = RandomHost> {
    (0_u8..5, 1_u8..5, rare(6), prop::option::weighted(0.2, any::<bool>()), rare(8), rare(8), 1_u16..9).prop_map(
        |(rack, size, pool, layer, cordon, lost, ports)| RandomHost(rack, size, pool, layer, cordon, lost, ports),
    )
}

fn random_service() -> impl Strategy<Value = RandomService> {
    let avoids = prop::collection::vec(0_u8..3, 0..2);
    // Half of them fill a host to the last page, or miss it by a byte.
    let halves = (1_u64..5, 0_u64..2).prop_map(|(count, over)| count * (350 << 20) + over);
    let memory = prop_oneof![1_u64..1 << 30, halves];
    (1_u32..9, memory, 0_u8..3, prop::option::weighted(0.3, 1_u32..4), avoids, rare(4))
        .prop_map(|(cpu, memory, ports, max, avoids, access)| RandomService(cpu, memory, ports, max, avoids, access))
}

fn build(hosts: &[RandomHost], services: &[RandomService]) -> (Fleet, BTreeSet<model::HostName>) {
    let mut fleet = Fleet::default();
    let mut unavailable = BTreeSet::new();
    for rack in 0..5 {
        fleet.rack(&format!("r{rack}"), if rack < 3 { "d1" } else { "d2" });
    }
    for size in 1..5 {
        fleet.host_type(&format!("t{size}"), &format!("0.{}", size * 2), &format!("{}MiB", size * 700));
    }
    for (number, RandomHost(rack, size, pool, layer, cordon, lost, ports)) in hosts.iter().enumerate() {
        let host = format!("h{number}");
        fleet.host(&host, &format!("r{rack}"), &format!("t{size}"));
        fleet.change_host(&host, |host| {
            host.pool = if *pool { name("other") } else { name("general") };
            host.exclusive = layer.map(|access| if access { Layer::Access } else { Layer::Logic });
            host.ports.last = host.ports.first + ports - 1;
        });
        if *cordon {
            fleet.cordon(&host);
        }
        if *lost {
            unavailable.insert(name(&host));
        }
    }
    for (service, RandomService(cpu, memory, ports, max, avoids, access)) in SERVICES.iter().zip(services) {
        fleet.service(service, &format!("{}mC1G", cpu * 100));
        fleet.change_service(service, |of| {
            of.shape.memory = model::MemoryBytes(*memory);
            of.ports = (0..*ports).map(|port| format!("p{port}")).collect();
            of.per_host_max = *max;
            of.avoid = avoids.iter().map(|other| name(SERVICES[*other as usize])).collect();
            of.layer = if *access { Layer::Access } else { Layer::Logic };
        });
    }
    (fleet, unavailable)
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let wishes = prop::collection::vec((0_usize..3, 0_u32..6, 0_u32..6), 1..5);
    let hosts = prop::collection::vec(random_host(), 1..9);
    (hosts, prop::collection::vec(random_service(), 3), wishes).prop_map(|(hosts, services, wishes)| {
        let (fleet, unavailable) = build(&hosts, &services);
        let requests = wishes.iter().enumerate().map(|(turn, (service, first, second))| PlaceRequest {
            service: name(SERVICES[*service]),
            adds: BTreeMap::from([(name("d1"), *first), (name("d2"), *second)]),
            unavailable: unavailable.clone(),
            first_number: 1 + turn as u64 * 100,
        });
        Scenario { requests: requests.collect(), fleet }
    })
}

/// Whether any host takes one more beside the plan: tried on every host with whatever ports are free there.
fn one_more_fits(fleet: &Fleet, wish: &PlaceRequest, plan: &Plan, datacenter: &DatacenterName) -> bool {
    let snapshot = &fleet.snapshot;
    let service = snapshot.service(&wish.service).unwrap();
    let mut wish = wish.clone();
    wish.adds = BTreeMap::new();
    for added in &plan.adds {
        *wish.adds.entry(added.datacenter.clone()).or_insert(0) += 1;
    }
    *wish.adds.entry(datacenter.clone()).or_insert(0) += 1;
    snapshot.hosts().any(|host| {
        let placed = snapshot.placements.get(&host.name);
        let before = placed.iter().flat_map(|on| &on.value.instances).flat_map(|p| p.ports.values());
        let beside = plan.adds.iter().filter(|added| added.host == host.name).flat_map(|added| added.ports.values());
        let taken: BTreeSet<u16> = before.chain(beside).copied().collect();
        let mut free = (host.ports.first..=host.ports.last).filter(|port| !taken.contains(port));
        let mut ports = BTreeMap::new();
        for port in &service.ports {
            let Some(number) = free.next() else { return false };
            ports.insert(port.clone(), number);
        }
        let instance = name(&format!("{}-{}", service.name, wish.first_number + 99));
        let mut more = Plan { adds: plan.adds.clone(), shortfalls: Vec::new() };
        more.adds.push(Added { instance, host: host.name.clone(), datacenter: datacenter.clone(), ports });
        check(snapshot, &wish, &more).is_ok()
    })
}

fn wrongly(plan: &Plan, at: Index, kind: u8, service: &Service) -> Option<Plan> {
    let mut wrong = plan.clone();
    let at = at.index(plan.adds.len());
    match kind {
        0 => drop(wrong.adds.remove(at)),
        1 => wrong.adds.push(plan.adds[at].clone()),
        2 => wrong.adds[at].instance = name("delta-1"),
        3 => wrong.adds[at].datacenter = name("d3"),
        4 => drop(wrong.adds[at].ports.insert("extra".to_owned(), 20_000)),
        5 if !service.ports.is_empty() => drop(wrong.adds[at].ports.insert("p0".to_owned(), 19_999)),
        6 if service.ports.len() > 1 => {
            let first = wrong.adds[at].ports["p0"];
            wrong.adds[at].ports.insert("p1".to_owned(), first);
        }
        _ => return None,
    }
    Some(wrong)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_lawful_complete_and_deterministic(mut scenario in scenario()) {
        for wish in &scenario.requests {
            let found = plan(&scenario.fleet.snapshot, wish);
            prop_assert_eq!(&found, &plan(&scenario.fleet.snapshot, wish));
            prop_assert_eq!(check(&scenario.fleet.snapshot, wish, &found), Ok(()));
            for short in &found.shortfalls {
                prop_assert!(!one_more_fits(&scenario.fleet, wish, &found, &short.datacenter), "{:?}", found);
                let in_datacenter = scenario.fleet.snapshot.hosts().filter(|host| {
                    scenario.fleet.snapshot.datacenter_of(&host.name) == Some(&short.datacenter)
                });
                prop_assert_eq!(short.reasons.values().sum::<u32>() as usize, in_datacenter.count());
            }
            scenario.fleet.commit(&wish.service, &found);
        }
    }

    #[test]
    fn a_planner_used_again_plans_as_a_new_one_would(mut scenario in scenario()) {
        let before = scenario.fleet.snapshot.clone();
        let mut planner = crate::Planner::new(&before);
        for wish in &scenario.requests {
            let found = planner.plan(wish);
            prop_assert_eq!(&found, &plan(&scenario.fleet.snapshot, wish));
            scenario.fleet.commit(&wish.service, &found);
        }
    }

    #[test]
    fn a_wrong_plan_is_refused(scenario in scenario(), at: Index, kind in 0_u8..7) {
        let wish = &scenario.requests[0];
        let found = plan(&scenario.fleet.snapshot, wish);
        if !found.adds.is_empty()
            && let Some(wrong) = wrongly(&found, at, kind, scenario.fleet.snapshot.service(&wish.service).unwrap())
        {
            prop_assert!(check(&scenario.fleet.snapshot, wish, &wrong).is_err(), "{:?}", wrong);
        }
    }

    #[test]
    fn with_room_everywhere_racks_and_hosts_are_even(counts in prop::collection::vec(1_usize..5, 1..5), wanted in 1_u32..40) {
        let mut fleet = Fleet::default();
        fleet.host_type("huge", "100", "100GiB");
        for (rack, hosts) in counts.iter().enumerate() {
            fleet.rack(&format!("r{rack}"), "d1");
            for host in 0..*hosts {
                fleet.host(&format!("h{rack}-{host}"), &format!("r{rack}"), "huge");
                fleet.change_host(&format!("h{rack}-{host}"), |host| host.ports.last = 20_099);
            }
        }
        fleet.service("alpha", "0.1C100M");
        let found = plan(&fleet.snapshot, &request("alpha", &[("d1", wanted)]));
        fleet.commit(&name::<ServiceName>("alpha"), &found);
        even(&fleet, &counts)?;
        let go = remove(&fleet.snapshot, &name("alpha"), &BTreeMap::from([(name("d1"), wanted / 2)]));
        prop_assert_eq!(go.len() as u32, wanted / 2);
        for (host, instance) in go {
            fleet.drain(&host, instance.as_str());
        }
        even(&fleet, &counts)?;
    }
}

/// Racks differ by at most one instance, and so do the hosts within a rack.
fn even(fleet: &Fleet, counts: &[usize]) -> Result<(), TestCaseError> {
    let staying = |host: &str| {
        let on = fleet.snapshot.placements.get(host);
        let all = on.iter().flat_map(|on| &on.value.instances);
        all.filter(|placement| placement.intent == model::InstanceIntent::Running).count()
    };
    let level = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1;
    let mut racks = Vec::new();
    for (rack, hosts) in counts.iter().enumerate() {
        let on: Vec<usize> = (0..*hosts).map(|host| staying(&format!("h{rack}-{host}"))).collect();
        prop_assert!(level(&on), "hosts of rack {rack}: {on:?}");
        racks.push(on.iter().sum());
    }
    prop_assert!(level(&racks), "racks: {racks:?}");
    Ok(())
}
