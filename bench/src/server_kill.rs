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
use springtide_bench::machine;
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
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 2, cpu: "2", memory: "2GiB" }).await?;
    let witness = Witness::install(&fleet)?;
    fleet.apply(&witness.manifests(1)?).await?;
    fleet.await_steady(60).await?;
    let load = Load::start(fleet.entry, "/probe/work", 300.0, args.seed);
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
    let left = fleet.stop().await?;
    tally.faults.extend(left);
    Ok(verdict(&tally, failed(&report)))
}

fn verdict(tally: &Tally, errors: u64) -> bool {
    tally.faults.iter().for_each(|fault| println!("fault: {fault}"));
    let worst = stats::max(&tally.resume_ms);
    let passed = tally.faults.is_empty() && worst <= RESUME_MS_MAX;
    println!(
        "bench server-kill: journal_points={} kills={} faults={} resume_ms_median={:.0} resume_ms_max={worst:.0} floor_ms={RESUME_MS_MAX} hook_repeats={} load_errors={errors} passed={passed}",
        tally.points,
        tally.kills,
        tally.faults.len(),
        stats::median(&tally.resume_ms),
        tally.hook_repeats,
    );
    passed
}

/// Dies at the 1st, 2nd, … journal point until the operation ends before it dies; gives how many there were.
async fn every_point(fleet: &Fleet, witness: &Witness, kind: Kind, point: &str, tally: &mut Tally) -> Result<u32> {
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
        let what = format!("{kind:?} dying at {point} {at}");
        finish(fleet, witness, kind, &what, ended, tally).await?;
        if !died {
            return Ok(at - 1);
        }
        tally.points += 1;
        tally.kills += 1;
        tally.resume_ms.push(resumed.context("no settled server was seen after the death")?);
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
    tally.resume_ms.push(resumed.context("no settled server was seen after the death")?);
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

/// Runs `operation` and looks on: how it ended, and the time from the successor's start (by the OS) until it decides again.
async fn watched(
    fleet: &Fleet,
    server: &machine::Process,
    operation: impl Future<Output = Result<()>>,
) -> (Result<()>, Option<f64>) {
    let over = Cell::new(false);
    let run = async {
        let ended = operation.await;
        over.set(true);
        ended
    };
    let look = async {
        loop {
            let next = fleet.part("server", None).filter(|next| next.pid != server.pid);
            if let (Some(next), Ok(status)) = (&next, fleet.client.status().await)
                && status.settled
            {
                return next.started_unix_ms().ok().map(|started| machine::unix_ms() - started);
            }
            if over.get() && next.is_none() && server.lives() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    let (ended, resumed) = tokio::join!(run, tokio::time::timeout(Duration::from_secs(END_SECONDS_MAX), look));
    (ended, resumed.ok().flatten())
}

/// The file that arms the server's failpoint.
fn failpoint(fleet: &Fleet) -> PathBuf {
    fleet.folder().join("failpoint")
}
