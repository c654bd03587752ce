//! Folding commits in, and telling the fleet and the data plane what changed.

use super::actions::services_of;
use super::engine::Engine;
use super::world::placements_on;
use crate::clock::now_ms;
use crate::config::Error;
use crate::fleet::assign;
use crate::xds::cache::{Batch, Type};
use crate::xds::encode;
use api::fleet::{Assignments, agent_down};
use control::{Event, Phase};
use model::{DatacenterName, HostName, InstanceId, Kind, ServiceName, keys};
use std::collections::{BTreeMap, BTreeSet};
use store::WatchEvent;
use store::records::Kind as Kept;
use store::staged;

impl Engine {
    /// Takes one event of the watch in.
    pub(super) async fn take_watch(&mut self, event: WatchEvent) -> Result<(), Error> {
        match event {
            WatchEvent::Commit(commit) => {
                let mut changed = Vec::with_capacity(commit.changes.len());
                for change in &commit.changes {
                    self.fold(&change.key, change.value.as_deref(), commit.revision)?;
                    changed.push(change.key.to_string());
                }
                self.world.snapshot.revision = self.world.snapshot.revision.max(commit.revision);
                self.events.push_back(Event::Committed { keys: changed });
                Ok(())
            }
            WatchEvent::Compacted { oldest } => {
                tracing::warn!(oldest, "the watch fell behind; reading everything again");
                self.relist().await
            }
        }
    }

    fn fold(&mut self, key: &str, value: Option<&[u8]>, revision: u64) -> Result<(), Error> {
        if key == staged::RECORD {
            self.staged = value.is_some();
            return Ok(());
        }
        if key.starts_with(keys::OPERATIONS) {
            // Gray weights of the old and of the new state both matter.
            self.touch_operation(key);
        }
        let touched = self.world.fold(key, value, revision)?;
        self.world.observed.proxies_behind.extend(touched.iter().cloned());
        self.services_dirty.extend(touched);
        if let Some(Ok(host)) = key.strip_prefix(keys::PLACEMENTS).map(HostName::new) {
            self.hosts_dirty.insert(host);
        } else if key.starts_with(keys::OPERATIONS) {
            self.touch_operation(key);
        } else if let Some(at) = keys::parse_resource(key) {
            self.touch_resource(at.kind, &at.name, value.is_none());
        }
        Ok(())
    }

    fn touch_operation(&mut self, key: &str) {
        let Some(id) = key.strip_prefix(keys::OPERATIONS) else { return };
        let Some(operation) = self.world.snapshot.operations.get(id) else { return };
        let services = services_of(&operation.value);
        // A gate counts from what is observed when it opens: that must not be older than the operation.
        self.observe_traffic(&services);
        // Its gray weight may be another one.
        self.world.observed.proxies_behind.extend(services.iter().cloned());
        self.services_dirty.extend(services);
    }

    fn touch_resource(&mut self, kind: Kind, name: &str, deleted: bool) {
        match kind {
            Kind::Service | Kind::External => {
                self.clusters_dirty.insert(name.to_owned());
                let Some(service) = ServiceName::new(name).ok().filter(|_| kind == Kind::Service) else { return };
                // Where instances tell their numbers is not bound to the config they were made with.
                self.hosts_dirty.extend(self.world.placements_of(&service).map(|(host, _)| host.clone()));
                self.services_dirty.insert(service);
            }
            Kind::Host => {
                let Ok(host) = HostName::new(name) else { return };
                self.services_dirty.extend(self.world.services_on(&host));
                if deleted && let Some(link) = self.world.links.agents.remove(&host) {
                    // The agent may be gone already; then nobody needs to know.
                    let _ = link.to.try_send(Err(tonic::Status::not_found(format!("host {host} was deleted"))));
                    self.world.observed.hosts.remove(&host);
                }
                self.hosts_dirty.insert(host);
            }
            Kind::Policy => self.policies_dirty = true,
            _ => {}
        }
    }

