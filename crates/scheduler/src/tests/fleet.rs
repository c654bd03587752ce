//! Small fleets for the tests. Lawful ones come from the planner; the rest is written by hand.

use crate::{PlaceRequest, Plan};
use model::{
    Criticality, Datacenter, DatacenterName, Digest, Host, HostIntent, HostName, HostPlacements, HostType,
    InstanceIntent, Layer, Placement, PortRange, Rack, Resource, Service, ServiceName, Shape, Slo, Snapshot, Stop,
    Versioned,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A name in tests.
pub(super) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn versioned<T>(value: T) -> Versioned<T> {
    Versioned { value: Arc::new(value), revision: 1 }
}

/// A snapshot under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    pub(super) snapshot: Snapshot,
}

impl Fleet {
    pub(super) fn put(&mut self, resource: Resource) {
        self.snapshot.resources.insert(resource.key(), versioned(resource));
    }

    /// A host type with as many cores and GiB.
    pub(super) fn host_type(&mut self, of: &str, cpu: &str, memory: &str) {
        let (cpu, memory) = (name(cpu), name(memory));
        self.put(Resource::HostType(HostType { name: name(of), cpu, memory, power_watts: None }));
    }

    /// A rack and its datacenter.
    pub(super) fn rack(&mut self, rack: &str, datacenter: &str) {
        self.put(Resource::Datacenter(Datacenter { name: name(datacenter), region: name("south") }));
        self.put(Resource::Rack(Rack { name: name(rack), datacenter: name(datacenter), power_watts_max: None }));
    }

    /// A host of the given type with ports 20000 to 20009.
    pub(super) fn host(&mut self, host: &str, rack: &str, host_type: &str) {
        self.put(Resource::Host(Host {
            name: name(host),
            rack: name(rack),
            host_type: name(host_type),
            address: "127.1.0.1".parse().unwrap(),
            pool: name("general"),
            exclusive: None,
            ports: PortRange { first: 20_000, last: 20_009 },
        }));
    }

    pub(super) fn change_host(&mut self, host: &str, change: impl FnOnce(&mut Host)) {
        let mut changed = self.snapshot.host(host).unwrap().clone();
        change(&mut changed);
        self.put(Resource::Host(changed));
    }

    pub(super) fn change_service(&mut self, service: &str, change: impl FnOnce(&mut Service)) {
        let mut changed = self.snapshot.service(service).unwrap().clone();
        change(&mut changed);
        self.put(Resource::Service(changed));
    }

    pub(super) fn cordon(&mut self, host: &str) {
        self.snapshot.host_intents.insert(name(host), versioned(HostIntent { cordoned: true }));
    }

    /// A logic service with one port, wanted in every datacenter.
    pub(super) fn service(&mut self, service: &str, shape: &str) {
        let instances = self.snapshot.datacenters().map(|dc| (dc.name.clone(), 1)).collect();
        self.put(Resource::Service(plain_service(service, shape.parse().unwrap(), instances)));
    }

    /// Commits a plan, as control would.
    pub(super) fn commit(&mut self, service: &ServiceName, plan: &Plan) {
        let service = self.snapshot.service(service).unwrap().clone();
        for added in &plan.adds {
            let placement = Placement {
                instance: added.instance.clone(),
                service: service.name.clone(),
                layer: service.layer,
                package: service.package.clone(),
                package_version: "1".to_owned(),
                package_digest: Digest::of(b"package"),
                config_digest: Digest::of(b"config"),
                shape: service.shape,
                ports: added.ports.clone(),
                intent: InstanceIntent::Running,
            };
            let mut on = self.placed(&added.host);
            on.instances.push(placement);
            self.snapshot.placements.insert(added.host.clone(), versioned(on));
        }
    }

    /// Lets an instance drain.
    pub(super) fn drain(&mut self, host: &HostName, instance: &str) {
        let mut on = self.placed(host);
        let placement = on.instances.iter_mut().find(|p| p.instance.as_str() == instance).unwrap();
        placement.intent = InstanceIntent::Draining;
        self.snapshot.placements.insert(host.clone(), versioned(on));
    }

    fn placed(&self, host: &HostName) -> HostPlacements {
        let empty = HostPlacements { host: host.clone(), instances: Vec::new() };
        self.snapshot.placements.get(host).map_or(empty, |on| on.value.as_ref().clone())
    }
}

fn plain_service(service: &str, shape: Shape, instances: BTreeMap<DatacenterName, u32>) -> Service {
    Service {
        name: name(service),
        business: name("new-year"),
        layer: Layer::Logic,
        package: name("package"),
        args: Vec::new(),
        config: None,
        environment: None,
        shape,
        ports: vec!["http".to_owned()],
        routes: Vec::new(),
        dependencies: Vec::new(),
        health_check: None,
        metrics: None,
        instances,
        criticality: Criticality::Normal,
        pool: name("general"),
        per_host_max: None,
        avoid: Vec::new(),
        slo: Slo::default(),
        stop: Stop::default(),
        persistent_paths: Vec::new(),
        cache_seconds_max: None,
        traffic: Default::default(),
        hooks: Vec::new(),
    }
}

/// One datacenter `d1` with racks `r1` (hosts a, b) and `r2` (host c), and `d2` with rack `r3` (host d); 4 cores and 8 GiB each.
/// Service `lottery`, 1C1G.
pub(super) fn four_hosts() -> Fleet {
    let mut fleet = Fleet::default();
    fleet.host_type("standard", "4", "8GiB");
    fleet.rack("r1", "d1");
    fleet.rack("r2", "d1");
    fleet.rack("r3", "d2");
    for (host, rack) in [("a", "r1"), ("b", "r1"), ("c", "r2"), ("d", "r3")] {
        fleet.host(host, rack, "standard");
    }
    fleet.service("lottery", "1C1G");
    fleet
}

/// A request with the first number 1.
pub(super) fn request(service: &str, adds: &[(&str, u32)]) -> PlaceRequest {
    PlaceRequest {
        service: name(service),
        adds: adds.iter().map(|(datacenter, count)| (name(datacenter), *count)).collect(),
        unavailable: BTreeSet::new(),
        first_number: 1,
    }
}
