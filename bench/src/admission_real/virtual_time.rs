//! The same cell in virtual time: the same load, capacity, deadline and users, the same code of each control.
//!
//! A quota makes a slow worker: the script's works at the measured capacity, evenly. Calls arrive when the generator was to
//! send them: near the capacity, other draws of the same rate would be another experiment. Absent, as in the simulator at large: what it costs to say no, the periods in which
//! a quota is used up, and the proxy's own time.

use super::load::{Sent, USERS};
use super::schemes::Row;
use super::{Args, DEADLINE_MS};
use anyhow::{Result, ensure};
use sim::script::{Balancer, Calls, Load, Retries, Script, Service, Shape, Stream, Work};

/// Seeds of which the mean is taken.
const SEEDS: u64 = 10;

/// What the simulator expects.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Calls a second done in time.
    pub goodput_rps: f64,
    /// 99th percentile of the latency of those, in milliseconds.
    pub p99_ms: f64,
}

/// Runs a row on what was sent, against a service that can do `capacity_rps`.
pub fn expect(args: &Args, row: Row, sent: &Sent, capacity_rps: f64) -> Result<Expected> {
    let script = script(sent, capacity_rps);
    let faults = sim::script::check::check(&script);
    ensure!(faults.is_empty(), "the script of {} is refused: {faults:?}", row.name());
    let scheme = row.simulated();
    let reports: Vec<_> = (args.seed..args.seed + SEEDS).map(|seed| sim::run(&script, &*scheme, seed)).collect();
    let mean = |of: fn(&sim::Report) -> f64| reports.iter().map(of).sum::<f64>() / SEEDS as f64;
    Ok(Expected { goodput_rps: mean(|report| report.goodput_rps), p99_ms: mean(|report| report.all.p99_ms) })
}

fn script(sent: &Sent, capacity_rps: f64) -> Script {
    let work = Work { shape: Shape::Fixed, mean_ms: 1_000.0 / capacity_rps, cv: None, slow_share: None, slow_ms: None };
    Script {
        name: "admission-real".to_owned(),
        about: String::new(),
        seed: 1,
        duration_s: sent.end_s,
        measure_from_s: sent.measured_from_s,
        deadline_ms: f64::from(DEADLINE_MS),
        users: USERS,
        rotation_s: 3_600.0,
        callers: 1,
        network_ms: 0.25,
        balancer: Balancer::default(),
        retries: Retries::default(),
        services: vec![Service {
            name: "web".to_owned(),
            instances: 1,
            workers: 1,
            work,
            queue_max: 10_000,
            notices_hangups: false,
            calls: Vec::new(),
        }],
        streams: vec![Stream {
            name: "calls".to_owned(),
            class: 0,
            calls: vec![Calls { to: "web".to_owned(), times: 1, parallel: false }],
            load: sent.rates.iter().map(|(at_s, rps)| Load { at_s: *at_s, rps: *rps, ramp: false }).collect(),
            arrivals_s: sent.arrivals_s.clone(),
        }],
        faults: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_follows_what_was_sent() {
        let rates = vec![(0.0, 50.0), (2.0, 300.0)];
        let arrivals_s =
            (0..3_700).map(|at| if at < 100 { f64::from(at) / 50.0 } else { 2.0 + f64::from(at - 100) / 300.0 });
        let sent = Sent { rates, arrivals_s: arrivals_s.collect(), measured_from_s: 4.0, end_s: 14.0 };
        let script = script(&sent, 100.0);
        assert!(sim::script::check::check(&script).is_empty());
        let report = sim::run(&script, &*Row::Random.simulated(), 1);
        assert!((2_990..=3_000).contains(&report.all.arrived), "{}", report.all.arrived);
        assert!((85.0..=101.0).contains(&report.goodput_rps), "{}", report.goodput_rps);
    }
}