    /// Reads everything again, as after a compaction.
    async fn relist(&mut self) -> Result<(), Error> {
        let stopped = |error: store::Error| Error::Stopped(error.to_string());
        let range = self.store.range(keys::ALL).await.map_err(stopped)?;
        self.watch = self.store.watch(keys::ALL, range.revision).await.map_err(stopped)?;
        let there: BTreeSet<&str> = range.items.iter().map(|item| item.key.as_ref()).collect();
        let gone: Vec<String> = self.known_keys().into_iter().filter(|key| !there.contains(key.as_str())).collect();
        let mut changed = gone.clone();
        for key in gone {
            self.fold(&key, None, range.revision)?;
        }
        self.staged = false;
        for item in &range.items {
            self.fold(&item.key, Some(&item.value), item.mod_revision)?;
            changed.push(item.key.to_string());
        }
        self.world.snapshot.revision = range.revision;
        self.events.push_back(Event::Committed { keys: changed });
        Ok(())
    }

    fn known_keys(&self) -> Vec<String> {
        let snapshot = &self.world.snapshot;
        let resources = snapshot.resources.keys().map(keys::resource);
        let placements = snapshot.placements.keys().map(keys::placements);
        let scales = snapshot.scales.keys().map(keys::scale);
        let intents = snapshot.host_intents.keys().map(keys::host_intent);
        let silences = snapshot.silences.keys().map(keys::silence);
        let operations = snapshot.operations.keys().map(keys::operation);
        let histories = snapshot.policy_histories.keys().map(keys::policy_history);
        let counters = snapshot.counters.keys().cloned();
        let some = resources.chain(placements).chain(scales).chain(intents);
        some.chain(silences).chain(operations).chain(histories).chain(counters).collect()
    }

    /// Publishes everything, as after a start.
    pub(super) fn publish_all(&mut self) {
        self.publish(true);
    }

    /// Tells agents and the data plane what changed.
    pub(super) fn publish_dirty(&mut self) {
        if !self.staged {
            self.publish(false);
        }
    }

    fn publish(&mut self, with_routes: bool) {
        self.publish_policies();
        // One batch: what was applied together reaches a client together.
        let mut batch = self.cache.batch();
        let clusters = std::mem::take(&mut self.clusters_dirty);
        clusters.iter().for_each(|name| self.publish_cluster(name, &mut batch));
        if with_routes || !clusters.is_empty() {
            self.publish_routes(&mut batch);
        }
        let dirty = std::mem::take(&mut self.services_dirty);
        let leased = std::mem::take(&mut self.overrides_dirty);
        for service in dirty.union(&leased) {
            self.publish_endpoints(service, leased.contains(service), &mut batch);
        }
        batch.commit();
        for host in std::mem::take(&mut self.hosts_dirty) {
            self.publish_assignments(&host);
        }
    }

    fn publish_routes(&self, batch: &mut Batch) {
        batch.set(Type::Routes, "entry", &encode::entry_routes(&self.world.snapshot));
        batch.set(Type::Routes, "mesh", &encode::mesh_routes(&self.world.snapshot));
    }

    fn publish_cluster(&self, name: &str, batch: &mut Batch) {
        let snapshot = &self.world.snapshot;
        let service = snapshot.service(name).filter(|service| !service.ports.is_empty()).map(encode::service_cluster);
        match service.or_else(|| snapshot.external(name).and_then(encode::external_cluster)) {
            Some(cluster) => batch.set(Type::Cluster, name, &cluster),
            None => batch.remove(Type::Cluster, name),
        }
    }

    fn publish_endpoints(&mut self, service: &ServiceName, leased_anew: bool, batch: &mut Batch) {
        let world = &self.world;
        if world.snapshot.service(service).is_none() {
            self.published.remove(service);
            batch.remove(Type::Endpoints, service.as_str());
            return;
        }
        let endpoints = control::endpoints(&world.snapshot, &world.observed, service);
        let known = self.published.get(service);
        // An empty list is never pushed: the last one that was true serves better than none.
        if endpoints.is_empty() || (known == Some(&endpoints) && !leased_anew) {
            return;
        }
        match world.overrides.get(service) {
            Some(leased) => {
                batch.set_leased(service.as_str(), &endpoints, leased.weights.clone(), leased.until);
            }
            None => {
                batch.set(Type::Endpoints, service.as_str(), &encode::endpoints(service.as_str(), &endpoints, None))
            }
        }
        self.published.insert(service.clone(), endpoints);
    }

