//! A host lost in the middle of a step, and a proxy that dies: what is left is whole, and says what happened.

use crate::probe;
use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use model::{OperationPhase, StepName, StepState};
use springtide_bench::fleet::{self, Fleet, Guard};
use springtide_bench::load::Load;
use springtide_bench::machine::{self, Process};
use springtide_bench::manifests::{Probe, probes};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A probe that takes its time to start, so that a host can be lost meanwhile.
fn slow_manifests(fleet: &Fleet) -> Result<String> {
    let package = fleet.folder().join("slow");
    std::fs::create_dir_all(&package)?;
    std::fs::copy(fleet::built("red-packet")?, package.join("red-packet"))?;
    std::fs::write(package.join("run"), "#!/bin/sh\nsleep 2\nexec \"$SPRINGTIDE_PACKAGE/red-packet\" probe\n")?;
    std::fs::set_permissions(package.join("run"), PermissionsExt::from_mode(0o755))?;
    let probe = Probe { name: "probe", cpu: 0.1, config: r#"{"cpu_us": 200}"#, instances: &[1, 1], more: "" };
    let text = probes(&package, "1", &[probe]);
    Ok(text.replace("command: [red-packet, probe]", "command: [./run]"))
}

/// Kills everything that stands for a host: its agent, and all processes in its cgroups.
fn lose(fleet: &Fleet, host: &str) -> Result<()> {
    fleet.part("agent", Some(host)).context("the host has an agent")?.kill()?;
    let cgroup = format!("{}/{host}/", fleet.cgroup_part()?);
    let is_in = |process: &Process| {
        std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).is_ok_and(|text| text.contains(&cgroup))
    };
    let all = machine::processes(is_in);
    ensure!(all.len() >= 2, "an instance and its shim ran on {host}: {all:?}");
    // One that ends with another needs no signal.
    all.iter().for_each(|process| drop(process.kill()));
    Ok(())
}

#[tokio::test]
async fn a_host_lost_in_the_middle_of_a_start_leaves_nothing_half_done() -> Result<()> {
    let fleet = Fleet::start(&probe::SMALL).await?;
    fleet.apply(&slow_manifests(&fleet)?).await?;
    fleet.await_steady(90).await?;
    let load = Load::start(fleet.entry, "/probe/work", 100.0, 21);
    let request = OperationRequest::Scale { service: "probe".into(), to: Some(6), instances: Default::default() };
    let operation = fleet.client.open_operation(&request).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let steps = fleet.client.operation(operation.id.as_str()).await?.steps;
        if steps.iter().any(|step| step.name == StepName::Start && step.state == StepState::Running) {
            break;
        }
        ensure!(Instant::now() < deadline, "no start began: {steps:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fleet.set_revival(false)?;
    lose(&fleet, "host-b1")?;
    let ended = fleet.await_operation(operation.id.as_str(), 120).await?;
    ensure!(matches!(ended.phase, OperationPhase::RolledBack | OperationPhase::Failed), "{:?}", ended.phase);
    ensure!(ended.failures.iter().any(|why| why.contains("host host-b1 vanished")), "{:?}", ended.failures);
    let placed = fleet.client.instances(Some("probe"), None).await?;
    ensure!(placed.len() == 2, "placements of before stand, no others: {placed:#?}");
    ensure!(fleet.client.services().await?[0].wanted == 2, "the scale was taken back");
    let answer = reqwest::get(format!("http://{}/probe/work", fleet.entry)).await?;
    ensure!(answer.status().is_success(), "the host that is left serves: {}", answer.status());
    fleet.set_revival(true)?;
    // Until its agent is back, the last word of a lost host's instances stands.
    let deadline = Instant::now() + Duration::from_secs(60);
    while fleet.instance_processes().await?.len() != 2 {
        ensure!(Instant::now() < deadline, "instances: {:#?}", fleet.client.instances(None, None).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fleet.await_steady(60).await?;
    let folder = fleet.folder().to_string_lossy().into_owned();
    let all = machine::processes(|p| p.args.get(1).is_some_and(|word| word == "probe") && p.args[0].contains(&folder));
    ensure!(all.len() == 2, "processes: {all:?}");
    load.stop()?;
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

/// Waits until the entry answers well.
async fn await_served(fleet: &Fleet, seconds_max: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds_max);
    loop {
        let answer = reqwest::get(format!("http://{}/probe/work", fleet.entry)).await;
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not served within {seconds_max} s: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_killed_proxy_serves_again_from_its_last_good_state() -> Result<()> {
    let fleet = probe::fleet(2).await?;
    let before: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    let proxy = fleet.part("proxy", None).context("the proxy runs")?;
    await_served(&fleet, 10).await.context("before anything")?;
    proxy.kill()?;
    await_served(&fleet, 10).await.context("killed, with a server")?;
    fleet.await_steady(30).await?;
    // Without any server: what it saved (a third of a second after it heard it) is all it has.
    let saved = fleet.folder().join("proxy/routing.state");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = String::from_utf8_lossy(&std::fs::read(&saved)?).into_owned();
        if text.contains("/probe") && before.keys().all(|instance| text.contains(instance)) {
            break;
        }
        ensure!(Instant::now() < deadline, "{} does not hold the routes and endpoints", saved.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fleet.set_revival(false)?;
    let proxy = fleet.part("proxy", None).context("the proxy runs again")?;
    fleet.part("server", None).context("the server runs")?.kill()?;
    proxy.kill()?;
    let args = proxy.args.iter().skip(1).take_while(|word| *word != "--parent");
    let mut command = Command::new(fleet::program()?);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let by_hand = Guard(command.spawn()?);
    await_served(&fleet, 10).await.context("killed, without a server")?;
    for _ in 0..200 {
        let answer = reqwest::get(format!("http://{}/probe/work", fleet.entry)).await?;
        ensure!(answer.status().is_success(), "a request failed without a server: {}", answer.status());
    }
    ensure!(fleet.client.status().await.is_err(), "there is no server");
    drop(by_hand);
    fleet.set_revival(true)?;
    fleet.await_steady(60).await?;
    await_served(&fleet, 10).await?;
    let after: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    ensure!(before == after, "instances changed: {before:?} became {after:?}");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}
