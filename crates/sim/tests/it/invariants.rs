//! What holds of every run: tasks are conserved, nothing exceeds its bound, and a seed gives the same bytes.

use proptest::prelude::*;
use sim::Script;
use sim::scheme::catalog;

fn any_script() -> impl Strategy<Value = (Script, usize, u64)> {
    let work = prop_oneof![
        Just("{shape: fixed, mean_ms: 8}"),
        Just("{shape: exponential, mean_ms: 8}"),
        Just("{shape: lognormal, mean_ms: 8, cv: 1.5}"),
        Just("{shape: bimodal, mean_ms: 8, slow_share: 0.05, slow_ms: 80}"),
    ];
    let balancer = prop_oneof![Just("two_choices"), Just("least"), Just("round_robin"), Just("random")];
    let sizes = (1u32..4, 1u32..5, 0u32..3, 1u32..4, any::<bool>(), 1u32..200);
    (sizes, work, balancer, 10f64..600.0, 0usize..catalog::NAMES.len(), any::<u64>()).prop_map(
        |((instances, workers, retries, times, parallel, queue_max), work, balancer, rps, scheme, seed)| {
            let text = format!(
                "name: any\nduration_s: 4\nusers: 50\nrotation_s: 1\nbalancer: {balancer}\n\
                 retries: {{max: {retries}, attempt_timeout_ms: 150}}\n\
                 services:\n\
                 - {{name: front, instances: 2, workers: 0, work: {{shape: fixed, mean_ms: 1}}, \
                 calls: [{{to: m, times: {times}, parallel: {parallel}}}, {{to: db}}]}}\n\
                 - {{name: m, instances: {instances}, workers: {workers}, queue_max: {queue_max}, work: {work}}}\n\
                 - {{name: db, instances: 1, workers: 8, work: {{shape: fixed, mean_ms: 2}}}}\n\
                 streams:\n\
                 - {{name: a, calls: [{{to: front}}], load: [{{at_s: 0, rps: {rps}}}, {{at_s: 2, rps: 50, ramp: true}}]}}\n\
                 - {{name: b, class: 9, calls: [{{to: m}}], load: [{{at_s: 1, rps: {rps}}}]}}\n\
                 faults:\n\
                 - {{service: m, at_s: 1, for_s: 0.3}}\n\
                 - {{service: m, at_s: 0.5, for_s: 0.05, every_s: 0.4, staggered: true}}\n\
                 - {{service: db, at_s: 2, for_s: 1, slowdown: 4}}\n"
            );
            let script = sim::script::parse("any.yaml", &text).unwrap_or_else(|faults| panic!("{}", faults[0]));
            (script, scheme, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn tasks_are_conserved_and_bounds_hold((script, scheme, seed) in any_script()) {
        let scheme = catalog::named(catalog::NAMES[scheme], &script).expect("a name of the catalog");
        let report = sim::run(&script, &*scheme, seed);
        for outcome in report.streams.iter().chain([&report.all]) {
            prop_assert_eq!(outcome.arrived, outcome.ok + outcome.failed.values().sum::<u64>());
            prop_assert!(outcome.p99_ms <= script.deadline_ms + 0.001);
        }
        let arrived: u32 = report.bins.iter().map(|bin| bin.arrived).sum();
        prop_assert_eq!(u64::from(arrived), report.all.arrived);
        let ok: u32 = report.bins.iter().map(|bin| bin.arrived_ok).sum();
        prop_assert_eq!(u64::from(ok), report.all.ok);
        prop_assert!(report.attempts_per_call <= f64::from(script.retries.max + 1) + 1e-9);
        prop_assert!((0.0..=1.0).contains(&report.wasted_work));
        prop_assert!((0.0..=1.0).contains(&report.jain));
        // All copies of `m` stood still from 1.0 s on: nobody's work ends before 1.3 s.
        let stalled: u32 = report.bins[11..13].iter().map(|bin| bin.done).sum();
        prop_assert_eq!(stalled, 0);
    }

    #[test]
    fn a_seed_gives_the_same_bytes((script, scheme, seed) in any_script()) {
        let scheme = catalog::named(catalog::NAMES[scheme], &script).expect("a name of the catalog");
        let run = || serde_json::to_string(&sim::run(&script, &*scheme, seed)).expect("a report is plain data");
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn every_scheme_meets_the_same_tasks() {
    let script = super::script(2, 2, "{shape: exponential, mean_ms: 10}", "{to: m}", 600.0, 10.0);
    let arrivals = |name: &str| {
        let report = sim::run(&script, &*catalog::named(name, &script).expect("a name of the catalog"), 3);
        report.bins.iter().map(|bin| bin.arrived).collect::<Vec<_>>()
    };
    let first = arrivals(catalog::NAMES[0])[..100].to_vec();
    for name in catalog::NAMES {
        assert_eq!(arrivals(name)[..100], first[..], "{name}");
    }
}
