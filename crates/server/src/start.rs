//! Starts a server: opens what it owns, reads what was intended, and puts the parts together.

use crate::audit;
use crate::clock::now_ms;
use crate::config::{Config, Error};
use crate::control_loop::world::World;
use crate::control_loop::{Engine, Loop, Parts};
use crate::failpoint::Failpoint;
use crate::feed::Feed;
use crate::fleet::FleetService;
use crate::fleet::listener;
use crate::fleet::logs::Logs;
use crate::http::{App, access, router};
use crate::incidents::{self, Incidents};
use crate::policies::Protect;
use crate::query;
use crate::remote_write::{Receiver, Sender};
use crate::serve;
use crate::tls;
use crate::token;
use crate::xds::Ads;
use crate::xds::cache::Cache;
use crate::xds::followers::Followers;
use metrics::store::Keeper;
use model::{Curve, keys};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::records::{Blobs, Kind, Records};
use store::{Compare, Op, RedbStore, Store, Txn, Watch};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Version of the layout of keys and values.
pub(crate) const LAYOUT: u32 = 1;

/// Connections of the API at once, on each of its listeners.
const API_CONNECTIONS_MAX: usize = 1_024;

/// A running server.
pub struct Handle {
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// Where the API listens on TCP.
    pub http: Option<SocketAddr>,
    /// Where the fleet listens.
    pub fleet: SocketAddr,
    /// Token of the fleet listener.
    pub fleet_token: String,
    /// Token of the API over TCP.
    pub api_token: String,
    stop: watch::Sender<bool>,
    control: tokio::task::JoinHandle<Result<(), Error>>,
    listeners: JoinSet<Result<(), Error>>,
    /// What follows incidents.
    beside: JoinSet<()>,
    incidents: Incidents,
    server_file: PathBuf,
    store: Arc<dyn Store>,
    /// Holders of the store outside of this server.
    store_holders: usize,
    records: Arc<Records>,
    /// Looks after the series; when it goes, their log is written a last time.
    _keeper: Keeper,
}

/// Time allowed for requests at work to let go of the store when the server stops.
const CLOSE_MS_MAX: u64 = 5_000;
/// Time between looks whether they have.
const CLOSE_LOOK_MS: u64 = 2;

impl Handle {
    /// Stops, and waits until the store is closed.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        let ended = (&mut self.control).await;
        self.close().await;
        // Whoever opens the data folder next must find it free; aborted tasks let go a moment later.
        for _ in 0..CLOSE_MS_MAX / CLOSE_LOOK_MS {
            if Arc::strong_count(&self.store) <= 1 + self.store_holders && Arc::strong_count(&self.records) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(CLOSE_LOOK_MS)).await;
        }
        ended.unwrap_or_else(|error| Err(Error::Stopped(error.to_string())))
    }

    /// Keeps detection told of what is intended, and receivers of what is wrong.
    fn follow_incidents(&mut self, control: Loop, data: &Path) {
        let url = self.http.map_or_else(String::new, |http| format!("http://{http}"));
        self.beside.spawn(self.incidents.clone().follow(control));
        self.beside.spawn(self.incidents.clone().tell(data.join("notices.json"), url));
    }

    /// Waits until the server fails by itself.
    pub async fn failed(&mut self) -> Error {
        let ended = tokio::select! {
            ended = &mut self.control => ended,
            Some(ended) = self.listeners.join_next() => ended,
        };
        match ended {
            Ok(Ok(())) => Error::Stopped("it ended without being asked to".to_owned()),
            Ok(Err(error)) => error,
            Err(error) => Error::Stopped(error.to_string()),
        }
    }

    /// Ends the listeners and removes what says that a server is here.
    pub async fn close(&mut self) {
        self.control.abort();
        self.incidents.stop();
        self.beside.shutdown().await;
        self.listeners.shutdown().await;
        for path in [&self.socket, &self.server_file] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "nothing to remove");
            }
        }
    }
}

