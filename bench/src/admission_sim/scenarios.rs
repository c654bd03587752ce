//! What is measured: the scripts of `scenarios/`, and what is read from each run.

use anyhow::{Result, anyhow};
use sim::{Report, Script};

/// One number of a run.
pub struct Part {
    /// Its name in tables.
    pub name: &'static str,
    /// Digits after the point.
    pub digits: usize,
    /// From a run's report.
    pub value: fn(&Report) -> f64,
}

/// A script and what is read from it.
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    text: &'static str,
    vary: fn(&mut Script),
    /// The numbers.
    pub parts: &'static [Part],
}

impl Measure {
    /// Its script.
    pub fn script(&self) -> Result<Script> {
        let mut script = sim::script::parse(self.name, self.text).map_err(|faults| anyhow!("{}", faults[0]))?;
        (self.vary)(&mut script);
        Ok(script)
    }
}

/// What the three servers of the reference setting do, in calls per second.
const CAPACITY_RPS: f64 = 750.0;
/// When the load of the step scripts rises, and when they end, in seconds.
const STEP_S: f64 = 20.0;
/// When the stall of its script begins and ends, and when the script ends, in seconds.
const STALL_S: (f64, f64, f64) = (20.0, 30.0, 70.0);
/// The load of the stall script, in tasks per second.
const STALL_RPS: f64 = 675.0;
/// Share of the optimum that counts as recovered.
const RECOVERED: f64 = 0.9;

const OF_OPTIMUM: Part = Part { name: "% of optimum", digits: 1, value: |run| run.of_optimum * 100.0 };
const WASTED: Part = Part { name: "wasted %", digits: 2, value: |run| run.wasted_work * 100.0 };
const P99: Part = Part { name: "p99 ms", digits: 0, value: |run| p99_ms(&run.all) };
const FAN_OUT: &[Part] = &[OF_OPTIMUM, WASTED, P99];

fn end_s(run: &Report) -> f64 {
    // The last second holds only what was under way when the last task arrived.
    run.seconds.iter().filter(|second| second.arrived > 0).map(|second| second.at_s as f64 + 1.0).fold(0.0, f64::max)
}

/// Not a number where hardly a task succeeded: the latency of the lucky ones says nothing.
fn p99_ms(outcome: &sim::report::Outcome) -> f64 {
    if outcome.success < 0.001 { f64::NAN } else { outcome.p99_ms }
}

fn after_step(run: &Report) -> f64 {
    run.done_rps(STEP_S + 3.0, end_s(run)) / CAPACITY_RPS * 100.0
}

fn step_recovery_s(run: &Report) -> f64 {
    let end_s = end_s(run);
    run.recovered_after_s(STEP_S, end_s, RECOVERED * CAPACITY_RPS).unwrap_or(end_s - STEP_S)
}

const STEP: &[Part] = &[
    Part { name: "% from 3 s on", digits: 1, value: after_step },
    Part { name: "recovery s", digits: 1, value: step_recovery_s },
    WASTED,
];

const STALL: &[Part] = &[
    Part { name: "% from 10 s on", digits: 1, value: |run| run.success_between(STALL_S.1 + 10.0, STALL_S.2) * 100.0 },
    Part { name: "attempts", digits: 3, value: |run| run.attempts_between(STALL_S.0, STALL_S.1 + 10.0) },
    Part {
        name: "recovery s",
        digits: 1,
        value: |run| {
            let never = STALL_S.2 - STALL_S.1;
            run.recovered_after_s(STALL_S.1, STALL_S.2, 0.97 * STALL_RPS).unwrap_or(never)
        },
    },
];

const CLASSES: &[Part] = &[
    Part { name: "top class %", digits: 3, value: |run| run.streams[0].success * 100.0 },
    OF_OPTIMUM,
    Part { name: "top p99 ms", digits: 0, value: |run| p99_ms(&run.streams[0]) },
];

const MIXED: &[Part] = &[
    Part {
        name: "spread points",
        digits: 1,
        value: |run| {
            let shares = run.streams.iter().map(|stream| stream.success * 100.0);
            shares.clone().fold(0.0, f64::max) - shares.fold(100.0, f64::min)
        },
    },
    OF_OPTIMUM,
    WASTED,
];

const FAIRNESS: &[Part] = &[Part { name: "Jain", digits: 4, value: |run| run.jain }, OF_OPTIMUM];

