//! Turns a checked plan of manifests into one commit of any size; the server stages what is too large for one
//! transaction. What follows from it (scaling, rollouts) is the reconciler's work.

use crate::contract::{Commit, Write};
use crate::journal;
use model::plan::ApplyPlan;
use model::{Snapshot, keys};

/// The commit of an apply or delete, guarded by every key that it changes.
pub fn apply(snapshot: &Snapshot, plan: &ApplyPlan, who: &str) -> Commit {
    let mut commit = Commit { who: who.to_owned(), ..Commit::default() };
    for change in &plan.changes {
        let key = keys::resource(&change.key);
        commit.guards.push((key.clone(), snapshot.resources.get(&change.key).map_or(0, |at| at.revision)));
        commit.writes.push(Write { key, value: change.after.as_ref().map(journal::json) });
    }
    for service in &plan.scales_reset {
        let Some(at) = snapshot.scales.get(service) else { continue };
        let key = keys::scale(service);
        commit.guards.push((key.clone(), at.revision));
        commit.writes.push(Write { key, value: None });
    }
    commit
}
