//! `bench scale-out`: 100 new instances over 6 agents, under load, from the click to healthy and report.

use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use model::Operation;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::load::{Load, failed};
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use springtide_bench::manifests::{Probe, probes};
use springtide_bench::outside::{self, Subject};
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
use std::path::PathBuf;
use std::time::Instant;

/// Worst round allowed.
const FLOOR_SECONDS: f64 = 60.0;
/// Worst round wanted.
const GOAL_SECONDS: f64 = 30.0;
/// Requests to new instances on which each gray stage must be judged.
const GATE_REQUESTS_MIN: u64 = 100;
/// Instances before the click.
const BEFORE: u32 = 4;
/// Time in which services from outside must be up.
const UP_SECONDS_MAX: u64 = 180;
/// Times a void round is tried again.
const VOID_ROUNDS_MAX: u32 = 5;

/// Scale out under load, five rounds
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench scale-out\n  cargo xtask bench scale-out --rounds 1 --instances 20\n  cargo xtask bench scale-out --service my/manifests --path /hello --instances 20"
)]
pub struct Args {
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// New instances
    #[arg(long, default_value_t = 100)]
    instances: u32,
    /// Requests a second
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Folder of manifests that stands in for the built-in service: dc-a and dc-b, three hosts of 4 cores each
    #[arg(long, value_name = "DIR")]
    service: Option<PathBuf>,
    /// The service to scale, when DIR has more than one with a route
    #[arg(long, value_name = "NAME", requires = "service")]
    service_name: Option<String>,
    /// Path of the load [default: the service's first route]
    #[arg(long, requires = "service")]
    path: Option<String>,
}

struct Round {
    seconds: f64,
    gate_requests_min: u64,
    errors: u64,
    steal: f64,
}

/// Runs it; false when the floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let size = Size { datacenters: 2, hosts: 3, cpu: "4", memory: "4GiB" };
    let fleet = Fleet::start(&size).await?;
    let subject = bring_up(&fleet, &args).await?;
    let mut rounds: Vec<Round> = Vec::new();
    let mut void = 0;
    println!("round  click→done s  requests to new per gate (min)  errors  steal %");
    while rounds.len() < args.rounds as usize {
        let round = round(&fleet, &args, &subject, args.seed + rounds.len() as u64).await?;
        let Round { seconds, gate_requests_min, errors, steal } = &round;
        let note = if *steal > STEAL_MAX { "  void" } else { "" };
        println!(
            "{:>5}  {seconds:>12.2}  {gate_requests_min:>30}  {errors:>6}  {:>7.2}{note}",
            rounds.len() + 1,
            steal * 100.0
        );
        if *steal > STEAL_MAX {
            void += 1;
            ensure!(void <= VOID_ROUNDS_MAX, "{void} rounds were void: this machine is too busy to measure on");
            continue;
        }
        rounds.push(round);
    }
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(verdict(&args, &rounds))
}

fn verdict(args: &Args, rounds: &[Round]) -> bool {
    let seconds: Vec<f64> = rounds.iter().map(|round| round.seconds).collect();
    let gate_min = rounds.iter().map(|round| round.gate_requests_min).min().unwrap_or(0);
    let errors: u64 = rounds.iter().map(|round| round.errors).sum();
    let worst = stats::max(&seconds);
    let passed = table::print(&[
        Row::new("click to healthy and report, worst, s", format!("{worst:.2}"), FLOOR_SECONDS, worst <= FLOOR_SECONDS)
            .goal(GOAL_SECONDS),
        Row::new("requests judged per gray stage, least", gate_min, GATE_REQUESTS_MIN, gate_min >= GATE_REQUESTS_MIN),
    ]);
    println!(
        "bench scale-out: instances={} rounds={} worst_s={worst:.2} median_s={:.2} floor_s={FLOOR_SECONDS} goal_s={GOAL_SECONDS} goal_met={} gate_requests_min={gate_min} errors={errors} passed={passed}",
        args.instances,
        rounds.len(),
        stats::median(&seconds),
        worst <= GOAL_SECONDS,
    );
    passed
}

/// Brings the service up.
async fn bring_up(fleet: &Fleet, args: &Args) -> Result<Subject> {
    if let Some(folder) = &args.service {
        let subject = outside::subject(folder, args.service_name.as_deref(), args.path.as_deref())?;
        outside::apply(fleet, folder, UP_SECONDS_MAX).await?;
        return Ok(subject);
    }
    let half = BEFORE / 2;
    let probe = Probe { name: "probe", cpu: 0.1, config: r#"{"cpu_us": 200}"#, instances: &[half, half], more: "" };
    fleet.apply(&probes(&fleet::built("red-packet")?, "1", &[probe])).await?;
    fleet.await_steady(60).await?;
    Ok(Subject { service: "probe".into(), path: "/probe/work".into(), instances: BEFORE })
}

async fn round(fleet: &Fleet, args: &Args, subject: &Subject, seed: u64) -> Result<Round> {
    let load = Load::start(fleet.entry, &subject.path, args.rate, seed);
    let before = CpuTime::now()?;
    let clicked = Instant::now();
    let others = fleet.instance_processes().await?.len() as u32 - subject.instances;
    let operation = scale(fleet, subject, subject.instances + args.instances).await?;
    let operation = fleet.await_operation(operation.id.as_str(), 180).await?;
    let seconds = clicked.elapsed().as_secs_f64();
    let steal = CpuTime::now()?.steal_since(before);
    let report = load.stop()?;
    check(fleet, &operation, args.instances, others + subject.instances + args.instances).await?;
    let gate_requests_min = operation.verdicts.iter().map(|verdict| verdict.requests_new).min().unwrap_or(0);
    let back = scale(fleet, subject, subject.instances).await?;
    fleet::succeeded(&fleet.await_operation(back.id.as_str(), 120).await?)?;
    Ok(Round { seconds, gate_requests_min, errors: failed(&report), steal })
}

/// The operation ended well, wrote its report, and that many processes run: counted in the OS.
async fn check(fleet: &Fleet, operation: &Operation, added: u32, wanted: u32) -> Result<()> {
    fleet::succeeded(operation)?;
    ensure!(operation.adds.len() == added as usize, "added {} instead of {added}", operation.adds.len());
    ensure!(operation.verdicts.len() == 3, "{} gray stages were judged instead of 3", operation.verdicts.len());
    let report = fleet.client.report(operation.id.as_str()).await.context("the operation has a report")?;
    ensure!(report.contains("<svg"), "the report has no plot");
    let running = fleet.instance_processes().await?;
    ensure!(running.len() == wanted as usize, "{} instance processes run instead of {wanted}", running.len());
    Ok(())
}

async fn scale(fleet: &Fleet, subject: &Subject, to: u32) -> Result<Operation> {
    let service = subject.service.clone();
    let request = OperationRequest::Scale { service, to: Some(to), instances: Default::default() };
    Ok(fleet.client.open_operation(&request).await?)
}
