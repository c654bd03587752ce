//! A service at this second: its edges with their numbers, and what its instances run.

use super::App;
use super::extract::{Json, name};
use super::live::tick::rounded;
use super::problem::{self, Failure};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use api::http::Problem;
use api::rows::{Edge, Runs, ServiceNow};
use axum::extract::{Path, State};
use metrics::golden::Pair;
use model::{Service, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// Instances named for each thing that is run.
const SOME_MAX: usize = 5;
/// Edges in each direction.
const EDGES_MAX: usize = 200;

/// Who calls a service, whom it calls, and what its instances run.
#[utoipa::path(get, path = "/v1/services/{name}/now", params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = ServiceNow), (status = 404, body = Problem)))]
pub async fn now(State(app): State<App>, Path(of): Path<String>) -> Result<Json<ServiceNow>, Failure> {
    let of: ServiceName = name(&of)?;
    app.control.read(move |world| view(world, &of)).await?.map(Json)
}

fn view(world: &World, name: &ServiceName) -> Result<ServiceNow, Failure> {
    let service = world.snapshot.service(name);
    if service.is_none() && !world.snapshot.externals().any(|of| of.name.as_str() == name.as_str()) {
        return Err(problem::not_found(format!("there is no service {name}: `springtide get services` lists them")));
    }
    let at = now_ms();
    let (to, from): (Vec<Pair>, Vec<Pair>) =
        world.feed.pairs_of(name.as_str(), at).into_iter().partition(|pair| pair.service == name.as_str());
    let calls: BTreeSet<&str> = service.into_iter().flat_map(depends).collect();
    let called_by: BTreeSet<&str> = world
        .snapshot
        .services()
        .filter(|of| depends(of).any(|on| on == name.as_str()))
        .map(|of| of.name.as_str())
        .collect();
    Ok(ServiceNow {
        at,
        callers: edges(to.into_iter().map(|pair| (pair.caller.clone(), pair)).collect(), &called_by),
        calls: edges(from.into_iter().map(|pair| (pair.service.clone(), pair)).collect(), &calls),
        runs: service.map(|service| runs(world, service)).unwrap_or_default(),
    })
}

fn depends(service: &Service) -> impl Iterator<Item = &str> {
    service.dependencies.iter().map(|dependency| dependency.on.as_str())
}

/// Those seen and those declared, busiest first.
fn edges(mut seen: BTreeMap<String, Pair>, declared: &BTreeSet<&str>) -> Vec<Edge> {
    for name in declared {
        if !seen.contains_key(*name) {
            seen.insert((*name).to_owned(), Pair::default());
        }
    }
    let edge = |(peer, pair): (String, Pair)| Edge {
        declared: peer == "outside" || declared.contains(peer.as_str()),
        peer,
        rps: rounded(pair.requests_per_second),
        failed_rps: rounded(
            pair.errors_per_second.map(|errors| (errors - pair.rejects_per_second.unwrap_or(0.0)).max(0.0)),
        ),
        rejected_rps: rounded(pair.rejects_per_second),
        p50_ms: rounded(pair.p50_ms),
        p99_ms: rounded(pair.p99_ms),
    };
    let mut edges: Vec<Edge> = seen.into_iter().map(edge).collect();
    edges.sort_by(|a, b| b.rps.unwrap_or(-1.0).total_cmp(&a.rps.unwrap_or(-1.0)));
    edges.truncate(EDGES_MAX);
    edges
}

/// What instances run, as their agents say; as intended where none has said yet.
fn runs(world: &World, service: &Service) -> Vec<Runs> {
    let mut found: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for (host, placement) in world.placements_of(&service.name) {
        let seen = world.observed.instances.get(&placement.instance);
        let said = |text: Option<&String>, intended: &model::Digest| match text {
            Some(text) if !text.is_empty() => text.clone(),
            _ => intended.as_str().to_owned(),
        };
        let package = said(seen.map(|seen| &seen.package_digest), &placement.package_digest);
        let config = said(seen.map(|seen| &seen.config_digest), &placement.config_digest);
        let datacenter = world.snapshot.datacenter_of(host).map(ToString::to_string).unwrap_or_default();
        found.entry((datacenter, package, config)).or_default().push(placement.instance.to_string());
    }
    let package = world.snapshot.package(&service.package).and_then(|package| package.digest.clone());
    let wanted: BTreeMap<String, String> = service
        .instances
        .keys()
        .filter_map(|at| {
            let config = model::config::resolve(&world.snapshot, service, at).ok()?;
            Some((at.to_string(), config.digest.as_str().to_owned()))
        })
        .collect();
    let row = |((datacenter, digest, config), instances): ((String, String, String), Vec<String>)| Runs {
        wanted: package.as_ref().is_some_and(|package| package.as_str() == digest)
            && wanted.get(&datacenter) == Some(&config),
        datacenter,
        package: digest,
        config,
        instances: instances.len() as u32,
        some: instances.into_iter().take(SOME_MAX).collect(),
    };
    let mut rows: Vec<Runs> = found.into_iter().map(row).collect();
    rows.sort_by(|a, b| (&a.datacenter, b.instances).cmp(&(&b.datacenter, a.instances)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_those_seen_and_those_declared_busiest_first() {
        let pair = |rate| Pair {
            requests_per_second: Some(rate),
            errors_per_second: Some(3.0),
            rejects_per_second: Some(2.0),
            ..Pair::default()
        };
        let seen = BTreeMap::from([("gift".to_owned(), pair(10.0)), ("pay".to_owned(), pair(20.0))]);
        let edges = edges(seen, &BTreeSet::from(["pay", "bank"]));
        let told: Vec<_> = edges.iter().map(|of| (of.peer.as_str(), of.declared, of.rps, of.failed_rps)).collect();
        let expected =
            [("pay", true, Some(20.0), Some(1.0)), ("gift", false, Some(10.0), Some(1.0)), ("bank", true, None, None)];
        assert_eq!(told, expected);
    }
}
