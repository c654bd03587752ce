//! `plan`, `apply` and what follows from them, for people.

use super::App;
use super::access::Who;
use super::extract::Json;
use super::problem::{self, Failure};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use api::http::{ApplyRequest, ApplyResponse, ChangeAction, FieldChange, PlanResponse, Problem, ResourceChange};
use axum::extract::State;
use model::manifest::Declared;
use model::plan::{ApplyPlan, PlannedChange};
use model::{Kind, Resource, ResourceKey, Service, ServiceName, Snapshot, Versioned};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Files in one apply.
const FILES_MAX: usize = 10_000;

async fn parse(request: ApplyRequest) -> Result<Vec<Declared>, Failure> {
    if request.files.len() > FILES_MAX {
        return Err(problem::malformed(format!("{} files; at most {FILES_MAX} at once", request.files.len())));
    }
    let files: Vec<(String, String)> = request.files.into_iter().map(|file| (file.path, file.text)).collect();
    let parsed = tokio::task::spawn_blocking(move || {
        let declared = model::manifest::parse(&files)?;
        let mut faults = policy::check(&declared, now_ms(), false);
        faults.extend(crate::incidents::check(&declared));
        if faults.is_empty() { Ok(declared) } else { Err(faults) }
    });
    parsed.await.map_err(|error| problem::internal(error.to_string()))?.map_err(problem::faults)
}

/// What apply would change; changes nothing.
#[utoipa::path(post, path = "/v1/plan", request_body = ApplyRequest, responses(
    (status = 200, body = PlanResponse), (status = 422, body = Problem, description = "the manifests are at fault")))]
pub async fn plan(State(app): State<App>, Json(request): Json<ApplyRequest>) -> Result<Json<PlanResponse>, Failure> {
    let prune = request.prune;
    let uploads: BTreeSet<String> = request.uploads.iter().cloned().collect();
    let declared = parse(request).await?;
    refuse_absent(&app, &declared, &uploads)?;
    let planned = app.control.read(move |world| {
        let plan = model::plan::plan(&world.snapshot, &declared, prune).map_err(problem::faults)?;
        Ok(PlanResponse {
            revision: world.snapshot.revision,
            changes: changes(&plan),
            unchanged: plan.unchanged,
            consequences: consequences(world, &plan),
        })
    });
    planned.await?.map(Json)
}

/// Applies manifests, wholly or not at all.
#[utoipa::path(post, path = "/v1/apply", request_body = ApplyRequest, responses(
    (status = 200, body = ApplyResponse), (status = 422, body = Problem, description = "the manifests are at fault"),
    (status = 409, body = Problem)))]
pub async fn apply(
    State(app): State<App>,
    who: Who,
    Json(request): Json<ApplyRequest>,
) -> Result<Json<ApplyResponse>, Failure> {
    let prune = request.prune;
    let declared = parse(request).await?;
    refuse_absent(&app, &declared, &BTreeSet::new())?;
    commit(&app, who, move |snapshot| model::plan::plan(snapshot, &declared, prune)).await
}

/// Refuses packages whose bytes are neither here nor among those the caller is about to upload.
fn refuse_absent(app: &App, declared: &[Declared], uploads: &BTreeSet<String>) -> Result<(), Failure> {
    let absent: Vec<model::Fault> = declared.iter().filter_map(|at| absent(app, at, uploads)).collect();
    if absent.is_empty() { Ok(()) } else { Err(problem::faults(absent)) }
}

/// The fault of a package whose bytes are not here: no host could fetch it.
fn absent(app: &App, declared: &Declared, uploads: &BTreeSet<String>) -> Option<model::Fault> {
    let Resource::Package(package) = &declared.resource else { return None };
    let missing = |digest: &&model::Digest| !uploads.contains(digest.as_str()) && app.blobs.path_of(digest).is_none();
    let digest = package.digest.as_ref().filter(missing)?;
    let why =
        format!("no bytes with digest {digest} are here: upload them first, as `springtide apply` does from `source`");
    Some(declared.fault("digest", why))
}

/// Plans in the loop and commits what was planned.
pub async fn commit(
    app: &App,
    who: Who,
    plan: impl Fn(&Snapshot) -> Result<ApplyPlan, Vec<model::Fault>> + Send + 'static,
) -> Result<Json<ApplyResponse>, Failure> {
    let decided = app.control.decide(move |world, _| {
        let plan = plan(&world.snapshot).map_err(problem::faults)?;
        let answer = (changes(&plan), consequences(world, &plan));
        Ok((control::apply(&world.snapshot, &plan, &who.0), answer))
    });
    let (revision, (changes, consequences)) = decided.await?;
    Ok(Json(ApplyResponse { revision, changes, consequences }))
}

