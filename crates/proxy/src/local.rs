//! A worker's own view of the routing table: its pools and edges beside the shared endpoints.
//!
//! Nothing here is shared with another thread. A new table reuses whatever it has in common with the old one.

use crate::balance::Points;
use crate::carried::Carried;
use crate::edge::{Edge, EdgeKey};
use crate::endpoint::EndpointState;
use crate::multiplex::Sessions;
use crate::pool::{Opened, Pool};
use crate::protect::{Protection, Service};
use crate::slots::Slots;
use crate::table::{Cluster, OTHER, OUTSIDE, Table};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// Callers told apart on one endpoint; further ones count as `other`.
const CALLERS_MAX: usize = 256;

/// The edges into one instance, or into the proxy's own answers.
pub struct Edges {
    service: Arc<str>,
    instance: Arc<str>,
    carried: Option<Arc<Carried>>,
    cells: RefCell<Vec<Arc<Edge>>>,
}

impl Edges {
    fn new(service: Arc<str>, instance: Arc<str>, carried: Option<Arc<Carried>>) -> Self {
        Self { service, instance, carried, cells: RefCell::default() }
    }

    /// The edge from `caller`; a new one is made known to the reporter. Names that the table lacks count as `other`, so
    /// that a header from outside our control cannot grow the number of series.
    pub fn from(&self, caller: &str, table: &Table, reporter: &Sender<Arc<Edge>>) -> Arc<Edge> {
        let mut cells = self.cells.borrow_mut();
        let find = |cells: &[Arc<Edge>], caller: &str| cells.iter().find(|e| *e.key.caller == *caller).cloned();
        if let Some(edge) = find(&cells, caller) {
            return edge;
        }
        let known = caller == OUTSIDE || (table.clusters.contains_key(caller) && cells.len() < CALLERS_MAX);
        let caller = if known { caller } else { OTHER };
        if let Some(edge) = find(&cells, caller) {
            return edge;
        }
        let key =
            EdgeKey { caller: caller.into(), service: Arc::clone(&self.service), instance: Arc::clone(&self.instance) };
        let edge = Arc::new(Edge::new(key, self.carried.clone()));
        // The reporter outlives the workers but for the last moments of a shutdown; then nobody reads any more.
        let _ = reporter.send(Arc::clone(&edge));
        cells.push(Arc::clone(&edge));
        edge
    }
}

/// An endpoint with this worker's connections to it.
pub struct Upstream {
    /// What all workers share.
    pub state: Arc<EndpointState>,
    /// Idle connections (HTTP/1.1).
    pub pool: Pool,
    /// Shared connections (HTTP/2).
    pub sessions: Sessions,
    /// Connections open to it, in use or not.
    open: Rc<Cell<usize>>,
    /// Most of them.
    open_max: usize,
    /// What it moves.
    pub carried: Option<Arc<Carried>>,
    /// Free places for requests.
    pub slots: Slots,
    /// Who calls it.
    pub edges: Edges,
}

impl Upstream {
    fn new(state: &Arc<EndpointState>, cluster: &Cluster, workers: usize) -> Self {
        // Connections cannot move between workers, so each has its share of the bound, and one at least.
        let open_max = cluster.connections_max.map_or(usize::MAX, |max| (max / workers).max(1));
        let slots = if cluster.http2 { cluster.in_flight_max } else { cluster.in_flight_max.min(open_max) };
        let carried = Carried::of(&state.datacenter);
        Self {
            state: Arc::clone(state),
            pool: Pool::default(),
            sessions: Sessions::default(),
            open: Rc::default(),
            open_max,
            slots: Slots::new(slots),
            edges: Edges::new(Arc::clone(&cluster.name), Arc::clone(&state.instance), carried.clone()),
            carried,
        }
    }

    /// Leave to open one more connection.
    pub fn opened(&self) -> Option<Opened> {
        Opened::within(&self.open, self.open_max, self.carried.as_ref())
    }
}

/// A cluster with this worker's upstreams.
pub struct LocalCluster {
    /// What all workers share.
    pub shared: Arc<Cluster>,
    /// In the order of `shared.endpoints`.
    pub upstreams: Vec<Rc<Upstream>>,
    /// Answers by the proxy itself.
    pub own: Edges,
    /// What protection knows about it; `None` when there is no protection.
    pub service: Option<Arc<Service>>,
    points: Cell<Points>,
}

