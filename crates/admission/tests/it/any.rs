//! Arbitrary histories: whatever comes in whatever order and at whatever time, the gate keeps its promises.

use admission::{
    Advert, Callee, Config, Gate, LEVEL_ALL, Priority, RateLimit, Reason, RetryBudget, RetryConfig, Signal, Verdict,
    wire,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Offer { priority: u16, passes: bool, remaining_us: Option<u32> },
    Started(u32),
    Finished(u32),
    Observed(u32, u32),
    Abandoned,
    Reported(u16, u32),
    Pass(u32),
    Jump(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u16>(), any::<bool>(), prop::option::of(0..2_000_000_u32))
            .prop_map(|(priority, passes, remaining_us)| Step::Offer { priority, passes, remaining_us }),
        4 => any::<u32>().prop_map(Step::Started),
        4 => any::<u32>().prop_map(Step::Finished),
        2 => (any::<u32>(), any::<u32>()).prop_map(|(in_flight, latency)| Step::Observed(in_flight, latency)),
        1 => Just(Step::Abandoned),
        2 => (any::<u16>(), any::<u32>()).prop_map(|(priority, count)| Step::Reported(priority, count)),
        6 => (0..200_000_u32).prop_map(Step::Pass),
        1 => any::<u64>().prop_map(Step::Jump),
    ]
}

