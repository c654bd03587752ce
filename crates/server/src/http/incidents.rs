//! `/v1/incidents`: what is wrong; seen, looked after, silenced, and told of again.

use super::App;
use super::access::Who;
use super::extract::{Json, Params};
use super::problem::{self, Failure};
use crate::clock::now_ms;
use crate::incidents;
use api::http::{AuditEntry, Incident, Problem, SilenceRequest, SilenceResponse};
use axum::extract::{Path, State};
use control::{Commit, Write};
use model::{Life, keys};
use serde::Deserialize;
use serde_json::json;
use store::records::Kind;

/// Incidents in one answer where no number is asked for.
const LIMIT_DEFAULT: usize = 100;
/// Incidents in one answer at most.
const LIMIT_MAX: usize = 1_000;
/// Longest reason of a silence, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// Which incidents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    state: Option<String>,
    service: Option<String>,
    limit: Option<usize>,
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/v1/incidents",
    params(("state" = Option<String>, Query, description = "`open` (goes on, acknowledged or not), `ended`, or one state; without it all"),
        ("service" = Option<String>, Query, description = "only those that reach this service"),
        ("limit" = Option<usize>, Query, description = "at most this many, 1000 at most")),
    responses((status = 200, body = Vec<Incident>), (status = 400, body = Problem)))]
pub async fn list(State(app): State<App>, Params(filter): Params<Filter>) -> Result<Json<Vec<Incident>>, Failure> {
    let states: &[&str] = match filter.state.as_deref() {
        None | Some("all") => &["open", "acknowledged", "resolved", "merged"],
        Some("open") => &["open", "acknowledged"],
        Some("ended") => &["resolved", "merged"],
        Some("acknowledged") => &["acknowledged"],
        Some("resolved") => &["resolved"],
        Some("merged") => &["merged"],
        Some(other) => {
            let right = "open, acknowledged, ended, resolved, merged or all";
            return Err(problem::malformed(format!("there is no state {other:?}: use {right}")));
        }
    };
    let limit = filter.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let reaches = |of: &Incident| filter.service.as_ref().is_none_or(|service| of.services.contains(service));
    let shown = app.incidents.shown();
    let views = shown.incidents.values().rev().map(|told| &told.view);
    let found = views.filter(|of| states.contains(&of.state.as_str()) && reaches(of)).take(limit);
    Ok(Json(found.cloned().collect()))
}

fn find(app: &App, id: &str) -> Result<Incident, Failure> {
    let shown = app.incidents.shown();
    let number = id.strip_prefix("inc-").and_then(|digits| digits.parse::<u64>().ok());
    let found = number.and_then(|number| shown.incidents.get(&number)).map(|told| told.view.clone());
    found.ok_or_else(|| {
        problem::not_found(format!(
            "there is no incident {id:?}: `springtide incident list --all` shows those that are"
        ))
    })
}

/// One incident.
#[utoipa::path(get, path = "/v1/incidents/{id}", params(("id" = String, Path, description = "inc-7")),
    responses((status = 200, body = Incident), (status = 404, body = Problem)))]
pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Incident>, Failure> {
    find(&app, &id).map(Json)
}

