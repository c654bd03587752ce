//! A script: services, loads, faults and the clocks of one simulated run, as a YAML file says them.
//!
//! Absent on purpose: which overload control runs. The same script is run under each of them.

pub mod check;
mod lines;
mod read;

pub use read::{Fault, parse};

use serde::{Deserialize, Serialize};

/// Longest run, in seconds of virtual time.
pub const DURATION_S_MAX: f64 = 86_400.0;
/// Most tasks that a script may offer.
pub const TASKS_MAX: f64 = 50_000_000.0;
/// Most services of a script.
pub const SERVICES_MAX: usize = 64;
/// Most instances of one service, and most callers in front.
pub const INSTANCES_MAX: u32 = 1_000;
/// Most users of a script.
pub const USERS_MAX: u32 = 1_000_000;
/// Most calls one plan may ask for.
pub const CALLS_MAX: u32 = 64;

/// One simulated run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Its name, in tables.
    pub name: String,
    /// What it shows, for readers.
    #[serde(default)]
    pub about: String,
    /// The seed, unless the caller gives another.
    #[serde(default = "one")]
    pub seed: u64,
    /// Virtual time during which tasks arrive, in seconds; the run ends when the last of them has ended.
    pub duration_s: f64,
    /// Tasks that arrive earlier are not measured, in seconds.
    #[serde(default)]
    pub measure_from_s: f64,
    /// Time that a task has from its arrival, in milliseconds.
    #[serde(default = "deadline_ms")]
    pub deadline_ms: f64,
    /// Users, from whom tasks come with equal chance.
    #[serde(default = "users")]
    pub users: u32,
    /// How long users keep their priorities, in seconds.
    #[serde(default = "rotation_s")]
    pub rotation_s: f64,
    /// Instances in front, which receive the tasks and make their calls. They never queue.
    #[serde(default = "three")]
    pub callers: u32,
    /// One way from a caller to an instance, in milliseconds.
    #[serde(default = "network_ms")]
    pub network_ms: f64,
    /// How a caller picks an instance.
    #[serde(default)]
    pub balancer: Balancer,
    /// What a caller does when a call fails.
    #[serde(default)]
    pub retries: Retries,
    /// The services.
    pub services: Vec<Service>,
    /// The loads.
    pub streams: Vec<Stream>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Trouble>,
}

/// How a caller picks an instance; it knows its own calls under way, nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balancer {
    /// The less busy of two, as Springtide's proxy does it.
    #[default]
    TwoChoices,
    /// The least busy of all.
    Least,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}

/// What a caller does when a call fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Attempts after the first, per call.
    #[serde(default)]
    pub max: u32,
    /// Attempt k waits up to this times 2 to the k, in milliseconds (full jitter).
    #[serde(default = "backoff_ms")]
    pub backoff_ms: f64,
    /// A caller gives an attempt up after this, in milliseconds; the task's deadline bounds it in any case.
    #[serde(default)]
    pub attempt_timeout_ms: Option<f64>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 0, backoff_ms: backoff_ms(), attempt_timeout_ms: None }
    }
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How many copies run.
    pub instances: u32,
    /// Requests that one copy works on at a time; 0 means any number, and then there is no queue and no overload control.
    pub workers: u32,
    /// How long a request occupies a worker.
    pub work: Work,
    /// Requests that may wait in one copy; more are turned away.
    #[serde(default = "queue_max")]
    pub queue_max: u32,
    /// It takes calls out of its queue whose callers gave up. Most services do not notice and work on them all the same.
    #[serde(default)]
    pub notices_hangups: bool,
    /// Calls it makes after its own work, while it occupies no worker.
    #[serde(default)]
    pub calls: Vec<Calls>,
}

/// How long a request occupies a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The distribution.
    pub shape: Shape,
    /// Its mean, in milliseconds.
    pub mean_ms: f64,
    /// Standard deviation over mean, for `lognormal`.
    #[serde(default)]
    pub cv: Option<f64>,
    /// Share of slow requests, for `bimodal`.
    #[serde(default)]
    pub slow_share: Option<f64>,
    /// What a slow request takes, in milliseconds, for `bimodal`.
    #[serde(default)]
    pub slow_ms: Option<f64>,
}

/// A distribution of service times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Always the mean.
    Fixed,
    /// Exponential.
    Exponential,
    /// Lognormal with `cv`.
    Lognormal,
    /// A share of slow requests, the others equal.
    Bimodal,
}

