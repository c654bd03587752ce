//! Pause, resume, rollback, hooks, and what is refused.

use crate::world::*;
use control::{NothingToDo, Refusal};
use model::{HostName, InstanceId, OperationId, OperationPhase, OperationSpec};
use std::collections::BTreeMap;

#[test]
fn a_paused_release_keeps_its_weight_and_goes_on_when_resumed() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(4, 4));
    world.until("the second stage", |w| w.op(&id).gray_permille == 100);
    world.steer(control::pause(&world.snapshot, &id, "ann", world.now));
    let revision = world.revision;
    (0..300).for_each(|_| world.turn());
    assert_eq!(world.revision, revision, "nothing is written while paused");
    let weights: Vec<u32> = control::endpoints(&world.snapshot, &world.observed, &service("lottery"))
        .iter()
        .map(|endpoint| endpoint.weight)
        .collect();
    assert_eq!(weights, [1_000, 1_000, 1_000, 1_000, 100, 100, 100, 100]);
    world.steer(control::resume(&world.snapshot, &id, "ann", world.now));
    let again = control::resume(&world.snapshot, &id, "ann", world.now).expect_err("it runs");
    assert_eq!(again.to_string(), format!("operation {id} is running: only one that is paused can be resumed"));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
}

#[test]
fn a_rollback_from_any_moment_leaves_what_was_before() {
    for turns in (0..100).step_by(3) {
        let mut world = World::with_lottery(2, 2, "");
        world.rps.insert(service("lottery"), 5_000.0);
        let before = world.placements();
        let id = world.open(scale_to(3, 4));
        (0..turns).for_each(|_| world.turn());
        if world.op(&id).phase.is_final() {
            assert!(turns > 30, "the operation ends too early to be rolled back");
            break;
        }
        world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
        world.settle();
        assert_eq!(world.op(&id).phase, OperationPhase::RolledBack, "after {turns} turns");
        assert_eq!(world.placements(), before, "after {turns} turns");
        assert!(world.snapshot.scales.is_empty() && world.snapshot.silences.is_empty(), "after {turns} turns");
        assert_eq!(world.healthy("lottery"), 4, "after {turns} turns");
        assert!(world.op(&id).failures[0].contains("rolled back by ann"));
    }
}

#[test]
fn a_scale_in_rolled_back_while_it_drains_serves_again() {
    let mut world = World::with_lottery(3, 2, "");
    let before = world.placements();
    let id = world.open(scale_to(1, 2));
    world.until("draining", |w| w.placements() != before);
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::RolledBack);
    assert_eq!(world.placements(), before);
    world.golden("rollback-scale-in");
}

const HOOKS: &str = "hooks:
  - {when: before, step: start, webhook: http://127.0.0.1:1/allow}
  - {when: after, step: gray, command: [notify]}
  - {when: before, step: attributes, command: [ticket]}";

#[test]
fn hooks_run_once_around_their_steps() {
    let mut world = World::with_lottery(2, 2, HOOKS);
    world.hooks.clear();
    let id = world.open(scale_to(3, 2));
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    let wanted = ["op-2/attributes/before/0", "op-2/gray/after/0", "op-2/start/before/0"];
    assert_eq!(world.hooks, BTreeMap::from(wanted.map(|key| (key.to_owned(), 1))));
}

#[test]
fn a_failed_hook_before_a_step_undoes_the_operation() {
    let mut world = World::with_lottery(2, 2, HOOKS);
    let before = world.placements();
    world.hook_answer = Err("no permission on dc-a".to_owned());
    let id = world.open(scale_to(3, 2));
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Failed, "nothing was placed yet");
    assert_eq!(world.op(&id).failures, ["hook op-2/attributes/before/0 failed: no permission on dc-a"]);
    assert_eq!(world.placements(), before);
}

fn refused(world: &World, spec: OperationSpec) -> Refusal {
    control::open(&world.snapshot, &world.observed, spec, false, "test", world.now).expect_err("is refused")
}

#[test]
fn refusals_are_typed_and_say_what_would_be_right() {
    let mut world = World::with_lottery(2, 1, "");
    let ghost = service("ghost");
    let spec = OperationSpec::Scale { service: ghost.clone(), instances: counts(1, 0) };
    assert_eq!(refused(&world, spec), Refusal::UnknownService(ghost));
    let met = NothingToDo::CountsMet(service("lottery"));
    assert_eq!(refused(&world, scale_to(2, 1)), Refusal::NothingToDo(met));
    let host = HostName::new("nowhere").unwrap();
    assert_eq!(refused(&world, OperationSpec::Drain { host: host.clone() }), Refusal::UnknownHost(host));
    let stress = |instance: Option<&str>, duration_ms_max| OperationSpec::Stress {
        service: service("lottery"),
        instance: instance.map(|id| InstanceId::new(id).unwrap()),
        duration_ms_max,
    };
    assert!(matches!(refused(&world, stress(None, 10)), Refusal::BadDuration { .. }));
    assert!(matches!(refused(&world, stress(Some("lottery-99"), 20_000)), Refusal::UnknownInstance { .. }));
    let id = world.open(scale_to(3, 1));
    let busy = Refusal::Busy { service: service("lottery"), operation: id.clone() };
    assert_eq!(refused(&world, scale_to(5, 1)), busy);
    assert_eq!(busy.to_string(), "service lottery is under operation op-2: wait for it to end, or roll it back");
    let drain = OperationSpec::Drain { host: HostName::new("dc-a-1").unwrap() };
    assert_eq!(refused(&world, drain), busy);
    world.settle();
    let late = control::pause(&world.snapshot, &id, "ann", world.now).expect_err("is refused");
    assert_eq!(late, Refusal::Final { operation: id, phase: OperationPhase::Succeeded });
    let unknown = OperationId::new("op-99").unwrap();
    let gone = control::rollback(&world.snapshot, &unknown, "ann", world.now).expect_err("is refused");
    assert_eq!(gone, Refusal::UnknownOperation(unknown));
}
