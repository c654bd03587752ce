//! Dry run: the proxies count over their samples, here the counts are laid together and scaled.

use super::*;
use crate::control_loop::Input;
use crate::fleet::FleetInput;
use crate::policies::PoliciesPut;
use crate::policies::questions::Open;
use api::fleet::{DryRunFindings, DryRunRequest, proxy_down};
use api::http::{DryRunAnswer, DryRunEffect, DryRunQuestion, Estimate};
use policy::dry_run::{Effect, Estimated, Findings, Row, estimate};
use std::collections::BTreeSet;
use tokio::sync::oneshot;

/// Time in which proxies are to answer.
const ANSWER_MS_MAX: u64 = 3_000;
/// Policies asked about at once.
const ASKED_MAX: usize = 64;
/// Life of the policies while they are only asked about.
const LIFE: &str = "1h";

/// What policies would have done to the requests of the last minutes, beside those in force.
#[utoipa::path(post, path = "/v1/protect/dry-run", request_body = DryRunQuestion, responses(
    (status = 200, body = DryRunAnswer), (status = 422, body = Problem)))]
pub async fn dry_run(
    State(app): State<App>,
    Json(question): Json<DryRunQuestion>,
) -> Result<Json<DryRunAnswer>, Failure> {
    let mut asked = asked(&app, question).await?;
    if asked.is_empty() || asked.len() > ASKED_MAX {
        let count = asked.len();
        return Err(problem::unprocessable(format!("{count} policies; a dry run is of 1 to {ASKED_MAX}")));
    }
    policy::sort(&mut asked);
    let names: Vec<String> = asked.iter().map(|policy| policy.name.to_string()).collect();
    let busy = || problem::unavailable("many dry runs are at work: ask again in a second");
    let mut open = app.protect.dry_runs.open().ok_or_else(busy)?;
    let proxies = app.protect.enforcers.proxies(Instant::now());
    let candidates = asked.clone();
    let put = app.control.read(move |world| {
        let mut put = PoliciesPut::of(&world.snapshot, BTreeMap::new(), now_ms()).and(&candidates);
        put.proxies = proxies;
        put.message(now_ms())
    });
    let request = DryRunRequest { id: open.id, policies: Some(put.await?), count: names };
    let (asked_proxies, found) = ask(&app, proxy_down::Message::DryRun(request), &mut open).await?;
    Ok(Json(answer(&asked, asked_proxies, found)))
}

/// Asks the proxies; gives how many were asked, and what those answered that did in time.
pub(super) async fn ask<T>(
    app: &App,
    question: proxy_down::Message,
    open: &mut Open<T>,
) -> Result<(usize, BTreeMap<String, T>), Failure> {
    let (to, waited_for) = oneshot::channel();
    app.control.tell(Input::Fleet(FleetInput::AskProxies(Box::new(question), to))).await?;
    let asked: BTreeSet<String> =
        waited_for.await.map_err(|_| problem::internal("the server is shutting down"))?.into_iter().collect();
    let mut found = BTreeMap::new();
    let until = tokio::time::Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
    while found.len() < asked.len() {
        match tokio::time::timeout_at(until, open.found.recv()).await {
            Ok(Some((proxy, answer))) => drop(found.insert(proxy, answer)),
            Ok(None) | Err(_) => break,
        }
    }
    Ok((asked.len(), found))
}

/// The policies asked about: they must be right, but may be sweeping; a question rejects nobody.
async fn asked(app: &App, question: DryRunQuestion) -> Result<Vec<Policy>, Failure> {
    let life: Life = LIFE.parse().expect("a literal life");
    let declared = read(question.files, Some(life)).await?;
    let faults = policy::check(&declared, now_ms(), true);
    if !faults.is_empty() {
        return Err(problem::faults(faults));
    }
    if let Some(preset) = &question.preset {
        known_preset(app, &name(preset)?).await?;
    }
    let preset: Option<PresetName> = question.preset.as_deref().map(name).transpose()?;
    let asked = app.control.read(move |world| {
        // The whole is checked as it would be applied: a scope that names nothing is told now.
        model::plan::plan(&world.snapshot, &declared, false)?;
        let mut asked = Vec::new();
        for one in &declared {
            match &one.resource {
                Resource::Policy(policy) => asked.push(policy.clone()),
                Resource::Preset(preset) => asked.extend(preset.fire(now_ms(), Some(life)).unwrap_or_default()),
                _ => {}
            }
        }
        if let Some(preset) = &preset {
            asked.extend(fired(&world.snapshot, preset, Some(life))?);
        }
        Ok(asked)
    });
    asked.await?.map_err(problem::faults)
}

fn answer(asked: &[Policy], proxies: usize, found: BTreeMap<String, DryRunFindings>) -> DryRunAnswer {
    let refused: Vec<RefusedBy> = found
        .iter()
        .filter(|(_, at)| !at.error.is_empty())
        .map(|(proxy, at)| RefusedBy { proxy: proxy.clone(), why: at.error.clone() })
        .collect();
    let answered = found.len();
    let findings: Vec<Findings> = found.into_values().map(findings).collect();
    let told = estimate(&findings, asked.len());
    let effect = |(policy, effect): (&Policy, &Effect)| DryRunEffect {
        policy: policy.name.to_string(),
        action: policy.action.to_string(),
        sampled: effect.sampled,
        requests_share: estimated(effect.requests_share),
        requests_per_second: effect.requests_per_second,
        users: estimated(effect.users),
        failed: effect.failed,
    };
    DryRunAnswer {
        proxies: proxies as u32,
        answered: answered as u32,
        refused,
        sampled: told.sampled,
        sampled_users: told.sampled_users,
        sampled_share: told.sampled_share,
        window_seconds: told.window_seconds,
        requests_per_second: told.requests_per_second,
        users: told.users,
        policies: asked.iter().zip(&told.effects).map(effect).collect(),
    }
}

fn findings(of: DryRunFindings) -> Findings {
    let row =
        |row: api::fleet::DryRunRow| Row { place: row.place, user: row.user, requests: row.requests, hits: row.hits };
    Findings {
        below: of.below,
        window_us: of.window_us,
        rows: of.rows.into_iter().map(row).collect(),
        failed: of.failed,
    }
}

fn estimated(of: Estimated) -> Estimate {
    Estimate { value: of.value, low: of.low, high: of.high }
}
