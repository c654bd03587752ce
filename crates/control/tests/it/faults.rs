//! Crashes at every point, lost hosts, refused commits, events out of order.

use crate::world::*;
use control::Event;
use model::{HostName, OperationPhase, OperationSpec};

/// Runs an operation and kills the control plane after its n-th commit, for every n until it ends first; and again
/// after every seventh turn.
fn crash_everywhere((a, b): (u32, u32), what: &str, hooks: &str, begin: impl Fn(&mut World), check: impl Fn(&World)) {
    for commits in 1..200 {
        let mut world = World::with_lottery(a, b, hooks);
        world.rps.insert(service("lottery"), 50_000.0);
        world.hooks.clear();
        begin(&mut world);
        world.crash_after_commits = Some(commits);
        world.settle();
        judge(&world, &format!("{what}, killed after commit {commits}"), &check);
        if world.crashes == 0 {
            assert!(commits > 4, "{what} takes only {commits} commits");
            break;
        }
    }
    for turns in (0..600).step_by(7) {
        let mut world = World::with_lottery(a, b, hooks);
        world.rps.insert(service("lottery"), 50_000.0);
        world.hooks.clear();
        begin(&mut world);
        (0..turns).for_each(|_| world.turn());
        let over = world.last_operation().is_some_and(|op| op.phase.is_final()) && turns > 5;
        world.crash();
        world.settle();
        judge(&world, &format!("{what}, killed after turn {turns}"), &check);
        if over {
            return;
        }
    }
    panic!("{what} takes more than 600 turns");
}

fn judge(world: &World, what: &str, check: &impl Fn(&World)) {
    let op = world.last_operation().unwrap();
    assert_eq!(op.phase, OperationPhase::Succeeded, "{what}: {op:#?}");
    assert_eq!(op.id.as_str(), "op-2", "{what}: opened once");
    assert!(world.starts.values().all(|starts| *starts == 1), "{what}: {:?}", world.starts);
    let numbers = world.starts.len();
    assert_eq!(world.snapshot.counter(&model::keys::instance_counter(&service("lottery"))), numbers as u64, "{what}");
    check(world);
}

#[test]
fn a_scale_out_survives_a_crash_at_every_point() {
    crash_everywhere(
        (3, 3),
        "scale-out",
        "",
        |world| {
            world.open(scale_to(5, 4));
        },
        |world| assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(5, 4), 9)),
    );
}

#[test]
fn hooks_are_asked_for_again_only_when_a_crash_came_before_the_journal() {
    let hooks = "hooks:
  - {when: before, step: start, command: [allow]}
  - {when: after, step: gray, command: [notify]}";
    crash_everywhere(
        (3, 3),
        "scale-out with hooks",
        hooks,
        |world| {
            world.open(scale_to(4, 3));
        },
        |world| {
            let again = world.hooks.values().filter(|runs| **runs > 1).count() as u32;
            assert!(world.hooks.len() == 2 && again <= world.crashes, "{:?}", world.hooks);
        },
    );
}

#[test]
fn a_scale_in_survives_a_crash_at_every_point() {
    crash_everywhere(
        (3, 3),
        "scale-in",
        "",
        |world| {
            world.open(scale_to(1, 2));
        },
        |world| assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(1, 2), 3)),
    );
}

#[test]
fn a_drain_survives_a_crash_at_every_point() {
    let host = HostName::new("dc-a-1").unwrap();
    crash_everywhere(
        (3, 3),
        "drain",
        "",
        |world| {
            world.open(OperationSpec::Drain { host: host.clone() });
        },
        |world| {
            assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(3, 3), 6));
            assert!(!world.snapshot.placements.contains_key(&host));
        },
    );
}

#[test]
fn a_rollout_survives_a_crash_at_every_point() {
    let fleet = FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3);
    crash_everywhere(
        (2, 1),
        "rollout",
        "",
        |world| world.apply(&(fleet.clone() + &lottery("v2", 2, 1, "")), false),
        |world| {
            assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(2, 1), 3));
            assert_eq!(world.versions(), ["v2".to_owned()].into());
        },
    );
}

