//! `bench server-kill`: kill -9 of the server at every journal point of each kind of operation, and at random.
//!
//! After each death: resumed within 2 s of the restart, no placement lost, each effect once. Effects are counted at the
//! receivers (a hook that appends its idempotency key, a package that appends its instance's name when it starts) and
//! in the OS (one living process for each placed instance), never in the server's own journal.

mod kinds;
mod witness;

use anyhow::{Context, Result, bail};
use kinds::Kind;
use rand::{RngExt, SeedableRng};
use springtide_bench::fleet::{Fleet, Size};
use springtide_bench::load::{Load, failed};
use springtide_bench::machine::{self, CpuTime, STEAL_MAX};
use springtide_bench::stats;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;
use witness::Witness;

/// Longest time allowed from the new server's start until it decides again.
const RESUME_MS_MAX: f64 = 2_000.0;
/// Journal points looked for in one operation, so that the search ends.
const POINTS_MAX: u32 = 60;
/// Time in which a killed server must be back and an operation must end.
const END_SECONDS_MAX: u64 = 120;
/// Requests a second of the live traffic: gray stages are judged on it.
const RATE: f64 = 700.0;
/// Time between two looks at the server.
const LOOK_MS: u64 = 10;
/// Latest moment of a random kill after the operation is asked for.
const RANDOM_MS_MAX: u64 = 4_000;

/// Kill the server at every journal point
#[derive(clap::Args)]
pub struct Args {
    /// Seed of the random kills and of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random kills after the systematic ones
    #[arg(long, default_value_t = 50)]
    random: u32,
    /// Only this kind of operation
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// What went wrong and how long resuming took, over all rounds.
#[derive(Default)]
struct Tally {
    points: u32,
    kills: u32,
    resume_ms: Vec<f64>,
    faults: Vec<String>,
    hook_repeats: u64,
}

/// Runs it; false when the floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 2, cpu: "4", memory: "4GiB" }).await?;
    let witness = Witness::install(&fleet)?;
    fleet.apply(&witness.manifests(1)?).await?;
    fleet.await_steady(60).await?;
    let load = Load::start(fleet.entry, "/probe/work", RATE, args.seed);
    let cpu = CpuTime::now()?;
    let mut tally = Tally::default();
    let kinds: Vec<Kind> =
        Kind::ALL.iter().copied().filter(|kind| args.kind.is_none_or(|only| only == *kind)).collect();
    for kind in &kinds {
        for point in ["commit", "committed", "record"] {
            let died = every_point(&fleet, &witness, *kind, point, &mut tally).await?;
            println!("{kind:?} {point}: {died} points; faults so far {}", tally.faults.len());
        }
    }
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(args.seed);
    for _ in 0..args.random {
        let kind = kinds[random.random_range(0..kinds.len())];
        let delay = Duration::from_millis(random.random_range(0..RANDOM_MS_MAX));
        random_kill(&fleet, &witness, kind, delay, &mut tally).await?;
    }
    let report = load.stop()?;
    let steal = CpuTime::now()?.steal_since(cpu);
    println!("steal {:.2}%{}", steal * 100.0, if steal > STEAL_MAX { ": resume times are void" } else { "" });
    println!("load: {} requests, {:?}, {} dropped", report.offered, report.errors, report.dropped);
    let left = fleet.stop().await?;
    tally.faults.extend(left);
    anyhow::ensure!(steal <= STEAL_MAX, "the rounds are void: this machine is too busy to measure on");
    Ok(verdict(&tally, failed(&report)))
}

fn verdict(tally: &Tally, errors: u64) -> bool {
    tally.faults.iter().for_each(|fault| println!("fault: {fault}"));
    let worst = stats::max(&tally.resume_ms);
    let passed = tally.faults.is_empty() && tally.resume_ms.len() as u32 >= tally.kills / 2 && worst <= RESUME_MS_MAX;
    println!(
        "bench server-kill: journal_points={} kills={} faults={} resumes_seen={} resume_ms_median={:.0} resume_ms_max={worst:.0} floor_ms={RESUME_MS_MAX} hook_repeats={} load_errors={errors} passed={passed}",
        tally.points,
        tally.kills,
        tally.faults.len(),
        tally.resume_ms.len(),
        stats::median(&tally.resume_ms),
        tally.hook_repeats,
    );
    passed
}

