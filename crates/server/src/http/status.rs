//! How the control plane itself is, and the audit.

use super::App;
use super::extract::{Json, Params};
use super::problem::{self, Failure};
use crate::audit as log;
use crate::control_loop::world::World;
use api::http::{AuditEntry, Status};
use axum::extract::State;
use control::HostState;
use serde::Deserialize;

/// Audit entries in one answer where none are asked for.
const AUDIT_DEFAULT: usize = 100;
/// Audit entries in one answer at most.
const AUDIT_MAX: usize = 1_000;

/// The control plane at this moment.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<App>) -> Result<Json<Status>, Failure> {
    Ok(Json(app.control.read(view).await?))
}

fn view(world: &World) -> Status {
    let connected = world.observed.hosts.values().filter(|host| host.state == HostState::Connected).count();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: world.snapshot.revision,
        hosts_connected: connected as u32,
        hosts: world.snapshot.hosts().count() as u32,
        proxies: world.links.proxies.len() as u32,
        operations_open: world.snapshot.operations.values().filter(|at| !at.value.phase.is_final()).count() as u32,
        settled: world.observed.settled,
        entry_address: world.links.entry().map(str::to_owned),
        started_at: world.started_at,
    }
}

/// Whether the control loop answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String), (status = 500)))]
pub async fn healthz(State(app): State<App>) -> Result<&'static str, Failure> {
    app.control.read(|_| ()).await?;
    Ok("ok\n")
}

/// Which entries of the audit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

/// Who changed what, oldest first: entries after one, or the newest.
#[utoipa::path(get, path = "/v1/audit",
    params(("after" = Option<u64>, Query, description = "entries after this sequence; without it the newest"),
        ("limit" = Option<usize>, Query, description = "at most this many, 1000 at most")),
    responses((status = 200, body = Vec<AuditEntry>)))]
pub async fn audit(State(app): State<App>, Params(page): Params<Page>) -> Result<Json<Vec<AuditEntry>>, Failure> {
    let limit = page.limit.unwrap_or(AUDIT_DEFAULT).min(AUDIT_MAX);
    let records = app.records.clone();
    let read = tokio::task::spawn_blocking(move || log::list(&records, page.after, limit)).await;
    let read = read.map_err(|error| problem::internal(error.to_string()))?;
    read.map(Json).map_err(|error| problem::internal(error.to_string()))
}
