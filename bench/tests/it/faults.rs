//! Bad input and faults: one clear error each (what, where, what to do), nothing half-done, nothing lost.

use crate::probe;
use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use model::OperationPhase;
use springtide_bench::fleet::{self, Fleet, program};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn apply(fleet: &Fleet, manifests: &str) -> Result<Output> {
    let file = fleet.folder().join("bad.yaml");
    std::fs::write(&file, manifests)?;
    let socket = fleet.folder().join("springtide.sock");
    let mut command = Command::new(program()?);
    Ok(command.args(["apply", "--no-wait", "-f"]).arg(file).env("SPRINGTIDE_SERVER", socket).output()?)
}

const HEAD: &str = "kind: Business\nname: shop\n---\n";

fn service(name: &str, more: &str) -> String {
    format!(
        "kind: Service\nname: {name}\nbusiness: shop\nlayer: logic\npackage: probe\nshape: 0.1C64M\nports: [http]\ninstances: {{dc-a: 1}}\n{more}"
    )
}

#[tokio::test]
async fn bad_manifests_name_file_line_and_field_and_change_nothing() -> Result<()> {
    let fleet = probe::fleet(1).await?;
    let before = fleet.client.status().await?.revision;
    let cycle = format!(
        "{HEAD}{}---\n{}",
        service("a", "dependencies: [{on: b}]\n"),
        service("b", "dependencies: [{on: a}]\n")
    );
    let cases: Vec<(String, &[&str])> = vec![
        ("kind: Service\nname: [".into(), &["bad.yaml:"]),
        (format!("{HEAD}{}", service("a", "instnaces: {dc-a: 2}\n")), &["bad.yaml:12", "instnaces", "instances"]),
        (format!("{HEAD}{}", service("a", "per_host_max: lots\n")), &["bad.yaml:12", "per_host_max"]),
        (cycle, &["bad.yaml:", "dependencies", "a", "b"]),
        (
            format!("{HEAD}{}", service("a", "persistent_paths: [/data]\n")),
            &["bad.yaml:12", "persistent_paths", "logic"],
        ),
        (format!("{HEAD}{}", service("a", "config: nowhere\n")), &["bad.yaml:12", "config", "nowhere"]),
        (
            format!(
                "{HEAD}kind: ConfigSet\nname: c\nfiles:\n  c.txt: 'x=${{MISSING_ONE}}'\n---\n{}",
                service("a", "config: c\n")
            ),
            &["bad.yaml:", "MISSING_ONE"],
        ),
        (
            format!(
                "kind: Package\nname: wrong\nversion: '1'\nsource: {}\ndigest: sha256:{}\ncommand: [x]\n",
                fleet::built("red-packet")?.display(),
                "0".repeat(64)
            ),
            &["bad.yaml:", "digest", "sha256:"],
        ),
    ];
    for (manifests, wanted) in cases {
        let output = apply(&fleet, &manifests)?;
        let said = text(&output);
        ensure!(output.status.code() == Some(2), "exit code {:?} for:\n{manifests}\n{said}", output.status.code());
        for part in wanted {
            ensure!(said.contains(part), "{part:?} is not in what was said of:\n{manifests}\n{said}");
        }
    }
    ensure!(fleet.client.status().await?.revision == before, "a refused apply changed the store");
    Ok(())
}

#[tokio::test]
async fn a_second_dev_on_the_same_folder_is_refused_by_name() -> Result<()> {
    let fleet = Fleet::start(&probe::SMALL).await?;
    let output = Command::new(program()?).args(["dev", "--data"]).arg(fleet.folder()).output()?;
    let said = text(&output);
    ensure!(!output.status.success() && said.contains("in use by another `springtide dev`"), "{said}");
    ensure!(fleet.client.status().await?.settled, "the first one was disturbed");
    Ok(())
}

#[tokio::test]
async fn without_permission_to_make_slices_the_agent_says_what_to_grant() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let open = |path: &Path| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777));
    open(folder.path())?;
    let (binary, token) = (folder.path().join("springtide"), folder.path().join("token"));
    std::fs::copy(program()?, &binary)?;
    std::fs::write(&token, "t")?;
    let mut agent = Command::new(&binary);
    agent.args(["agent", "--host", "h", "--data"]).arg(folder.path().join("data")).arg("--token-file").arg(token);
    std::os::unix::process::CommandExt::uid(&mut agent, 65_534);
    std::os::unix::process::CommandExt::gid(&mut agent, 65_534);
    let output = agent.output()?;
    let said = text(&output);
    ensure!(!output.status.success(), "an agent without permission ran on:\n{said}");
    ensure!(said.contains("Delegate=yes") && said.contains("--isolation none"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_host_that_vanishes_mid_operation_is_named_and_what_was_begun_is_undone() -> Result<()> {
    let fleet = probe::fleet(1).await?;
    fleet.set_revival(false)?;
    let agent = fleet.part("agent", Some("host-b1")).context("the host has an agent")?;
    agent.kill()?;
    let request = OperationRequest::Scale { service: "probe".into(), to: Some(4), instances: Default::default() };
    let operation = fleet.client.open_operation(&request).await?;
    let ended = fleet.await_operation(operation.id.as_str(), 120).await?;
    ensure!(matches!(ended.phase, OperationPhase::RolledBack | OperationPhase::Failed), "{:?}", ended.phase);
    ensure!(ended.failures.iter().any(|failure| failure.contains("host-b1")), "{:?}", ended.failures);
    fleet.set_revival(true)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while fleet.instance_processes().await?.len() != 2 {
        ensure!(Instant::now() < deadline, "instances: {:?}", fleet.client.instances(None, None).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_owner() -> Result<()> {
    let fleet = Fleet::start(&probe::SMALL).await?;
    let host = fleet.client.resource("Host", "host-a1").await?.resource;
    let model::Resource::Host(host) = host else { anyhow::bail!("a Host is a Host") };
    let taken = std::net::TcpListener::bind((host.address, 20_000))?;
    fleet.apply(&probe::manifests(1, 1)?).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let instances = fleet.client.instances(Some("probe"), None).await?;
        if instances.iter().any(|instance| instance.message.contains("20000") && instance.message.contains("in use")) {
            break;
        }
        ensure!(Instant::now() < deadline, "nothing says that the port is in use: {instances:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(taken);
    fleet.await_steady(90).await
}
