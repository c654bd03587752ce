//! The one place that calls the scheduler: plan, then the independent check, then words for what is lacking.

use crate::contract::HostState;
use crate::recall::View;
use model::{DatacenterName, HostName, InstanceId, ServiceName, Snapshot, keys};
use scheduler::{Added, PlaceRequest, Shortfall};
use std::collections::{BTreeMap, BTreeSet};

/// Places new instances, all or none; the reasons when capacity is lacking.
pub(crate) fn place(
    view: View<'_>,
    snapshot: &Snapshot,
    service: &ServiceName,
    adds: &BTreeMap<DatacenterName, u32>,
    avoid: Option<&HostName>,
) -> Result<Vec<Added>, Vec<String>> {
    let request = PlaceRequest {
        service: service.clone(),
        adds: adds.clone(),
        unavailable: unavailable(view, avoid),
        first_number: last_number(view, snapshot, service) + 1,
    };
    let plan = scheduler::plan(snapshot, &request);
    if let Err(violations) = scheduler::check(snapshot, &request, &plan) {
        return Err(violations.iter().map(|v| format!("the checker refused the plan: {v}")).collect());
    }
    if plan.shortfalls.is_empty() {
        return Ok(plan.adds);
    }
    Err(plan.shortfalls.iter().map(|shortfall| describe(service, shortfall)).collect())
}

/// The highest number that an instance of the service has had: of those given, and of those that agents report. A store
/// that was restored from a backup has given numbers that it does not know of any more.
fn last_number(view: View<'_>, snapshot: &Snapshot, service: &ServiceName) -> u64 {
    let given = snapshot.counter(&keys::instance_counter(service));
    let prefix = format!("{service}-");
    let Ok(first) = InstanceId::new(format!("{prefix}0")) else { return given };
    let after = view.observed.instances.range(first..).map(|(id, _)| id.as_str());
    let ours = after.take_while(|id| id.starts_with(&prefix)).filter_map(|id| id[prefix.len()..].parse::<u64>().ok());
    ours.max().unwrap_or(0).max(given)
}

/// The instances of a service that go when counts shrink.
pub(crate) fn victims(
    snapshot: &Snapshot,
    service: &ServiceName,
    removes: &BTreeMap<DatacenterName, u32>,
) -> Vec<(HostName, InstanceId)> {
    scheduler::remove(snapshot, service, removes)
}

/// Hosts whose agent is not connected, and the one to stay away from.
fn unavailable(view: View<'_>, avoid: Option<&HostName>) -> BTreeSet<HostName> {
    let connected =
        |host: &HostName| view.observed.hosts.get(host).is_some_and(|seen| seen.state == HostState::Connected);
    let silent = view.snapshot.hosts().map(|host| &host.name).filter(|host| !connected(host));
    silent.chain(avoid).cloned().collect()
}

fn describe(service: &ServiceName, shortfall: &Shortfall) -> String {
    let Shortfall { datacenter, wanted, placed, reasons } = shortfall;
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(why, hosts)| format!("{hosts} host{}: {why}", if *hosts == 1 { "" } else { "s" }))
        .collect();
    let reasons = if reasons.is_empty() { "it has no host".to_owned() } else { reasons.join("; ") };
    format!("{service} in {datacenter}: room for {placed} of {wanted} new instances ({reasons})")
}
