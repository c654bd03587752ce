//! A worker: one thread, one runtime, its own listeners, its own pools.
//!
//! The kernel spreads new connections over the workers' listeners (SO_REUSEPORT); a connection stays where it came in.

use crate::access_log::Pen;
use crate::dry_run::WorkerSample;
use crate::edge::Edge;
use crate::endpoint::Clock;
use crate::listener::{self, Stop};
use crate::local::Local;
use crate::protect::{Protection, Shared};
use crate::request::Side;
use crate::table::Table;
use rustls::ServerConfig;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// While stopping, idle connections stay open this long: a request that is already under way is answered, with `close`.
const STOP_IDLE: Duration = Duration::from_secs(1);
/// While stopping, requests in flight get this long to end.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Longest that a head of HTTP/1.1 may take, and that a connection may idle, in seconds.
pub const IDLE_S_MAX: u64 = 75;
/// Time between sweeps of the pools, and the unit in which idle connections age.
const SWEEP: Duration = Duration::from_secs(1);

/// What a worker's connections share.
pub struct Worker {
    /// The proxy's clock.
    pub clock: Clock,
    /// Where new edges are announced.
    pub reporter: Sender<Arc<Edge>>,
    /// Whether the worker is stopping.
    pub drain: Drain,
    /// Certificate of the entry; `None` for clear text.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Workers of this proxy, for bounds that they share.
    pub workers: usize,
    /// Its end of the access log.
    pub pen: Option<Pen>,
    /// Its sample of request heads, for dry runs of policies.
    pub heads: WorkerSample,
    /// What is decided about requests before an endpoint gets them; `None` when that is switched off.
    pub protection: Option<Protection>,
    local: RefCell<Rc<Local>>,
}

impl Worker {
    /// The routing table in force.
    pub fn local(&self) -> Rc<Local> {
        Rc::clone(&self.local.borrow())
    }
}

/// Tells connections that the worker stops; costs a running connection one read of a cell.
#[derive(Default)]
pub struct Drain {
    stage: Cell<Stage>,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, (Waker, Rc<Idle>)>>,
}

/// How long a connection has had no request under way: what a timer for each request would tell, at the cost of a cell.
#[derive(Debug, Default)]
pub struct Idle {
    busy: Cell<u32>,
    age_s: Cell<u64>,
}

impl Idle {
    /// Seconds without a request under way, to the next sweep.
    pub fn age_s(&self) -> u64 {
        self.age_s.get()
    }

    /// A request begins; it ends with what is returned.
    pub fn begin(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }
}

/// A request under way on a connection.
pub struct Busy(Rc<Idle>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.age_s.set(0);
    }
}

/// How far a worker's end is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not begun.
    #[default]
    Serving,
    /// Answers say `close`.
    Stopping,
    /// Idle connections are closed.
    Closing,
}

