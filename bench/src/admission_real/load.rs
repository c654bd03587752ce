//! The generator: open loop on a core of its own, timed from the intended send.

use super::{Args, DEADLINE_MS};
use crate::proxy_bench::peers::only;
use anyhow::{Context, Result};
use loadgen::{Arrivals, Plan, Profile, Report, Users};
use std::net::SocketAddr;
use std::time::Duration;

/// Lag of the generator at its 99th percentile above which a run is void, in milliseconds.
pub const LAG_P99_MS_MAX: f64 = 1.0;
/// Users, all alike. The simulator has as many.
pub const USERS: u32 = 10_000;
/// Connections: more than are ever in flight.
const CONNECTIONS_MAX: u32 = 4_096;
/// Precedence of the generator over whatever else its core is given.
const NICE: i32 = -10;

/// A load to send.
#[derive(Clone, Copy)]
pub struct Load {
    /// Where to.
    pub target: SocketAddr,
    /// The path asked for.
    pub path: &'static str,
    /// Calls a second.
    pub rps: f64,
    /// Time before the measurement, in seconds.
    pub warm_s: f64,
    /// The measurement, in seconds.
    pub seconds: f64,
    /// How long a caller waits, in milliseconds.
    pub timeout_ms: u32,
    /// Seed of users and arrivals.
    pub seed: u64,
}

impl Load {
    /// Of a cell.
    pub fn new(args: &Args, target: SocketAddr, path: &'static str, rps: f64, warm_s: f64, seed: u64) -> Self {
        Self { target, path, rps, warm_s, seconds: args.seconds, timeout_ms: DEADLINE_MS, seed }
    }

    fn plan(&self, seconds: f64, seed: u64) -> Plan {
        Plan {
            arrivals: Arrivals::Poisson,
            users: Users { count: u64::from(USERS), zipf_exponent: None },
            seed,
            timeout_ms: self.timeout_ms,
            connections_max: CONNECTIONS_MAX,
            lag_p99_ms_max: LAG_P99_MS_MAX,
            ..Plan::new(self.target, self.path, Profile::Constant { rps: self.rps, seconds })
        }
    }

    /// Sends it all; gives what the measured part showed. The part before goes over into it without a pause.
    pub async fn send(self, core: usize) -> Result<Report> {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("generator".into()).spawn(move || {
            // Nobody hears it any more when the benchmark was interrupted.
            drop(tell.send(self.send_here(core)));
        })?;
        told.await.context("the generator panicked")?
    }

    fn send_here(self, core: usize) -> Result<Report> {
        rustix::thread::sched_setaffinity(None, &only(core))?;
        // Only a help on a busy machine: what it could not prevent shows in the lag.
        let _ = rustix::process::nice(NICE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let before = async {
                if self.warm_s > 0.0 {
                    loadgen::run(self.plan(self.warm_s, self.seed ^ (1 << 32)), |_| ()).await?;
                }
                Ok::<_, loadgen::Error>(())
            };
            let measured = async {
                tokio::time::sleep(Duration::from_secs_f64(self.warm_s)).await;
                loadgen::run(self.plan(self.seconds, self.seed), |_| ()).await
            };
            let ((), report) = tokio::try_join!(before, measured)?;
            Ok(report)
        })
    }
}
