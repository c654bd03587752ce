//! Where a service answers, and with which share of its traffic: what the proxies are told.
//!
//! Leased overrides are absent: they travel beside the steady weights and lapse by themselves.

use crate::{HostState, Observed, Phase};
use model::{DatacenterName, HostName, InstanceId, InstanceIntent, Placement, ServiceName, Snapshot, StepName};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Weight of an instance that takes its full share.
pub const WEIGHT_FULL: u32 = 1_000;

/// Where one instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// Its host.
    pub host: HostName,
    /// Its datacenter.
    pub datacenter: DatacenterName,
    /// Address of its first port.
    pub address: SocketAddr,
    /// Share of traffic, full = [`WEIGHT_FULL`]; 0 while draining.
    pub weight: u32,
    /// It gets no new request; those under way finish.
    pub draining: bool,
}

/// The endpoints of a service, by instance.
///
/// Instances known to be unwell are left out, unless no other would remain: an empty list is never made from a full
/// one. An instance of which nothing is known (a server that has just started) serves: the control plane knows less
/// than the fleet.
pub fn endpoints(snapshot: &Snapshot, observed: &Observed, service: &ServiceName) -> Vec<Endpoint> {
    let Some(port) = snapshot.service(service).and_then(|s| s.ports.first()) else {
        return Vec::new();
    };
    let gray = gray_weights(snapshot, service);
    let mut well = Vec::new();
    let mut unwell = Vec::new();
    for (host, placement) in snapshot.placements_of(service) {
        let weight = match placement.intent {
            InstanceIntent::Deployed => continue,
            InstanceIntent::Draining => 0,
            InstanceIntent::Running => gray.get(&placement.instance).copied().unwrap_or(WEIGHT_FULL),
        };
        let draining = placement.intent == InstanceIntent::Draining;
        if weight == 0 && !draining {
            continue;
        }
        let Some(endpoint) = endpoint(snapshot, host, placement, port, weight) else { continue };
        match serves(observed, host, placement) {
            true => well.push(endpoint),
            false => unwell.push(endpoint),
        }
    }
    if !well.iter().any(|endpoint| !endpoint.draining) {
        well.append(&mut unwell);
    }
    well.sort_by(|a, b| a.instance.cmp(&b.instance));
    well
}

fn endpoint(snapshot: &Snapshot, host: &HostName, placement: &Placement, port: &str, weight: u32) -> Option<Endpoint> {
    let address = snapshot.host(host)?.address;
    Some(Endpoint {
        instance: placement.instance.clone(),
        host: host.clone(),
        datacenter: snapshot.datacenter_of(host)?.clone(),
        address: SocketAddr::new(address, *placement.ports.get(port)?),
        weight,
        draining: placement.intent == InstanceIntent::Draining,
    })
}

/// Weights of instances whose release is still gray: those of the current batch of an open operation.
fn gray_weights(snapshot: &Snapshot, service: &ServiceName) -> BTreeMap<InstanceId, u32> {
    let open = snapshot.operations.values().map(|at| &at.value);
    open.filter(|op| !op.phase.is_final())
        .flat_map(|op| {
            // Judged bad, and held there: they get nothing while people think.
            let is_bad = op.held_at().is_some_and(|step| step.name == StepName::Gray);
            let weight = if is_bad { 0 } else { op.gray_permille.min(1_000) * WEIGHT_FULL / 1_000 };
            let current = op.adds.iter().filter(|add| add.batch == op.batch);
            current.map(move |add| (add.instance.clone(), weight))
        })
        .filter(|(instance, _)| crate::wanted::service_of(instance.as_str()) == service.as_str())
        .collect()
}

/// True unless the instance is known to be unwell; a lost host's instances keep their last word.
fn serves(observed: &Observed, host: &HostName, placement: &Placement) -> bool {
    let Some(seen) = observed.instances.get(&placement.instance) else {
        let reported = observed.hosts.get(host).is_some_and(|host| host.state == HostState::Connected);
        return !reported;
    };
    match seen.phase {
        Phase::Healthy => true,
        Phase::Stopping => placement.intent == InstanceIntent::Draining,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
