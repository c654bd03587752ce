//! Runs instances in cgroup slices and reports on them.
//!
//! One agent runs for one host: it fetches packages, starts instances through a shim each, watches their health,
//! samples what they use and tells the server. An agent that is killed, restarted or out of the server's reach
//! changes nothing for its instances. Deliberately absent: decisions about what runs where, and traffic.

pub mod cgroup;

mod assignment;
mod board;
mod held;
mod host;
mod instance;
mod link;
mod logs;
mod packages;
mod policies;
mod process;
mod sampler;
mod scrape;
mod state;
mod supervisor;
mod up;
mod wire;

pub use instance::launch::{LOG_BYTES_MAX, LOG_FILES_MAX};
pub use packages::{ENTRIES_MAX, PACKED_BYTES_MAX, PackageError, UNPACKED_BYTES_MAX};
pub use scrape::{ANSWER_BYTES_MAX, SERIES_MAX};

use cgroup::Tree;
use host::Host;
use link::Link;
use packages::Packages;
use sampler::Sampler;
use scrape::Scrapes;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use supervisor::Supervisor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// File name of the agent's own program; it lies beside the others.
pub const PROGRAM: &str = "springtide-agent";
/// Tells builds of other sources apart; `springtide-agent build` prints it.
pub const BUILD: &str = env!("SPRINGTIDE_AGENT_BUILD");
/// Assignments waiting to be taken.
const DOWNS_QUEUE_MAX: usize = 16;
/// User and group of instances when the agent is root and nothing else is said: nobody.
const NOBODY: (u32, u32) = (65_534, 65_534);
/// Open files wanted: a slice's sampled files stay open.
const OPEN_FILES: u64 = 65_536;

