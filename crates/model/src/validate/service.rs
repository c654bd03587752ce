//! Rules of services: what each layer may do with data, ports, calls, routes.

use super::World;
use crate::fault::{Fault, did_you_mean};
use crate::resource::*;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the instance's own data folder among the persistent paths.
pub const DATA_PATH: &str = "data";
/// Most calls that one request may make to one dependency.
const CALLS_PER_REQUEST_MAX: f64 = 1_000_000.0;

/// Faults of services, each by itself and between them.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = routes_collide(world);
    for (key, service) in world.services() {
        let mut found = Vec::new();
        layer(service, &mut found);
        ports(service, &mut found);
        calls(service, &mut found);
        rest(service, &mut found);
        faults.extend(found.into_iter().map(|(field, message)| world.fault(key, &field, message)));
    }
    faults
}

type Found = Vec<(String, String)>;

fn layer(service: &Service, found: &mut Found) {
    let layer = service.layer.as_str();
    let mut refuse = |field: &str, message: String| found.push((field.to_owned(), message));
    if service.layer != Layer::Storage && !service.persistent_paths.is_empty() {
        refuse("persistent_paths", format!("the {layer} layer persists nothing; only layer: storage may"));
    }
    if service.layer != Layer::Logic && service.cache_seconds_max.is_some() {
        let why = if service.layer == Layer::Access { "keeps no data at all" } else { "persists, it does not cache" };
        refuse("cache_seconds_max", format!("the {layer} layer {why}; only layer: logic may cache"));
    }
    if service.layer != Layer::Access && !service.routes.is_empty() {
        refuse("routes", format!("the {layer} layer gets no request from outside; only layer: access has routes"));
    }
    for (at, path) in service.persistent_paths.iter().enumerate() {
        let plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
        if path != DATA_PATH && !plain {
            let message = format!("`{path}` is neither `{DATA_PATH}` nor an absolute path without `..`");
            refuse(&format!("persistent_paths[{at}]"), message);
        }
    }
}

fn ports(service: &Service, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for (at, port) in service.ports.iter().enumerate() {
        if !seen.insert(port) {
            found.push((format!("ports[{at}]"), format!("port `{port}` stands twice; keep one")));
        }
    }
    if !service.routes.is_empty() && service.ports.is_empty() {
        found.push(("routes".to_owned(), "the service has no port to carry them; give `ports: [http]`".to_owned()));
    }
    let check = service.health_check.as_ref().map(|check| ("health_check", "check", &check.port));
    let metrics = service.metrics.as_ref().map(|metrics| ("metrics", "scrape", &metrics.port));
    for (field, what_for, port) in check.into_iter().chain(metrics) {
        match port {
            Some(port) if !service.ports.contains(port) => {
                let hint = did_you_mean(port, service.ports.iter().map(String::as_str));
                found.push((format!("{field}.port"), format!("the service has no port `{port}`{hint}")));
            }
            None if service.ports.is_empty() => {
                let message = format!("the service has no port to {what_for}; give `ports: [http]`");
                found.push((field.to_owned(), message));
            }
            Some(_) | None => {}
        }
    }
}

fn calls(service: &Service, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for (at, dependency) in service.dependencies.iter().enumerate() {
        let calls = dependency.calls_per_request;
        if !calls.is_finite() || !(0.0..=CALLS_PER_REQUEST_MAX).contains(&calls) {
            let message = format!("{calls} is no number of calls; it must be from 0 to {CALLS_PER_REQUEST_MAX}");
            found.push((format!("dependencies[{at}].calls_per_request"), message));
        }
        if !seen.insert(&dependency.on) {
            let message = format!("`{}` stands twice; add the calls up in one entry", dependency.on);
            found.push((format!("dependencies[{at}].on"), message));
        }
    }
}

fn rest(service: &Service, found: &mut Found) {
    if service.traffic.hash_header.is_some() && service.traffic.balance != Balance::UserHash {
        let message = "only `balance: user-hash` looks at a header; give that too, or leave this out".to_owned();
        found.push(("traffic.hash_header".to_owned(), message));
    }
    if service.traffic != Traffic::default() && service.ports.is_empty() {
        found.push(("traffic".to_owned(), "the service has no port to carry it; give `ports: [http]`".to_owned()));
    }
    let rate = service.slo.error_rate;
    if !(0.0..=1.0).contains(&rate) {
        found.push(("slo.error_rate".to_owned(), format!("{rate} is no share; it must be from 0 to 1")));
    }
    if let Some(at) = service.avoid.iter().position(|name| *name == service.name) {
        let message = "a service cannot avoid itself; `per_host_max: 1` keeps its instances apart".to_owned();
        found.push((format!("avoid[{at}]"), message));
    }
}

/// Two routes of the same host and path would make the answer a matter of luck.
fn routes_collide(world: &World<'_>) -> Vec<Fault> {
    let mut first: BTreeMap<(Option<String>, &str), &ResourceKey> = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, service) in world.services() {
        for (at, route) in service.routes.iter().enumerate() {
            let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
            let Some(other) = first.insert((host, &route.path_prefix), key) else { continue };
            let host = route.host.as_deref().unwrap_or("any host");
            let message = format!(
                "{host} with path `{}` is routed to {other} already ({}); change one",
                route.path_prefix,
                world.place(other)
            );
            faults.push(world.fault(key, &format!("routes[{at}]"), message));
        }
    }
    faults
}
