//! The online stress test: weights leave and return, whatever dies.

use crate::bench_instance::CAPACITY_RPS;
use crate::world::*;
use control::Refusal;
use model::{OperationId, OperationPhase, OperationSpec};

fn spec() -> OperationSpec {
    OperationSpec::Stress { service: service("lottery"), instance: None, duration_ms_max: 20_000 }
}

fn under_test() -> (World, OperationId) {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 1_000.0);
    let id = world.open(spec());
    world.until("moved traffic", |w| w.overrides.get(&service("lottery")).is_some_and(|(all, _)| !all.is_empty()));
    (world, id)
}

#[test]
fn a_stress_test_finds_the_capacity_and_gives_the_weights_back() {
    let (mut world, id) = under_test();
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    let curve = &world.curves[0];
    let off = (curve.capacity_rps.value - CAPACITY_RPS).abs() / CAPACITY_RPS;
    assert!(off < 0.08, "{:?}", curve.capacity_rps);
    assert_eq!(world.op(&id).report.as_deref(), Some("curve-op-2"));
    assert!(world.overrides[&service("lottery")].0.is_empty());
    let writes = world.commits.iter().filter(|commit| commit.operation.as_ref() == Some(&id)).count();
    assert_eq!(writes, 3, "the journal is written at open, begin and end");
    world.golden("stress");
}

#[test]
fn a_server_that_dies_ends_the_test_and_the_override_lapses() {
    let (mut world, id) = under_test();
    world.crash();
    (0..45).for_each(|_| world.turn());
    assert_eq!(world.op(&id).phase, OperationPhase::Failed);
    assert!(world.op(&id).failures[0].contains("the server restarted during the test"));
    assert!(world.overrides.get(&service("lottery")).is_none_or(|(_, until)| *until <= world.now));
}

#[test]
fn a_pause_gives_the_weights_back_and_a_resume_begins_anew() {
    let (mut world, id) = under_test();
    world.steer(control::pause(&world.snapshot, &id, "ann", world.now));
    world.turn();
    assert!(world.overrides[&service("lottery")].0.is_empty());
    (0..100).for_each(|_| world.turn());
    world.bench = None;
    world.steer(control::resume(&world.snapshot, &id, "ann", world.now));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
}

#[test]
fn a_rollback_and_silence_give_the_weights_back() {
    let (mut world, id) = under_test();
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    world.turn();
    assert_eq!(world.op(&id).phase, OperationPhase::RolledBack);
    assert!(world.overrides[&service("lottery")].0.is_empty());

    let (mut world, id) = under_test();
    world.mute = true;
    (0..60).for_each(|_| world.turn());
    assert_eq!(world.op(&id).phase, OperationPhase::Failed);
    assert!(world.op(&id).failures[0].contains("no reading"), "{:?}", world.op(&id).failures);
    assert!(world.overrides[&service("lottery")].0.is_empty());
}

#[test]
fn a_server_that_stood_still_has_missed_no_reading() {
    let (mut world, id) = under_test();
    world.now += 3_500;
    world.mute = true;
    world.turn();
    world.mute = false;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
}

#[test]
fn one_instance_alone_is_tested_only_when_named() {
    let mut world = World::with_lottery(1, 0, "");
    let refused =
        control::open(&world.snapshot, &world.observed, spec(), false, "test", world.now).expect_err("is refused");
    assert_eq!(refused, Refusal::TooFewHealthy { service: service("lottery"), healthy: 1 });
    world.rps.insert(service("lottery"), 200.0);
    let only = world.snapshot.placements_of(&service("lottery")).next().unwrap().1.instance.clone();
    let id = world.open(OperationSpec::Stress {
        service: service("lottery"),
        instance: Some(only),
        duration_ms_max: 20_000,
    });
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
}

/// The test ended, clearly, with the weights back, within so many turns.
fn ended_for(world: &mut World, id: &OperationId, turns: u32, why: &str) {
    (0..turns).for_each(|_| world.turn());
    assert_eq!(world.op(id).phase, OperationPhase::Failed);
    assert!(world.op(id).failures[0].contains(why), "{:?}", world.op(id).failures);
    assert!(world.overrides[&service("lottery")].0.is_empty(), "weights are back");
}

#[test]
fn whatever_dies_under_a_stress_test_ends_it_and_says_which() {
    let (mut world, id) = under_test();
    let instance = world.bench.as_ref().expect("under test").instance.clone();
    let host = world.observed.instances[&instance].host.clone();
    // It left and was back before it counted as lost.
    world.observed.hosts.get_mut(&host).expect("its agent is here").since = world.now + 1;
    ended_for(&mut world, &id, 1, &format!("the agent of {host} was away"));

    let (mut world, id) = under_test();
    world.observed.traffic_since = world.now + 1;
    ended_for(&mut world, &id, 1, "a proxy went away");

    let (mut world, id) = under_test();
    let instance = world.bench.as_ref().expect("under test").instance.clone();
    let host = world.observed.instances[&instance].host.clone();
    let agent = world.agents.get_mut(&host).expect("it has an agent");
    agent.instances.get_mut(&instance).expect("it runs").0 = control::Phase::Backoff;
    ended_for(&mut world, &id, 2, &format!("{instance} went down"));
}
