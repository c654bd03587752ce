//! Instances, hosts and services, as intended and as seen.

use super::App;
use super::extract::{Json, Params};
use super::problem::Failure;
use crate::control_loop::world::{World, placements_on};
use crate::fleet::assign::layer;
use api::http::{HostView, InstanceView, ServiceView};
use axum::extract::State;
use control::{HostState, InstanceObserved, Phase};
use model::{Host, HostName, InstanceId, Placement, Service, ServiceName};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Narrows the list of instances.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceFilter {
    service: Option<String>,
    host: Option<String>,
}

/// The word for a phase.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Fetching => "fetching",
        Phase::Deployed => "deployed",
        Phase::Starting => "starting",
        Phase::Healthy => "healthy",
        Phase::Unhealthy => "unhealthy",
        Phase::Backoff => "backoff",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed => "failed",
    }
}

/// Instances, by id within each host.
#[utoipa::path(get, path = "/v1/instances",
    params(("service" = Option<String>, Query, description = "only of this service"),
        ("host" = Option<String>, Query, description = "only on this host")),
    responses((status = 200, body = Vec<InstanceView>)))]
pub async fn instances(
    State(app): State<App>,
    Params(filter): Params<InstanceFilter>,
) -> Result<Json<Vec<InstanceView>>, Failure> {
    Ok(Json(app.control.read(move |world| list_instances(world, &filter)).await?))
}

fn list_instances(world: &World, filter: &InstanceFilter) -> Vec<InstanceView> {
    let service = filter.service.as_deref().map(ServiceName::new).transpose();
    let (Ok(service), Ok(host)) = (service, filter.host.as_deref().map(HostName::new).transpose()) else {
        return Vec::new();
    };
    let wanted = |at: &HostName| host.as_ref().is_none_or(|host| host == at);
    match &service {
        Some(service) => {
            let found = world.placements_of(service).filter(|(at, _)| wanted(at));
            instance_views(world, found)
        }
        None => {
            let hosts = world.snapshot.placements.keys().filter(|at| wanted(at));
            instance_views(world, hosts.flat_map(|at| placements_on(&world.snapshot, at).map(move |p| (at, p))))
        }
    }
}

/// The views of some placements, weights of their services looked up once each.
pub fn instance_views<'a>(
    world: &World,
    placements: impl Iterator<Item = (&'a HostName, &'a Placement)>,
) -> Vec<InstanceView> {
    let mut weights: BTreeMap<&ServiceName, BTreeMap<InstanceId, u32>> = BTreeMap::new();
    let mut views = Vec::new();
    for (host, placement) in placements {
        let weights = weights.entry(&placement.service).or_insert_with(|| {
            let endpoints = control::endpoints(&world.snapshot, &world.observed, &placement.service);
            endpoints.into_iter().map(|endpoint| (endpoint.instance, endpoint.weight)).collect()
        });
        let leased = world.overrides.get(&placement.service);
        let leased = leased.and_then(|leased| leased.weights.get(placement.instance.as_str()));
        let weight = leased.or(weights.get(&placement.instance)).copied().unwrap_or(0);
        views.push(instance_view(world, host, placement, weight));
    }
    views.sort_by_cached_key(|at| natural(&at.instance));
    views
}

/// Orders `pay-2` before `pay-10`.
fn natural(instance: &InstanceId) -> (String, u64) {
    let (service, number) = instance.as_str().rsplit_once('-').unwrap_or((instance.as_str(), ""));
    (service.to_owned(), number.parse().unwrap_or(0))
}

