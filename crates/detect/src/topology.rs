//! What stands where and who calls whom, by dense ids: index = position in these lists, for one topology.
//!
//! Names are kept only to carry states over to the next topology and to name what an incident speaks of.

use std::collections::BTreeMap;

/// Instances in one detector; a larger fleet shards by service.
pub const INSTANCES_MAX: usize = 500_000;
/// Services and externals in one detector.
pub const SERVICES_MAX: usize = 20_000;
/// Caller → callee pairs in one detector.
pub const PAIRS_MAX: usize = 200_000;
/// Hosts in one detector.
pub const HOSTS_MAX: usize = 50_000;

/// A rack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rack {
    /// Name.
    pub name: String,
    /// Index of its datacenter.
    pub datacenter: u32,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name.
    pub name: String,
    /// Index of its rack.
    pub rack: u32,
}

/// A service, or a dependency outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// True: a dependency outside, seen only through the pairs that call it.
    pub external: bool,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name.
    pub name: String,
    /// Index of its service.
    pub service: u32,
    /// Index of its host.
    pub host: u32,
    /// Package version, by any number that differs where versions differ.
    pub version: u32,
    /// False while it starts, drains or is to stop: its absence is intended.
    pub wanted: bool,
}

/// A caller and what it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Index of the calling service.
    pub caller: u32,
    /// Index of the service or external called.
    pub callee: u32,
}

/// The lists of a topology, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Names of datacenters.
    pub datacenters: Vec<String>,
    /// Racks.
    pub racks: Vec<Rack>,
    /// Hosts.
    pub hosts: Vec<Host>,
    /// Services and externals.
    pub services: Vec<Service>,
    /// Instances.
    pub instances: Vec<Instance>,
    /// Pairs.
    pub pairs: Vec<Pair>,
}

/// Why parts make no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyFault {
    /// An index points nowhere.
    #[error("{what} {name:?} refers to {target} number {index}, and there are {count}")]
    Dangling {
        /// What refers.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it refers to.
        target: &'static str,
        /// By which index.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// More than one detector takes.
    #[error("{count} {what}; one detector takes {max}: shard by service")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are taken.
        max: usize,
    },
}

/// A checked topology with its indexes.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    pub(crate) datacenters: Vec<String>,
    pub(crate) racks: Vec<Rack>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) services: Vec<Service>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) pairs: Vec<Pair>,
    members: Lists,
    on_host: Lists,
    callees: Lists,
    callers: Lists,
}

/// For each key a list of ids, in two flat columns.
#[derive(Debug, Clone, Default)]
struct Lists {
    starts: Vec<u32>,
    ids: Vec<u32>,
}

impl Lists {
    fn of(keys: usize, key_of: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0; keys + 1];
        key_of.clone().for_each(|key| starts[key as usize + 1] += 1);
        for key in 0..keys {
            starts[key + 1] += starts[key];
        }
        let mut next = starts.clone();
        let mut ids = vec![0; key_of.len()];
        for (id, key) in key_of.enumerate() {
            ids[next[key as usize] as usize] = id as u32;
            next[key as usize] += 1;
        }
        Self { starts, ids }
    }

    fn get(&self, key: u32) -> &[u32] {
        let at = key as usize;
        &self.ids[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

impl Topology {
    /// Checks and indexes the parts.
    ///
    /// # Errors
    /// An index that points nowhere, or more than the limits of this module.
    pub fn new(parts: Parts) -> Result<Self, TopologyFault> {
        check(&parts)?;
        let Parts { datacenters, racks, hosts, services, instances, pairs } = parts;
        Ok(Self {
            members: Lists::of(services.len(), instances.iter().map(|instance| instance.service)),
            on_host: Lists::of(hosts.len(), instances.iter().map(|instance| instance.host)),
            callees: Lists::of(services.len(), pairs.iter().map(|pair| pair.caller)),
            callers: Lists::of(services.len(), pairs.iter().map(|pair| pair.callee)),
            datacenters,
            racks,
            hosts,
            services,
            instances,
            pairs,
        })
    }

    /// The lists that it was made of.
    pub fn parts(&self) -> Parts {
        Parts {
            datacenters: self.datacenters.clone(),
            racks: self.racks.clone(),
            hosts: self.hosts.clone(),
            services: self.services.clone(),
            instances: self.instances.clone(),
            pairs: self.pairs.clone(),
        }
    }

    /// Instances of a service.
    pub fn members(&self, service: u32) -> &[u32] {
        self.members.get(service)
    }

    /// Instances on a host.
    pub fn on_host(&self, host: u32) -> &[u32] {
        self.on_host.get(host)
    }

    /// Pairs in which a service calls.
    pub fn callees(&self, service: u32) -> &[u32] {
        self.callees.get(service)
    }

    /// Pairs in which a service is called.
    pub fn callers(&self, service: u32) -> &[u32] {
        self.callers.get(service)
    }

    /// All instances.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// All services and externals.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// All pairs.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Rack and datacenter of a host.
    pub(crate) fn place_of(&self, host: u32) -> (u32, u32) {
        let rack = self.hosts[host as usize].rack;
        (rack, self.racks[rack as usize].datacenter)
    }

    pub(crate) fn pair_name(&self, pair: u32) -> String {
        let pair = self.pairs[pair as usize];
        let name = |service: u32| self.services[service as usize].name.as_str();
        format!("{}->{}", name(pair.caller), name(pair.callee))
    }

    pub(crate) fn pair_names(&self) -> BTreeMap<(&str, &str), u32> {
        let name = |service: u32| self.services[service as usize].name.as_str();
        let named = |(at, pair): (usize, &Pair)| ((name(pair.caller), name(pair.callee)), at as u32);
        self.pairs.iter().enumerate().map(named).collect()
    }
}

fn check(parts: &Parts) -> Result<(), TopologyFault> {
    let counts = [
        ("instances", parts.instances.len(), INSTANCES_MAX),
        ("services", parts.services.len(), SERVICES_MAX),
        ("pairs", parts.pairs.len(), PAIRS_MAX),
        ("hosts", parts.hosts.len(), HOSTS_MAX),
        ("racks", parts.racks.len(), HOSTS_MAX),
        ("datacenters", parts.datacenters.len(), HOSTS_MAX),
    ];
    for (what, count, max) in counts {
        if count > max {
            return Err(TopologyFault::TooMany { what, count, max });
        }
    }
    let refers = |what, name: &str, target, index: u32, count: usize| {
        if (index as usize) < count {
            return Ok(());
        }
        Err(TopologyFault::Dangling { what, name: name.to_owned(), target, index, count })
    };
    for rack in &parts.racks {
        refers("rack", &rack.name, "datacenter", rack.datacenter, parts.datacenters.len())?;
    }
    for host in &parts.hosts {
        refers("host", &host.name, "rack", host.rack, parts.racks.len())?;
    }
    for instance in &parts.instances {
        refers("instance", &instance.name, "service", instance.service, parts.services.len())?;
        refers("instance", &instance.name, "host", instance.host, parts.hosts.len())?;
    }
    for pair in &parts.pairs {
        refers("pair", "caller", "service", pair.caller, parts.services.len())?;
        refers("pair", "callee", "service", pair.callee, parts.services.len())?;
    }
    Ok(())
}
