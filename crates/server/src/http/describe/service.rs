//! What there is to say about a service: its instances, why some are missing, what they run, what they can bear.

use super::{INSTANCE_HEAD, ago, instance_row, list, row, table};
use crate::control_loop::world::World;
use crate::http::views::{instance_views, operations_at_work, service_view};
use api::http::Section;
use control::HostState;
use model::{BindingResource, Digest, HostName, Service, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// The sections of a service.
pub fn sections(world: &World, service: &Service, now: UnixMs) -> Vec<Section> {
    let mut sections = vec![state(world, service, now)];
    let rows: Vec<_> =
        instance_views(world, world.placements_of(&service.name)).iter().map(|at| instance_row(at, now)).collect();
    sections.push(table("instances", &INSTANCE_HEAD, rows));
    sections.extend(placement(world, service));
    sections.push(digests(world, service));
    sections.extend(curve(world, service, now));
    sections
}

fn state(world: &World, service: &Service, now: UnixMs) -> Section {
    let view = service_view(world, service, &operations_at_work(world));
    let wanted = world.snapshot.instances_wanted(service);
    let spread: Vec<String> = wanted.iter().map(|(datacenter, count)| format!("{datacenter} {count}")).collect();
    let by = match world.snapshot.scales.get(&service.name) {
        Some(scale) => {
            format!("set by {}; the manifest says {}", scale.value.operation, service.instances.values().sum::<u32>())
        }
        None => "as the manifest says".to_owned(),
    };
    let mut rows = vec![
        row("instances", format!("{} healthy, {} placed, {} wanted ({})", view.healthy, view.placed, view.wanted, by)),
        row("datacenters", spread.join(", ")),
        row("package", view.package),
    ];
    if let Some(id) = &view.operation
        && let Some(operation) = world.snapshot.operations.get(id.as_str())
    {
        let doing = operation.value.log.last().map_or("", |line| line.text.as_str());
        rows.push(row("operation", format!("{id}, for {}: {doing}", ago(operation.value.created_at, now))));
    }
    if let Some(leased) = world.overrides.get(&service.name) {
        let weights: Vec<String> =
            leased.weights.iter().map(|(instance, weight)| format!("{instance} {weight}")).collect();
        rows.push(row("weights leased", weights.join(", ")));
    }
    list("state", rows)
}

/// Why instances are missing: each reason, with the hosts that give it.
fn placement(world: &World, service: &Service) -> Option<Section> {
    let wanted: u32 = world.snapshot.instances_wanted(service).values().sum();
    let placed = world.placements_of(&service.name).count() as u32;
    if placed >= wanted {
        return None;
    }
    let lost = world.observed.hosts.iter().filter(|(_, seen)| seen.state == HostState::Lost);
    let unavailable: BTreeSet<HostName> = lost.map(|(host, _)| host.clone()).collect();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (host, verdict) in scheduler::explain(&world.snapshot, &service.name, &unavailable) {
        let reason = match verdict {
            Ok(_) => "would take one more".to_owned(),
            Err(why) => why.to_string(),
        };
        reasons.entry(reason).or_default().push(host.to_string());
    }
    let rows = reasons.into_iter().map(|(reason, hosts)| vec![hosts.len().to_string(), reason, shown(&hosts)]);
    let title = format!("{} instances are missing: what the hosts say", wanted - placed);
    Some(table(&title, &["hosts", "reason", "which"], rows.collect()))
}

/// Hosts named in one cell.
const HOSTS_SHOWN: usize = 5;

fn shown(hosts: &[String]) -> String {
    let first = hosts.iter().take(HOSTS_SHOWN).cloned().collect::<Vec<_>>().join(" ");
    match hosts.len() > HOSTS_SHOWN {
        true => format!("{first} …"),
        false => first,
    }
}

/// Hex digits that tell digests apart; the page of an instance has them whole.
const DIGEST_SHOWN: usize = 12;

fn short(digest: &Digest) -> String {
    digest.hex()[..DIGEST_SHOWN].to_owned()
}

/// What is to run in each datacenter, and how many instances run it.
fn digests(world: &World, service: &Service) -> Section {
    let package = world.snapshot.package(&service.package).and_then(|package| package.digest.clone());
    let rows = service.instances.keys().map(|datacenter| {
        let config = model::config::resolve(&world.snapshot, service, datacenter);
        let here = world.placements_of(&service.name);
        let here: Vec<_> = here.filter(|(host, _)| world.snapshot.datacenter_of(host) == Some(datacenter)).collect();
        let (digest, current) = match &config {
            Ok(config) => {
                let same = here.iter().filter(|(_, at)| {
                    at.config_digest == config.digest && Some(&at.package_digest) == package.as_ref()
                });
                (short(&config.digest), same.count())
            }
            Err(fault) => (fault.to_string(), 0),
        };
        let package = package.as_ref().map_or("none yet: apply uploads it".to_owned(), short);
        vec![datacenter.to_string(), package, digest, format!("{current} of {}", here.len())]
    });
    table("what is to run", &["datacenter", "package digest", "config digest", "run it"], rows.collect())
}

/// What ran out first, in words.
fn bound(by: BindingResource) -> String {
    match by {
        BindingResource::Cpu => "its cpu quota".to_owned(),
        BindingResource::Serial => "something that serves one request at a time".to_owned(),
        BindingResource::Concurrency { limit } => format!("something that serves {limit:.0} requests at a time"),
        BindingResource::NotReached => "nothing: traffic ran out first, it can do more".to_owned(),
    }
}

fn curve(world: &World, service: &Service, now: UnixMs) -> Option<Section> {
    let curve = world.curves.iter().rev().find(|curve| curve.service == service.name)?;
    let capacity = curve.capacity_rps;
    let rows = vec![
        row("measured", format!("{} ago by {} on {}", ago(curve.measured_at, now), curve.operation, curve.instance)),
        row(
            "capacity",
            format!("{:.0} requests a second ({:.0} to {:.0})", capacity.value, capacity.low, capacity.high),
        ),
        row("knee", format!("{:.0} requests a second", curve.knee_rps)),
        row("cpu per request", format!("{:.0} µs", curve.cpu_us_per_request.value)),
        row("bound by", bound(curve.binding)),
        row("plain estimate", format!("{:.0} requests a second", curve.plain_estimate_rps)),
    ];
    Some(list("capacity of one instance", rows))
}
