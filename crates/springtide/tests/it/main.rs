//! The program as people and scripts meet it: its help, its exit codes, and a real server behind it.

mod help;
mod incident;
mod protect;
mod served;
mod usage;
mod watched;

use std::path::Path;
use std::process::{Command, Output};

/// The program, in a folder, without what the caller's environment says of servers.
fn springtide(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide"));
    command.current_dir(folder).args(args);
    for name in ["SPRINGTIDE_SERVER", "SPRINGTIDE_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end.
fn run(folder: &Path, args: &[&str]) -> Output {
    springtide(folder, args).output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
