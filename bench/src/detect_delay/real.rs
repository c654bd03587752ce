//! The whole pipeline in real time: a real server process, agents and proxies that speak the real protocol, 100,000 series,
//! and delays from a fault's onset to the incident as the API shows it.
//!
//! The fleet is several businesses that share nothing but the server, so that faults of different ones may overlap; within
//! one they follow one another. What each second brings is generated as in virtual time; sources send it shortly after the
//! second's end, as agents and proxies do. Whatever the clock says, the day's tide begins at noon, as in virtual time: what
//! a fault is worth depends on the traffic that it hits. Server, sources and bench share the machine's cores, which counts against us.
//! Not in it: bad releases, which need rollouts that simulated agents do not carry out; virtual time has them.

mod api_view;
mod business;
mod cmdb;
mod peer;
mod process;
mod sources;

use super::faults::{Fault, FaultKind};
use super::fleet::Size;
use super::run::{Run, Said, Verdict, judge};
use super::{Args, BEGIN_S, onset_ms, play, report};
use anyhow::{Result, ensure};
use api_view::Eyes;
use business::Business;
use peer::Peer;
use process::{Server, health};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sources::Sources;
use springtide_bench::machine::CpuTime;
use springtide_bench::stats::quantile;
use std::time::{Duration, Instant, SystemTime};

/// Businesses, each with faults of its own.
const BUSINESSES: u32 = 10;
/// Services and externals of each.
const SERVICES: u32 = 50;
const EXTERNALS: u32 = 4;
/// Seconds before the first fault.
const WARM_S: u64 = 150;
/// Seconds from one fault of a business to the next: what the last one left has ended by then.
const SPACING_S: u64 = 75;
/// Seconds that a fault lasts.
const LASTS_S: std::ops::Range<u64> = 22..30;
/// Seconds after the last fault.
const AFTER_S: u64 = 25;
/// The kinds, in the order in which they come.
const KINDS: [FaultKind; 11] = [
    FaultKind::InstanceLoss,
    FaultKind::FastRejectBurst,
    FaultKind::Latency,
    FaultKind::Errors,
    FaultKind::HotInstance,
    FaultKind::SlowDependency,
    FaultKind::ErroringInstance,
    FaultKind::HostLoss,
    FaultKind::SlowHost,
    FaultKind::RackLoss,
    FaultKind::DemandSurge,
];

/// What the real time gave.
pub struct Found {
    /// One for each fault.
    pub verdicts: Vec<Verdict>,
    /// Incidents that no fault accounts for.
    pub wrong: Vec<Said>,
    /// Series that the server said it watches.
    pub series: u64,
}

/// Threads beside the one that generates seconds.
struct Side(Option<tokio::runtime::Runtime>);

