//! For services in Rust: protection from inside, where the queue is seen exactly.
//!
//! [`Sdk::from_environment`] reads what springtide gives every instance. Its [`layer`](Sdk::layer) goes around a service:
//! it rejects what cannot be served (by priority, deadline or an operator's policy), counts, tells the proxies its level
//! and demand on every answer, and serves `/metrics`. Its [`client`](Sdk::client) calls other services by name through
//! the mesh, sheds doomed calls before they cost anything, hands deadlines on and retries within a budget.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Layer, Service, service_fn};
//!
//! let sdk = sdk::Sdk::from_environment(sdk::Config::default())?;
//! let hello = service_fn(|_: Request<Full<Bytes>>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello\n"))))
//! });
//! let mut protected = sdk.layer().layer(hello);
//! let answer = protected.call(Request::new(Full::new(Bytes::new()))).await?;
//! # Ok(()) }
//! ```
//!
//! Deliberately absent: a server (any that speaks `tower` will do), service discovery of its own (the mesh knows), and
//! tracing spans.

mod client;
mod clock;
mod context;
mod layer;
mod metrics;
mod policies;
mod ticket;

pub use client::{CallError, Client};
pub use context::Context;
pub use layer::{Protect, ProtectLayer, Protected};
pub use ticket::{Ticket, Working};

use admission::{Gate, Signal};
use clock::Clock;
use metrics::Counts;
use policies::Policies;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests at work at once where the config does not say: one a core, as for work that burns CPU.
fn workers_default() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Who decides when a request's work begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The layer: a request takes a worker before the service is called, and holds it until its answer.
    #[default]
    Layer,
    /// The service: it takes the [`Ticket`] from the request's extensions and calls [`Ticket::start`] around its work, so
    /// that waiting for others does not hold a worker.
    Service,
}

/// What a service tells the SDK.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests at work at once; more wait, and their wait is the queue delay.
    pub workers: usize,
    /// Who decides when work begins.
    pub start: Start,
    /// Time of a request that carries no deadline, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { workers: workers_default(), start: Start::default(), timeout_ms: 500 }
    }
}

/// What springtide gives an instance, as far as the SDK uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `SPRINGTIDE_SERVICE`.
    pub service: String,
    /// `SPRINGTIDE_BUSINESS`.
    pub business: String,
    /// `SPRINGTIDE_DATACENTER`.
    pub datacenter: String,
    /// `SPRINGTIDE_INSTANCE`.
    pub instance: String,
    /// `SPRINGTIDE_MESH`: where other services are called.
    pub mesh: Option<String>,
    /// `SPRINGTIDE_POLICIES`: the file with the operators' policies.
    pub policies: Option<PathBuf>,
}

impl Place {
    /// Reads the environment; what is not set is empty, so that a service also runs by itself.
    pub fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let some = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            service: text("SPRINGTIDE_SERVICE"),
            business: text("SPRINGTIDE_BUSINESS"),
            datacenter: text("SPRINGTIDE_DATACENTER"),
            instance: text("SPRINGTIDE_INSTANCE"),
            mesh: some("SPRINGTIDE_MESH"),
            policies: some("SPRINGTIDE_POLICIES").map(PathBuf::from),
        }
    }
}

/// Why the SDK cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A config that serves nothing.
    #[error("workers is 0: at least 1 is needed to serve anything")]
    NoWorkers,
}

/// The protection of one instance. Cheap to clone.
#[derive(Clone)]
pub struct Sdk(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) policies: Policies,
    pub(crate) counts: Counts,
}

impl Sdk {
    /// The SDK of this process, in the place that its environment says.
    ///
    /// # Errors
    /// A config that serves nothing.
    pub fn from_environment(config: Config) -> Result<Self, SetupError> {
        Self::new(Place::from_environment(), config)
    }

    /// The SDK of an instance in this place.
    ///
    /// # Errors
    /// A config that serves nothing.
    pub fn new(place: Place, config: Config) -> Result<Self, SetupError> {
        if config.workers == 0 {
            return Err(SetupError::NoWorkers);
        }
        let clock = Clock::start();
        let admission = admission::Config {
            signal: Signal::Exact,
            task_timeout_us: config.timeout_ms.saturating_mul(1_000),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..admission::Config::default()
        };
        let policies = Policies::new(&place, clock);
        Ok(Self(Arc::new(Shared {
            gate: Gate::new(admission, clock.now_us()),
            workers: Arc::new(Semaphore::new(config.workers)),
            policies,
            counts: Counts::default(),
            place,
            config,
            clock,
        })))
    }

    /// The layer that goes around the service.
    pub fn layer(&self) -> ProtectLayer {
        ProtectLayer::new(self.clone())
    }

    /// A client that calls other services by name.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// What `/metrics` says, in the Prometheus text format.
    pub fn exposition(&self) -> String {
        metrics::exposition(&self.0)
    }
}
