//! Every command of the command line, run against a live fleet with `-o json`: what it prints is JSON and says what it should.
//!
//! That no command lacks the option is held by a test of `springtide` over its own command tree.

use crate::probe;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::load::Load;
use std::process::Command;

/// Requests a second of the live traffic: more than one instance of the probe can take, as a stress test needs.
const RATE: f64 = 150.0;
/// Two hosts in each datacenter, so that one can be drained.
const SIZE: Size = Size { hosts: 2, ..probe::SMALL };
/// What the business expects.
const EVENT: &str = "---\nkind: Event\nname: midnight\nbusiness: bench\nentry_requests_per_second: {probe: 100}\n";

/// Runs a command with `-o json`; it must end with one of these codes.
fn output(fleet: &Fleet, line: &str, codes: &[i32]) -> Result<String> {
    let mut command = Command::new(fleet::program()?);
    command.args(line.split_whitespace()).args(["-o", "json"]).current_dir(fleet.folder());
    let ended = command.env("SPRINGTIDE_SERVER", fleet.folder().join("springtide.sock")).output()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let code = ended.status.code().context("it ends by itself")?;
    ensure!(codes.contains(&code), "{line} ended with {code}:\n{text}{}", String::from_utf8_lossy(&ended.stderr));
    Ok(text)
}

fn json_of(fleet: &Fleet, line: &str, codes: &[i32]) -> Result<Value> {
    let text = output(fleet, line, codes)?;
    serde_json::from_str(&text).with_context(|| format!("{line} printed no JSON:\n{text}"))
}

/// Runs a command that must succeed and whose JSON must hold something at `pointer` (RFC 6901).
fn holds(fleet: &Fleet, line: &str, pointer: &str) -> Result<Value> {
    let value = json_of(fleet, line, &[0])?;
    let found = value.pointer(pointer).filter(|found| !found.is_null());
    found.with_context(|| format!("{line} has nothing at {pointer:?}:\n{value:#}"))?;
    Ok(value)
}

/// The id of the operation that a command opened.
fn opened(fleet: &Fleet, line: &str) -> Result<String> {
    let value = holds(fleet, line, "/id")?;
    Ok(value["id"].as_str().context("an id is text")?.to_owned())
}

/// Things that are, looked at in every way there is.
fn looked_at(fleet: &Fleet) -> Result<()> {
    for (line, pointer) in [
        ("get services", "/0/status/healthy"),
        ("get service probe", "/resource/name"),
        ("get hosts", "/0/status/state"),
        ("get instances", "/0/instance"),
        ("get operations", "/0/id"),
        ("get curves", ""),
        ("get regions", "/0/resource/name"),
        ("describe service probe", "/sections/0/rows"),
        ("describe host host-a1", "/title"),
        ("describe operation op-1", "/title"),
        ("top --once", "/services"),
        ("operation list", "/0/id"),
        ("operation show op-1", "/steps/0/name"),
        ("operation watch op-1", "/finished_at"),
        ("operation report op-1", "/html"),
        ("operation report op-1 --file report.html", "/file"),
        ("audit --limit 3", "/2/who"),
        ("audit --after 0 --limit 1", "/0/sequence"),
    ] {
        holds(fleet, line, pointer)?;
    }
    ensure!(std::fs::read_to_string(fleet.folder().join("report.html"))?.starts_with("<!doctype html>"), "a report");
    let findings = json_of(fleet, "doctor", &[0, 1])?;
    ensure!(findings[0]["check"] == "version", "{findings:#}");
    let logs = output(fleet, "logs probe-1 --tail 5", &[0])?;
    for line in logs.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("a line is no JSON: {line}"))?;
        ensure!(line["instance"] == "probe-1" && line["line"].is_string(), "{line}");
    }
    ensure!(!logs.is_empty(), "the probe says that it listens");
    Ok(())
}

/// Operations, opened and steered.
fn steered(fleet: &Fleet) -> Result<()> {
    holds(fleet, "scale probe --to 4", "/finished_at")?;
    let id = opened(fleet, "scale probe --to 6 --no-wait")?;
    ensure!(holds(fleet, &format!("operation pause {id}"), "/phase")?["phase"] == "paused", "{id} is paused");
    let resumed = holds(fleet, &format!("operation resume {id}"), "/phase")?;
    ensure!(resumed["phase"] == "running" || resumed["phase"] == "pending", "{id} goes on, or begins: {resumed}");
    holds(fleet, &format!("operation rollback {id}"), "/phase")?;
    // Its end is no success, and scripts must see that.
    output(fleet, &format!("operation watch {id}"), &[1])?;
    let drained = holds(fleet, "drain host-a1", "/finished_at")?;
    ensure!(drained["phase"] == "succeeded", "{drained:#}");
    holds(fleet, "undrain host-a1", "/id")?;
    Ok(())
}

#[tokio::test]
async fn every_command_speaks_json_against_a_live_fleet() -> Result<()> {
    let fleet = Fleet::start(&SIZE).await?;
    std::fs::write(fleet.folder().join("probe.yaml"), probe::manifests(1, 1)? + EVENT)?;
    let planned = holds(&fleet, "plan -f probe.yaml", "/changes/0/kind")?;
    let applied = holds(&fleet, "apply -f probe.yaml", "/revision")?;
    ensure!(planned["changes"] == applied["changes"], "apply does what plan says");
    looked_at(&fleet)?;
    steered(&fleet)?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, 1);
    let curve = holds(&fleet, "stress probe", "/capacity_rps/value")?;
    ensure!(load.stop()?.errors.total() == 0, "requests failed");
    ensure!(holds(&fleet, "curve probe", "/operation")? == curve, "the newest curve is the one just measured");
    holds(&fleet, "curve probe --all", "/0/operation")?;
    let sized = json_of(&fleet, "size midnight", &[0, 1])?;
    ensure!(sized["services"][0]["capacity_rps"].as_f64().is_some_and(|rps| rps > 0.0), "{sized:#}");
    let report = json_of(&fleet, &format!("load http://{}/probe/work --rps 20 --seconds 1", fleet.entry), &[0, 1])?;
    ensure!(report["offered"] == 20, "{report:#}");
    holds(&fleet, "delete event midnight --yes", "/revision")?;
    holds(&fleet, "delete service probe --yes", "/consequences/0")?;
    ensure!(json_of(&fleet, "get instances", &[0])? == Value::Array(Vec::new()), "delete waits for the last instance");
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}
