//! `bench admission-real`: protection in real processes, beside no protection, random shedding and DAGOR, and beside the
//! simulator.
//!
//! A service of a fixed cost of CPU for each call runs in a slice with a quota, behind our proxy; an open-loop generator on
//! the other core, timed from the intended send, asks for 1, 2, 5 and 10 times what it can do. Goodput is calls answered
//! well within the deadline. Capacity is measured first, by a short run that saturates the unprotected service, and again
//! at the end. The quota is small, so that ten times the capacity is a rate at which both generator and proxy are idle
//! most of the time: what is compared is the deciding.

mod load;
mod schemes;
pub mod service;
mod stack;
mod table;
mod virtual_time;

use crate::proxy_bench::peers::only;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use load::{LAG_P99_MS_MAX, Load};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use schemes::Row;
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use stack::{Slices, Stack};
use virtual_time::Expected;

/// Time that a call has, in milliseconds.
const DEADLINE_MS: u32 = 500;
/// Multiples of the capacity.
const LOADS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Least goodput of ours at the greatest load, as a share of the capacity.
const GOODPUT_MIN: f64 = 0.9;
/// Longest p99 of ours there, in milliseconds.
const P99_MS_MAX: f64 = 250.0;
/// Farthest that simulator and reality may lie apart, as a share of the capacity; and the goal.
const APART_MAX: f64 = 0.1;
const APART_GOAL: f64 = 0.05;
/// Load of the saturating run, as a multiple of quota ÷ CPU per call.
const SATURATION: f64 = 1.5;
/// Its length, after so much of it is left out, in seconds.
const SATURATION_S: f64 = 6.0;
const SATURATION_WARM_S: f64 = 2.0;
/// How long its callers wait: its queue only grows.
const SATURATION_TIMEOUT_MS: u32 = 20_000;
/// Load before each cell, as a multiple of the capacity.
const LEAD: f64 = 0.5;
/// Void runs tried again, in all.
const VOIDS_MAX: u32 = 12;
/// Longest run, in seconds, so that no combination of options runs away.
const RUN_S_MAX: f64 = 1_200.0;

/// Protection in real processes, beside none, random shedding and DAGOR, and beside the simulator
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench admission-real --seed 7 --rows springtide,dagor-paper --seconds 20")]
pub struct Args {
    /// Seed of arrivals, users and the order of the runs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time measured in each run, in seconds
    #[arg(long, default_value_t = 7.0)]
    seconds: f64,
    /// Half the capacity's load at the very first, in seconds, so that the service was in use before (0: from cold)
    #[arg(long, default_value_t = 3.0)]
    lead: f64,
    /// Load before the measurement, in seconds
    #[arg(long, default_value_t = 5.0)]
    warm: f64,
    /// Runs of each cell; medians are compared
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// What is compared
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ROWS)]
    rows: Vec<Row>,
    /// CPU quota of the service, in thousandths of a core
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=1_000))]
    quota_millis: u32,
    /// CPU of each call, in microseconds
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(500..=100_000))]
    cpu_us: u64,
    /// Core of the generator
    #[arg(long, default_value_t = 0)]
    generator_core: usize,
    /// Core of the service
    #[arg(long, default_value_t = 1)]
    service_core: usize,
    /// Core of the proxy
    #[arg(long, default_value_t = 1)]
    proxy_core: usize,
}

const ROWS: [Row; 6] = [Row::None, Row::Random, Row::Dagor, Row::Springtide, Row::SpringtideSdk, Row::SdkAlone];

/// What one run showed.
struct Cell {
    row: Row,
    load: f64,
    offered_rps: f64,
    goodput_rps: f64,
    /// Of the calls let in: answered well, or given up at the deadline.
    p99_ms: f64,
    rejected: u64,
    given_up: u64,
    failed: u64,
    lag_p99_ms: f64,
    /// CPU of the service and of the proxy during the whole run, in cores.
    service_cores: f64,
    proxy_cores: f64,
    expected: Expected,
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    check(&args)?;
    rustix::thread::sched_setaffinity(None, &only(args.generator_core))?;
    let slices = Slices::open()?;
    let mut bench = Bench { args: &args, slices, voids: 0 };
    let nominal_rps = f64::from(args.quota_millis) * 1e3 / args.cpu_us as f64;
    table::head(&args, &bench.slices, nominal_rps);
    let first_rps = bench.saturate(nominal_rps).await?;
    println!(
        "capacity, measured: {first_rps:.1}/s ({:.1}% of quota / CPU of a call)\n",
        100.0 * first_rps / nominal_rps
    );
    let cells = bench.measure_all(first_rps).await?;
    let last_rps = bench.saturate(nominal_rps).await?;
    println!("\ncapacity, measured again at the end: {last_rps:.1}/s ({:+.1}%)", 100.0 * (last_rps / first_rps - 1.0));
    table::summary(&args.rows, &cells, first_rps);
    Ok(table::judge(&args, &cells, (first_rps, last_rps), bench.voids))
}

