//! Told lives, and random ones against a model of what is true outside.

use super::*;
use proptest::prelude::*;

const TERMS: Terms = Terms {
    drain_ms: 1_000,
    grace_ms: 500,
    check: Some(CheckTerms { interval_ms: 100, failures_max: 3, start_ms_max: 5_000 }),
};

fn machine(wish: Wish) -> Machine {
    Machine::new(wish, TERMS, 7)
}

fn wished(wish: Wish) -> Event {
    Event::Wished { wish, terms: TERMS, changed: false }
}

/// Up and healthy at time 100.
fn healthy() -> Machine {
    let mut machine = machine(Wish::Running);
    assert_eq!(machine.step(Event::Tick, 0), [Effect::Prepare]);
    assert_eq!(machine.step(Event::Prepared(Ok(())), 10), [Effect::Start]);
    assert_eq!(machine.view().phase, Phase::Starting);
    assert_eq!(machine.step(Event::Started(Ok(42)), 50), []);
    let probe_at = machine.deadline().expect("it will ask");
    assert_eq!(machine.step(Event::Tick, probe_at), [Effect::Probe]);
    assert_eq!(machine.step(Event::Probed(Ok(())), 100), [Effect::MarkHealthy]);
    assert_eq!((machine.view().phase, machine.view().pid), (Phase::Healthy, 42));
    machine
}

#[test]
fn an_instance_without_its_shim_runs_on_and_says_so_until_it_restarts() {
    let mut machine = healthy();
    assert_eq!(machine.step(Event::ShimGone, 150), []);
    assert_eq!((machine.view().phase, machine.view().message.as_str()), (Phase::Healthy, SHIM_GONE));
    let exited = Event::Exited { code: None, message: "ended".into() };
    assert_eq!(machine.step(exited, 200), [Effect::Clear { remove: false }]);
    assert_eq!(machine.view().message, "ended");
    machine.step(Event::Cleared(Ok(())), 210);
    let retry_at = machine.deadline().expect("it waits");
    assert_eq!(machine.step(Event::Tick, retry_at), [Effect::Start]);
    assert_eq!(machine.step(Event::ShimGone, retry_at), [], "word of the last run");
    machine.step(Event::Started(Ok(43)), retry_at + 10);
    machine.step(Event::Tick, machine.deadline().expect("it will ask"));
    machine.step(Event::Probed(Ok(())), retry_at + 100);
    assert_eq!((machine.view().phase, machine.view().message.as_str()), (Phase::Healthy, ""));
}

#[test]
fn deployed_waits_to_be_wanted() {
    let mut machine = machine(Wish::Deployed);
    machine.step(Event::Tick, 0);
    assert_eq!(machine.step(Event::Prepared(Ok(())), 10), []);
    assert_eq!(machine.view().phase, Phase::Deployed);
    assert_eq!(machine.step(wished(Wish::Running), 20), [Effect::Start]);
}

#[test]
fn removal_drains_asks_kills_and_clears() {
    let mut machine = healthy();
    assert_eq!(machine.step(wished(Wish::Removed), 200), []);
    assert_eq!((machine.view().phase, machine.deadline()), (Phase::Stopping, Some(1_200)));
    assert_eq!(machine.step(Event::Tick, 1_200), [Effect::Terminate]);
    assert_eq!(machine.step(Event::Tick, 1_700), [Effect::Kill]);
    let exited = Event::Exited { code: Some(-9), message: "killed".into() };
    assert_eq!(machine.step(exited, 1_710), [Effect::Clear { remove: true }]);
    assert_eq!(machine.step(Event::Cleared(Ok(())), 1_720), []);
    assert!(machine.is_gone());
    assert_eq!((machine.view().phase, machine.view().exit_code), (Phase::Stopped, Some(-9)));
}

#[test]
fn drained_long_enough_is_not_drained_again() {
    let mut machine = healthy();
    machine.step(wished(Wish::Draining), 200);
    assert_eq!(machine.view().phase, Phase::Healthy);
    assert_eq!(machine.step(wished(Wish::Removed), 1_300), [Effect::Terminate]);
}

