//! `cargo xtask bench NAME`: builds everything optimised, then runs one benchmark of `bench/`.

use crate::run::{cargo, run};
use crate::{tools, ui};
use anyhow::Result;
use std::process::Command;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Which: scale-out, stress, agent-kill, agent-cost, server-kill, proxy, ingest, admission-sim, policy-push (`list` shows them all)
    name: String,
    /// Passed on to the benchmark: --seed N, --rounds N, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds and runs it.
pub fn main(args: Args) -> Result<()> {
    if args.name == "ui" {
        tools::chromium()?;
    }
    if args.name == "proxy" {
        tools::nginx()?;
        tools::haproxy()?;
        tools::envoy()?;
    }
    if args.name == "ingest" {
        tools::prometheus()?;
    }
    if args.name == "agent-cost" {
        tools::node_exporter()?;
    }
    build_release()?;
    run(Command::new("target/release/springtide-bench").arg(&args.name).args(&args.rest))
}

/// Builds the program, the sample business and the benchmarks, optimised.
pub fn build_release() -> Result<()> {
    ui::build()?;
    run(&mut cargo(&["build", "--release", "--quiet", "--workspace", "--exclude", "xtask", "--bins"]))
}
