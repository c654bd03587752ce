//! The controller against servers in virtual time.

use super::*;

#[test]
fn the_first_sample_moves_nothing() {
    let mut controller =
        Controller::new(Config { quota: CpuMillis(500), slo: Slo::default(), duration_ms_max: 20_000 });
    let sample = Sample {
        traffic_time_us: 1_000_000,
        started: 25,
        completed: 25,
        errors: 0,
        latency: LatencyHistogram::default(),
        in_flight: 0,
        service_started: 100,
        slice_time_us: 0,
        cpu_usage_us: 0,
        throttled_us: 0,
    };
    assert_eq!(controller.step(&sample), Move { share: 0.25, neutral: true, ended: None });
}
