//! What every ADS stream is to see: each resource encoded once, with a version of its own, and a log of changes.
//!
//! Streams are woken by a counter and read the log from where they stood; one that fell behind it compares everything.
//! What changes together is a [`Batch`], and what is read together a [`View`]: no answer holds half of an apply.

use super::encode::{self, LeasedWeights};
use crate::clock::now_ms;
use crate::policies::PoliciesPut;
use control::Endpoint;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// Changes remembered for streams that lag.
const CHANGES_MAX: usize = 4_096;

/// The resource types served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Operators' policies, our own type: they must be in force before the first route is.
    Policies,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
}

impl Type {
    /// In the order in which they are sent: what is referred to goes before what refers to it.
    pub const ALL: [Type; 5] = [Type::Policies, Type::Cluster, Type::Endpoints, Type::Listener, Type::Routes];

    /// The type's URL.
    pub fn url(self) -> &'static str {
        match self {
            Type::Policies => api::policies::TYPE_URL,
            Type::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Type::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Type::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Type::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// Reads a URL.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.url() == url)
    }

    /// True when an answer must hold everything subscribed to, not only what changed.
    pub fn is_state_of_the_world(self) -> bool {
        matches!(self, Type::Policies | Type::Cluster | Type::Listener)
    }
}

/// The body of a resource.
#[derive(Debug, Clone)]
enum Body {
    /// The same bytes for everybody.
    Shared(Any),
    /// Endpoints with overrides, whose remaining life is written when they are sent.
    Leased { endpoints: Arc<[Endpoint]>, weights: BTreeMap<String, u32>, until: Instant },
    /// Policies, whose remaining life is written when they are sent.
    Policies(Arc<PoliciesPut>),
}

#[derive(Debug)]
struct Entry {
    version: u64,
    body: Body,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    entries: BTreeMap<(Type, String), Entry>,
    changes: VecDeque<(u64, Type, String)>,
}

/// All resources. Cheap to clone: clones share.
#[derive(Debug, Clone)]
pub struct Cache {
    state: Arc<RwLock<State>>,
    woken: watch::Sender<u64>,
}

/// What a stream finds since it last looked.
#[derive(Debug)]
pub struct Since {
    /// Where the log stands now.
    pub version: u64,
    /// Names that changed by type; `None`: too far behind, compare everything.
    pub changed: Option<Vec<(Type, String)>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { state: Arc::default(), woken: watch::Sender::new(0) }
    }
}

impl Cache {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no writer panics")
    }

    /// Begins a batch of changes.
    pub fn batch(&self) -> Batch {
        Batch { cache: self.clone(), changes: BTreeMap::new() }
    }

    /// Sets the policies; gives the version under which they are sent.
    pub fn set_policies(&self, put: Arc<PoliciesPut>) -> u64 {
        let mut batch = self.batch();
        batch.change(Type::Policies, api::policies::RESOURCE, Some(Body::Policies(put)));
        batch.commit();
        self.view().version_of(Type::Policies, api::policies::RESOURCE).expect("just set")
    }

    /// What there is now. Nothing changes while it is held.
    pub fn view(&self) -> View<'_> {
        View(self.state())
    }

    /// A receiver that wakes with each change.
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.woken.subscribe()
    }
}

/// Changes that streams see together: all of them, or none. One that is dropped changes nothing.
#[derive(Debug)]
pub struct Batch {
    cache: Cache,
    changes: BTreeMap<(Type, String), Option<Body>>,
}

impl Batch {
    fn change(&mut self, at: Type, name: &str, body: Option<Body>) {
        self.changes.insert((at, name.to_owned()), body);
    }

    /// The body as it will be when the batch is committed.
    fn body(&self, at: Type, name: &str) -> Option<Body> {
        let key = (at, name.to_owned());
        match self.changes.get(&key) {
            Some(changed) => changed.clone(),
            None => self.cache.state().entries.get(&key).map(|entry| entry.body.clone()),
        }
    }

    /// Sets a resource; does nothing when it says the same as before (its bytes may differ: maps have no order).
    pub fn set<M: Message + Name + Default + PartialEq>(&mut self, at: Type, name: &str, resource: &M) {
        let before = match self.body(at, name) {
            Some(Body::Shared(before)) => M::decode(before.value.as_slice()).ok(),
            _ => None,
        };
        if before.as_ref() != Some(resource) {
            self.change(at, name, Some(Body::Shared(encode::any(resource))));
        }
    }

    /// Sets endpoints with leased overrides; sent each time, since it carries a new life.
    pub fn set_leased(&mut self, name: &str, endpoints: &[Endpoint], weights: BTreeMap<String, u32>, until: Instant) {
        let body = Body::Leased { endpoints: endpoints.into(), weights, until };
        self.change(Type::Endpoints, name, Some(body));
    }

    /// Removes a resource.
    pub fn remove(&mut self, at: Type, name: &str) {
        if self.body(at, name).is_some() {
            self.change(at, name, None);
        }
    }

    /// Makes the changes, and wakes the streams when there are any.
    pub fn commit(self) {
        if self.changes.is_empty() {
            return;
        }
        let version = {
            let mut state = self.cache.state.write().expect("no writer panics");
            self.changes.into_iter().for_each(|(key, body)| state.change(key, body));
            state.version
        };
        self.cache.woken.send_replace(version);
    }
}

impl State {
    fn change(&mut self, key: (Type, String), body: Option<Body>) {
        self.version += 1;
        let version = self.version;
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((version, key.0, key.1.clone()));
        match body {
            Some(body) => drop(self.entries.insert(key, Entry { version, body })),
            None => drop(self.entries.remove(&key)),
        }
    }
}

/// The cache at one moment; streams read it side by side.
#[derive(Debug)]
pub struct View<'a>(RwLockReadGuard<'a, State>);

impl View<'_> {
    /// What changed after `version`.
    pub fn since(&self, version: u64) -> Since {
        let state = &self.0;
        let oldest = state.changes.front().map_or(state.version, |(at, ..)| at - 1);
        let changed = (version >= oldest).then(|| {
            let behind = (state.version - version) as usize;
            let from = state.changes.len().saturating_sub(behind);
            state.changes.range(from..).map(|(_, at, name)| (*at, name.clone())).collect()
        });
        Since { version: state.version, changed }
    }

    /// Version of the newest change.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// All names of a type.
    pub fn names(&self, of: Type) -> Vec<String> {
        let from = (of, String::new());
        self.0.entries.range(from..).take_while(|((at, _), _)| *at == of).map(|((_, name), _)| name.clone()).collect()
    }

    /// Version of a resource.
    pub fn version_of(&self, of: Type, name: &str) -> Option<u64> {
        self.0.entries.get(&(of, name.to_owned())).map(|entry| entry.version)
    }

    /// A resource and its version, as it is to be sent now.
    pub fn get(&self, of: Type, name: &str) -> Option<(u64, Any)> {
        let entry = self.0.entries.get(&(of, name.to_owned()))?;
        let resource = match &entry.body {
            Body::Shared(resource) => resource.clone(),
            Body::Policies(put) => encode::policies(put, now_ms()),
            Body::Leased { endpoints, weights, until } => {
                let life_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
                let leased = LeasedWeights { weights: weights.clone(), life_ms };
                encode::any(&encode::endpoints(name, endpoints, (life_ms > 0).then_some(&leased)))
            }
        };
        Some((entry.version, resource))
    }
}
