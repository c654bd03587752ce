//! Tests of waiting for operations.

use super::board::tests::{line, operation, step};
use super::*;
use model::{StepName, StepState};

/// An operation that is held at its start, and one that somebody paused.
fn stopped() -> (Operation, Operation) {
    let mut start = step(StepName::Start, StepState::Failed, 1, 4);
    start.message = "lottery-7 is not healthy".to_owned();
    let mut held = operation("op-15", vec![start]);
    held.phase = OperationPhase::Paused;
    held.log.push(line(2_000, "held at the failed step: retry it, skip it, or roll back"));
    let mut paused = operation("op-16", vec![step(StepName::Start, StepState::Running, 1, 4)]);
    paused.phase = OperationPhase::Paused;
    paused.log.push(line(2_000, "paused by ann"));
    (held, paused)
}

#[test]
fn a_held_operation_ends_the_wait_and_says_what_goes_on() {
    let (held, paused) = stopped();
    assert!(is_over(&held) && !is_over(&paused));
    assert_eq!((standing(&held), standing(&paused)), ("held", "paused"));
    let said = shortfall(&held).expect("no success");
    let wanted = "op-15: held at step start: lottery-7 is not healthy; go on with: springtide operation retry op-15, \
                  operation skip op-15, or operation rollback op-15";
    assert_eq!(said, wanted);
    assert_eq!(stands(&paused), "paused by ann; go on with: springtide operation resume op-16");
}

#[test]
fn what_was_overtaken_is_no_failure_of_what_overtook_it() {
    let (held, _) = stopped();
    let mut ended = held.clone();
    ended.phase = OperationPhase::RolledBack;
    ended.failures = vec!["service lottery was deleted meanwhile".to_owned()];
    let said = "op-15: rolled back: service lottery was deleted meanwhile";
    ended.planned_at = 20;
    assert_eq!(failure(&ended, 21).as_deref(), Some(said));
    ended.overtaken = true;
    assert_eq!(failure(&ended, 21), None);
    assert_eq!(failure(&ended, 20).as_deref(), Some(said), "somebody else's intent overtook what was applied");
    assert!(failure(&held, 21).is_some());
}

#[test]
fn what_an_apply_waits_behind_is_said() {
    let (held, paused) = stopped();
    let all = [held, paused];
    let services: BTreeSet<String> = ["lottery".to_owned()].into();
    let known: BTreeSet<OperationId> = ["op-15".parse().unwrap()].into();
    let told = behind(&all, &services, &known);
    assert!(told["lottery"].starts_with("waits for op-15, held at step start: lottery-7 is not healthy; "), "{told:?}");
    assert!(behind(&all, &["pay".to_owned()].into(), &known).is_empty(), "another service");
    assert!(behind(&all, &services, &BTreeSet::new()).is_empty(), "one that is followed says it by itself");
}
