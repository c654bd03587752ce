//! `bench stress`: the capacity that online stress tests find, against services of known cost.
//!
//! Truth is what bounds the service by construction, from what it says of its own clocks: quota ÷ CPU per request, workers
//! ÷ hold, 1 ÷ lock hold. A long staircase straight at an instance, past the proxy, cross-checks it.

mod services;

use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use model::{BindingResource, Curve};
use services::Service;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::load::{Load, failed};
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use springtide_bench::stats;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Relative error allowed at the 95th percentile of the pooled runs.
const FLOOR: f64 = 0.08;
/// Relative error wanted.
const GOAL: f64 = 0.05;
/// How far the truth may lie from the staircase: whole requests of single seconds are counted there.
const TRUTH_OFF_MAX: f64 = 0.10;
/// Share of errors that the tests may add.
const ERRORS_MAX: f64 = 0.001;
/// Longest test.
const DURATION_MS_MAX: u32 = 20_000;
/// Live traffic of a service, as a multiple of one instance's capacity.
const TRAFFIC: f64 = 1.8;
/// Void rounds tried again, in all.
const VOID_ROUNDS_MAX: u32 = 10;

/// Stress-test services of known cost
#[derive(clap::Args)]
pub struct Args {
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs, over all services in turn
    #[arg(long, default_value_t = 40)]
    runs: u32,
    /// Folder of other services: manifests, and truth.json ({"SERVICE": {"path": "/…", "capacity_rps": N}})
    #[arg(long)]
    service: Option<PathBuf>,
}

struct Run {
    service: String,
    truth: f64,
    curve: Curve,
    errors: u64,
    requests: u64,
    steal: f64,
}

impl Run {
    fn error(&self) -> f64 {
        self.curve.capacity_rps.value / self.truth - 1.0
    }
}

/// Runs it; false when the floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 2, cpu: "4", memory: "4GiB" }).await?;
    let services = match &args.service {
        Some(folder) => services::from_folder(&fleet, folder).await?,
        None => services::of_known_cost(&fleet).await?,
    };
    fleet.await_steady(120).await?;
    let mut plateaus: BTreeMap<String, f64> = BTreeMap::new();
    println!("staircase straight at one instance, sent → completed rps at each step");
    for service in &services {
        let steps = service.staircase(&fleet, args.seed).await?;
        let shown: Vec<String> = steps.iter().map(|(sent, done)| format!("{sent:.0} → {done:.0}")).collect();
        println!("  {:<10} {}", service.name, shown.join(", "));
        plateaus.extend(steps.last().map(|(_, done)| (service.name.clone(), *done)));
    }
    println!("run  service      truth   found   [95% interval]     error   s     binding      errors");
    let (mut runs, mut void): (Vec<Run>, u32) = (Vec::new(), 0);
    while runs.len() < args.runs as usize {
        let service = &services[runs.len() % services.len()];
        let run = one(&fleet, service, args.seed + runs.len() as u64).await?;
        let is_void = run.steal > STEAL_MAX;
        print(runs.len() + 1, &run, is_void);
        if is_void {
            void += 1;
            ensure!(void <= VOID_ROUNDS_MAX, "{void} rounds were void: this machine is too busy to measure on");
            continue;
        }
        runs.push(run);
    }
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(verdict(&services, &runs, &plateaus))
}

async fn one(fleet: &Fleet, service: &Service, seed: u64) -> Result<Run> {
    let load = Load::start(fleet.entry, &service.path, service.nominal_rps * TRAFFIC, seed);
    // The test must meet traffic that has settled, as it would on any evening.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    let (cpu, before) = (CpuTime::now()?, service.own_clock(fleet).await?);
    let name = service.name.clone();
    let request =
        OperationRequest::Stress { service: name.clone(), instance: None, duration_ms_max: Some(DURATION_MS_MAX) };
    let operation = fleet.client.open_operation(&request).await?;
    let operation = fleet.await_operation(operation.id.as_str(), 60).await?;
    let steal = CpuTime::now()?.steal_since(cpu);
    let after = service.own_clock(fleet).await?;
    let report = load.stop()?;
    fleet::succeeded(&operation)?;
    let curves = fleet.client.curves(Some(&name)).await?;
    let curve = curves.into_iter().find(|curve| curve.operation == operation.id).context("the test left a curve")?;
    let truth = service.truth_rps(&before, &after, curve.instance.as_str());
    let errors = failed(&report);
    Ok(Run { service: name, truth, curve, errors, requests: report.offered, steal })
}

