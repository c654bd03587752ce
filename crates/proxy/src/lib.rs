//! The L7 data plane: an xDS client that carries traffic by weight.
//!
//! One thread and one runtime for each worker, with listeners and connections of its own; nothing on a request's path is
//! shared behind a lock. One more thread talks to the control plane, checks health and reports. HTTP/1.1 and HTTP/2 on
//! both sides, TLS on the entry; no upgrades (WebSocket) and no HTTP/3. See docs/adr/0004-proxy-on-hyper.md.

pub mod balance;
pub mod edge;
pub mod endpoint;
pub mod table;
pub mod xds;

pub mod access_log;
mod body;
mod bursts;
mod carried;
mod connection;
pub mod dry_run;
mod exchange;
mod flight;
mod handover;
mod headers;
mod health;
mod http1;
mod listener;
mod local;
mod multiplex;
mod outgoing;
mod own;
mod pool;
pub mod protect;
mod report;
mod request;
mod slots;
mod start;
pub mod tls;
mod worker;

pub use start::{Handle, run, start};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

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
    /// How it protects services; `None` switches protection and policies off.
    pub protection: Option<protect::Settings>,
    /// Certificate and key of the entry, which then speaks TLS only.
    pub tls: Option<tls::Files>,
    /// The access log; none by default.
    pub access_log: Option<access_log::Settings>,
    /// Unix socket on which the next process asks for the listening sockets; none: it binds the same ports instead.
    pub handover: Option<PathBuf>,
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
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}: {source}")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The running proxy does not let go of its sockets, or cannot be asked.
    #[error("cannot take over from the proxy at {path}: {source}; stop it, or remove that file if none runs")]
    HandOver {
        /// Its socket.
        path: PathBuf,
        /// What was wrong.
        source: io::Error,
    },
    /// The slow lane cannot be opened.
    #[error("cannot open the slow lane: {0}")]
    SlowLane(#[from] slowlane::Error),
    /// It took over, and has nothing to serve.
    #[error("no routes came within {0:?}: the running proxy goes on; is the server in reach, the token right?")]
    NotReady(std::time::Duration),
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
    /// Lines of the access log that were dropped, since they came faster than they could be written.
    pub access_lines_dropped: Arc<AtomicU64>,
}
