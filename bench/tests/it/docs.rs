//! The commands of the user guide, run in their order against a fleet as the guide stands one up.

use anyhow::{Context, Result, ensure};
use springtide_bench::fleet::{self, Fleet, Size, program};
use springtide_bench::load::Load;
use std::process::{Command, Stdio};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide.md");

/// The lines of the guide's shell blocks, comments cut, with the exit code that each promises (`# exits 1`, else 0).
fn commands(text: &str) -> Vec<(String, i32)> {
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
    let bank = Command::new(fleet::built("red-packet")?).arg("bank").stdout(Stdio::null()).spawn()?;
    let bank = fleet::Guard(bank);
    let mut load = None;
    for (command, code) in commands(&std::fs::read_to_string(GUIDE)?) {
        if command == "springtide dev" {
            continue;
        }
        if command.starts_with("springtide stress") {
            load = Some(Load::start(fleet.entry, "/draw", 60.0, 1));
        }
        let command = command.replace("examples/red-packet/manifests", &manifests.display().to_string());
        let command = command.replace("127.0.0.1:8080", &fleet.entry.to_string());
        let mut words = command.split_whitespace();
        ensure!(words.next() == Some("springtide"), "the guide runs something else: {command}");
        let output = Command::new(program()?)
            .args(words)
            .env("SPRINGTIDE_SERVER", fleet.folder().join("springtide.sock"))
            .stdin(Stdio::null())
            .output()
            .with_context(|| command.clone())?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(code), "{command} ended with {}:\n{said}", output.status);
        ensure!(!said.trim().is_empty(), "{command} printed nothing");
    }
    load.context("the guide has a stress test")?.stop()?;
    drop(bank);
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}
