//! Crashes at every point, lost hosts, refused commits, events out of order.

use crate::world::*;
use control::Event;
use model::{HostName, OperationPhase, OperationSpec};

/// Runs an operation with a crash after a given number of turns, for every such number until it ends first.
fn crash_everywhere(what: &str, begin: impl Fn(&mut World) -> model::OperationId, check: impl Fn(&World)) {
    for turns in 0..400 {
        let mut world = World::with_lottery(3, 3, "");
        world.rps.insert(service("lottery"), 5_000.0);
        let id = begin(&mut world);
        (0..turns).for_each(|_| world.turn());
        let over = world.op(&id).phase.is_final();
        world.crash();
        world.settle();
        assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{what}, {turns}: {:#?}", world.op(&id));
        assert!(world.starts.values().all(|starts| *starts == 1), "{what}, {turns}: {:?}", world.starts);
        check(&world);
        if over {
            assert!(turns > 20);
            return;
        }
    }
    panic!("{what} takes more than 400 turns");
}

#[test]
fn a_scale_out_survives_a_crash_at_every_point() {
    crash_everywhere(
        "scale-out",
        |world| world.open(scale_to(5, 4)),
        |world| assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(5, 4), 9)),
    );
}

#[test]
fn a_scale_in_survives_a_crash_at_every_point() {
    crash_everywhere(
        "scale-in",
        |world| world.open(scale_to(1, 2)),
        |world| assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(1, 2), 3)),
    );
}

#[test]
fn a_drain_survives_a_crash_at_every_point() {
    let host = HostName::new("dc-a-1").unwrap();
    crash_everywhere(
        "drain",
        |world| world.open(OperationSpec::Drain { host: host.clone() }),
        |world| {
            assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(3, 3), 6));
            assert!(!world.snapshot.placements.contains_key(&host));
        },
    );
}

#[test]
fn a_host_that_vanishes_during_the_start_is_named_and_the_rest_undone() {
    let mut world = World::with_lottery(2, 2, "");
    let before = world.placements();
    let id = world.open(scale_to(5, 2));
    world.until("a start", |w| w.op(&id).adds.iter().any(|add| w.starts.contains_key(&add.instance)));
    let host = world.op(&id).adds[0].host.clone();
    world.agents.get_mut(&host).unwrap().connected = false;
    world.until("the end", |w| w.op(&id).phase.is_final());
    let op = world.op(&id);
    assert_eq!(op.phase, OperationPhase::RolledBack);
    assert!(op.failures[0].starts_with(&format!("host {host} vanished under lottery-")), "{:?}", op.failures);
    assert!(op.failures.iter().any(|why| why.contains("not confirmed stopped: its host is lost")), "{:?}", op.failures);
    assert_eq!(world.placements(), before, "what ran there before is unknown, not dead");
    let endpoints = control::endpoints(&world.snapshot, &world.observed, &service("lottery"));
    assert_eq!(endpoints.len(), 4, "and keeps serving");
    world.agents.get_mut(&host).unwrap().connected = true;
    (0..50).for_each(|_| world.turn());
    assert_eq!(world.healthy("lottery"), 4, "the agent stops what is not intended when it returns");
}

#[test]
fn a_short_loss_of_a_host_is_waited_out() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(5, 2));
    world.until("a start", |w| w.op(&id).adds.iter().any(|add| w.starts.contains_key(&add.instance)));
    let host = world.op(&id).adds[0].host.clone();
    world.agents.get_mut(&host).unwrap().connected = false;
    (0..50).for_each(|_| world.turn());
    world.agents.get_mut(&host).unwrap().connected = true;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:?}", world.op(&id).failures);
}

#[test]
fn refused_commits_are_decided_again_without_a_hot_loop() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(3, 3));
    world.refuse_commits = 8;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(world.placed("lottery"), counts(3, 3));
}

#[test]
fn repeated_and_reordered_events_change_nothing() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 5_000.0);
    let id = world.open(scale_to(3, 3));
    for _ in 0..200 {
        let hosts = world.agents.keys().cloned().collect();
        let keys = vec![model::keys::operation(&id), model::keys::operation_counter()];
        let old = format!("report-{id}");
        if world.op(&id).report.is_some() {
            world.inbox.push_back(Event::ReportWritten { operation: id.clone(), record: old });
        }
        world.inbox.push_back(Event::Committed { keys });
        world.inbox.push_front(Event::Reported { hosts });
        world.inbox.push_back(Event::CommitFailed { operation: Some(id.clone()), why: "late news".to_owned() });
        world.inbox.push_back(Event::HookDone { key: format!("{id}/start/before/0"), result: Err("stray".to_owned()) });
        world.turn();
    }
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert_eq!(world.placed("lottery"), counts(3, 3));
    assert!(world.starts.values().all(|starts| *starts == 1));
}

#[test]
fn only_the_newest_finished_operations_are_kept() {
    let mut world = World::with_lottery(1, 0, "");
    world.until("many operations", |w| w.snapshot.operations.len() >= 2 || w.now > 0);
    for n in 0..130 {
        let id = world.open(scale_to(1, 1 + n % 2));
        world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
        world.until("the end", |w| w.op(&id).phase.is_final());
        let id = world.open(scale_to(2, 0));
        world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
        world.until("the end", |w| w.op(&id).phase.is_final());
    }
    (0..100).for_each(|_| world.turn());
    assert_eq!(world.snapshot.operations.len(), 200);
    assert!(world.snapshot.operations.keys().any(|id| id.as_str() == "op-261"), "the newest stay");
}
