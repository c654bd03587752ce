//! The generator: open loop on a core of its own, timed from the intended send.

use crate::proxy_bench::peers::only;
use anyhow::{Context, Result};
use loadgen::{Arrivals, Ended, Handle, Plan, Profile, Report, Step, Users};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lag of the generator at its 99th percentile above which a run is void, in milliseconds.
pub const LAG_P99_MS_MAX: f64 = 1.0;
/// Users, all alike. The simulator has as many.
pub const USERS: u32 = 10_000;
/// Connections: more than are ever in flight.
const CONNECTIONS_MAX: u32 = 4_096;
/// Real-time priority of the generator, so that whatever else its core is given does not delay a send.
const PRIORITY: &str = "10";

/// What was sent, for the simulator.
pub struct Sent {
    /// From when on, in seconds, and how many calls a second.
    pub rates: Vec<(f64, f64)>,
    /// When each call was to be sent, in seconds.
    pub arrivals_s: Vec<f64>,
    /// When the measurement began, in seconds.
    pub measured_from_s: f64,
    /// When the last call was due.
    pub end_s: f64,
}

/// A load to send.
#[derive(Clone, Copy)]
pub struct Load {
    /// Where to.
    pub target: SocketAddr,
    /// The path asked for.
    pub path: &'static str,
    /// Calls a second.
    pub rps: f64,
    /// Calls a second at the very first, as on a common day.
    pub lead_rps: f64,
    /// For how long, in seconds.
    pub lead_s: f64,
    /// Time at `rps` before the measurement, in seconds.
    pub warm_s: f64,
    /// The measurement, in seconds.
    pub seconds: f64,
    /// How long a caller waits, in milliseconds.
    pub timeout_ms: u32,
    /// Seed of users and arrivals.
    pub seed: u64,
}

impl Load {
    fn plan(&self, steps: Vec<Step>, seed: u64) -> Plan {
        Plan {
            arrivals: Arrivals::Poisson,
            users: Users { count: u64::from(USERS), zipf_exponent: None },
            seed,
            timeout_ms: self.timeout_ms,
            connections_max: CONNECTIONS_MAX,
            lag_p99_ms_max: LAG_P99_MS_MAX,
            ..Plan::new(self.target, self.path, Profile::Steps(steps))
        }
    }

    /// Sends it all; gives what the measured part showed. The part before goes over into it without a pause.
    pub async fn send(self, core: usize) -> Result<(Sent, Report)> {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("generator".into()).spawn(move || {
            // Nobody hears it any more when the benchmark was interrupted.
            drop(tell.send(self.send_here(core)));
        })?;
        told.await.context("the generator panicked")?
    }

    fn send_here(self, core: usize) -> Result<(Sent, Report)> {
        rustix::thread::sched_setaffinity(None, &only(core))?;
        take_precedence();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (began, due) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let note = || {
            let due = due.clone();
            move |ended: Ended| due.lock().expect("no panic").push(ended.due.duration_since(began).as_secs_f64())
        };
        let run = async |plan| loadgen::run_watched(plan, &Handle::new(), |_| (), note()).await;
        runtime.block_on(async {
            let before_s = self.lead_s + self.warm_s;
            let lead = Step { rps: self.lead_rps, seconds: self.lead_s };
            let step = |seconds| Step { rps: self.rps, seconds };
            let before = async {
                if before_s <= 0.0 {
                    return Ok::<_, loadgen::Error>(Report::default());
                }
                run(self.plan(vec![lead, step(self.warm_s)], self.seed ^ (1 << 32))).await
            };
            let measured = async {
                tokio::time::sleep(Duration::from_secs_f64(before_s)).await;
                run(self.plan(vec![step(self.seconds)], self.seed)).await
            };
            let (before, report) = tokio::try_join!(before, measured)?;
            let mut sent = rates(&before, 0.0, before_s);
            sent.extend(rates(&report, before_s, self.seconds));
            let mut arrivals_s = std::mem::take(&mut *due.lock().expect("no panic"));
            arrivals_s.sort_by(f64::total_cmp);
            let end_s = before_s + self.seconds;
            Ok((Sent { rates: sent, arrivals_s, measured_from_s: before_s, end_s }, report))
        })
    }
}

/// Calls sent in each second of a run of `length_s` that began at `from_s`: (when, calls a second).
fn rates(report: &Report, from_s: f64, length_s: f64) -> Vec<(f64, f64)> {
    let mut start_s = 0.0;
    let mut rates = Vec::new();
    for second in &report.seconds {
        let end_s = second.at_s.min(length_s);
        // What lies behind the end is only waiting for the last answers.
        if end_s - start_s > 0.01 {
            rates.push((from_s + start_s, second.offered as f64 / (end_s - start_s)));
        }
        start_s = end_s;
    }
    rates
}

/// By `chrt`, where it is installed and allowed. Only a help on a busy machine: what it cannot prevent shows in the lag.
fn take_precedence() {
    let thread = rustix::thread::gettid().to_string();
    let mut command = Command::new("chrt");
    command
        .args(["--fifo", "--pid", PRIORITY, &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = command.status();
}
