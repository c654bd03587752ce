//! The planner: one scan over the columns, one heap a rack, one heap of racks a datacenter.
//!
//! Placing an instance changes the cost of its host, and the rack part of the cost of its rack. So each rack keeps its own heap
//! without the rack part, and the datacenter's heap holds each rack once, by its best host: a placement costs two pops and two pushes.

use crate::columns::Columns;
use crate::demand::Demand;
use crate::request::{Added, PlaceRequest, Plan, Shortfall};
use crate::score::Cost;
use crate::why::WhyNot;
use model::{CpuMillis, DatacenterName, HostName, InstanceId, MemoryBytes, ServiceName, Snapshot};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Plans one request.
pub fn plan(snapshot: &Snapshot, request: &PlaceRequest) -> Plan {
    Planner::new(snapshot).plan(request)
}

/// Plans many requests against one snapshot: each sees what the earlier ones placed.
pub struct Planner<'a> {
    snapshot: &'a Snapshot,
    columns: Columns,
    /// Ports given or found taken on the hosts chosen so far.
    ports_taken: BTreeMap<u32, BTreeSet<u16>>,
}

/// A host within its rack; the least is the best.
type InRack = Reverse<(u32, u32, u32)>;

/// The accepting hosts of a request, by rack.
struct Candidates {
    racks: Vec<BinaryHeap<InRack>>,
}

impl Candidates {
    /// The cost of a rack's best host.
    fn best(&self, demand: &Demand, rack: u32) -> Option<Reverse<(Cost, u32)>> {
        let Reverse((on_host, left_permille, host)) = *self.racks[rack as usize].peek()?;
        let in_rack = demand.staying_in_rack[rack as usize];
        Some(Reverse((Cost { in_rack, on_host, left_permille, host }, rack)))
    }
}

