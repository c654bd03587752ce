//! `/v1/protect`: policies put in force, fired, lifted, rolled back, and where they stand.
//!
//! Each change is one commit like every other; the answer waits, for a while, until proxies and agents have confirmed it.

mod dead_letters;
mod dry_run;
mod roll;

pub use dead_letters::*;
pub use dry_run::*;
pub use roll::*;

use super::App;
use super::access::Who;
use super::apply;
use super::extract::{Json, name};
use super::problem::{self, Failure};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use crate::policies::enforcers::Standing;
use api::http::{
    FireRequest, InForce, LiftRequest, ManifestFile, OverlapView, PolicyView, Problem, ProtectRequest, ProtectResponse,
    ProtectView, RefusedBy,
};
use axum::extract::{Path, State};
use model::manifest::Declared;
use model::plan::ApplyPlan;
use model::{
    Expiry, Fault, Kind, Life, Policy, PolicyHistory, PolicyName, PresetName, Resource, ResourceKey, Snapshot,
};
use policy::Relation;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Files in one request.
const FILES_MAX: usize = 1_000;
/// Policies in force at once.
const POLICIES_MAX: usize = 1_000;
/// Longest wait for confirmations that a request may ask for, and the wait of one that does not say.
const WAIT_MS: (u32, u32) = (10_000, 3_000);

/// Puts policies in force, and stores presets.
#[utoipa::path(post, path = "/v1/protect/apply", request_body = ProtectRequest, responses(
    (status = 200, body = ProtectResponse), (status = 422, body = Problem, description = "the manifests are at fault"),
    (status = 409, body = Problem)))]
pub async fn apply(
    State(app): State<App>,
    who: Who,
    Json(request): Json<ProtectRequest>,
) -> Result<Json<ProtectResponse>, Failure> {
    let began = Instant::now();
    let life = request.life.as_deref().map(life).transpose()?;
    let declared = read(request.files, life).await?;
    let faults = policy::check(&declared, now_ms(), request.force);
    if !faults.is_empty() {
        return Err(problem::faults(faults));
    }
    commit(&app, who, began, request.wait_ms, move |snapshot| model::plan::plan(snapshot, &declared, false)).await
}

/// Fires a preset: all its policies in one commit.
#[utoipa::path(post, path = "/v1/protect/fire/{preset}", request_body = FireRequest,
    params(("preset" = String, Path, description = "name of the preset")), responses(
    (status = 200, body = ProtectResponse), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn fire(
    State(app): State<App>,
    who: Who,
    Path(preset): Path<String>,
    Json(request): Json<FireRequest>,
) -> Result<Json<ProtectResponse>, Failure> {
    let began = Instant::now();
    let preset: PresetName = name(&preset)?;
    let life = request.life.as_deref().map(life).transpose()?;
    known_preset(&app, &preset).await?;
    commit(&app, who, began, request.wait_ms, move |snapshot| {
        let fired = fired(snapshot, &preset, life)?;
        checked(&fired, request.force)?;
        plan(snapshot, fired)
    })
    .await
}

/// Lifts policies.
#[utoipa::path(post, path = "/v1/protect/lift", request_body = LiftRequest, responses(
    (status = 200, body = ProtectResponse), (status = 422, body = Problem, description = "no such policy is in force")))]
pub async fn lift(
    State(app): State<App>,
    who: Who,
    Json(request): Json<LiftRequest>,
) -> Result<Json<ProtectResponse>, Failure> {
    let began = Instant::now();
    let wait_ms = request.wait_ms;
    commit(&app, who, began, wait_ms, move |snapshot| {
        let mut names = request.names.clone();
        let of_preset = |policy: &&Policy| {
            request.all
                || request.preset.is_some() && policy.preset.as_ref().map(|at| at.as_str()) == request.preset.as_deref()
        };
        names.extend(snapshot.policies().filter(of_preset).map(|policy| policy.name.to_string()));
        if names.is_empty() {
            return Err(vec![fault(
                "no policy in force is meant: name one, a preset that was fired, or all".to_owned(),
            )]);
        }
        let mut whole = ApplyPlan::default();
        let mut faults = Vec::new();
        names.sort();
        names.dedup();
        for name in names {
            match model::plan::delete(snapshot, &ResourceKey { kind: Kind::Policy, name }) {
                Ok(one) => whole.changes.extend(one.changes),
                Err(refused) => faults.extend(refused),
            }
        }
        if faults.is_empty() { Ok(whole) } else { Err(faults) }
    })
    .await
}

