//! A worker: one thread, one runtime, its own listeners, its own pools.
//!
//! The kernel spreads new connections over the workers' listeners (SO_REUSEPORT); a connection stays where it came in.

use crate::edge::Edge;
use crate::endpoint::Clock;
use crate::headers::Peer;
use crate::local::Local;
use crate::request::{self, Side};
use crate::table::Table;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections that wait in the kernel for each listener.
const BACKLOG: i32 = 4_096;
/// Connections that one worker serves; further ones are closed at once.
const CONNECTIONS_MAX: usize = 20_000;
/// Largest head of a request.
const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest that a head may take, and that a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Time for handshakes under way to end before a listener is closed.
const RETIRE: Duration = Duration::from_millis(50);
/// Classic BPF for a listening socket, whose packets begin at the TCP header: drop if the SYN flag is set.
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),       // load byte 13: the flags
    SockFilter::new(0x54, 0, 0, 0x02),     // and SYN
    SockFilter::new(0x15, 0, 1, 0x02),     // equal? next, else skip one
    SockFilter::new(0x06, 0, 0, 0),        // drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // pass whole
];
/// While stopping, idle connections stay open this long: a request that is already under way is answered, with `close`.
const STOP_IDLE: Duration = Duration::from_secs(1);
/// While stopping, requests in flight get this long to end.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Time between sweeps of the pools.
const SWEEP: Duration = Duration::from_secs(1);

/// What a worker's connections share.
pub struct Worker {
    /// The proxy's clock.
    pub clock: Clock,
    /// Where new edges are announced.
    pub reporter: Sender<Arc<Edge>>,
    /// Whether the worker is stopping.
    pub drain: Drain,
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
    wakers: RefCell<HashMap<u64, Waker>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
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

    fn advance(&self, stage: Stage) {
        self.stage.set(stage);
        self.wakers.borrow().values().for_each(Waker::wake_by_ref);
    }

    fn open(&self) -> usize {
        self.wakers.borrow().len()
    }
}

/// What a worker starts with.
pub struct Start {
    /// Listener for the outside.
    pub entry: std::net::TcpListener,
    /// Listener for our own services.
    pub mesh: std::net::TcpListener,
    /// Where new tables come from.
    pub tables: watch::Receiver<Arc<Table>>,
    /// Where the worker tells which it routes by.
    pub in_force: watch::Sender<Arc<Table>>,
    /// Turns true once.
    pub stop: watch::Receiver<bool>,
    /// Where new edges are announced.
    pub reporter: Sender<Arc<Edge>>,
    /// The proxy's clock.
    pub clock: Clock,
}

/// Binds a listener that other workers, and the next proxy process, can share.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs a worker until told to stop and drained.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let Start { entry, mesh, mut tables, in_force, stop, reporter, clock } = start;
        // The saved state is in force before the first connection is taken.
        let table = Arc::clone(&tables.borrow_and_update());
        let local = RefCell::new(Rc::new(Local::empty().follow(Arc::clone(&table))));
        in_force.send_replace(table);
        let worker = Rc::new(Worker { clock, reporter, drain: Drain::default(), local });
        tokio::task::spawn_local(follow(Rc::clone(&worker), tables, in_force));
        let entry = accept(Rc::clone(&worker), TcpListener::from_std(entry)?, Side::Entry, stop.clone());
        let mesh = accept(Rc::clone(&worker), TcpListener::from_std(mesh)?, Side::Mesh, stop);
        tokio::join!(entry, mesh);
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
                let next = Rc::new(worker.local().follow(Arc::clone(&table)));
                *worker.local.borrow_mut() = next;
                in_force.send_replace(table);
            }
            _ = sweep.tick() => worker.local().sweep(Instant::now()),
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, side: Side, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(&worker, stream, peer.ip(), side),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    worker.drain.advance(Stage::Stopping);
    retire(&worker, &listener, side).await;
}

/// Closing a listener resets what waits in its backlog. So it first stops taking part in new handshakes (a SYN that is
/// dropped is sent again, and then meets the next process), then everything under way is accepted (see ADR 0004).
async fn retire(worker: &Rc<Worker>, listener: &TcpListener, side: Side) {
    if let Err(error) = SockRef::from(listener).attach_filter(&DROP_SYN) {
        tracing::warn!(%error, "cannot keep new connections from a closing listener: some may be reset");
    }
    let began = Instant::now();
    while began.elapsed() < RETIRE {
        while let Ok(Some((stream, peer))) = accept_waiting(listener).await {
            serve(worker, stream, peer.ip(), side);
        }
        tokio::time::sleep(RETIRE / 10).await;
    }
    while let Ok(Some((stream, peer))) = accept_waiting(listener).await {
        serve(worker, stream, peer.ip(), side);
    }
}

async fn accept_waiting(listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.map(Some)),
        Poll::Pending => Poll::Ready(Ok(None)),
    })
    .await
}

fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: IpAddr, side: Side) {
    if worker.drain.open() >= CONNECTIONS_MAX {
        tracing::warn!(%peer, "connection closed: this worker already serves {CONNECTIONS_MAX}");
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection gone before it was served");
        return;
    }
    let worker = Rc::clone(worker);
    let from = Peer::from(peer);
    tokio::task::spawn_local(async move {
        let service = service_fn(|request| {
            let worker = &worker;
            let from = &from;
            async move { Ok::<_, Infallible>(request::answer(worker, side, from, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(REQUEST_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let entered = Entered::new(&worker.drain);
        let mut closing = false;
        let ended = poll_fn(|cx| {
            entered.wake_by(cx.waker());
            if !closing && worker.drain.stage.get() == Stage::Closing {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
    });
}

/// A connection's entry in the drain; leaves with the connection.
struct Entered<'a> {
    drain: &'a Drain,
    id: u64,
    known: Cell<bool>,
}

impl<'a> Entered<'a> {
    fn new(drain: &'a Drain) -> Self {
        let id = drain.next.get();
        drain.next.set(id + 1);
        drain.wakers.borrow_mut().insert(id, Waker::noop().clone());
        Self { drain, id, known: Cell::new(false) }
    }

    /// A task's waker stays the same, so it is kept once.
    fn wake_by(&self, waker: &Waker) {
        if !self.known.replace(true) {
            self.drain.wakers.borrow_mut().insert(self.id, waker.clone());
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.drain.wakers.borrow_mut().remove(&self.id);
    }
}

/// Lets connections end by themselves, then closes the idle ones, then waits for the rest, within bounds.
async fn finish(worker: &Worker) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while worker.drain.open() > 0 && began.elapsed() < STOP_MAX {
        tick.tick().await;
        if worker.drain.stage.get() != Stage::Closing && began.elapsed() >= STOP_IDLE {
            worker.drain.advance(Stage::Closing);
        }
    }
    if worker.drain.open() > 0 {
        tracing::warn!(connections = worker.drain.open(), "stopped with requests in flight: they took too long");
    }
}
