//! `cargo xtask test`: the house rules, formatting, lints, then every test. The runner's summary comes last.

use crate::run::{cargo, run};
use crate::{cgroup_v2, tidy, tools, ui};
use anyhow::Result;

/// Arguments of `test`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Passed on to the test runner, such as a filter
    #[arg(last = true)]
    runner: Vec<String>,
}

/// Runs it all.
pub fn main(args: Args) -> Result<()> {
    tools::components()?;
    tools::nextest()?;
    tools::nginx()?;
    tools::redis()?;
    tools::prometheus()?;
    tools::chromium()?;
    tidy::main()?;
    // The server embeds the page: it comes before whatever compiles the server.
    ui::build()?;
    ui::test()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    // Tests start the program and the sample business as a user would: the binaries must be there first.
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    cgroup_v2::main(&[])?;
    run(cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]).args(&args.runner))
}