#[test]
fn a_rollback_survives_a_crash_at_every_point() {
    for commits in 1..20 {
        let mut world = World::with_lottery(3, 3, "");
        world.rps.insert(service("lottery"), 50_000.0);
        let before = world.placements();
        let id = world.open(scale_to(5, 4));
        world.until("the second stage", |w| w.op(&id).gray_permille == 100);
        world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
        world.crash_after_commits = Some(commits);
        world.settle();
        assert_eq!(world.op(&id).phase, OperationPhase::RolledBack, "killed after commit {commits}");
        assert_eq!((world.placements(), world.healthy("lottery")), (before, 6), "killed after commit {commits}");
        if world.crashes == 0 {
            assert!(commits > 3);
            return;
        }
    }
    panic!("a rollback takes more than 20 commits");
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
    world.rps.insert(service("lottery"), 50_000.0);
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
fn a_first_start_that_fails_is_tried_again_at_once_when_its_package_changes_and_late_otherwise() {
    let fleet = FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3);
    let mut world = World::new(&fleet);
    world.faults.insert("v1".to_owned(), Fault::Exits);
    world.apply(&(fleet.clone() + &lottery("v1", 2, 1, "")), false);
    world.settle();
    assert_eq!(world.last_operation().unwrap().phase, OperationPhase::RolledBack);
    assert!(world.snapshot.placements.is_empty());
    (0..3_000).for_each(|_| world.turn());
    assert_eq!(world.snapshot.operations.len(), 1, "not tried again within five minutes");
    world.apply(&(fleet.clone() + &lottery("v2", 2, 1, "")), false);
    world.settle();
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(2, 1), 3));

    let mut world = World::new(&fleet);
    world.faults.insert("v1".to_owned(), Fault::Exits);
    world.apply(&(fleet.clone() + &lottery("v1", 2, 1, "")), false);
    world.until("a rollback", |w| w.last_operation().is_some_and(|op| op.phase == OperationPhase::RollingBack));
    world.apply(&(fleet + &lottery("v2", 2, 1, "")), false);
    world.settle();
    assert_eq!((world.placed("lottery"), world.healthy("lottery")), (counts(2, 1), 3), "mended while it was undone");
}

#[test]
fn a_lack_of_capacity_is_tried_again_with_growing_pauses() {
    let mut world = World::with_lottery(2, 2, "");
    let fleet = FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3);
    world.apply(&(fleet + &lottery("v1", 40, 2, "")), false);
    let began = world.now;
    let tried = |w: &World| w.snapshot.operations.len() - 1;
    world.until("four tries", |w| tried(w) == 4);
    let minutes = (world.now - began) as f64 / 60_000.0;
    assert!((3.4..3.8).contains(&minutes), "0.5 + 1 + 2 minutes between tries, not {minutes}");
    assert_eq!(world.placed("lottery"), counts(2, 2));
}

#[test]
fn a_plan_without_room_waits_a_little_for_hosts_that_have_not_reported_yet() {
    for late_turns in [30, 200] {
        let mut world = World::with_lottery(2, 2, "");
        world.crash();
        let late = HostName::new("dc-a-3").unwrap();
        let instances = world.agents[&late].instances.len();
        world.agents.get_mut(&late).unwrap().connected = false;
        world.until("a quorum", |w| w.observed.settled);
        let id = world.open(scale_to(20, 2));
        (0..late_turns).for_each(|_| world.turn());
        world.agents.get_mut(&late).unwrap().connected = true;
        world.settle();
        let wanted = if late_turns == 30 { OperationPhase::Succeeded } else { OperationPhase::Failed };
        assert_eq!(world.op(&id).phase, wanted, "{:?}", world.op(&id).failures);
        assert!(world.agents[&late].instances.len() >= instances);
    }
}

#[test]
fn refused_commits_are_decided_again_without_a_hot_loop() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 50_000.0);
    let id = world.open(scale_to(3, 3));
    world.refuse_commits = 8;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded);
    assert_eq!(world.placed("lottery"), counts(3, 3));
}

#[test]
fn repeated_and_reordered_events_change_nothing() {
    let mut world = World::with_lottery(2, 2, "");
    world.rps.insert(service("lottery"), 50_000.0);
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

/// Runs a scale-in until its instances are told to drain, with proxies that have not heard of it.
fn draining_unheard() -> (World, model::OperationId) {
    let mut world = World::with_lottery(3, 3, "stop: {drain_ms: 300, grace_ms: 1000}");
    let id = world.open(scale_to(1, 1));
    world.observed.proxies_behind.insert(service("lottery"));
    world.until("the drain", |w| {
        let drain = w.op(&id).steps.iter().find(|step| step.name == model::StepName::Drain);
        drain.is_some_and(|step| step.state == model::StepState::Running)
    });
    (world, id)
}

#[test]
fn nothing_is_stopped_before_every_proxy_has_heard_that_it_leaves() {
    let (mut world, id) = draining_unheard();
    (0..100).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(3, 3), "some proxy still sends requests there");
    world.observed.proxies_behind.clear();
    (0..2).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(3, 3), "requests under way have their time");
    (0..3).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(1, 1));
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
}

#[test]
fn a_server_that_died_in_a_drain_asks_the_proxies_anew() {
    let (mut world, id) = draining_unheard();
    world.crash();
    world.observed.proxies_behind.insert(service("lottery"));
    (0..50).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(3, 3), "what the proxies know is not known to a fresh server");
    world.observed.proxies_behind.clear();
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
}

#[test]
fn a_proxy_that_never_confirms_is_not_waited_for_for_ever() {
    let (mut world, id) = draining_unheard();
    let began = world.now;
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!(world.op(&id).phase, OperationPhase::Succeeded, "{:#?}", world.op(&id));
    assert!((15_000..20_000).contains(&(world.now - began)), "took {} ms", world.now - began);
    assert!(world.op(&id).log.iter().any(|line| line.text.contains("not every proxy")), "{:?}", world.op(&id).log);
}

