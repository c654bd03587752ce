//! Rollouts and drains: new before old, in batches, judged, undone when bad.

use crate::world::*;
use control::Phase;
use model::{HostName, OperationPhase, OperationSpec};

fn fleet_with(service: &str) -> String {
    FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + service
}

#[test]
fn a_changed_package_rolls_through_in_batches() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.apply(&fleet_with(&lottery("v2", 2, 2, "")), false);
    let mut least = usize::MAX;
    for _ in 0..600 {
        world.turn();
        least = least.min(world.healthy("lottery"));
    }
    let op = world.last_operation().unwrap();
    assert_eq!(op.phase, OperationPhase::Succeeded, "{op:#?}");
    assert!(matches!(op.spec, OperationSpec::Rollout { .. }));
    assert_eq!((op.batch, op.batches, op.adds.len(), op.removes.len()), (3, 4, 4, 4));
    assert_eq!(world.versions(), ["v2".to_owned()].into());
    assert_eq!(world.placed("lottery"), counts(2, 2));
    assert!(least >= 4, "{least} instances served at worst");
    world.golden("rollout");
}

#[test]
fn a_failed_hook_before_the_stop_gives_the_old_instances_back_and_takes_the_new_ones_away() {
    let hooks = "hooks:\n  - {when: before, step: stop, command: [allow]}";
    for host in [None, Some("dc-a-1")] {
        let mut world = World::with_lottery(2, 2, hooks);
        world.rps.insert(service("lottery"), 50_000.0);
        let before = world.placements();
        world.hook_answer = Err("not tonight".to_owned());
        match host {
            Some(host) => drop(world.open(OperationSpec::Drain { host: HostName::new(host).unwrap() })),
            None => world.apply(&fleet_with(&lottery("v2", 2, 2, hooks)), false),
        }
        world.settle();
        let op = world.op(&model::OperationId::new("op-2").unwrap());
        assert_eq!(op.phase, OperationPhase::RolledBack, "{op:#?}");
        assert!(op.failures[0].contains("stop/before/0 failed: not tonight"), "{:?}", op.failures);
        assert_eq!(world.placements(), before, "what ran before the operation runs, and nothing else");
        assert_eq!(world.healthy("lottery"), 4);
    }
}

#[test]
fn an_instance_that_recovers_during_a_stage_is_compared_by_that_time_only() {
    let mut world = World::with_lottery(4, 4, "");
    world.rps.insert(service("lottery"), 50_000.0);
    (0..20).for_each(|_| world.turn());
    let (host, sick) = world
        .agents
        .iter()
        .find_map(|(host, agent)| Some((host.clone(), agent.instances.keys().next_back()?.clone())))
        .unwrap();
    let bad = world.observed.traffic.get_mut(&sick).unwrap();
    (bad.requests, bad.errors) = (bad.requests + 1_000_000, bad.errors + 600_000);
    bad.latency.add(model::histogram::bucket_of(5_000), 1_000_000);
    world.agents.get_mut(&host).unwrap().instances.get_mut(&sick).unwrap().0 = Phase::Unhealthy;
    world.turn();
    world.faults.insert("v2".to_owned(), Fault::Errors);
    world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
    world.until("the first stage", |w| w.last_operation().is_some_and(|op| op.gray_permille == 10));
    world.turn();
    world.agents.get_mut(&host).unwrap().instances.get_mut(&sick).unwrap().0 = Phase::Healthy;
    world.settle();
    let op = world.op(&model::OperationId::new("op-2").unwrap());
    assert_eq!(op.phase, OperationPhase::RolledBack, "{op:#?}");
    assert_eq!(op.verdicts.len(), 1, "refused at one percent: {:?}", op.verdicts);
}