/// What became of a policy, the newest version last.
#[utoipa::path(get, path = "/v1/protect/history/{name}", params(("name" = String, Path, description = "name of the policy")),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub async fn history(State(app): State<App>, Path(of): Path<String>) -> Result<Json<PolicyHistory>, Failure> {
    let policy: PolicyName = name(&of)?;
    let found =
        app.control.read(move |world| world.snapshot.policy_histories.get(&policy).map(|at| (*at.value).clone()));
    found.await?.map(Json).ok_or_else(|| {
        problem::not_found(format!("there was never a policy {of:?}: `springtide protect list` names those in force"))
    })
}

/// Policies in the order in which they are asked, presets, overlaps, and where it all stands.
#[utoipa::path(get, path = "/v1/protect", responses((status = 200, body = ProtectView)))]
pub async fn view(State(app): State<App>) -> Result<Json<ProtectView>, Failure> {
    let mut view = app.control.read(seen).await?;
    view.in_force = in_force(app.protect.enforcers.standing(0), None);
    Ok(Json(view))
}

fn seen(world: &World) -> ProtectView {
    let now = now_ms();
    let snapshot = &world.snapshot;
    let policies = ordered(snapshot);
    let about = |policy: &Policy| {
        let history = snapshot.policy_histories.get(&policy.name);
        let last = history.and_then(|at| at.value.versions.last());
        let version = history.map_or(1, |at| at.value.version());
        let counted = world.policy_counts.of(policy.name.as_str(), version);
        PolicyView {
            policy: policy.clone(),
            version,
            since: last.map_or(0, |last| last.at),
            who: last.map_or_else(String::new, |last| last.who.clone()),
            life_ms: policy.expires_at.unix_ms().saturating_sub(now),
            matched: counted.matched,
            taken: counted.taken,
            taken_per_second: counted.taken_per_second,
            failed: counted.failed,
            failure: counted.failure,
        }
    };
    ProtectView {
        at: now,
        policies: policies.iter().map(about).collect(),
        presets: snapshot.presets().cloned().collect(),
        overlaps: overlaps(&policies),
        in_force: InForce::default(),
    }
}

/// The policies in force, first asked first.
fn ordered(snapshot: &Snapshot) -> Vec<Policy> {
    let now = now_ms();
    let mut policies: Vec<Policy> =
        snapshot.policies().filter(|policy| policy.expires_at.unix_ms() > now).cloned().collect();
    policy::sort(&mut policies);
    policies
}

fn overlaps(policies: &[Policy]) -> Vec<OverlapView> {
    let view = |at: policy::Overlap| OverlapView {
        earlier: at.earlier,
        later: at.later,
        relation: match at.relation {
            Relation::Shadowed => "shadowed",
            Relation::Governed => "governed",
            Relation::ShadowedLane => "shadowed-lane",
            Relation::GovernedLane => "governed-lane",
            Relation::Before => "before",
        }
        .to_owned(),
    };
    policy::overlaps(policies).into_iter().map(view).collect()
}

fn in_force(standing: Standing, after: Option<Duration>) -> InForce {
    InForce {
        proxies: standing.proxies,
        proxies_taken: standing.proxies_taken,
        hosts: standing.hosts,
        hosts_taken: standing.hosts_taken,
        after_ms: after.map(|after| after.as_secs_f64() * 1e3),
        waiting: standing.waiting,
        refused: standing.refused.into_iter().map(|(proxy, why)| RefusedBy { proxy, why }).collect(),
    }
}

/// Plans in the loop, commits, and waits until the change is in force.
async fn commit(
    app: &App,
    who: Who,
    began: Instant,
    wait_ms: Option<u32>,
    planned: impl Fn(&Snapshot) -> Result<ApplyPlan, Vec<Fault>> + Send + 'static,
) -> Result<Json<ProtectResponse>, Failure> {
    let bounded = move |snapshot: &Snapshot| {
        let plan = planned(snapshot)?;
        let more = plan.changes.iter().filter(|at| at.key.kind == Kind::Policy && at.before.is_none()).count();
        if snapshot.policies().count() + more > POLICIES_MAX {
            return Err(vec![fault(format!("more than {POLICIES_MAX} policies would be in force; lift some first"))]);
        }
        Ok(plan)
    };
    let done = apply::commit(app, who, bounded).await?.0;
    let of_policies = done.changes.iter().any(|at| at.kind == Kind::Policy.as_str());
    let revision = if of_policies { done.revision } else { 0 };
    let in_force = wait(app, revision, began, wait_ms).await;
    let all = app.control.read(|world| ordered(&world.snapshot)).await?;
    Ok(Json(ProtectResponse { revision: done.revision, changes: done.changes, in_force, overlaps: overlaps(&all) }))
}

