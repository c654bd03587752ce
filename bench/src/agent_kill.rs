//! `bench agent-kill`: kill -9 of agents under load. Instances must not notice; the next agent adopts them fast.

use anyhow::{Context, Result, bail, ensure};
use rand::{RngExt, SeedableRng};
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::load::{Load, failed};
use springtide_bench::machine::{self, CpuTime, Process, STEAL_MAX};
use springtide_bench::manifests::{Probe, probes};
use springtide_bench::outside;
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest readoption allowed, from the new agent's start to its report.
const READOPTION_MS_MAX: f64 = 200.0;
/// Instances of the service, over six agents.
const INSTANCES: u32 = 24;
/// Kills of one round, which is void as a whole.
const ROUND: usize = 20;
/// Void rounds tried again, in all.
const VOID_ROUNDS_MAX: u32 = 5;
/// Time in which services from outside must be up.
const UP_SECONDS_MAX: u64 = 180;
/// Time in which a killed agent must be back.
const BACK_SECONDS_MAX: u64 = 30;

/// Kill agents under load
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench agent-kill\n  cargo xtask bench agent-kill --kills 20\n  cargo xtask bench agent-kill --service my/manifests --path /hello --rate 50"
)]
pub struct Args {
    /// Seed of the victims' order and of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Requests a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Folder of manifests that stands in for the built-in service: dc-a and dc-b, three hosts of 2 cores each
    #[arg(long, value_name = "DIR")]
    service: Option<PathBuf>,
    /// The service that gets the load, when DIR has more than one with a route
    #[arg(long, value_name = "NAME", requires = "service")]
    service_name: Option<String>,
    /// Path of the load [default: the service's first route]
    #[arg(long, requires = "service")]
    path: Option<String>,
}

/// Runs it; false when the floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 3, cpu: "2", memory: "2GiB" }).await?;
    let path = bring_up(&fleet, &args).await?;
    let before: BTreeMap<String, Process> = fleet.instance_processes().await?.into_iter().collect();
    let instances = before.len();
    let cgroups = machine::cgroups(&fleet.cgroup_part()?);
    let load = Load::start(fleet.entry, &path, args.rate, args.seed);
    let cpu = CpuTime::now()?;
    let readoptions = kill_all(&fleet, &args).await?;
    let report = load.stop()?;
    let lost = before.values().filter(|process| !process.lives()).count();
    let restarts: u32 = fleet.client.instances(None, None).await?.iter().map(|instance| instance.restarts).sum();
    let leaked = machine::cgroups(&fleet.cgroup_part()?).len().abs_diff(cgroups.len());
    let (agent, shims) = memory(&fleet)?;
    let left = fleet.stop().await?;
    let worst = stats::max(&readoptions);
    println!("memory: agent {} KiB resident; shim {} KiB resident, {} KiB its own share", agent, shims.0, shims.1);
    println!(
        "load: {} requests, {} errors; steal {:.2}%",
        report.offered,
        failed(&report),
        CpuTime::now()?.steal_since(cpu) * 100.0
    );
    left.iter().for_each(|what| println!("left behind: {what}"));
    let passed = table::print(&[
        Row::new("instances lost", lost, 0, lost == 0),
        Row::new("instances restarted", restarts, 0, restarts == 0),
        Row::new("cgroups leaked", leaked, 0, leaked == 0),
        Row::new("left behind at the end", left.len(), 0, left.is_empty()),
        Row::new("readoption, worst, ms", format!("{worst:.0}"), READOPTION_MS_MAX, worst <= READOPTION_MS_MAX),
    ]);
    println!(
        "bench agent-kill: kills={} instances={instances} lost={lost} restarted={restarts} cgroups_leaked={leaked} left_behind={} readoption_ms_median={:.0} readoption_ms_max={worst:.0} floor_ms={READOPTION_MS_MAX} errors={} passed={passed}",
        args.kills,
        left.len(),
        stats::median(&readoptions),
        failed(&report)
    );
    Ok(passed)
}

