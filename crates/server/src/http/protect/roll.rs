//! Rollback: a policy, or everything that the last change touched, back to an earlier version.

use super::*;
use crate::control_loop::EXPIRY;
use api::http::RollbackRequest;
use model::PolicyVersion;

/// Takes a change back.
#[utoipa::path(post, path = "/v1/protect/rollback", request_body = RollbackRequest, responses(
    (status = 200, body = ProtectResponse), (status = 422, body = Problem, description = "there is nothing to go back to")))]
pub async fn rollback(
    State(app): State<App>,
    who: Who,
    Json(request): Json<RollbackRequest>,
) -> Result<Json<ProtectResponse>, Failure> {
    let began = Instant::now();
    let life = request.life.as_deref().map(life).transpose()?;
    let wanted: Option<PolicyName> = request.name.as_deref().map(name).transpose()?;
    commit(&app, who, began, request.wait_ms, move |snapshot| {
        let names = match &wanted {
            Some(name) => vec![name.clone()],
            None => last_change(snapshot)?,
        };
        let mut back = Vec::new();
        let mut whole = ApplyPlan::default();
        for name in &names {
            match earlier(snapshot, name, request.to)?.policy.clone() {
                Some(policy) => back.push(ending(policy, life)?),
                // It was not in force then: it goes, if it is now.
                None if snapshot.policy(name).is_some() => {
                    let key = ResourceKey { kind: Kind::Policy, name: name.to_string() };
                    whole.changes.extend(model::plan::delete(snapshot, &key)?.changes);
                }
                None => {}
            }
        }
        checked(&back, request.force)?;
        whole.changes.extend(plan(snapshot, back)?.changes);
        Ok(whole)
    })
    .await
}

/// The policies of the last change that somebody made: their histories were written by one transaction.
fn last_change(snapshot: &Snapshot) -> Result<Vec<PolicyName>, Vec<Fault>> {
    let made = || {
        let by_people = |versions: &[PolicyVersion]| versions.last().is_some_and(|last| last.who != EXPIRY);
        snapshot.policy_histories.iter().filter(move |(_, at)| by_people(&at.value.versions))
    };
    let last = made().map(|(_, at)| at.revision).max();
    let names: Vec<PolicyName> =
        made().filter(|(_, at)| Some(at.revision) == last).map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        Err(vec![fault("no policy was ever changed: there is nothing to roll back".to_owned())])
    } else {
        Ok(names)
    }
}

/// The version to go back to.
fn earlier<'a>(snapshot: &'a Snapshot, name: &PolicyName, to: Option<u64>) -> Result<&'a PolicyVersion, Vec<Fault>> {
    static NEVER: PolicyVersion = PolicyVersion { version: 0, at: 0, who: String::new(), policy: None };
    let refuse = |message: String| Err(vec![fault(message)]);
    let Some(history) = snapshot.policy_histories.get(name) else {
        let names = snapshot.policy_histories.keys().map(|name| name.as_str());
        let hint =
            model::nearest(name.as_str(), names).map_or_else(String::new, |name| format!("; did you mean {name}?"));
        return refuse(format!("there was never a policy {:?}{hint}", name.as_str()));
    };
    let versions = &history.value.versions;
    let now = history.value.version();
    let to = to.unwrap_or(now.saturating_sub(1));
    if to >= now {
        return refuse(format!("{name} is at version {now}; name an earlier one with --to"));
    }
    match versions.iter().find(|version| version.version == to) {
        Some(found) => Ok(found),
        // Before its first version it was not in force.
        None if to == 0 => Ok(&NEVER),
        None => {
            let oldest = versions.first().map_or(0, |first| first.version);
            refuse(format!("version {to} of {name} is not kept any more; {oldest} to {now} are"))
        }
    }
}

/// The policy with the end that it had, or a new one; an end that has passed needs a new one.
fn ending(mut policy: Policy, life: Option<Life>) -> Result<Policy, Vec<Fault>> {
    if let Some(life) = life {
        policy.expires_at = Expiry::after(now_ms(), life);
    } else if policy.expires_at.unix_ms() <= now_ms() {
        let (name, ended) = (&policy.name, policy.expires_at);
        return Err(vec![fault(format!("that version of {name} ended at {ended}; give it a life, such as --for 30m"))]);
    }
    Ok(policy)
}