impl Drain {
    /// True from the moment the worker stops.
    pub fn stopping(&self) -> bool {
        self.stage.get() >= Stage::Stopping
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Goes on to `stage`, never back.
    pub fn advance(&self, stage: Stage) {
        if stage > self.stage.get() {
            self.stage.set(stage);
            self.open.borrow().values().for_each(|(waker, _)| waker.wake_by_ref());
        }
    }

    /// A second went by: wakes whoever has been idle for `age_s_max`.
    fn age(&self, age_s_max: u64) {
        for (waker, idle) in self.open.borrow().values().filter(|(_, idle)| idle.busy.get() == 0) {
            idle.age_s.set(idle.age_s.get() + 1);
            if idle.age_s.get() >= age_s_max {
                waker.wake_by_ref();
            }
        }
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.borrow().len()
    }

    /// A connection opens.
    pub fn enter(&self) -> (u64, Rc<Idle>) {
        let id = self.next.get();
        self.next.set(id + 1);
        let idle = Rc::<Idle>::default();
        self.open.borrow_mut().insert(id, (Waker::noop().clone(), Rc::clone(&idle)));
        (id, idle)
    }

    /// What wakes it when the stage changes.
    pub fn wake_by(&self, id: u64, waker: Waker) {
        if let Some((kept, _)) = self.open.borrow_mut().get_mut(&id) {
            *kept = waker;
        }
    }

    /// It closed.
    pub fn leave(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }
}

/// What a worker starts with.
pub struct Start {
    /// Its listeners, and which side each is.
    pub listeners: Vec<(Side, std::net::TcpListener)>,
    /// Where new tables come from.
    pub tables: watch::Receiver<Arc<Table>>,
    /// Where the worker tells which it routes by.
    pub in_force: watch::Sender<Arc<Table>>,
    /// Changes once.
    pub stop: watch::Receiver<Stop>,
    /// Certificate of the entry.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Workers of this proxy.
    pub workers: usize,
    /// Its end of the access log.
    pub pen: Option<Pen>,
    /// Its sample of request heads.
    pub heads: WorkerSample,
    /// What the workers' protection shares; `None` to go without.
    pub protection: Option<Arc<Shared>>,
    /// Where new edges are announced.
    pub reporter: Sender<Arc<Edge>>,
    /// The proxy's clock.
    pub clock: Clock,
}

/// Runs a worker until told to stop and drained.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let Start { listeners, mut tables, in_force, stop, tls, workers, pen, heads, protection, reporter, clock } =
            start;
        let protection = protection.map(|shared| Protection::new(shared, Arc::clone(&heads)));
        // The saved state is in force before the first connection is taken.
        let table = Arc::clone(&tables.borrow_and_update());
        if let Some(protection) = &protection {
            protection.take(&table);
        }
        let first = Local::empty().follow(Arc::clone(&table), workers, protection.as_ref());
        let local = RefCell::new(Rc::new(first));
        in_force.send_replace(table);
        let worker =
            Rc::new(Worker { clock, reporter, drain: Drain::default(), tls, workers, pen, heads, protection, local });
        tokio::task::spawn_local(follow(Rc::clone(&worker), tables, in_force));
        let mut accepting = JoinSet::new();
        for (side, listener) in listeners {
            let listener = TcpListener::from_std(listener)?;
            accepting.spawn_local(listener::accept(Rc::clone(&worker), listener, side, stop.clone()));
        }
        while let Some(ended) = accepting.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        finish(&worker).await;
        Ok(())
    })
}

/// Takes over each new table, and sweeps the pools.
async fn follow(worker: Rc<Worker>, mut tables: watch::Receiver<Arc<Table>>, in_force: watch::Sender<Arc<Table>>) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            changed = tables.changed() => {
                if changed.is_err() {
                    return;
                }
                let table = Arc::clone(&tables.borrow_and_update());
                let protection = worker.protection.as_ref();
                if let Some(protection) = protection {
                    protection.take(&table);
                }
                let next = Rc::new(worker.local().follow(Arc::clone(&table), worker.workers, protection));
                *worker.local.borrow_mut() = next;
                in_force.send_replace(table);
            }
            _ = sweep.tick() => {
                worker.local().sweep(Instant::now());
                worker.drain.age(IDLE_S_MAX);
                worker.protection.iter().for_each(Protection::tick);
            }
        }
    }
}

/// Lets connections end by themselves, then closes the idle ones, then waits for the rest, within bounds.
async fn finish(worker: &Worker) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while worker.drain.open() > 0 && began.elapsed() < STOP_MAX {
        tick.tick().await;
        if began.elapsed() >= STOP_IDLE {
            worker.drain.advance(Stage::Closing);
        }
    }
    if worker.drain.open() > 0 {
        tracing::warn!(connections = worker.drain.open(), "stopped with requests in flight: they took too long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ages_only_without_a_request_under_way() {
        let drain = Drain::default();
        let (id, idle) = drain.enter();
        let ages = |times: u32| (0..times).for_each(|_| drain.age(3));
        ages(2);
        assert_eq!(idle.age_s(), 2, "since it opened");
        let busy = idle.begin();
        ages(9);
        assert_eq!(idle.age_s(), 2, "not while a request is under way");
        drop(busy);
        assert_eq!(idle.age_s(), 0, "anew after each");
        ages(3);
        assert_eq!(idle.age_s(), 3, "overdue");
        drain.leave(id);
        assert_eq!(drain.open(), 0);
    }
}
