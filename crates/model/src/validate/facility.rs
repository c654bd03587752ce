//! Rules of everything that is not a service: circuits, hosts, host types, externals, packages, events.

use super::World;
use crate::fault::Fault;
use crate::resource::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Faults of facilities, externals, packages and events.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = hosts_collide(world);
    for (key, resource) in &world.resources {
        let found = match resource {
            Resource::Circuit(circuit) => circuit_fault(circuit),
            Resource::Host(host) => host_fault(host),
            Resource::External(external) => external_fault(world, external),
            Resource::Package(package) => package_fault(world, key, package),
            Resource::Event(event) => {
                faults.extend(event_faults(world, key, event));
                None
            }
            _ => None,
        };
        faults.extend(found.map(|(field, message)| world.fault(key, field, message)));
    }
    faults
}

type Found = Option<(&'static str, String)>;

fn circuit_fault(circuit: &Circuit) -> Found {
    let [one, other] = &circuit.between;
    (one == other).then(|| ("between", format!("joins `{one}` with itself; name two different datacenters")))
}

fn host_fault(host: &Host) -> Found {
    let PortRange { first, last } = host.ports;
    if first > last || first == 0 {
        return Some((
            "ports",
            format!("first {first} and last {last} make no range; first must be from 1 and not after last"),
        ));
    }
    (host.address.is_unspecified() || host.address.is_multicast())
        .then(|| ("address", format!("{} is no address of one host", host.address)))
}

fn external_fault(world: &World<'_>, external: &External) -> Found {
    let most = external.requests_per_second_max;
    if !most.is_finite() || most <= 0.0 {
        return Some(("requests_per_second_max", format!("{most} is no capacity; it must be above 0")));
    }
    let key = ResourceKey { kind: Kind::Service, name: external.name.as_str().to_owned() };
    world.resources.contains_key(&key).then(|| {
        let place = world.place(&key);
        (
            "name",
            format!(
                "`{}` is also the name of a service ({place}); callers could not tell them apart, rename one",
                external.name
            ),
        )
    })
}

fn package_fault(world: &World<'_>, key: &ResourceKey, package: &Package) -> Found {
    if package.command.first().is_none_or(String::is_empty) {
        return Some(("command", "is empty; begin with the program, such as [bin/server]".to_owned()));
    }
    if package.digest.is_some() {
        return None;
    }
    match world.declared.get(key).map(|declared| &declared.resource) {
        Some(Resource::Package(Package { source: Some(source), .. })) => {
            let message = format!(
                "`{source}` was not packed, so the package has no digest; apply with `springtide apply -f`, which packs it"
            );
            Some(("source", message))
        }
        _ => {
            let message = "is missing; give `source` (springtide packs it) or the digest of an uploaded package";
            Some(("digest", message.to_owned()))
        }
    }
}

fn event_faults(world: &World<'_>, key: &ResourceKey, event: &Event) -> Vec<Fault> {
    let mut faults = Vec::new();
    let time = |text: &Option<String>| text.as_deref().and_then(crate::time::parse_rfc3339);
    if let (Some(from), Some(to)) = (time(&event.starts_at), time(&event.ends_at))
        && to <= from
    {
        faults.push(world.fault(key, "ends_at", "is not after starts_at".to_owned()));
    }
    if event.entry_requests_per_second.is_empty() {
        faults.push(world.fault(
            key,
            "entry_requests_per_second",
            "names no entry service; give at least one with its peak",
        ));
    }
    for (name, peak) in &event.entry_requests_per_second {
        let field = format!("entry_requests_per_second.{name}");
        if !peak.is_finite() || *peak < 0.0 {
            faults.push(world.fault(key, &field, format!("{peak} is no load; it must be 0 or more")));
        }
        let Some(Resource::Service(service)) = world.get(Kind::Service, name.as_str()) else { continue };
        if service.layer != Layer::Access {
            let message = format!(
                "`{name}` is no entry service (its layer is {}); entries are of the access layer",
                service.layer.as_str()
            );
            faults.push(world.fault(key, &field, message));
        }
        if service.business != event.business {
            let message =
                format!("`{name}` belongs to business `{}`, the event to `{}`", service.business, event.business);
            faults.push(world.fault(key, &field, message));
        }
    }
    faults
}

/// Hosts that share an address must not share ports.
fn hosts_collide(world: &World<'_>) -> Vec<Fault> {
    let mut by_address: BTreeMap<IpAddr, Vec<(&ResourceKey, &Host)>> = BTreeMap::new();
    for (key, resource) in &world.resources {
        if let Resource::Host(host) = resource {
            by_address.entry(host.address).or_default().push((key, host));
        }
    }
    let mut faults = Vec::new();
    for sharing in by_address.values_mut() {
        sharing.sort_by_key(|(_, host)| (host.ports.first, host.ports.last));
        let mut widest: Option<&Host> = None;
        for (key, host) in sharing {
            if let Some(other) = widest.filter(|other| host.ports.first <= other.ports.last) {
                let message = format!(
                    "host {} has the same address and overlapping ports ({}-{} and {}-{}); give each its own",
                    other.name, other.ports.first, other.ports.last, host.ports.first, host.ports.last
                );
                faults.push(world.fault(key, "address", message));
            }
            if widest.is_none_or(|other| host.ports.last > other.ports.last) {
                widest = Some(host);
            }
        }
    }
    faults
}
