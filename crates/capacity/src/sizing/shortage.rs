//! What is missing, named: each shortage is data; text is made at the edge by `Display`.

use super::ServiceSize;
use model::{
    DatacenterName, ExternalName, Host, HostTypeName, Layer, PoolName, RackName, Service, ServiceName, Snapshot,
};
use std::collections::BTreeMap;

/// Something an event lacks.
#[derive(Debug, Clone, PartialEq)]
pub enum Shortage {
    /// The event or a dependency names what nobody declared.
    UnknownService {
        /// The name.
        service: String,
    },
    /// Services call each other in a circle; their load cannot be told.
    Cycle {
        /// Those in or behind it.
        services: Vec<String>,
    },
    /// No stress test measured it.
    NoCurve {
        /// The service.
        service: ServiceName,
        /// Its expected load.
        load_rps: f64,
    },
    /// It has no datacenter to run in.
    NoDatacenter {
        /// The service.
        service: ServiceName,
    },
    /// More than the external takes.
    External {
        /// The external.
        external: ExternalName,
        /// Its expected load.
        load_rps: f64,
        /// What it takes.
        max_rps: f64,
    },
    /// Hosts of a pool in a datacenter give too little.
    Hosts {
        /// The datacenter.
        datacenter: DatacenterName,
        /// The pool.
        pool: PoolName,
        /// The layer, when the hosts that carry it are what is short.
        layer: Option<Layer>,
        /// What is short.
        what: HostResource,
        /// Needed by the instances to add.
        needed: u64,
        /// Free on the hosts.
        free: u64,
    },
    /// The service's limit per host leaves no place for all.
    PerHostMax {
        /// The service.
        service: ServiceName,
        /// The datacenter.
        datacenter: DatacenterName,
        /// Instances needed.
        needed: u32,
        /// Most that the hosts take.
        most: u32,
    },
    /// A rack's hosts draw more at full load than its power feed carries.
    RackPower {
        /// The rack.
        rack: RackName,
        /// What its hosts draw.
        watts: u64,
        /// What its feed carries.
        watts_max: u64,
    },
    /// A host's type is not declared, so its room is unknown.
    UnknownHostType {
        /// The type.
        host_type: HostTypeName,
    },
}

/// A resource of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostResource {
    /// Thousandths of a core.
    CpuMillis,
    /// Bytes of memory.
    MemoryBytes,
    /// Ports.
    Ports,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownService { service } => {
                write!(f, "{service} is not declared; declare it or drop the reference")
            }
            Self::Cycle { services } => write!(f, "dependencies form a cycle through {}", services.join(", ")),
            Self::NoCurve { service, load_rps } => {
                write!(f, "{service} expects {load_rps:.0} rps but has no curve; run `springtide stress {service}`")
            }
            Self::NoDatacenter { service } => write!(f, "{service} has no datacenter to run in"),
            Self::External { external, load_rps, max_rps } => {
                write!(f, "external {external} takes {max_rps:.0} rps but {load_rps:.0} rps are expected")
            }
            Self::Hosts { datacenter, pool, layer, what, needed, free } => {
                let of = match layer {
                    Some(layer) => format!("pool {pool} for the {} layer", layer_name(*layer)),
                    None => format!("pool {pool}"),
                };
                let (what, needed, free) = what.amounts(*needed, *free);
                write!(f, "{datacenter}, {of}: {needed} {what} needed, {free} free")
            }
            Self::PerHostMax { service, datacenter, needed, most } => {
                write!(f, "{service} needs {needed} instances in {datacenter}, its per_host_max leaves room for {most}")
            }
            Self::RackPower { rack, watts, watts_max } => {
                write!(f, "rack {rack}: its hosts draw {watts} W at full load, its feed carries {watts_max} W")
            }
            Self::UnknownHostType { host_type } => {
                write!(f, "host type {host_type} is not declared; its hosts count as empty")
            }
        }
    }
}