/// Runs the control loop on a thread of its own. With 100,000 series a turn takes long enough that, on a worker of the
/// runtime, streams and requests would wait behind it. Aborting the task that is returned ends the loop, too.
fn on_own_thread(
    run: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<tokio::task::JoinHandle<Result<(), Error>>, Error> {
    let (end, ended) = oneshot::channel();
    let (wanted, unwanted) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Handle::current();
    let body = move || {
        let ended = runtime.block_on(async {
            tokio::select! {
                ended = run => Some(ended),
                _ = unwanted => None,
            }
        });
        // Where the task was aborted nobody asks how it ended.
        ended.map(|ended| end.send(ended))
    };
    let thread = std::thread::Builder::new().name("control-loop".to_owned()).spawn(body);
    thread.map_err(|error| Error::Stopped(format!("no thread for the control loop: {error}")))?;
    Ok(tokio::spawn(async move {
        let _wanted = wanted;
        ended.await.unwrap_or_else(|_| Err(Error::Stopped("the control loop crashed: the log says why".to_owned())))
    }))
}

/// Starts a server over the redb store in its data folder.
pub async fn start(config: Config) -> Result<Handle, Error> {
    config.check()?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    made.map_err(file("cannot make the data folder", &config.data))?;
    let path = config.data.join("store.redb");
    let opened = tokio::task::spawn_blocking(move || RedbStore::open(&path)).await;
    let opened = opened.map_err(|error| Error::Stopped(error.to_string()))?;
    let store = opened.map_err(|source| Error::Store { data: config.data.clone(), source })?;
    start_on(config, Arc::new(store)).await
}

/// Starts a server over a store of the caller's.
pub async fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Handle, Error> {
    config.check()?;
    let store_holders = Arc::strong_count(&store) - 1;
    let data = &config.data;
    let stored = |source| Error::Store { data: config.data.clone(), source };
    let (records, blobs) = open_records(data)?;
    let fleet_token = token::load_or_make(&data.join("fleet-token"))?;
    let api_token = token::load_or_make(&data.join("api-token"))?;
    make_ready(&*store, &records, data).await.map_err(stored)??;
    let (mut world, watch) = read_world(&*store, &records, data).await?;
    world.links.mesh_fallback = config.mesh.clone().unwrap_or_default();
    let mesh_file = data.join("mesh.json");
    world.links.mesh = read_json(&mesh_file);
    let (followers, followers_file) = (Followers::default(), data.join("proxies.json"));
    let (protect, enforcers_file) = (Protect::default(), data.join("policy-proxies.json"));
    expect_back(&followers, &followers_file, &protect, &enforcers_file);
    // Addresses are taken before anything runs: a server that cannot listen must not decide anything, nor leave a thread.
    let fleet = listen(config.fleet).await?;
    let http = listen_http(&config).await?;
    let socket = listen_unix(&config.socket)?;
    let (series, _keeper) = open_series(data).await?;
    world.feed = Feed::over(series.clone());
    let (senders, incidents) = (senders(&config, &mut world)?, start_detection(&config, &records)?);
    let ((to_loop, inputs), (stop, stopped)) = (Loop::new(), watch::channel(false));
    let (cache, logs) = (Cache::default(), Logs::default());
    crate::xds::set_listeners(&cache);
    let parts = Parts {
        world,
        store: store.clone(),
        watch,
        records: records.clone(),
        failpoint: Arc::new(Failpoint::from_env()),
        cache: cache.clone(),
        followers: followers.clone(),
        enforcers: protect.enforcers.clone(),
        back: to_loop.clone(),
        mesh_file,
        followers_file,
        enforcers_file,
        incidents: incidents.clone(),
    };
    let mut handle = Handle {
        socket: config.socket.clone(),
        http: http.as_ref().and_then(|(http, _)| http.local_addr().ok()),
        fleet: fleet.local_addr().map_err(|source| Error::Listen { address: config.fleet, source })?,
        fleet_token: fleet_token.clone(),
        api_token: api_token.clone(),
        stop,
        control: on_own_thread(Engine::new(parts).run(inputs, stopped))?,
        listeners: JoinSet::new(),
        beside: JoinSet::new(),
        incidents: incidents.clone(),
        server_file: data.join("server.json"),
        store: store.clone(),
        store_holders,
        records: records.clone(),
        _keeper,
    };
    send_on(&mut handle.listeners, senders, &series);
    handle.follow_incidents(to_loop.clone(), data);
    let numbers = (incidents.clone(), series.clone());
    let app = App::new(to_loop.clone(), store, records, blobs, logs.clone(), protect.clone(), numbers).of(data);
    let service = FleetService::new(to_loop, logs, protect.clone(), incidents, series);
    let ads = Ads::new(cache, followers, protect.enforcers);
    let router = listener::router(service, ads, app.clone(), fleet_token.into());
    handle.listeners.spawn(serve::tcp(fleet, router, listener::CONNECTIONS_MAX, None));
    serve_api(&mut handle.listeners, app, socket, http, api_token);
    write_server_file(&handle)?;
    Ok(handle)
}

fn file<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::File { what, path: path.to_owned(), source }
}

