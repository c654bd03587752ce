//! Protection in the proxy: what becomes of a request before an endpoint gets it, and what its answer teaches.
//!
//! In the order in which a request meets it: context (who asks, how important, until when), operators' policies, the
//! tenant's cap, the service's level (its own, if it tells one; else the one that a gate here infers), the throttle of a
//! service that only fails. With nothing in force a request costs a few relaxed atomics and no allocation but its
//! headers'. Absent here: choosing an endpoint, ejecting one (`endpoint`), and how policies travel (`xds`).

mod cache;
mod context;
mod decide;
mod lane;
mod reply;
mod retry;
mod service;
pub mod settings;

pub use context::{Context, Told, USER};
pub use decide::{Ticket, Verdict};
pub use lane::{Lane, is_ours as is_lane};
pub use reply::Reply;
pub use retry::Came;
pub use service::{Counted, Service};
pub use settings::{LaneAt, Settings, Source, TenantLimit, UserSource};

use crate::dry_run::WorkerSample;
use crate::endpoint::Clock;
use crate::table::Table;
use admission::UserKey;
use cache::AnswerCache;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Length of a rotation of user levels.
const ROTATION_S: u64 = 3_600;
/// Services that a proxy keeps state for; those beyond share one, and are then told apart no more.
const SERVICES_MAX: usize = 16_384;

/// What the workers of a proxy share.
pub struct Shared {
    settings: Settings,
    /// From the fleet token, the secret that every proxy of a fleet has and nobody outside does: a user's hash is the same
    /// on all of them, and nobody can choose an id for its level.
    user_key: UserKey,
    services: Mutex<BTreeMap<Arc<str>, Arc<Service>>>,
    lane: Option<Arc<Lane>>,
    datacenter: Arc<str>,
    workers: usize,
    clock: Clock,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Of a proxy of so many workers in `datacenter`, whose fleet has this token.
    pub fn new(
        settings: Settings,
        token: &str,
        datacenter: &str,
        lane: Option<Arc<Lane>>,
        workers: usize,
        clock: Clock,
    ) -> Self {
        let half = |salt: u8| UserKey::from_bytes([salt; 16]).hash(token.as_bytes()).as_u64().to_le_bytes();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half(1));
        key[8..].copy_from_slice(&half(2));
        Self {
            settings,
            user_key: UserKey::from_bytes(key),
            services: Mutex::default(),
            lane,
            datacenter: datacenter.into(),
            workers,
            clock,
        }
    }

    /// The state of a service, the same for all workers and across routing tables.
    pub fn service(&self, name: &Arc<str>) -> Arc<Service> {
        let mut services = locked(&self.services);
        if let Some(service) = services.get(name) {
            return Arc::clone(service);
        }
        if services.len() >= SERVICES_MAX {
            services.retain(|_, service| Arc::strong_count(service) > 1);
        }
        let service = Arc::new(Service::new(Arc::clone(name), self.settings.tenant.as_ref(), self.workers, self.clock));
        if services.len() < SERVICES_MAX {
            services.insert(Arc::clone(name), Arc::clone(&service));
        }
        service
    }

    /// Every service seen so far.
    pub fn services(&self) -> Vec<Arc<Service>> {
        locked(&self.services).values().cloned().collect()
    }

    /// The slow lane, when there is one.
    pub fn lane(&self) -> Option<&Arc<Lane>> {
        self.lane.as_ref()
    }
}

/// One worker's part of protection.
pub struct Protection {
    shared: Arc<Shared>,
    rotation: Cell<u64>,
    sample: WorkerSample,
    cache: RefCell<AnswerCache>,
    /// Requests without a user so far: each gets a level of its own.
    nameless: Cell<u64>,
}

impl Protection {
    /// With nothing in force; request heads go into `sample`.
    pub fn new(shared: Arc<Shared>, sample: WorkerSample) -> Self {
        Self {
            shared,
            rotation: Cell::new(rotation()),
            sample,
            cache: RefCell::default(),
            nameless: Cell::new(rand::random()),
        }
    }

    /// The state of a service.
    pub fn service(&self, name: &Arc<str>) -> Arc<Service> {
        self.shared.service(name)
    }

    /// Takes over what a new table brings.
    pub fn take(&self, table: &Table) {
        self.cache.borrow_mut().keep_policies(&table.policies);
        if let Some(lane) = self.shared.lane() {
            lane.follow(&table.policies);
        }
    }

    /// Looks at the clock for a new rotation.
    pub fn tick(&self) {
        self.rotation.set(rotation());
    }
}

/// The rotation by the wall clock. A clock that jumps moves users' levels, evenly; nothing else hangs on it.
fn rotation() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / ROTATION_S)
}