/// How instances are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// By cgroup slices, whichever version is here; without permission the agent refuses to start.
    Auto,
    /// Not at all: process groups only, no limits. Every report says so.
    None,
}

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the host.
    pub host: String,
    /// Data folder; every folder above it must let the instances' user through.
    pub data: PathBuf,
    /// Fleet listener, `http://127.0.0.1:PORT`.
    pub server: String,
    /// Bearer token of the fleet listener.
    pub token: String,
    /// How instances are kept apart.
    pub isolation: Isolation,
    /// Where slices live below the base of each hierarchy, such as `springtide/host-a`.
    pub cgroup_root: String,
    /// Program and arguments of the shim, to which the instance's folder is added.
    pub shim: Vec<OsString>,
    /// uid and gid of instances; when absent and the agent is root: nobody.
    pub user: Option<(u32, u32)>,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder.
    #[error("cannot use the data folder {path}: {source}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent.
    #[error("another agent (pid {pid}) runs on the data folder {path}: stop it, or choose another --data")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Its owner, as it wrote it down.
        pid: String,
    },
    /// Instances could not reach their files.
    #[error(
        "user {uid} cannot enter {closed}, so no instance could read its package below {data}: choose a data folder that others may pass through (mode o+x), such as /var/lib/springtide"
    )]
    Closed {
        /// Instances' user.
        uid: u32,
        /// The folder that bars the way.
        closed: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// The program under each instance.
    #[error(
        "the shim {path} is not there, and no instance starts without it: install it beside springtide (`cargo build` makes both)"
    )]
    NoShim {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Slices.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The server's address or the token.
    #[error("{field} {value:?} is not {wanted}")]
    Config {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
}

/// Runs an agent until SIGTERM or SIGINT. Instances run on.
///
/// # Errors
/// When it cannot start; once it has started it goes on whatever happens.
pub async fn run(config: Config) -> Result<(), Error> {
    let bad = |field, value: &str, wanted| Error::Config { field, value: value.to_owned(), wanted };
    model::HostName::new(&config.host).map_err(|_| bad("host", &config.host, "a host name"))?;
    let endpoint = link::endpoint(&config.server)
        .map_err(|_| bad("server", &config.server, "a URL such as http://127.0.0.1:7000"))?;
    let bearer = format!("Bearer {}", config.token)
        .parse()
        .map_err(|_| bad("token", "(not shown)", "a token of printable characters"))?;
    let mut stop = (signal_stream(SignalKind::terminate())?, signal_stream(SignalKind::interrupt())?);
    let (host, _lock, numbers) = open(&config)?;
    check_shim(&config.shim)?;
    let loaded = state::load(&host.data).map_err(data_error(&host.data))?;
    let isolation = host.tree.as_ref().map_or("none", |tree| tree.layout().as_str());
    let mut supervisor = Supervisor::start(Arc::clone(&host), loaded);
    let (downs, inbox) = mpsc::channel(DOWNS_QUEUE_MAX);
    let revision = supervisor.revision();
    let link = Link { host: Arc::clone(&host), endpoint, bearer, isolation, downs, numbers, revision };
    tracing::info!("agent of {} runs, isolation {isolation}, data {}", host.name, host.data.display());
    tokio::select! {
        () = link.run() => {}
        () = supervisor.run(inbox) => {}
        _ = stop.0.recv() => {}
        _ = stop.1.recv() => {}
    }
    if let Some(tree) = host.tree.as_ref().filter(|_| supervisor.is_empty()) {
        tree.close();
    }
    Ok(())
}

/// Sees to it that the program of `shim` (see [`Config`]) is there.
///
/// # Errors
/// [`Error::NoShim`], which says where it should be.
pub fn check_shim(shim: &[OsString]) -> Result<(), Error> {
    let path = PathBuf::from(shim.first().cloned().unwrap_or_default());
    if path.is_file() { Ok(()) } else { Err(Error::NoShim { path }) }
}

/// Stops every instance of a data folder whose agent does not run, and removes their slices. Packages, logs and the
/// instances' own data stay.
///
/// # Errors
/// When an agent runs there, or the folder or the slices cannot be used.
pub async fn stop_all(config: Config) -> Result<(), Error> {
    let (host, _lock, _numbers) = open(&config)?;
    let loaded = state::load(&host.data).map_err(data_error(&host.data))?;
    Supervisor::start(Arc::clone(&host), loaded).stop_all().await;
    if let Some(tree) = &host.tree {
        tree.close();
    }
    Ok(())
}

/// What goes up beside reports: samples, and readings of instances' own numbers for the stream of their number.
pub(crate) struct Numbers {
    pub(crate) samples: mpsc::Receiver<bytes::Bytes>,
    pub(crate) readings: mpsc::Receiver<(u64, up::Up)>,
}

type Opened = (Arc<Host>, File, Numbers);

fn open(config: &Config) -> Result<Opened, Error> {
    host::make_folder(&config.data).map_err(data_error(&config.data))?;
    let data = config.data.canonicalize().map_err(data_error(&config.data))?;
    let lock = lock(&data)?;
    let user = config.user.or_else(|| rustix::process::geteuid().is_root().then_some(NOBODY));
    if let (Some((uid, _)), Some(closed)) = (user.filter(|(uid, _)| *uid != 0), host::closed_to_others(&data)) {
        return Err(Error::Closed { uid, closed, data });
    }
    for folder in ["instances", "stopped"] {
        host::make_folder(&data.join(folder)).map_err(data_error(&data))?;
    }
    raise_open_files();
    let tree = match config.isolation {
        Isolation::Auto => Some(Tree::open(&config.cgroup_root)?),
        Isolation::None => {
            tracing::warn!("isolation none: instances have no limits, and share the agent's cgroup");
            None
        }
    };
    let (sampler, samples) = Sampler::start(Some(&data));
    let (scrapes, readings) = Scrapes::new();
    let host = Host {
        name: config.host.clone(),
        tree,
        packages: Packages::open(&data, &config.server, &config.token)?,
        user,
        boot_id: shim::process::boot_id().map_err(data_error(Path::new("/proc")))?,
        shim: config.shim.clone(),
        board: board::Board::default(),
        sampler,
        scrapes,
        mesh: std::sync::Mutex::default(),
        data,
    };
    Ok((Arc::new(host), lock, Numbers { samples, readings }))
}

fn data_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Data { path, source }
}

fn signal_stream(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Error> {
    signal(kind).map_err(data_error(Path::new("signals")))
}

/// One agent for a data folder.
fn lock(data: &Path) -> Result<File, Error> {
    let path = data.join("agent.lock");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(data_error(data))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            return Err(Error::Locked { path: data.to_owned(), pid });
        }
        Err(fs::TryLockError::Error(error)) => return Err(data_error(data)(error)),
    }
    let write = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    write.map_err(data_error(data))?;
    Ok(file)
}

/// As far as the hard limit allows; less only means fewer instances.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!("cannot raise the limit of open files to {wanted}: {error}");
    }
}
