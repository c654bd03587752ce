//! What a service is to run and where, compared with what is placed. Who changes it is other files' work.

use model::{
    DatacenterName, Digest, HostName, InstanceIntent, Operation, OperationId, OperationSpec, Placement, Service,
    ServiceName, Snapshot,
};
use std::collections::BTreeMap;

/// Package and configs that a service is to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Package bytes.
    pub package_digest: Digest,
    /// Package version, for people.
    pub package_version: String,
    /// Config in each datacenter where the service is or may be.
    pub configs: BTreeMap<DatacenterName, Digest>,
}

impl Wanted {
    /// Resolves for all datacenters in which the service has, or should have, instances.
    pub fn of(snapshot: &Snapshot, service: &Service) -> Result<Self, String> {
        let mut at: Vec<DatacenterName> = snapshot.instances_wanted(service).into_keys().collect();
        at.extend(placed_counts(snapshot, &service.name).into_keys());
        let package = snapshot.package(&service.package).ok_or_else(|| format!("no package {}", service.package))?;
        let digest = package.digest.clone().ok_or_else(|| format!("package {} has no digest", package.name))?;
        let mut configs = BTreeMap::new();
        for datacenter in at {
            let config = config_digest(snapshot, service, &datacenter)?;
            configs.insert(datacenter, config);
        }
        Ok(Self { package_digest: digest, package_version: package.version.clone(), configs })
    }

    /// One digest over all configs and the shape, to tell one wanted state from another.
    pub fn config_identity(&self, service: &Service) -> Digest {
        let mut text = format!("{}/{}", service.shape, service.shape.pids_max);
        for (datacenter, digest) in &self.configs {
            text.push_str(&format!("\n{datacenter}={digest}"));
        }
        Digest::of(text.as_bytes())
    }

    /// True when the placement runs what is wanted.
    pub fn met_by(&self, service: &Service, datacenter: &DatacenterName, placement: &Placement) -> bool {
        placement.package_digest == self.package_digest
            && self.configs.get(datacenter).is_none_or(|config| config == &placement.config_digest)
            && placement.shape == service.shape
    }

    /// The rollout that brings the service there.
    pub fn rollout(&self, service: &Service) -> OperationSpec {
        OperationSpec::Rollout {
            service: service.name.clone(),
            package_digest: self.package_digest.clone(),
            config_digest: self.config_identity(service),
        }
    }
}

/// True when nobody wants any more what an operation is for: its service was deleted, or is to run something newer.
pub(crate) fn is_overtaken(snapshot: &Snapshot, op: &Operation) -> bool {
    let declared = op.spec.service().map(|name| snapshot.service(name));
    match &op.spec {
        OperationSpec::Scale { instances, .. } => declared == Some(None) && instances.values().any(|&count| count > 0),
        OperationSpec::Rollout { .. } => declared
            .flatten()
            .is_none_or(|service| Wanted::of(snapshot, service).is_ok_and(|wanted| wanted.rollout(service) != op.spec)),
        OperationSpec::Stress { .. } => declared == Some(None),
        OperationSpec::Drain { .. } => false,
    }
}

/// The digest of a service's config in one datacenter.
pub(crate) fn config_digest(
    snapshot: &Snapshot,
    service: &Service,
    datacenter: &DatacenterName,
) -> Result<Digest, String> {
    model::config::resolve(snapshot, service, datacenter).map(|config| config.digest).map_err(|fault| fault.to_string())
}

/// Instances of a service that are to stay, by datacenter.
pub(crate) fn placed_counts(snapshot: &Snapshot, service: &ServiceName) -> BTreeMap<DatacenterName, u32> {
    let mut counts = BTreeMap::new();
    for (host, placement) in snapshot.placements_of(service) {
        if placement.intent != InstanceIntent::Draining
            && let Some(datacenter) = snapshot.datacenter_of(host)
        {
            *counts.entry(datacenter.clone()).or_insert(0) += 1;
        }
    }
    counts
}

/// What must be added and what removed to come from `have` to `want`, by datacenter.
pub(crate) fn difference(
    want: &BTreeMap<DatacenterName, u32>,
    have: &BTreeMap<DatacenterName, u32>,
) -> (BTreeMap<DatacenterName, u32>, BTreeMap<DatacenterName, u32>) {
    let over = |a: &BTreeMap<DatacenterName, u32>, b: &BTreeMap<DatacenterName, u32>| {
        a.iter()
            .map(|(at, n)| (at.clone(), n.saturating_sub(b.get(at).copied().unwrap_or(0))))
            .filter(|(_, n)| *n > 0)
            .collect()
    };
    (over(want, have), over(have, want))
}

/// Instances that do not run what is wanted, in the order of hosts.
pub(crate) fn stale(snapshot: &Snapshot, service: &Service, wanted: &Wanted) -> Vec<(HostName, Placement)> {
    snapshot
        .placements_of(&service.name)
        .filter(|(_, placement)| placement.intent != InstanceIntent::Draining)
        .filter(|(host, placement)| {
            snapshot.datacenter_of(host).is_some_and(|at| !wanted.met_by(service, at, placement))
        })
        .map(|(host, placement)| (host.clone(), placement.clone()))
        .collect()
}

/// The operation at work on a service, if any.
pub(crate) fn busy_with(snapshot: &Snapshot, service: &ServiceName) -> Option<OperationId> {
    snapshot
        .operations
        .values()
        .map(|at| at.value.as_ref())
        .filter(|op| !op.phase.is_final())
        .find(|op| concerns(snapshot, op, service))
        .map(|op| op.id.clone())
}

/// True when an open operation works, or will work, on the service.
fn concerns(snapshot: &Snapshot, op: &Operation, service: &ServiceName) -> bool {
    match &op.spec {
        OperationSpec::Drain { host } => {
            let on_host = snapshot
                .placements
                .get(host)
                .is_some_and(|on| on.value.instances.iter().any(|placement| &placement.service == service));
            on_host || op.adds.iter().any(|add| service_of(add.instance.as_str()) == service.as_str())
        }
        spec => spec.service() == Some(service),
    }
}

/// The service in an instance's id, `<service>-<number>`.
pub(crate) fn service_of(instance: &str) -> &str {
    instance.rsplit_once('-').map_or(instance, |(service, _)| service)
}

/// A service's open or ended operations, newest first.
pub(crate) fn operation_number(id: &OperationId) -> u64 {
    id.as_str().strip_prefix("op-").and_then(|number| number.parse().ok()).unwrap_or(0)
}
