//! The proxy as its users meet it: real sockets, a real control plane stream, real upstream servers.

mod access;
mod bodies;
mod client;
mod failing;
mod http2;
mod hygiene;
mod plane;
mod protect_context;
mod protect_lane;
mod protect_overload;
mod protect_policy;
mod protect_retry;
mod restart;
mod samples;
mod tls;
mod upgrade;
mod upstream;
mod weights;
mod world;

use plane::Plane;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy under test, with its control plane.
pub struct Fixture {
    pub plane: Option<Plane>,
    pub proxy: Option<proxy::Handle>,
    pub folder: TempDir,
    pub entry: SocketAddr,
    pub mesh: SocketAddr,
}

impl Fixture {
    pub fn start() -> Self {
        Self::with_threads(1)
    }

    pub fn with_threads(threads: usize) -> Self {
        Self::with(threads, |_, _| {})
    }

    /// A proxy without protection: each request is one attempt.
    pub fn unprotected() -> Self {
        Self::with(1, |config, _| config.protection = None)
    }

    /// A proxy whose configuration was changed first; the folder is its own.
    pub fn with(threads: usize, change: impl FnOnce(&mut proxy::Config, &TempDir)) -> Self {
        let plane = Plane::start();
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(&folder, &plane.url(), threads);
        change(&mut config, &folder);
        let proxy = proxy::start(config).expect("the proxy starts");
        let (entry, mesh) = (proxy.entry(), proxy.mesh());
        Self { plane: Some(plane), proxy: Some(proxy), folder, entry, mesh }
    }

    pub fn plane(&self) -> &Plane {
        self.plane.as_ref().expect("the plane lives")
    }

    /// Sends the world and waits until the proxy has acknowledged every type.
    pub fn tell(&self, world: world::World) {
        let version = self.plane().tell(world);
        until("the world is acknowledged", || self.plane().acknowledged(version));
        self.settle();
    }

    /// Waits until every worker routes by the newest table.
    pub fn settle(&self) {
        until("the table is in force", || self.proxy.as_ref().expect("the proxy lives").settled());
    }

    pub fn stop(&mut self) {
        self.proxy.take().expect("the proxy lives").stop().expect("it stops");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The proxy must have ended before its folder goes, or it would save its state into a new one of that name.
        self.plane = None;
        if let Some(proxy) = self.proxy.take() {
            let stopped = proxy.stop();
            assert!(stopped.is_ok() || std::thread::panicking(), "{stopped:?}");
        }
    }
}

pub fn config(folder: &TempDir, server: &str, threads: usize) -> proxy::Config {
    proxy::Config {
        name: "proxy-1".into(),
        server: server.into(),
        token: plane::TOKEN.into(),
        datacenter: "east".into(),
        // Nobody else listens there after a stop, nor before the next start.
        entry: testkit::address(),
        mesh: testkit::address(),
        threads,
        state: folder.path().join("proxy/state"),
        protection: Some(proxy::protect::Settings::default()),
        tls: None,
        access_log: None,
        handover: None,
    }
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