impl Side {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("it lives until it is dropped").handle()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Runs it.
pub async fn run(args: &Args) -> Result<Found> {
    let began = Instant::now();
    let instances = args.real_instances / BUSINESSES;
    ensure!((100..=5_000).contains(&instances), "--real-instances {}: 1000 to 50000", args.real_instances);
    let size = Size { services: SERVICES.min(instances / 12), externals: EXTERNALS, instances };
    let mut businesses = make_businesses(args, size);
    println!("the faults of the real time, rehearsed in virtual time:");
    report(&rehearse(args, size)?, args.rounds);
    let folder = tempfile::Builder::new().prefix("springtide-").tempdir()?;
    cmdb::write(&folder.path().join("data"), &businesses).await?;
    let server = Server::start(folder.path()).await?;
    let side = Side::start()?;
    let mut sources = Sources::connect(side.handle(), &server, &businesses).await?;
    let mut peer = Peer::start(side.handle(), folder.path(), args.prometheus).await?;
    let begin_s = now_ms() / 1_000 + 2;
    let faults = lay_out(args, &businesses, begin_s)?;
    let end_s = faults.iter().flatten().map(|fault| fault.until_ms / 1_000).max().unwrap_or(begin_s) + AFTER_S;
    println!(
        "real time: {} instances of {} services in {BUSINESSES} businesses, {} faults in {} s; up after {:.0} s",
        businesses.iter().map(|business| business.fleet.members.len()).sum::<usize>(),
        SERVICES * BUSINESSES,
        faults.iter().map(Vec::len).sum::<usize>(),
        end_s - begin_s,
        began.elapsed().as_secs_f64(),
    );
    let all: Vec<Fault> = faults.iter().flatten().cloned().collect();
    let eyes = Eyes::open(side.handle(), server.client.clone(), all);
    let cpu = CpuTime::now()?;
    let mut late_ms = Vec::new();
    for second in begin_s..end_s {
        // Laid out before its time comes, so that what is measured is the way of samples and not their making.
        for (business, faults) in businesses.iter_mut().zip(&faults) {
            business.second(second, second - begin_s + BEGIN_S, faults);
            sources.take(business, second);
        }
        let second_end_ms = (second + 1) * 1_000;
        wait_until(second_end_ms).await;
        sources.send(second).await?;
        late_ms.push(now_ms().saturating_sub(second_end_ms) as f64);
        peer.second(&businesses[0], &faults[0]);
        if (second - begin_s) % 60 == 59 {
            // Beside the sources: they must not wait for what is said of the server.
            let (client, at) = (server.client.clone(), second - begin_s + 1);
            side.handle().spawn(async move { println!("  second {at}: {}", health(&client).await) });
        }
    }
    println!("steal {:.1}% of the time", CpuTime::now()?.steal_since(cpu) * 100.0);
    let late = |share| quantile(&late_ms, share);
    let (p50, p99, max) = (late(0.5), late(0.99), late(1.0));
    println!("all sources had sent a second {p50:.0} ms after its end (median; p99 {p99:.0}, most {max:.0} ms)");
    let said = eyes.close().await?;
    println!("{}", health(&server.client).await);
    let series = server.series().await;
    let mut found = Found { verdicts: Vec::new(), wrong: Vec::new(), series };
    for (business, faults) in businesses.iter().zip(&faults) {
        let mine: Vec<Said> = said.iter().filter(|one| business.is_about(one)).cloned().collect();
        let (verdicts, wrong) = judge(&business.fleet, faults, &mine);
        if business.number == 0 {
            peer.report(&verdicts);
        }
        found.verdicts.extend(verdicts);
        found.wrong.extend(wrong);
    }
    Ok(found)
}

fn make_businesses(args: &Args, size: Size) -> Vec<Business> {
    (0..BUSINESSES).map(|number| Business::new(number, seed(args, number), size)).collect()
}

fn seed(args: &Args, business: u32) -> u64 {
    args.seed * 1_000 + 500 + u64::from(business)
}

/// The same faults of the same businesses in virtual time, each straight into a detector of its own: what of a delay is
/// detection's, and what the way to it.
fn rehearse(args: &Args, size: Size) -> Result<Vec<Verdict>> {
    let businesses = make_businesses(args, size);
    let faults = lay_out(args, &businesses, BEGIN_S)?;
    let mut verdicts = Vec::new();
    for (business, faults) in businesses.into_iter().zip(&faults) {
        let end_s = faults.iter().map(|fault| fault.until_ms / 1_000).max().unwrap_or(BEGIN_S) + AFTER_S;
        let mut run = Run::new(business.fleet, seed(args, business.number), BEGIN_S);
        play(&mut run, faults, end_s);
        verdicts.extend(judge(&run.fleet, faults, &run.said).0);
    }
    Ok(verdicts)
}

async fn wait_until(ms: u64) {
    let left = ms.saturating_sub(now_ms());
    tokio::time::sleep(Duration::from_millis(left)).await;
}

/// The faults of each business, one after the other; the businesses are spread over the spacing.
fn lay_out(args: &Args, businesses: &[Business], begin_s: u64) -> Result<Vec<Vec<Fault>>> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed ^ 0x4EA1);
    let mut faults = vec![Vec::new(); businesses.len()];
    for at in 0..args.real_faults as usize {
        let (lane, round) = (at % businesses.len(), at / businesses.len());
        let business = &businesses[lane];
        // Each business meets other kinds than its neighbours.
        let kind = KINDS[(at + round) % KINDS.len()];
        let Some((target, of)) = Fault::pick(kind, None, &business.fleet, &mut random) else {
            anyhow::bail!("business {lane} has no target for {}", kind.name());
        };
        let spread = SPACING_S * lane as u64 / businesses.len() as u64;
        let begins_s = begin_s + WARM_S + SPACING_S * round as u64 + spread;
        let onset = onset_ms(begins_s, &mut random);
        let until_ms = onset + random.random_range(LASTS_S) * 1_000;
        let strength = kind.strength(&mut random);
        faults[lane].push(Fault { kind, target, at: of, onset_ms: onset, until_ms, strength });
    }
    Ok(faults)
}
