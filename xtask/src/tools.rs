//! Third-party tools that tests and benches need: installed when absent, with a line saying so.

use crate::run::{cargo, run};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};

/// Version of the test runner that is installed when there is none.
const NEXTEST_VERSION: &str = "^0.9";

fn answers(program: &str, arg: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(arg).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes sure that `cargo nextest` answers.
pub fn nextest() -> Result<()> {
    let mut probe = cargo(&["nextest", "--version"]);
    if probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("installing cargo-nextest, the test runner, from crates.io");
    run(&mut cargo(&["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION]))
}

/// Makes sure that nginx is there: the binary nobody here wrote, of `examples/hello`.
pub fn nginx() -> Result<()> {
    debian("/usr/sbin/nginx", "-v", &["nginx-light"])
}

/// Makes sure that user-mode-linux is there: a kernel with a true cgroup v2, as a process.
pub fn user_mode_linux() -> Result<()> {
    debian("linux.uml", "--version", &["user-mode-linux"])
}

/// Makes sure that a Redis is there: the slow lane is tested against the real one.
pub fn redis() -> Result<()> {
    debian("redis-server", "--version", &["redis-server"])
}

/// Installs Debian packages unless `program` answers to `arg`.
fn debian(program: &str, arg: &str, packages: &[&str]) -> Result<()> {
    if answers(program, arg) {
        return Ok(());
    }
    println!("installing {} from Debian, since {program} is not here", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        // A policy that starts no service: tests start their own, on free ports.
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdout(Stdio::null());
        run(&mut command)
    };
    apt(&["update", "-qq"]).context("apt-get is needed to install test tools (Debian or Ubuntu, as root)")?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend_from_slice(packages);
    apt(&install)
}
