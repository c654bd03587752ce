//! The history of each policy, written in the very transaction that changes the policy.

use control::{Commit, Write};
use model::{Kind, Policy, PolicyHistory, PolicyName, Resource, Snapshot, UnixMs, keys};

/// Names whose history is kept; beyond it the one that changed longest ago, and is not in force, goes.
const NAMES_MAX: usize = 2_000;

/// The commit, with a history for each policy that it changes.
pub fn with_histories(snapshot: &Snapshot, mut commit: Commit, now: UnixMs) -> Commit {
    let mut made: Vec<(PolicyName, PolicyHistory)> = Vec::new();
    for write in &commit.writes {
        let Some(key) = keys::parse_resource(&write.key).filter(|key| key.kind == Kind::Policy) else { continue };
        let Ok(name) = PolicyName::new(&key.name) else { continue };
        let policy = write.value.as_deref().and_then(read);
        let before = snapshot.policy_histories.get(&name).map(|at| at.value.as_ref().clone()).unwrap_or_default();
        made.push((name, before.with(now, &commit.who, policy)));
    }
    let fresh = made.iter().filter(|(name, _)| !snapshot.policy_histories.contains_key(name)).count();
    let beyond = (snapshot.policy_histories.len() + fresh).saturating_sub(NAMES_MAX);
    let mut old: Vec<_> = snapshot
        .policy_histories
        .iter()
        .filter(|(name, _)| snapshot.policy(name).is_none() && made.iter().all(|(made, _)| made != *name))
        .map(|(name, at)| (at.revision, name))
        .collect();
    old.sort();
    let forgotten =
        old.into_iter().take(beyond).map(|(_, name)| Write { key: keys::policy_history(name), value: None });
    let made = made.into_iter().map(|(name, history)| Write {
        key: keys::policy_history(&name),
        value: Some(serde_json::to_vec(&history).expect("a history is plain data")),
    });
    let writes: Vec<Write> = made.chain(forgotten).collect();
    commit.writes.extend(writes);
    commit
}

fn read(bytes: &[u8]) -> Option<Policy> {
    match serde_json::from_slice(bytes).ok()? {
        Resource::Policy(policy) => Some(policy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(percent: u32) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "kind": "Policy", "name": "fewer", "expires_at": "2027-02-05T12:00:00Z",
            "action": {"throttle": {"users_percent": percent}},
        }))
        .unwrap()
    }

    fn commit(value: Option<Vec<u8>>) -> Commit {
        let key = "/resources/Policy/fewer".to_owned();
        Commit { who: "ann".to_owned(), writes: vec![Write { key, value }], ..Commit::default() }
    }

    #[test]
    fn every_change_adds_a_version_and_the_oldest_go() {
        let mut snapshot = Snapshot::default();
        for n in 1..=40_u64 {
            let value = (n % 4 != 0).then(|| policy(n as u32));
            let done = with_histories(&snapshot, commit(value.clone()), n);
            assert_eq!(done.writes.len(), 2);
            for write in &done.writes {
                snapshot.fold(&write.key, write.value.as_deref(), n).unwrap();
            }
            let history = &snapshot.policy_histories[&PolicyName::new("fewer").unwrap()].value;
            let last = history.versions.last().unwrap();
            assert_eq!((last.version, last.at, last.who.as_str()), (n, n, "ann"));
            assert_eq!(last.policy.is_some(), value.is_some());
            assert_eq!(history.versions.len(), (n as usize).min(model::POLICY_VERSIONS_MAX));
        }
        let other =
            Commit { writes: vec![Write { key: "/scales/lottery".to_owned(), value: None }], ..Commit::default() };
        assert_eq!(with_histories(&snapshot, other, 9).writes.len(), 1, "what changes no policy has no history");
    }
}
