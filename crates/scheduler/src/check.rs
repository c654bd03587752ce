//! The independent checker: re-derives every rule from the snapshot, record by record, in exact bytes of whole pages.
//!
//! It shares no code with the planner on purpose: a slip there must not be repeated here. It judges whether a plan is lawful,
//! not whether it is good; scores are absent.

use crate::request::{Added, PlaceRequest, Plan};
use model::{DatacenterName, Host, HostName, InstanceId, Placement, Service, ServiceName, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The service is not in the CMDB.
    #[error("service {0} is not in the cmdb")]
    UnknownService(ServiceName),
    /// The host is not in the CMDB.
    #[error("host {host} of {instance} is not in the cmdb")]
    UnknownHost { host: HostName, instance: InstanceId },
    /// An id that is not `<service>-<number>` with a number from the first one on.
    #[error("{0} is not an id of this request")]
    WrongId(InstanceId),
    /// An id that is given twice, or exists already.
    #[error("id {0} is given twice")]
    DuplicateId(InstanceId),
    /// The host does not stand in the datacenter that the plan names.
    #[error("host {host} of {instance} is not in datacenter {datacenter}")]
    OtherDatacenter { host: HostName, instance: InstanceId, datacenter: DatacenterName },
    /// Placed and missing instances do not add up to those wanted.
    #[error("datacenter {datacenter}: {wanted} wanted, but {placed} placed and {missing} reported missing")]
    WrongCount { datacenter: DatacenterName, wanted: u32, placed: u32, missing: u32 },
    /// The host is cordoned.
    #[error("host {0} is cordoned")]
    Cordoned(HostName),
    /// The host is unavailable.
    #[error("host {0} is unavailable")]
    Unavailable(HostName),
    /// The host belongs to another pool.
    #[error("host {0} is in another pool")]
    WrongPool(HostName),
    /// The host is exclusive to another layer.
    #[error("host {0} is exclusive to another layer")]
    ExclusiveToOtherLayer(HostName),
    /// Two services share a host that must not.
    #[error("host {host} would carry {service} and {other}, which must not share a host")]
    Avoids { host: HostName, service: ServiceName, other: ServiceName },
    /// More instances of the service than one host may have.
    #[error("host {host} would have {instances} instances of the service, at most {max} are allowed")]
    PerHostMax { host: HostName, instances: u32, max: u32 },
    /// CPU given twice.
    #[error("host {host} has {capacity_millis} thousandths of a core, {wanted_millis} would be given")]
    OverCpu { host: HostName, capacity_millis: u64, wanted_millis: u64 },
    /// Memory given twice.
    #[error("host {host} has {capacity_bytes} bytes of memory, {wanted_bytes} would be given")]
    OverMemory { host: HostName, capacity_bytes: u64, wanted_bytes: u64 },
    /// An instance whose ports are not exactly the service's.
    #[error("{0} does not get exactly the ports that its service names")]
    WrongPorts(InstanceId),
    /// A port outside the host's range.
    #[error("port {port} of {instance} is outside the range of host {host}")]
    PortOutOfRange { host: HostName, instance: InstanceId, port: u16 },
    /// A port given twice on a host.
    #[error("port {port} of host {host} is given twice")]
    PortTaken { host: HostName, port: u16 },
}

