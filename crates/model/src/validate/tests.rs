//! Tests of `validate`: one wrong thing at a time in a fleet that is right, and the whole text of the fault.

use crate::samples::{FLEET, planned};

/// Replaces one text of the sample, which must be there, and gives the faults.
fn faults(from: &str, to: &str) -> Vec<String> {
    assert_eq!(FLEET.matches(from).count(), 1, "{from:?} stands once in the sample");
    planned(&FLEET.replace(from, to)).expect_err("the fleet is wrong")
}

#[test]
fn the_sample_is_right() {
    assert_eq!(planned(FLEET).unwrap().changes.len(), 18);
}

/// What to replace by what, and the faults.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("rack: e1\n", "rack: e2\n", &["fleet.yaml:33: rack: no Rack is called `e2`; did you mean `e1`?"]),
    (
        "dependencies: [{on: bank}]",
        "dependencies: [{on: sso}]",
        &[
            "fleet.yaml:80: dependencies[0].on: dependencies form a cycle: lottery → sso → lottery; remove one of these calls",
        ],
    ),
    (
        "dependencies: [{on: bank}]",
        "dependencies: [{on: bank, calls_per_request: -1}]",
        &["fleet.yaml:92: dependencies[0].calls_per_request: -1 is no number of calls; it must be from 0 to 1000000"],
    ),
    (
        "dependencies: [{on: bank}]",
        "dependencies: [{on: bnak}]",
        &["fleet.yaml:92: dependencies[0].on: no Service or External is called `bnak`; did you mean `bank`?"],
    ),
    (
        "instances: {east: 2, west: 2}",
        "instances: {east: 2, wset: 2}",
        &["fleet.yaml:93: instances.wset: no Datacenter is called `wset`; did you mean `west`?"],
    ),
    (
        "routes: [{path_prefix: /login}]",
        "traffic: {hash_header: x-user-id}",
        &[
            "fleet.yaml:79: traffic.hash_header: only `balance: user-hash` looks at a header; give that too, or leave this out",
        ],
    ),
    (
        "layer: storage",
        "layer: logic",
        &["fleet.yaml:102: persistent_paths: the logic layer persists nothing; only layer: storage may"],
    ),
    (
        "routes: [{path_prefix: /login}]",
        "cache_seconds_max: 5",
        &["fleet.yaml:79: cache_seconds_max: the access layer keeps no data at all; only layer: logic may cache"],
    ),
    (
        "layer: access",
        "layer: logic",
        &[
            "fleet.yaml:79: routes: the logic layer gets no request from outside; only layer: access has routes",
            "fleet.yaml:109: entry_requests_per_second.sso: `sso` is no entry service (its layer is logic); entries are of the access layer",
        ],
    ),
    (
        "between: [east, west]",
        "between: [east, east]",
        &["fleet.yaml:15: between: joins `east` with itself; name two different datacenters"],
    ),
    (
        "address: 127.1.2.1",
        "address: 127.1.1.1",
        &[
            "fleet.yaml:41: address: host host-e has the same address and overlapping ports (20000-29999 and 20000-29999); give each its own",
        ],
    ),
    (
        "digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "source: target/app",
        &[
            "fleet.yaml:53: source: `target/app` was not packed, so the package has no digest; apply with `springtide apply -f`, which packs it",
        ],
    ),
    (
        "level = ${LEVEL}",
        "level = $$5 ${LEVLE}",
        &[
            "fleet.yaml:66: files.app.conf: config file app.conf line 1 refers to `${LEVLE}`, but environment night has none for service lottery in east, west; did you mean `LEVEL`?",
        ],
    ),
    (
        "persistent_paths: [data]",
        "persistent_paths: [../x]",
        &["fleet.yaml:102: persistent_paths[0]: `../x` is neither `data` nor an absolute path without `..`"],
    ),
    (
        "persistent_paths: [data]",
        "health_check: {path: /, port: htp}",
        &["fleet.yaml:102: health_check.port: the service has no port `htp`; did you mean `http`?"],
    ),
    (
        "persistent_paths: [data]",
        "metrics: {port: htp, path: /metrics}",
        &["fleet.yaml:102: metrics.port: the service has no port `htp`; did you mean `http`?"],
    ),
    (
        "name: bank",
        "name: records",
        &[
            "fleet.yaml:47: name: `records` is also the name of a service (fleet.yaml:95); callers could not tell them apart, rename one",
            "fleet.yaml:92: dependencies[0].on: no Service or External is called `bank`; declare it, or name one that exists",
        ],
    ),
];