fn check(args: &Args) -> Result<()> {
    ensure!(
        args.seconds >= 2.0 && args.warm >= 0.0 && args.lead >= 0.0,
        "--seconds is at least 2, --warm and --lead at least 0"
    );
    ensure!(args.rounds > 0 && !args.rows.is_empty(), "--rounds and --rows are at least one");
    ensure!(
        args.generator_core != args.service_core,
        "the generator needs a core of its own: give --service-core another"
    );
    let warm_s = |row: &Row| LOADS.iter().map(|load| row.warm_s(*load, args.warm)).sum::<f64>();
    let one_s: f64 =
        args.rows.iter().map(|row| warm_s(row) + LOADS.len() as f64 * (args.lead + args.seconds + 1.0)).sum();
    let whole_s = one_s * args.rounds as f64;
    ensure!(
        whole_s <= RUN_S_MAX,
        "this would take {whole_s:.0} s, more than {RUN_S_MAX:.0}: fewer --seconds, --rounds or --rows"
    );
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    slices: Slices,
    voids: u32,
}

impl Bench<'_> {
    /// What the service can do: calls a second that it completes while its queue never empties.
    async fn saturate(&mut self, nominal_rps: f64) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        let stack = Stack::start(self.args, &self.slices, Row::None, nominal_rps, folder.path())?;
        let load = Load {
            target: stack.entry(),
            path: Stack::path(),
            rps: nominal_rps * SATURATION,
            lead_rps: 0.0,
            lead_s: 0.0,
            warm_s: 0.0,
            seconds: SATURATION_WARM_S + SATURATION_S,
            timeout_ms: SATURATION_TIMEOUT_MS,
            seed: self.args.seed,
        };
        let (_, report) = load.send(self.args.generator_core).await?;
        let counted = report
            .seconds
            .iter()
            .filter(|second| (SATURATION_WARM_S + 0.5..SATURATION_WARM_S + SATURATION_S + 0.5).contains(&second.at_s));
        let (mut done, mut ends) = (0, Vec::new());
        for second in counted {
            done += second.done;
            ends.push(second.at_s);
        }
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else { bail!("the saturating run has no seconds") };
        // A second lasts from the end of the one before.
        let span_s = last - first + 1.0;
        ensure!(done > 0, "the saturated service answered nothing: {:?}", report.errors);
        Ok(done as f64 / span_s)
    }

    async fn measure_all(&mut self, capacity_rps: f64) -> Result<Vec<Cell>> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(self.args.seed);
        let mut cells = Vec::new();
        table::raw_head();
        for round in 0..self.args.rounds {
            for load in LOADS {
                let mut order = self.args.rows.clone();
                order.shuffle(&mut random);
                for row in order {
                    // The same arrivals for every row.
                    let seed = self.args.seed.wrapping_add((round as u64) << 16).wrapping_add(load as u64);
                    let cell = self.measure(row, load, capacity_rps, seed).await?;
                    table::raw(round + 1, &cell, capacity_rps);
                    cells.push(cell);
                }
            }
        }
        Ok(cells)
    }

    /// One cell, again while it is void.
    async fn measure(&mut self, row: Row, load: f64, capacity_rps: f64, seed: u64) -> Result<Cell> {
        loop {
            let before = CpuTime::now()?;
            let cell =
                self.once(row, load, capacity_rps, seed).await.with_context(|| format!("{} at {load}x", row.name()))?;
            let steal = CpuTime::now()?.steal_since(before);
            if cell.lag_p99_ms <= LAG_P99_MS_MAX && steal <= STEAL_MAX {
                return Ok(cell);
            }
            self.voids += 1;
            println!(
                "void: {} at {load}x, generator lag p99 {:.2} ms, steal {:.1}%",
                row.name(),
                cell.lag_p99_ms,
                100.0 * steal
            );
            if self.voids >= VOIDS_MAX {
                bail!("{VOIDS_MAX} runs were void: this machine is too busy for honest latencies");
            }
        }
    }

    async fn once(&self, row: Row, load: f64, capacity_rps: f64, seed: u64) -> Result<Cell> {
        let folder = tempfile::tempdir()?;
        let mut stack = Stack::start(self.args, &self.slices, row, capacity_rps, folder.path())?;
        let warm_s = row.warm_s(load, self.args.warm);
        let load_of = Load {
            target: stack.entry(),
            path: Stack::path(),
            rps: capacity_rps * load,
            lead_rps: capacity_rps * LEAD,
            lead_s: self.args.lead,
            warm_s,
            seconds: self.args.seconds,
            timeout_ms: DEADLINE_MS,
            seed,
        };
        let (service_before, proxy_before) = stack.cpu_seconds()?;
        let (sent, report) = load_of.send(self.args.generator_core).await?;
        let (service_after, proxy_after) = stack.cpu_seconds()?;
        drop(stack);
        let span_s = self.args.lead + warm_s + report.duration_s;
        let offered_rps = report.offered as f64 / self.args.seconds;
        Ok(Cell {
            row,
            load,
            offered_rps,
            goodput_rps: report.done as f64 / self.args.seconds,
            p99_ms: report.latency.p99_ms,
            rejected: report.rejected,
            given_up: report.errors.timeouts,
            failed: report.errors.total() - report.errors.timeouts + report.dropped,
            lag_p99_ms: report.lag_p99_ms,
            service_cores: (service_after - service_before) / span_s,
            proxy_cores: (proxy_after - proxy_before) / span_s,
            expected: virtual_time::expect(self.args, row, &sent, capacity_rps)?,
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}
