//! `bench proxy`: what a request costs, ours beside nginx, HAProxy and Envoy; and what protection costs.
//!
//! HTTP/1.1 keep-alive, a body of 1 KB, one worker each on a core of its own, origin and load on the other core.
//! The figure is CPU time of the proxy for a request, which holds on a busy machine where requests a second do not. In a
//! round all proxies take short turns (`turns`); a ratio is that of one round, and the median over the rounds is compared.

mod load;
mod origin;
mod pairs;
pub mod peers;
mod state;
mod turns;

use anyhow::{Result, ensure};
use pairs::PAIRS_MIN;
use peers::{Kind, Peer, only};
use rand::SeedableRng;
use springtide_bench::stats;
use turns::Turns;

/// Core of origin and load.
const LOAD_CORE: usize = 0;
/// Core of the proxies.
const PROXY_CORE: usize = 1;
/// Connections at the same time.
const CONNECTIONS: [usize; 2] = [64, 256];
/// Least share of nginx's requests for a CPU-second.
const OF_NGINX_MIN: f64 = 0.9;

/// The proxy beside its peers
#[derive(clap::Args)]
pub struct Args {
    /// Seed of the order of the turns
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds of all proxies at each number of connections
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// Pairs with protection on and off (0: none)
    #[arg(long, default_value_t = 32)]
    pairs: usize,
    /// Only ours and these peers, such as nginx
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One proxy in one round.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU-seconds for 100,000 requests.
    cpu: f64,
    p99_ms: f64,
    rps: f64,
    resident_mib: f64,
}

/// All rounds of one proxy at one number of connections.
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
    ensure!(args.rounds > 0, "--rounds is at least 1");
    let pairs = args.pairs;
    ensure!(pairs == 0 || pairs >= PAIRS_MIN, "--pairs is {pairs}, expected 0 or at least {PAIRS_MIN}");
    rustix::thread::sched_setaffinity(None, &only(LOAD_CORE))?;
    let folder = tempfile::tempdir()?;
    let origin = origin::start()?;
    let wanted = |kind: &Kind| args.only.is_empty() || args.only.iter().any(|name| name == kind.name());
    let mut kinds = vec![Kind::Ours];
    kinds.extend([Kind::Nginx, Kind::HaProxy, Kind::Envoy].into_iter().filter(wanted));
    let start = |kind| Peer::start(kind, PROXY_CORE, origin, folder.path());
    let mut turns = Turns::new(start, rand_chacha::ChaCha8Rng::seed_from_u64(args.seed));
    let cells = compare(&mut turns, &kinds, args.rounds).await?;
    print_table(&cells);
    let passed = judge(&cells);
    let cost = match pairs {
        0 => None,
        pairs => Some(pairs::compare(&mut turns, (pairs, CONNECTIONS[0])).await?),
    };
    let passed = passed && cost.is_none_or(pairs::Cost::is_cheap);
    println!("{}", last_line(&cells, cost, passed));
    Ok(passed)
}

async fn compare<F>(turns: &mut Turns<F>, kinds: &[Kind], rounds: usize) -> Result<Vec<Cell>>
where
    F: Fn(Kind) -> Result<Peer>,
{
    let cell = |connections| move |kind: &Kind| Cell { kind: *kind, connections, samples: Vec::new() };
    let mut cells: Vec<Cell> = CONNECTIONS.iter().flat_map(|at| kinds.iter().map(cell(*at))).collect();
    println!("round  conns  proxy       cpu-s/100k  p99 ms   rps");
    for round in 1..=rounds {
        for cells in cells.chunks_mut(kinds.len()) {
            let connections = cells[0].connections;
            for (cell, sample) in cells.iter_mut().zip(turns.round(kinds, connections).await?) {
                let (name, Sample { cpu, p99_ms, rps, .. }) = (cell.kind.name(), sample);
                println!("{round:>5}  {connections:>5}  {name:<10}  {cpu:>10.3}  {p99_ms:>6.2}  {rps:>6.0}");
                cell.samples.push(sample);
            }
        }
    }
    Ok(cells)
}

/// How many times as many requests for a CPU-second ours carries as another: the median of the rounds' ratios.
fn ahead(cells: &[Cell], of: Kind, connections: usize) -> Option<f64> {
    let cell = |kind| cells.iter().find(|cell: &&Cell| cell.kind == kind && cell.connections == connections);
    let rounds = cell(of)?.samples.iter().zip(&cell(Kind::Ours)?.samples);
    Some(stats::median(&rounds.map(|(other, ours)| other.cpu / ours.cpu).collect::<Vec<_>>()))
}

fn floor(kind: Kind) -> f64 {
    if kind == Kind::Nginx { OF_NGINX_MIN } else { 1.0 }
}

fn judge(cells: &[Cell]) -> bool {
    let mut peers = cells.iter().filter(|cell| cell.kind != Kind::Ours);
    peers.all(|cell| ahead(cells, cell.kind, cell.connections).is_none_or(|ratio| ratio >= floor(cell.kind)))
}

fn print_table(cells: &[Cell]) {
    println!("\nmedians       conns  cpu-s/100k  requests/cpu-s  p99 ms  RSS MiB  ours ahead  floor");
    for cell in cells {
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
            cell.median(|s| s.resident_mib)
        );
    }
    println!("(goal: ahead of all three)");
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
