//! The same cell in virtual time: the same load, capacity, deadline and users, the same code of each control.
//!
//! The quota is in the script as the kernel enforces it: in each period the copy works for its share at full speed and
//! stands still for the rest. Absent, as in the simulator at large: what it costs to say no, and the proxy's own time.

use super::load::USERS;
use super::schemes::Row;
use super::{Args, DEADLINE_MS};
use anyhow::{Result, ensure};
use sim::script::{Balancer, Calls, Load, Retries, Script, Service, Shape, Stream, Trouble, Work};

/// Seeds of which the mean is taken.
const SEEDS: u64 = 5;
/// Period of the agent's CPU quotas, in seconds.
const PERIOD_S: f64 = 0.1;
/// Time measured in each.
const SECONDS: f64 = 30.0;

/// What the simulator expects.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Calls a second done in time.
    pub goodput_rps: f64,
    /// 99th percentile of the latency of those, in milliseconds.
    pub p99_ms: f64,
}

/// Runs a row at `offered_rps` against a service that can do `capacity_rps`.
pub fn expect(args: &Args, row: Row, load: f64, offered_rps: f64, capacity_rps: f64) -> Result<Expected> {
    let quota_cores = f64::from(args.quota_millis) / 1_000.0;
    let script = script(quota_cores, row.warm_s(load, args.warm), offered_rps, capacity_rps);
    let faults = sim::script::check::check(&script);
    ensure!(faults.is_empty(), "the script of {} is refused: {faults:?}", row.name());
    let scheme = row.simulated(quota_cores);
    let reports: Vec<_> = (args.seed..args.seed + SEEDS).map(|seed| sim::run(&script, &*scheme, seed)).collect();
    let mean = |of: fn(&sim::Report) -> f64| reports.iter().map(of).sum::<f64>() / SEEDS as f64;
    Ok(Expected { goodput_rps: mean(|report| report.goodput_rps), p99_ms: mean(|report| report.all.p99_ms) })
}

fn script(quota_cores: f64, warm_s: f64, offered_rps: f64, capacity_rps: f64) -> Script {
    let duration_s = warm_s + SECONDS;
    let pause = Trouble {
        service: "web".to_owned(),
        instance: None,
        at_s: 0.0,
        for_s: PERIOD_S * (1.0 - quota_cores),
        every_s: Some(PERIOD_S),
        staggered: false,
        slowdown: None,
    };
    let work = Work {
        shape: Shape::Fixed,
        mean_ms: 1_000.0 * quota_cores / capacity_rps,
        cv: None,
        slow_share: None,
        slow_ms: None,
    };
    Script {
        name: "admission-real".to_owned(),
        about: String::new(),
        seed: 1,
        duration_s,
        measure_from_s: warm_s,
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
            calls: Vec::new(),
        }],
        streams: vec![Stream {
            name: "calls".to_owned(),
            class: 0,
            calls: vec![Calls { to: "web".to_owned(), times: 1, parallel: false }],
            load: vec![Load { at_s: 0.0, rps: offered_rps, ramp: false }],
        }],
        faults: if quota_cores < 1.0 { vec![pause] } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripted_quota_leaves_the_capacity_asked_for() {
        let script = script(0.4, 2.0, 150.0, 100.0);
        assert!(sim::script::check::check(&script).is_empty());
        let scheme = Row::Random.simulated(0.4);
        let report = sim::run(&script, &*scheme, 1);
        assert!((85.0..=101.0).contains(&report.goodput_rps), "{}", report.goodput_rps);
    }
}
