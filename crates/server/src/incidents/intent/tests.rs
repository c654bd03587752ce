//! Policies as detection is told of them.

use super::*;
use model::{Expiry, PolicyVersion};
use std::sync::Arc;

fn policy(service: Option<&str>) -> Policy {
    let value = serde_json::json!({
        "name": "throttle-sso", "service": service, "action": { "throttle": { "users_percent": 20.0 } },
        "expires_at": Expiry::at(2_000_000),
    });
    serde_json::from_value(value).expect("a policy")
}

fn history(versions: &[(UnixMs, Option<Policy>)]) -> PolicyHistory {
    let version = |(at, policy): &(UnixMs, Option<Policy>)| PolicyVersion {
        version: 1,
        at: *at,
        who: "ann".to_owned(),
        policy: policy.clone(),
    };
    PolicyHistory { versions: versions.iter().map(version).collect() }
}

fn read_of(history: PolicyHistory, newest: UnixMs) -> Intent {
    let mut snapshot = Snapshot::default();
    let at = model::Versioned { value: Arc::new(history), revision: 1 };
    snapshot.policy_histories.insert(policy(None).name, at);
    let mut intent = Intent::default();
    intent.policies(&snapshot, newest);
    intent
}

#[test]
fn a_policy_goes_on_by_its_name_and_moves_demand_for_a_while() {
    let intent = read_of(history(&[(1_000, Some(policy(Some("sso"))))]), 1_500);
    let [going] = intent.going_on.as_slice() else { panic!("{:?}", intent.going_on) };
    assert_eq!((going.on.kind.as_str(), going.on.from, going.until), ("policy", 1_000, Some(2_000_000)));
    assert_eq!(going.on.what, "policy throttle-sso: throttle 20% of users of sso (by ann)");
    let [activity] = intent.activities.as_slice() else { panic!("{:?}", intent.activities) };
    assert_eq!(activity.kind, ActivityKind::Event { services: vec!["sso".to_owned()] });
    assert_eq!((activity.from_ms, activity.until_ms), (1_000, Some(1_000 + POLICY_MOVES_MS)));
}

#[test]
fn a_policy_that_was_lifted_is_told_for_a_while_and_moves_demand_back() {
    let lifted = history(&[(1_000, Some(policy(Some("sso")))), (90_000, None)]);
    let intent = read_of(lifted.clone(), 91_000);
    assert_eq!(intent.going_on[0].until, Some(90_000));
    assert_eq!(
        intent.activities.last().map(|at| (at.from_ms, at.until_ms)),
        Some((90_000, Some(90_000 + POLICY_MOVES_MS)))
    );
    assert!(read_of(lifted, 90_000 + ENDED_MS).going_on.is_empty());
}

#[test]
fn those_who_call_a_governed_service_are_concerned_too() {
    let callers = BTreeMap::from([("sso", BTreeSet::from(["pay"])), ("pay", BTreeSet::from(["web", "sso"]))]);
    let all = with_callers(vec!["sso".to_owned()], &callers);
    assert_eq!(all, ["pay", "sso", "web"].map(str::to_owned).into());
}
