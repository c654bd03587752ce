//! Tests of `xds::policies`: what a proxy keeps, over answers and restarts.

use super::*;
use api::fleet::PolicyInForce;
use policy::{Head, NoHeaders};

fn answer(policies: &[(&str, u64, &str)]) -> Vec<Any> {
    let wire = |(name, life_ms, rest): &(&str, u64, &str)| PolicyInForce {
        name: (*name).to_owned(),
        version: 1,
        expires_at_unix_ms: clocks().unix_ms + life_ms,
        life_ms: *life_ms,
        policy: format!(
            r#"{{"name":"{name}","expires_at":"2099-01-01T00:00:00Z","action":{{"suppress":{{}}}}{rest}}}"#
        ),
    };
    let policies = policies.iter().map(wire).collect();
    let message = api::fleet::Policies { revision: 3, policies, proxies: [("east".to_owned(), 1)].into() };
    vec![Any { type_url: POLICIES.to_owned(), value: message.encode_to_vec() }]
}

fn names(policies: &Policies) -> Vec<String> {
    policies.in_force().entries().iter().map(|entry| entry.policy.name.to_string()).collect()
}

fn takes(policies: &Policies, now_us: u64) -> bool {
    let head = Head {
        business: "b",
        service: "s",
        caller: "outside",
        datacenter: "east",
        method: "GET",
        host: "h",
        path: "/",
        query: "",
        headers: &NoHeaders,
        user: Some(1),
        priority: 0,
    };
    policies.in_force().decide(&head, now_us).is_some()
}

#[test]
fn a_proxy_cut_off_keeps_its_policies_until_they_end_over_restarts_too() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("proxy.state");
    let mut first = Policies::load(&state, "east", Clock::start());
    assert!(first.in_force().is_empty());
    let verdict = first.accept(&answer(&[("hour", 3_600_000, ""), ("gone", 0, "")]));
    assert!(verdict.refused.is_empty(), "{:?}", verdict.refused);
    assert_eq!(names(&first), ["hour"], "what has no life left is not in force");
    // Whatever else comes that is no answer changes nothing.
    assert_eq!(first.accept(&[]).empty_ignored, 1);
    assert_eq!(first.accept(&[Any { type_url: POLICIES.to_owned(), value: vec![0xff, 0xff] }]).refused.len(), 1);
    assert_eq!(names(&first), ["hour"]);
    let clock = Clock::start();
    let second = Policies::load(&state, "east", clock);
    assert_eq!(names(&second), ["hour"], "a new process without a server");
    assert!(takes(&second, clock.now_us()));
    assert!(!takes(&second, clock.now_us() + 3_600_000_000), "and it ends by the proxy's own clock");
    let mut third = second;
    assert!(third.accept(&answer(&[])).refused.is_empty());
    assert!(names(&third).is_empty(), "a list without policies lifts all");
    assert!(Policies::load(&state, "east", clock).in_force().is_empty());
}

#[test]
fn one_that_cannot_be_used_is_refused_alone_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut policies = Policies::load(&folder.path().join("state"), "east", Clock::start());
    let verdict = policies.accept(&answer(&[
        ("good", 60_000, ""),
        ("newer", 60_000, r#","when":"tomorrow == 1""#),
        ("torn", 60_000, "{"),
    ]));
    assert_eq!(names(&policies), ["good"]);
    let refused: Vec<&str> = verdict.refused.iter().map(|refused| refused.name.as_str()).collect();
    assert_eq!(refused, ["torn", "newer"]);
}

#[test]
fn a_damaged_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::write(state.with_extension("policies.json"), b"{\"format\":1,").unwrap();
    assert!(Policies::load(&state, "east", Clock::start()).in_force().is_empty());
}
