//! `bench server-kill`: kill -9 of the server at every journal point of each kind of operation, and at random.
//!
//! After each death: resumed within 2 s of the restart, no placement lost, each effect once. Effects are counted at the
//! receivers (a hook that appends its idempotency key, a package that appends its instance's name when it starts) and
//! in the OS (one living process for each placed instance), never in the server's own journal. Operations run through,
//! are paused and resumed wherever they stand, and are rolled back from each of their stages.

mod kinds;
mod scenario;
mod witness;

use anyhow::{Context, Result, bail};
use kinds::Kind;
use rand::{RngExt, SeedableRng};
use scenario::{Kill, Moment};
use springtide_bench::fleet::{Fleet, Size};
use springtide_bench::load::{Load, failed};
use springtide_bench::machine::{self, CpuTime, STEAL_MAX};
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
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
#[command(
    after_help = "Examples:\n  cargo xtask bench server-kill\n  cargo xtask bench server-kill --kind rollback --random 0\n  cargo xtask bench server-kill --scenario kills.txt\n\nA scenario has one kill on a line, such as `rollout committed 3` (just after the 3rd commit), `drain commit 2` (just\nbefore the 2nd), `scale-in record 1` (just before the 1st record), `pause ms 1500` (that long after the click); # begins\na comment."
)]
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
    /// File of kills, instead of all journal points and random ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "random"])]
    scenario: Option<PathBuf>,
}

/// What went wrong and how long resuming took, over all rounds.
#[derive(Default)]
struct Tally {
    points: u32,
    kills: u32,
    resume_ms: Vec<f64>,
    faults: Vec<String>,
    hook_repeats: u64,
    requests: u64,
    load_errors: u64,
}

/// Runs it; false when the floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let scenario = args.scenario.as_deref().map(scenario::read).transpose()?;
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 2, cpu: "4", memory: "4GiB" }).await?;
    let witness = Witness::install(&fleet)?;
    fleet.apply(&witness.manifests(1)?).await?;
    fleet.await_steady(60).await?;
    let cpu = CpuTime::now()?;
    let mut tally = Tally::default();
    match scenario {
        Some(kills) => {
            let load = Load::start(fleet.entry, "/probe/work", RATE, args.seed);
            for kill in kills {
                one_kill(&fleet, &witness, &kill, &mut tally).await?;
            }
            tally.stop(load, "scenario")?;
        }
        None => all_points_and_random(&fleet, &witness, &args, &mut tally).await?,
    }
    let steal = CpuTime::now()?.steal_since(cpu);
    println!("steal {:.2}%{}", steal * 100.0, if steal > STEAL_MAX { ": resume times are void" } else { "" });
    let left = fleet.stop().await?;
    tally.faults.extend(left.into_iter().map(|what| format!("left behind: {what}")));
    anyhow::ensure!(steal <= STEAL_MAX, "the rounds are void: this machine is too busy to measure on");
    Ok(verdict(&tally))
}

async fn all_points_and_random(fleet: &Fleet, witness: &Witness, args: &Args, tally: &mut Tally) -> Result<()> {
    let kinds: Vec<Kind> =
        Kind::ALL.iter().copied().filter(|kind| args.kind.is_none_or(|only| only == *kind)).collect();
    for kind in &kinds {
        let load = Load::start(fleet.entry, "/probe/work", RATE, args.seed);
        for point in ["commit", "committed", "record"] {
            let mut died = 0;
            for stage in kind.stages() {
                witness.set_stage(stage);
                died += every_point(fleet, witness, *kind, point, tally).await?;
            }
            println!("{kind:?} {point}: {died} points; faults so far {}", tally.faults.len());
        }
        tally.stop(load, &format!("{kind:?}"))?;
    }
    let load = Load::start(fleet.entry, "/probe/work", RATE, args.seed);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(args.seed);
    for _ in 0..args.random {
        let kind = kinds[random.random_range(0..kinds.len())];
        let stages: Vec<u32> = kind.stages().collect();
        witness.set_stage(stages[random.random_range(0..stages.len())]);
        let delay = Duration::from_millis(random.random_range(0..RANDOM_MS_MAX));
        random_kill(fleet, witness, kind, delay, tally).await?;
    }
    tally.stop(load, "random")
}