fn start_detection(config: &Config, records: &Arc<Records>) -> Result<Incidents, Error> {
    let (records, data) = (records.clone(), config.data.clone());
    Incidents::start(incidents::Parts { records, data, warm_s: config.detect_warm_s }).map_err(Error::Stopped)
}

fn open_records(data: &Path) -> Result<(Arc<Records>, Blobs), Error> {
    let records = Records::open(&data.join("records"));
    let records = records.map_err(|source| Error::Records { data: data.to_owned(), source })?;
    let blobs = Blobs::open(&data.join("blobs")).map_err(|source| Error::Blobs { data: data.to_owned(), source })?;
    Ok((Arc::new(records), blobs))
}

/// Opens the series' store, and has it looked after.
async fn open_series(data: &Path) -> Result<(Arc<metrics::Store>, Keeper), Error> {
    let folder = data.join("metrics");
    let stopped = |error: &dyn std::fmt::Display| Error::Stopped(error.to_string());
    let open = move || metrics::Store::open(&folder, metrics::store::Limits::default());
    let opened = tokio::task::spawn_blocking(open).await.map_err(|error| stopped(&error))?;
    let series = Arc::new(opened.map_err(|error| stopped(&error))?);
    let keeper = Keeper::start(series.clone()).map_err(|error| stopped(&error))?;
    Ok((series, keeper))
}

/// Those that an earlier server knew are to come back.
fn expect_back(followers: &Followers, followers_file: &Path, protect: &Protect, enforcers_file: &Path) {
    let now = std::time::Instant::now();
    followers.expect(read_json(followers_file), now);
    protect.enforcers.expect(read_json(enforcers_file), now);
}

/// Checks the layout, finishes what a crash cut off, and lets no number be given twice.
async fn make_ready(store: &dyn Store, records: &Records, data: &Path) -> Result<Result<(), Error>, store::Error> {
    if let Err(refused) = check_layout(store, data).await? {
        return Ok(Err(refused));
    }
    store::staged::recover(store).await?;
    keep_numbers(store, records).await?;
    Ok(Ok(()))
}

/// Claims an empty store for this layout; refuses a store of a layout that this binary does not know.
async fn check_layout(store: &dyn Store, data: &Path) -> Result<Result<(), Error>, store::Error> {
    let found = store.range(keys::FORMAT_VERSION).await?;
    let known = found.items.iter().find(|item| item.key.as_ref() == keys::FORMAT_VERSION);
    match known.map(|item| String::from_utf8_lossy(&item.value).into_owned()) {
        Some(version) if version == LAYOUT.to_string() => Ok(Ok(())),
        Some(found) => Ok(Err(Error::Layout { data: data.to_owned(), found, known: LAYOUT })),
        None => {
            let key = keys::FORMAT_VERSION.to_owned();
            let put = Op::Put { key: key.clone(), value: LAYOUT.to_string().into_bytes(), lease: None };
            store.txn(Txn { compares: vec![Compare::ModRevision(key, 0)], ops: vec![put] }).await.map(|_| Ok(()))
        }
    }
}

/// A store that began anew, or was restored, counts operations from where it stands; but what the records have of a number
/// belongs to the operation that had it. So the count goes on behind them.
async fn keep_numbers(store: &dyn Store, records: &Records) -> Result<(), store::Error> {
    let key = keys::operation_counter();
    let found = store.range(&key).await?;
    let counter = found.items.iter().find(|item| item.key.as_ref() == key);
    let given = counter.and_then(|item| std::str::from_utf8(&item.value).ok()?.parse::<u64>().ok()).unwrap_or(0);
    let number = |id: &String| id.strip_prefix("op-")?.parse::<u64>().ok();
    let kinds = [Kind::Operation, Kind::Report, Kind::Curve];
    let recorded = kinds.iter().flat_map(|kind| records.ids(*kind)).filter_map(|id| number(&id)).max().unwrap_or(0);
    if recorded > given {
        let put = Op::Put { key, value: recorded.to_string().into_bytes(), lease: None };
        store.txn(Txn { compares: Vec::new(), ops: vec![put] }).await?;
    }
    Ok(())
}

