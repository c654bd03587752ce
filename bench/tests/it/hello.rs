//! The page of `examples/hello`: its commands, run in their order, package, apply, stress and scale Debian's own nginx.

use crate::docs::commands;
use anyhow::{Context, Result, ensure};
use springtide_bench::fleet::{self, Fleet, Guard, Size};
use std::path::Path;
use std::process::{Command, Stdio};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello");
const NGINX: &str = "/usr/sbin/nginx";

/// A copy of the example's folder, where the page's commands may write.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// A line of the page, as a shell runs it in a folder that has `examples/hello`, against this fleet.
fn shell(fleet: &Fleet, line: &str) -> Result<Command> {
    let programs = fleet::program()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.parent().context("a program lies in a folder")?.display());
    let line = line.replace("127.0.0.1:8080", &fleet.entry.to_string());
    let mut command = Command::new("sh");
    // The shell must not stand between us and a program that we stop.
    command.args(["-c", &format!("exec {line}")]).current_dir(fleet.folder()).env("PATH", path);
    command.env("SPRINGTIDE_SERVER", fleet.folder().join("springtide.sock")).stdin(Stdio::null());
    Ok(command)
}

fn run(fleet: &Fleet, line: &str, code: i32) -> Result<String> {
    let output = shell(fleet, line)?.output().with_context(|| line.to_owned())?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(code), "{line} ended with {}:\n{said}", output.status);
    Ok(said)
}

/// Each instance's program is the package's copy of Debian's binary, byte for byte, and not the host's file.
async fn runs_from_the_package(fleet: &Fleet, count: usize) -> Result<()> {
    let processes = fleet.instance_processes().await?;
    ensure!(processes.len() == count, "{count} instances run: {processes:?}");
    let debian = std::fs::read(NGINX)?;
    for (instance, process) in processes {
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid))?;
        ensure!(program.starts_with(fleet.folder()) && program.ends_with("bin/nginx"), "{instance} runs {program:?}");
        ensure!(std::fs::read(&program)? == debian, "{instance} runs other bytes than Debian's");
    }
    Ok(())
}

#[tokio::test]
async fn debian_s_nginx_is_packaged_applied_stressed_and_scaled_as_the_page_says() -> Result<()> {
    ensure!(Path::new(NGINX).exists(), "{NGINX} is not here: `cargo xtask test` installs it (nginx-light)");
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 3, cpu: "2", memory: "2GiB" }).await?;
    copy(&Path::new(EXAMPLE).join("manifests"), &fleet.folder().join("examples/hello/manifests"))?;
    copy(&Path::new(EXAMPLE).join("package/site"), &fleet.folder().join("examples/hello/package/site"))?;
    let mut background = Vec::new();
    for (line, code) in commands(&std::fs::read_to_string(Path::new(EXAMPLE).join("README.md"))?) {
        if line == "springtide dev" {
            continue;
        }
        if let Some(line) = line.strip_suffix(" &") {
            background.push(Guard(shell(&fleet, line)?.spawn()?));
            continue;
        }
        let said = run(&fleet, &line, code)?;
        match line.as_str() {
            line if line.starts_with("springtide plan") => ensure!(said.contains("+ Service hello"), "{said}"),
            line if line.starts_with("curl") => {
                ensure!(said.contains("Hello from an nginx") && said.contains("x-instance: hello-"), "{said}");
                ensure!(said.to_lowercase().contains("server: nginx"), "{said}");
                runs_from_the_package(&fleet, 2).await?;
            }
            "springtide stress hello" => {
                let curve = fleet.client.curves(Some("hello")).await?.into_iter().next().context("it left a curve")?;
                println!("an nginx of {} carries {:.0} requests/s", curve.shape, curve.capacity_rps.value);
                ensure!(curve.capacity_rps.value > 20.0 && curve.errors == 0, "{curve:?}");
            }
            "springtide scale hello --to 4" => runs_from_the_package(&fleet, 4).await?,
            "springtide delete service hello --yes" => {
                fleet.await_steady(60).await?;
                runs_from_the_package(&fleet, 0).await?;
            }
            _ => {}
        }
        if line == "springtide get instances" && background.len() == 1 {
            a_changed_word_replaces_them(&fleet)?;
            runs_from_the_package(&fleet, 4).await?;
        }
    }
    ensure!(background.len() == 1, "the page sends load");
    drop(background);
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

/// What the page says in words: a word of the page changes, and `apply` rolls it through.
fn a_changed_word_replaces_them(fleet: &Fleet) -> Result<()> {
    let page = fleet.folder().join("examples/hello/package/site/index.html");
    let text = std::fs::read_to_string(&page)?;
    std::fs::write(&page, text.replace("Hello from an nginx", "Good evening from an nginx"))?;
    run(fleet, "springtide apply -f examples/hello/manifests", 0)?;
    let said = run(fleet, "curl -s http://127.0.0.1:8080/hello", 0)?;
    ensure!(said.contains("Good evening from an nginx"), "{said}");
    Ok(())
}