/// Says that someone looks after an incident.
#[utoipa::path(post, path = "/v1/incidents/{id}/ack", params(("id" = String, Path, description = "inc-7")),
    responses((status = 200, body = Incident), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn acknowledge(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<Incident>, Failure> {
    let before = find(&app, &id)?;
    going_on(&before)?;
    let after = app.incidents.acknowledge(&id, &who).await?;
    let now = now_ms();
    let entry = AuditEntry {
        sequence: 0,
        at: now,
        who,
        revision: 0,
        what: format!("incident {id}"),
        before: json!({ "state": before.state, "acknowledged_by": before.acknowledged_by }),
        after: json!({ "state": after.state, "acknowledged_by": after.acknowledged_by }),
    };
    let bytes = serde_json::to_vec(&entry).expect("an audit entry is plain data");
    let records = app.records.clone();
    let kept = format!("ack-{id}-{}-{now}", after.change);
    let write = tokio::task::spawn_blocking(move || records.append(Kind::Audit, &kept, &bytes)).await;
    let written = write.map_err(|error| problem::internal(error.to_string()))?;
    written.map_err(|error| problem::internal(error.to_string()))?;
    Ok(Json(after))
}

fn going_on(incident: &Incident) -> Result<(), Failure> {
    match (&incident.merged_into, incident.ended_at) {
        (Some(into), _) => Err(problem::conflict(format!("{} is part of {into}: name that one", incident.id))),
        (None, Some(_)) => Err(problem::conflict(format!("{} has ended by itself", incident.id))),
        (None, None) => Ok(()),
    }
}

/// Silences an incident and the services that it reaches, until an end: nobody is told of it meanwhile, whatever it reaches
/// later, and when it ends or comes back.
#[utoipa::path(post, path = "/v1/incidents/{id}/silence", params(("id" = String, Path, description = "inc-7")),
    request_body = SilenceRequest, responses((status = 200, body = SilenceResponse), (status = 400, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn silence(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
    Json(request): Json<SilenceRequest>,
) -> Result<Json<SilenceResponse>, Failure> {
    let incident = find(&app, &id)?;
    going_on(&incident)?;
    let life: Life = request.r#for.parse().map_err(|error: model::UnitError| problem::malformed(error.to_string()))?;
    if request.reason.len() > REASON_BYTES_MAX {
        return Err(problem::malformed(format!("reason: at most {REASON_BYTES_MAX} bytes")));
    }
    let reason = if request.reason.is_empty() { format!("incident {id}, by {who}") } else { request.reason };
    let until = now_ms() + life.ms();
    let silences = incidents::silences(&incident, &reason, until);
    if silences.is_empty() {
        return Err(problem::unprocessable(format!(
            "{id} reaches no service: there is nothing that could be silenced"
        )));
    }
    let ids = silences.iter().map(|silence| silence.id.to_string()).collect();
    let decided = app.control.decide(move |world, _| {
        let mut commit = Commit { who: who.clone(), ..Commit::default() };
        for silence in &silences {
            let key = keys::silence(&silence.id);
            let known = world.snapshot.silences.get(&silence.id).map_or(0, |at| at.revision);
            commit.guards.push((key.clone(), known));
            let value = serde_json::to_vec(silence).expect("a silence is plain data");
            commit.writes.push(Write { key, value: Some(value) });
        }
        Ok((commit, ()))
    });
    let (revision, ()) = decided.await?;
    Ok(Json(SilenceResponse { revision, silences: ids, until }))
}

/// Ends an incident's silences before their time, of one that has ended itself too: they would keep others quiet.
#[utoipa::path(delete, path = "/v1/incidents/{id}/silence", params(("id" = String, Path, description = "inc-7")),
    responses((status = 200, body = SilenceResponse), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn unsilence(
    State(app): State<App>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<SilenceResponse>, Failure> {
    let incident = find(&app, &id)?;
    let decided = app.control.decide(move |world, now| {
        let silences = world.snapshot.silences.values();
        let ours = silences.filter(|at| at.value.until > now && incidents::is_of(&at.value, &incident.id));
        let (mut commit, mut ids) = (Commit { who: who.clone(), ..Commit::default() }, Vec::new());
        for at in ours {
            let key = keys::silence(&at.value.id);
            commit.guards.push((key.clone(), at.revision));
            commit.writes.push(Write { key, value: None });
            ids.push(at.value.id.to_string());
        }
        if ids.is_empty() {
            return Err(problem::conflict(format!("{} is not silenced: there is nothing to end", incident.id)));
        }
        Ok((commit, (ids, now)))
    });
    let (revision, (silences, until)) = decided.await?;
    Ok(Json(SilenceResponse { revision, silences, until }))
}
