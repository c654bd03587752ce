//! What the loop knows: intent (the snapshot), what was observed, who is connected, and indexes over them.

use crate::feed::Feed;
use crate::fleet::links::Links;
use crate::policies::counts::Counts;
use capacity::sizing::Curves;
use control::{HostState, InstanceObserved, Observed, Phase};
use model::{Curve, HostName, InstanceId, OperationId, Placement, ServiceName, Snapshot, UnixMs, keys};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// Curves kept in memory, the newest of each service and host type first; older ones stay in the records.
pub const CURVES_MAX: usize = 10_000;

/// Overrides of one service, with the end of their lease.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Weight of each overridden instance.
    pub weights: BTreeMap<String, u32>,
    /// When the lease lapses.
    pub until: Instant,
}

/// A service under 100-ms sampling.
#[derive(Debug, Clone)]
pub struct Fast {
    /// The service.
    pub service: ServiceName,
    /// The instance under test.
    pub instance: InstanceId,
    /// When it lapses.
    pub until: Instant,
}

/// Everything the loop knows.
pub struct World {
    /// Intent.
    pub snapshot: Snapshot,
    /// What agents and proxies last said.
    pub observed: Observed,
    /// When this server started.
    pub started_at: UnixMs,
    /// Why nothing is committed at present.
    pub trouble: Option<String>,
    /// Who is connected.
    pub links: Links,
    /// Leased weights in force.
    pub overrides: BTreeMap<ServiceName, Leased>,
    /// Services under fast sampling, by the operation that asked.
    pub fast: BTreeMap<OperationId, Fast>,
    /// Numbers: series and golden signals.
    pub feed: Feed,
    /// What policies did.
    pub policy_counts: Counts,
    /// Curves, oldest first.
    pub curves: Vec<Curve>,
    /// Instances that each host reported.
    seen_on: BTreeMap<HostName, BTreeSet<InstanceId>>,
    /// The host of each intended instance.
    host_of: BTreeMap<InstanceId, HostName>,
}

impl World {
    /// A world that knows nothing yet.
    pub fn new(started_at: UnixMs) -> Self {
        Self {
            snapshot: Snapshot::default(),
            observed: Observed { traffic_since: started_at, ..Observed::default() },
            started_at,
            trouble: None,
            links: Links::default(),
            overrides: BTreeMap::new(),
            fast: BTreeMap::new(),
            feed: Feed::default(),
            policy_counts: Counts::default(),
            curves: Vec::new(),
            seen_on: BTreeMap::new(),
            host_of: BTreeMap::new(),
        }
    }

    /// Folds one change in and keeps the indexes; says which services it touches.
    pub fn fold(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        revision: u64,
    ) -> Result<BTreeSet<ServiceName>, model::FoldError> {
        let host = key.strip_prefix(keys::PLACEMENTS).and_then(|name| HostName::new(name).ok());
        let mut touched = BTreeSet::new();
        if let Some(host) = &host {
            touched.extend(self.services_on(host));
            for placement in placements_on(&self.snapshot, host) {
                self.host_of.remove(&placement.instance);
            }
        }
        self.snapshot.fold(key, value, revision)?;
        if let Some(host) = &host {
            for placement in placements_on(&self.snapshot, host) {
                touched.insert(placement.service.clone());
                self.host_of.insert(placement.instance.clone(), host.clone());
            }
        }
        Ok(touched)
    }

    /// Services with instances intended on a host.
    pub fn services_on(&self, host: &HostName) -> BTreeSet<ServiceName> {
        placements_on(&self.snapshot, host).map(|placement| placement.service.clone()).collect()
    }

    /// Hosts that carry a service.
    pub fn hosts_of(&self, service: &ServiceName) -> impl Iterator<Item = &HostName> {
        self.snapshot.hosts_of.get(service).into_iter().flatten()
    }

    /// The instances intended of a service, with their hosts: costs what the service has, not what the fleet has.
    pub fn placements_of<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = (&'a HostName, &'a Placement)> + 'a {
        self.snapshot.placements_of(service)
    }

    /// An intended instance and its host.
    pub fn placement(&self, instance: &str) -> Option<(&HostName, &Placement)> {
        let host = self.host_of.get(instance)?;
        let placement = placements_on(&self.snapshot, host).find(|at| at.instance.as_str() == instance)?;
        Some((host, placement))
    }

    /// Takes in what a host says of an instance.
    pub fn see(&mut self, id: InstanceId, seen: InstanceObserved) {
        self.seen_on.entry(seen.host.clone()).or_default().insert(id.clone());
        self.observed.instances.insert(id, seen);
    }

    /// Instances that a host has reported and that are not known to be gone.
    pub fn seen_on(&self, host: &HostName) -> impl Iterator<Item = &InstanceId> {
        self.seen_on.get(host).into_iter().flatten()
    }

    /// Forgets an instance that is gone.
    pub fn forget(&mut self, id: &InstanceId) {
        self.observed.traffic.remove(id);
        if let Some(seen) = self.observed.instances.remove(id)
            && let Some(on) = self.seen_on.get_mut(&seen.host)
        {
            on.remove(id);
        }
    }

    /// Forgets what a host reported and does not name any more.
    pub fn forget_unnamed(&mut self, host: &HostName, named: &BTreeSet<&str>) {
        let known = self.seen_on.get(host).into_iter().flatten();
        let gone: Vec<InstanceId> = known.filter(|id| !named.contains(id.as_str())).cloned().collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    /// Instances of a service that are healthy. Those of a lost host are not known to be: what was last said of them
    /// is old.
    pub fn healthy(&self, service: &ServiceName) -> u32 {
        let healthy = |instance: &InstanceId| {
            let seen = self.observed.instances.get(instance);
            seen.is_some_and(|seen| seen.phase == Phase::Healthy && !self.is_lost(&seen.host))
        };
        self.placements_of(service).filter(|(_, placement)| healthy(&placement.instance)).count() as u32
    }

    /// True when the host's agent was connected and is not any more.
    pub fn is_lost(&self, host: &HostName) -> bool {
        self.observed.hosts.get(host).is_some_and(|seen| seen.state == HostState::Lost)
    }

    /// The newest curve of each service on each host type.
    pub fn newest_curves(&self) -> Curves {
        let mut newest = Curves::new();
        for curve in &self.curves {
            newest.entry(curve.service.clone()).or_default().insert(curve.host_type.clone(), curve.clone());
        }
        newest
    }

    /// Remembers a curve; one of the same operation is replaced.
    pub fn add_curve(&mut self, curve: Curve) {
        self.curves.retain(|known| known.operation != curve.operation);
        if self.curves.len() == CURVES_MAX {
            self.curves.remove(0);
        }
        self.curves.push(curve);
    }
}

/// The instances intended on a host.
pub fn placements_on<'a>(snapshot: &'a Snapshot, host: &HostName) -> impl Iterator<Item = &'a Placement> + use<'a> {
    snapshot.placements.get(host).into_iter().flat_map(|on| on.value.instances.iter())
}
