//! `bench proxy`: what a request costs, ours beside nginx, HAProxy and Envoy; and what protection costs.
//!
//! HTTP/1.1 keep-alive, a body of 1 KB, one worker each on a core of its own, origin and load on the other core.
//! The figure is CPU time of the proxy for a request, which holds on a busy machine where requests a second do not.
//! Rounds alternate and their order is drawn anew each time; medians are compared.

mod load;
mod origin;
mod pairs;
pub mod peers;
mod state;

use anyhow::{Result, ensure};
use load::Load;
use pairs::PAIRS_MIN;
use peers::{Kind, Peer, only};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use springtide_bench::stats;
use std::time::Duration;

/// Core of origin and load.
const LOAD_CORE: usize = 0;
/// Core of the proxies.
const PROXY_CORE: usize = 1;
/// Connections at the same time.
const CONNECTIONS: [usize; 2] = [64, 256];
/// Load before a measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// Least share of nginx's requests for a CPU-second.
const OF_NGINX_MIN: f64 = 0.9;
/// Void rounds tried again, in all.
const VOID_ROUNDS_MAX: u32 = 10;

/// The proxy beside its peers
#[derive(clap::Args)]
pub struct Args {
    /// Seed of the order of the rounds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds of each proxy at each number of connections
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a measurement, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Pairs with protection on and off (0: none)
    #[arg(long, default_value_t = 24)]
    pairs: usize,
    /// Only ours and these peers, such as nginx
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One measurement.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU-seconds for 100,000 requests.
    cpu: f64,
    p99_ms: f64,
    rps: f64,
}

/// All measurements of one proxy at one number of connections.
struct Cell {
    kind: Kind,
    connections: usize,
    samples: Vec<Sample>,
}

impl Cell {
    fn median(&self, of: fn(&Sample) -> f64) -> f64 {
        stats::median(&self.samples.iter().map(of).collect::<Vec<_>>())
    }
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    rustix::thread::sched_setaffinity(None, &only(LOAD_CORE))?;
    let folder = tempfile::tempdir()?;
    let origin = origin::start()?;
    let wanted = |kind: &Kind| args.only.is_empty() || args.only.iter().any(|name| name == kind.name());
    let mut kinds = vec![Kind::Ours];
    kinds.extend([Kind::Nginx, Kind::HaProxy, Kind::Envoy].into_iter().filter(wanted));
    if args.pairs > 0 {
        ensure!(args.pairs >= PAIRS_MIN, "--pairs is {}, expected 0 or at least {PAIRS_MIN}", args.pairs);
    }
    let start = |kind| Peer::start(kind, PROXY_CORE, origin, folder.path());
    let peers = kinds.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut bench = Bench { length: Duration::from_secs_f64(args.seconds), voids: 0 };
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(args.seed);
    let cells = bench.compare(&peers, args.rounds, &mut random).await?;
    print_table(&cells, &peers)?;
    drop(peers);
    let passed = judge(&cells);
    let cost = match args.pairs {
        0 => None,
        pairs => Some(pairs::compare(start, (pairs, CONNECTIONS[0])).await?),
    };
    let passed = passed && cost.is_none_or(pairs::Cost::is_cheap);
    println!("{}", last_line(&cells, cost, passed));
    Ok(passed)
}

struct Bench {
    length: Duration,
    voids: u32,
}

