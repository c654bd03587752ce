//! The developer's one entry: `cargo xtask demo | test | bench NAME | tidy | ci`.
//!
//! Everything a fresh machine lacks is installed here, by package name, with a line saying so.

mod bench;
mod cgroup_v2;
mod demo;
mod run;
mod test;
mod tidy;
mod tools;
mod ui;
mod uml;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Springtide's developer tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// New Year's Eve of a red-packet business on this machine: deploy, measure, size, scale, ride the surge
    Demo(demo::Args),
    /// Every check and every test, as the forge runs them; installs what they need
    Test(test::Args),
    /// One benchmark: ours beside the truth or a peer
    #[command(after_help = "Example: cargo xtask bench agent-kill --seed 7")]
    Bench(bench::Args),
    /// The agent's tests on a true cgroup v2, in user-mode-linux (a part of test)
    CgroupV2 {
        /// Passed on to the tests, such as a filter
        #[arg(last = true)]
        tests: Vec<String>,
    },
    /// Builds the war room's page, which the server embeds
    Ui,
    /// The house rules a compiler does not check
    Tidy,
    /// The same as test: what .ci/run calls
    Ci,
}

fn main() -> ExitCode {
    match run_task() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task() -> anyhow::Result<()> {
    std::env::set_current_dir(run::workspace_root())?;
    match Cli::parse().task {
        Task::Demo(args) => demo::main(args),
        Task::Test(args) => test::main(args),
        Task::Bench(args) => bench::main(args),
        Task::CgroupV2 { tests } => cgroup_v2::main(&tests),
        Task::Ui => ui::build(),
        Task::Tidy => tidy::main(),
        Task::Ci => test::main(test::Args::default()),
    }
}
