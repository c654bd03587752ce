//! Services whose capacity is known by construction, and others named by their owner.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use springtide_bench::fleet::{self, Fleet};
use springtide_bench::load::Load;
use springtide_bench::manifests::{Probe, probes};
use springtide_bench::stats;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Steps of the cross-check, as multiples of the capacity.
const STEPS: &[f64] = &[0.7, 0.85, 1.0, 1.4];
/// Length of a step.
const STEP_SECONDS: usize = 8;
/// Seconds of it that are not counted: queues fill.
const WARM_SECONDS: usize = 2;

/// A service of known cost.
pub struct Service {
    /// Its name.
    pub name: String,
    /// Path at the entry that leads to it.
    pub path: String,
    /// About what one instance serves: how much traffic to send.
    pub nominal_rps: f64,
    /// CPU of an instance, in cores; absent when the truth is its owner's word.
    quota_cores: Option<f64>,
}

/// What each instance's own clocks say: instance → `/stats`.
pub type OwnClock = BTreeMap<String, Value>;

/// Name, CPU in cores, config, about what one instance serves.
const KNOWN: &[(&str, f64, &str, f64)] = &[
    ("cpu-long", 0.3, r#"{"cpu_us": 6000}"#, 48.0),
    ("workers", 0.3, r#"{"cpu_us": 100, "workers": 2, "hold_us": 20000}"#, 94.0),
    ("lock", 0.3, r#"{"cpu_us": 100, "lock_us": 12000}"#, 76.0),
    ("pool", 0.3, r#"{"cpu_us": 100, "pool": 4, "hold_us": 30000}"#, 128.0),
    ("cpu-short", 0.2, r#"{"cpu_us": 1500}"#, 115.0),
];

/// Deploys CPU-bound, worker-bound, lock-bound and pool-bound services.
pub async fn of_known_cost(fleet: &Fleet) -> Result<Vec<Service>> {
    let probe = |(name, cpu, config, _): &(&'static str, f64, &'static str, f64)| Probe {
        name,
        cpu: *cpu,
        config,
        instances: &[2, 2],
        more: "",
    };
    let list: Vec<Probe<'_>> = KNOWN.iter().map(probe).collect();
    fleet.apply(&probes(&fleet::built("red-packet")?, "1", &list)).await?;
    let service = |(name, cpu, _, nominal): &(&str, f64, &str, f64)| Service {
        name: (*name).to_owned(),
        path: format!("/{name}/work"),
        nominal_rps: *nominal,
        quota_cores: Some(*cpu),
    };
    Ok(KNOWN.iter().map(service).collect())
}

#[derive(Deserialize)]
struct Told {
    path: String,
    capacity_rps: f64,
}

/// Deploys the manifests of a folder; `truth.json` says which services to test and what they can take.
pub async fn from_folder(fleet: &Fleet, folder: &Path) -> Result<Vec<Service>> {
    let truth = folder.join("truth.json");
    let text = std::fs::read_to_string(&truth).with_context(|| format!("cannot read {}", truth.display()))?;
    let told: BTreeMap<String, Told> =
        serde_json::from_str(&text).with_context(|| format!("{} is not as --help says", truth.display()))?;
    fleet.cli(&["apply", "--no-wait", "-f", folder.to_str().context("the folder's name is text")?])?;
    let service =
        |(name, Told { path, capacity_rps })| Service { name, path, nominal_rps: capacity_rps, quota_cores: None };
    Ok(told.into_iter().map(service).collect())
}

impl Service {
    /// Reads each instance's own clocks.
    pub async fn own_clock(&self, fleet: &Fleet) -> Result<OwnClock> {
        let mut clocks = OwnClock::new();
        if self.quota_cores.is_none() {
            return Ok(clocks);
        }
        for instance in fleet.client.instances(Some(&self.name), None).await? {
            let stats = reqwest::get(format!("http://{}/stats", instance.endpoint)).await?.text().await?;
            clocks.insert(instance.instance.to_string(), serde_json::from_str(&stats)?);
        }
        Ok(clocks)
    }

    /// What the instance can take by its own clocks between two readings: the tightest of its bounds.
    pub fn truth_rps(&self, before: &OwnClock, after: &OwnClock, instance: &str) -> f64 {
        let (Some(quota), Some(before), Some(after)) = (self.quota_cores, before.get(instance), after.get(instance))
        else {
            return self.nominal_rps;
        };
        let delta = |path: &str| {
            let read = |value: &Value| value.pointer(&format!("/work{path}")).and_then(Value::as_f64);
            Some(read(after)? - read(before)?)
        };
        let cpu = delta("/cpu_process_us").zip(delta("/requests")).map(|(cpu, requests)| quota * 1e6 * requests / cpu);
        let slots = ["workers", "lock", "pool"].iter().filter_map(|kind| {
            let slots = after.pointer(&format!("/work/{kind}/slots"))?.as_f64()?;
            let (holds, held) = delta(&format!("/{kind}/holds")).zip(delta(&format!("/{kind}/held_us")))?;
            (holds > 0.0).then(|| slots * 1e6 * holds / held)
        });
        slots.chain(cpu).fold(f64::INFINITY, f64::min)
    }

    /// A staircase straight at one instance, past the proxy: what it was sent and what it completed a second at each step.
    /// The last step is far more than it can take, so what it completes there is its saturation throughput.
    pub async fn staircase(&self, fleet: &Fleet, seed: u64) -> Result<Vec<(f64, f64)>> {
        let instances = fleet.client.instances(Some(&self.name), None).await?;
        let Some(instance) = instances.first() else { bail!("{} has no instance", self.name) };
        let target: SocketAddr = instance.endpoint.parse()?;
        let load = Load::start(target, "/work", self.nominal_rps * STEPS[0], seed);
        for step in STEPS {
            load.set_rate(self.nominal_rps * step);
            tokio::time::sleep(Duration::from_secs(STEP_SECONDS as u64)).await;
        }
        let report = load.stop()?;
        let completed = |at: usize| {
            let seconds =
                report.seconds.iter().skip(at * STEP_SECONDS + WARM_SECONDS).take(STEP_SECONDS - WARM_SECONDS);
            stats::median(&seconds.map(|second| second.done as f64).collect::<Vec<_>>())
        };
        Ok(STEPS.iter().enumerate().map(|(at, step)| (self.nominal_rps * step, completed(at))).collect())
    }
}
