//! The gate against fleets of known quality.

use super::*;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn fill(window: &mut GateWindow, requests: u64, error_rate: f64, scale: f64, rng: &mut ChaCha8Rng) {
    for _ in 0..requests {
        window.requests += 1;
        window.errors += u64::from(rng.random::<f64>() < error_rate);
        // A log-normal body by twelve uniforms, as services show.
        let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        window.latency.record((8_000.0 * scale * (0.6 * normal).exp()) as u64);
    }
}

/// Feeds the gate 20 requests at a time until it decides, at most `most`.
fn run(seed: u64, errors: (f64, f64), scale: f64, most: u64) -> (Option<GateOutcome>, u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut new, mut running) = (GateWindow::default(), GateWindow::default());
    let cfg = GateConfig::default();
    while new.requests < most {
        fill(&mut new, 20, errors.0, scale, &mut rng);
        fill(&mut running, 100, errors.1, 1.0, &mut rng);
        let outcome = judge(&new, &running, 1_000, &cfg);
        if outcome.is_some() {
            return (outcome, new.requests);
        }
    }
    (judge(&new, &running, cfg.wait_ms_max, &cfg), new.requests)
}

#[test]
fn equal_fleets_pass_and_false_alarms_are_rare() {
    for rate in [0.0, 0.001, 0.01, 0.05] {
        let alarms =
            (0..500).filter(|seed| run(*seed, (rate, rate), 1.0, 1_000).0 != Some(GateOutcome::Passed)).count();
        assert!(alarms <= 5, "{alarms} of 500 equal pairs refused at an error rate of {rate}");
    }
}

#[test]
fn a_clean_fleet_passes_at_a_hundred_requests() {
    let passed: Vec<u64> = (0..100).map(|seed| run(seed, (0.0, 0.0), 1.0, 1_000).1).collect();
    assert!(passed.iter().filter(|n| **n <= 120).count() >= 90, "{passed:?}");
}

#[test]
fn more_errors_and_slower_answers_are_caught_within_a_thousand_requests() {
    let caught =
        |errors, scale, as_what| (0..200).filter(|seed| run(*seed, errors, scale, 1_000).0 == Some(as_what)).count();
    assert!(caught((0.05, 0.01), 1.0, GateOutcome::ErrorsWorse) >= 190);
    assert!(caught((0.05, 0.0), 1.0, GateOutcome::ErrorsWorse) >= 190);
    assert!(caught((0.001, 0.001), 2.0, GateOutcome::LatencyWorse) >= 190);
}

#[test]
fn an_instance_that_only_fails_is_refused_long_before_a_hundred_requests() {
    let (outcome, requests) = run(1, (1.0, 0.001), 1.0, 1_000);
    assert_eq!(outcome, Some(GateOutcome::ErrorsWorse));
    assert!(requests <= 20, "{requests}");
}

#[test]
fn too_little_to_judge_is_said_not_passed() {
    let cfg = GateConfig::default();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut new, mut running) = (GateWindow::default(), GateWindow::default());
    assert_eq!(judge(&new, &running, 0, &cfg), None);
    assert_eq!(judge(&new, &running, cfg.wait_ms_max, &cfg), Some(GateOutcome::NoRunningFleet));
    fill(&mut running, 1_000, 0.0, 1.0, &mut rng);
    fill(&mut new, 99, 0.0, 1.0, &mut rng);
    assert_eq!(judge(&new, &running, cfg.wait_ms_max - 1, &cfg), None);
    assert_eq!(judge(&new, &running, cfg.wait_ms_max, &cfg), Some(GateOutcome::TooFewRequests));
}

#[test]
fn a_tail_alone_is_caught() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (mut new, mut running) = (GateWindow::default(), GateWindow::default());
    fill(&mut running, 5_000, 0.0, 1.0, &mut rng);
    fill(&mut new, 270, 0.0, 1.0, &mut rng);
    fill(&mut new, 30, 0.0, 20.0, &mut rng);
    assert_eq!(judge(&new, &running, 1_000, &GateConfig::default()), Some(GateOutcome::LatencyWorse));
}

#[test]
fn a_cold_start_of_a_few_slow_requests_is_forgiven() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut new, mut running) = (GateWindow::default(), GateWindow::default());
    fill(&mut running, 5_000, 0.0, 1.0, &mut rng);
    fill(&mut new, 5, 0.0, 30.0, &mut rng);
    assert_eq!(judge(&new, &running, 1_000, &GateConfig::default()), None);
    fill(&mut new, 155, 0.0, 1.0, &mut rng);
    assert_eq!(judge(&new, &running, 1_000, &GateConfig::default()), Some(GateOutcome::Passed));
}

#[test]
fn exact_tests_agree_with_known_values() {
    let window = |requests, errors| GateWindow { requests, errors, latency: LatencyHistogram::default() };
    // The lady tasting tea: 4 of 4 right among 8 cups, 1/70; 3 or more, 17/70.
    assert!((fisher_more(&window(4, 4), &window(4, 0)) - 1.0 / 70.0).abs() < 1e-6);
    assert!((fisher_more(&window(4, 3), &window(4, 1)) - 17.0 / 70.0).abs() < 1e-6);
}
