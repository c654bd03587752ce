//! Scale-out and scale-in, from the click to the report.

use crate::world::*;
use model::{GateOutcome, InstanceIntent, OperationPhase, OperationSpec, StepName, StepState};

#[test]
fn the_first_apply_brings_a_service_up() {
    let world = World::with_lottery(2, 1, "");
    let op = world.last_operation().unwrap();
    assert_eq!((op.phase, op.who.as_str()), (OperationPhase::Succeeded, "reconciler"));
    assert_eq!(world.placed("lottery"), counts(2, 1));
    assert_eq!(world.snapshot.operations.len(), 1, "one operation per service");
    assert!(world.snapshot.scales.is_empty(), "the manifest's counts stay in force");
    assert_eq!(world.outcomes(&op.id), [(1_000, GateOutcome::NoRunningFleet)]);
}

#[test]
fn a_scale_out_walks_the_six_steps_and_is_judged_at_each_stage() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(4, 4));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert_eq!(world.placed("lottery"), counts(4, 4));
    assert_eq!(world.outcomes(&id), [10, 100, 1_000].map(|stage| (stage, GateOutcome::Passed)));
    assert!(world.op(&id).verdicts.iter().all(|verdict| verdict.requests_new >= 100));
    assert_eq!(world.op(&id).report.as_deref(), Some("report-op-2"));
    assert_eq!(world.snapshot.scales[&service("lottery")].value.instances, counts(4, 4));
    assert!(world.snapshot.silences.is_empty(), "the silence ends with the release");
    world.golden("scale-out");
}

#[test]
fn a_hundred_instances_take_seconds_and_few_journal_writes() {
    let manifests = FLEET.replace("cpu: 8", "cpu: 64").replace("16GiB", "256GiB");
    let mut world = World::new(&(manifests + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &lottery("v1", 2, 2, "")));
    world.settle();
    world.rps.insert(service("lottery"), 500.0);
    let (began, commits) = (world.now, world.commits.len());
    let id = world.open(scale_to(52, 52));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id).failures);
    assert_eq!(world.healthy("lottery"), 104);
    assert!(world.now - began < 12_000, "took {} ms of virtual time", world.now - began);
    assert!(world.commits.len() - commits < 12, "{} commits", world.commits.len() - commits);
}

#[test]
fn a_scale_over_many_hosts_is_cut_into_transactions_and_undone_whole() {
    let text = FLEET.to_owned() + &hosts("dc-a", 150) + &hosts("dc-b", 1);
    let mut world = World::new(&(text + &lottery("v1", 2, 0, "per_host_max: 1")));
    world.settle();
    world.rps.insert(service("lottery"), 50_000.0);
    let before = world.placements();
    let id = world.open(scale_to(150, 0));
    world.until("the second batch", |w| w.op(&id).batch == 1 && w.op(&id).gray_permille == 10);
    assert_eq!((world.op(&id).batches, world.op(&id).adds.len()), (2, 148));
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    world.settle();
    assert_eq!((world.op(&id).phase, world.placements()), (OperationPhase::RolledBack, before));
    let id = world.open(scale_to(150, 0));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!((world.op(&id).phase, world.healthy("lottery")), (OperationPhase::Succeeded, 150));
    let id = world.open(scale_to(3, 0));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!((world.op(&id).phase, world.healthy("lottery")), (OperationPhase::Succeeded, 3));
}

#[test]
fn services_that_share_hosts_are_brought_up_at_once() {
    let names = ["lottery", "gift", "message", "pay", "sso"];
    let services: String = names.iter().map(|name| lottery("v1", 3, 3, "").replace("lottery", name)).collect();
    let mut world = World::new(&(FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &services));
    let began = world.now;
    world.until("all up", |w| names.iter().all(|name| w.healthy(name) == 6));
    assert!(world.now - began < 5_000, "took {} ms", world.now - began);
    world.settle();
    assert_eq!(world.snapshot.operations.len(), names.len(), "one operation per service, whatever conflicted");
}

#[test]
fn a_quiet_service_is_promoted_on_health_alone_and_it_says_so() {
    let mut world = World::with_lottery(2, 2, "");
    let id = world.open(scale_to(3, 2));
    let began = world.now;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.outcomes(&id), [10, 100, 1_000].map(|stage| (stage, GateOutcome::TooFewRequests)));
    assert!(world.now - began < 15_000, "nobody is there to wait for: {} ms", world.now - began);
}

