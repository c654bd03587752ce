//! Load in the background, on a thread of its own.

use anyhow::{Context, Result};
use loadgen::{Arrivals, Handle, Plan, Profile, Report};
use std::net::SocketAddr;
use std::thread::JoinHandle;

/// Longest run, so that a benchmark that dies leaves no load behind.
const SECONDS_MAX: f64 = 1_800.0;

/// A running load.
pub struct Load {
    handle: Handle,
    thread: JoinHandle<Result<Report>>,
}

impl Load {
    /// Sends `rate` requests a second, as a crowd does (Poisson), until stopped.
    pub fn start(target: SocketAddr, path: &str, rate: f64, seed: u64) -> Self {
        let profile = Profile::Constant { rps: rate, seconds: SECONDS_MAX };
        let plan = Plan { seed, arrivals: Arrivals::Poisson, ..Plan::new(target, path, profile) };
        let handle = Handle::new();
        let steered = handle.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(loadgen::run_with(plan, &steered, |_| ())).context("the load could not run")
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
