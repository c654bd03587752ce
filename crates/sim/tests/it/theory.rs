//! Waiting times of queues that have formulas, and what random shedding leaves of tasks of several calls.

use super::script;
use sim::scheme::Nothing;
use sim::scheme::random::Random;

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found / expected - 1.0).abs() < tolerance, "{what}: {found} instead of {expected}");
}

#[test]
fn one_worker_with_exponential_work_waits_as_erlang_says() {
    let script = script(1, 1, "{shape: exponential, mean_ms: 10}", "{to: m}", 80.0, 4_000.0);
    let report = sim::run(&script, &Nothing, 5);
    // M/M/1: ρ/(μ-λ) = 0.8/(100-80) s.
    close(report.queue_delay_ms, 40.0, 0.05, "mean wait");
    // Time in system is exponential with rate μ-λ: its median is ln 2/20 s, its 99th percentile ln 100/20 s.
    close(report.all.p50_ms, 34.66, 0.05, "median time in system");
    close(report.all.p99_ms, 230.3, 0.07, "99th percentile of the time in system");
}

#[test]
fn one_worker_with_fixed_work_waits_half_as_long() {
    let script = script(1, 1, "{shape: fixed, mean_ms: 10}", "{to: m}", 80.0, 4_000.0);
    close(sim::run(&script, &Nothing, 6).queue_delay_ms, 20.0, 0.05, "mean wait (M/D/1)");
}

#[test]
fn four_workers_wait_as_erlang_c_says() {
    let script = script(1, 4, "{shape: exponential, mean_ms: 16}", "{to: m}", 225.0, 2_000.0);
    // M/M/4, ρ = 0.9: C = 0.7878 (Erlang C), Wq = C/(4μ-λ) = 0.7878/25 s.
    close(sim::run(&script, &Nothing, 7).queue_delay_ms, 31.5, 0.06, "mean wait (M/M/4)");
}

#[test]
fn lognormal_work_waits_as_pollaczek_and_khinchine_say() {
    let script = script(1, 1, "{shape: lognormal, mean_ms: 10, cv: 0.5}", "{to: m}", 70.0, 4_000.0);
    // M/G/1: ρ/(μ-λ) · (1+cv²)/2 = 0.7/30 · 0.625 s.
    close(sim::run(&script, &Nothing, 8).queue_delay_ms, 14.58, 0.05, "mean wait (M/G/1)");
}

#[test]
fn random_shedding_of_half_the_calls_leaves_a_half_to_the_n_of_the_tasks() {
    let half = Random { label: "half", headroom: 1.0, window_us: 100_000, fixed: Some(0.5), drop_expired: false };
    for (n, expected) in [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)] {
        let calls = format!("{{to: m, times: {n}, parallel: true}}");
        let script = script(3, 4, "{shape: exponential, mean_ms: 16}", &calls, 600.0 / f64::from(n), 400.0);
        let success = sim::run(&script, &half, 9).all.success;
        close(success, expected, 0.06, &format!("success of {n} calls"));
    }
}

#[test]
fn utilisation_bounds_what_is_done() {
    let script = script(3, 4, "{shape: exponential, mean_ms: 16}", "{to: m}", 2_000.0, 20.0);
    let report = sim::run(&script, &Nothing, 10);
    close(report.done_rps(5.0, 20.0), 750.0, 0.03, "calls done per second by 12 workers of 16 ms");
}
