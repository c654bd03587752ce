//! Callers that hang up, before a gate that learns of nothing else: an unanswered call is no finished one.

use sim::scheme::catalog;
use sim::{Report, Script};

fn hangups() -> Script {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/hangups.yaml");
    let text = std::fs::read_to_string(path).expect("scenarios/hangups.yaml");
    sim::script::parse("hangups.yaml", &text).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

/// Under the gate that is told least.
fn run(script: &Script, seed: u64) -> Report {
    sim::run(script, &*catalog::named("springtide-untold", script).expect("a name of the catalog"), seed)
}

/// Runs three seeds; each must have most of what was possible, answered well before callers go.
fn holds(script: &Script, case: &str) {
    for seed in 1..=3 {
        let report = run(script, seed);
        let (of_optimum, p99_ms) = (report.of_optimum, report.all.p99_ms);
        println!("{case}, seed {seed}: {of_optimum:.3} of the optimum, p99 {p99_ms:.0} ms");
        assert!(of_optimum > 0.9, "{case}, seed {seed}: {of_optimum}");
        assert!(p99_ms < 400.0, "{case}, seed {seed}: {p99_ms} ms");
    }
}

#[test]
fn ten_times_the_load_of_callers_that_hang_up_is_served_as_far_as_it_can_be() {
    let mut script = hangups();
    holds(&script, "as written");
    script.services[0].notices_hangups = true;
    holds(&script, "the service notices");
}

#[test]
fn a_gate_that_meets_the_crowd_cold_learns_it_all_the_same() {
    let mut script = hangups();
    script.streams[0].load.remove(0);
    script.streams[0].load[0].at_s = 0.0;
    holds(&script, "cold");
}

#[test]
fn callers_of_unlike_patience_hide_no_queue() {
    let mut script = hangups();
    // Half of the calls are given up after 100 ms and 400 ms are left of the task for a second try.
    script.retries.max = 1;
    script.retries.attempt_timeout_ms = Some(200.0);
    for seed in 1..=3 {
        let of_optimum = run(&script, seed).of_optimum;
        assert!(of_optimum > 0.85, "seed {seed}: {of_optimum}");
    }
}

#[test]
fn a_stall_under_hang_ups_passes() {
    let mut script = hangups();
    script.streams[0].load[1].rps = 72.0;
    script.faults.push(sim::script::Trouble {
        service: "web".to_owned(),
        instance: None,
        at_s: 8.0,
        for_s: 4.0,
        every_s: None,
        staggered: false,
        slowdown: None,
    });
    for seed in 1..=3 {
        let report = run(&script, seed);
        let after = report.success_between(16.0, 20.0);
        assert!(after > 0.97, "seed {seed}: {after} of what came from 4 s after the stall on");
    }
}