#[test]
fn a_crash_backs_off_further_each_time_up_to_a_limit() {
    let mut machine = healthy();
    let (mut now, mut waits) = (1_000, Vec::new());
    for restart in 1..=10 {
        let exited = Event::Exited { code: Some(1), message: "exited with code 1".into() };
        assert_eq!(machine.step(exited, now), [Effect::Clear { remove: false }]);
        machine.step(Event::Cleared(Ok(())), now);
        assert_eq!((machine.view().phase, machine.view().exit_code), (Phase::Backoff, Some(1)));
        let until = machine.deadline().expect("it will try again");
        waits.push(until - now);
        assert_eq!(machine.step(Event::Tick, until), [Effect::Start]);
        machine.step(Event::Started(Ok(50)), until);
        assert_eq!(machine.view().restarts, restart);
        now = until + 10;
    }
    assert!((400..=600).contains(&waits[0]), "{waits:?}");
    assert!(waits[1] > waits[0] && waits[3] > waits[2]);
    assert!(
        waits.iter().all(|wait| *wait <= BACKOFF_MS_MAX * 6 / 5) && waits[9] >= BACKOFF_MS_MAX * 4 / 5,
        "{waits:?}"
    );
    let exited = Event::Exited { code: Some(1), message: String::new() };
    machine.step(exited, now + STEADY_MS);
    machine.step(Event::Cleared(Ok(())), now + STEADY_MS);
    assert!(machine.deadline().expect("again") - now - STEADY_MS <= 600, "a clean slate");
}

#[test]
fn illness_is_reported_and_never_a_reason_to_kill() {
    let mut machine = healthy();
    for failure in 1..=20_u64 {
        let at = machine.deadline().expect("it will ask");
        assert_eq!(machine.step(Event::Tick, at), [Effect::Probe]);
        assert_eq!(machine.step(Event::Probed(Err("503".into())), at + 1), []);
        let wanted = if failure < 3 { Phase::Healthy } else { Phase::Unhealthy };
        assert_eq!(machine.view().phase, wanted);
    }
    assert_eq!(machine.view().message, "503");
    machine.step(Event::Tick, machine.deadline().expect("it will ask"));
    machine.step(Event::Probed(Ok(())), 9_000);
    assert_eq!((machine.view().phase, machine.view().message.as_str()), (Phase::Healthy, ""));
}

#[test]
fn never_healthy_within_its_time_is_started_anew() {
    let mut machine = machine(Wish::Running);
    machine.step(Event::Tick, 0);
    machine.step(Event::Prepared(Ok(())), 0);
    machine.step(Event::Started(Ok(42)), 0);
    machine.step(Event::Tick, 20);
    machine.step(Event::Probed(Err("connection refused".into())), 21);
    assert_eq!(machine.step(Event::Tick, 5_000), [Effect::Terminate]);
    let view = machine.view();
    assert_eq!(view.phase, Phase::Backoff);
    assert_eq!(view.message, "not healthy within 5000 ms of its start: connection refused");
}

#[test]
fn a_changed_package_is_prepared_before_the_next_start() {
    let mut machine = healthy();
    let changed = Event::Wished { wish: Wish::Running, terms: TERMS, changed: true };
    assert_eq!(machine.step(changed, 200), [Effect::Terminate]);
    let exited = Event::Exited { code: Some(0), message: String::new() };
    assert_eq!(machine.step(exited, 210), [Effect::Clear { remove: false }]);
    assert_eq!(machine.step(Event::Cleared(Ok(())), 220), [Effect::Prepare]);
    assert_eq!(machine.step(Event::Prepared(Ok(())), 230), [Effect::Start]);
}

#[test]
fn what_cannot_be_prepared_or_started_fails_with_its_reason_and_is_tried_again() {
    let mut machine = machine(Wish::Running);
    machine.step(Event::Tick, 0);
    machine.step(Event::Prepared(Err("wrong digest".into())), 0);
    assert_eq!((machine.view().phase, machine.view().message.as_str()), (Phase::Failed, "wrong digest"));
    let at = machine.deadline().expect("again");
    assert_eq!(machine.step(Event::Tick, at), [Effect::Prepare]);
    machine.step(Event::Prepared(Ok(())), at);
    assert_eq!(machine.step(Event::Started(Err("port in use".into())), at), [Effect::Clear { remove: false }]);
    machine.step(Event::Cleared(Ok(())), at);
    assert_eq!((machine.view().phase, machine.view().message.as_str()), (Phase::Failed, "port in use"));
    assert_eq!(machine.view().restarts, 0, "nothing was ever started");
}