const PAUSES: &[Part] = &[
    Part { name: "shed %", digits: 4, value: |run| run.shed_calls * 100.0 },
    Part { name: "success %", digits: 2, value: |run| run.all.success * 100.0 },
    P99,
];

fn unchanged(_: &mut Script) {}

macro_rules! script {
    ($name:literal) => {
        include_str!(concat!("../../../scenarios/", $name, ".yaml"))
    };
}

/// All measures; those that floors speak of come first.
pub const MEASURES: &[Measure] = &[
    Measure { name: "m1", about: "tasks of 1 call at 2x", text: script!("m1"), vary: unchanged, parts: FAN_OUT },
    Measure { name: "m2", about: "tasks of 2 calls at 2x", text: script!("m2"), vary: unchanged, parts: FAN_OUT },
    Measure { name: "m3", about: "tasks of 3 calls at 2x", text: script!("m3"), vary: unchanged, parts: FAN_OUT },
    Measure { name: "m4", about: "tasks of 4 calls at 2x", text: script!("m4"), vary: unchanged, parts: FAN_OUT },
    Measure { name: "step10", about: "0.8x to 10x at once", text: script!("step10"), vary: unchanged, parts: STEP },
    Measure { name: "step2", about: "0.8x to 2x at once", text: script!("step2"), vary: unchanged, parts: STEP },
    Measure {
        name: "stall",
        about: "10 s without work at 90% load, 2 retries",
        text: script!("stall"),
        vary: unchanged,
        parts: STALL,
    },
    Measure {
        name: "classes",
        about: "10x; the top class needs 70% of capacity",
        text: script!("classes"),
        vary: unchanged,
        parts: CLASSES,
    },
    Measure {
        name: "fairness",
        about: "2x over 24 rotations",
        text: script!("fairness"),
        vary: unchanged,
        parts: FAIRNESS,
    },
    Measure {
        name: "mixed",
        about: "tasks of 1 to 4 calls together at 2x",
        text: script!("mixed"),
        vary: unchanged,
        parts: MIXED,
    },
    Measure {
        name: "pauses",
        about: "90% load, pauses of 50 ms: nothing need be shed",
        text: script!("pauses"),
        vary: unchanged,
        parts: PAUSES,
    },
    Measure {
        name: "other-random",
        about: "m2, copies picked at random",
        text: script!("m2"),
        vary: |script| script.balancer = sim::script::Balancer::Random,
        parts: FAN_OUT,
    },
    Measure {
        name: "other-single",
        about: "m2, 1 worker of 4 ms a copy instead of 4 of 16 ms",
        text: script!("m2"),
        vary: |script| {
            script.services[0].workers = 1;
            script.services[0].work.mean_ms = 4.0;
        },
        parts: FAN_OUT,
    },
    Measure {
        name: "other-bimodal",
        about: "m2, one call in 50 takes 200 ms",
        text: script!("m2"),
        vary: |script| {
            let work = &mut script.services[0].work;
            work.shape = sim::script::Shape::Bimodal;
            (work.slow_share, work.slow_ms) = (Some(0.02), Some(200.0));
        },
        parts: FAN_OUT,
    },
    Measure {
        name: "other-callers",
        about: "m2, 40 callers instead of 3",
        text: script!("m2"),
        vary: |script| script.callers = 40,
        parts: FAN_OUT,
    },
    Measure {
        name: "other-20%-over",
        about: "m2 at 1.2x instead of 2x",
        text: script!("m2"),
        vary: |script| script.streams[0].load[0].rps *= 0.6,
        parts: FAN_OUT,
    },
];

/// The scripts by which parameters are chosen.
pub fn tuning() -> impl Iterator<Item = &'static Measure> {
    MEASURES.iter().take(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_this_file_are_those_of_the_scripts() {
        for measure in MEASURES {
            let script = measure.script().expect("a script of the repository");
            let service = &script.services[0];
            let rps = f64::from(service.instances * service.workers) * 1000.0 / service.work.mean_ms;
            assert_eq!(rps, CAPACITY_RPS, "{}", measure.name);
            if measure.name.starts_with("step") {
                assert_eq!(script.streams[0].load[1].at_s, STEP_S);
            }
            if measure.name == "stall" {
                let fault = &script.faults[0];
                assert_eq!((fault.at_s, fault.at_s + fault.for_s, script.duration_s), STALL_S);
                assert_eq!(script.streams[0].load[0].rps, STALL_RPS);
            }
            if measure.name == "classes" {
                assert!(script.streams[0].load[0].rps <= 0.7 * CAPACITY_RPS);
            }
        }
    }
}
