//! Retry and skip of single steps and targets, and operations that hold at a step that failed.

use crate::world::*;
use control::{Aim, Refusal, Verb};
use model::{GateOutcome, OperationId, OperationPhase, OperationSpec, StepName, StepState};
use std::collections::BTreeMap;

fn step(name: StepName) -> Aim {
    Aim { step: Some(name), target: None }
}

fn target(name: &str) -> Aim {
    Aim { step: None, target: Some(name.to_owned()) }
}

fn state(world: &World, id: &OperationId, name: StepName) -> StepState {
    let step = world.op(id).steps.iter().find(|step| step.name == name);
    step.map_or(StepState::Waiting, |step| step.state)
}

fn until_held(world: &mut World, id: &OperationId, name: StepName) {
    world.until("the hold", |w| w.op(id).held_at().is_some_and(|step| step.name == name));
    let revision = world.revision;
    (0..200).for_each(|_| world.turn());
    assert_eq!(world.revision, revision, "nothing is written while it holds");
}

const HOOKS: &str = "hooks:
  - {when: before, step: attributes, command: [ticket]}
  - {when: before, step: start, command: [allow]}
  - {when: before, step: start, command: [page]}";

#[test]
fn a_failed_hook_is_asked_for_once_more_and_the_others_are_not() {
    let mut world = World::with_lottery(2, 2, HOOKS);
    world.hooks.clear();
    let id = world.open_held(scale_to(3, 2));
    world.until("the first hook", |w| w.hooks.len() == 1);
    world.hook_answer = Err("no permission on dc-a".to_owned());
    until_held(&mut world, &id, StepName::Start);
    let allowed = world.allowed(&id);
    assert_eq!(allowed.verbs, [Verb::Rollback, Verb::Retry, Verb::Skip]);
    assert_eq!(
        (allowed.step, allowed.targets),
        (Some(StepName::Start), vec!["lottery-5".to_owned(), "before/0".to_owned(), "before/1".to_owned()])
    );
    let held = control::resume(&world.snapshot, &id, "ann", world.now).expect_err("is refused");
    assert_eq!(held, Refusal::HeldAtFailure { operation: id.clone(), step: StepName::Start });
    world.hook_answer = Ok(());
    assert_eq!(world.retry(&id, &Aim::default()), Ok(id.clone()));
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(world.op(&id).failures, Vec::<String>::new(), "what was put right is no failure");
    let wanted = ["attributes/before/0", "start/before/0", "start/before/0/retry-1", "start/before/1"];
    assert_eq!(world.hooks, BTreeMap::from(wanted.map(|key| (format!("op-2/{key}"), 1))));
    assert!(world.starts.values().all(|starts| *starts == 1), "{:?}", world.starts);
}

#[test]
fn the_plan_cannot_be_skipped_but_a_hook_before_it_can() {
    let mut world = World::with_lottery(2, 2, HOOKS);
    world.hook_answer = Err("no permission on dc-a".to_owned());
    let id = world.open_held(scale_to(3, 2));
    until_held(&mut world, &id, StepName::Attributes);
    assert_eq!(world.allowed(&id).verbs, [Verb::Rollback, Verb::Retry]);
    let refused = world.skip(&id, &Aim::default()).expect_err("is refused");
    assert_eq!(refused, Refusal::Unskippable { operation: id.clone(), step: StepName::Attributes });
    let elsewhere = world.retry(&id, &step(StepName::Gray)).expect_err("is refused");
    let told = "operation op-2 is at step attributes, not at gray: only a step in hand or to come can be steered";
    assert_eq!(elsewhere.to_string(), told);
    world.skip(&id, &target("op-2/attributes/before/0")).expect("a hook can be");
    world.hook_answer = Ok(());
    world.settle();
    assert_eq!((world.op(&id).phase, world.healthy("lottery")), (OperationPhase::Succeeded, 5));
}

/// One of the new instances cannot be deployed.
fn held_at_deploy() -> (World, OperationId) {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.faults.insert("v1".to_owned(), Fault::NoDeploy);
    let id = world.open_held(scale_to(3, 2));
    until_held(&mut world, &id, StepName::Deploy);
    assert_eq!(world.allowed(&id).targets, ["lottery-5"]);
    (world, id)
}

