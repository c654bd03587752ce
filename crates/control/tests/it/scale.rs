//! Scale-out and scale-in, from the click to the report.

use crate::world::*;
use model::*;

#[test]
fn the_first_apply_brings_a_service_up() {
    let world = World::with_lottery(2, 1, "");
    let op = world.last_operation().unwrap();
    assert_eq!((op.phase, op.who.as_str()), (OperationPhase::Succeeded, "reconciler"));
    assert_eq!(world.placed("lottery"), counts(2, 1));
    assert_eq!(world.snapshot.operations.len(), 1, "one operation per service");
}

#[test]
fn a_scale_out_walks_the_six_steps_and_is_judged_at_each_stage() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let began = world.now;
    let id = world.open(scale_to(4, 4));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert_eq!(world.placed("lottery"), counts(4, 4));
    assert_eq!(world.outcomes(&id), [10, 100, 1_000].map(|stage| (stage, GateOutcome::Passed)));
    assert!(world.op(&id).verdicts.iter().all(|verdict| verdict.requests_new >= 100));
    assert_eq!(world.op(&id).report.as_deref(), Some("report-op-2"));
    assert!(world.now - began < 12_000, "took {} ms", world.now - began);
    world.golden("scale-out");
}
