//! The springtide program: one binary for the control plane, the agents, the proxies and the people.

mod cmd;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

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
        Command::Shim(args) => return cmd::run::shim(args),
        Command::Client(command) => return springtide::client::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide: {error:#}");
            ExitCode::FAILURE
        }
    }
}
