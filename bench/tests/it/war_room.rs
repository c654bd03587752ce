//! The war room in a real browser, against a real fleet under traffic: everything an operator clicks on the night.

use crate::probe;
use anyhow::{Context, Result, ensure};
use api::http::{OperationOrder, OperationRequest};
use springtide_bench::fleet;
use springtide_bench::load::Load;
use std::path::Path;
use std::process::Command;

/// Requests a second of the live traffic.
const RATE: f64 = 60.0;
/// A rule that holds as long as there is traffic: an incident for certain, without waiting for a baseline.
const RULE: &str = "kind: AlertRule\nname: busy-probe\nexpression: requests(service=probe) > 1 for 1s\nseverity: warning\nsummary: probe is asked at all\n";
/// A service whose program ends at once: the operation that starts it is held.
fn broken() -> Result<String> {
    let program = fleet::built("red-packet")?;
    Ok(format!(
        "kind: Package\nname: broken\nversion: '1'\nsource: {}\ncommand: [red-packet, nobody]\n---\nkind: Service\nname: \
         broken\nbusiness: bench\nlayer: access\npackage: broken\nshape: {{cpu: 0.1, memory: 64MiB}}\nports: [http]\n\
         instances: {{dc-a: 0}}\n",
        program.display()
    ))
}

#[tokio::test]
async fn an_operator_clicks_through_the_night() -> Result<()> {
    let fleet = probe::fleet(1).await?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, 21);
    fleet.apply(RULE).await?;
    fleet.apply(&broken()?).await?;
    let request = OperationRequest::Scale { service: "broken".into(), to: Some(1), instances: Default::default() };
    let held = fleet.client.order_operation(&OperationOrder { request, hold: true }).await?;
    let ui = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ui"));
    ensure!(ui.join("dist/index.html").exists(), "the page is not built: cargo xtask ui");
    let shots = ui.join("../target/war-room");
    std::fs::create_dir_all(&shots)?;
    let token = std::fs::read_to_string(fleet.folder().join("server/api-token")).context("the API's token")?;
    let server = fleet.part("server", None).context("the server runs")?;
    let mut command = Command::new("node");
    command.arg("e2e/war-room.mjs").current_dir(ui);
    command.env("URL", format!("http://{}", fleet.http)).env("TOKEN", token.trim());
    command.env("HELD", held.id.as_str());
    command.env("SERVER_PID", server.pid.to_string()).env("SERVICE", "probe").env("SHOTS", &shots);
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "the browser's way through the room ended early:\n{said}");
    load.stop()?;
    ensure!(fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}