fn layer_name(layer: Layer) -> &'static str {
    match layer {
        Layer::Access => "access",
        Layer::Logic => "logic",
        Layer::Storage => "storage",
    }
}

impl HostResource {
    fn amounts(self, needed: u64, free: u64) -> (&'static str, String, String) {
        let shown = |value: u64| match self {
            Self::CpuMillis => format!("{:.1}", value as f64 / 1_000.0),
            Self::MemoryBytes => format!("{:.1}", value as f64 / f64::from(1 << 30)),
            Self::Ports => value.to_string(),
        };
        let what = match self {
            Self::CpuMillis => "cores",
            Self::MemoryBytes => "GiB of memory",
            Self::Ports => "ports",
        };
        (what, shown(needed), shown(free))
    }
}

/// What one service lacks by itself.
pub(super) fn of_service(service: &Service, sized: &ServiceSize) -> Vec<Shortage> {
    let mut found = Vec::new();
    if sized.capacity_rps.is_none() && sized.load_rps > 0.0 {
        found.push(Shortage::NoCurve { service: service.name.clone(), load_rps: sized.load_rps });
    }
    if sized.needed.is_empty() {
        found.push(Shortage::NoDatacenter { service: service.name.clone() });
    }
    found
}

/// Amounts of each host resource.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    cpu_millis: u64,
    memory_bytes: u64,
    ports: u64,
}

impl Room {
    fn add(&mut self, other: Room) {
        self.cpu_millis += other.cpu_millis;
        self.memory_bytes += other.memory_bytes;
        self.ports += other.ports;
    }

    fn each(self) -> [(HostResource, u64); 3] {
        [
            (HostResource::CpuMillis, self.cpu_millis),
            (HostResource::MemoryBytes, self.memory_bytes),
            (HostResource::Ports, self.ports),
        ]
    }
}

/// What hosts, racks and power lack for the instances to add. It compares sums: whether each instance finds a host that
/// fits is the scheduler's to say.
pub(super) fn of_hosts(snapshot: &Snapshot, services: &[ServiceSize]) -> Vec<Shortage> {
    let mut found = Vec::new();
    let mut wanted = BTreeMap::<(&DatacenterName, &PoolName, Option<Layer>), Room>::new();
    let mut used_datacenters = std::collections::BTreeSet::new();
    for sized in services.iter().filter(|sized| !sized.external) {
        let service = snapshot.service(&sized.service).expect("a sized service is declared");
        for (datacenter, needed) in &sized.needed {
            used_datacenters.insert(datacenter);
            found.extend(per_host(snapshot, service, datacenter, *needed));
            let extra = u64::from(needed.saturating_sub(sized.now.get(datacenter).copied().unwrap_or(0)));
            let room = Room {
                cpu_millis: extra * u64::from(service.shape.cpu.0),
                memory_bytes: extra * service.shape.memory.0,
                ports: extra * service.ports.len() as u64,
            };
            wanted.entry((datacenter, &service.pool, None)).or_default().add(room);
            wanted.entry((datacenter, &service.pool, Some(service.layer))).or_default().add(room);
        }
    }
    found.extend(unknown_types(snapshot));
    for ((datacenter, pool, layer), needed) in wanted {
        let free = free(snapshot, datacenter, pool, layer);
        let short: Vec<Shortage> = needed
            .each()
            .into_iter()
            .zip(free.each())
            .filter(|((_, n), (_, have))| n > have)
            .map(|((what, needed), (_, free))| Shortage::Hosts {
                datacenter: datacenter.clone(),
                pool: pool.clone(),
                layer,
                what,
                needed,
                free,
            })
            .collect();
        // A layer's own shortage only says more where exclusive hosts keep it out; the pool's covers the rest.
        let repeats = |one: &Shortage| layer.is_some() && found.iter().any(|other| same_but_layer(other, one));
        let short: Vec<Shortage> = short.into_iter().filter(|one| !repeats(one)).collect();
        found.extend(short);
    }
    found.extend(power(snapshot, &used_datacenters));
    found
}

