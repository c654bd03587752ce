//! Latencies, rates, lag: the times that the generator reports are true.

use crate::one_of_three;
use crate::server::{Server, block_on};
use loadgen::{Arrivals, Handle, Plan, Profile, Step, run, run_with};
use std::time::Duration;

fn constant(rps: f64, seconds: f64) -> Profile {
    Profile::Constant { rps, seconds }
}

#[test]
fn a_known_delay_is_the_latency() {
    one_of_three(|| {
        let server = Server::start();
        let report = block_on(run(Plan::new(server.address, "/sleep/40", constant(200.0, 1.0)), |_| {})).unwrap();
        assert_eq!((report.offered, report.done, report.errors.total()), (200, 200, 0));
        let latency = report.latency;
        assert!((40.0..70.0).contains(&latency.p50_ms), "{latency:?}");
        assert!(latency.p50_ms <= latency.p90_ms && latency.p90_ms <= latency.p99_ms, "{latency:?}");
        assert!(latency.p99_ms <= latency.p999_ms && latency.p999_ms <= latency.max_ms, "{latency:?}");
    });
}

/// A closed loop of four connections would see four slow requests of a second; 200 are intended in that second.
#[test]
fn a_stall_shows_in_the_percentiles_of_those_who_would_have_come() {
    one_of_three(|| {
        let server = Server::start();
        let mut plan = Plan::new(server.address, "/stall", constant(200.0, 3.0));
        plan.connections_max = 4;
        let report = block_on(run(plan, |_| {})).unwrap();
        assert_eq!((report.offered, report.done), (600, 600));
        assert!(report.latency.p99_ms > 900.0 && report.latency.max_ms < 1_500.0, "{:?}", report.latency);
        assert!((550.0..900.0).contains(&report.latency.p90_ms), "a third waited 0 to 1 s: {:?}", report.latency);
        assert!(report.latency.p50_ms < 100.0, "{:?}", report.latency);
        assert_eq!(server.seen.lock().unwrap().connections, 4);
    });
}

#[test]
fn the_rate_is_the_one_intended() {
    one_of_three(|| {
        let server = Server::start();
        let steps = vec![Step { rps: 1_000.0, seconds: 1.0 }, Step { rps: 200.0, seconds: 1.0 }];
        let mut ticks = Vec::new();
        let plan = Plan::new(server.address, "/", Profile::Steps(steps));
        let report = block_on(run(plan, |progress| ticks.push(progress))).unwrap();
        assert_eq!(report.offered, 1_200);
        assert_eq!(report.done, server.seen.lock().unwrap().requests.len() as u64);
        assert!((2.0..3.0).contains(&report.duration_s), "{}", report.duration_s);
        assert!(report.seconds[0].offered.abs_diff(1_000) < 60, "{:?}", report.seconds);
        assert_eq!(report.seconds.iter().map(|s| s.offered).sum::<u64>(), report.offered);
        assert_eq!(report.seconds.iter().map(|s| s.done).sum::<u64>(), report.done);
        assert_eq!(ticks[0].second, report.seconds[0]);
        assert_eq!(ticks[0].end_s, 2.0);
    });
}

#[test]
fn poisson_arrivals_keep_the_mean_rate_and_the_seed() {
    let server = Server::start();
    let mut plan = Plan::new(server.address, "/", constant(1_500.0, 1.0));
    plan.arrivals = Arrivals::Poisson;
    let first = block_on(run(plan.clone(), |_| {})).unwrap();
    assert!(first.offered.abs_diff(1_500) < 200, "five standard deviations: {}", first.offered);
    let again = block_on(run(plan, |_| {})).unwrap();
    assert_eq!(first.offered, again.offered, "the same seed, the same arrivals");
}

#[test]
fn a_late_generator_voids_the_run() {
    one_of_three(|| {
        let server = Server::start();
        let late = block_on(async {
            let hog = tokio::spawn(async {
                loop {
                    std::thread::sleep(Duration::from_millis(60));
                    tokio::task::yield_now().await;
                }
            });
            let report = run(Plan::new(server.address, "/", constant(200.0, 1.0)), |_| {}).await.unwrap();
            hog.abort();
            report
        });
        assert!(late.void && late.lag_p99_ms > 5.0, "{} ms", late.lag_p99_ms);
        assert!(late.lag_max_ms >= late.lag_p99_ms);
        assert!(late.latency.p50_ms > 5.0, "lag is part of the latency: {:?}", late.latency);
        let mut plan = Plan::new(server.address, "/", constant(200.0, 0.5));
        plan.lag_p99_ms_max = 400.0;
        let report = block_on(run(plan, |_| {})).unwrap();
        assert!(!report.void, "{} ms", report.lag_p99_ms);
    });
}

#[test]
fn a_handle_steers_and_stops() {
    one_of_three(|| {
        let server = Server::start();
        let handle = Handle::new();
        let steering = handle.clone();
        let plan = Plan::new(server.address, "/", constant(100.0, 60.0));
        let mut seconds = 0;
        let progress = move |_| {
            seconds += 1;
            match seconds {
                1 => steering.set_rate(Some(500.0)),
                2 => steering.set_rate(None),
                _ => steering.stop(),
            }
        };
        let report = block_on(run_with(plan, &handle, progress)).unwrap();
        assert!((3.0..4.0).contains(&report.duration_s), "{}", report.duration_s);
        let mut before_s = 0.0;
        for (second, rate) in report.seconds.iter().zip([100.0, 500.0, 100.0]) {
            let expected = rate * (second.at_s - before_s);
            assert!((second.offered as f64 - expected).abs() <= expected * 0.1 + 2.0, "{:?}", report.seconds);
            before_s = second.at_s;
        }
        assert_eq!(report.done, report.offered);
    });
}
