//! The tables: raw rounds, every contestant beside ours, floors, and scripts from outside.

use super::floors::{GOALS, OURS, Verdict, shown};
use super::scenarios::Measure;
use super::{Contestant, Found};
use sim::Report;
use springtide_bench::stats::Interval;

const NAME: usize = 21;

/// The value of each seed, so that the intervals can be checked.
pub fn raw(measures: &[&Measure], contestants: &[Contestant], found: &[Found]) {
    println!("raw rounds, a value per seed");
    for one in found {
        let measure = measures[one.measure];
        let part = &measure.parts[one.part];
        let digits = part.digits;
        let values: Vec<String> = one.values.iter().map(|value| format!("{value:.digits$}")).collect();
        let name = &contestants[one.contestant].name;
        println!("  {:<14} {:<14} {name:<NAME$} {}", measure.name, part.name, values.join(" "));
    }
}

/// A table per measure; `!` marks where another is better than ours by more than both intervals.
pub fn summary(measures: &[&Measure], contestants: &[Contestant], found: &[Found]) {
    println!("\nparameters");
    for contestant in contestants {
        println!("  {:<NAME$} {}", contestant.name, contestant.parameters);
    }
    println!("\nmean ± 95% interval; ! where another is better than springtide beyond both intervals");
    for (at, measure) in measures.iter().enumerate() {
        println!("\n{}: {}", measure.name, measure.about);
        let heads: Vec<String> = measure.parts.iter().map(|part| format!("{:>20}", part.name)).collect();
        println!("  {:<NAME$}{}", "", heads.join(""));
        for (who, contestant) in contestants.iter().enumerate() {
            let cells: Vec<String> = (0..measure.parts.len())
                .map(|part| {
                    let cell = |who| found.iter().find(|f| (f.measure, f.part, f.contestant) == (at, part, who));
                    let Some(mine) = cell(who) else { return format!("{:>20}", "-") };
                    let part = &measure.parts[part];
                    let ours = contestants.iter().position(|one| one.name == OURS).and_then(cell);
                    let lost = ours.is_some_and(|ours| is_better(part.name, mine.interval(), ours.interval()));
                    format!("{:>19}{}", shown(mine.interval(), part.digits), if lost { "!" } else { " " })
                })
                .collect();
            println!("  {:<NAME$}{}", contestant.name, cells.join("").trim_end());
        }
    }
}

/// Each number in which another control is better than ours beyond both intervals, with the best of the others.
pub fn losses(measures: &[&Measure], contestants: &[Contestant], found: &[Found]) {
    println!("\nlosses: numbers in which another control that serves anybody is better beyond both intervals");
    for ours in found.iter().filter(|one| contestants[one.contestant].name == OURS) {
        let measure = measures[ours.measure];
        let part = &measure.parts[ours.part];
        let same = found.iter().filter(|one| (one.measure, one.part) == (ours.measure, ours.part));
        let better = same.filter(|one| is_better(part.name, one.interval(), ours.interval()));
        let best = better.reduce(|a, b| if is_better(part.name, b.interval(), a.interval()) { b } else { a });
        let Some(best) = best else { continue };
        println!(
            "  {:<16} {:<14} {:<20} against {} of {}",
            measure.name,
            part.name,
            shown(ours.interval(), part.digits),
            shown(best.interval(), part.digits),
            contestants[best.contestant].name,
        );
    }
}

/// Whether one interval lies wholly on the better side of another.
fn is_better(part: &str, one: Interval, other: Interval) -> bool {
    let more_is_better = part.starts_with('%') || part.ends_with('%') && part != "wasted %" && part != "shed %";
    if more_is_better || part == "Jain" { one.low() > other.high() } else { one.high() < other.low() }
}

/// Floors, one by one.
pub fn verdicts(verdicts: &[Verdict]) {
    println!("\nfloors (the whole interval must lie on the right side)");
    for verdict in verdicts {
        let mark = if verdict.holds { "holds" } else { "MISSED" };
        println!("  {:<46} {:<30} {mark}", verdict.asked, verdict.found);
    }
    let goals: Vec<String> = GOALS.iter().map(|(name, goal)| format!("{name} {goal}")).collect();
    println!("  goals: {}", goals.join(", "));
}

/// A number of a run.
type Value = fn(&Report) -> f64;

/// One script from outside, under every control.
pub fn outside(rows: &[(&str, Vec<Report>)]) {
    let heads = ["% of optimum", "goodput/s", "wasted %", "p99 ms", "shed %", "Jain"];
    let heads: Vec<String> = heads.iter().map(|head| format!("{head:>17}")).collect();
    println!("  {:<NAME$}{}", "", heads.join(""));
    let values: [(Value, usize); 6] = [
        (|run| run.of_optimum * 100.0, 1),
        (|run| run.goodput_rps, 1),
        (|run| run.wasted_work * 100.0, 2),
        (|run| run.all.p99_ms, 0),
        (|run| run.shed_calls * 100.0, 3),
        (|run| run.jain, 4),
    ];
    for (name, reports) in rows {
        let cells = values.iter().map(|(value, digits)| {
            let values: Vec<f64> = reports.iter().map(value).collect();
            format!("{:>17}", shown(Interval::of(&values), *digits))
        });
        println!("  {name:<NAME$}{}", cells.collect::<String>());
    }
    println!("  raw % of optimum by seed");
    for (name, reports) in rows {
        let values: Vec<String> = reports.iter().map(|run| format!("{:.1}", run.of_optimum * 100.0)).collect();
        println!("  {name:<NAME$}{}", values.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_means_more_or_less_by_the_number() {
        let interval = |mean| Interval { mean, half: 0.1 };
        assert!(is_better("% of optimum", interval(95.0), interval(94.0)));
        assert!(!is_better("% of optimum", interval(94.1), interval(94.0)));
        assert!(
            is_better("wasted %", interval(0.0), interval(1.0)) && is_better("p99 ms", interval(90.0), interval(99.0))
        );
        assert!(
            is_better("top class %", interval(99.0), interval(98.0))
                && !is_better("shed %", interval(9.0), interval(1.0))
        );
    }
}
