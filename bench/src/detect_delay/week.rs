//! A week without faults: a day's tide, bursts and pauses, a rollout each day, a crowd of 100 times the usual that was
//! announced, a datacenter drill. Every incident in it is false.

use super::BEGIN_S;
use super::fleet::{Fleet, Size};
use super::run::{Run, Said, Turn, any_service};

/// What the quiet time gave.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    series: usize,
    days: f64,
    incidents: usize,
}

impl Quiet {
    /// Days of 100,000 series that were watched.
    pub fn days_of_100k(self) -> f64 {
        self.days * self.series as f64 / 1e5
    }

    /// False incidents, by days of 100,000 series.
    pub fn a_day_and_100k(self) -> f64 {
        self.incidents as f64 / self.days_of_100k().max(1e-9)
    }
}

/// Runs two fleets of half the size each, side by side.
pub fn run(seed: u64, instances: u32, days: u64) -> Quiet {
    let halves = std::thread::scope(|scope| {
        let half = |number: u64| scope.spawn(move || one(seed * 1_000 + 998 + number, instances / 2, days));
        [half(0), half(1)].map(|half| half.join().expect("a week does not panic"))
    });
    let quiet = Quiet {
        series: halves.iter().map(|half| half.0.series).sum(),
        days: days as f64,
        incidents: halves.iter().map(|half| half.0.incidents).sum(),
    };
    let ns = halves.iter().map(|half| half.1).sum::<f64>() / 2.0;
    println!(
        "quiet time: {} false in {:.2} days of 100,000 series (extrapolated from {} series x {days} days); {ns:.1} ns a sample",
        quiet.incidents,
        quiet.days_of_100k(),
        quiet.series,
    );
    quiet
}

/// One fleet's quiet time, and what a sample cost, in ns.
fn one(seed: u64, instances: u32, days: u64) -> (Quiet, f64) {
    let size = Size { services: (instances / 20).max(10), externals: 6, instances };
    let mut run = Run::new(Fleet::new(seed, size), seed, BEGIN_S);
    let series = run.detector.health().series;
    let begun = std::time::Instant::now();
    for day in 0..days {
        for of_day in 0..86_400 {
            if day > 0 || of_day > 600 {
                turn(&mut run, day, of_day);
            }
            let before = run.said.len();
            run.step(&[]);
            run.said[before..].iter().for_each(tell);
        }
        let health = run.detector.health();
        println!(
            "quiet day {} of seed {seed}: {series} series, {} incidents so far, thresholds x {:.2?}, {} B a series, {:.0} s",
            day + 1,
            run.said.len(),
            health.threshold_factors,
            health.state_bytes / series,
            begun.elapsed().as_secs_f64(),
        );
    }
    let quiet = Quiet { series, days: days as f64, incidents: run.said.len() };
    (quiet, run.detect_ns as f64 / (quiet.days * 86_400.0 * series as f64))
}

fn tell(one: &Said) {
    let cause = one.first.first().map_or_else(String::new, |cause| format!("{} {}", cause.kind, cause.entity));
    let since_s = one.at_ms / 1_000 - BEGIN_S;
    let evidence = one.first.first().map(|cause| &cause.evidence);
    println!(
        "  false: day {} second {}: {cause}; {:?}; {evidence:?}",
        since_s / 86_400,
        since_s % 86_400,
        one.services
    );
}

fn turn(run: &mut Run, day: u64, of_day: u64) {
    match (day, of_day) {
        // Two hours after the run's begin, each day.
        (_, 7_200) => {
            let service = any_service(run);
            run.turn(&Turn::Rollout { service });
        }
        (0 | 4, 28_800) => run.turn(&Turn::Crowd { factor: 100.0, ramp_s: 120, stay_s: 1_800 }),
        (0 | 5, 50_000) => run.turn(&Turn::Drill { datacenter: 1, stay_s: 1_800 }),
        _ => {}
    }
}