    /// Sends a host what it lacks: everything after a hello, later only what changed.
    pub(super) fn publish_assignments(&mut self, host: &HostName) {
        // A host that is not declared is told nothing: silence stops no instance.
        let Some(datacenter) = self.world.snapshot.datacenter_of(host).cloned() else { return };
        let Some(link) = self.world.links.agents.get_mut(host) else { return };
        let first = link.sent.is_none();
        let ahead = link.ahead;
        let before = link.sent.take().unwrap_or_default();
        let mesh = self.world.links.mesh_of(&datacenter).to_owned();
        let mut message = Assignments {
            revision: self.world.snapshot.revision,
            snapshot: first && !ahead,
            mesh_address: mesh.clone(),
            ..Assignments::default()
        };
        let now = self.assign(host, &datacenter, &before, &mut message);
        let removed: Vec<InstanceId> = before.keys().filter(|id| !now.contains_key(*id)).cloned().collect();
        message.remove = removed.iter().map(ToString::to_string).collect();
        if first && !message.snapshot && !ahead {
            // Not whole, so it does not say by silence what is to go.
            let strangers = self.world.seen_on(host).filter(|id| !now.contains_key(*id));
            message.remove.extend(strangers.map(ToString::to_string));
        }
        self.record_templates();
        for id in removed {
            // One that stopped before it was taken away will not say so again.
            if self.world.observed.instances.get(&id).is_some_and(|seen| seen.phase == Phase::Stopped) {
                self.world.forget(&id);
            }
        }
        let changed = first || !message.set.is_empty() || !message.remove.is_empty();
        let link = self.world.links.agents.get_mut(host).expect("it was there above");
        link.sent = Some(now);
        let moved = std::mem::replace(&mut link.mesh, mesh) != message.mesh_address;
        if changed || moved {
            self.world.links.send(host, agent_down::Message::Assignments(message));
        }
    }

    /// Agents that have followed a later revision hear everything that is wanted once more, and stop the rest.
    pub(super) fn tell_all_to_those_ahead(&mut self) {
        for (host, link) in self.world.links.agents.iter_mut().filter(|(_, link)| link.ahead) {
            link.ahead = false;
            link.sent = None;
            self.hosts_dirty.insert(host.clone());
        }
    }

    /// Fills in what differs from `before`; gives the fingerprints of all that the host is to run.
    fn assign(
        &mut self,
        host: &HostName,
        datacenter: &DatacenterName,
        before: &BTreeMap<InstanceId, u64>,
        message: &mut Assignments,
    ) -> BTreeMap<InstanceId, u64> {
        let snapshot = &self.world.snapshot;
        let mut now = BTreeMap::new();
        let Some(declared) = snapshot.host(host) else { return now };
        let address = declared.address.to_string();
        let records = self.records.clone();
        let recall = move |id: &str| {
            let record = records.get(Kept::Config, id).ok().flatten()?;
            serde_json::from_slice(&record.bytes).ok()
        };
        for placement in placements_on(snapshot, host) {
            let Some(template) = self.templates.get(snapshot, placement, datacenter, &recall, now_ms()) else {
                tracing::error!(instance = %placement.instance, "what its config digest stands for is not known");
                // Kept as it is on the host: a snapshot without it would stop it.
                message.snapshot = false;
                let print = before.get(&placement.instance).copied().unwrap_or_default();
                now.insert(placement.instance.clone(), print);
                continue;
            };
            let print = assign::fingerprint(snapshot, placement, &assign::template_id(placement, datacenter), &address);
            if before.get(&placement.instance) != Some(&print) {
                message.set.extend(assign::assignment(snapshot, host, datacenter, placement, &template));
            }
            now.insert(placement.instance.clone(), print);
        }
        now
    }

    /// Keeps what config digests stand for; what the disk does not take is tried again with the next assignment.
    fn record_templates(&mut self) {
        for (id, template) in std::mem::take(&mut self.templates.unrecorded) {
            let bytes = serde_json::to_vec(&*template).expect("a template is plain data");
            if let Err(error) = self.records.append(Kept::Config, &id, &bytes) {
                tracing::error!(%error, "a config could not be kept; a restarted server would not know it");
                self.templates.unrecorded.push((id, template));
            }
        }
    }
}
