//! A simulated fleet in this process: agents and proxies that speak the real protocol to a real server, one stream each.
//!
//! They take assignments, report instances, acknowledge policies and send samples each second as the real ones do; what
//! an instance uses and answers is a [`Behaviour`]'s to say. Deliberately absent: processes, slices, requests.

mod agents;
mod proxies;
pub mod shape;

pub use agents::Agents;
pub use proxies::Proxies;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Where the server's fleet listener is, and its token.
#[derive(Clone)]
pub struct Place {
    /// `http://127.0.0.1:PORT`.
    pub server: String,
    /// The fleet token.
    pub token: String,
}

/// An instance that a simulated agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Its host.
    pub host: String,
    /// The datacenter of the host.
    pub datacenter: String,
    /// CPU it may use, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory it may use.
    pub memory_bytes: u64,
}

/// What an instance uses, as shares of what it may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    /// CPU, 0 to 1.
    pub cpu: f64,
    /// Memory, 0 to 1.
    pub memory: f64,
}

/// What an instance answers to one caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    /// Requests a second.
    pub rps: f64,
    /// Share that fails other than by a fast rejection, 0 to 1.
    pub failed: f64,
    /// Share that is rejected fast, 0 to 1.
    pub rejected: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile of latency.
    pub p99_ms: f64,
}

/// Says what instances do. Called once for each instance and second (and caller), from many tasks.
pub trait Behaviour: Send + Sync + 'static {
    /// What it uses at this time; the sample that carries it has this very time.
    fn uses(&self, instance: &Instance, at_ms: u64) -> Use;
    /// What it answers to a caller; `None` while it is silent.
    fn answers(&self, caller: &str, instance: &Instance, at_ms: u64) -> Option<Answers>;
    /// True while its health checks pass.
    fn healthy(&self, _instance: &Instance, _at_ms: u64) -> bool {
        true
    }
}

/// The instances that run, by id: agents write it, proxies carry traffic to them.
#[derive(Default)]
pub struct Running(Mutex<BTreeMap<String, Arc<Instance>>>);

impl Running {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Instance>>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// All of them, by id.
    pub fn list(&self) -> Vec<Arc<Instance>> {
        self.all().values().cloned().collect()
    }
}

/// Threads of their own, so that what this process measures is not what holds them up.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn new() -> Self {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(built.expect("threads can be started")))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.as_ref().expect("it ends only when dropped").spawn(task);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A share in 0..1 that a name and a number have for ever: SplitMix64 over FNV-1a.
pub fn steady(name: &str, salt: u64) -> f64 {
    let folded = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut mixed = folded.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
