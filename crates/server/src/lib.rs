//! HTTP API, agent gRPC and xDS; executes what `control` decides.
//!
//! [`run`] serves until a signal, [`start`] gives a handle. Decisions are absent on purpose: they are made by `control`,
//! `scheduler` and `capacity`; this crate owns the I/O around them.

mod audit;
mod clock;
mod config;
mod control_loop;
mod failpoint;
mod feed;
mod file;
mod fleet;
mod http;
mod incidents;
mod policies;
mod query;
mod remote_write;
mod report;
pub mod restore;
mod serve;
mod start;
pub mod tls;
mod token;
mod xds;

pub use config::{Config, Error, SOCKET_PATH_BYTES_MAX};
pub use failpoint::VARIABLE as FAILPOINT_VARIABLE;
pub use remote_write::{RECEIVERS_MAX, Receiver};
pub use start::{Handle, start, start_on};

/// Serves until SIGTERM or SIGINT, or until something fails.
pub async fn run(config: Config) -> Result<(), Error> {
    raise_open_files();
    let mut handle = start(config).await?;
    tracing::info!(socket = %handle.socket.display(), fleet = %handle.fleet, "the server is ready");
    let signal = |kind| {
        let listened = tokio::signal::unix::signal(kind);
        listened.map_err(|error| Error::Stopped(format!("signals cannot be listened to: {error}")))
    };
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = handle.failed() => Some(error),
    };
    match failed {
        None => handle.stop().await,
        Some(error) => {
            handle.close().await;
            Err(error)
        }
    }
}

/// Each agent and each proxy is a connection or two, and each connection a file: the soft limit of most systems is 1,024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, current = ?limit.current, "cannot raise the limit of open files");
    }
}