impl LocalCluster {
    fn new(
        shared: &Arc<Cluster>,
        old: Option<&Self>,
        workers: usize,
        service: Option<Arc<Service>>,
        seed: u64,
    ) -> Self {
        let kept: HashMap<_, _> = old
            .into_iter()
            .filter(|old| old.shared.bounds() == shared.bounds())
            .flat_map(|old| &old.upstreams)
            .map(|u| (Arc::as_ptr(&u.state), u))
            .collect();
        let upstreams = shared
            .endpoints
            .iter()
            .map(|state| match kept.get(&Arc::as_ptr(state)) {
                Some(upstream) => Rc::clone(upstream),
                None => Rc::new(Upstream::new(state, shared, workers)),
            })
            .collect();
        let own = Edges::new(Arc::clone(&shared.name), "".into(), None);
        if let Some(old) = old {
            own.cells.borrow_mut().extend(old.own.cells.borrow().iter().cloned());
        }
        let points = old.map_or_else(|| Points::new(seed), |old| old.points.get());
        Self { shared: Arc::clone(shared), upstreams, own, service, points: Cell::new(points) }
    }

    /// Chooses the endpoint of a request of this priority: by its key where it has one, else by weight and load.
    pub fn pick(&self, priority: u16, key: Option<u64>, now_ms: u64) -> Option<&Rc<Upstream>> {
        let state = |index: u32| &self.upstreams[index as usize].state;
        let available = |i: u32| state(i).available(now_ms);
        let shares = self.shared.balance.shares(now_ms);
        let index = match key {
            Some(key) => {
                let identity = |i: u32| self.shared.identities[i as usize];
                shares.pick_by_key(key, identity, |i| state(i).in_flight(), available)
            }
            None => {
                let mut points = self.points.get();
                let index = shares.pick(&mut points, |i| state(i).load(priority, now_ms), available);
                self.points.set(points);
                index
            }
        };
        index.map(|index| &self.upstreams[index as usize])
    }
}

impl LocalCluster {
    /// Chooses another endpoint than the one that just failed, where there is one: one that has room, if any has. The
    /// sequence of first choices stays as it is: drawing from it would send every other request to the one that fails.
    pub fn pick_other(&self, failed: &Rc<Upstream>, priority: u16, now_ms: u64) -> Option<&Rc<Upstream>> {
        let other = |index: u32| !Rc::ptr_eq(&self.upstreams[index as usize], failed);
        let state = |index: u32| &self.upstreams[index as usize].state;
        let shares = self.shared.balance.shares(now_ms);
        let has_room = |index| self.has_room_at(index, failed, priority, now_ms);
        let is_fit = |index| other(index) && state(index).available(now_ms);
        let mut points = self.points.get();
        let load = |index| state(index).load(priority, now_ms);
        let index = if shares.any(has_room) {
            shares.pick(&mut points, load, has_room)
        } else if shares.any(is_fit) {
            shares.pick(&mut points, load, is_fit)
        } else {
            shares.pick(&mut points, load, |index| state(index).available(now_ms))
        };
        index.map(|index| &self.upstreams[index as usize])
    }

    /// Whether another endpoint than `refused` gets requests and has room for this priority.
    pub fn has_room_beside(&self, refused: &Rc<Upstream>, priority: u16, now_ms: u64) -> bool {
        self.shared.balance.shares(now_ms).any(|index| self.has_room_at(index, refused, priority, now_ms))
    }

    fn has_room_at(&self, index: u32, refused: &Rc<Upstream>, priority: u16, now_ms: u64) -> bool {
        let upstream = &self.upstreams[index as usize];
        !Rc::ptr_eq(upstream, refused) && upstream.state.has_room(priority, now_ms)
    }
}

/// The table as a worker uses it.
pub struct Local {
    /// What all workers share.
    pub table: Arc<Table>,
    /// By name.
    pub clusters: HashMap<Arc<str>, Rc<LocalCluster>>,
    /// Requests that no route matched.
    pub unrouted: Rc<Edges>,
}

impl Local {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self {
            table: Arc::default(),
            clusters: HashMap::new(),
            unrouted: Rc::new(Edges::new("".into(), "".into(), None)),
        }
    }

    /// Takes over a new table.
    pub fn follow(&self, table: Arc<Table>, workers: usize, protection: Option<&Protection>) -> Self {
        let clusters = table
            .clusters
            .iter()
            .map(|(name, shared)| {
                let local = match self.clusters.get(name) {
                    Some(old) if Arc::ptr_eq(&old.shared, shared) => Rc::clone(old),
                    old => {
                        let service = protection.map(|protection| protection.service(name));
                        Rc::new(LocalCluster::new(shared, old.map(Rc::as_ref), workers, service, rand::random()))
                    }
                };
                (Arc::clone(name), local)
            })
            .collect();
        Self { table, clusters, unrouted: Rc::clone(&self.unrouted) }
    }

    /// Closes connections that idled too long.
    pub fn sweep(&self, now: Instant) {
        for upstream in self.clusters.values().flat_map(|c| &c.upstreams) {
            upstream.pool.sweep(now);
            upstream.sessions.sweep(now);
        }
    }
}
