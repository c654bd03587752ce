//! A service's life under live traffic: deployed, scaled, rolled through, drained; and every part of Springtide killed.

use crate::probe;
use crate::shares;
use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use model::OperationSpec;
use springtide_bench::fleet::{self, Fleet};
use springtide_bench::load::Load;
use springtide_bench::machine;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Requests a second of the live traffic.
const RATE: f64 = 150.0;

async fn scale(fleet: &Fleet, to: u32) -> Result<()> {
    let request = OperationRequest::Scale { service: "probe".into(), to: Some(to), instances: Default::default() };
    let operation = fleet.client.open_operation(&request).await?;
    fleet::succeeded(&fleet.await_operation(operation.id.as_str(), 90).await?)
}

/// Traffic that no change may disturb: stops with the proof.
fn undisturbed(load: Load) -> Result<()> {
    let report = load.stop()?;
    ensure!(report.done > 100, "only {} requests were answered", report.done);
    ensure!(report.errors.total() == 0, "requests failed: {:?}", report.errors);
    Ok(())
}

#[tokio::test]
async fn scaled_out_and_in_under_traffic_without_an_error() -> Result<()> {
    let fleet = probe::fleet(1).await?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, 1);
    scale(&fleet, 6).await?;
    ensure!(fleet.instance_processes().await?.len() == 6, "six processes run");
    scale(&fleet, 2).await?;
    fleet.await_steady(30).await?;
    undisturbed(load)?;
    fleet.apply(&probe::manifests(1, 1)?).await?;
    ensure!(fleet.client.services().await?[0].wanted == 2, "apply of the same manifests reverted a scale");
    let left = fleet.stop().await?;
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

#[tokio::test]
async fn a_changed_config_rolls_through_without_an_error() -> Result<()> {
    let fleet = probe::fleet(2).await?;
    let before = fleet.instance_processes().await?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, 2);
    fleet.apply(&probe::manifests(2, 2)?).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let rollout = loop {
        let operations = fleet.client.operations().await?;
        if let Some(found) = operations.into_iter().find(|o| matches!(o.spec, OperationSpec::Rollout { .. })) {
            break found;
        }
        ensure!(Instant::now() < deadline, "no rollout began");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    fleet::succeeded(&fleet.await_operation(rollout.id.as_str(), 240).await?)?;
    fleet.await_steady(30).await?;
    undisturbed(load)?;
    ensure!(before.iter().all(|(_, process)| !process.lives()), "an instance with the old config still runs");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}

#[tokio::test]
async fn whatever_dies_the_instances_run_on_and_the_traffic_flows() -> Result<()> {
    let fleet = probe::fleet(2).await?;
    let before: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    ensure!(before.len() == 4, "four instances run");
    let load = Load::start(fleet.entry, "/probe/work", RATE, 3);
    for (part, host) in [("server", None), ("agent", Some("host-a1")), ("server", None), ("agent", Some("host-b1"))] {
        let dead = fleet.part(part, host).context("the part runs")?;
        dead.kill()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while fleet.part(part, host).is_none_or(|next| next.pid == dead.pid) {
            ensure!(Instant::now() < deadline, "{part} did not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fleet.await_steady(30).await?;
    }
    undisturbed(load)?;
    let after: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    ensure!(before == after, "instances changed: {before:?} became {after:?}");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}

#[tokio::test]
async fn a_drained_host_is_empty_and_takes_instances_again_when_undrained() -> Result<()> {
    let size = fleet::Size { hosts: 2, ..probe::SMALL };
    let fleet = Fleet::start(&size).await?;
    fleet.apply(&probe::manifests(2, 1)?).await?;
    fleet.await_steady(60).await?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, 4);
    let operation = fleet.client.open_operation(&OperationRequest::Drain { host: "host-a1".into() }).await?;
    fleet::succeeded(&fleet.await_operation(operation.id.as_str(), 90).await?)?;
    ensure!(fleet.client.instances(None, Some("host-a1")).await?.is_empty(), "the drained host still has instances");
    ensure!(fleet.client.instances(Some("probe"), None).await?.len() == 4, "instances were lost by the drain");
    undisturbed(load)?;
    fleet.client.open_operation(&OperationRequest::Undrain { host: "host-a1".into() }).await?;
    let host = fleet.client.hosts().await?.into_iter().find(|host| host.name == "host-a1").context("it is listed")?;
    ensure!(!host.cordoned, "the host is still cordoned");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}

#[tokio::test]
async fn dev_killed_hard_leaves_the_instances_and_the_next_dev_adopts_them() -> Result<()> {
    let mut fleet = probe::fleet(1).await?;
    let before: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    fleet.kill_dev_and_start_again().await?;
    fleet.await_steady(60).await?;
    let after: BTreeMap<_, _> = fleet.instance_processes().await?.into_iter().collect();
    ensure!(before == after, "instances changed: {before:?} became {after:?}");
    let part = fleet.cgroup_part()?;
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    ensure!(machine::cgroups(&part).is_empty(), "slices were left behind");
    Ok(())
}

#[tokio::test]
async fn a_stress_test_finds_a_capacity_and_its_override_lapses_with_the_server() -> Result<()> {
    let fleet = probe::costly_fleet().await?;
    let load = Load::start(fleet.entry, "/probe/work", probe::COSTLY_RPS, 5);
    let request = OperationRequest::Stress { service: "probe".into(), instance: None, duration_ms_max: Some(20_000) };
    let operation = fleet.client.open_operation(&request).await?;
    fleet::succeeded(&fleet.await_operation(operation.id.as_str(), 60).await?)?;
    let curve = fleet.client.curves(Some("probe")).await?.into_iter().next().context("the test left a curve")?;
    ensure!(curve.capacity_rps.value > 10.0 && curve.cpu_us_per_request.value > 100.0, "{curve:?}");
    ensure!(fleet.client.curve_svg(operation.id.as_str()).await?.starts_with("<svg"), "the curve can be drawn");
    let endpoints = shares::endpoints(&fleet).await?;
    let second = fleet.client.open_operation(&request).await?;
    shares::await_moved(&endpoints, 10).await?;
    fleet.part("server", None).context("the server runs")?.kill()?;
    let moved = shares::last_moved(&endpoints, Instant::now(), Duration::from_secs(8)).await?;
    ensure!(moved <= Duration::from_secs(5), "traffic was still moved {moved:?} after the server's death");
    let ended = fleet.await_operation(second.id.as_str(), 30).await?;
    ensure!(fleet::succeeded(&ended).is_err(), "an interrupted stress test ended as if it had succeeded");
    ensure!(load.stop()?.errors.total() == 0, "requests failed");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}