/// Reads all intent, and finishes the audit of a commit that a crash cut off.
async fn read_world(store: &dyn Store, records: &Records, data: &Path) -> Result<(World, Watch), Error> {
    let stopped = |error: store::Error| Error::Stopped(error.to_string());
    let range = store.range(keys::ALL).await.map_err(stopped)?;
    let watch = store.watch(keys::ALL, range.revision).await.map_err(stopped)?;
    let mut world = World::new(now_ms());
    for item in &range.items {
        if item.key.as_ref() == audit::PENDING {
            let recovered = audit::recover(records, item.mod_revision, &item.value);
            recovered.map_err(|source| Error::Records { data: data.to_owned(), source })?;
            continue;
        }
        world.fold(&item.key, Some(&item.value), item.mod_revision)?;
    }
    world.snapshot.revision = range.revision;
    world.curves = read_curves(records)?;
    Ok((world, watch))
}

/// Reads what an earlier server remembered of the proxies; absent or unreadable, they must announce themselves first.
fn read_json<T: Default + serde::de::DeserializeOwned>(path: &Path) -> T {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn read_curves(records: &Records) -> Result<Vec<Curve>, Error> {
    let after = records.last(Kind::Curve).saturating_sub(crate::control_loop::world::CURVES_MAX as u64);
    let found = records.list(Kind::Curve, after, crate::control_loop::world::CURVES_MAX);
    let found = found.map_err(|error| Error::Stopped(error.to_string()))?;
    Ok(found.iter().filter_map(|record| serde_json::from_slice(&record.bytes).ok()).collect())
}

/// A sender for each receiver of remote write; the feed shows their counters.
fn senders(config: &Config, world: &mut World) -> Result<Vec<Sender>, Error> {
    let folder = config.data.join("remote-write");
    let is_tls = config.remote_write.iter().any(Receiver::is_tls);
    let trusted = is_tls.then(|| tls::client(config.remote_write_ca.as_deref())).transpose().map_err(Error::Trust)?;
    let sender = |to: &Receiver| Sender::new(to.clone(), &folder, trusted.clone().filter(|_| to.is_tls()));
    let senders = config.remote_write.iter().map(sender).collect::<Result<Vec<_>, _>>().map_err(Error::Receivers)?;
    world.feed.remote_write = senders.iter().map(Sender::counts).collect();
    Ok(senders)
}

fn send_on(tasks: &mut JoinSet<Result<(), Error>>, senders: Vec<Sender>, series: &Arc<metrics::Store>) {
    for sender in senders {
        let back = query::Stored(series.clone());
        tasks.spawn(async move {
            sender.run(back).await;
            Ok(())
        });
    }
}

/// The HTTP API's listener, and its TLS.
type HttpListener = (TcpListener, Option<Arc<rustls::ServerConfig>>);

async fn listen_http(config: &Config) -> Result<Option<HttpListener>, Error> {
    let tls = config.http_tls.as_ref().map(tls::load).transpose()?;
    match config.http {
        Some(address) => listen(address).await.map(|listener| Some((listener, tls))),
        None => Ok(None),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Binds under another name and renames into place: nobody can connect before the mode is set.
fn listen_unix(path: &Path) -> Result<UnixListener, Error> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::SocketInUse { path: path.to_owned() });
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file("cannot make the socket's folder", folder))?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push("~");
    let new = PathBuf::from(new);
    let bind = || {
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, path)?;
        Ok(listener)
    };
    bind().map_err(file("cannot listen on the socket", path))
}

fn serve_api(
    listeners: &mut JoinSet<Result<(), Error>>,
    app: App,
    socket: UnixListener,
    http: Option<HttpListener>,
    token: String,
) {
    if let Some((http, tls)) = http {
        let door = access::Door { token: token.into(), reach: access::Reach::of(tls.is_some()) };
        let router = router(app.clone()).layer(axum::middleware::from_fn_with_state(door, access::tcp));
        listeners.spawn(serve::tcp(http, router, API_CONNECTIONS_MAX, tls));
    }
    let router = router(app).layer(axum::middleware::from_fn(access::socket));
    listeners.spawn(serve::unix(socket, router, API_CONNECTIONS_MAX));
}

/// Says that the server is ready, and where.
fn write_server_file(handle: &Handle) -> Result<(), Error> {
    let about = serde_json::json!({
        "pid": std::process::id(),
        "socket": handle.socket,
        "http": handle.http.map(|at| at.to_string()),
        "fleet": handle.fleet.to_string(),
    });
    let written = crate::file::replace(&handle.server_file, about.to_string().as_bytes());
    written.map_err(file("cannot write", &handle.server_file))
}
