//! The CMDB as one value at one revision: every resource and every intent, with the indexes decisions need.
//!
//! The control loop folds committed changes into it ([`Snapshot::fold`]): cost per change, never per fleet.

use crate::keys;
use crate::name::*;
use crate::operation::Operation;
use crate::placement::*;
use crate::policy::PolicyHistory;
use crate::resource::*;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Revision of the store: grows by one with each transaction.
pub type Revision = u64;

/// A value and the revision that last changed it, for compare-and-swap.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The value.
    pub value: Arc<T>,
    /// Revision of its key's last change.
    pub revision: Revision,
}

/// Everything intended, at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// Resources by kind and name.
    pub resources: BTreeMap<ResourceKey, Versioned<Resource>>,
    /// Placements by host.
    pub placements: BTreeMap<HostName, Versioned<HostPlacements>>,
    /// Index over `placements`, kept by [`Snapshot::fold`]: the hosts of each service. Empty in a snapshot filled by hand.
    pub hosts_of: BTreeMap<ServiceName, BTreeSet<HostName>>,
    /// Scale intents by service.
    pub scales: BTreeMap<ServiceName, Versioned<ScaleIntent>>,
    /// Host intents.
    pub host_intents: BTreeMap<HostName, Versioned<HostIntent>>,
    /// Silences.
    pub silences: BTreeMap<SilenceId, Versioned<Silence>>,
    /// Operations, ended ones too until they are archived.
    pub operations: BTreeMap<OperationId, Versioned<Operation>>,
    /// What became of each policy.
    pub policy_histories: BTreeMap<PolicyName, Versioned<PolicyHistory>>,
    /// Counters by key.
    pub counters: BTreeMap<String, Versioned<u64>>,
}

/// A stored value that this binary cannot read.
#[derive(Debug, thiserror::Error)]
#[error("stored value at {key} cannot be read: {source}; it may come from a newer version of springtide")]
pub struct FoldError {
    /// The key.
    pub key: String,
    /// What the reader said.
    #[source]
    pub source: serde_json::Error,
}

fn set<K: Ord, T: DeserializeOwned>(
    map: &mut BTreeMap<K, Versioned<T>>,
    at: K,
    value: Option<&[u8]>,
    revision: Revision,
) -> Result<(), serde_json::Error> {
    match value {
        Some(bytes) => {
            let value = Arc::new(serde_json::from_slice(bytes)?);
            map.insert(at, Versioned { value, revision });
        }
        None => {
            map.remove(&at);
        }
    }
    Ok(())
}

impl Snapshot {
    /// Folds one committed change in: `value` is absent when the key was deleted. Keys of other rooms are ignored.
    pub fn fold(&mut self, key: &str, value: Option<&[u8]>, revision: Revision) -> Result<(), FoldError> {
        self.revision = self.revision.max(revision);
        let after = |prefix: &str| key.strip_prefix(prefix);
        let done = if let Some(at) = keys::parse_resource(key) {
            set(&mut self.resources, at, value, revision)
        } else if let Some(Ok(at)) = after(keys::PLACEMENTS).map(HostName::new) {
            self.fold_placements(at, value, revision)
        } else if let Some(Ok(at)) = after(keys::SCALES).map(ServiceName::new) {
            set(&mut self.scales, at, value, revision)
        } else if let Some(Ok(at)) = after(keys::HOST_INTENTS).map(HostName::new) {
            set(&mut self.host_intents, at, value, revision)
        } else if let Some(Ok(at)) = after(keys::SILENCES).map(SilenceId::new) {
            set(&mut self.silences, at, value, revision)
        } else if let Some(Ok(at)) = after(keys::OPERATIONS).map(OperationId::new) {
            set(&mut self.operations, at, value, revision)
        } else if let Some(Ok(at)) = after(keys::POLICY_HISTORIES).map(PolicyName::new) {
            set(&mut self.policy_histories, at, value, revision)
        } else if key.starts_with(keys::COUNTERS) {
            set(&mut self.counters, key.to_owned(), value, revision)
        } else {
            Ok(())
        };
        done.map_err(|source| FoldError { key: key.to_owned(), source })
    }
}

