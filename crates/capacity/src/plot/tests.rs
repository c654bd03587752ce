//! Golden pictures: what a curve looks like changes on purpose only. `SPRINGTIDE_GOLDEN=write` renews them.

use super::*;
use model::{BindingResource, CpuMillis, Interval, MemoryBytes, Shape};

/// A curve of a service that saturates at 100 rps.
fn curve() -> Curve {
    let flat = |value: f64, half: f64| Interval { value, low: value - half, high: value + half };
    let point = |i: u32| {
        let offered = f64::from(i) * 10.0;
        CurvePoint {
            at_ms: u64::from(i) * 500,
            offered_rps: offered,
            completed_rps: offered.min(100.0),
            latency_mean_ms: 5.0 + (offered - 100.0).max(0.0),
            latency_p99_ms: 12.0 + 3.0 * (offered - 100.0).max(0.0),
            in_flight: 2.0,
            cpu_cores: 0.005 * offered,
        }
    };
    Curve {
        operation: "op-7".parse().expect("a name"),
        service: "lottery".parse().expect("a name"),
        host_type: "c8".parse().expect("a name"),
        package_version: "1.4 <beta>".to_owned(),
        instance: "lottery-1".parse().expect("a name"),
        shape: Shape { cpu: CpuMillis(500), memory: MemoryBytes(1 << 28), pids_max: 512 },
        measured_at: 0,
        duration_ms: 6_500,
        cpu_us_per_request: flat(5_000.0, 50.0),
        background_cores: 0.002,
        knee_rps: 85.0,
        capacity_rps: flat(100.0, 2.0),
        binding: BindingResource::Cpu,
        plain_estimate_rps: 75.0,
        requests: 500,
        errors: 0,
        ended: StressEnd::Converged,
        points: (1..=13).map(point).collect(),
    }
}

fn golden(name: &str, expected: &str, found: &str) {
    if std::env::var_os("SPRINGTIDE_GOLDEN").is_some_and(|how| how == "write") {
        let path = format!("{}/src/plot/tests/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, found).expect("the golden file can be written");
        return;
    }
    assert!(expected == found, "{name} differs from its golden file:\n{found}");
}

#[test]
fn svg_is_as_agreed() {
    golden("curve.svg", include_str!("tests/curve.svg"), &svg(&curve()));
}

#[test]
fn text_is_as_agreed() {
    golden("curve.txt", include_str!("tests/curve.txt"), &text(&curve(), 60, 14));
}

#[test]
fn traffic_that_ran_out_leaves_a_lower_bound() {
    let mut bound = curve();
    bound.ended = StressEnd::TrafficExhausted;
    bound.binding = BindingResource::NotReached;
    assert!(text(&bound, 60, 14).ends_with("│ capacity is at least 100 requests/s\n"));
    let drawn = svg(&bound);
    assert!(drawn.contains("capacity at least 100.0 requests/s") && !drawn.contains("knee<"), "{drawn}");
}

#[test]
fn hostile_curves_are_drawn_too() {
    let mut odd = curve();
    odd.points.clear();
    assert!(svg(&odd).ends_with("</svg>\n"));
    assert_eq!(text(&odd, 60, 14), "");
    odd = curve();
    odd.points = vec![odd.points[0]; 50_000];
    odd.capacity_rps.high = f64::INFINITY;
    odd.points[3].latency_p99_ms = f64::NAN;
    for (width, height) in [(0, 0), (80, 20), (10_000, 10_000)] {
        let drawn = text(&odd, width, height);
        assert!(drawn.lines().count() > 4 && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
    let drawn = svg(&odd);
    assert!(drawn.len() < 400_000, "{} bytes", drawn.len());
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "numbers only");
    assert!(!drawn.contains("<beta>"), "text is escaped");
}
