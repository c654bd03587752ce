//! `bench admission-sim`: the protection that ships against DAGOR, CoDel, random shedding, Gradient2 and credits, in virtual time.
//!
//! All run on the same tasks. The baselines run with their papers' parameters and with the best of a grid, found anew in each
//! run on seeds that are not used again; ours runs as shipped and is not tuned here. Nothing depends on this machine's speed.

mod floors;
mod grids;
mod scenarios;
mod table;

use anyhow::{Context, Result, anyhow, bail, ensure};
use grids::Contestant;
use scenarios::{MEASURES, Measure};
use sim::Script;
use springtide_bench::stats::Interval;
use std::path::PathBuf;
use std::time::Instant;

/// Most seeds, and most scripts from outside.
const SEEDS_MAX: u64 = 1_000;

/// Protection in virtual time beside DAGOR, CoDel, random shedding, Gradient2 and credits
#[derive(clap::Args)]
pub struct Args {
    /// First of the seeds by which is judged
    #[arg(long, default_value_t = 1_000)]
    seed: u64,
    /// How many seeds, at least 10 for a verdict
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Run this script instead (see docs/simulate.md), under every control; no floor is judged
    #[arg(long, value_name = "FILE")]
    scenario: Vec<PathBuf>,
    /// Only measures whose name contains this; no floor of the others is judged
    #[arg(long)]
    only: Option<String>,
    /// Seeds by which the baselines' parameters are chosen; they count down from the first judged one
    #[arg(long, default_value_t = 4)]
    tuning_seeds: u64,
    /// Leave the search out: the baselines run with the parameters that an earlier search found
    #[arg(long)]
    no_tuning: bool,
}

/// What one measure found for one contestant: a value per seed.
pub struct Found {
    /// Which measure, as an index of those that ran, and which of its parts.
    measure: usize,
    /// See `measure`.
    part: usize,
    /// Which contestant.
    contestant: usize,
    /// A value per seed.
    values: Vec<f64>,
}

impl Found {
    fn interval(&self) -> Interval {
        Interval::of(&self.values)
    }
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    ensure!((1..=SEEDS_MAX).contains(&args.seeds), "--seeds {}: between 1 and {SEEDS_MAX}", args.seeds);
    ensure!(
        args.tuning_seeds >= 1 && args.tuning_seeds <= args.seed,
        "--tuning-seeds: at least 1, and no more than --seed"
    );
    let began = Instant::now();
    let contestants = contestants(&args).await?;
    if !args.scenario.is_empty() {
        return from_outside(&args, &contestants).await;
    }
    let wanted = |measure: &&Measure| args.only.as_ref().is_none_or(|only| measure.name.contains(only.as_str()));
    let measures: Vec<&Measure> = MEASURES.iter().filter(wanted).collect();
    if measures.is_empty() {
        let names: Vec<&str> = MEASURES.iter().map(|measure| measure.name).collect();
        bail!("--only: no measure has that in its name; they are {}", names.join(", "));
    }
    let found = measure_all(&args, &measures, &contestants).await?;
    table::raw(&measures, &contestants, &found);
    table::summary(&measures, &contestants, &found);
    table::losses(&measures, &contestants, &found);
    let verdicts = floors::judge(&measures, &contestants, &found);
    table::verdicts(&verdicts);
    let passed = verdicts.iter().all(|verdict| verdict.holds);
    let enough = args.seeds >= 10 && measures.len() == MEASURES.len();
    if !enough {
        println!("note: a verdict on the issue's floors needs 10 seeds and all measures; this run has fewer");
    }
    let figures: Vec<String> = verdicts.iter().filter_map(floors::Verdict::figure).collect();
    println!(
        "bench admission-sim: {} seeds={} missed={} s={:.0} result={}",
        figures.join(" "),
        args.seeds,
        verdicts.iter().filter(|verdict| !verdict.holds).count(),
        began.elapsed().as_secs_f64(),
        if passed { "pass" } else { "fail" },
    );
    Ok(passed)
}

/// Everyone who takes part: ours, the baselines as their papers have them, and as a search found them best.
async fn contestants(args: &Args) -> Result<Vec<Contestant>> {
    let mut contestants = grids::as_published();
    for grid in grids::all() {
        let best = if args.no_tuning {
            grid.kept
        } else {
            let seeds = args.seed - args.tuning_seeds..args.seed;
            grids::search(&grid, seeds).await?
        };
        contestants.push(best);
    }
    contestants.push(grids::nothing());
    Ok(contestants)
}

/// Every measure for every contestant and every seed.
async fn measure_all(args: &Args, measures: &[&Measure], contestants: &[Contestant]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (at, measure) in measures.iter().enumerate() {
        let script = measure.script()?;
        for (who, contestant) in contestants.iter().enumerate() {
            eprint!("\r{:<70}", format!("{}/{} {}: {}", at + 1, measures.len(), measure.name, contestant.name));
            let scheme = (contestant.make)(&script);
            let mut reports = Vec::new();
            for seed in args.seed..args.seed + args.seeds {
                reports.push(sim::run(&script, &*scheme, seed));
                // A stop is heard between runs.
                tokio::task::yield_now().await;
            }
            for (number, part) in measure.parts.iter().enumerate() {
                let values = reports.iter().map(|report| (part.value)(report)).collect();
                found.push(Found { measure: at, part: number, contestant: who, values });
            }
        }
    }
    eprintln!("\r{:<70}", "");
    Ok(found)
}

/// Scripts from outside, under every control.
async fn from_outside(args: &Args, contestants: &[Contestant]) -> Result<bool> {
    for path in &args.scenario {
        let script = read(path)?;
        println!("\n{}: {} ({} seeds from {})", path.display(), script.name, args.seeds, args.seed);
        let mut rows = Vec::new();
        for contestant in contestants {
            let scheme = (contestant.make)(&script);
            let mut reports = Vec::new();
            for seed in args.seed..args.seed + args.seeds {
                reports.push(sim::run(&script, &*scheme, seed));
                tokio::task::yield_now().await;
            }
            rows.push((contestant.name.as_str(), reports));
        }
        table::outside(&rows);
    }
    println!("bench admission-sim: scripts={} seeds={} floors=none", args.scenario.len(), args.seeds);
    Ok(true)
}

fn read(path: &std::path::Path) -> Result<Script> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    sim::script::parse(&path.display().to_string(), &text).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })
}
