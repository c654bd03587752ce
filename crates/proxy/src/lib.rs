//! The L7 data plane: an xDS client that carries traffic by weight.
//!
//! One thread and one runtime for each worker, with listeners and connections of its own; nothing on a request's path is
//! shared behind a lock. One more thread talks to the control plane, checks health and reports. No TLS, no HTTP/2, no
//! protection here yet. See docs/adr/0004-proxy-on-hyper.md.

pub mod balance;
pub mod edge;
pub mod endpoint;
pub mod table;
pub mod xds;

mod body;
mod exchange;
mod flight;
mod headers;
mod health;
mod local;
mod own;
mod pool;
mod report;
mod request;
mod worker;

use endpoint::Clock;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Most worker threads.
pub const THREADS_MAX: usize = 256;

/// How a proxy runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in the fleet.
    pub name: String,
    /// Fleet listener of the server, `http://127.0.0.1:PORT`.
    pub server: String,
    /// Fleet token.
    pub token: String,
    /// Datacenter that it stands in.
    pub datacenter: String,
    /// Listener for the outside; port 0 takes a free one.
    pub entry: SocketAddr,
    /// Listener for our own services; port 0 takes a free one.
    pub mesh: SocketAddr,
    /// Worker threads.
    pub threads: usize,
    /// File of the last good xDS state.
    pub state: PathBuf,
}

/// Why a proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({listener}): {source}")]
    Bind {
        /// Which one.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server's address is not one that can be spoken to.
    #[error("server address {server:?}: {what}; expected http://HOST:PORT")]
    Server {
        /// As given.
        server: String,
        /// What is wrong with it.
        what: String,
    },
    /// The number of threads is out of range.
    #[error("threads is {0}, expected 1 to {THREADS_MAX}")]
    Threads(usize),
    /// The system gives no thread, runtime or signal.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A thread panicked.
    #[error("a proxy thread panicked; its message is in the log")]
    Panicked,
}

/// Counts of what went wrong without harm.
#[derive(Debug, Default)]
pub struct Warnings {
    /// Answers without endpoints or listeners that were not believed.
    pub empty_ignored: AtomicU64,
    /// Resources refused (NACK).
    pub refused: AtomicU64,
}

/// A running proxy. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    entry: SocketAddr,
    mesh: SocketAddr,
    warnings: Arc<Warnings>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steer: Option<JoinHandle<()>>,
    end: watch::Sender<bool>,
    table: watch::Receiver<Arc<table::Table>>,
    /// The table that each worker routes by.
    in_force: Vec<watch::Receiver<Arc<table::Table>>>,
}

impl Handle {
    /// Address of the entry listener.
    pub fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// Address of the mesh listener.
    pub fn mesh(&self) -> SocketAddr {
        self.mesh
    }

    /// What went wrong without harm.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// True when every worker routes by the newest table.
    pub fn settled(&self) -> bool {
        let newest = self.table.borrow();
        self.in_force.iter().all(|table| Arc::ptr_eq(&table.borrow(), &newest))
    }

    /// Stops accepting, finishes what is in flight, and ends.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error.into()),
                Err(_) => result = Err(Error::Panicked),
            }
        }
        self.end.send_replace(true);
        if self.steer.take().is_some_and(|steer| steer.join().is_err()) {
            result = Err(Error::Panicked);
        }
        result
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.end.send_replace(true);
    }
}

/// Runs a proxy until SIGTERM or SIGINT, then drains it.
pub fn run(config: Config) -> Result<(), Error> {
    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut handle = start(config)?;
    raise_open_files();
    tracing::info!(entry = %handle.entry, mesh = %handle.mesh, "proxy serves");
    signals.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok::<_, io::Error>(())
    })?;
    tracing::info!("proxy drains");
    handle.stop.send_replace(true);
    handle.join()
}

/// A connection is a file: the soft limit of most systems, 1,024, is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, current = ?limit.current, "cannot raise the limit of open files");
    }
}

/// Starts a proxy.
pub fn start(config: Config) -> Result<Handle, Error> {
    if config.threads == 0 || config.threads > THREADS_MAX {
        return Err(Error::Threads(config.threads));
    }
    let (entry, entries) = bind_all("entry", config.entry, config.threads)?;
    let (mesh, meshes) = bind_all("mesh", config.mesh, config.threads)?;
    let clock = Clock::start();
    let warnings = Arc::new(Warnings::default());
    let (tables, table) = watch::channel(Arc::default());
    let (stop, stopping) = watch::channel(false);
    let (end, ending) = watch::channel(false);
    let (reporter, announced) = std::sync::mpsc::channel();
    let steer = {
        let config = Arc::new(config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(async { xds::channel(&config.server) })?;
        // The saved state is in force before the first connection is accepted.
        let client =
            runtime.block_on(async { xds::Client::new(Arc::clone(&config), clock, Arc::clone(&warnings), tables) });
        let reporter = report::Reporter::new(config, (entry, mesh), announced, ending);
        let table = table.clone();
        std::thread::Builder::new().name("steer".into()).spawn(move || {
            runtime.block_on(steer(client, reporter, channel, table));
            runtime.shutdown_background();
        })?
    };
    let (workers, in_force) = (Vec::new(), Vec::new());
    let mut handle =
        Handle { entry, mesh, warnings, stop, workers, steer: Some(steer), end, table: table.clone(), in_force };
    for (index, (entry, mesh)) in entries.into_iter().zip(meshes).enumerate() {
        let (in_force, routes_by) = watch::channel(Arc::default());
        let start = worker::Start {
            entry,
            mesh,
            tables: table.clone(),
            in_force,
            stop: stopping.clone(),
            reporter: reporter.clone(),
            clock,
        };
        let worker = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || worker::run(start))?;
        handle.workers.push(worker);
        handle.in_force.push(routes_by);
    }
    Ok(handle)
}

fn bind_all(
    listener: &'static str,
    address: SocketAddr,
    threads: usize,
) -> Result<(SocketAddr, Vec<std::net::TcpListener>), Error> {
    let bind = |address| {
        let bound = worker::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
        bound.map_err(|source| Error::Bind { listener, address, source })
    };
    let (bound, first) = bind(address)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(bind(bound)?.1);
    }
    Ok((bound, sockets))
}

/// Everything that is not traffic; ends with the reporter, which is told to.
async fn steer(
    mut client: xds::Client,
    reporter: report::Reporter,
    channel: tonic::transport::Channel,
    tables: watch::Receiver<Arc<table::Table>>,
) {
    tokio::select! {
        () = client.run(channel.clone()) => {}
        () = reporter.run(channel) => {}
        () = health::run(tables) => {}
    }
    client.finish().await;
}
