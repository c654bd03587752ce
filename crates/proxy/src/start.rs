//! A proxy's life: taken over or bound, started, reloaded, stopped.

use crate::access_log::{AccessLog, Pen};
use crate::dry_run::Samples;
use crate::endpoint::Clock;
use crate::handover::{self, Giver, Sockets, Taken};
use crate::listener::{self, Stop};
use crate::protect::{Lane, Shared};
use crate::request::Side;
use crate::table::Table;
use crate::{Config, Error, THREADS_MAX, Warnings, health, report, tls, worker, xds};
use rustls::ServerConfig;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time between looks at whether the first routes are there.
const READY_POLL: Duration = Duration::from_millis(5);
/// A process that has routes waits so long for the endpoints behind them before it takes over without: there may be none.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A running proxy. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    entry: SocketAddr,
    mesh: SocketAddr,
    warnings: Arc<Warnings>,
    stop: watch::Sender<Stop>,
    giver: Option<Giver>,
    access_log: Option<AccessLog>,
    tls_files: Option<tls::Files>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steer: Option<JoinHandle<()>>,
    end: watch::Sender<bool>,
    table: watch::Receiver<Arc<Table>>,
    /// The table that each worker routes by.
    in_force: Vec<watch::Receiver<Arc<Table>>>,
    lane: Option<Arc<Lane>>,
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

    /// True when another process has taken over; what is left is [`Handle::stop`].
    pub fn replaced(&self) -> bool {
        matches!(*self.stop.borrow(), Stop::HandedOver { .. })
    }

    /// Opens the access log anew and reads the certificate again; new connections get it. What was in force stays so
    /// when it cannot be used.
    pub fn reload(&self) -> Result<(), Error> {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
        if let Some(files) = &self.tls_files {
            self.tls.send_replace(Some(tls::load(files)?));
        }
        Ok(())
    }

    /// Stops accepting, finishes what is in flight, and ends.
    pub fn stop(mut self) -> Result<(), Error> {
        self.tell();
        self.join()
    }

    /// One more worker, started with what is made of its end of the table's news and of the access log.
    fn spawn_worker(
        &mut self,
        start: impl FnOnce(watch::Sender<Arc<Table>>, Option<Pen>) -> worker::Start,
    ) -> io::Result<()> {
        let (in_force, routes_by) = watch::channel(Arc::default());
        let start = start(in_force, self.access_log.as_ref().map(AccessLog::pen));
        let name = format!("worker-{}", self.workers.len());
        self.workers.push(std::thread::Builder::new().name(name).spawn(move || worker::run(start))?);
        self.in_force.push(routes_by);
        Ok(())
    }

    /// Offers the sockets to the next process, and only then tells the one before that it is replaced.
    fn hand_over_at(
        &mut self,
        path: PathBuf,
        for_next: Sockets,
        taken: Option<Taken>,
        kept: (bool, bool),
    ) -> Result<(), Error> {
        let failed = |source| Error::HandOver { path: path.clone(), source };
        self.giver = Some(Giver::start(path.clone(), for_next, self.stop.clone()).map_err(failed)?);
        match taken {
            Some(taken) => taken.ready(kept.0, kept.1).map_err(failed),
            None => Ok(()),
        }
    }

    fn tell(&self) {
        // First, so that what the lane has on its way still finds the mesh listener.
        self.lane.iter().for_each(|lane| lane.tell());
        let why = self.giver.as_ref().map_or(Stop::End, Giver::end);
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            if first {
                *stop = why;
            }
            first
        });
    }

    fn join(&mut self) -> Result<(), Error> {
        if let Some(giver) = self.giver.take() {
            giver.close();
        }
        let mut result = Ok(());
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error.into()),
                Err(_) => result = Err(Error::Panicked),
            }
        }
        if let Some(lane) = self.lane.take() {
            lane.stop();
        }
        if let Some(log) = self.access_log.take() {
            log.finish();
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
        self.tell();
        if let Some(giver) = self.giver.take() {
            giver.close();
        }
        self.end.send_replace(true);
    }
}

