//! Checks the whole that would result from an apply: references, the rules of the layers, cycles, variables, collisions.
//!
//! What a single document can say wrong by itself (types, units, unknown fields) is `manifest`'s work.

mod alert;
mod facility;
mod graph;
mod policy;
pub mod references;
mod service;
mod variables;

use crate::fault::Fault;
use crate::manifest::Declared;
use crate::resource::*;
use crate::snapshot::Snapshot;
use std::collections::BTreeMap;

/// All resources that would exist, and where those of the manifests were declared.
#[derive(Debug, Default)]
pub struct World<'a> {
    /// Every resource.
    pub resources: BTreeMap<ResourceKey, &'a Resource>,
    /// The declared ones.
    pub declared: BTreeMap<ResourceKey, &'a Declared>,
}

impl<'a> World<'a> {
    /// A fault at a field of a resource, with its place when it was declared.
    fn fault(&self, key: &ResourceKey, field: &str, message: impl Into<String>) -> Fault {
        match self.declared.get(key) {
            Some(declared) => declared.fault(field, message),
            None => {
                let message = format!("{key} (stored): {}", message.into());
                Fault { file: String::new(), line: 0, field: field.to_owned(), message }
            }
        }
    }

    /// `file:line` of a declared resource; else `stored`.
    fn place(&self, key: &ResourceKey) -> String {
        self.declared.get(key).map_or_else(|| "stored".to_owned(), |at| format!("{}:{}", at.file, at.line))
    }

    fn get(&self, kind: Kind, name: &str) -> Option<&'a Resource> {
        self.resources.get(&ResourceKey { kind, name: name.to_owned() }).copied()
    }

    fn services(&self) -> impl Iterator<Item = (&ResourceKey, &'a Service)> {
        self.resources.iter().filter_map(|(key, resource)| match resource {
            Resource::Service(service) => Some((key, service)),
            _ => None,
        })
    }
}

/// Every fault of the whole, by file and line.
pub fn validate(world: &World<'_>) -> Vec<Fault> {
    let mut faults = references::dangling(world);
    faults.extend(facility::check(world));
    faults.extend(service::check(world));
    faults.extend(graph::cycles(world));
    faults.extend(variables::check(world));
    faults.extend(policy::check(world));
    faults.extend(alert::check(world));
    faults.sort();
    faults
}

/// Faults between what would be declared and the instances that are placed already.
pub fn placed(snapshot: &Snapshot, world: &World<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (host, on) in snapshot.placements.iter().filter(|(_, on)| !on.value.instances.is_empty()) {
        let Some(Resource::Host(new)) = world.get(Kind::Host, host.as_str()) else { continue };
        let Some(old) = snapshot.host(host) else { continue };
        let key = ResourceKey { kind: Kind::Host, name: host.as_str().to_owned() };
        let count = on.value.instances.len();
        if new.address != old.address {
            let message = format!(
                "cannot change while the host carries {count} instances; drain it first: springtide drain {host}"
            );
            faults.push(world.fault(&key, "address", message));
        }
        if new.rack != old.rack {
            let message = format!(
                "cannot change while the host carries {count} instances; drain it first: springtide drain {host}"
            );
            faults.push(world.fault(&key, "rack", message));
        }
        let layer = |layer| on.value.instances.iter().find(|placement| placement.layer != layer);
        if let Some(stranger) = new.exclusive.and_then(layer) {
            let message = format!(
                "the host carries {} of another layer; drain it first: springtide drain {host}",
                stranger.instance
            );
            faults.push(world.fault(&key, "exclusive", message));
        }
    }
    faults
}

#[cfg(test)]
mod tests;
