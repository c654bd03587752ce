//! How the control plane itself is, and the audit.

use super::App;
use super::extract::{Json, Params};
use super::problem::{self, Failure};
use crate::audit as log;
use crate::clock::now_ms;
use crate::control_loop::world::World;
use api::http::{AuditEntry, Problem, Status};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use control::HostState;
use serde::Deserialize;

/// Audit entries in one answer where none are asked for.
const AUDIT_DEFAULT: usize = 100;
/// Audit entries in one answer at most.
const AUDIT_MAX: usize = 1_000;

/// The control plane at this moment.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<App>) -> Result<Json<Status>, Failure> {
    let detection_trouble = app.incidents.shown().trouble(now_ms());
    Ok(Json(Status { detection_trouble, ..app.control.read(view).await? }))
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
        trouble: world.trouble.clone(),
        detection_trouble: None,
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
    before: Option<u64>,
    #[serde(default)]
    words: String,
    limit: Option<usize>,
}

/// Says how far back a search has come: entries from this sequence on were looked at, earlier ones were not.
const SEARCHED_TO: &str = "x-searched-to";

/// Who changed what, oldest first: entries after one, the newest, or the newest before one that have certain words.
#[utoipa::path(get, path = "/v1/audit",
    params(("after" = Option<u64>, Query, description = "entries after this sequence; without it the newest"),
        ("before" = Option<u64>, Query, description = "the newest entries before this sequence"),
        ("words" = Option<String>, Query, description = "only entries that have each of these words somewhere; the header \
            x-searched-to says from which sequence on they were looked for: go on with it as `before`"),
        ("limit" = Option<usize>, Query, description = "at most this many, 1000 at most")),
    responses((status = 200, body = Vec<AuditEntry>), (status = 400, body = Problem)))]
pub async fn audit(State(app): State<App>, Params(page): Params<Page>) -> Result<Response, Failure> {
    let limit = page.limit.unwrap_or(AUDIT_DEFAULT).min(AUDIT_MAX);
    let records = app.records.clone();
    let backwards = page.before.is_some() || !page.words.trim().is_empty();
    if backwards && page.after.is_some() {
        return Err(problem::malformed(
            "after goes forwards, before and words go backwards: one of them would be right",
        ));
    }
    let read = tokio::task::spawn_blocking(move || match backwards {
        true => log::search(&records, page.before, &page.words, limit),
        false => log::list(&records, page.after, limit).map(|entries| (entries, 0)),
    });
    let read = read.await.map_err(|error| problem::internal(error.to_string()))?;
    let (entries, searched_to) = read.map_err(|error| problem::internal(error.to_string()))?;
    Ok(([(SEARCHED_TO, searched_to.to_string())], Json(entries)).into_response())
}