proptest! {
    #[test]
    fn a_gate_keeps_its_bounds(steps in prop::collection::vec(step(), 1..400), inferred: bool) {
        let signal = if inferred { Signal::Inferred } else { Signal::Exact };
        let gate = Gate::new(Config { signal, waiting_max: 50, ..Config::default() }, 0);
        let mut now_us = 0_u64;
        for step in steps {
            match step {
                Step::Offer { priority, passes, remaining_us } => {
                    let deadline_us = remaining_us.map(|remaining_us| now_us.saturating_add(u64::from(remaining_us)));
                    let verdict = gate.offer(Priority::from_u16(priority), passes, deadline_us, now_us);
                    if deadline_us.is_some_and(|deadline_us| deadline_us <= now_us) {
                        prop_assert_eq!(verdict, Verdict::Reject(Reason::Expired));
                    }
                    if passes {
                        prop_assert_ne!(verdict, Verdict::Reject(Reason::Overload));
                    }
                }
                Step::Started(delay_us) => gate.started(u64::from(delay_us), now_us),
                Step::Finished(work_us) => gate.finished(u64::from(work_us), now_us),
                Step::Observed(in_flight, latency_us) => gate.observed(in_flight, u64::from(latency_us), now_us),
                Step::Abandoned => gate.abandoned(now_us),
                Step::Reported(priority, count) => gate.reported(Priority::from_u16(priority), count, now_us),
                Step::Pass(us) => now_us = now_us.saturating_add(u64::from(us)),
                Step::Jump(to_us) => now_us = to_us,
            }
            let snapshot = gate.snapshot(now_us);
            prop_assert!(snapshot.waiting <= 50);
            prop_assert!(snapshot.advert.level <= LEVEL_ALL);
            prop_assert!(snapshot.advert.demand_rps.is_finite() && snapshot.advert.demand_rps >= 0.0);
            prop_assert!(snapshot.advert.capacity_rps.is_finite() && snapshot.advert.capacity_rps >= 0.0);
            prop_assert!(snapshot.calls_per_task >= 1.0);
            // Whatever it was told, what it says of itself is believed by those who hear it.
            let heard = wire::parse_orca_text(&wire::orca_text(&snapshot.advert));
            prop_assert!(matches!(heard, Ok(Some(read)) if read.level == snapshot.advert.level), "{:?}", heard);
        }
    }

    #[test]
    fn a_more_important_request_is_never_rejected_where_a_lesser_one_is_admitted(loads in prop::collection::vec(0..60_u16, 5..60)) {
        let gate = Gate::new(Config::default(), 0);
        let mut now_us = 0;
        for count in loads {
            for at in 0..count {
                now_us += 500;
                if gate.offer(Priority::from_u16(at.wrapping_mul(1_093)), false, None, now_us) == Verdict::Admit {
                    gate.started(u64::from(at) * 3_000, now_us);
                    gate.finished(4_000, now_us);
                }
            }
            now_us += 50_000;
            // No time passes between these and each leaves at once, so that they meet one level.
            let mut rejected = false;
            for value in (0..=u16::MAX).step_by(911) {
                let verdict = gate.offer(Priority::from_u16(value), false, None, now_us);
                if verdict == Verdict::Admit {
                    gate.abandoned(now_us);
                    prop_assert!(!rejected, "{value} admitted after a more important one was rejected");
                }
                rejected |= verdict != Verdict::Admit;
            }
        }
    }

    #[test]
    fn readers_of_the_wire_never_panic_nor_believe_nonsense(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let latin: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        for value in [text.as_str(), latin.as_str(), &format!("TEXT {text}"), &format!("TEXT named_metrics.springtide_level={text}")] {
            for advert in [wire::parse_orca_text(value), wire::parse_orca_binary(value)].into_iter().flatten().flatten() {
                prop_assert!(advert.level <= LEVEL_ALL && advert.demand_rps >= 0.0 && advert.capacity_rps >= 0.0);
            }
            let _ = (wire::parse_priority(value), wire::parse_user(value), wire::parse_shed(value), wire::parse_reject(value));
            let _ = (wire::parse_deadline_ms(value), wire::parse_attempt(value), wire::admitted_has(value, "a"));
        }
    }

    #[test]
    fn adverts_survive_the_wire(level in 0..=LEVEL_ALL, demand_rps in 0.0..1e9_f32, capacity_rps in 0.0..1e9_f32, queue_delay_us in 0..600_000_000_u32) {
        let level = if demand_rps < capacity_rps * 0.5 { LEVEL_ALL } else { level };
        let advert = Advert { level, demand_rps, capacity_rps, queue_delay_us };
        let near = |read: Advert| read.queue_delay_us.abs_diff(queue_delay_us) <= 1 && Advert { queue_delay_us, ..read } == advert;
        let text = wire::parse_orca_text(&wire::orca_text(&advert));
        prop_assert!(matches!(text, Ok(Some(read)) if near(read)), "{:?}", text);
        let binary = wire::parse_orca_binary(&wire::orca_binary(&advert));
        prop_assert!(matches!(binary, Ok(Some(read)) if near(read)), "{:?}", binary);
    }

    #[test]
    fn a_view_never_sticks(levels in prop::collection::vec((0..=LEVEL_ALL, any::<u64>()), 1..20), now_us: u64) {
        let callee = Callee::new();
        for (level, at_us) in levels {
            callee.heard(Advert { level, ..Advert::UNKNOWN }, at_us);
            prop_assert!(callee.level(now_us) <= LEVEL_ALL);
        }
        callee.heard(Advert { level: 0, ..Advert::UNKNOWN }, now_us);
        prop_assert_eq!(callee.level(now_us.saturating_add(2_000_000)), if now_us > u64::MAX - 1_300_000 { callee.level(u64::MAX) } else { LEVEL_ALL });
    }

    #[test]
    fn limits_hold_under_any_clock(times in prop::collection::vec(0..1_000_000_000_000_000_u64, 1..200)) {
        let limit = RateLimit::new(10.0, 3);
        let budget = RetryBudget::new(RetryConfig::default(), 0);
        for now_us in times {
            let at_once = (0..50).filter(|_| limit.admits(now_us)).count();
            prop_assert!(at_once <= 3, "{at_once} at once");
            let retries = (0..50).filter(|_| budget.retry(0, true, None, now_us, now_us).is_ok()).count();
            prop_assert!(retries <= 10, "{retries} at once");
        }
    }
}