impl Bench {
    async fn compare(
        &mut self,
        peers: &[Peer],
        rounds: usize,
        random: &mut rand_chacha::ChaCha8Rng,
    ) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> = CONNECTIONS
            .iter()
            .flat_map(|connections| peers.iter().map(|peer| (peer.kind, *connections)))
            .map(|(kind, connections)| Cell { kind, connections, samples: Vec::new() })
            .collect();
        println!("round  conns  proxy       cpu-s/100k  p99 ms   rps");
        for round in 1..=rounds {
            let mut order: Vec<usize> = (0..cells.len()).collect();
            order.shuffle(random);
            for index in order {
                let cell = &mut cells[index];
                let peer = peers.iter().find(|peer| peer.kind == cell.kind);
                let sample = self.measure(peer.expect("each cell has its proxy"), cell.connections).await?;
                let (name, connections) = (cell.kind.name(), cell.connections);
                println!(
                    "{round:>5}  {connections:>5}  {name:<10}  {:>10.3}  {:>6.2}  {:>6.0}",
                    sample.cpu, sample.p99_ms, sample.rps
                );
                cell.samples.push(sample);
            }
        }
        Ok(cells)
    }

    /// One measurement; tried again when the machine was not ours meanwhile.
    async fn measure(&mut self, peer: &Peer, connections: usize) -> Result<Sample> {
        loop {
            let mut load = Load::start(peer.address, connections).await?;
            load.run(WARM_UP).await?;
            let (machine, cpu) = (CpuTime::now()?, peer.cpu_seconds()?);
            let measured = load.measure(self.length).await?;
            let (cpu, steal) = (peer.cpu_seconds()? - cpu, CpuTime::now()?.steal_since(machine));
            load.stop().await?;
            if steal <= STEAL_MAX {
                let p99_us = measured.latency.quantile_us(0.99).unwrap_or(f64::NAN);
                return Ok(Sample {
                    cpu: cpu * 1e5 / measured.requests as f64,
                    p99_ms: p99_us / 1e3,
                    rps: measured.requests as f64 / measured.seconds,
                });
            }
            self.voids += 1;
            println!("       void: {:.0}% of the CPU was stolen", steal * 100.0);
            ensure!(self.voids <= VOID_ROUNDS_MAX, "{} rounds were void: this machine is too busy", self.voids);
        }
    }
}

/// How many times as many requests for a CPU-second ours carries as another.
fn ahead(cells: &[Cell], of: Kind, connections: usize) -> Option<f64> {
    let cell = |kind| cells.iter().find(|cell: &&Cell| cell.kind == kind && cell.connections == connections);
    Some(cell(of)?.median(|s| s.cpu) / cell(Kind::Ours)?.median(|s| s.cpu))
}

fn floor(kind: Kind) -> f64 {
    if kind == Kind::Nginx { OF_NGINX_MIN } else { 1.0 }
}

fn judge(cells: &[Cell]) -> bool {
    let mut peers = cells.iter().filter(|cell| cell.kind != Kind::Ours);
    peers.all(|cell| ahead(cells, cell.kind, cell.connections).is_none_or(|ratio| ratio >= floor(cell.kind)))
}

fn print_table(cells: &[Cell], peers: &[Peer]) -> Result<()> {
    println!("\nmedians       conns  cpu-s/100k  requests/cpu-s  p99 ms  RSS MiB  ours ahead  floor");
    for cell in cells {
        let peer = peers.iter().find(|peer| peer.kind == cell.kind).expect("each cell has its proxy");
        let cpu = cell.median(|s| s.cpu);
        let ratio = ahead(cells, cell.kind, cell.connections).filter(|_| cell.kind != Kind::Ours);
        let shown = ratio.map_or_else(
            || "         -      -".to_owned(),
            |ratio| {
                let missed = if ratio < floor(cell.kind) {
                    "  missed"
                } else if ratio < 1.0 {
                    "  behind"
                } else {
                    ""
                };
                format!("{:>9.2}x  {:>4.1}x{missed}", ratio, floor(cell.kind))
            },
        );
        println!(
            "{:<12}  {:>5}  {cpu:>10.3}  {:>14.0}  {:>6.2}  {:>7.1}  {shown}",
            cell.kind.name(),
            cell.connections,
            1e5 / cpu,
            cell.median(|s| s.p99_ms),
            peer.resident_mib()?
        );
    }
    println!("(goal: ahead of all three)");
    Ok(())
}

fn last_line(cells: &[Cell], cost: Option<pairs::Cost>, passed: bool) -> String {
    let mut words = vec!["bench proxy:".to_owned()];
    for cell in cells {
        let (name, connections) = (cell.kind.name(), cell.connections);
        words.push(format!("{name}_{connections}_cpu_s_100k={:.3}", cell.median(|s| s.cpu)));
        if cell.kind == Kind::Ours {
            words.push(format!("{name}_{connections}_p99_ms={:.2}", cell.median(|s| s.p99_ms)));
        } else if let Some(ratio) = ahead(cells, cell.kind, connections) {
            words.push(format!("ahead_of_{name}_{connections}={ratio:.2}"));
        }
    }
    if let Some(pairs::Cost { mean, upper }) = cost {
        words.push(format!("protection_percent={:.2} protection_percent_upper={:.2}", mean * 100.0, upper * 100.0));
    }
    words.push(format!("passed={passed}"));
    words.join(" ")
}