fn instance_view(world: &World, host: &HostName, placement: &Placement, weight: u32) -> InstanceView {
    let seen = world.observed.instances.get(&placement.instance);
    let of = |field: fn(&InstanceObserved) -> String| seen.map(field).unwrap_or_default();
    let port = world.snapshot.service(&placement.service).and_then(|service| service.ports.first());
    let port = port.and_then(|name| placement.ports.get(name));
    let address = world.snapshot.host(host).map(|host| host.address);
    InstanceView {
        instance: placement.instance.clone(),
        service: placement.service.clone(),
        host: host.to_string(),
        datacenter: world.snapshot.datacenter_of(host).map(ToString::to_string).unwrap_or_default(),
        intent: placement.intent,
        phase: match seen {
            None => "unknown",
            Some(_) if world.is_lost(host) => "lost",
            Some(seen) => phase(seen.phase),
        }
        .to_owned(),
        message: match seen {
            Some(seen) if world.is_lost(host) => format!("host {host} is lost; last seen {}", phase(seen.phase)),
            _ => of(|seen| seen.message.clone()),
        },
        restarts: seen.map_or(0, |seen| seen.restarts),
        since: seen.map_or(0, |seen| seen.since),
        endpoint: address
            .zip(port)
            .map(|(ip, port)| std::net::SocketAddr::new(ip, *port).to_string())
            .unwrap_or_default(),
        weight,
        pid: seen.map_or(0, |seen| seen.pid),
        package_version: placement.package_version.clone(),
        package_digest: placement.package_digest.clone(),
        shape: placement.shape,
    }
}

/// Hosts, by name.
#[utoipa::path(get, path = "/v1/hosts", responses((status = 200, body = Vec<HostView>)))]
pub async fn hosts(State(app): State<App>) -> Result<Json<Vec<HostView>>, Failure> {
    let all = |world: &World| world.snapshot.hosts().map(|host| host_view(world, host)).collect();
    Ok(Json(app.control.read(all).await?))
}

/// The view of a host.
pub fn host_view(world: &World, host: &Host) -> HostView {
    let seen = world.observed.hosts.get(&host.name);
    let host_type = world.snapshot.host_type(&host.host_type);
    let (mut instances, mut cpu, mut memory) = (0, 0, 0);
    for placement in placements_on(&world.snapshot, &host.name) {
        instances += 1;
        cpu += u64::from(placement.shape.cpu.0);
        memory += placement.shape.memory.0;
    }
    let state = match seen.map(|seen| seen.state) {
        Some(HostState::Connected) => "connected",
        Some(HostState::Lost) => "lost",
        None => "unknown",
    };
    HostView {
        name: host.name.to_string(),
        datacenter: world.snapshot.datacenter_of(&host.name).map(ToString::to_string).unwrap_or_default(),
        rack: host.rack.to_string(),
        pool: host.pool.to_string(),
        state: state.to_owned(),
        since: seen.map_or(0, |seen| seen.since),
        cordoned: world.snapshot.host_intents.get(&host.name).is_some_and(|at| at.value.cordoned),
        instances,
        cpu_millis_used: cpu,
        cpu_millis: host_type.map_or(0, |of| u64::from(of.cpu.0)),
        memory_bytes_used: memory,
        memory_bytes: host_type.map_or(0, |of| of.memory.0),
        isolation: seen.map(|seen| seen.isolation.clone()).unwrap_or_default(),
    }
}

/// Services, by name.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = Vec<ServiceView>)))]
pub async fn services(State(app): State<App>) -> Result<Json<Vec<ServiceView>>, Failure> {
    let all = |world: &World| {
        let at_work = operations_at_work(world);
        world.snapshot.services().map(|service| service_view(world, service, &at_work)).collect()
    };
    Ok(Json(app.control.read(all).await?))
}

/// The open operation of each service that has one.
pub fn operations_at_work(world: &World) -> BTreeMap<ServiceName, String> {
    let open = world.snapshot.operations.values().map(|at| &at.value).filter(|operation| !operation.phase.is_final());
    open.filter_map(|operation| Some((operation.spec.service()?.clone(), operation.id.to_string()))).collect()
}

/// The view of a service.
pub fn service_view(world: &World, service: &Service, at_work: &BTreeMap<ServiceName, String>) -> ServiceView {
    let version = world.snapshot.package(&service.package).map_or("?", |package| package.version.as_str());
    ServiceView {
        name: service.name.to_string(),
        business: service.business.to_string(),
        layer: layer(service.layer).to_owned(),
        package: format!("{} {version}", service.package),
        wanted: world.snapshot.instances_wanted(service).values().sum(),
        healthy: world.healthy(&service.name),
        placed: world.placements_of(&service.name).count() as u32,
        operation: at_work.get(&service.name).cloned(),
    }
}
