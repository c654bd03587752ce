//! What is going on by intent: events, operations, stress tests, drills. It excuses what it explains, and nothing else.
//!
//! An event excuses demand that moves; errors and latency stay errors and latency. An operation names a release that may be
//! to blame. A drill excuses the absence of what stands in its place, and demand that moves elsewhere.

use crate::finding::{EntityKind, EntityRef};
use crate::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// Activities known at the same time; the rest is not taken.
pub const ACTIVITIES_MAX: usize = 1_000;
/// After an activity ends, what it moved may still move back.
const AFTER_S: u64 = 90;
/// For this long after its end a release may be to blame.
pub(crate) const RELEASE_BLAMED_S: u64 = 900;

/// Something intended.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// What.
    pub kind: ActivityKind,
    /// Since when, unix ms.
    pub from_ms: u64,
    /// Until when; none: still going on.
    pub until_ms: Option<u64>,
}

/// A kind of activity.
#[derive(Debug, Clone, PartialEq)]
pub enum ActivityKind {
    /// A crowd is expected at these services, and at all that they call.
    Event {
        /// Entry services.
        services: Vec<String>,
    },
    /// Instances of a service come and go; demand at each moves.
    Operation {
        /// The service.
        service: String,
        /// The version being rolled out, as in [`crate::Instance::version`].
        release: Option<u32>,
    },
    /// An instance carries more than its share on purpose.
    StressTest {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
    },
    /// The proxies that report are not those that did: what each service is seen to carry may move, nothing else.
    Reporting,
    /// A place is taken out on purpose.
    Drill {
        /// Datacenter, rack, host, service or instance.
        place: EntityRef,
    },
}

/// A release that may be to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Release {
    pub(crate) version: u32,
    pub(crate) from_s: u64,
    pub(crate) running: bool,
}

/// Activities resolved to the ids of a topology, for some time.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Services whose demand may move.
    pub(crate) demand_moves: Vec<bool>,
    /// Instances whose absence is intended.
    pub(crate) absent: Vec<bool>,
    /// Instances that may be hot.
    pub(crate) hot: BTreeSet<u32>,
    /// By service.
    pub(crate) releases: BTreeMap<u32, Release>,
    /// Second from which this no longer holds.
    stale_s: u64,
}

impl Context {
    pub(crate) fn stale(&self, second: u64) -> bool {
        second >= self.stale_s
    }

    /// Resolves what is in force in a second.
    pub(crate) fn resolve(activities: &[Activity], topology: &Topology, second: u64) -> Self {
        let absent = topology.instances.iter().map(|instance| !instance.wanted).collect();
        let mut context =
            Self { demand_moves: vec![false; topology.services.len()], absent, stale_s: u64::MAX, ..Self::default() };
        let ids: BTreeMap<&str, u32> =
            topology.services.iter().zip(0..).map(|(service, id)| (service.name.as_str(), id)).collect();
        for activity in activities {
            let from_s = activity.from_ms / 1_000;
            let until_s = activity.until_ms.map_or(u64::MAX, |until_ms| until_ms / 1_000);
            let released = matches!(activity.kind, ActivityKind::Operation { release: Some(_), .. });
            let after_s = if released { RELEASE_BLAMED_S } else { AFTER_S };
            let boundaries = [from_s, until_s, until_s.saturating_add(AFTER_S), until_s.saturating_add(after_s)];
            let next = boundaries.into_iter().filter(|boundary| *boundary > second).min();
            context.stale_s = context.stale_s.min(next.unwrap_or(u64::MAX));
            if (from_s..until_s.saturating_add(after_s)).contains(&second) {
                let moving = second < until_s.saturating_add(AFTER_S);
                context.add(&activity.kind, topology, &ids, (from_s, second < until_s, moving));
            }
        }
        context
    }

    fn add(
        &mut self,
        kind: &ActivityKind,
        topology: &Topology,
        ids: &BTreeMap<&str, u32>,
        (from_s, running, moving): (u64, bool, bool),
    ) {
        match kind {
            ActivityKind::Event { services } => {
                services.iter().filter_map(|name| ids.get(name.as_str())).for_each(|id| self.move_from(*id, topology));
            }
            ActivityKind::Operation { service, release } => {
                let Some(&id) = ids.get(service.as_str()) else { return };
                self.demand_moves[id as usize] |= moving;
                if let Some(version) = *release {
                    self.releases.insert(id, Release { version, from_s, running });
                }
            }
            ActivityKind::StressTest { service, instance } => {
                let Some(&id) = ids.get(service.as_str()) else { return };
                let named = |at: &&u32| topology.instances[**at as usize].name == *instance;
                self.hot.extend(topology.members(id).iter().find(named));
            }
            ActivityKind::Reporting => self.demand_moves.fill(true),
            ActivityKind::Drill { place } => self.drill(place, topology),
        }
    }

    fn move_from(&mut self, service: u32, topology: &Topology) {
        let mut open = vec![service];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut self.demand_moves[at as usize], true) {
                open.extend(topology.callees(at).iter().map(|pair| topology.pairs[*pair as usize].callee));
            }
        }
    }

    fn drill(&mut self, place: &EntityRef, topology: &Topology) {
        // Traffic that leaves one place arrives at others.
        self.demand_moves.fill(true);
        for (at, instance) in topology.instances.iter().enumerate() {
            let (rack, datacenter) = topology.place_of(instance.host);
            let name = match place.kind {
                EntityKind::Datacenter => &topology.datacenters[datacenter as usize],
                EntityKind::Rack => &topology.racks[rack as usize].name,
                EntityKind::Host => &topology.hosts[instance.host as usize].name,
                EntityKind::Service | EntityKind::External => &topology.services[instance.service as usize].name,
                EntityKind::Instance | EntityKind::Pair => &instance.name,
            };
            self.absent[at] |= *name == place.name;
        }
    }
}
