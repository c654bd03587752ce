//! The fleet as columns: one array for each property of a host, the hosts in order of their names.
//!
//! Built from a snapshot once, then changed only where an instance is placed. A scan reads few bytes a host and allocates
//! nothing. Free ports are only counted here; the numbers are looked up for the hosts that were chosen.

use model::{DatacenterName, Host, HostName, InstanceIntent, Layer, PoolName, RackName, ServiceName, Shape, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Memory is counted in whole pages, as the kernel charges it: an instance takes its limit rounded up.
pub const MEMORY_PAGE_BYTES: u64 = 4_096;

/// Number of something that has a name, in order of first sight.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    by_name: BTreeMap<T, u32>,
    names: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), names: Vec::new() }
    }
}

impl<T: Ord + Clone> Numbers<T> {
    pub(crate) fn of(&mut self, name: &T) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("fewer than 4 billion names");
        self.by_name.insert(name.clone(), number);
        self.names.push(name.clone());
        number
    }

    pub(crate) fn get(&self, name: &T) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, number: u32) -> &T {
        &self.names[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Stands where a host has no datacenter (its rack is not in the snapshot).
pub(crate) const NOWHERE: u32 = u32::MAX;

/// What a host carries: any layer, or one only.
pub(crate) const ANY_LAYER: u8 = 0;

/// The layer as stored in a column; never [`ANY_LAYER`].
pub(crate) fn layer_code(layer: Layer) -> u8 {
    match layer {
        Layer::Access => 1,
        Layer::Logic => 2,
        Layer::Storage => 3,
    }
}

/// An instance already on a host, as far as the planner cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) host: u32,
    pub(crate) service: u32,
    pub(crate) draining: bool,
}

/// Hosts as columns; index = rank of the host's name.
#[derive(Debug, Default)]
pub struct Columns {
    pub(crate) names: Vec<HostName>,
    pub(crate) cpu_millis_free: Vec<u32>,
    pub(crate) cpu_millis_total: Vec<u32>,
    pub(crate) memory_pages_free: Vec<u32>,
    pub(crate) memory_pages_total: Vec<u32>,
    pub(crate) ports_free: Vec<u32>,
    pub(crate) pool: Vec<u32>,
    pub(crate) rack: Vec<u32>,
    pub(crate) datacenter: Vec<u32>,
    pub(crate) exclusive: Vec<u8>,
    pub(crate) cordoned: Vec<bool>,
    pub(crate) residents: Vec<Resident>,
    /// Datacenter of each rack.
    pub(crate) rack_datacenter: Vec<u32>,
    pub(crate) pools: Numbers<PoolName>,
    pub(crate) racks: Numbers<RackName>,
    pub(crate) datacenters: Numbers<DatacenterName>,
    pub(crate) services: Numbers<ServiceName>,
}

/// Whole pages that a limit takes.
pub(crate) fn pages_up(bytes: u64) -> u64 {
    bytes.div_ceil(MEMORY_PAGE_BYTES)
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Columns {
    /// The columns of a snapshot. Hosts that carry more than they can (their type shrank) have nothing free.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut columns = Self::default();
        for host in snapshot.hosts() {
            columns.push(snapshot, host);
        }
        columns
    }

    /// How many hosts.
    pub fn hosts(&self) -> usize {
        self.names.len()
    }

    fn push(&mut self, snapshot: &Snapshot, host: &Host) {
        let index = narrow(self.names.len() as u64);
        let (mut cpu, mut pages) = (0_u64, 0_u64);
        let mut ports: BTreeSet<u16> = BTreeSet::new();
        if let Some(placed) = snapshot.placements.get(&host.name) {
            for placement in &placed.value.instances {
                cpu += u64::from(placement.shape.cpu.0);
                pages += pages_up(placement.shape.memory.0);
                ports.extend(placement.ports.values().filter(|&&p| p >= host.ports.first && p <= host.ports.last));
                let draining = placement.intent == InstanceIntent::Draining;
                let service = self.services.of(&placement.service);
                self.residents.push(Resident { host: index, service, draining });
            }
        }
        let of_type = snapshot.host_type(&host.host_type);
        let cpu_total = of_type.map_or(0, |t| u64::from(t.cpu.0));
        let pages_total = of_type.map_or(0, |t| t.memory.0 / MEMORY_PAGE_BYTES);
        let ports_total = (u32::from(host.ports.last) + 1).saturating_sub(u32::from(host.ports.first));
        self.names.push(host.name.clone());
        self.cpu_millis_free.push(narrow(cpu_total.saturating_sub(cpu)));
        self.cpu_millis_total.push(narrow(cpu_total));
        self.memory_pages_free.push(narrow(pages_total.saturating_sub(pages)));
        self.memory_pages_total.push(narrow(pages_total));
        self.ports_free.push(ports_total - narrow(ports.len() as u64));
        self.pool.push(self.pools.of(&host.pool));
        let rack = self.racks.of(&host.rack);
        if rack as usize == self.rack_datacenter.len() {
            let datacenter = snapshot.rack(&host.rack).map(|rack| self.datacenters.of(&rack.datacenter));
            self.rack_datacenter.push(datacenter.unwrap_or(NOWHERE));
        }
        self.rack.push(rack);
        self.datacenter.push(self.rack_datacenter[rack as usize]);
        self.exclusive.push(host.exclusive.map_or(ANY_LAYER, layer_code));
        self.cordoned.push(snapshot.host_intents.get(&host.name).is_some_and(|intent| intent.value.cordoned));
    }

    /// Takes what one instance needs from a host that was found to have it.
    pub(crate) fn take(&mut self, host: usize, service: u32, shape: Shape, ports: u32) {
        self.cpu_millis_free[host] -= shape.cpu.0;
        self.memory_pages_free[host] -= narrow(pages_up(shape.memory.0));
        self.ports_free[host] -= ports;
        self.residents.push(Resident { host: narrow(host as u64), service, draining: false });
    }
}