#[test]
fn each_fault_has_its_place_and_remedy() {
    let mut wrong = Vec::new();
    for (from, to, wanted) in WRONG {
        let found = faults(from, to);
        if &found != wanted {
            wrong.push(format!("{from} → {to}: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const POLICY: &str = "\
---
kind: Policy
name: fewer-draws
business: red-packet
service: lottery
action: {throttle: {users_percent: 20}}
expires_at: 2027-02-05T20:30:00+08:00
";

#[test]
fn a_policy_out_of_bounds_is_refused_with_its_field() {
    assert!(planned(&format!("{FLEET}{POLICY}")).is_ok());
    let table: &[(&str, &str, &str)] = &[
        (
            "users_percent: 20",
            "users_percent: 101",
            "action.throttle.users_percent: 101 is no share; it must be from 0 to 100",
        ),
        (
            "users_percent: 20",
            "requests_per_second: -1",
            "action.throttle.requests_per_second: -1 is no rate; it must be from 0 to 1000000000",
        ),
        (
            "throttle: {users_percent: 20}",
            "degrade: {}",
            "action.degrade: says nothing to answer; give cached_seconds_max, answer or both",
        ),
        (
            "throttle: {users_percent: 20}",
            "slow: {requests_per_second: 0}",
            "action.slow.requests_per_second: 0 would release nothing, ever; give a rate above 0",
        ),
        (
            "throttle: {users_percent: 20}",
            "suppress: {headers: {content-length: 5}}",
            "action.suppress.headers.content-length: `content-length` is set by the proxy itself; leave it out",
        ),
        (
            "throttle: {users_percent: 20}",
            "suppress: {headers: {x-a: \"a\\nb\"}}",
            "action.suppress.headers.x-a: holds characters that a header cannot carry; use visible ASCII",
        ),
        (
            "throttle: {users_percent: 20}",
            "suppress: {status: 204, body: gone}",
            "action.suppress.body: an answer with status 204 has no body; leave it out",
        ),
        (
            "service: lottery",
            "service: lotery",
            "service: no Service or External is called `lotery`; did you mean `lottery`?",
        ),
        (
            "service: lottery",
            "service: bank",
            "service: the external `bank` belongs to no business; leave `business` out",
        ),
    ];
    for (from, to, wanted) in table {
        assert_eq!(POLICY.matches(from).count(), 1, "{from:?} stands once");
        let found = planned(&format!("{FLEET}{}", POLICY.replace(from, to))).unwrap_err();
        assert!(found.len() == 1 && found[0].ends_with(wanted), "{from} → {to}: {found:#?}");
    }
    let preset = "---\nkind: Preset\nname: surge\npolicies:\n- {name: a, service: lottery, action: {suppress: {}}, for: 30m}\n\
        - {name: a, service: gift, action: {degrade: {}}, for: 30m}\n";
    let found = planned(&format!("{FLEET}{preset}")).unwrap_err();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().any(|at| at.contains("policies[1].name: `a` stands twice")), "{found:#?}");
    assert!(found.iter().any(|at| at.contains("policies[1].service: no Service or External")), "{found:#?}");
    assert!(found.iter().any(|at| at.contains("policies[1].action.degrade: says nothing")), "{found:#?}");
}

#[test]
fn two_services_cannot_share_a_route() {
    let second = "---\nkind: Service\nname: gate\nbusiness: red-packet\nlayer: access\npackage: app\nenvironment: night\nshape: 1C1G\n\
        ports: [http]\nroutes: [{path_prefix: /login}]\ninstances: {east: 1}\n";
    let found = planned(&format!("{FLEET}{second}")).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("any host with path `/login` is routed to Service gate already (fleet.yaml:111); change one"),
        "{found:?}"
    );
}

#[test]
fn a_long_chain_of_calls_is_walked() {
    let mut text = FLEET.to_owned();
    for number in 0..2_000 {
        let next = if number == 1_999 { "chain-0".to_owned() } else { format!("chain-{}", number + 1) };
        text.push_str(&format!(
            "---\nkind: Service\nname: chain-{number}\nbusiness: red-packet\nlayer: logic\npackage: app\nshape: 1C1G\nports: [http]\n\
             dependencies: [{{on: {next}}}]\ninstances: {{east: 0}}\n"
        ));
    }
    let found = planned(&text).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("dependencies form a cycle: chain-0 → chain-1 → "), "{:.200}", found[0]);
}
