//! Load in the background, on a thread of its own.

use anyhow::{Context, Result};
use loadgen::{Arrivals, Ended, Handle, Plan, Profile, Report};
use std::net::SocketAddr;
use std::thread::JoinHandle;

/// Longest run, so that a benchmark that dies leaves no load behind.
const SECONDS_MAX: f64 = 1_800.0;

/// A running load.
pub struct Load {
    handle: Handle,
    thread: JoinHandle<Result<Report>>,
}

/// GETs of `path`, `rate` a second, as a crowd sends them (Poisson), for as long as nobody stops them.
pub fn crowd(target: SocketAddr, path: &str, rate: f64, seed: u64) -> Plan {
    let profile = Profile::Constant { rps: rate, seconds: SECONDS_MAX };
    Plan { seed, arrivals: Arrivals::Poisson, ..Plan::new(target, path, profile) }
}

impl Load {
    /// Sends `rate` requests a second, as a crowd does (Poisson), until stopped.
    pub fn start(target: SocketAddr, path: &str, rate: f64, seed: u64) -> Self {
        Self::watched(crowd(target, path, rate, seed), |_| ())
    }

    /// Runs a plan until stopped, and tells of each request as it ends.
    pub fn watched(plan: Plan, watch: impl Fn(Ended) + Send + Sync + 'static) -> Self {
        let handle = Handle::new();
        let steered = handle.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = loadgen::run_watched(plan, &steered, |_| (), watch);
            runtime.block_on(run).context("the load could not run")
        });
        Self { handle, thread }
    }

    /// Changes the rate.
    pub fn set_rate(&self, rate: f64) {
        self.handle.set_rate(Some(rate));
    }

    /// Stops it; gives what it measured.
    pub fn stop(self) -> Result<Report> {
        self.handle.stop();
        self.thread.join().expect("the load thread does not panic")
    }
}

/// Requests that did not get a good answer: failed, timed out, or dropped by the generator's own bound.
pub fn failed(report: &Report) -> u64 {
    report.errors.total() + report.dropped
}
