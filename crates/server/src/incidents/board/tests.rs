//! Incidents over restarts, rules that hold and end, silences.

use super::*;
use detect::{Config, Host, Instance, Parts, Rack, Service, Topology};

fn detector(first_number: u64) -> Detector {
    let mut detector = Detector::new(Config { first_number, ..Config::default() });
    let parts = Parts {
        datacenters: vec!["east".to_owned()],
        racks: vec![Rack { name: "r".to_owned(), datacenter: 0 }],
        hosts: vec![Host { name: "h".to_owned(), rack: 0 }],
        services: vec![Service { name: "pay".to_owned(), external: false }],
        instances: vec![Instance { name: "pay-1".to_owned(), service: 0, host: 0, version: 1, wanted: true }],
        pairs: Vec::new(),
    };
    detector.retarget(Topology::new(parts).expect("whole"));
    detector
}

fn rule() -> AlertRule {
    serde_json::from_value(serde_json::json!({
        "name": "slow-pay", "expression": "latency_p99(service=pay) > 250ms", "severity": "critical",
    }))
    .expect("a rule")
}

fn turn(holds: bool) -> RuleTurn {
    RuleTurn {
        rule: rule().expression,
        entity: EntityRef { kind: EntityKind::Instance, name: "pay-1".to_owned() },
        signal: Signal::LatencyTail,
        holds,
        value: if holds { 400.0 } else { f32::NAN },
        limit: 250.0,
        since_s: 100,
    }
}

#[test]
fn a_rules_incident_lasts_as_long_as_the_rule_holds_and_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("records");
    let mut board = Board::read(&records).expect("empty");
    let mut watching = detector(board.next_number());
    assert!(board.rules(&[rule()], &[turn(true)], &mut watching, (100, 100_000), &[]));
    board.record(&records).expect("kept");
    let case = board.case("inc-1").expect("opened");
    assert_eq!((case.incident.state, case.change, case.tell), (IncidentState::Open, 1, 1));
    assert_eq!(case.incident.blast.services, ["pay"]);
    assert!(board.acknowledge_rule("inc-1", "ann", 101_000));
    board.record(&records).expect("kept");

    // A restart: the same incident, and the next number is a new one.
    let mut board = Board::read(&records).expect("read back");
    let case = board.case("inc-1").expect("it is there");
    assert_eq!((case.incident.state, case.change, case.tell), (IncidentState::Acknowledged, 2, 1));
    assert_eq!(board.next_number(), 2);
    let mut watching = detector(board.next_number());
    assert!(!board.rules(&[rule()], &[], &mut watching, (200, 200_000), &[]), "it has time to hold again");
    board.rules(&[rule()], &[turn(true)], &mut watching, (205, 205_000), &[]);
    assert!(board.case("inc-2").is_none());
    board.rules(&[rule()], &[], &mut watching, (400, 400_000), &[]);
    assert!(board.case("inc-1").is_some_and(|case| case.incident.state.is_open()));
    board.rules(&[rule()], &[turn(false)], &mut watching, (401, 401_000), &[]);
    let case = board.case("inc-1").expect("it is there");
    assert_eq!((case.incident.state, case.incident.resolved_ms), (IncidentState::Resolved, Some(401_000)));
    assert_eq!(case.tell, case.change, "its end is told");
}

#[test]
fn a_rule_that_does_not_hold_again_after_a_restart_or_is_deleted_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("records");
    let mut board = Board::read(&records).expect("empty");
    let mut watching = detector(1);
    board.rules(&[rule()], &[turn(true)], &mut watching, (100, 100_000), &[]);
    board.record(&records).expect("kept");
    let mut again = Board::read(&records).expect("read back");
    again.rules(&[rule()], &[], &mut watching, (200, 200_000), &[]);
    assert!(again.case("inc-1").is_some_and(|case| case.incident.state.is_open()));
    again.rules(&[rule()], &[], &mut watching, (200 + RULE_SETTLE_S, 220_000), &[]);
    assert!(again.case("inc-1").is_some_and(|case| !case.incident.state.is_open()));
    board.rules(&[], &[], &mut watching, (101, 101_000), &[]);
    assert!(board.case("inc-1").is_some_and(|case| !case.incident.state.is_open()));
}