/// Calls to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// The service.
    pub to: String,
    /// How many.
    #[serde(default = "one_call")]
    pub times: u32,
    /// All at once; otherwise each waits for the one before and the first failure ends it.
    #[serde(default)]
    pub parallel: bool,
}

/// A load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Business class of its tasks, 0 the most important, at most 63.
    #[serde(default)]
    pub class: u8,
    /// What a task does. It succeeds when every call does, within the deadline.
    pub calls: Vec<Calls>,
    /// The rate over time; arrivals are Poisson.
    pub load: Vec<Load>,
    /// Arrivals as they were recorded, in seconds, in their order: tasks come at these times, and `load` only says what rate
    /// that was, for the optimum. Empty: drawn from `load`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrivals_s: Vec<f64>,
}

/// From `at_s` on, the rate is `rps`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// When, in seconds.
    pub at_s: f64,
    /// Tasks per second.
    pub rps: f64,
    /// The rate moves to `rps` on a straight line from the entry before, instead of a step.
    #[serde(default)]
    pub ramp: bool,
}

/// What goes wrong: copies stand still, or work more slowly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// The service.
    pub service: String,
    /// Which copy, from 0; all when absent.
    #[serde(default)]
    pub instance: Option<u32>,
    /// When it begins, in seconds.
    pub at_s: f64,
    /// How long it lasts, in seconds.
    pub for_s: f64,
    /// It comes back this often, in seconds.
    #[serde(default)]
    pub every_s: Option<f64>,
    /// Copies are hit one after the other within `every_s`, instead of together.
    #[serde(default)]
    pub staggered: bool,
    /// Work takes this many times as long; when absent, all workers stand still.
    #[serde(default)]
    pub slowdown: Option<f64>,
}

fn one() -> u64 {
    1
}
fn one_call() -> u32 {
    1
}
fn three() -> u32 {
    3
}
fn deadline_ms() -> f64 {
    500.0
}
fn users() -> u32 {
    10_000
}
fn rotation_s() -> f64 {
    3_600.0
}
fn network_ms() -> f64 {
    0.25
}
fn backoff_ms() -> f64 {
    10.0
}
fn queue_max() -> u32 {
    10_000
}

impl Script {
    /// Index of a service by its name.
    pub fn service(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|service| service.name == name)
    }

    /// What a service can do, in worker-seconds per second; without end when it has no workers to run out of.
    pub fn capacity(&self, service: usize) -> f64 {
        let service = &self.services[service];
        if service.workers == 0 { f64::INFINITY } else { f64::from(service.instances * service.workers) }
    }

    /// Requests that a plan brings to each service, sub-calls included.
    pub fn visits(&self, calls: &[Calls]) -> Vec<f64> {
        let mut visits = vec![0.0; self.services.len()];
        self.add_visits(calls, 1.0, &mut visits);
        visits
    }

    fn add_visits(&self, calls: &[Calls], times: f64, visits: &mut [f64]) {
        for call in calls {
            let Some(service) = self.service(&call.to) else { continue };
            let times = times * f64::from(call.times);
            visits[service] += times;
            self.add_visits(&self.services[service].calls, times, visits);
        }
    }

    /// The share of tasks that could succeed at the best at a moment: capacity over demand at the scarcest service, at most 1
    /// (f_sat/f of the DAGOR paper, §5).
    pub fn optimum(&self, at_s: f64) -> f64 {
        let mut demand = vec![0.0; self.services.len()];
        for stream in &self.streams {
            let rate = stream.rate(at_s);
            for (service, visits) in self.visits(&stream.calls).into_iter().enumerate() {
                demand[service] += rate * visits * self.services[service].work.mean_ms / 1000.0;
            }
        }
        let shares = demand.iter().enumerate().filter(|(_, demand)| **demand > 0.0);
        shares.map(|(service, demand)| self.capacity(service) / demand).fold(1.0, f64::min)
    }
}

impl Stream {
    /// Tasks per second at a moment.
    pub fn rate(&self, at_s: f64) -> f64 {
        let Some(at) = self.load.iter().rposition(|load| load.at_s <= at_s) else { return 0.0 };
        let here = self.load[at];
        match self.load.get(at + 1) {
            Some(next) if next.ramp => here.rps + (next.rps - here.rps) * (at_s - here.at_s) / (next.at_s - here.at_s),
            _ => here.rps,
        }
    }
}
