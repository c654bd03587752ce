//! One transaction in the making: the operation's journal and its effect on placements, guarded by every revision read.

use crate::contract::{Commit, Write};
use crate::journal;
use model::{HostName, HostPlacements, InstanceId, Operation, Placement, Revision, Snapshot, UnixMs, Versioned, keys};
use std::collections::BTreeMap;

/// Changes to one operation and to what it touches, committed together or not at all.
pub(crate) struct Draft<'a> {
    snapshot: &'a Snapshot,
    now: UnixMs,
    revision: Revision,
    op: Operation,
    changed: bool,
    hosts: BTreeMap<HostName, HostPlacements>,
    guards: BTreeMap<String, Revision>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

impl<'a> Draft<'a> {
    /// Begins with nothing changed.
    pub fn new(snapshot: &'a Snapshot, at: &Versioned<Operation>, now: UnixMs) -> Self {
        Self {
            snapshot,
            now,
            revision: at.revision,
            op: at.value.as_ref().clone(),
            changed: false,
            hosts: BTreeMap::new(),
            guards: BTreeMap::new(),
            writes: BTreeMap::new(),
        }
    }

    /// The operation as it will be.
    pub fn op(&self) -> &Operation {
        &self.op
    }

    /// The operation, to change it.
    pub fn change(&mut self) -> &mut Operation {
        self.changed = true;
        &mut self.op
    }

    /// True when there is something to commit.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// True when placements change.
    pub fn touches_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Adds a line to the operation's log.
    pub fn log(&mut self, text: impl Into<String>) {
        let now = self.now;
        journal::log(self.change(), now, text);
    }

    /// The same, unless that is what its last line says.
    pub fn log_once(&mut self, text: &str) {
        if self.op.log.last().is_none_or(|last| last.text != text) {
            self.log(text);
        }
    }

    /// A host's placements, to change them; guarded from now on.
    pub fn host(&mut self, host: &HostName) -> &mut HostPlacements {
        self.changed = true;
        self.hosts.entry(host.clone()).or_insert_with(|| match self.snapshot.placements.get(host) {
            Some(on) => on.value.as_ref().clone(),
            None => HostPlacements { host: host.clone(), instances: Vec::new() },
        })
    }

    /// One placement, to change it; absent when it is gone.
    pub fn placement(&mut self, host: &HostName, instance: &InstanceId) -> Option<&mut Placement> {
        self.snapshot.placements.get(host)?;
        self.host(host).instances.iter_mut().find(|p| &p.instance == instance)
    }

    /// Adds a placement in the order of ids.
    pub fn add_placement(&mut self, host: &HostName, placement: Placement) {
        let on = &mut self.host(host).instances;
        let at = on.partition_point(|p| p.instance < placement.instance);
        on.insert(at, placement);
    }

    /// Removes a placement.
    pub fn remove_placement(&mut self, host: &HostName, instance: &InstanceId) {
        if self.snapshot.placements.contains_key(host) {
            self.host(host).instances.retain(|p| &p.instance != instance);
        }
    }

    /// Fails the commit when this key has changed since the snapshot.
    pub fn guard(&mut self, key: String, revision: Revision) {
        self.guards.insert(key, revision);
    }

    /// Writes another key, guarded; `None` deletes.
    pub fn write(&mut self, key: String, revision: Revision, value: Option<Vec<u8>>) {
        self.changed = true;
        self.guards.insert(key.clone(), revision);
        self.writes.insert(key, value);
    }

    /// The commit, when anything changed.
    pub fn commit(mut self) -> Option<Commit> {
        if !self.changed {
            return None;
        }
        let key = keys::operation(&self.op.id);
        self.guards.insert(key.clone(), self.revision);
        self.writes.insert(key, Some(journal::json(&self.op)));
        for (host, on) in std::mem::take(&mut self.hosts) {
            let before = self.snapshot.placements.get(&host);
            self.guards.insert(keys::placements(&host), before.map_or(0, |at| at.revision));
            let value = (!on.instances.is_empty()).then(|| journal::json(&on));
            if value.is_some() || before.is_some() {
                self.writes.insert(keys::placements(&host), value);
            }
        }
        Some(Commit {
            operation: Some(self.op.id.clone()),
            guards: self.guards.into_iter().collect(),
            writes: self.writes.into_iter().map(|(key, value)| Write { key, value }).collect(),
            who: self.op.id.to_string(),
        })
    }
}