#[test]
fn an_adopted_instance_keeps_its_health_and_count() {
    let mut machine = machine(Wish::Running);
    machine.adopt(42, 3, true, 0);
    assert_eq!(machine.step(Event::Tick, 0), []);
    let view = machine.view();
    assert_eq!((view.phase, view.restarts, view.pid, view.adopted), (Phase::Healthy, 3, 42, true));
}

#[test]
fn one_that_ended_unattended_backs_off_and_counts_on() {
    let mut machine = machine(Wish::Running);
    assert_eq!(machine.adopt_ended(2, Some(-11), "killed by signal 11".into()), Effect::Clear { remove: false });
    machine.step(Event::Cleared(Ok(())), 0);
    assert_eq!((machine.view().phase, machine.view().exit_code), (Phase::Backoff, Some(-11)));
    let at = machine.deadline().expect("again");
    machine.step(Event::Tick, at);
    machine.step(Event::Started(Ok(43)), at);
    assert_eq!(machine.view().restarts, 3);
}

/// What is true outside the machine, and which answers it still waits for.
#[derive(Default)]
struct World {
    alive: bool,
    preparing: bool,
    starting: bool,
    clearing: bool,
    probing: bool,
}

impl World {
    fn check(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Prepare => {
                    assert!(!self.alive && !self.starting && !self.clearing);
                    self.preparing = true;
                }
                Effect::Start => {
                    assert!(!self.alive && !self.starting && !self.clearing, "two processes of one instance");
                    self.starting = true;
                }
                Effect::Clear { .. } => {
                    assert!(!self.alive && !self.starting && !self.clearing, "cleared under a living instance");
                    self.clearing = true;
                }
                Effect::Probe => {
                    assert!(self.alive && !self.probing);
                    self.probing = true;
                }
                Effect::Terminate | Effect::Kill | Effect::MarkHealthy => assert!(self.alive),
            }
        }
    }

    /// Turns a random number into something that can happen now.
    fn happen(&mut self, choice: u8, good: bool) -> Event {
        let result = if good { Ok(()) } else { Err("no".to_owned()) };
        match choice % 8 {
            0 if self.preparing => {
                self.preparing = false;
                Event::Prepared(result)
            }
            1 if self.starting => {
                (self.starting, self.alive) = (false, good);
                Event::Started(result.map(|()| 42))
            }
            2 if self.alive => {
                (self.alive, self.probing) = (false, false);
                Event::Exited { code: Some(1), message: "ended".into() }
            }
            3 if self.clearing => {
                // A failed attempt is tried again by the machine, so the next one is a new one.
                self.clearing = false;
                Event::Cleared(result)
            }
            4 if self.probing => {
                self.probing = false;
                Event::Probed(result)
            }
            5 => Event::Wished {
                wish: if good { Wish::Running } else { Wish::Draining },
                terms: TERMS,
                changed: choice > 200,
            },
            6 => wished(if good { Wish::Deployed } else { Wish::Removed }),
            _ => Event::Tick,
        }
    }
}

proptest! {
    #[test]
    fn no_two_processes_ever_and_removal_always_ends(
        happenings in prop::collection::vec((any::<u8>(), any::<bool>(), 0_u64..3_000), 0..120),
        seed in any::<u64>(),
    ) {
        let mut machine = Machine::new(Wish::Running, TERMS, seed);
        let (mut world, mut now) = (World::default(), 0);
        world.check(&machine.step(Event::Tick, now));
        for (choice, good, pause_ms) in happenings {
            now += pause_ms;
            let event = world.happen(choice, good);
            let effects = machine.step(event, now);
            world.check(&effects);
            if machine.is_gone() {
                prop_assert!(!world.alive && !world.starting && !world.clearing);
                return Ok(());
            }
            prop_assert!(
                machine.deadline().is_some() || world.preparing || world.starting || world.clearing || world.alive
                    || machine.view().phase == Phase::Deployed,
                "stuck: {machine:?}"
            );
        }
        // From here on removed, and everything answers well.
        world.check(&machine.step(wished(Wish::Removed), now));
        for turn in 0..60_u8 {
            if machine.is_gone() {
                return Ok(());
            }
            now = machine.deadline().unwrap_or(now).max(now);
            let effects = machine.step(world.happen(turn % 5, true), now);
            world.check(&effects);
            world.check(&machine.step(Event::Tick, now));
        }
        prop_assert!(machine.is_gone(), "never gone: {machine:?}");
    }
}