#[test]
fn traffic_that_a_restarted_server_does_not_see_yet_is_not_taken_for_none() {
    let mut world = World::with_lottery(4, 4, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.faults.insert("v2".to_owned(), Fault::Errors);
    world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
    world.until("the first stage", |w| w.last_operation().is_some_and(|op| op.gray_permille == 10));
    world.crash();
    // Proxies wait up to five seconds before they come back, and carry traffic meanwhile.
    world.rps.clear();
    (0..60).for_each(|_| world.turn());
    world.rps.insert(service("lottery"), 5_000.0);
    world.settle();
    let op = world.op(&model::OperationId::new("op-2").unwrap());
    assert_eq!((op.phase, op.gray_permille), (OperationPhase::RolledBack, 10), "{:?}", op.verdicts);
}

#[test]
fn a_changed_variable_rolls_through_too() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.apply(&fleet_with(&lottery("v1", 2, 2, "args: [--fast]")), false);
    world.settle();
    let op = world.last_operation().unwrap();
    assert!(matches!(op.spec, OperationSpec::Rollout { .. }));
    assert_eq!(op.phase, OperationPhase::Succeeded);
}

#[test]
fn a_bad_version_is_stopped_at_one_percent_and_undone() {
    for (fault, words) in [
        (Fault::Errors, "requests to new instances failed"),
        (Fault::Slow, "new instances are slower"),
        (Fault::Faints, "became unhealthy"),
        (Fault::Exits, "keeps exiting"),
        (Fault::NoDeploy, "cannot be brought up"),
    ] {
        let mut world = World::with_lottery(4, 4, "");
        world.rps.insert(service("lottery"), 5_000.0);
        let before = world.snapshot.placements.clone();
        world.faults.insert("v2".to_owned(), fault);
        world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
        world.settle();
        let op = world.last_operation().unwrap();
        assert_eq!(op.phase, OperationPhase::RolledBack, "{fault:?}: {op:#?}");
        assert!(op.failures.iter().any(|why| why.contains(words)), "{fault:?}: {:?}", op.failures);
        assert!(op.gray_permille <= 10, "{fault:?} was released to {}", op.gray_permille);
        assert!(op.report.is_some() && !op.overtaken);
        let values = |p: &std::collections::BTreeMap<HostName, model::Versioned<model::HostPlacements>>| -> Vec<_> {
            p.values().map(|at| at.value.as_ref().clone()).collect()
        };
        assert_eq!(values(&world.snapshot.placements), values(&before), "{fault:?}: the old version runs as before");
        assert_eq!(world.healthy("lottery"), 8, "{fault:?}");
        let operations = world.snapshot.operations.len();
        (0..300).for_each(|_| world.turn());
        assert_eq!(
            world.snapshot.operations.len(),
            operations,
            "{fault:?}: the same intent is not tried again at once"
        );
        if fault == Fault::Errors {
            world.golden("rollout-bad");
        }
        world.faults.clear();
        world.apply(&fleet_with(&lottery("v3", 4, 4, "")), false);
        world.settle();
        assert_eq!(world.versions(), ["v3".to_owned()].into(), "{fault:?}: a new intent is tried at once");
    }
}

