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
    use clap::CommandFactory;

    /// Commands that print nothing a program would read, and why.
    const WITHOUT_JSON: &[(&str, &str)] = &[
        ("dev", "runs until it is stopped; what it started is asked through the API"),
        ("server", "runs until it is stopped and writes a log; server.json tells programs where it listens"),
        ("agent", "runs until it is stopped and writes a log"),
        ("proxy", "runs until it is stopped and writes a log"),
    ];

    /// Every command a person can see that has none below it, by its words.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let path = format!("{path} {}", below.get_name()).trim_start().to_owned();
            match below.has_subcommands() {
                true => leaves(below, &path, found),
                false => found.push((path, below.clone())),
            }
        }
    }

    #[test]
    fn every_command_shows_an_example_of_itself_and_speaks_json() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 20, "{} commands", found.len());
        for (path, command) in &found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`{path} --help` has no example");
            assert!(help.contains(&format!("springtide {path}")), "`{path} --help` shows another command:\n{help}");
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "`{path}` does not say what it does");
            let output = command.get_arguments().find(|arg| arg.get_short() == Some('o'));
            let speaks =
                output.is_some_and(|arg| arg.get_possible_values().iter().any(|value| value.matches("json", false)));
            let excepted = WITHOUT_JSON.iter().any(|(name, _)| name == path);
            assert_ne!(
                speaks,
                excepted,
                "`{path}` has{} -o json: mend it, or the exceptions",
                if speaks { "" } else { " no" }
            );
        }
        for (name, _) in WITHOUT_JSON {
            assert!(found.iter().any(|(path, _)| path == name), "the exception `{name}` is no command");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("no such file").context("cannot make /x: no such file").context("cannot start");
        assert_eq!(told(&error), "cannot start: cannot make /x: no such file");
    }
}
