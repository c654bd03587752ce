//! The floors of issue 3 and what was found of them. A floor holds when the whole 95% interval lies on its right side.

use super::scenarios::Measure;
use super::{Contestant, Found};
use springtide_bench::stats::Interval;

/// Ours and the baseline that must not be better.
pub const OURS: &str = "springtide";
const DAGOR: &str = "DAGOR, best";

/// A floor and what was found.
pub struct Verdict {
    /// What was asked.
    pub asked: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
    /// For the last line.
    key: Option<(&'static str, f64, usize)>,
}

impl Verdict {
    /// `key=value` of the last line.
    pub fn figure(&self) -> Option<String> {
        self.key.map(|(key, value, digits)| format!("{key}={value:.digits$}"))
    }
}

/// A bound on one number of ours.
struct Bound {
    measure: &'static str,
    part: &'static str,
    key: &'static str,
    digits: usize,
    at_least: Option<f64>,
    at_most: Option<f64>,
}

const fn at_least(measure: &'static str, part: &'static str, key: &'static str, bound: f64) -> Bound {
    Bound { measure, part, key, digits: 1, at_least: Some(bound), at_most: None }
}

const fn at_most(measure: &'static str, part: &'static str, key: &'static str, digits: usize, bound: f64) -> Bound {
    Bound { measure, part, key, digits, at_least: None, at_most: Some(bound) }
}

const BOUNDS: &[Bound] = &[
    at_least("m1", "% of optimum", "m1", 93.0),
    at_least("m2", "% of optimum", "m2", 92.0),
    at_least("m3", "% of optimum", "m3", 88.0),
    at_least("m4", "% of optimum", "m4", 87.0),
    at_most("m1", "wasted %", "wasted_m1", 2, 2.0),
    at_most("m2", "wasted %", "wasted_m2", 2, 2.0),
    at_most("m3", "wasted %", "wasted_m3", 2, 2.0),
    at_most("m4", "wasted %", "wasted_m4", 2, 2.0),
    at_least("step10", "% from 3 s on", "step10_from_3s", 90.0),
    at_most("step10", "recovery s", "step10_recovery_s", 1, 3.0),
    at_least("stall", "% from 10 s on", "stall_from_10s", 97.0),
    at_most("stall", "attempts", "stall_attempts", 3, 1.1),
    Bound { digits: 3, ..at_least("classes", "top class %", "top_class", 99.9) },
    Bound { digits: 4, ..at_least("fairness", "Jain", "jain", 0.98) },
    at_most("mixed", "spread points", "spread", 1, 3.0),
    at_most("pauses", "shed %", "false_shed", 4, 0.01),
];

/// What the issue would rather have of M¹ to M⁴; not judged.
pub const GOALS: [(&str, f64); 4] = [("m1", 95.0), ("m2", 94.0), ("m3", 92.0), ("m4", 91.0)];

/// Every floor whose measure ran.
pub fn judge(measures: &[&Measure], contestants: &[Contestant], found: &[Found]) -> Vec<Verdict> {
    let look = |measure: &str, part: &str, who: &str| -> Option<Interval> {
        let measure_at = measures.iter().position(|one| one.name == measure)?;
        let part_at = measures[measure_at].parts.iter().position(|one| one.name == part)?;
        let who_at = contestants.iter().position(|one| one.name == who)?;
        let at = |one: &&Found| (one.measure, one.part, one.contestant) == (measure_at, part_at, who_at);
        found.iter().find(at).map(Found::interval)
    };
    let mut verdicts: Vec<Verdict> = BOUNDS.iter().filter_map(|bound| bounded(bound, &look)).collect();
    for (measure, must_beat) in [("m1", true), ("m2", true), ("m3", false), ("m4", false)] {
        let both = (look(measure, "% of optimum", OURS), look(measure, "% of optimum", DAGOR));
        let (Some(ours), Some(dagor)) = both else { continue };
        let holds = if must_beat { ours.low() > dagor.high() } else { ours.mean >= dagor.low() };
        let asked = if must_beat { "above" } else { "not below" };
        verdicts.push(Verdict {
            asked: format!("{measure}: {asked} best-swept DAGOR"),
            found: format!("{} against {}", shown(ours, 1), shown(dagor, 1)),
            holds,
            key: None,
        });
    }
    verdicts
}

fn bounded(bound: &Bound, look: &dyn Fn(&str, &str, &str) -> Option<Interval>) -> Option<Verdict> {
    let found = look(bound.measure, bound.part, OURS)?;
    let (asked, holds) = match (bound.at_least, bound.at_most) {
        (Some(least), _) => (format!("at least {least}"), found.low() >= least),
        (None, Some(most)) => (format!("at most {most}"), found.high() <= most),
        (None, None) => return None,
    };
    Some(Verdict {
        asked: format!("{}: {} {asked}", bound.measure, bound.part),
        found: shown(found, bound.digits),
        holds,
        key: Some((bound.key, found.mean, bound.digits)),
    })
}

/// `95.1 ± 0.2`.
pub fn shown(interval: Interval, digits: usize) -> String {
    if interval.mean.is_nan() {
        return "-".to_owned();
    }
    format!("{:.digits$} ± {:.digits$}", interval.mean, interval.half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission_sim::scenarios::MEASURES;

    #[test]
    fn every_bound_names_a_number_that_is_measured() {
        for bound in BOUNDS {
            let measure = MEASURES.iter().find(|measure| measure.name == bound.measure).expect(bound.measure);
            assert!(measure.parts.iter().any(|part| part.name == bound.part), "{}: {}", bound.measure, bound.part);
        }
    }

    #[test]
    fn a_floor_holds_only_when_the_whole_interval_does() {
        let judged = |mean, half| {
            let look = move |_: &str, _: &str, _: &str| Some(Interval { mean, half });
            bounded(&BOUNDS[0], &look).expect("it ran").holds
        };
        assert!(judged(93.5, 0.4) && !judged(93.5, 0.6) && !judged(92.9, 0.0));
    }
}