/// Runs a proxy until SIGTERM, SIGINT, or until another process has taken over; then drains it. SIGHUP reloads.
pub fn run(config: Config) -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything else: a signal that comes early must not kill.
    let (mut terminate, mut interrupt, mut hangup) = signals.block_on(async {
        let of = |kind| signal(kind);
        Ok::<_, io::Error>((of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?))
    })?;
    let mut handle = start(config)?;
    raise_open_files();
    tracing::info!(entry = %handle.entry, mesh = %handle.mesh, "proxy serves");
    let mut stop = handle.stop.subscribe();
    signals.block_on(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = stop.wait_for(|stop| *stop != Stop::No) => return,
                _ = hangup.recv() => match handle.reload() {
                    Ok(()) => tracing::info!("reloaded"),
                    Err(error) => tracing::error!(%error, "not reloaded; what was in force stays"),
                },
            }
        }
    });
    tracing::info!("proxy drains");
    handle.tell();
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

/// Starts a proxy; takes over from a running one on the same hand-over socket.
pub fn start(config: Config) -> Result<Handle, Error> {
    if config.threads == 0 || config.threads > THREADS_MAX {
        return Err(Error::Threads(config.threads));
    }
    let threads = config.threads;
    let certificate = config.tls.as_ref().map(tls::load).transpose()?;
    let mut taken = taken(&config)?;
    let sockets = taken.as_mut().map(|taken| std::mem::take(&mut taken.sockets)).unwrap_or_default();
    let (entries, meshes): (Sockets, Sockets) = sockets.into_iter().partition(|(side, _)| *side == Side::Entry);
    let entries = Listeners::open("entry", config.entry, threads, entries)?;
    let meshes = Listeners::open("mesh", config.mesh, threads, meshes)?;
    let ((entry, mesh), kept) = ((entries.address, meshes.address), (entries.kept, meshes.kept));
    let clock = Clock::start();
    let warnings = Arc::new(Warnings::default());
    let access_log = access_log(&config, &warnings)?;
    let (tables, table) = watch::channel(Arc::default());
    let (stop, stopping) = watch::channel(Stop::No);
    let (end, ending) = watch::channel(false);
    let (tls, tls_now) = watch::channel(certificate);
    let (reporter, announced) = std::sync::mpsc::channel();
    let samples = Samples::new(clock);
    let protection = protection(&config, mesh, clock)?;
    let (tls_files, giver_path) = (config.tls.clone(), config.handover.clone());
    let config = Arc::new(config);
    let of = Arc::clone(&config);
    let reports = report::Reporter::new(of, (entry, mesh), announced, table.clone(), samples.clone(), ending)
        .with_protection(protection.clone(), clock);
    let steer = spawn_steer(config, clock, &warnings, tables, reports)?;
    let mut handle = Handle {
        entry,
        mesh,
        warnings,
        stop,
        giver: None,
        tls_files,
        tls,
        workers: Vec::new(),
        steer: Some(steer),
        end,
        table: table.clone(),
        access_log,
        in_force: Vec::new(),
        lane: protection.as_ref().and_then(|shared| shared.lane().cloned()),
    };
    if let Some(taken) = &taken {
        wait_for_routes(&table, taken)?;
    }
    let sockets = [(Side::Entry, entries.sockets), (Side::Mesh, meshes.sockets)];
    let (shares, for_next) = share_out(sockets, threads, giver_path.is_some())?;
    let start = |listeners, in_force, pen| worker::Start {
        listeners,
        tables: table.clone(),
        in_force,
        stop: stopping.clone(),
        tls: tls_now.clone(),
        workers: threads,
        pen,
        heads: samples.worker(),
        protection: protection.clone(),
        reporter: reporter.clone(),
        clock,
    };
    for listeners in shares {
        handle.spawn_worker(|in_force, pen| start(listeners, in_force, pen))?;
    }
    if let Some(path) = giver_path {
        handle.hand_over_at(path, for_next, taken, kept)?;
    }
    Ok(handle)
}

/// Starts the thread of everything that is not traffic.
fn spawn_steer(
    config: Arc<Config>,
    clock: Clock,
    warnings: &Arc<Warnings>,
    tables: watch::Sender<Arc<Table>>,
    reporter: report::Reporter,
) -> Result<JoinHandle<()>, Error> {
    let table = tables.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let channel = runtime.block_on(async { xds::channel(&config.server) })?;
    // The saved state is in force before the first connection is accepted.
    let client = runtime.block_on(async { xds::Client::new(config, clock, Arc::clone(warnings), tables) });
    let steer = std::thread::Builder::new().name("steer".into()).spawn(move || {
        runtime.block_on(steer(client, reporter, channel, table));
        runtime.shutdown_background();
    })?;
    Ok(steer)
}