/// Judges a plan against the snapshot and the request it answers.
pub fn check(snapshot: &Snapshot, request: &PlaceRequest, plan: &Plan) -> Result<(), Vec<Violation>> {
    let mut found = Vec::new();
    counts(request, plan, &mut found);
    ids(snapshot, request, plan, &mut found);
    match snapshot.service(&request.service) {
        Some(service) => hosts(snapshot, service, request, plan, &mut found),
        None if plan.adds.is_empty() => {}
        None => found.push(Violation::UnknownService(request.service.clone())),
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn counts(request: &PlaceRequest, plan: &Plan, found: &mut Vec<Violation>) {
    let placed_in = plan.adds.iter().map(|added| &added.datacenter);
    let short_in = plan.shortfalls.iter().map(|short| &short.datacenter);
    let all: BTreeSet<_> = request.adds.keys().chain(placed_in).chain(short_in).collect();
    for datacenter in all {
        let wanted = request.adds.get(datacenter).copied().unwrap_or(0);
        let placed = plan.adds.iter().filter(|added| &added.datacenter == datacenter).count() as u32;
        let shorts: Vec<_> = plan.shortfalls.iter().filter(|short| &short.datacenter == datacenter).collect();
        let missing = shorts.iter().map(|short| short.wanted.saturating_sub(short.placed)).sum();
        let truthful = shorts.iter().all(|short| short.wanted == wanted && short.placed == placed);
        if u64::from(placed) + u64::from(missing) != u64::from(wanted) || !truthful || shorts.len() > 1 {
            found.push(Violation::WrongCount { datacenter: datacenter.clone(), wanted, placed, missing });
        }
    }
}

fn ids(snapshot: &Snapshot, request: &PlaceRequest, plan: &Plan, found: &mut Vec<Violation>) {
    let mut planned: BTreeSet<&InstanceId> = BTreeSet::new();
    for added in &plan.adds {
        let number = added.instance.as_str().strip_prefix(request.service.as_str());
        let number = number.and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.parse::<u64>().ok());
        if number.is_none_or(|number| number < request.first_number) {
            found.push(Violation::WrongId(added.instance.clone()));
        }
        if !planned.insert(&added.instance) {
            found.push(Violation::DuplicateId(added.instance.clone()));
        }
    }
    for placement in snapshot.placements.values().flat_map(|on| &on.value.instances) {
        if planned.contains(&placement.instance) {
            found.push(Violation::DuplicateId(placement.instance.clone()));
        }
    }
}

fn hosts(snapshot: &Snapshot, service: &Service, request: &PlaceRequest, plan: &Plan, found: &mut Vec<Violation>) {
    let mut by_host: BTreeMap<&HostName, Vec<&Added>> = BTreeMap::new();
    for added in &plan.adds {
        by_host.entry(&added.host).or_default().push(added);
    }
    for (name, adds) in by_host {
        let Some(host) = snapshot.host(name) else {
            found.push(Violation::UnknownHost { host: name.clone(), instance: adds[0].instance.clone() });
            continue;
        };
        let empty = Vec::new();
        let before = snapshot.placements.get(name).map_or(&empty, |on| &on.value.instances);
        location(snapshot, host, &adds, found);
        admission(snapshot, service, request, host, found);
        neighbours(snapshot, service, host, before, adds.len() as u32, found);
        capacity(snapshot, service, host, before, adds.len() as u64, found);
        ports(service, host, before, &adds, found);
    }
}

fn location(snapshot: &Snapshot, host: &Host, adds: &[&Added], found: &mut Vec<Violation>) {
    let real = snapshot.rack(&host.rack).map(|rack| &rack.datacenter);
    for added in adds.iter().filter(|added| real != Some(&added.datacenter)) {
        let (instance, datacenter) = (added.instance.clone(), added.datacenter.clone());
        found.push(Violation::OtherDatacenter { host: host.name.clone(), instance, datacenter });
    }
}

fn admission(snapshot: &Snapshot, service: &Service, request: &PlaceRequest, host: &Host, found: &mut Vec<Violation>) {
    if snapshot.host_intents.get(&host.name).is_some_and(|intent| intent.value.cordoned) {
        found.push(Violation::Cordoned(host.name.clone()));
    }
    if request.unavailable.contains(&host.name) {
        found.push(Violation::Unavailable(host.name.clone()));
    }
    if host.pool != service.pool {
        found.push(Violation::WrongPool(host.name.clone()));
    }
    if host.exclusive.is_some_and(|layer| layer != service.layer) {
        found.push(Violation::ExclusiveToOtherLayer(host.name.clone()));
    }
}

fn neighbours(
    snapshot: &Snapshot,
    service: &Service,
    host: &Host,
    before: &[Placement],
    added: u32,
    found: &mut Vec<Violation>,
) {
    let own = before.iter().filter(|placement| placement.service == service.name).count() as u32 + added;
    let others: BTreeSet<_> = before.iter().map(|p| &p.service).filter(|other| **other != service.name).collect();
    let mut enemies: Vec<&ServiceName> = Vec::new();
    for other in others {
        let declared_there = snapshot.service(other).is_some_and(|other| other.avoid.contains(&service.name));
        if service.avoid.contains(other) || declared_there {
            enemies.push(other);
        }
    }
    if own > 1 && service.avoid.contains(&service.name) {
        enemies.push(&service.name);
    }
    for other in enemies {
        let (service, other) = (service.name.clone(), other.clone());
        found.push(Violation::Avoids { host: host.name.clone(), service, other });
    }
    if let Some(max) = service.per_host_max.filter(|max| own > *max) {
        found.push(Violation::PerHostMax { host: host.name.clone(), instances: own, max });
    }
}

fn capacity(
    snapshot: &Snapshot,
    service: &Service,
    host: &Host,
    before: &[Placement],
    added: u64,
    found: &mut Vec<Violation>,
) {
    const PAGE: u64 = 4_096;
    let whole = |bytes: u64| bytes.next_multiple_of(PAGE);
    let of_type = snapshot.host_type(&host.host_type);
    let capacity_millis = of_type.map_or(0, |t| u64::from(t.cpu.0));
    let capacity_bytes = of_type.map_or(0, |t| t.memory.0 / PAGE * PAGE);
    let millis_before: u64 = before.iter().map(|placement| u64::from(placement.shape.cpu.0)).sum();
    let bytes_before: u64 = before.iter().map(|placement| whole(placement.shape.memory.0)).sum();
    let wanted_millis = millis_before + added * u64::from(service.shape.cpu.0);
    let wanted_bytes = bytes_before + added * whole(service.shape.memory.0);
    if wanted_millis > capacity_millis {
        found.push(Violation::OverCpu { host: host.name.clone(), capacity_millis, wanted_millis });
    }
    if wanted_bytes > capacity_bytes {
        found.push(Violation::OverMemory { host: host.name.clone(), capacity_bytes, wanted_bytes });
    }
}

fn ports(service: &Service, host: &Host, before: &[Placement], adds: &[&Added], found: &mut Vec<Violation>) {
    let mut taken: BTreeSet<u16> = before.iter().flat_map(|placement| placement.ports.values().copied()).collect();
    let named: BTreeSet<&String> = service.ports.iter().collect();
    for added in adds {
        if added.ports.keys().collect::<BTreeSet<_>>() != named {
            found.push(Violation::WrongPorts(added.instance.clone()));
        }
        for &port in added.ports.values() {
            if port < host.ports.first || port > host.ports.last {
                let (host, instance) = (host.name.clone(), added.instance.clone());
                found.push(Violation::PortOutOfRange { host, instance, port });
            }
            if !taken.insert(port) {
                found.push(Violation::PortTaken { host: host.name.clone(), port });
            }
        }
    }
}