/// Dies at every journal point of one operation, one after another: each successor gets one point further. A stress test
/// does not survive a death, so each of its points takes a test of its own. Gives how many points there were.
async fn every_point(fleet: &Fleet, witness: &Witness, kind: Kind, point: &str, tally: &mut Tally) -> Result<u32> {
    if kind == Kind::Stress {
        return each_alone(fleet, witness, kind, point, tally).await;
    }
    let file = failpoint(fleet);
    kind.prepare(fleet, witness).await?;
    let server = fleet.part("server", None).context("the server runs")?;
    std::fs::write(&file, format!("{point}:1"))?;
    // After the first, a death just after each commit, or just before the next but one (the next was lost with the dead).
    let again = if point == "committed" { 1 } else { 2 };
    let deaths = Cell::new(0);
    let arm = async {
        loop {
            if !file.exists() {
                deaths.set(deaths.get() + 1);
                if deaths.get() == POINTS_MAX {
                    return;
                }
                drop(std::fs::write(&file, format!("{point}:{again}")));
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    let watch = watched(fleet, &server, kind.run(fleet, witness, END_SECONDS_MAX));
    let (ended, resumed) =
        tokio::select! { biased; outcome = watch => outcome, () = never_after(arm) => bail!("arming never ends") };
    drop(std::fs::remove_file(&file));
    tally.points += deaths.get();
    tally.kills += deaths.get();
    tally.resume_ms.extend(resumed);
    let what = format!("{kind:?} dying at every {point}");
    if deaths.get() == 0 {
        tally.faults.push(format!("{what}: it never died, so nothing was shown"));
    }
    finish(fleet, witness, kind, &what, ended, tally).await?;
    Ok(deaths.get())
}

/// Never ends, whether or not the future does.
async fn never_after(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending::<()>().await;
}

/// Dies at the 1st, 2nd, … point, an operation each, until one ends before it dies.
async fn each_alone(fleet: &Fleet, witness: &Witness, kind: Kind, point: &str, tally: &mut Tally) -> Result<u32> {
    let file = failpoint(fleet);
    for at in 1..=POINTS_MAX {
        kind.prepare(fleet, witness).await?;
        let server = fleet.part("server", None).context("the server runs")?;
        std::fs::write(&file, format!("{point}:{at}"))?;
        let (ended, resumed) = watched(fleet, &server, kind.run(fleet, witness, END_SECONDS_MAX)).await;
        let died = !file.exists();
        if !died {
            std::fs::remove_file(&file)?;
        }
        tally.resume_ms.extend(resumed);
        finish(fleet, witness, kind, &format!("{kind:?} dying at {point} {at}"), ended, tally).await?;
        if !died {
            return Ok(at - 1);
        }
        tally.points += 1;
        tally.kills += 1;
    }
    bail!("{kind:?} has more than {POINTS_MAX} points of {point}")
}

async fn random_kill(fleet: &Fleet, witness: &Witness, kind: Kind, delay: Duration, tally: &mut Tally) -> Result<()> {
    kind.prepare(fleet, witness).await?;
    let server = fleet.part("server", None).context("the server runs")?;
    let kill = async {
        tokio::time::sleep(delay).await;
        server.kill()
    };
    let run = async {
        let (killed, ended) = tokio::join!(kill, kind.run(fleet, witness, END_SECONDS_MAX));
        fleet.await_steady(END_SECONDS_MAX).await.and(killed).and(ended)
    };
    let (ended, resumed) = watched(fleet, &server, run).await;
    tally.kills += 1;
    tally.resume_ms.extend(resumed);
    finish(fleet, witness, kind, &format!("{kind:?} killed after {delay:?}"), ended, tally).await
}

async fn finish(
    fleet: &Fleet,
    witness: &Witness,
    kind: Kind,
    what: &str,
    ended: Result<()>,
    tally: &mut Tally,
) -> Result<()> {
    if let Err(error) = ended {
        tally.faults.push(format!("{what}: {error:#}"));
    }
    match fleet.await_steady(END_SECONDS_MAX).await {
        Ok(()) => {}
        Err(error) => tally.faults.push(format!("{what}: {error:#}")),
    }
    let (faults, repeats) = witness.check(fleet, kind.wanted()).await?;
    tally.hook_repeats += repeats;
    tally.faults.extend(faults.into_iter().map(|fault| format!("{what}: {fault}")));
    Ok(())
}

/// Runs `operation` and looks on: how it ended, and for each new server the time from its start (by the OS) until it decides.
async fn watched(
    fleet: &Fleet,
    server: &machine::Process,
    operation: impl Future<Output = Result<()>>,
) -> (Result<()>, Vec<f64>) {
    let over = Cell::new(false);
    let run = async {
        let ended = operation.await;
        over.set(true);
        ended
    };
    let look = async {
        let (mut seen, mut resumed) = (server.pid, Vec::new());
        loop {
            let next = fleet.part("server", None).filter(|next| next.pid != seen);
            if let (Some(next), Ok(status)) = (&next, fleet.client.status().await)
                && status.settled
                && let Ok(started) = next.started_unix_ms()
            {
                seen = next.pid;
                resumed.push(machine::unix_ms() - started);
            }
            if over.get() && next.is_none() {
                return resumed;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    tokio::join!(run, look)
}

/// The file that arms the server's failpoint.
fn failpoint(fleet: &Fleet) -> PathBuf {
    fleet.folder().join("failpoint")
}
