//! The commands of the user guide, run in their order against a fleet as the guide stands one up.

use anyhow::{Context, Result, ensure};
use springtide_bench::fleet::{self, Fleet, Guard, Size};
use std::process::{Command, Stdio};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide.md");

/// The lines of a page's shell blocks, comments cut, with the exit code that each promises (`# exits 1`, else 0).
pub fn commands(text: &str) -> Vec<(String, i32)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
        let code = comment.trim().strip_prefix("exits ").and_then(|rest| rest[..1].parse().ok()).unwrap_or(0);
        if inside && !command.trim().is_empty() {
            found.push((command.trim().to_owned(), code));
        }
    }
    found
}

#[tokio::test]
async fn every_command_of_the_guide_works() -> Result<()> {
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 3, cpu: "2", memory: "2GiB" }).await?;
    let manifests = fleet.copy_example("red-packet")?;
    let mut background = Vec::new();
    for (line, code) in commands(&std::fs::read_to_string(GUIDE)?) {
        if line == "springtide dev" {
            continue;
        }
        let line = line.replace("examples/red-packet/manifests", &manifests.display().to_string());
        let line = line.replace("127.0.0.1:8080", &fleet.entry.to_string());
        // Its verdict on a machine that does other work at the same time is not what is tried out.
        let line = line.replacen("springtide load ", "springtide load --lag-ms 60000 ", 1);
        let mut command = command(&fleet, line.trim_end_matches(" &"))?;
        if line.ends_with(" &") {
            background.push(Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
            continue;
        }
        let output = command.output().with_context(|| line.clone())?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(code), "{line} ended with {}:\n{said}", output.status);
        ensure!(!said.trim().is_empty(), "{line} printed nothing");
    }
    ensure!(background.len() == 2, "the guide starts a bank and a load");
    drop(background);
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

/// A line of the guide, as a shell would start it beside this fleet.
fn command(fleet: &Fleet, line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a line is not empty")?;
    ensure!(["springtide", "red-packet"].contains(&program), "the guide runs something else: {line}");
    let mut command = Command::new(fleet::built(program)?);
    command.args(words).env("SPRINGTIDE_SERVER", fleet.folder().join("springtide.sock")).stdin(Stdio::null());
    Ok(command)
}