#[test]
fn what_a_step_waits_for_behind_a_hook_is_logged_once() {
    let hook = "hooks: [{step: drain, when: after, command: [check], timeout_ms: 1000}]\n";
    let mut world = World::with_lottery(2, 2, &format!("{hook}stop: {{drain_ms: 300, grace_ms: 1000}}"));
    let id = world.open(scale_to(1, 1));
    world.observed.proxies_behind.insert(service("lottery"));
    world.until("the end", |w| w.op(&id).phase.is_final());
    let told = world.op(&id).log.iter().filter(|line| line.text.contains("not every proxy")).count();
    assert_eq!(told, 1, "{:?}", world.op(&id).log);
}

#[test]
fn a_rollback_waits_for_the_proxies_too() {
    let mut world = World::with_lottery(2, 2, "stop: {drain_ms: 300, grace_ms: 1000}");
    world.rps.insert(service("lottery"), 500.0);
    let id = world.open(scale_to(4, 4));
    world.until("the gray release", |w| w.op(&id).gray_permille == 100);
    world.observed.proxies_behind.insert(service("lottery"));
    world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
    (0..50).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(4, 4), "some proxy still sends requests there");
    world.observed.proxies_behind.clear();
    world.until("the end", |w| w.op(&id).phase.is_final());
    assert_eq!((world.op(&id).phase, world.placed("lottery")), (OperationPhase::RolledBack, counts(2, 2)));
}

#[test]
fn a_number_that_runs_somewhere_is_not_given_again() {
    let mut world = World::with_lottery(2, 2, "");
    // As after a restore: lottery-5 to lottery-9 were placed by a store that is gone.
    let host = HostName::new("dc-b-3").unwrap();
    let mut seen = world.observed.instances.values().next().unwrap().clone();
    seen.host = host;
    for name in ["lottery-9", "lottery-5", "lottery-api-77"] {
        world.observed.instances.insert(model::InstanceId::new(name).unwrap(), seen.clone());
    }
    let id = world.open(scale_to(3, 2));
    world.until("the plan", |w| !w.op(&id).adds.is_empty());
    assert_eq!(world.op(&id).adds[0].instance.as_str(), "lottery-10");
}

#[test]
fn what_found_no_room_is_tried_soon_after_a_host_has_come() {
    let fleet = FLEET.to_owned() + &hosts("dc-a", 1);
    let mut world = World::new(&(fleet.clone() + &hosts("dc-b", 1) + &lottery("v1", 12, 2, "")));
    // Eight cores are there, twelve are wanted: half an hour later the pauses are long.
    (0..18_000).for_each(|_| world.turn());
    let tries = world.snapshot.operations.len();
    assert!((2..10).contains(&tries), "{tries} tries");
    assert_eq!(world.placed("lottery"), counts(0, 0), "all or nothing");
    world.apply(&(FLEET.to_owned() + &hosts("dc-a", 2)), false);
    let host = HostName::new("dc-a-2").unwrap();
    world.agents.insert(host, Agent { connected: true, instances: Default::default() });
    (0..400).for_each(|_| world.turn());
    assert_eq!(world.placed("lottery"), counts(12, 2), "{:#?}", world.last_operation());
}

#[test]
fn a_scale_that_no_transaction_could_name_is_refused_and_the_reconciler_goes_in_steps() {
    let mut world = World::with_lottery(2, 2, "");
    let refused = control::open(&world.snapshot, &world.observed, scale_to(9_000, 2), false, "ann", world.now);
    let why = refused.expect_err("is refused").to_string();
    assert!(why.contains("8998 instances") && why.contains("at most 5000"), "{why}");
    world.apply(&(FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &lottery("v1", 9_000, 2_000, "")), false);
    world.until("an operation", |w| w.last_operation().is_some_and(|op| op.id.as_str() == "op-2"));
    let OperationSpec::Scale { instances, .. } = &world.last_operation().unwrap().spec else { panic!("a scale") };
    assert_eq!(instances, &counts(5_002, 2));
}

#[test]
fn the_largest_scale_fits_a_transaction() {
    // The journal of a scale names all that it added; its last commits carry it whole, with their audit.
    let mut world = World::with_lottery(2, 2, "");
    let id = world.open(scale_to(3, 2));
    world.until("the plan", |w| !w.op(&id).adds.is_empty());
    let mut op = world.op(&id).clone();
    let mut add = op.adds[0].clone();
    add.host = HostName::new("a-host-with-a-name-of-forty-characters-00").unwrap();
    add.instance = model::InstanceId::new("a-service-of-thirty-characters-123456").unwrap();
    op.adds = vec![add; 5_000];
    let bytes = serde_json::to_vec(&op).unwrap().len();
    assert!(bytes < 1_000_000, "{bytes} bytes of 1,572,864");
}