fn print(number: usize, run: &Run, is_void: bool) {
    let binding = match run.curve.binding {
        BindingResource::Cpu => "cpu".to_owned(),
        BindingResource::Serial => "serial".to_owned(),
        BindingResource::Concurrency { limit } => format!("{limit:.1} at once"),
        BindingResource::NotReached => "not reached".to_owned(),
    };
    let found = run.curve.capacity_rps;
    println!(
        "{number:>3}  {:<10} {:>7.1} {:>7.1}  [{:>6.1}, {:>6.1}]  {:>+7.2}%  {:>4.1}  {binding:<12} {}{}",
        run.service,
        run.truth,
        found.value,
        found.low,
        found.high,
        run.error() * 100.0,
        run.curve.duration_ms as f64 / 1_000.0,
        run.errors,
        if is_void { "  void" } else { "" }
    );
}

/// The furthest that a service's truth, by its own clocks, lies from what the staircase found.
fn truth_off(runs: &[Run], plateaus: &BTreeMap<String, f64>) -> f64 {
    let off = |run: &Run| plateaus.get(&run.service).map_or(0.0, |plateau| (plateau / run.truth - 1.0).abs());
    runs.iter().map(off).fold(0.0, f64::max)
}

fn verdict(services: &[Service], runs: &[Run], plateaus: &BTreeMap<String, f64>) -> bool {
    let off: Vec<f64> = runs.iter().map(|run| run.error().abs()).collect();
    for service in services {
        let own: Vec<f64> = runs.iter().filter(|r| r.service == service.name).map(|r| r.error().abs()).collect();
        println!(
            "{:<10} {} runs: median {:.2}%, p95 {:.2}%, max {:.2}%",
            service.name,
            own.len(),
            stats::median(&own) * 100.0,
            stats::quantile(&own, 0.95) * 100.0,
            stats::max(&own) * 100.0
        );
    }
    for miss in runs.iter().filter(|run| run.error().abs() > FLOOR) {
        println!("miss: {} found {:.1} of {:.1} rps", miss.service, miss.curve.capacity_rps.value, miss.truth);
    }
    let covered = runs.iter().filter(|r| r.curve.capacity_rps.low <= r.truth && r.truth <= r.curve.capacity_rps.high);
    let covered = covered.count() as f64 / runs.len() as f64;
    let longest_s = runs.iter().map(|run| run.curve.duration_ms).max().unwrap_or(0) as f64 / 1_000.0;
    let (errors, requests) = runs.iter().fold((0, 0), |(e, r), run| (e + run.errors, r + run.requests));
    let error_rate = errors as f64 / requests.max(1) as f64;
    let p95 = stats::quantile(&off, 0.95);
    let truth_off = truth_off(runs, plateaus);
    let passed = truth_off <= TRUTH_OFF_MAX
        && p95 <= FLOOR
        && error_rate <= ERRORS_MAX
        && longest_s <= f64::from(DURATION_MS_MAX) / 1_000.0 + 0.5;
    println!(
        "bench stress: runs={} error_p95={p95:.4} error_median={:.4} floor={FLOOR} goal={GOAL} goal_met={} interval_covers={covered:.2} longest_s={longest_s:.1} added_errors={error_rate:.5} truth_off_staircase={truth_off:.3} passed={passed}",
        runs.len(),
        stats::median(&off),
        p95 <= GOAL
    );
    passed
}
