//! `bench agent-cost`: what an agent costs that samples 100 slices each second, beside node_exporter scraped each second.
//!
//! Real slices with a real process in each, a real server that takes the samples. CPU is `utime + stime` of the process,
//! memory its `smaps_rollup`: the kernel's books, not ours.

use anyhow::{Context, Result, ensure};
use springtide_bench::fleet::{Fleet, Guard, Size};
use springtide_bench::machine::{self, CpuTime, Process, STEAL_MAX};
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most CPU, in percent of a core.
const CPU_PERCENT_MAX: f64 = 0.5;
/// What we want of it.
const CPU_PERCENT_GOAL: f64 = 0.3;
/// Most memory.
const RESIDENT_MB_MAX: f64 = 20.0;
/// What we want of it.
const RESIDENT_MB_GOAL: f64 = 12.0;
/// Fewest numbers a second.
const METRICS_MIN: usize = 1_000;
/// Length of a clock tick in `/proc`.
const TICK_S: f64 = 0.01;
/// Time in which all instances must run.
const UP_SECONDS_MAX: u64 = 240;
/// Seconds let pass before the first round: what a start costs is not what running costs.
const CALM_SECONDS: u64 = 10;
/// Void rounds tried again, in all.
const VOID_ROUNDS_MAX: u32 = 3;
/// Time looked back for the points of a second.
const LOOK_BACK_MS: u64 = 20_000;
/// Debian's program.
const PEER: &str = "prometheus-node-exporter";
/// Gauges that the server derives; the agent does not measure them.
const DERIVED: [&str; 2] = ["_ratio", "_cores"];

/// CPU and memory of an agent with 100 slices, beside node_exporter
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench agent-cost\n  cargo xtask bench agent-cost --rounds 1 --slices 50"
)]
pub struct Args {
    /// Kept for the rule that each benchmark has one: nothing here is drawn by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Slices, with one sleeping process each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    slices: u32,
    /// Rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Seconds of a round
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=300))]
    seconds: u64,
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    let fleet = Fleet::start(&Size { datacenters: 1, hosts: 1, cpu: "100", memory: "100GiB" }).await?;
    fleet.apply(&sleepers(args.slices, fleet.folder())?).await?;
    fleet.await_steady(UP_SECONDS_MAX).await?;
    let running = fleet.instance_processes().await?.len();
    ensure!(running == args.slices as usize, "{running} of {} instances run", args.slices);
    let host = fleet.client.hosts().await?.first().map(|host| host.name.clone()).context("there is a host")?;
    let agent = fleet.part("agent", Some(&host)).context("the host has an agent")?;
    let peer = Peer::start()?;
    tokio::time::sleep(Duration::from_secs(CALM_SECONDS)).await;
    let (ours, theirs) = rounds(&args, &agent, &peer).await?;
    let text = fleet.client.metrics().await?;
    let (golden, all) = measured(&text);
    let points = points_per_second(&fleet).await?;
    let (memory, peer_memory) = (Memory::of(agent.pid)?, Memory::of(peer.pid())?);
    let peer_samples = peer.scrape().await?.lines().filter(|line| !line.starts_with('#')).count();
    drop(peer);
    let left = fleet.stop().await?;
    left.iter().for_each(|what| println!("left behind: {what}"));
    let (cpu, peer_cpu) = (stats::median(&ours), stats::median(&theirs));
    println!("agent memory: {memory}");
    println!("{PEER} memory: {peer_memory}");
    println!(
        "{all} numbers of the agent are exposed, {golden} of them measured each second ({points:.2} points a second)"
    );
    let passed = table::print(&[
        Row::new("numbers a second", golden, METRICS_MIN, golden >= METRICS_MIN && points > 0.9),
        Row::new("CPU, % of a core, median", format!("{cpu:.3}"), CPU_PERCENT_MAX, cpu <= CPU_PERCENT_MAX),
        Row::new(
            "resident, MB",
            format!("{:.1}", memory.resident),
            RESIDENT_MB_MAX,
            memory.resident <= RESIDENT_MB_MAX,
        ),
        Row::new("left behind at the end", left.len(), 0, left.is_empty()),
    ]);
    let goal = cpu <= CPU_PERCENT_GOAL && memory.resident <= RESIDENT_MB_GOAL;
    println!("{PEER}: {peer_cpu:.3}% of a core, {:.1} MB, {peer_samples} samples a scrape", peer_memory.resident);
    println!(
        "bench agent-cost: seed={} slices={} seconds={} numbers_per_s={golden} cpu_percent={cpu:.3} floor_cpu_percent={CPU_PERCENT_MAX} goal_cpu_percent={CPU_PERCENT_GOAL} resident_mb={:.1} private_mb={:.1} floor_mb={RESIDENT_MB_MAX} goal_mb={RESIDENT_MB_GOAL} goal_met={goal} peer_cpu_percent={peer_cpu:.3} peer_resident_mb={:.1} peer_samples={peer_samples} passed={passed}",
        args.seed,
        args.slices,
        u64::from(args.rounds) * args.seconds,
        memory.resident,
        memory.private,
        peer_memory.resident,
    );
    Ok(passed)
}

