//! The springtide program: one binary for the control plane, the agents, the proxies and the people.

mod cmd;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The allocator that serves the proxy best (docs/adr/0004-proxy-on-hyper.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Capacity operations for services that meet their whole year's crowd in one night.
#[derive(Parser)]
#[command(name = "springtide", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(cmd::dev::Args),
    Server(cmd::run::ServerArgs),
    Agent(cmd::run::AgentArgs),
    Proxy(cmd::run::ProxyArgs),
    Shim(cmd::run::ShimArgs),
    #[command(flatten)]
    Client(springtide::client::Command),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev(args) => cmd::dev::main(args),
        Command::Server(args) => cmd::run::server(args),
        Command::Agent(args) => cmd::run::agent(args),
        Command::Proxy(args) => cmd::run::proxy(args),
        Command::Shim(args) => cmd::run::shim(args),
        Command::Client(command) => return springtide::client::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; a cause that its effect already tells is not told twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("no such file").context("cannot make /x: no such file").context("cannot start");
        assert_eq!(told(&error), "cannot start: cannot make /x: no such file");
    }
}
