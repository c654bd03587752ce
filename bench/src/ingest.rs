//! `bench ingest`: remote write into ours, VictoriaMetrics and Prometheus, in alternation: samples for each CPU-second of
//! the server's own, bytes a sample on disk once sealed, and resident memory.
//!
//! Every server gets the same bytes, from one sender that waits for each answer; so wall time says nothing and is not told.
//! CPU is counted from the server's readiness until some seconds after the last sample, when compressing is done as well.

mod samples;
mod scenario;
mod servers;

use anyhow::Result;
use clap::Parser;
use samples::Samples;
use scenario::Scenario;
use servers::{DiskUse, KINDS, Kind, Server};
use springtide_bench::machine::{CpuTime, STEAL_MAX, unix_ms};
use springtide_bench::stats::median;
use springtide_bench::table::{self, Row};
use std::path::PathBuf;
use std::time::Duration;

/// Floors and goals.
const RATIO_FLOOR: f64 = 1.0;
const RATIO_GOAL: f64 = 3.0;
const BYTES_FLOOR: f64 = 1.9;
const BYTES_GOAL: f64 = 1.5;
/// Time after the last sample that counts as well.
const SETTLE: Duration = Duration::from_secs(15);
const HOUR_MS: u64 = 3_600_000;

/// Arguments of `ingest`.
#[derive(Parser)]
pub struct Args {
    /// Seed of the series and their values
    #[arg(long, default_value_t = 4_711)]
    seed: u64,
    /// Kinds and numbers of series, YAML (see docs/metrics.md)
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Rounds of CPU and disk, each of all three servers
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave the run of memory out
    #[arg(long)]
    no_memory: bool,
}

/// One server in one round.
struct Measured {
    kind: Kind,
    per_cpu_second: f64,
    disk: DiskUse,
}

/// Runs it; false when a floor was missed.
pub fn run(args: &Args) -> Result<bool> {
    let scenario = args.scenario.as_deref().map(Scenario::read).transpose()?.unwrap_or_default();
    println!(
        "ingest: {} series × {} samples each, {} ms apart, {} samples a request, seed {}",
        scenario.series, scenario.ticks, scenario.interval_ms, scenario.request_samples, args.seed
    );
    let mut measured = Vec::new();
    for round in 0..args.rounds.max(1) {
        for turn in 0..KINDS.len() {
            measured.extend(one_round(
                &scenario,
                KINDS[(round + turn) % KINDS.len()],
                args.seed + round as u64,
                round,
            )?);
        }
    }
    let memory = if args.no_memory { Vec::new() } else { memory(&scenario, args.seed)? };
    Ok(report(&measured, &memory))
}

/// Where the samples begin: so that an hour lies whole within them, and all of them lie behind.
fn begin_ms(scenario: &Scenario) -> u64 {
    let span_ms = u64::from(scenario.ticks) * scenario.interval_ms;
    (unix_ms() as u64).saturating_sub(span_ms) / HOUR_MS * HOUR_MS
}

fn one_round(scenario: &Scenario, kind: Kind, seed: u64, round: usize) -> Result<Option<Measured>> {
    let mut server = Server::start(kind)?;
    let (stolen, began) = (CpuTime::now()?, server.cpu_seconds()?);
    let mut samples = Samples::new(scenario, scenario.series, begin_ms(scenario), seed);
    for tick in 0..scenario.ticks {
        samples.tick(tick, |body| server.write(body))?;
    }
    server.settle(SETTLE)?;
    let cpu = server.cpu_seconds()? - began;
    let steal = CpuTime::now()?.steal_since(stolen);
    let count = u64::from(scenario.series) * u64::from(scenario.ticks);
    let disk = server.disk(count)?;
    let per_cpu_second = count as f64 / cpu;
    println!(
        "round {round} {:<17} {cpu:>7.2} CPU-s  {:>9.0} samples/CPU-s  {:.3} B/sample on disk ({} samples)  steal {:.1}%",
        kind.name(),
        per_cpu_second,
        disk.per_sample(),
        disk.samples,
        steal * 100.0
    );
    if steal > STEAL_MAX {
        println!("  void: more than {:.0}% was stolen", STEAL_MAX * 100.0);
        return Ok(None);
    }
    Ok(Some(Measured { kind, per_cpu_second, disk }))
}

/// Resident memory of each, now and at its highest.
fn memory(scenario: &Scenario, seed: u64) -> Result<Vec<(Kind, f64, f64)>> {
    let (series, ticks) = (scenario.memory_series, scenario.memory_ticks);
    let minutes = u64::from(ticks) * scenario.interval_ms / 60_000;
    println!("memory: {series} series × {ticks} samples, {minutes} minutes of them");
    let mut found = Vec::new();
    for kind in KINDS {
        let mut server = Server::start(kind)?;
        let span_ms = u64::from(ticks) * scenario.interval_ms;
        let mut samples = Samples::new(scenario, series, (unix_ms() as u64).saturating_sub(span_ms), seed);
        for tick in 0..ticks {
            samples.tick(tick, |body| server.write(body))?;
        }
        let (resident, highest) = server.resident_mib()?;
        println!("memory {:<17} {resident:>6.0} MiB resident, {highest:.0} at its highest", kind.name());
        found.push((kind, resident, highest));
    }
    Ok(found)
}

fn report(measured: &[Measured], memory: &[(Kind, f64, f64)]) -> bool {
    let of = |kind: Kind, value: fn(&Measured) -> f64| {
        let values: Vec<f64> = measured.iter().filter(|one| one.kind == kind).map(value).collect();
        median(&values)
    };
    let rate = |kind| of(kind, |one| one.per_cpu_second);
    let bytes = |kind| of(kind, |one| one.disk.per_sample());
    let [ours, victoria, prometheus] = KINDS.map(rate);
    let disk = KINDS.map(bytes);
    let ratio = ours / victoria;
    println!(
        "medians: samples/CPU-s {ours:.0} (VictoriaMetrics {victoria:.0}, Prometheus {prometheus:.0}); B/sample {:.3} ({:.3}, {:.3})",
        disk[0], disk[1], disk[2]
    );
    let met = table::print(&[
        Row::new("samples/CPU-s ÷ VictoriaMetrics", format!("{ratio:.2}"), RATIO_FLOOR, ratio >= RATIO_FLOOR)
            .goal(RATIO_GOAL),
        Row::new("B/sample on disk", format!("{:.3}", disk[0]), BYTES_FLOOR, disk[0] <= BYTES_FLOOR).goal(BYTES_GOAL),
    ]);
    // Not measured is said as such.
    let resident = |kind: Kind| {
        let found = memory.iter().find(|one| one.0 == kind);
        found.map_or_else(|| "-".to_owned(), |one| format!("{:.0}", one.1))
    };
    let [ours_mib, victoria_mib, prometheus_mib] = KINDS.map(resident);
    println!(
        "bench ingest: samples_per_cpu_s={ours:.0} victoria={victoria:.0} prometheus={prometheus:.0} ratio={ratio:.2} \
         bytes_per_sample={:.3} victoria_bytes={:.3} prometheus_bytes={:.3} \
         resident_mib={ours_mib} victoria_mib={victoria_mib} prometheus_mib={prometheus_mib}",
        disk[0], disk[1], disk[2]
    );
    met
}