/// Brings the service up; gives the path of its load.
async fn bring_up(fleet: &Fleet, args: &Args) -> Result<String> {
    let Some(folder) = &args.service else {
        let half = INSTANCES / 2;
        let probe = Probe { name: "probe", cpu: 0.1, config: r#"{"cpu_us": 200}"#, instances: &[half, half], more: "" };
        fleet.apply(&probes(&fleet::built("red-packet")?, "1", &[probe])).await?;
        fleet.await_steady(60).await?;
        let running = fleet.instance_processes().await?.len();
        ensure!(running == INSTANCES as usize, "{running} of {INSTANCES} instances run at the start");
        return Ok("/probe/work".to_owned());
    };
    let subject = outside::subject(folder, args.service_name.as_deref(), args.path.as_deref())?;
    outside::apply(fleet, folder, UP_SECONDS_MAX).await?;
    Ok(subject.path)
}

async fn kill_all(fleet: &Fleet, args: &Args) -> Result<Vec<f64>> {
    let hosts: Vec<String> = fleet.client.hosts().await?.into_iter().map(|host| host.name).collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(args.seed);
    let mut readoptions = Vec::new();
    let mut void = 0;
    println!("kills  readoption of each, ms");
    while readoptions.len() < args.kills as usize {
        let cpu = CpuTime::now()?;
        let mut round = Vec::new();
        while round.len() < ROUND && readoptions.len() + round.len() < args.kills as usize {
            let host = &hosts[random.random_range(0..hosts.len())];
            round.push(kill_one(fleet, host).await.with_context(|| format!("killing the agent of {host}"))?);
        }
        let steal = CpuTime::now()?.steal_since(cpu);
        let is_void = steal > STEAL_MAX;
        let shown: Vec<String> = round.iter().map(|took| format!("{took:.0}")).collect();
        println!("{:>5}  {}{}", readoptions.len() + round.len(), shown.join(" "), if is_void { "  void" } else { "" });
        if is_void {
            void += 1;
            ensure!(void <= VOID_ROUNDS_MAX, "{void} rounds were void: this machine is too busy to measure on");
            continue;
        }
        readoptions.extend(round);
    }
    Ok(readoptions)
}

/// Kills a host's agent; gives the time from its successor's start (by the OS) to its report (by the server's clock).
async fn kill_one(fleet: &Fleet, host: &str) -> Result<f64> {
    let agent = fleet.part("agent", Some(host)).context("the host has an agent")?;
    let killed_at = machine::unix_ms();
    agent.kill()?;
    let deadline = Instant::now() + Duration::from_secs(BACK_SECONDS_MAX);
    while Instant::now() < deadline {
        let view =
            fleet.client.hosts().await?.into_iter().find(|view| view.name == host).context("the host is listed")?;
        let next = fleet.part("agent", Some(host)).filter(|next| next.pid != agent.pid);
        if let Some(next) = next.filter(|_| view.state == "connected" && view.since as f64 > killed_at) {
            return Ok(view.since as f64 - next.started_unix_ms()?);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("no agent came back within {BACK_SECONDS_MAX} s")
}

/// Resident KiB of the largest agent; resident and proportional KiB of the largest shim.
fn memory(fleet: &Fleet) -> Result<(u64, (u64, u64))> {
    let folder = fleet.folder().to_string_lossy().into_owned();
    let of = |is_it: &dyn Fn(&Process) -> bool| {
        machine::processes(|process| is_it(process) && process.args.iter().any(|word| word.contains(&folder)))
    };
    let is_agent = |process: &Process| process.args.get(1).is_some_and(|word| word == "agent");
    let is_shim = |process: &Process| process.args.first().is_some_and(|word| word.ends_with("/springtide-shim"));
    let agents = of(&is_agent).iter().map(Process::resident_kib).max().context("agents run")?;
    let shims = of(&is_shim);
    let resident = shims.iter().map(Process::resident_kib).max().context("shims run")?;
    let own = shims.iter().map(Process::proportional_kib).max().unwrap_or(0);
    Ok((agents, (resident, own)))
}
