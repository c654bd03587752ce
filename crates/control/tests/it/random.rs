//! Any mix of crashes, pauses, refusals and faults ends well: final or paused, never over-committed, each effect once.

use crate::world::*;
use model::{OperationPhase, OperationSpec};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Disturb {
    Crash,
    CrashAfterCommits(u32),
    RefuseCommits(u32),
    LoseHost(u32),
    FindHosts,
    PauseAndResume(u32),
    Rollback,
}

fn disturb() -> impl Strategy<Value = Disturb> {
    prop_oneof![
        2 => Just(Disturb::Crash),
        2 => (1_u32..4).prop_map(Disturb::CrashAfterCommits),
        2 => (1_u32..4).prop_map(Disturb::RefuseCommits),
        1 => (0_u32..6).prop_map(Disturb::LoseHost),
        1 => Just(Disturb::FindHosts),
        2 => (1_u32..30).prop_map(Disturb::PauseAndResume),
        1 => Just(Disturb::Rollback),
    ]
}

#[derive(Debug, Clone)]
enum Wish {
    Scale(u32, u32),
    Drain(u32),
    Version(Option<Fault>),
}

fn wish() -> impl Strategy<Value = Wish> {
    let faults = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Fault::Errors)),
        1 => Just(Some(Fault::Exits)),
        1 => Just(Some(Fault::NoDeploy)),
        1 => Just(Some(Fault::Faints)),
    ];
    prop_oneof![
        3 => (0_u32..26, 0_u32..26).prop_map(|(a, b)| Wish::Scale(a, b)),
        1 => (1_u32..4).prop_map(Wish::Drain),
        2 => faults.prop_map(Wish::Version),
    ]
}

fn begin(world: &mut World, wish: &Wish) {
    match wish {
        Wish::Scale(a, b) => {
            let spec = scale_to(*a, *b);
            if control::open(&world.snapshot, &world.observed, spec.clone(), "test", world.now).is_ok() {
                world.open(spec);
            }
        }
        Wish::Drain(n) => {
            let host = model::HostName::new(format!("dc-a-{n}")).unwrap();
            world.open(OperationSpec::Drain { host });
        }
        Wish::Version(fault) => {
            world.faults.extend(fault.map(|fault| ("v2".to_owned(), fault)));
            let text = FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &lottery("v2", 2, 2, "");
            world.apply(&text, false);
        }
    }
}

fn apply_disturbance(world: &mut World, disturb: &Disturb) {
    let open = world.last_operation().filter(|op| !op.phase.is_final()).map(|op| op.id.clone());
    match disturb {
        Disturb::Crash => world.crash(),
        Disturb::CrashAfterCommits(count) => world.crash_after_commits = Some(*count),
        Disturb::RefuseCommits(count) => world.refuse_commits = *count,
        Disturb::LoseHost(n) => {
            let host = world.agents.keys().nth(*n as usize).cloned().unwrap();
            world.agents.get_mut(&host).unwrap().connected = false;
        }
        Disturb::FindHosts => world.agents.values_mut().for_each(|agent| agent.connected = true),
        Disturb::PauseAndResume(turns) => {
            let Some(id) = open else { return };
            let Ok(commit) = control::pause(&world.snapshot, &id, "ann", world.now) else { return };
            world.steer(Ok(commit));
            world.drain_inbox();
            let revision = world.snapshot.operations[&id].revision;
            (0..*turns).for_each(|_| world.turn());
            assert_eq!(world.snapshot.operations[&id].revision, revision, "a paused operation does nothing");
            world.steer(control::resume(&world.snapshot, &id, "ann", world.now));
        }
        Disturb::Rollback => {
            let Some(id) = open else { return };
            if let Ok(commit) = control::rollback(&world.snapshot, &id, "ann", world.now) {
                world.steer(Ok(commit));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_ends_and_leaves_what_it_says(
        wish in wish(),
        rps in prop_oneof![Just(0.0), Just(5_000.0)],
        disturbances in prop::collection::vec((1_u32..40, disturb()), 0..6),
    ) {
        let mut world = World::with_lottery(2, 2, "");
        world.rps.insert(service("lottery"), rps);
        let before = world.placed("lottery");
        begin(&mut world, &wish);
        for (turns, disturb) in &disturbances {
            (0..*turns).for_each(|_| world.turn());
            apply_disturbance(&mut world, disturb);
        }
        world.agents.values_mut().for_each(|agent| agent.connected = true);
        world.settle();
        let Some(op) = world.last_operation() else { return Ok(()) };
        prop_assert!(op.phase.is_final());
        let wanted: Vec<_> = world.snapshot.services().map(|s| world.snapshot.instances_wanted(s)).collect();
        let placed = world.placed("lottery");
        for (datacenter, count) in &placed {
            let wanted = wanted[0].get(datacenter).copied().unwrap_or(0);
            prop_assert_eq!(*count, wanted, "{} after {:?}", datacenter, op.phase);
        }
        if let (OperationSpec::Scale { .. }, OperationPhase::RolledBack | OperationPhase::Failed) = (&op.spec, op.phase) {
            prop_assert_eq!(&placed, &before);
        }
        prop_assert_eq!(world.healthy("lottery") as u32, placed.values().sum::<u32>());
        if !matches!(wish, Wish::Version(Some(Fault::Exits))) {
            prop_assert!(world.starts.values().all(|starts| *starts == 1), "{:?}", world.starts);
        }
        prop_assert!(world.snapshot.silences.values().all(|at| at.value.until > 0));
    }
}
