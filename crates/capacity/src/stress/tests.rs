//! The controller against servers in virtual time.

mod sim;

use super::*;
use sim::{Case, Kind, Outcome, run};

/// Seeds of each kind.
const SEEDS: u64 = 40;

fn quantile(values: impl Iterator<Item = f64>, q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// Runs a case over the seeds and prints what came of it.
fn distribution(name: &str, case: &Case) -> Vec<Outcome> {
    let all: Vec<Outcome> = (0..SEEDS).map(|seed| run(case, seed)).collect();
    let q = |q: f64| 100.0 * quantile(all.iter().map(|o| o.relative_error.abs()), q);
    let bias = 100.0 * all.iter().map(|o| o.relative_error).sum::<f64>() / all.len() as f64;
    let secs = |q: f64| quantile(all.iter().map(|o| o.seconds), q);
    let slow = quantile(all.iter().map(|o| o.latency.quantile_us(1.0).unwrap_or(0.0) / 1e3), 1.0);
    let p99 = quantile(all.iter().map(|o| o.latency.quantile_us(0.99).unwrap_or(0.0) / 1e3), 0.5);
    println!(
        "{name:<28} truth {:>6.1} error p50 {:>4.1}% p95 {:>4.1}% max {:>4.1}% bias {bias:>5.1}% covered {:>3}/{} seconds p50 {:>4.1} max {:>4.1} converged {:>2} failed {} p99 {p99:.0} ms slowest {slow:.0} ms {:?}",
        case.truth(),
        q(0.5),
        q(0.95),
        q(1.0),
        all.iter().filter(|o| o.covered).count(),
        all.len(),
        secs(0.5),
        secs(1.0),
        all.iter().filter(|o| o.ended == Some(StressEnd::Converged)).count(),
        all.iter().map(|o| o.failed).sum::<u64>(),
        all[0].estimate.binding,
    );
    all
}

/// Runs the cases and holds them to what a stress test promises.
fn hold_promises(cases: &[(&str, Case)]) {
    for (name, case) in cases {
        let all = distribution(name, case);
        let p95 = quantile(all.iter().map(|o| o.relative_error.abs()), 0.95);
        assert!(p95 <= 0.08, "{name}: p95 of the error {p95:.3}");
        assert!(all.iter().all(|o| o.seconds <= 20.2), "{name}: longer than allowed");
        let requests: u64 = all.iter().map(|o| o.estimate.requests).sum();
        let failed: u64 = all.iter().map(|o| o.failed).sum();
        assert!(failed as f64 <= 0.001 * requests as f64, "{name}: {failed} of {requests} failed");
        let covered = all.iter().filter(|o| o.covered).count();
        for o in &all {
            let knee = o.estimate.knee_rps / o.estimate.capacity_rps.value;
            assert!((0.3..=1.0).contains(&knee), "{name}: knee at {knee:.2} of the capacity");
        }
        if let Kind::Cpu { cost_s, .. } = case.kind {
            let off = |o: &Outcome| (o.estimate.cpu_us_per_request.value / 1e6 / cost_s - 1.0).abs();
            let p95 = quantile(all.iter().map(off), 0.95);
            assert!(p95 <= 0.08, "{name}: p95 of the error of the cost {p95:.3}");
        }
        assert!(covered >= 32, "{name}: the interval holds the truth in {covered} of {} runs", all.len());
    }
}

fn cpu(quota: f64, cost_s: f64, threads: usize) -> Case {
    Case::new(Kind::Cpu { quota, cost_s, threads })
}

fn workers(count: usize, hold_s: f64, before_s: f64) -> Case {
    Case::new(Kind::Workers { count, hold_s, before_s })
}

#[test]
fn cpu_bound_services_with_small_shapes() {
    hold_promises(&[
        ("cpu 0.1 × 1 ms", cpu(0.1, 0.001, 8)),
        ("cpu 0.1 × 4 ms", cpu(0.1, 0.004, 8)),
        ("cpu 0.2 × 2 ms", cpu(0.2, 0.002, 8)),
    ]);
}

#[test]
fn cpu_bound_services_with_larger_shapes() {
    hold_promises(&[
        ("cpu 0.5 × 20 ms", cpu(0.5, 0.020, 8)),
        ("cpu 0.5 × 2 ms", cpu(0.5, 0.002, 8)),
        ("cpu 0.3 × 1 ms, 1 thread", cpu(0.3, 0.001, 1)),
        ("cpu 0.5 × 10 ms, 1 thread", cpu(0.5, 0.010, 1)),
    ]);
}

#[test]
fn worker_bound_services() {
    hold_promises(&[
        ("workers 2 × 5 ms", workers(2, 0.005, 0.0)),
        ("workers 2 × 20 ms", workers(2, 0.020, 0.0)),
        ("workers 2 × 50 ms", workers(2, 0.050, 0.0)),
    ]);
}

#[test]
fn lock_bound_services() {
    hold_promises(&[
        ("lock 4 ms after 10 ms", workers(1, 0.004, 0.010)),
        ("lock 10 ms after 5 ms", workers(1, 0.010, 0.005)),
        ("lock 30 ms after 2 ms", workers(1, 0.030, 0.002)),
    ]);
}

#[test]
fn pool_bound_services() {
    hold_promises(&[
        ("pool 4 × 30 ms after 10 ms", workers(4, 0.030, 0.010)),
        ("pool 8 × 40 ms after 5 ms", workers(8, 0.040, 0.005)),
        ("pool 4 × 30 ms, exponential", Case { cv: 1.0, ..workers(4, 0.030, 0.0) }),
    ]);
}

#[test]
fn traffic_of_all_sizes() {
    hold_promises(&[
        ("traffic 1.3 ×, cpu", Case { traffic: 1.3, ..cpu(0.2, 0.002, 8) }),
        ("traffic 1.3 ×, lock", Case { traffic: 1.3, ..workers(1, 0.010, 0.0) }),
        ("traffic 10 ×, cpu", Case { traffic: 10.0, neutral: 0.05, ..cpu(0.2, 0.004, 8) }),
        ("idle before, cpu", Case { traffic: 2.0, neutral: 0.05, ..cpu(0.5, 0.004, 8) }),
        ("idle before, lock", Case { traffic: 2.0, neutral: 0.05, ..workers(1, 0.010, 0.0) }),
    ]);
}

#[test]
fn traffic_that_changes() {
    hold_promises(&[
        ("growing 10% a second, lock", Case { traffic: 1.5, growth: 0.1, ..workers(1, 0.010, 0.0) }),
        ("growing 10% a second, cpu", Case { traffic: 1.5, growth: 0.1, ..cpu(0.2, 0.004, 8) }),
        ("falling 4% a second, cpu", Case { traffic: 4.0, growth: -0.04, ..cpu(0.2, 0.002, 8) }),
        ("evenly spaced, workers", Case { even: true, ..workers(2, 0.020, 0.0) }),
    ]);
}

#[test]
fn a_binomial_tail_is_exact() {
    // At least 2 of 3 with one half each: 4 of 8 ways.
    assert!((fit::binomial_at_least(2.0, 3.0, 0.5) - 0.5).abs() < 1e-12);
    assert!((fit::binomial_at_least(3.0, 3.0, 0.1) - 0.001).abs() < 1e-12);
}

#[test]
fn readings_that_are_not_exact() {
    hold_promises(&[
        ("two proxies, cpu", Case { proxies: 2, ..cpu(0.2, 0.002, 8) }),
        ("two proxies, workers", Case { proxies: 2, ..workers(2, 0.020, 0.0) }),
        ("stamps ± 20 ms, cpu", Case { stamp_error_s: 0.02, ..cpu(0.2, 0.002, 8) }),
        ("stamps ± 20 ms, workers", Case { stamp_error_s: 0.02, ..workers(2, 0.020, 0.0) }),
        ("counters restart, workers", Case { resets_at_s: Some(6.0), ..workers(2, 0.020, 0.0) }),
        ("counters restart, cpu", Case { resets_at_s: Some(5.0), ..cpu(0.2, 0.002, 8) }),
    ]);
}

#[test]
fn machines_and_balancers_that_interfere() {
    hold_promises(&[
        ("least load, cpu", Case { shy: 0.02, ..cpu(0.2, 0.002, 8) }),
        ("least load, lock", Case { shy: 0.02, ..workers(1, 0.010, 0.0) }),
        ("stolen cpu, cpu", Case { stalls: (0.3, 0.06), ..cpu(0.3, 0.004, 8) }),
        ("stolen cpu, cpu 0.5", Case { stalls: (0.3, 0.06), ..cpu(0.5, 0.004, 8) }),
    ]);
}

#[test]
fn a_service_that_is_late_before_the_test_is_measured_too() {
    hold_promises(&[("late before, lock", Case { traffic: 4.0, neutral: 0.27, ..workers(1, 0.010, 0.0) })]);
}

#[test]
fn what_is_binding_is_named() {
    assert_eq!(run(&cpu(0.2, 0.002, 8), 1).estimate.binding, BindingResource::Cpu);
    assert_eq!(run(&workers(1, 0.010, 0.0), 1).estimate.binding, BindingResource::Serial);
    let Outcome { estimate, .. } = run(&workers(4, 0.030, 0.0), 1);
    assert_eq!(estimate.binding, BindingResource::Concurrency { limit: 4.0 });
}

#[test]
fn too_little_traffic_gives_an_honest_lower_bound() {
    for case in [cpu(0.2, 0.002, 8), workers(2, 0.020, 0.0)] {
        for seed in 0..10 {
            let o = run(&Case { traffic: 0.5, ..case }, seed);
            assert_eq!(o.ended, Some(StressEnd::TrafficExhausted), "seed {seed}");
            assert_eq!(o.estimate.binding, BindingResource::NotReached);
            let share = o.estimate.capacity_rps.low / case.truth();
            assert!((0.35..=1.0).contains(&share), "seed {seed}: a lower bound of {share:.2} of the truth");
        }
    }
}

#[test]
fn errors_end_the_test_within_300_ms_and_give_the_share_back() {
    for seed in 0..10 {
        let o = run(&Case { fails_above: Some(0.9), neutral: 0.1, ..cpu(0.5, 0.002, 8) }, seed);
        assert_eq!(o.ended, Some(StressEnd::Errors), "seed {seed}");
        let (at_s, last) = *o.moves.last().expect("it moved");
        let after_s = at_s - o.first_failed_s.expect("it failed");
        assert!(after_s <= 0.3, "seed {seed}: ended {after_s:.2} s after the first error");
        assert!(last.neutral, "the share goes back");
    }
}

#[test]
fn an_instance_whose_cpu_is_not_known_is_not_taken_for_idle() {
    let shares = |cpu_silent_from_s| {
        let o = run(&Case { cpu_silent_from_s, ..cpu(1.0, 0.002, 8) }, 3);
        let moved = o.moves.into_iter().filter(|(_, to)| !to.neutral).map(|(_, to)| to.share);
        moved.collect::<Vec<f64>>()
    };
    let (unknown, known) = (shares(Some(1.2)), shares(None));
    assert!(unknown.iter().all(|share| *share <= unknown[0]), "one step, and no further: {unknown:?}");
    assert!(known.iter().any(|share| *share > known[0] * 1.1), "{known:?}");
}

#[test]
fn frozen_readings_give_the_share_back_and_end_the_test() {
    let o = run(&Case { freezes_at_s: Some(4.0), ..cpu(0.2, 0.002, 8) }, 3);
    let back = o.moves.iter().find(|(at, to)| *at > 4.0 && to.neutral).expect("it went back");
    assert!(back.0 <= 4.5, "back at {:.2} s", back.0);
    assert_eq!(o.ended, Some(StressEnd::Aborted));
}