#[test]
fn only_silences_over_all_that_it_reaches_silence_an_incident() {
    let mut incident = blank(1, 0, 0);
    incident.blast.services = vec!["pay".to_owned(), "web".to_owned()];
    let silence = |service: &str, until: u64, instances: &[&str]| model::Silence {
        id: model::SilenceId::new(format!("s-{service}")).expect("a name"),
        service: model::ServiceName::new(service).expect("a name"),
        instances: instances.iter().map(|name| model::InstanceId::new(*name).expect("a name")).collect(),
        reason: String::new(),
        until,
    };
    let (pay, web) = (silence("pay", 500, &[]), silence("web", 300, &[]));
    assert_eq!(silenced(&incident, std::slice::from_ref(&pay), 100), None);
    assert_eq!(silenced(&incident, &[pay.clone(), web.clone()], 100), Some(300));
    assert_eq!(silenced(&incident, &[pay, web], 300), None, "it has ended");
    incident.blast.services = vec!["pay".to_owned()];
    incident.blast.instances = vec!["pay-1".to_owned(), "pay-2".to_owned()];
    assert_eq!(silenced(&incident, &[silence("pay", 500, &["pay-1"])], 100), None);
    assert_eq!(silenced(&incident, &[silence("pay", 500, &["pay-1", "pay-2"])], 100), Some(500));
}

#[test]
fn a_policy_is_named_beside_an_incident_of_its_service_and_of_a_caller() {
    let going = |kind: &str, name: &str, services: &[&str]| Going {
        on: GoingOn { kind: kind.to_owned(), name: name.to_owned(), from: 50, ..GoingOn::default() },
        until: None,
        services: services.iter().map(ToString::to_string).collect(),
    };
    let mut all: Vec<Going> = (0..30).map(|at| going("operation", &format!("op-{at}"), &[])).collect();
    all.push(going("policy", "throttle-sso", &["sso", "web"]));
    all.push(going("policy", "elsewhere", &["search"]));
    let mut incident = blank(1, 100, 100);
    incident.blast.services = vec!["web".to_owned()];
    let mut beside = Vec::new();
    note_beside(&mut beside, &incident, &all, 110);
    assert_eq!((beside[0].name.as_str(), beside.len()), ("throttle-sso", GOING_ON_MAX));
    assert!(beside.iter().all(|on| on.name != "elsewhere"));
}

#[test]
fn an_incidents_own_silence_covers_it_whatever_it_reaches_and_when_it_ends_or_comes_back() {
    let mut incident = blank(1, 0, 0);
    incident.blast.services = vec!["pay".to_owned()];
    let silence = |id: &str, service: &str| model::Silence {
        id: model::SilenceId::new(id).expect("a name"),
        service: model::ServiceName::new(service).expect("a name"),
        instances: Vec::new(),
        reason: String::new(),
        until: 500,
    };
    let own = [silence("inc-1-pay", "pay")];
    incident.blast.services.push("web".to_owned());
    assert_eq!(silenced(&incident, &own, 100), Some(500), "it has grown");
    incident.state = IncidentState::Resolved;
    assert_eq!(silenced(&incident, &own, 100), Some(500), "it has ended");
    assert_eq!(silenced(&incident, &[silence("op-1", "pay"), silence("op-2", "web")], 100), None);
    incident.state = IncidentState::Open;
    assert_eq!(silenced(&incident, &own, 500), None, "the silence has ended");
    assert_eq!(silenced(&incident, &[silence("inc-11-pay", "pay")], 100), None, "another's");
}