impl<'a> Planner<'a> {
    /// Builds the columns.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, columns: Columns::new(snapshot), ports_taken: BTreeMap::new() }
    }

    /// Plans one request and takes what it placed. A service that is not in the snapshot gets shortfalls without reasons.
    pub fn plan(&mut self, request: &PlaceRequest) -> Plan {
        let mut plan = Plan::default();
        let wanted_in = request.adds.iter().filter(|(_, wanted)| **wanted > 0).map(|(at, _)| at).collect();
        let Some(service) = self.snapshot.service(&request.service) else {
            for at in wanted_in {
                plan.shortfalls.push(shortfall(at, request.adds[at], 0, BTreeMap::new()));
            }
            return plan;
        };
        let mut demand = Demand::new(self.snapshot, &mut self.columns, service, &request.unavailable, &wanted_in);
        let mut candidates = self.scan(&demand);
        let mut ids = Ids { service: &service.name, next: request.first_number };
        for at in wanted_in {
            let wanted = request.adds[at];
            let before = plan.adds.len();
            if let Some(number) = self.columns.datacenters.get(at) {
                let add = |(instance, host, ports)| {
                    plan.adds.push(Added { instance, host, datacenter: at.clone(), ports });
                };
                self.fill(number, wanted, &mut demand, &mut candidates, &mut ids, add);
            }
            let placed = (plan.adds.len() - before) as u32;
            if placed < wanted {
                plan.shortfalls.push(shortfall(at, wanted, placed, self.reasons(&demand, at)));
            }
        }
        plan
    }

    fn scan(&self, demand: &Demand) -> Candidates {
        let columns = &self.columns;
        let mut found: Vec<Vec<InRack>> = vec![Vec::new(); columns.racks.len()];
        for host in 0..columns.hosts() {
            if demand.refusal(columns, host).is_none() {
                found[columns.rack[host] as usize].push(in_rack(Cost::of(columns, demand, host)));
            }
        }
        Candidates { racks: found.into_iter().map(BinaryHeap::from).collect() }
    }

    /// Places in one datacenter until there are enough, or nobody accepts.
    fn fill(
        &mut self,
        datacenter: u32,
        wanted: u32,
        demand: &mut Demand,
        candidates: &mut Candidates,
        ids: &mut Ids<'_>,
        mut add: impl FnMut((InstanceId, HostName, BTreeMap<String, u16>)),
    ) {
        let racks = 0..self.columns.racks.len() as u32;
        let here = racks.filter(|rack| self.columns.rack_datacenter[*rack as usize] == datacenter);
        let mut best: BinaryHeap<_> = here.filter_map(|rack| candidates.best(demand, rack)).collect();
        for _ in 0..wanted {
            let Some(Reverse((cost, rack))) = best.pop() else { return };
            let Some(instance) = ids.take() else { return };
            let host = cost.host as usize;
            candidates.racks[rack as usize].pop();
            let ports = self.place(demand, host);
            add((instance, self.columns.names[host].clone(), ports));
            if demand.refusal(&self.columns, host).is_none() {
                candidates.racks[rack as usize].push(in_rack(Cost::of(&self.columns, demand, host)));
            }
            best.extend(candidates.best(demand, rack));
        }
    }

    /// Takes the host's columns and its lowest free ports.
    fn place(&mut self, demand: &mut Demand, host: usize) -> BTreeMap<String, u16> {
        self.columns.take(host, demand.service, demand.shape, demand.ports());
        demand.placed(&self.columns, host);
        if demand.port_names.is_empty() {
            return BTreeMap::new();
        }
        let name = &self.columns.names[host];
        let range = self.snapshot.host(name).expect("the columns come from this snapshot").ports;
        let taken = self.ports_taken.entry(host as u32).or_insert_with(|| ports_placed(self.snapshot, name));
        let mut free = (range.first..=range.last).filter(|port| !taken.contains(port));
        let ports: BTreeMap<_, _> =
            demand.port_names.iter().cloned().zip(free.by_ref().take(demand.port_names.len())).collect();
        taken.extend(ports.values());
        ports
    }

    /// Why the hosts of a datacenter take no more, those short of the same thing folded into one.
    fn reasons(&self, demand: &Demand, datacenter: &DatacenterName) -> BTreeMap<WhyNot, u32> {
        let Some(number) = self.columns.datacenters.get(datacenter) else { return BTreeMap::new() };
        let mut reasons = BTreeMap::new();
        let (mut cpu, mut memory) = ((CpuMillis(0), 0), (MemoryBytes(0), 0));
        for host in (0..self.columns.hosts()).filter(|host| self.columns.datacenter[*host] == number) {
            let refusal = demand.refusal(&self.columns, host);
            match refusal.map(|refusal| demand.why(&self.columns, host, refusal)) {
                Some(WhyNot::NotEnoughCpu { free, .. }) => cpu = (cpu.0.max(free), cpu.1 + 1),
                Some(WhyNot::NotEnoughMemory { free, .. }) => memory = (memory.0.max(free), memory.1 + 1),
                Some(why) => *reasons.entry(why).or_insert(0) += 1,
                // Only an id that cannot be formed stops the planner while a host accepts.
                None => *reasons.entry(WhyNot::InstanceIdTooLong).or_insert(0) += 1,
            }
        }
        if cpu.1 > 0 {
            reasons.insert(WhyNot::NotEnoughCpu { free: cpu.0, wanted: demand.shape.cpu }, cpu.1);
        }
        if memory.1 > 0 {
            reasons.insert(WhyNot::NotEnoughMemory { free: memory.0, wanted: demand.shape.memory }, memory.1);
        }
        reasons
    }
}

/// The ids still to be given.
struct Ids<'a> {
    service: &'a ServiceName,
    next: u64,
}

impl Ids<'_> {
    /// The next id; `None` when it would be longer than a name may be.
    fn take(&mut self) -> Option<InstanceId> {
        let id = InstanceId::new(format!("{}-{}", self.service, self.next)).ok()?;
        self.next += 1;
        Some(id)
    }
}

fn in_rack(cost: Cost) -> InRack {
    Reverse((cost.on_host, cost.left_permille, cost.host))
}

fn ports_placed(snapshot: &Snapshot, host: &HostName) -> BTreeSet<u16> {
    let placed = snapshot.placements.get(host);
    placed.iter().flat_map(|on| &on.value.instances).flat_map(|placement| placement.ports.values().copied()).collect()
}

fn shortfall(datacenter: &DatacenterName, wanted: u32, placed: u32, reasons: BTreeMap<WhyNot, u32>) -> Shortfall {
    Shortfall { datacenter: datacenter.clone(), wanted, placed, reasons }
}