fn changes(plan: &ApplyPlan) -> Vec<ResourceChange> {
    plan.changes.iter().map(change).collect()
}

fn change(at: &PlannedChange) -> ResourceChange {
    let action = match (&at.before, &at.after) {
        (None, _) => ChangeAction::Create,
        (Some(_), Some(_)) => ChangeAction::Update,
        (Some(_), None) => ChangeAction::Delete,
    };
    let fields = at.fields.iter().map(|field| FieldChange {
        field: field.field.clone(),
        before: field.before.clone(),
        after: field.after.clone(),
    });
    ResourceChange {
        kind: at.key.kind.as_str().to_owned(),
        name: at.key.name.clone(),
        action,
        fields: fields.collect(),
    }
}

/// What will follow: counts that change, and instances that a rollout will replace.
fn consequences(world: &World, plan: &ApplyPlan) -> Vec<String> {
    if plan.changes.is_empty() {
        return Vec::new();
    }
    let before = &world.snapshot;
    let after = result(before, plan);
    let mut said = Vec::new();
    let deleted = plan.changes.iter().filter(|at| at.key.kind == Kind::Service && at.after.is_none());
    for at in deleted {
        let Ok(service) = ServiceName::new(&at.key.name) else { continue };
        let placed = world.placements_of(&service).count();
        if placed > 0 {
            said.push(format!("{service}: {placed} → 0 instances"));
        }
    }
    let changed: BTreeSet<&ResourceKey> = plan.changes.iter().map(|at| &at.key).collect();
    for service in after.services().filter(|service| concerns(&changed, plan, service)) {
        let was = before.service(&service.name).map_or(0, |service| total(before, service));
        let now = total(&after, service);
        if was != now {
            said.push(format!("{}: {was} → {now} instances", service.name));
        }
        let replaced = replaced(world, &after, service);
        if replaced > 0 {
            said.push(format!("{}: rollout of {} to {replaced} instances", service.name, version(&after, service)));
        }
    }
    said
}

/// Whether a plan touches what a service is made of.
fn concerns(changed: &BTreeSet<&ResourceKey>, plan: &ApplyPlan, service: &Service) -> bool {
    let named = [
        Some((Kind::Service, service.name.as_str())),
        Some((Kind::Package, service.package.as_str())),
        service.config.as_ref().map(|name| (Kind::ConfigSet, name.as_str())),
        service.environment.as_ref().map(|name| (Kind::Environment, name.as_str())),
    ];
    let touched = |(kind, name): (Kind, &str)| changed.contains(&ResourceKey { kind, name: name.to_owned() });
    named.into_iter().flatten().any(touched) || plan.scales_reset.contains(&service.name)
}

/// Instances whose package, config or shape would no longer be the wanted one.
fn replaced(world: &World, after: &Snapshot, service: &Service) -> usize {
    let package = after.package(&service.package).and_then(|package| package.digest.as_ref());
    let mut digests = BTreeMap::new();
    let old = world.placements_of(&service.name).filter(|(host, placement)| {
        let Some(datacenter) = world.snapshot.datacenter_of(host) else { return false };
        let config = digests
            .entry(datacenter)
            .or_insert_with(|| model::config::resolve(after, service, datacenter).ok().map(|config| config.digest));
        package.is_some_and(|digest| *digest != placement.package_digest)
            || config.as_ref().is_some_and(|digest| *digest != placement.config_digest)
            || service.shape != placement.shape
    });
    old.count()
}

fn total(snapshot: &Snapshot, service: &Service) -> u32 {
    snapshot.instances_wanted(service).values().sum()
}

fn version(snapshot: &Snapshot, service: &Service) -> String {
    let version = snapshot.package(&service.package).map_or("?", |package| package.version.as_str());
    format!("{} {version} and its config", service.package)
}

/// The resources and counts that the plan leads to; placements and operations are left out.
fn result(before: &Snapshot, plan: &ApplyPlan) -> Snapshot {
    let mut after =
        Snapshot { resources: before.resources.clone(), scales: before.scales.clone(), ..Snapshot::default() };
    for at in &plan.changes {
        match &at.after {
            Some(resource) => {
                let value = Versioned { value: Arc::new(resource.clone()), revision: before.revision };
                after.resources.insert(at.key.clone(), value);
            }
            None => drop(after.resources.remove(&at.key)),
        }
    }
    for service in &plan.scales_reset {
        after.scales.remove(service);
    }
    after
}
