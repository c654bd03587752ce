//! The filter: what one service asks of a host, and whether the host has it.
//!
//! The request's own columns (how many of the service are here, who is avoided) are filled in one pass over the residents.

use crate::columns::{ANY_LAYER, Columns, MEMORY_PAGE_BYTES, NOWHERE, layer_code, pages_up};
use crate::why::WhyNot;
use model::{CpuMillis, DatacenterName, HostName, MemoryBytes, Service, ServiceName, Shape, Snapshot};
use std::collections::BTreeSet;

/// No avoided service lives on the host.
const NOBODY: u32 = u32::MAX;

/// What one service asks, resolved to the columns' numbers.
pub(crate) struct Demand {
    pub(crate) shape: Shape,
    pub(crate) service: u32,
    pub(crate) port_names: BTreeSet<String>,
    pages: u64,
    pool: Option<u32>,
    layer: u8,
    per_host_max: u32,
    avoids_itself: bool,
    /// Instances of the service on each host, those that drain included.
    here: Vec<u32>,
    /// Instances of the service on each host that will stay.
    pub(crate) staying: Vec<u32>,
    /// Instances of the service in each rack that will stay.
    pub(crate) staying_in_rack: Vec<u32>,
    /// The avoided service that lives on the host.
    avoided: Vec<u32>,
    unavailable: Vec<bool>,
    /// Datacenters where any is wanted.
    wanted_in: Vec<bool>,
}

/// A refusal in numbers: cheap to make for each host of a scan. See [`WhyNot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    OtherDatacenter,
    Cordoned,
    Unavailable,
    WrongPool,
    Exclusive,
    Avoids(u32),
    PerHostMax,
    NoFreePort,
    Cpu,
    Memory,
}

/// Services that must not share a host with this one, whichever side said so.
fn avoided_by(snapshot: &Snapshot, service: &Service) -> BTreeSet<ServiceName> {
    let others = snapshot.services().filter(|other| other.avoid.contains(&service.name)).map(|other| &other.name);
    service.avoid.iter().chain(others).cloned().collect()
}

impl Demand {
    pub(crate) fn new(
        snapshot: &Snapshot,
        columns: &mut Columns,
        service: &Service,
        unavailable: &BTreeSet<HostName>,
        wanted_in: &BTreeSet<&DatacenterName>,
    ) -> Self {
        let hosts = columns.hosts();
        let avoided = avoided_by(snapshot, service);
        let mut demand = Self {
            shape: service.shape,
            service: columns.services.of(&service.name),
            port_names: service.ports.iter().cloned().collect(),
            pages: pages_up(service.shape.memory.0),
            pool: columns.pools.get(&service.pool),
            layer: layer_code(service.layer),
            per_host_max: service.per_host_max.unwrap_or(u32::MAX),
            avoids_itself: avoided.contains(&service.name),
            here: vec![0; hosts],
            staying: vec![0; hosts],
            staying_in_rack: vec![0; columns.racks.len()],
            avoided: vec![NOBODY; hosts],
            unavailable: vec![false; hosts],
            wanted_in: vec![false; columns.datacenters.len()],
        };
        for number in wanted_in.iter().filter_map(|name| columns.datacenters.get(name)) {
            demand.wanted_in[number as usize] = true;
        }
        for host in unavailable {
            if let Ok(index) = columns.names.binary_search(host) {
                demand.unavailable[index] = true;
            }
        }
        let mut is_avoided = vec![false; columns.services.len()];
        for number in avoided.iter().filter_map(|name| columns.services.get(name)) {
            is_avoided[number as usize] = true;
        }
        demand.count(columns, &is_avoided);
        demand
    }

    fn count(&mut self, columns: &Columns, is_avoided: &[bool]) {
        for resident in &columns.residents {
            let host = resident.host as usize;
            if resident.service == self.service {
                self.here[host] += 1;
                if !resident.draining {
                    self.staying[host] += 1;
                    self.staying_in_rack[columns.rack[host] as usize] += 1;
                }
            } else if is_avoided[resident.service as usize] {
                self.avoided[host] = resident.service;
            }
        }
    }

    /// Notes that one more was placed on the host.
    pub(crate) fn placed(&mut self, columns: &Columns, host: usize) {
        self.here[host] += 1;
        self.staying[host] += 1;
        self.staying_in_rack[columns.rack[host] as usize] += 1;
    }

    /// How many ports one instance needs.
    pub(crate) fn ports(&self) -> u32 {
        self.port_names.len() as u32
    }

    /// Why the host does not take one more; `None` when it does.
    pub(crate) fn refusal(&self, columns: &Columns, host: usize) -> Option<Refusal> {
        let datacenter = columns.datacenter[host];
        if datacenter == NOWHERE || !self.wanted_in[datacenter as usize] {
            Some(Refusal::OtherDatacenter)
        } else if columns.cordoned[host] {
            Some(Refusal::Cordoned)
        } else if self.unavailable[host] {
            Some(Refusal::Unavailable)
        } else if self.pool != Some(columns.pool[host]) {
            Some(Refusal::WrongPool)
        } else if columns.exclusive[host] != ANY_LAYER && columns.exclusive[host] != self.layer {
            Some(Refusal::Exclusive)
        } else if self.avoided[host] != NOBODY {
            Some(Refusal::Avoids(self.avoided[host]))
        } else if self.avoids_itself && self.here[host] > 0 {
            Some(Refusal::Avoids(self.service))
        } else if self.here[host] >= self.per_host_max {
            Some(Refusal::PerHostMax)
        } else if columns.ports_free[host] < self.ports() {
            Some(Refusal::NoFreePort)
        } else if columns.cpu_millis_free[host] < self.shape.cpu.0 {
            Some(Refusal::Cpu)
        } else if u64::from(columns.memory_pages_free[host]) < self.pages {
            Some(Refusal::Memory)
        } else {
            None
        }
    }

    /// The refusal in names and quantities.
    pub(crate) fn why(&self, columns: &Columns, host: usize, refusal: Refusal) -> WhyNot {
        match refusal {
            Refusal::OtherDatacenter => WhyNot::OtherDatacenter,
            Refusal::Cordoned => WhyNot::Cordoned,
            Refusal::Unavailable => WhyNot::Unavailable,
            Refusal::WrongPool => WhyNot::WrongPool,
            Refusal::Exclusive => WhyNot::ExclusiveToOtherLayer,
            Refusal::Avoids(service) => WhyNot::Avoids { service: columns.services.name(service).clone() },
            Refusal::PerHostMax => WhyNot::PerHostMax,
            Refusal::NoFreePort => WhyNot::NoFreePort,
            Refusal::Cpu => {
                WhyNot::NotEnoughCpu { free: CpuMillis(columns.cpu_millis_free[host]), wanted: self.shape.cpu }
            }
            Refusal::Memory => {
                let free = MemoryBytes(u64::from(columns.memory_pages_free[host]) * MEMORY_PAGE_BYTES);
                WhyNot::NotEnoughMemory { free, wanted: self.shape.memory }
            }
        }
    }
}