#[test]
fn what_newer_intent_overtook_says_so() {
    let second = model::OperationId::new("op-2").unwrap();
    let at_gray =
        |world: &World| world.snapshot.operations.contains_key(&second) && world.op(&second).gray_permille > 0;
    let overtaken = |world: &World| {
        let op = world.op(&second);
        assert_ne!(op.phase, OperationPhase::Succeeded, "{op:#?}");
        op.overtaken
    };
    let mut world = World::with_lottery(4, 4, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
    world.until("gray", at_gray);
    world.apply(&fleet_with(&lottery("v3", 4, 4, "")), false);
    world.settle();
    assert!(overtaken(&world));
    assert_eq!(world.versions(), ["v3".to_owned()].into());

    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.open(scale_to(3, 2));
    world.until("gray", at_gray);
    world.apply(&fleet_with(""), true);
    world.settle();
    assert!(overtaken(&world));
    assert!(world.placements().is_empty());
}

#[test]
fn a_pause_is_no_slow_version() {
    let mut world = World::with_lottery(4, 4, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.faults.insert("v2".to_owned(), Fault::Pauses);
    world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
    world.settle();
    let op = world.last_operation().unwrap();
    assert_eq!(op.phase, OperationPhase::Succeeded, "{op:#?}");
    assert_eq!(world.versions(), ["v2".to_owned()].into());
    let promoted = |of: &&model::GateVerdict| of.outcome == model::GateOutcome::Passed;
    assert_eq!(op.verdicts.iter().filter(promoted).count(), op.verdicts.len(), "{:?}", op.verdicts);
}

#[test]
fn a_slow_version_found_twice_is_undone_though_the_commit_fails_and_requests_stay_away_then() {
    let mut world = World::with_lottery(4, 4, "");
    world.rps.insert(service("lottery"), 5_000.0);
    world.faults.insert("v2".to_owned(), Fault::Slow);
    world.apply(&fleet_with(&lottery("v2", 4, 4, "")), false);
    let looks_again = |op: &model::Operation| op.log.iter().any(|line| line.text.contains("looking again"));
    world.until("the second look", |w| w.last_operation().is_some_and(looks_again));
    world.refuse_commits = 1;
    world.until("the commit that fails", |w| w.refuse_commits == 0);
    world.rps.clear();
    world.settle();
    let op = world.op(&model::OperationId::new("op-2").unwrap());
    assert_eq!((op.phase, op.gray_permille), (OperationPhase::RolledBack, 10), "{:?}", op.verdicts);
}

#[test]
fn without_room_for_a_surge_the_old_instance_stops_first() {
    let text = FLEET.to_owned() + &hosts("dc-a", 1) + &hosts("dc-b", 1);
    let mut world = World::new(&(text.clone() + &lottery("v1", 2, 2, "per_host_max: 2")));
    world.settle();
    world.trace.clear();
    world.rps.insert(service("lottery"), 5_000.0);
    world.apply(&(text + &lottery("v2", 2, 2, "per_host_max: 2")), false);
    let mut least = usize::MAX;
    for _ in 0..1_200 {
        world.turn();
        least = least.min(world.healthy("lottery"));
    }
    let op = world.last_operation().unwrap();
    assert_eq!(op.phase, OperationPhase::Succeeded, "{op:#?}");
    assert_eq!(world.versions(), ["v2".to_owned()].into());
    assert_eq!((world.placed("lottery"), least), (counts(2, 2), 3));
    world.golden("rollout-without-room");
}

#[test]
fn without_room_and_without_company_a_rollout_is_refused() {
    let shape = "per_host_max: 1";
    let text = FLEET.to_owned() + &hosts("dc-a", 1) + &hosts("dc-b", 1);
    let mut world = World::new(&(text.clone() + &lottery("v1", 1, 1, shape)));
    world.settle();
    world.apply(&(text + &lottery("v2", 1, 1, shape)), false);
    world.settle();
    let op = world.last_operation().unwrap();
    assert_eq!(op.phase, OperationPhase::Failed);
    assert!(op.failures.iter().any(|why| why.contains("would leave its datacenter without any")), "{:?}", op.failures);
    assert_eq!((world.versions(), world.healthy("lottery")), (["v1".to_owned()].into(), 2));
}

#[test]
fn a_drain_moves_everything_elsewhere_first() {
    let mut world = World::with_lottery(3, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let host = HostName::new("dc-a-1").unwrap();
    let id = world.open(OperationSpec::Drain { host: host.clone() });
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert!(!world.snapshot.placements.contains_key(&host));
    assert!(world.snapshot.host_intents[&host].value.cordoned);
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(3, 2), 5));
    world.golden("drain");
    world.steer(control::undrain(&world.snapshot, &host, "test"));
    assert!(!world.snapshot.host_intents.contains_key(&host));
}

#[test]
fn a_drain_that_cannot_end_is_not_begun() {
    let mut world = World::with_lottery(24, 2, "");
    let host = HostName::new("dc-a-1").unwrap();
    let before = world.snapshot.placements.clone();
    let id = world.open(OperationSpec::Drain { host: host.clone() });
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Failed);
    assert!(world.op(&id).failures[0].starts_with("lottery in dc-a: room for 0 of 8"), "{:?}", world.op(&id).failures);
    assert_eq!(world.snapshot.placements, before);
    assert!(!world.snapshot.host_intents.contains_key(&host), "the cordon is undone");
}