fn sleepers(count: u32, folder: &Path) -> Result<String> {
    let source = folder.join("sleeper");
    std::fs::write(&source, "sleep is the host's own program\n")?;
    Ok(format!(
        "kind: Business\nname: bench\n---\nkind: Package\nname: sleeper\nversion: \"1\"\nsource: {}\ncommand: [sleep, \"100000\"]\n\
         ---\nkind: Service\nname: sleeper\nbusiness: bench\nlayer: logic\npackage: sleeper\n\
         shape: {{cpu: 0.1, memory: 16MiB, pids_max: 8}}\nstop: {{drain_ms: 0, grace_ms: 2000}}\ninstances: {{dc-a: {count}}}\n",
        source.display()
    ))
}

/// CPU of both in each round, in percent of a core.
async fn rounds(args: &Args, agent: &Process, peer: &Peer) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut ours, mut theirs, mut void) = (Vec::new(), Vec::new(), 0);
    println!("round  agent, % of a core  {PEER}, % of a core");
    while ours.len() < args.rounds as usize {
        let (steal, began) = (CpuTime::now()?, Instant::now());
        let before = (ticks(agent.pid)?, ticks(peer.pid())?);
        for second in 1..=args.seconds {
            peer.scrape().await?;
            tokio::time::sleep_until((began + Duration::from_secs(second)).into()).await;
        }
        let wall = began.elapsed().as_secs_f64();
        let percent = |before: u64, now: u64| (now - before) as f64 * TICK_S / wall * 100.0;
        let round = (percent(before.0, ticks(agent.pid)?), percent(before.1, ticks(peer.pid())?));
        let steal = CpuTime::now()?.steal_since(steal);
        let is_void = steal > STEAL_MAX;
        println!("{:>5}  {:>18.3}  {:>37.3}{}", ours.len() + 1, round.0, round.1, if is_void { "  void" } else { "" });
        if is_void {
            void += 1;
            ensure!(void <= VOID_ROUNDS_MAX, "{void} rounds were void: this machine is too busy to measure on");
            continue;
        }
        ours.push(round.0);
        theirs.push(round.1);
    }
    Ok((ours, theirs))
}

/// CPU time of a process, its threads all together, in ticks.
fn ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process lives")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("proc(5)")?.1.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// Memory of a process, in MB of a million bytes.
struct Memory {
    resident: f64,
    proportional: f64,
    private: f64,
}

impl Memory {
    fn of(pid: i32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the process lives")?;
        let of = |name: &str| {
            let kib =
                text.lines().filter_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
            kib.sum::<f64>() * 1_024.0 / 1e6
        };
        let private = of("Private_Clean:") + of("Private_Dirty:");
        Ok(Self { resident: of("Rss:"), proportional: of("Pss:"), private })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident, proportional, private } = self;
        write!(
            f,
            "{resident:.1} MB resident, {proportional:.1} MB by its share of shared pages, {private:.1} MB private"
        )
    }
}

/// Series that the agent measured: each second, and in all.
fn measured(exposition: &str) -> (usize, usize) {
    let ours = |line: &&str| line.starts_with("springtide_slice_") || line.starts_with("springtide_host_");
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let derived = |name: &str| DERIVED.iter().any(|end| name.ends_with(end)) && name != "springtide_host_cores";
    let names: Vec<String> = exposition.lines().filter(ours).map(name).filter(|name| !derived(name)).collect();
    let rest = ["_memory_file_", "_memory_anon_", "_memory_peak_", "_io_", "_disk_", "_network_", "_space_", "inodes"];
    // The host's own I/O pressure comes each second.
    let is_rest = |name: &str| rest.iter().any(|part| name.contains(part)) && !name.starts_with("springtide_host_io_");
    (names.iter().filter(|name| !is_rest(name)).count(), names.len())
}

/// Points a second of a slice's CPU, over the last seconds.
async fn points_per_second(fleet: &Fleet) -> Result<f64> {
    let from_ms = (machine::unix_ms() as u64 - LOOK_BACK_MS).to_string();
    let name = "springtide_slice_cpu_seconds_total".to_owned();
    let found = fleet.client.range(&[("name", name), ("from_ms", from_ms)]).await?;
    let per_second = |points: usize| points as f64 * 1_000.0 / LOOK_BACK_MS as f64;
    let counts: Vec<f64> = found.iter().map(|series| per_second(series.points.len())).collect();
    Ok(stats::median(&counts))
}

/// A node_exporter as Debian configures it.
struct Peer {
    child: Guard,
    url: String,
    client: reqwest::Client,
}

impl Peer {
    fn start() -> Result<Self> {
        let address = testkit::address();
        let mut command = Command::new(PEER);
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {PEER}: cargo xtask installs it"))?;
        Ok(Self { child: Guard(child), url: format!("http://{address}/metrics"), client: reqwest::Client::new() })
    }

    fn pid(&self) -> i32 {
        self.child.0.id() as i32
    }

    async fn scrape(&self) -> Result<String> {
        Ok(self.client.get(&self.url).send().await.context("node_exporter answers")?.text().await?)
    }
}