async fn wait(app: &App, revision: u64, began: Instant, wait_ms: Option<u32>) -> InForce {
    let limit = Duration::from_millis(u64::from(wait_ms.unwrap_or(WAIT_MS.1).min(WAIT_MS.0)));
    let enforcers = &app.protect.enforcers;
    let mut changes = enforcers.changes();
    let settled = async {
        loop {
            let standing = enforcers.standing(revision);
            if standing.settled() {
                return standing;
            }
            // The sender lives as long as the server does.
            let _ = changes.changed().await;
        }
    };
    match tokio::time::timeout(limit, settled).await {
        Ok(standing) => in_force(standing, Some(began.elapsed())),
        Err(_) => in_force(enforcers.standing(revision), Some(began.elapsed())),
    }
}

/// Reads manifests of policies and presets; other kinds have their own way in.
async fn read(files: Vec<ManifestFile>, life: Option<Life>) -> Result<Vec<Declared>, Failure> {
    if files.len() > FILES_MAX {
        return Err(problem::malformed(format!("{} files; at most {FILES_MAX} at once", files.len())));
    }
    let files: Vec<(String, String)> = files.into_iter().map(|file| (file.path, file.text)).collect();
    let end = life.map(|life| Expiry::after(now_ms(), life));
    let parsed = tokio::task::spawn_blocking(move || model::manifest::parse_ending(&files, end)).await;
    let declared = parsed.map_err(|error| problem::internal(error.to_string()))?.map_err(problem::faults)?;
    let other = |one: &&Declared| !matches!(one.resource.kind(), Kind::Policy | Kind::Preset);
    let strangers: Vec<Fault> = declared
        .iter()
        .filter(other)
        .map(|one| {
            let kind = one.resource.kind().as_str();
            one.fault("kind", format!("a {kind} is applied with `springtide apply`; protect takes Policy and Preset"))
        })
        .collect();
    if strangers.is_empty() { Ok(declared) } else { Err(problem::faults(strangers)) }
}

fn life(text: &str) -> Result<Life, Failure> {
    text.parse().map_err(|error: model::UnitError| problem::malformed(error.to_string()))
}

async fn known_preset(app: &App, preset: &PresetName) -> Result<(), Failure> {
    let wanted = preset.clone();
    let found = app.control.read(move |world| {
        let names: Vec<String> = world.snapshot.presets().map(|preset| preset.name.to_string()).collect();
        (world.snapshot.preset(&wanted).is_some(), names)
    });
    let (known, names) = found.await?;
    if known {
        return Ok(());
    }
    let hint = model::nearest(preset.as_str(), names.iter().map(String::as_str));
    let hint = hint.map_or_else(
        || {
            if names.is_empty() {
                "; none is stored: apply one first".to_owned()
            } else {
                format!(" (stored: {})", names.join(", "))
            }
        },
        |name| format!("; did you mean {name}?"),
    );
    Err(problem::not_found(format!("there is no preset {:?}{hint}", preset.as_str())))
}

/// The policies of a preset, as they are when fired now.
fn fired(snapshot: &Snapshot, preset: &PresetName, life: Option<Life>) -> Result<Vec<Policy>, Vec<Fault>> {
    let missing = || vec![fault(format!("preset {preset} was deleted just now"))];
    let fired = snapshot.preset(preset).ok_or_else(missing)?.fire(now_ms(), life);
    fired.map_err(|error| vec![fault(error.to_string())])
}

fn checked(policies: &[Policy], force: bool) -> Result<(), Vec<Fault>> {
    let now = now_ms();
    let faults: Vec<Fault> = policies
        .iter()
        .flat_map(|of| {
            policy::check_policy(of, now, force).into_iter().map(move |(field, message)| (of, field, message))
        })
        .map(|(of, field, message)| Fault {
            file: String::new(),
            line: 0,
            field: field.to_owned(),
            message: format!("Policy {}: {message}", of.name),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The plan that puts policies in force.
fn plan(snapshot: &Snapshot, policies: Vec<Policy>) -> Result<ApplyPlan, Vec<Fault>> {
    let declared: Vec<Declared> = policies
        .into_iter()
        .map(|policy| Declared {
            resource: Resource::Policy(policy),
            file: String::new(),
            line: 0,
            lines: BTreeMap::new(),
        })
        .collect();
    model::plan::plan(snapshot, &declared, false)
}

fn fault(message: String) -> Fault {
    Fault { file: String::new(), line: 0, field: String::new(), message }
}
