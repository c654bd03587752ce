//! `cargo xtask demo`: builds what it needs, then runs the night.

use crate::bench::build_release;
use crate::run::run;
use anyhow::Result;
use std::process::Command;

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the fleet running after the night, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

/// Builds and runs it.
pub fn main(args: Args) -> Result<()> {
    build_release()?;
    let mut demo = Command::new("target/release/springtide-bench");
    demo.arg("demo");
    if args.stay {
        demo.arg("--stay");
    }
    run(&mut demo)
}
