//! An incident on a real fleet: an instance that dies again and again is found, named, shown and looked after.

use crate::probe;
use anyhow::{Context, Result, bail, ensure};
use api::http::Incident;
use springtide_bench::fleet::Fleet;
use springtide_bench::load::Load;
use std::time::{Duration, Instant};

/// Instances in each of two datacenters.
const EACH: u32 = 3;
/// Requests a second at the entry.
const RPS: f64 = 240.0;
/// Time for detection to know the fleet, and to find what is wrong with it.
const WAIT_SECONDS_MAX: u64 = 60;

/// Kills the process of an instance whenever it lives, until an incident is there.
async fn kill_until_found(fleet: &Fleet, instance: &str) -> Result<Incident> {
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while Instant::now() < deadline {
        for (id, process) in fleet.instance_processes().await? {
            if id == instance {
                // It may have ended by itself meanwhile.
                let _ = process.kill();
            }
        }
        let open = fleet.client.incidents(&[("state", "open".to_owned())]).await?;
        let named = |of: &&Incident| of.causes.first().is_some_and(|cause| cause.entity == instance);
        if let Some(found) = open.iter().find(named) {
            return Ok(found.clone());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no incident names {instance}: {:#?}", fleet.client.incidents(&[]).await?)
}

/// Seconds that detection has looked at.
async fn frames(fleet: &Fleet) -> Result<f64> {
    let text = fleet.client.metrics().await?;
    let line = text.lines().find_map(|line| line.strip_prefix("springtide_detect_frames_total "));
    Ok(line.map_or(Ok(0.0), str::parse)?)
}

#[tokio::test]
async fn an_instance_that_dies_is_an_incident_that_names_it() -> Result<()> {
    let fleet = Fleet::start_with(&probe::SMALL, &["--detect-warm-s", "10"]).await?;
    fleet.apply(&probe::manifests(EACH, 1)?).await?;
    fleet.await_steady(60).await?;
    let load = Load::start(fleet.entry, "/probe/work", RPS, 7);
    let placed = fleet.client.instances(Some("probe"), None).await?;
    let victim = placed.first().context("instances are placed")?.instance.to_string();
    let known = frames(&fleet).await? + 14.0;
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while frames(&fleet).await? < known {
        ensure!(Instant::now() < deadline, "detection looks at too few seconds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = kill_until_found(&fleet, &victim).await?;
    ensure!(found.services == ["probe"], "{found:#?}");

    let shown = fleet.cli(&["incident", "show", &found.id])?;
    for part in ["PROBABLE CAUSES", "WHAT MAY HELP", &format!("instance {victim}"), "springtide logs"] {
        ensure!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    fleet.cli(&["incident", "ack", &found.id])?;
    let listed = fleet.cli(&["incident", "list"])?;
    ensure!(listed.contains(&found.id) && listed.contains("acknowledged"), "{listed}");
    let audit = fleet.cli(&["audit"])?;
    ensure!(audit.contains(&format!("incident {}", found.id)), "{audit}");
    load.stop()?;
    Ok(())
}
