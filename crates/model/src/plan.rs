//! What applying manifests would change: the whole that would result is checked before anything is planned.
//!
//! Executing the plan is `control`'s and the store's work.

mod diff;

use crate::fault::{Fault, bounded};
use crate::manifest::Declared;
use crate::name::{HostName, ServiceName};
use crate::resource::*;
use crate::snapshot::Snapshot;
use crate::validate::{self, World};
use std::collections::{BTreeMap, BTreeSet};

/// What applying would change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyPlan {
    /// The changes, in the order of keys; what stays is left out.
    pub changes: Vec<PlannedChange>,
    /// Declared (and, when pruning, all) resources that stay as they are.
    pub unchanged: u32,
    /// Services whose manifest counts changed (or that go), so that the counts set by `scale` end.
    pub scales_reset: Vec<ServiceName>,
}

/// One resource that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChange {
    /// Which.
    pub key: ResourceKey,
    /// As it is; absent when it is new.
    pub before: Option<Resource>,
    /// As it will be; absent when it goes.
    pub after: Option<Resource>,
    /// The fields that differ; empty unless it stands before and after.
    pub fields: Vec<FieldDiff>,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDiff {
    /// Its path, `shape.cpu`.
    pub field: String,
    /// Value before; null when it was absent.
    pub before: serde_json::Value,
    /// Value after; null when it goes.
    pub after: serde_json::Value,
}

/// Plans the apply of manifests. With `prune`, what is stored and not declared goes, policies excepted.
///
/// # Errors
/// Every fault of the whole that would result.
pub fn plan(snapshot: &Snapshot, declared: &[Declared], prune: bool) -> Result<ApplyPlan, Vec<Fault>> {
    let wanted: BTreeMap<ResourceKey, Resource> =
        declared.iter().map(|one| (one.resource.key(), stored_form(&one.resource))).collect();
    let mut world = World::default();
    for (key, at) in &snapshot.resources {
        // A policy is put in force by a click as often as by a file: only its end or a lift takes it away.
        if (!prune || key.kind == Kind::Policy) && !wanted.contains_key(key) {
            world.resources.insert(key.clone(), &at.value);
        }
    }
    world.resources.extend(wanted.iter().map(|(key, resource)| (key.clone(), resource)));
    world.declared.extend(declared.iter().map(|one| (one.resource.key(), one)));
    let mut faults = validate::validate(&world);
    let goes: Vec<&ResourceKey> = snapshot.resources.keys().filter(|key| !world.resources.contains_key(*key)).collect();
    faults.extend(goes.iter().filter_map(|key| host_in_use(snapshot, key)));
    faults.extend(validate::placed(snapshot, &world));
    if !faults.is_empty() {
        return Err(bounded(faults));
    }
    let keys: BTreeSet<&ResourceKey> = wanted.keys().chain(goes).collect();
    Ok(changes(snapshot, keys, &wanted))
}

/// Plans the delete of one resource.
///
/// # Errors
/// It does not exist, others refer to it (says who), or it is a host that carries instances.
pub fn delete(snapshot: &Snapshot, key: &ResourceKey) -> Result<ApplyPlan, Vec<Fault>> {
    let fault = |message| Fault { file: String::new(), line: 0, field: String::new(), message };
    if !snapshot.resources.contains_key(key) {
        let names = snapshot.resources.keys().filter(|other| other.kind == key.kind).map(|other| other.name.as_str());
        let hint = crate::fault::did_you_mean(&key.name, names);
        return Err(vec![fault(format!("{key} does not exist{hint}"))]);
    }
    let mut faults: Vec<Fault> = host_in_use(snapshot, key).into_iter().collect();
    for (other, at) in &snapshot.resources {
        for reference in validate::references::of(&at.value) {
            if other != key && reference.name == key.name && reference.kinds.contains(&key.kind) {
                let field = &reference.field;
                faults.push(fault(format!("{other} refers to {key} in `{field}`; change or delete {other} first")));
            }
        }
    }
    if !faults.is_empty() {
        return Err(bounded(faults));
    }
    Ok(changes(snapshot, BTreeSet::from([key]), &BTreeMap::new()))
}

/// The form in which a resource is stored: a package's `source` is the CLI's business only.
fn stored_form(resource: &Resource) -> Resource {
    let mut stored = resource.clone();
    if let Resource::Package(package) = &mut stored {
        package.source = None;
    }
    stored
}

fn changes(snapshot: &Snapshot, keys: BTreeSet<&ResourceKey>, wanted: &BTreeMap<ResourceKey, Resource>) -> ApplyPlan {
    let mut plan = ApplyPlan::default();
    for key in keys {
        let before = snapshot.resources.get(key).map(|at| at.value.as_ref());
        let after = wanted.get(key);
        if before == after {
            plan.unchanged += 1;
            continue;
        }
        if let Some(Resource::Service(service)) = before {
            let counts_stay = matches!(after, Some(Resource::Service(new)) if new.instances == service.instances);
            if !counts_stay && snapshot.scales.contains_key(&service.name) {
                plan.scales_reset.push(service.name.clone());
            }
        }
        let fields = before.zip(after).map_or_else(Vec::new, |(before, after)| diff::fields(before, after));
        plan.changes.push(PlannedChange { key: key.clone(), before: before.cloned(), after: after.cloned(), fields });
    }
    plan
}

fn host_in_use(snapshot: &Snapshot, key: &ResourceKey) -> Option<Fault> {
    if key.kind != Kind::Host {
        return None;
    }
    let host = HostName::new(&key.name).ok()?;
    let count = snapshot.placements.get(&host)?.value.instances.len();
    let message = format!("{key} carries {count} instances; drain it first: springtide drain {host}");
    (count > 0).then(|| Fault { file: String::new(), line: 0, field: String::new(), message })
}

#[cfg(test)]
mod tests;
