//! Causes, lifecycle, and what activities excuse.

use crate::fleet::{BEGIN, Watch};
use detect::{Activity, ActivityKind, Change, EntityKind, EntityRef, Frame, IncidentState};

fn slow(frame: &mut Frame, members: std::ops::Range<usize>, by: f32) {
    frame.instances.latency_ms[members.clone()].iter_mut().for_each(|ms| *ms *= by);
    frame.instances.tail_ms[members].iter_mut().for_each(|ms| *ms *= by);
}

fn lose(frame: &mut Frame, host: usize, topology_hosts: usize) {
    for at in (host..24).step_by(topology_hosts) {
        frame.instances.requests[at] = 0.0;
        frame.instances.errors[at] = 0.0;
        frame.instances.latency_ms[at] = f32::NAN;
        frame.instances.tail_ms[at] = f32::NAN;
        frame.instances.cpu[at] = f32::NAN;
    }
    for column in [&mut frame.hosts.cpu, &mut frame.hosts.memory, &mut frame.hosts.pressure] {
        column[host] = f32::NAN;
    }
}

#[test]
fn a_slow_store_is_blamed_and_not_its_callers() {
    let mut watch = Watch::warm();
    watch.run(12, |_, frame| {
        slow(frame, 16..24, 4.0);
        slow(frame, 8..16, 4.0);
        slow(frame, 0..8, 7.0);
        // Calls to the store take 30 ms more, those to logic by what logic waits.
        (frame.pairs.latency_ms[1], frame.pairs.latency_ms[2], frame.pairs.latency_ms[0]) = (40.0, 40.0, 40.0);
    });
    assert_eq!(watch.blamed(), "slowness of service store");
    assert!(watch.changes[0].0 <= 3, "{:?}", watch.changes);
}

#[test]
fn one_hot_instance_is_blamed_and_not_its_service() {
    let mut watch = Watch::warm();
    watch.run(12, |_, frame| slow(frame, 9..10, 2.5));
    assert_eq!(watch.blamed(), "hot instance logic-1");
}

#[test]
fn a_lost_host_is_one_incident() {
    let mut watch = Watch::warm();
    watch.run(15, |_, frame| lose(frame, 2, 4));
    assert_eq!(watch.blamed(), "loss of host h2");
    let id = watch.opened().remove(0);
    assert_eq!(watch.detector.incident(&id).unwrap().blast.instances_count, 6);
}

#[test]
fn an_external_that_is_slow_is_blamed_and_not_who_calls_it() {
    let mut watch = Watch::warm();
    watch.run(12, |_, frame| {
        slow(frame, 8..16, 3.0);
        frame.pairs.latency_ms[3] = 30.0;
    });
    assert_eq!(watch.blamed(), "slowness of external bank");
}

#[test]
fn errors_of_a_release_are_the_releases_and_without_one_the_services() {
    let errors = |_: u64, frame: &mut Frame| frame.instances.errors[8..16].iter_mut().for_each(|n| *n += 8.0);
    let mut watch = Watch::warm();
    watch.run(12, errors);
    assert_eq!(watch.blamed(), "errors of service logic");
    let mut watch = Watch::warm();
    let kind = ActivityKind::Operation { service: "logic".to_owned(), release: Some(1) };
    watch.detector.set_activities(vec![Activity { kind, from_ms: (BEGIN + 118) * 1_000, until_ms: None }]);
    watch.run(12, errors);
    assert_eq!(watch.blamed(), "release of service logic");
}

#[test]
fn an_incident_is_acknowledged_ends_by_itself_and_comes_back() {
    let mut watch = Watch::warm();
    watch.run(20, |_, frame| slow(frame, 9..10, 2.5));
    let id = watch.opened().remove(0);
    assert!(watch.detector.acknowledge(&id, "ann", 5));
    assert_eq!(watch.detector.incident(&id).unwrap().state, IncidentState::Acknowledged);
    watch.run(60, |_, _| {});
    assert_eq!(watch.detector.incident(&id).unwrap().state, IncidentState::Resolved);
    assert!(!watch.detector.acknowledge(&id, "ann", 6));
    watch.run(20, |_, frame| slow(frame, 9..10, 2.5));
    let incident = watch.detector.incident(&id).unwrap();
    assert_eq!((incident.state, incident.reopened), (IncidentState::Acknowledged, 1));
    assert_eq!(incident.acknowledged_by.as_deref(), Some("ann"), "whoever looks after it still does");
    assert_eq!(watch.opened(), [id.clone(), id]);
}

#[test]
fn an_announced_crowd_and_a_drill_are_no_anomalies_and_errors_in_them_are() {
    let crowd = |_: u64, frame: &mut Frame| {
        frame.instances.requests.iter_mut().for_each(|n| *n *= 100.0);
        frame.instances.errors.iter_mut().for_each(|n| *n *= 100.0);
    };
    let mut sudden = Watch::warm();
    sudden.run(12, crowd);
    assert_eq!(sudden.blamed(), "demand surge at service entry");
    let mut watch = Watch::warm();
    let kind = ActivityKind::Event { services: vec!["entry".to_owned()] };
    let event = Activity { kind, from_ms: BEGIN * 1_000, until_ms: None };
    watch.detector.set_activities(vec![event.clone()]);
    watch.run(60, crowd);
    assert!(watch.opened().is_empty(), "{:?}", watch.changes);
    watch.run(10, |at, frame| {
        crowd(at, frame);
        frame.instances.errors[8..16].iter_mut().for_each(|n| *n += 800.0);
    });
    assert_eq!(watch.blamed(), "errors of service logic");

    let mut watch = Watch::warm();
    let place = EntityRef { kind: EntityKind::Host, name: "h2".to_owned() };
    let drill = Activity { kind: ActivityKind::Drill { place }, ..event };
    watch.detector.set_activities(vec![drill]);
    watch.run(60, |_, frame| lose(frame, 2, 4));
    assert!(watch.opened().is_empty(), "{:?}", watch.changes);
}

#[test]
fn a_new_topology_takes_states_and_incidents_along() {
    let mut watch = Watch::warm();
    watch.run(10, |_, frame| slow(frame, 9..10, 2.5));
    let id = watch.opened().remove(0);
    let mut parts = crate::fleet::parts();
    parts.instances.remove(0);
    watch.detector.retarget(detect::Topology::new(parts).unwrap());
    // The hot one is now one place further up.
    watch.run(10, |_, frame| slow(frame, 8..9, 2.5));
    assert_eq!(watch.opened(), std::slice::from_ref(&id));
    assert_eq!(watch.detector.incident(&id).unwrap().state, IncidentState::Open);
    assert!(!watch.changes.iter().any(|(_, change)| matches!(change, Change::Resolved(_))));
}

#[test]
fn an_incident_is_kept_and_read_again() {
    let mut watch = Watch::warm();
    watch.run(15, |_, frame| lose(frame, 2, 4));
    let incident = watch.detector.incidents().next().unwrap();
    let text = serde_json::to_string(incident).unwrap();
    let read: detect::Incident = serde_json::from_str(&text).unwrap();
    assert_eq!((&read.id, &read.blast, read.findings.len()), (&incident.id, &incident.blast, incident.findings.len()));
}