/// The listening sockets of each worker, and another handle of each for the next process.
fn share_out(
    sockets: [(Side, Vec<TcpListener>); 2],
    threads: usize,
    again: bool,
) -> io::Result<(Vec<Sockets>, Sockets)> {
    let mut shares: Vec<Sockets> = (0..threads).map(|_| Sockets::new()).collect();
    let mut for_next = Sockets::new();
    for (side, sockets) in sockets {
        for (index, socket) in sockets.into_iter().enumerate() {
            if again {
                for_next.push((side, socket.try_clone()?));
            }
            shares[index % threads].push((side, socket));
        }
    }
    Ok((shares, for_next))
}

/// What the workers' protection shares, with the slow lane open and releasing.
fn protection(config: &Config, mesh: SocketAddr, clock: Clock) -> Result<Option<Arc<Shared>>, Error> {
    let Some(settings) = &config.protection else { return Ok(None) };
    let lane = Lane::start(&settings.lane, &config.name, mesh)?;
    Ok(Some(Arc::new(Shared::new(settings.clone(), &config.token, &config.datacenter, lane, config.threads, clock))))
}

fn taken(config: &Config) -> Result<Option<Taken>, Error> {
    let Some(path) = &config.handover else { return Ok(None) };
    let taken = handover::take(path).map_err(|source| Error::HandOver { path: path.clone(), source })?;
    if let Some(taken) = &taken {
        tracing::info!(path = %path.display(), sockets = taken.sockets.len(), "taking over from the running proxy");
    }
    Ok(taken)
}

fn access_log(config: &Config, warnings: &Warnings) -> Result<Option<AccessLog>, Error> {
    let Some(settings) = &config.access_log else { return Ok(None) };
    let failed = |source| Error::AccessLog { path: settings.to.clone(), source };
    AccessLog::start(settings.clone(), Arc::clone(&warnings.access_lines_dropped)).map(Some).map_err(failed)
}

/// Whoever accepts must have routes: the old process serves until this one can, as long as it lives.
fn wait_for_routes(table: &watch::Receiver<Arc<Table>>, taken: &Taken) -> Result<(), Error> {
    let began = Instant::now();
    let can_serve = |table: &Table| table.whole || (table.ready && began.elapsed() >= WHOLE_TIMEOUT);
    while !can_serve(&table.borrow()) && !taken.is_orphaned() {
        if began.elapsed() >= handover::READY_TIMEOUT {
            return Err(Error::NotReady(handover::READY_TIMEOUT));
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(())
}

/// The listening sockets of one side.
struct Listeners {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
    /// Taken over, not bound.
    kept: bool,
}

impl Listeners {
    /// Those taken over if they are where they should be, and one at least for each worker.
    fn open(name: &'static str, wanted: SocketAddr, threads: usize, taken: Sockets) -> Result<Self, Error> {
        let bind = |address| {
            let bound = listener::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
            bound.map_err(|source| Error::Bind { listener: name, address, source })
        };
        let here = |socket: &TcpListener| {
            socket.local_addr().is_ok_and(|at| at == wanted || (wanted.port() == 0 && at.ip() == wanted.ip()))
        };
        let mut sockets: Vec<TcpListener> = taken.into_iter().map(|(_, socket)| socket).filter(here).collect();
        let kept = !sockets.is_empty();
        let address = match sockets.first() {
            Some(first) => first.local_addr()?,
            None => {
                let (address, first) = bind(wanted)?;
                sockets.push(first);
                address
            }
        };
        while sockets.len() < threads {
            sockets.push(bind(address)?.1);
        }
        Ok(Self { address, sockets, kept })
    }
}

/// Everything that is not traffic; ends with the reporter, which is told to.
async fn steer(
    mut client: xds::Client,
    reporter: report::Reporter,
    channel: tonic::transport::Channel,
    tables: watch::Receiver<Arc<Table>>,
) {
    tokio::select! {
        () = client.run(channel.clone()) => {}
        () = reporter.run(channel) => {}
        () = health::run(tables) => {}
    }
    client.finish().await;
}