#[test]
fn scale_in_drains_before_it_stops() {
    let mut world = World::with_lottery(3, 2, "");
    world.rps.insert(service("lottery"), 500.0);
    let id = world.open(scale_to(1, 2));
    let name = service("lottery");
    let drains =
        |w: &World| w.snapshot.placements_of(&name).filter(|(_, p)| p.intent == InstanceIntent::Draining).count();
    world.until("draining", |w| drains(w) == 2);
    let began = world.now;
    assert_eq!(world.healthy("lottery"), 5, "draining instances still run");
    let endpoints = control::endpoints(&world.snapshot, &world.observed, &name);
    assert_eq!(endpoints.iter().filter(|e| e.draining && e.weight == 0).count(), 2);
    world.until("removal", |w| w.placed("lottery") == counts(1, 2));
    assert!(world.now - began >= 2_000, "drained for {} ms", world.now - began);
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(world.healthy("lottery"), 3);
    world.golden("scale-in");
}

#[test]
fn one_operation_may_add_here_and_remove_there() {
    let mut world = World::with_lottery(3, 1, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(1, 3));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(1, 3), 4));
}

#[test]
fn what_does_not_fit_is_not_begun_and_says_why() {
    let mut world = World::with_lottery(2, 2, "");
    let before = world.snapshot.placements.clone();
    let id = world.open(scale_to(200, 2));
    world.until("the end", |w| w.op(&id).phase.is_final());
    let op = world.op(&id);
    assert_eq!(op.phase, OperationPhase::Failed);
    assert_eq!(
        op.failures,
        ["lottery in dc-a: room for 22 of 198 new instances (3 hosts: not enough cpu: 0 cores free, 1 wanted)"]
    );
    assert_eq!(op.steps.iter().find(|s| s.name == StepName::Attributes).unwrap().state, StepState::Failed);
    assert_eq!(world.snapshot.placements, before);
    assert!(world.snapshot.scales.is_empty());
}

#[test]
fn an_apply_with_other_counts_scales_and_a_scale_is_kept_by_other_applies() {
    let mut world = World::with_lottery(2, 2, "");
    let fleet = FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3);
    let id = world.open(scale_to(3, 3));
    world.until("the end", |w| w.op(&id).phase.is_final());
    world.apply(&(fleet.clone() + &lottery("v1", 2, 2, "criticality: high")), false);
    world.settle();
    assert_eq!(world.placed("lottery"), counts(3, 3), "apply never reverts a scale");
    world.apply(&(fleet + &lottery("v1", 1, 2, "criticality: high")), false);
    world.settle();
    assert_eq!(world.placed("lottery"), counts(1, 2), "until the manifest's own counts change");
}

#[test]
fn a_deleted_service_is_scaled_to_nothing() {
    let mut world = World::with_lottery(2, 1, "");
    world.apply(&(FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3)), true);
    world.settle();
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(0, 0), 0));
    assert!(world.snapshot.placements.is_empty());
    let OperationSpec::Scale { instances, .. } = &world.last_operation().unwrap().spec else { panic!("not a scale") };
    assert!(instances.is_empty());
}

#[test]
fn nothing_is_repaired_before_a_quorum_has_reported() {
    let mut world = World::with_lottery(2, 2, "");
    world.crash();
    let names: Vec<_> = world.agents.keys().cloned().collect();
    for name in names {
        world.agents.get_mut(&name).unwrap().connected = false;
    }
    world.apply(&(FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &lottery("v1", 3, 2, "")), false);
    let operations = world.snapshot.operations.len();
    (0..100).for_each(|_| world.turn());
    assert_eq!(world.snapshot.operations.len(), operations);
    let endpoints = control::endpoints(&world.snapshot, &world.observed, &service("lottery"));
    assert_eq!(
        endpoints.iter().filter(|e| e.weight == 1_000).count(),
        4,
        "a restarted server knows less than the fleet"
    );
}

#[test]
fn a_first_release_waits_for_proxies_that_do_not_know_of_it_for_a_while() {
    for confirms in [true, false] {
        let mut world = World::with_lottery(0, 0, "");
        let id = world.open(scale_to(1, 0));
        world.observed.proxies_behind.insert(service("lottery"));
        world.until("full weight", |w| w.op(&id).gray_permille == 1_000);
        let released = world.now;
        (0..50).for_each(|_| world.turn());
        assert!(!world.op(&id).phase.is_final(), "nobody may be sent there yet");
        if confirms {
            world.observed.proxies_behind.clear();
        }
        world.until("the end", |w| w.op(&id).phase.is_final());
        assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
        assert_eq!(world.now - released < 10_000, confirms, "{} ms", world.now - released);
    }
}
