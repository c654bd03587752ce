//! Benchmarks of whole processes on this machine, and the demo: what `cargo xtask bench` and `cargo xtask demo` run.
//!
//! Each benchmark takes `--seed`, prints its raw rounds and a table with the truth or the floor beside ours, and last one
//! line `bench NAME: key=value …`; it exits non-zero when a floor is missed. Rounds with steal over 5% are void.

mod admission_real;
mod admission_sim;
mod agent_cost;
mod agent_kill;
mod demo;
mod detect_delay;
mod detect_nab;
mod ingest;
mod policy_push;
mod proxy_bench;
mod scale_out;
mod server_kill;
mod stress;
mod ui;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "springtide-bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Name the benchmarks
    List,
    /// New Year's Eve of the red-packet business
    Demo(demo::Args),
    /// 100 new instances over 6 agents under load: click to healthy and report
    ScaleOut(scale_out::Args),
    /// Measured capacity against services of known cost
    Stress(stress::Args),
    /// kill -9 of agents under load: instances untouched, readopted fast
    AgentKill(agent_kill::Args),
    /// CPU and memory of an agent that samples 100 slices each second, beside node_exporter
    AgentCost(agent_cost::Args),
    /// Protection in virtual time beside DAGOR, CoDel, random shedding, Gradient2 and credits
    AdmissionSim(admission_sim::Args),
    /// Protection in real processes beside none, random shedding, DAGOR and the simulator
    AdmissionReal(admission_real::Args),
    /// What it serves behind the proxy
    #[command(hide = true)]
    AdmissionService(admission_real::service::Args),
    /// One click to in force on 1,000 proxies; kill -9 of the server; ends kept everywhere
    PolicyPush(policy_push::Args),
    /// Faults in virtual time straight into the detectors: delay, recall, precision, causes; a week without faults
    DetectDelay(detect_delay::Args),
    /// NAB's files by NAB's scoring rule, parameters frozen
    DetectNab(detect_nab::Args),
    /// Remote write beside VictoriaMetrics and Prometheus: samples a CPU-second, bytes a sample, memory
    Ingest(ingest::Args),
    /// CPU of a request and p99, beside nginx, HAProxy and Envoy; the cost of protection
    Proxy(proxy_bench::Args),
    /// The war room in Chromium over a simulated fleet: a frame of the heat map, metric to pixel, size of the page
    Ui(ui::Args),
    /// kill -9 of the server at every journal point: resumes, loses nothing, each effect once
    ServerKill(server_kill::Args),
}

const NAMES: &[&str] = &[
    "scale-out",
    "stress",
    "agent-kill",
    "agent-cost",
    "server-kill",
    "proxy",
    "admission-sim",
    "admission-real",
    "policy-push",
    "detect-delay",
    "detect-nab",
    "ui",
    "ingest",
];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("springtide-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a floor was missed.
fn run() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interrupted = async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! { _ = term.recv() => {}, done = tokio::signal::ctrl_c() => done? }
        anyhow::bail!("interrupted; what it had started is stopped")
    };
    // Losing the race drops the benchmark, and with it its fleet, its load and its processes.
    runtime.block_on(async {
        tokio::select! { done = bench(Cli::parse().bench) => done, stopped = interrupted => stopped }
    })
}

async fn bench(bench: Bench) -> anyhow::Result<bool> {
    match bench {
        Bench::List => {
            NAMES.iter().for_each(|name| println!("{name}"));
            Ok(true)
        }
        Bench::Demo(args) => demo::run(args).await,
        Bench::ScaleOut(args) => scale_out::run(args).await,
        Bench::Stress(args) => stress::run(args).await,
        Bench::AgentKill(args) => agent_kill::run(args).await,
        Bench::AgentCost(args) => agent_cost::run(args).await,
        Bench::PolicyPush(args) => policy_push::run(args).await,
        Bench::DetectDelay(args) => detect_delay::run(args).await,
        Bench::DetectNab(args) => detect_nab::run(&args),
        Bench::Ui(args) => ui::run(args).await,
        Bench::Ingest(args) => tokio::task::spawn_blocking(move || ingest::run(&args)).await?,
        Bench::Proxy(args) => proxy_bench::run(args).await,
        Bench::ServerKill(args) => server_kill::run(args).await,
        Bench::AdmissionReal(args) => admission_real::run(args).await,
        Bench::AdmissionService(args) => admission_real::service::run(args).await,
        Bench::AdmissionSim(args) => admission_sim::run(args).await,
    }
}