macro_rules! typed_getters {
    ($($(#[$doc:meta])* $get:ident, $all:ident: $kind:ident),* $(,)?) => {
        impl Snapshot {$(
            $(#[$doc])*
            pub fn $get(&self, name: impl AsRef<str>) -> Option<&$kind> {
                let key = ResourceKey { kind: Kind::$kind, name: name.as_ref().to_owned() };
                match self.resources.get(&key)?.value.as_ref() {
                    Resource::$kind(found) => Some(found),
                    _ => None,
                }
            }

            /// All of them, by name.
            pub fn $all(&self) -> impl Iterator<Item = &$kind> {
                let from = ResourceKey { kind: Kind::$kind, name: String::new() };
                self.resources
                    .range(from..)
                    .take_while(|(key, _)| key.kind == Kind::$kind)
                    .filter_map(|(_, at)| match at.value.as_ref() {
                        Resource::$kind(found) => Some(found),
                        _ => None,
                    })
            }
        )*}
    };
}

typed_getters! {
    /// A region.
    region, regions: Region,
    /// A datacenter.
    datacenter, datacenters: Datacenter,
    /// A rack.
    rack, racks: Rack,
    /// A circuit.
    circuit, circuits: Circuit,
    /// A host type.
    host_type, host_types: HostType,
    /// A host.
    host, hosts: Host,
    /// A business.
    business, businesses: Business,
    /// An external.
    external, externals: External,
    /// A package.
    package, packages: Package,
    /// An environment.
    environment, environments: Environment,
    /// A config set.
    config_set, config_sets: ConfigSet,
    /// A service.
    service, services: Service,
    /// An event.
    event, events: Event,
    /// A policy.
    policy, policies: Policy,
    /// A preset.
    preset, presets: Preset,
    /// An alert rule.
    alert_rule, alert_rules: AlertRule,
    /// A receiver.
    receiver, receivers: Receiver,
}

impl Snapshot {
    /// The datacenter of a host, through its rack.
    pub fn datacenter_of(&self, host: impl AsRef<str>) -> Option<&DatacenterName> {
        Some(&self.rack(&self.host(host)?.rack)?.datacenter)
    }

    /// Instances wanted of a service in each datacenter: its scale intent, or its manifest.
    pub fn instances_wanted(&self, service: &Service) -> BTreeMap<DatacenterName, u32> {
        self.scales.get(&service.name).map_or_else(|| service.instances.clone(), |scale| scale.value.instances.clone())
    }

    /// The placements of a service, with their hosts, in the order of hosts. Costs as much as the service is large,
    /// or, in a snapshot filled by hand, as the fleet is.
    pub fn placements_of<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = (&'a HostName, &'a Placement)> {
        let by_hand = self.hosts_of.is_empty();
        let indexed =
            self.hosts_of.get(service).into_iter().flatten().filter_map(|host| self.placements.get_key_value(host));
        let all = self.placements.iter().filter(move |_| by_hand);
        indexed.chain(all).flat_map(move |(host, on)| {
            on.value.instances.iter().filter(move |p| &p.service == service).map(move |p| (host, p))
        })
    }

    fn fold_placements(
        &mut self,
        host: HostName,
        value: Option<&[u8]>,
        revision: Revision,
    ) -> Result<(), serde_json::Error> {
        let before = self.placements.get(&host).map(|at| at.value.clone());
        set(&mut self.placements, host.clone(), value, revision)?;
        for placement in before.iter().flat_map(|on| &on.instances) {
            if let Some(hosts) = self.hosts_of.get_mut(&placement.service) {
                hosts.remove(&host);
                if hosts.is_empty() {
                    self.hosts_of.remove(&placement.service);
                }
            }
        }
        for placement in self.placements.get(&host).iter().flat_map(|on| &on.value.instances) {
            self.hosts_of.entry(placement.service.clone()).or_default().insert(host.clone());
        }
        Ok(())
    }

    /// A counter's last number given; 0 before the first.
    pub fn counter(&self, key: &str) -> u64 {
        self.counters.get(key).map_or(0, |at| *at.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(host: &str, services: &[&str]) -> Vec<u8> {
        let instances: Vec<serde_json::Value> = services
            .iter()
            .enumerate()
            .map(|(n, service)| {
                serde_json::json!({
                    "instance": format!("{service}-{n}"), "service": service, "layer": "logic", "package": service,
                    "package_version": "1", "package_digest": crate::Digest::of(b"p"),
                    "config_digest": crate::Digest::of(b"c"), "shape": "1C1G", "ports": {}, "intent": "running",
                })
            })
            .collect();
        serde_json::to_vec(&serde_json::json!({ "host": host, "instances": instances })).unwrap()
    }

    #[test]
    fn the_index_over_placements_follows_every_fold() {
        let mut snapshot = Snapshot::default();
        let folds: [(&str, Option<&[&str]>); 6] = [
            ("h1", Some(&["lottery", "lottery", "gift"])),
            ("h2", Some(&["lottery"])),
            ("h1", Some(&["gift"])),
            ("h2", Some(&["pay", "lottery"])),
            ("h1", None),
            ("h2", Some(&[])),
        ];
        for (revision, (host, services)) in (1..).zip(folds) {
            let value = services.map(|services| on(host, services));
            let key = keys::placements(&HostName::new(host).unwrap());
            snapshot.fold(&key, value.as_deref(), revision).unwrap();
            let by_hand = Snapshot { placements: snapshot.placements.clone(), ..Snapshot::default() };
            for service in ["lottery", "gift", "pay"].map(|name| ServiceName::new(name).unwrap()) {
                let indexed: Vec<_> = snapshot.placements_of(&service).collect();
                assert_eq!(indexed, by_hand.placements_of(&service).collect::<Vec<_>>(), "{service} at {revision}");
            }
        }
        assert!(snapshot.hosts_of.is_empty());
    }
}
