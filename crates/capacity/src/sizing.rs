//! From an event's entry load to instances per service and datacenter.
//!
//! Load walks down the dependency fan-out; each service gets instances such that at the peak it is 50–60% used and never
//! over 66% with any one datacenter lost. The capacity of an instance is the lower bound of its curve's interval, of the
//! least of the host types it may land on: a sizing that errs should err towards room. Absent: bytes on circuits (no manifest says how much a request carries).

mod choice;
mod shortage;
mod spread;

pub use choice::Curves;
pub use shortage::Shortage;

use model::{
    Curve, DatacenterName, Dependency, Event, EventName, HostTypeName, OperationId, Service, ServiceName, Snapshot,
};
use std::collections::BTreeMap;

/// Utilisation aimed at with all datacenters up.
pub const UTILISATION_AIM: f64 = 0.55;
/// Most utilisation with all datacenters up.
pub const UTILISATION_MAX: f64 = 0.60;
/// Least utilisation that a sizing leaves on purpose, the loss of a datacenter apart.
pub const UTILISATION_MIN: f64 = 0.50;
/// Most utilisation with any one datacenter lost; with a single datacenter there is no other to take the load.
pub const UTILISATION_LOST_MAX: f64 = 0.66;
/// Most instances one service is sized to; a larger need is a wrong number somewhere.
pub const INSTANCES_MAX: u32 = 1_000_000;

/// What an event needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizing {
    /// The event.
    pub event: EventName,
    /// Services in the order of the load's way, then externals.
    pub services: Vec<ServiceSize>,
    /// What is missing.
    pub shortages: Vec<Shortage>,
}

/// What an event needs of one service or external.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSize {
    /// Its name.
    pub service: String,
    /// True for a dependency outside.
    pub external: bool,
    /// Requests a second expected at the peak.
    pub load_rps: f64,
    /// Capacity sized with: of one instance, or of the whole external.
    pub capacity_rps: Option<f64>,
    /// Where the capacity comes from.
    pub basis: Basis,
    /// Instances now, by datacenter.
    pub now: BTreeMap<DatacenterName, u32>,
    /// Instances needed, by datacenter.
    pub needed: BTreeMap<DatacenterName, u32>,
    /// Utilisation at the peak with all datacenters up, 0 to 1.
    pub utilisation: f64,
    /// Utilisation at the peak with the worst datacenter lost, 0 to 1; the same as `utilisation` with one datacenter.
    pub utilisation_one_lost: f64,
}

impl ServiceSize {
    /// True when fewer instances than now suffice.
    pub fn fewer_suffice(&self) -> bool {
        self.needed.values().sum::<u32>() < self.now.values().sum::<u32>()
    }
}

/// Where a capacity comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// A curve, with what makes it doubtful.
    Curve {
        /// The stress test.
        operation: OperationId,
        /// The host type it was measured on.
        host_type: HostTypeName,
        /// The service may land on several measured host types; this is the one whose instances take least.
        least_of_several: bool,
        /// Host types that it may land on and nobody measured: this curve stands in.
        unmeasured: Vec<HostTypeName>,
        /// The curve only says "at least": traffic ran out before the instance did.
        lower_bound: bool,
        /// It was measured with another shape, and scaled by CPU.
        other_shape: bool,
        /// It was measured with another package version.
        other_version: bool,
        /// All instances are in one datacenter: its loss is not covered.
        single_datacenter: bool,
    },
    /// The external's own limit.
    ExternalLimit,
    /// Nothing was measured; the counts stay as they are.
    NoCurve,
}

impl std::fmt::Display for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Curve {
                operation,
                host_type,
                least_of_several,
                unmeasured,
                lower_bound,
                other_shape,
                other_version,
                single_datacenter,
            } => {
                write!(f, "curve {operation}")?;
                if *least_of_several {
                    write!(f, "; host type {host_type}, on which an instance takes least")?;
                }
                if !unmeasured.is_empty() {
                    let names: Vec<&str> = unmeasured.iter().map(HostTypeName::as_str).collect();
                    write!(f, "; no curve on host type {}: that on {host_type} stands in", names.join(", "))?;
                }
                let doubts = [
                    (*lower_bound, "a lower bound: traffic ran out first"),
                    (*other_shape, "measured with another shape, scaled by cpu"),
                    (*other_version, "measured with another package version"),
                    (*single_datacenter, "one datacenter only: its loss is not covered, 66% is the ceiling"),
                ];
                doubts.iter().filter(|(is, _)| *is).try_for_each(|(_, text)| write!(f, "; {text}"))
            }
            Self::ExternalLimit => f.write_str("the external's limit"),
            Self::NoCurve => f.write_str("no curve yet: run a stress test first"),
        }
    }
}

/// Sizes an event. Services without a curve keep their counts and are named in the shortages.
pub fn size(snapshot: &Snapshot, event: &Event, curves: &Curves) -> Sizing {
    let mut shortages = Vec::new();
    let loads = loads(snapshot, event, &mut shortages);
    let mut services = Vec::new();
    let unmeasured = BTreeMap::new();
    for (name, load_rps) in &loads.services {
        let service = snapshot.service(name).expect("loads name declared services");
        let sized = size_service(snapshot, service, *load_rps, curves.get(name).unwrap_or(&unmeasured));
        shortages.extend(shortage::of_service(service, &sized));
        services.push(sized);
    }
    for (name, load_rps) in &loads.externals {
        let external = snapshot.external(name).expect("loads name declared externals");
        let max = external.requests_per_second_max;
        if *load_rps > max {
            let needs = Shortage::External { external: external.name.clone(), load_rps: *load_rps, max_rps: max };
            shortages.push(needs);
        }
        services.push(size_external(name, *load_rps, max));
    }
    shortages.extend(shortage::of_hosts(snapshot, &services));
    Sizing { event: event.name.clone(), services, shortages }
}