/// One line of a scenario.
async fn one_kill(fleet: &Fleet, witness: &Witness, kill: &Kill, tally: &mut Tally) -> Result<()> {
    let faults = tally.faults.len();
    match &kill.at {
        Moment::After(delay) => random_kill(fleet, witness, kill.kind, *delay, tally).await?,
        Moment::Write(point, number) => {
            tally.kills += u32::from(die_once(fleet, witness, kill.kind, point, *number, tally).await?);
        }
    }
    println!("{kill}: {} faults", tally.faults.len() - faults);
    Ok(())
}

impl Tally {
    /// Stops a load and adds what it saw.
    fn stop(&mut self, load: Load, what: &str) -> Result<()> {
        let report = load.stop()?;
        println!("{what}: {} requests, {:?}, {} dropped", report.offered, report.errors, report.dropped);
        self.requests += report.offered;
        self.load_errors += failed(&report);
        Ok(())
    }
}

fn verdict(tally: &Tally) -> bool {
    tally.faults.iter().for_each(|fault| println!("fault: {fault}"));
    let worst = stats::max(&tally.resume_ms);
    let seen = tally.resume_ms.len() as u32;
    // A server that dies again at once is gone before anybody can look at it.
    let seen_min = tally.kills / 2 + 1;
    let passed = table::print(&[
        Row::new("faults (lost, doubled, not ended)", tally.faults.len(), 0, tally.faults.is_empty()),
        Row::new("resume, worst seen, ms", format!("{worst:.0}"), RESUME_MS_MAX, worst <= RESUME_MS_MAX),
        Row::new("resumes seen", seen, seen_min, seen >= seen_min),
        Row::new("requests failed", tally.load_errors, "-", true).goal(0),
    ]);
    println!(
        "bench server-kill: journal_points={} kills={} faults={} resumes_seen={seen} resume_ms_median={:.0} resume_ms_max={worst:.0} floor_ms={RESUME_MS_MAX} hook_repeats={} requests={} load_errors={} passed={passed}",
        tally.points,
        tally.kills,
        tally.faults.len(),
        stats::median(&tally.resume_ms),
        tally.hook_repeats,
        tally.requests,
        tally.load_errors,
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
    for at in 1..=POINTS_MAX {
        if !die_once(fleet, witness, kind, point, at, tally).await? {
            return Ok(at - 1);
        }
        tally.points += 1;
        tally.kills += 1;
    }
    bail!("{kind:?} has more than {POINTS_MAX} points of {point}")
}

/// Runs an operation of its own, dying at one point; false when it ended before.
async fn die_once(
    fleet: &Fleet,
    witness: &Witness,
    kind: Kind,
    point: &str,
    at: u32,
    tally: &mut Tally,
) -> Result<bool> {
    let file = failpoint(fleet);
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
    Ok(died)
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

/// Runs `operation` and looks on: how it ended, and for each new server the time from its start (by the OS) until it
/// decides: until it says so, or until it died at the write it was armed for, which shows the same.
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
        let mut starting: Option<machine::Process> = None;
        loop {
            let next = fleet.part("server", None).filter(|next| next.pid != seen);
            if let Some(died) = starting.take_if(|at| next.as_ref() != Some(at)) {
                resumed.extend(died.started_unix_ms().map(|started| machine::unix_ms() - started));
            }
            starting.clone_from(&next);
            if let Some(process) = &next
                && fleet.client.status().await.is_ok_and(|status| status.settled)
                && process.lives()
                && let Ok(started) = process.started_unix_ms()
            {
                (seen, starting) = (process.pid, None);
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
