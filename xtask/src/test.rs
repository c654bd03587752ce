//! `cargo xtask test`: the house rules, formatting, lints, then every test. The runner's summary comes last.

use crate::run::{cargo, run};
use crate::{cgroup_v2, tidy, tools, ui};
use anyhow::Result;

/// What property tests draw their cases from.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

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
    let mut tests = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
    // The same cases each time: whether a change lands must not hang on what chance draws. New ones are drawn by whoever runs
    // `cargo nextest run` or sets another seed.
    if std::env::var_os(PROPTEST_SEED).is_none() {
        tests.env(PROPTEST_SEED, "1");
    }
    run(tests.args(&args.runner))
}
