//! Any mix of crashes, pauses, refusals and faults ends well: final or paused, never over-committed, each effect once.

use crate::world::*;
use control::{Aim, Verb};
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
    Retry(u32),
    Skip(u32),
}

/// The steps, and none, by number; where there is one, perhaps the first of its targets.
fn aim(world: &World, id: &model::OperationId, n: u32) -> Aim {
    use model::StepName::*;
    let steps =
        [None, None, Some(Deploy), Some(Silence), Some(Start), Some(Gray), Some(Drain), Some(Stop), Some(Report)];
    let target = (n % 2 == 1).then(|| world.allowed(id).targets.first().cloned()).flatten();
    Aim { step: if target.is_some() { None } else { steps[(n / 2) as usize % steps.len()] }, target }
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
        2 => (0_u32..36).prop_map(Disturb::Retry),
        2 => (0_u32..36).prop_map(Disturb::Skip),
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

fn begin(world: &mut World, wish: &Wish, hold: bool) {
    match wish {
        Wish::Scale(a, b) => {
            let spec = scale_to(*a, *b);
            if control::open(&world.snapshot, &world.observed, spec.clone(), false, "test", world.now).is_ok() {
                if hold {
                    world.open_held(spec)
                } else {
                    world.open(spec)
                };
            }
        }
        Wish::Drain(n) => {
            let host = model::HostName::new(format!("dc-a-{n}")).unwrap();
            let spec = OperationSpec::Drain { host };
            if hold {
                world.open_held(spec)
            } else {
                world.open(spec)
            };
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
            let held = world.op(&id).held_at().is_some();
            let Ok(commit) = control::pause(&world.snapshot, &id, "ann", world.now) else { return };
            assert!(!held, "what holds is paused already");
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
        Disturb::Retry(n) => {
            let Some(id) = open else { return };
            let aim = aim(world, &id, *n);
            let may = world.allowed(&id).verbs.contains(&Verb::Retry);
            let done = world.retry(&id, &aim);
            assert!(aim != Aim::default() || may == done.is_ok(), "what is allowed is what is done: {done:?}");
        }
        Disturb::Skip(n) => {
            let Some(id) = open else { return };
            let aim = aim(world, &id, *n);
            let may = world.allowed(&id).verbs.contains(&Verb::Skip);
            let done = world.skip(&id, &aim);
            assert!(aim != Aim::default() || may == done.is_ok(), "what is allowed is what is done: {done:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_ends_and_leaves_what_it_says(
        wish in wish(),
        rps in prop_oneof![Just(0.0), Just(5_000.0)],
        hold in any::<bool>(),
        disturbances in prop::collection::vec((1_u32..40, disturb()), 0..6),
    ) {
        let mut world = World::with_lottery(2, 2, "");
        world.rps.insert(service("lottery"), rps);
        let before = world.placed("lottery");
        begin(&mut world, &wish, hold);
        for (turns, disturb) in &disturbances {
            (0..*turns).for_each(|_| world.turn());
            apply_disturbance(&mut world, disturb);
        }
        world.agents.values_mut().for_each(|agent| agent.connected = true);
        // What holds at a failed step does so until somebody decides.
        while !world.settled() {
            let held = world.last_operation().filter(|op| op.held_at().is_some()).map(|op| op.id.clone());
            let Some(id) = held else { break };
            world.steer(control::rollback(&world.snapshot, &id, "ann", world.now));
        }
        world.settle();
        let given_up = world.snapshot.operations.values().any(|at| !at.value.given_up.is_empty());
        let Some(op) = world.last_operation() else { return Ok(()) };
        prop_assert!(op.phase.is_final());
        let wanted: Vec<_> = world.snapshot.services().map(|s| world.snapshot.instances_wanted(s)).collect();
        let placed = world.placed("lottery");
        for (datacenter, count) in &placed {
            let wanted = wanted[0].get(datacenter).copied().unwrap_or(0);
            // What was given up is made good by an operation of its own, which meets the same fault.
            let short = given_up && matches!(wish, Wish::Version(Some(_)));
            prop_assert!(*count == wanted || short && *count < wanted, "{} after {:?}: {} of {}", datacenter, op.phase, count, wanted);
        }
        let undone = matches!(op.phase, OperationPhase::RolledBack | OperationPhase::Failed);
        if matches!(op.spec, OperationSpec::Scale { .. }) && undone && op.who == "test" {
            prop_assert_eq!(&placed, &before);
        }
        prop_assert_eq!(world.healthy("lottery") as u32, placed.values().sum::<u32>());
        if !matches!(wish, Wish::Version(Some(Fault::Exits))) {
            prop_assert!(world.starts.values().all(|starts| *starts == 1), "{:?}", world.starts);
        }
        prop_assert!(world.snapshot.silences.values().all(|at| at.value.until > 0));
    }
}