#[test]
fn an_instance_tried_again_is_another_one_on_another_host() {
    let (mut world, id) = held_at_deploy();
    let host = world.op(&id).adds[0].host.clone();
    let unknown = world.retry(&id, &target("lottery-1")).expect_err("is refused");
    assert!(unknown.to_string().contains("one of lottery-5 would be right"), "{unknown}");
    world.faults.clear();
    world.retry(&id, &target("lottery-5")).expect("may be");
    let fresh = world.op(&id).adds[0].clone();
    assert_eq!(fresh.instance.as_str(), "lottery-6");
    assert_ne!(fresh.host, host);
    world.settle();
    assert_eq!((world.op(&id).phase, world.placed("lottery")), (OperationPhase::Succeeded, counts(3, 2)));
    assert_eq!(world.healthy("lottery"), 5);
    let deploy = world.op(&id).steps.iter().find(|step| step.name == StepName::Deploy).unwrap();
    assert_eq!((deploy.attempts, deploy.done, deploy.total), (2, 1, 1));
}

#[test]
fn an_instance_given_up_is_placed_later_by_an_operation_of_its_own() {
    let (mut world, id) = held_at_deploy();
    world.skip(&id, &target("lottery-5")).expect("may be");
    world.faults.clear();
    world.until("the end", |w| w.op(&id).phase.is_final());
    let op = world.op(&id);
    assert_eq!((op.phase, op.given_up.len()), (OperationPhase::Succeeded, 1));
    assert!(op.failures[0].ends_with("was given up by ann"), "{:?}", op.failures);
    world.settle();
    assert_eq!(world.last_operation().unwrap().who, "reconciler");
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(3, 2), 5));
}

fn held_at_gray() -> (World, OperationId) {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open_held(scale_to(3, 2));
    world.until("gray", |w| w.op(&id).gray_permille > 0);
    let fresh = world.op(&id).adds[0].instance.clone();
    world.bad.insert(fresh);
    until_held(&mut world, &id, StepName::Gray);
    let endpoints = control::endpoints(&world.snapshot, &world.observed, &service("lottery"));
    assert_eq!(endpoints.len(), 4, "what was judged bad gets nothing while it is held");
    (world, id)
}

#[test]
fn a_gate_tried_again_begins_with_the_first_stage() {
    let (mut world, id) = held_at_gray();
    let healthy = world.skip(&id, &target("lottery-5")).expect_err("is refused");
    assert!(matches!(healthy, Refusal::Serving { .. }), "{healthy}");
    world.bad.clear();
    world.retry(&id, &step(StepName::Gray)).expect("may be");
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    let passed = [10, 100, 1_000].map(|stage| (stage, GateOutcome::Passed));
    assert_eq!(world.outcomes(&id)[1..], passed);
}

#[test]
fn a_gate_skipped_releases_at_once_and_says_so() {
    let (mut world, id) = held_at_gray();
    world.skip(&id, &Aim::default()).expect("may be");
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(world.outcomes(&id).last(), Some(&(1_000, GateOutcome::Skipped)));
    assert_eq!(state(&world, &id, StepName::Gray), StepState::Skipped);
    let endpoints = control::endpoints(&world.snapshot, &world.observed, &service("lottery"));
    assert!(endpoints.len() == 5 && endpoints.iter().all(|endpoint| endpoint.weight == 1_000), "{endpoints:?}");
}

#[test]
fn a_held_operation_rolls_back_like_any_other() {
    let (mut world, id) = held_at_gray();
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    world.settle();
    assert_eq!((world.op(&id).phase, world.placed("lottery")), (OperationPhase::RolledBack, counts(2, 2)));
    assert!(world.snapshot.scales.is_empty() && world.snapshot.silences.is_empty());
}