fn same_but_layer(a: &Shortage, b: &Shortage) -> bool {
    match (a, b) {
        (
            Shortage::Hosts { datacenter, pool, what, free, layer: None, .. },
            Shortage::Hosts { datacenter: other, pool: other_pool, what: other_what, free: other_free, .. },
        ) => datacenter == other && pool == other_pool && what == other_what && free == other_free,
        _ => false,
    }
}

/// Hosts of a pool in a datacenter on which something may be placed, for a layer or for any.
pub(super) fn hosts<'a>(
    snapshot: &'a Snapshot,
    datacenter: &'a DatacenterName,
    pool: &'a PoolName,
    layer: Option<Layer>,
) -> impl Iterator<Item = &'a Host> {
    snapshot.hosts().filter(move |host| {
        let cordoned = snapshot.host_intents.get(&host.name).is_some_and(|intent| intent.value.cordoned);
        let open = layer.is_none() || host.exclusive.is_none() || host.exclusive == layer;
        !cordoned && open && &host.pool == pool && snapshot.datacenter_of(&host.name) == Some(datacenter)
    })
}

fn free(snapshot: &Snapshot, datacenter: &DatacenterName, pool: &PoolName, layer: Option<Layer>) -> Room {
    let mut sum = Room::default();
    for host in hosts(snapshot, datacenter, pool, layer) {
        let Some(host_type) = snapshot.host_type(&host.host_type) else { continue };
        let placed = || snapshot.placements.get(&host.name).into_iter().flat_map(|on| &on.value.instances);
        let ports = u64::from(host.ports.last.saturating_sub(host.ports.first)) + 1;
        sum.add(Room {
            cpu_millis: u64::from(host_type.cpu.0).saturating_sub(placed().map(|p| u64::from(p.shape.cpu.0)).sum()),
            memory_bytes: host_type.memory.0.saturating_sub(placed().map(|p| p.shape.memory.0).sum()),
            ports: ports.saturating_sub(placed().map(|p| p.ports.len() as u64).sum()),
        });
    }
    sum
}

fn per_host(snapshot: &Snapshot, service: &Service, datacenter: &DatacenterName, needed: u32) -> Option<Shortage> {
    let max = service.per_host_max?;
    let count = hosts(snapshot, datacenter, &service.pool, Some(service.layer)).count() as u32;
    let most = count.saturating_mul(max);
    (needed > most).then(|| Shortage::PerHostMax {
        service: service.name.clone(),
        datacenter: datacenter.clone(),
        needed,
        most,
    })
}

fn unknown_types(snapshot: &Snapshot) -> Vec<Shortage> {
    let missing = snapshot.hosts().filter(|host| snapshot.host_type(&host.host_type).is_none());
    let names: std::collections::BTreeSet<&HostTypeName> = missing.map(|host| &host.host_type).collect();
    names.into_iter().map(|host_type| Shortage::UnknownHostType { host_type: host_type.clone() }).collect()
}

/// Racks of the datacenters in use whose hosts together draw more than the feed carries.
fn power(snapshot: &Snapshot, used: &std::collections::BTreeSet<&DatacenterName>) -> Vec<Shortage> {
    let mut drawn = BTreeMap::<&RackName, u64>::new();
    for host in snapshot.hosts() {
        let watts =
            snapshot.host_type(&host.host_type).and_then(|of| of.power_watts).map_or(0, |watts| u64::from(watts.0));
        *drawn.entry(&host.rack).or_default() += watts;
    }
    let over = |(rack, watts): (&RackName, u64)| {
        let declared = snapshot.rack(rack).filter(|declared| used.contains(&declared.datacenter))?;
        let watts_max = u64::from(declared.power_watts_max?.0);
        (watts > watts_max).then(|| Shortage::RackPower { rack: rack.clone(), watts, watts_max })
    };
    drawn.into_iter().filter_map(over).collect()
}