fn size_external(name: &str, load_rps: f64, max_rps: f64) -> ServiceSize {
    let utilisation = if max_rps > 0.0 { load_rps / max_rps } else { f64::from(u8::from(load_rps > 0.0)) };
    ServiceSize {
        service: name.to_owned(),
        external: true,
        load_rps,
        capacity_rps: Some(max_rps),
        basis: Basis::ExternalLimit,
        now: BTreeMap::new(),
        needed: BTreeMap::new(),
        utilisation,
        utilisation_one_lost: utilisation,
    }
}

/// Load by name, services in the order of the load's way.
struct Loads {
    services: Vec<(ServiceName, f64)>,
    externals: BTreeMap<String, f64>,
}

/// Walks the load down the fan-out, callers before callees (Kahn's order); each edge is walked once.
fn loads(snapshot: &Snapshot, event: &Event, shortages: &mut Vec<Shortage>) -> Loads {
    let mut load = BTreeMap::<&str, f64>::new();
    for (entry, rps) in &event.entry_requests_per_second {
        match snapshot.service(entry) {
            Some(service) => *load.entry(service.name.as_str()).or_default() += rps.max(0.0),
            None => shortages.push(Shortage::UnknownService { service: entry.as_str().to_owned() }),
        }
    }
    let reached = reached(snapshot, load.keys().copied().collect());
    let mut callers: BTreeMap<&str, usize> = reached.iter().map(|name| (*name, 0)).collect();
    for edge in reached.iter().filter_map(|name| snapshot.service(name)).flat_map(|s| &s.dependencies) {
        callers.entry(edge.on.as_str()).and_modify(|n| *n += 1);
    }
    let mut ready: Vec<&str> = reached.iter().rev().copied().filter(|name| callers[name] == 0).collect();
    let mut out = Loads { services: Vec::new(), externals: BTreeMap::new() };
    let mut done = 0;
    while let Some(name) = ready.pop() {
        done += 1;
        let rps = load.get(name).copied().unwrap_or(0.0);
        let Some(service) = snapshot.service(name) else {
            note_external(snapshot, name, rps, &mut out, shortages);
            continue;
        };
        out.services.push((service.name.clone(), rps));
        for edge in &service.dependencies {
            *load.entry(edge.on.as_str()).or_default() += rps * edge.calls_per_request.max(0.0);
            let left = callers.get_mut(edge.on.as_str()).expect("dependencies of reached services are reached");
            *left -= 1;
            if *left == 0 {
                ready.push(edge.on.as_str());
            }
        }
    }
    if done < reached.len() {
        let cycle = callers.iter().filter(|(_, n)| **n > 0).map(|(name, _)| (*name).to_owned()).collect();
        shortages.push(Shortage::Cycle { services: cycle });
    }
    out
}

fn note_external(snapshot: &Snapshot, name: &str, rps: f64, out: &mut Loads, shortages: &mut Vec<Shortage>) {
    if snapshot.external(name).is_some() {
        *out.externals.entry(name.to_owned()).or_default() += rps;
    } else {
        shortages.push(Shortage::UnknownService { service: name.to_owned() });
    }
}

/// Everything that the entries call, directly or not.
fn reached<'a>(snapshot: &'a Snapshot, entries: Vec<&'a str>) -> Vec<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    let mut open = entries;
    while let Some(name) = open.pop() {
        if seen.insert(name) {
            let edges: &'a [Dependency] = snapshot.service(name).map_or(&[], |service| &service.dependencies);
            open.extend(edges.iter().map(|edge| edge.on.as_str()));
        }
    }
    seen.into_iter().collect()
}

fn size_service(
    snapshot: &Snapshot,
    service: &Service,
    load_rps: f64,
    curves: &BTreeMap<HostTypeName, Curve>,
) -> ServiceSize {
    let now = snapshot.instances_wanted(service);
    let used = spread::weights(snapshot, service, &now);
    let Some(choice) = choice::choose(snapshot, service, used.keys(), curves) else {
        return ServiceSize {
            service: service.name.as_str().to_owned(),
            external: false,
            load_rps,
            capacity_rps: None,
            basis: Basis::NoCurve,
            needed: now.clone(),
            now,
            utilisation: 0.0,
            utilisation_one_lost: 0.0,
        };
    };
    let choice::Choice { curve, capacity_rps, is_least_of_several, unmeasured } = choice;
    let needed = spread::needed(load_rps / capacity_rps, &used);
    let (utilisation, utilisation_one_lost) = spread::utilisation(load_rps / capacity_rps, &needed);
    let version = snapshot.package(&service.package).map(|package| package.version.as_str());
    ServiceSize {
        service: service.name.as_str().to_owned(),
        external: false,
        load_rps,
        capacity_rps: Some(capacity_rps),
        basis: Basis::Curve {
            operation: curve.operation.clone(),
            host_type: curve.host_type.clone(),
            least_of_several: is_least_of_several,
            unmeasured,
            lower_bound: curve.ended == model::StressEnd::TrafficExhausted,
            other_shape: curve.shape.cpu != service.shape.cpu,
            other_version: version.is_some_and(|version| version != curve.package_version),
            single_datacenter: needed.values().filter(|n| **n > 0).count() == 1,
        },
        now,
        needed,
        utilisation,
        utilisation_one_lost,
    }
}

#[cfg(test)]
mod tests;
