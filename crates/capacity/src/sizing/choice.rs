//! Which curve a service is sized with, where its instances may land on hosts of several types.
//!
//! Instances are interchangeable and traffic is spread by weight, not by host type, so the least of the host types decides:
//! sized with a faster one's curve, the slower hosts would be over their share at the peak. A type that nobody measured
//! counts as the least of those that were, and the result says so.

use super::shortage;
use model::{BindingResource, Curve, DatacenterName, HostTypeName, Service, ServiceName, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// The newest curve of each service on each host type.
pub type Curves = BTreeMap<ServiceName, BTreeMap<HostTypeName, Curve>>;

/// The curve sized with.
pub(super) struct Choice<'a> {
    pub(super) curve: &'a Curve,
    /// Capacity of one instance in its present shape.
    pub(super) capacity_rps: f64,
    /// True when it is the least of several measured host types.
    pub(super) is_least_of_several: bool,
    /// Host types that its instances may land on and that were not measured.
    pub(super) unmeasured: Vec<HostTypeName>,
}

/// Chooses among a service's curves; `None` when none is usable.
pub(super) fn choose<'a>(
    snapshot: &Snapshot,
    service: &Service,
    datacenters: impl Iterator<Item = &'a DatacenterName>,
    curves: &'a BTreeMap<HostTypeName, Curve>,
) -> Option<Choice<'a>> {
    let usable: BTreeMap<&HostTypeName, (&Curve, f64)> =
        curves.iter().filter_map(|(of, curve)| Some((of, (curve, capacity(service, curve)?)))).collect();
    let lands_on: BTreeSet<&HostTypeName> = datacenters
        .flat_map(|at| shortage::hosts(snapshot, at, &service.pool, Some(service.layer)))
        .map(|host| &host.host_type)
        .collect();
    let measured: Vec<(&Curve, f64)> = lands_on.iter().filter_map(|of| usable.get(of).copied()).collect();
    let all: Vec<(&Curve, f64)> = usable.values().copied().collect();
    let candidates = if measured.is_empty() { &all } else { &measured };
    let (curve, capacity_rps) = candidates.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Choice {
        curve,
        capacity_rps,
        is_least_of_several: measured.len() > 1,
        unmeasured: lands_on.into_iter().filter(|of| !usable.contains_key(of)).cloned().collect(),
    })
}

/// Capacity of one instance in its present shape: the curve's lower bound. A smaller shape is scaled down with its CPU, a
/// larger one not up, unless CPU was what ran out.
fn capacity(service: &Service, curve: &Curve) -> Option<f64> {
    let scale = f64::from(service.shape.cpu.0) / f64::from(curve.shape.cpu.0.max(1));
    let scale = if curve.binding == BindingResource::Cpu { scale } else { scale.min(1.0) };
    Some(curve.capacity_rps.low * scale).filter(|rps| rps.is_finite() && *rps > 0.0)
}