#[test]
fn a_step_to_come_is_passed_over_when_its_turn_comes() {
    let mut world = World::with_lottery(2, 2, "");
    let id = world.open(scale_to(3, 2));
    world.skip(&id, &step(StepName::Silence)).expect("may be");
    world.skip(&id, &step(StepName::Gray)).expect("may be");
    for _ in 0..100 {
        world.turn();
        assert!(world.snapshot.silences.is_empty());
    }
    world.settle();
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(state(&world, &id, StepName::Silence), StepState::Skipped);
    assert_eq!(world.outcomes(&id), [(1_000, GateOutcome::Skipped)]);
}

#[test]
fn a_drain_that_nobody_confirms_need_not_be_waited_for() {
    let mut world = World::with_lottery(3, 2, "");
    let id = world.open(scale_to(2, 2));
    world.observed.proxies_behind.insert(service("lottery"));
    world.until("draining", |w| state(w, &id, StepName::Drain) == StepState::Running);
    world.steer(control::pause(&world.snapshot, &id, "ann", world.now));
    world.skip(&id, &Aim::default()).expect("may be");
    (0..50).for_each(|_| world.turn());
    assert_eq!(world.op(&id).phase, OperationPhase::Paused, "paused by hand, it stays so");
    world.steer(control::resume(&world.snapshot, &id, "ann", world.now));
    let began = world.now;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert!(world.now - began < 5_000, "not waited for: {} ms", world.now - began);
    assert_eq!((world.op(&id).phase, world.placed("lottery")), (OperationPhase::Succeeded, counts(2, 2)));
    assert_eq!(state(&world, &id, StepName::Drain), StepState::Skipped);
    assert_eq!(state(&world, &id, StepName::Stop), StepState::Done);
}

#[test]
fn what_ended_without_success_is_opened_once_more() {
    let mut world = World::with_lottery(2, 2, "");
    world.faults.insert("v1".to_owned(), Fault::NoDeploy);
    let id = world.open(scale_to(3, 2));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!((world.op(&id).phase, world.allowed(&id).verbs), (OperationPhase::RolledBack, vec![Verb::Retry]));
    assert!(matches!(world.retry(&id, &step(StepName::Deploy)), Err(Refusal::Final { .. })), "its steps are over");
    world.faults.clear();
    let again = world.retry(&id, &Aim::default()).expect("may be");
    assert_ne!(again, id);
    assert!(matches!(world.retry(&id, &Aim::default()), Err(Refusal::Busy { .. })));
    world.settle();
    assert_eq!((world.op(&again).phase, world.healthy("lottery")), (OperationPhase::Succeeded, 5));
    assert!(matches!(world.retry(&again, &Aim::default()), Err(Refusal::Final { .. })), "nothing to do again");
    assert_eq!(world.allowed(&again).verbs, []);
}

#[test]
fn a_rollback_waits_for_nothing_that_is_skipped() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(3, 2));
    world.until("gray", |w| w.op(&id).gray_permille > 0);
    world.observed.proxies_behind.insert(service("lottery"));
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    world.until("draining", |w| state(w, &id, StepName::Drain) == StepState::Running);
    assert_eq!(world.allowed(&id).verbs, [Verb::Skip]);
    assert!(matches!(world.retry(&id, &Aim::default()), Err(Refusal::WrongPhase { .. })));
    let began = world.now;
    world.skip(&id, &Aim::default()).expect("may be");
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert!(world.now - began < 5_000, "not waited for: {} ms", world.now - began);
    assert_eq!((world.op(&id).phase, world.placed("lottery")), (OperationPhase::RolledBack, counts(2, 2)));
}

#[test]
fn a_stress_test_has_no_steps_to_steer() {
    let mut world = World::with_lottery(2, 2, "");
    let id = world.open(OperationSpec::Stress { service: service("lottery"), instance: None, duration_ms_max: 20_000 });
    let refused = Refusal::NoSteps { operation: id.clone() };
    assert_eq!(world.skip(&id, &Aim::default()), Err(refused.clone()));
    assert_eq!(world.retry(&id, &Aim::default()), Err(refused));
    assert_eq!(world.allowed(&id).verbs, [Verb::Pause, Verb::Rollback]);
}
