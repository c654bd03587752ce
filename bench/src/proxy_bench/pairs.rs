//! What protection costs: two proxies of ours, one with it and one without, asked in turns of a fraction of a second.
//!
//! This machine's speed changes by a tenth and more within seconds, with what its neighbours do. A turn is shorter than
//! that, and the turns of a pair follow one another as off, on, on, off: a change falls on both sides alike. Where a process
//! happens to lie in memory makes a difference of some percent that stays as long as it lives, so each pair starts both anew.

use super::load::Bursts;
use super::peers::{Kind, Peer};
use anyhow::{Result, ensure};
use springtide_bench::machine::{CpuTime, STEAL_MAX};

/// Fewest pairs.
pub const PAIRS_MIN: usize = 20;
/// Most that protection may add, as a share: the upper 95% bound.
const DEARER_MAX: f64 = 0.05;
/// The same, as a goal.
const DEARER_GOAL: f64 = 0.03;
/// Turns of each side in a pair.
const TURNS: usize = 16;
/// Requests on each connection in a turn: at 64 connections a turn takes about a tenth of a second.
const REQUESTS_EACH: u64 = 50;
/// The same before the first turn.
const WARM_UP_REQUESTS_EACH: u64 = 200;
/// One-sided 95% of Student's t for 19 degrees of freedom; more pairs only lower it.
const T_95: f64 = 1.729;
/// Void pairs tried again, in all.
const VOID_PAIRS_MAX: u32 = 10;

/// What protection adds, as a share.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Mean over the pairs.
    pub mean: f64,
    /// Upper 95% bound of that.
    pub upper: f64,
}

impl Cost {
    /// True when it keeps the floor.
    pub fn is_cheap(self) -> bool {
        self.upper <= DEARER_MAX
    }
}

/// One side: a proxy and the connections to it.
struct Side {
    peer: Peer,
    bursts: Bursts,
}

impl Side {
    async fn open(peer: Peer, connections: usize) -> Result<Self> {
        let mut bursts = Bursts::open(peer.address, connections).await?;
        // Warm: the first requests open the connections to the origin, and the allocator's pages.
        bursts.ask(WARM_UP_REQUESTS_EACH).await?;
        Ok(Self { peer, bursts })
    }

    /// CPU-seconds that a turn took.
    async fn turn(&mut self) -> Result<f64> {
        let before = self.peer.cpu_seconds()?;
        self.bursts.ask(REQUESTS_EACH).await?;
        Ok(self.peer.cpu_seconds()? - before)
    }
}

/// Runs so many pairs over so many connections.
pub async fn compare(start: impl Fn(Kind) -> Result<Peer>, (pairs, connections): (usize, usize)) -> Result<Cost> {
    println!("pair  protection on, off: cpu-s/100k   dearer");
    let requests = (TURNS * connections) as f64 * REQUESTS_EACH as f64;
    let (mut dearer, mut voids) = (Vec::new(), 0);
    while dearer.len() < pairs {
        let mut on = Side::open(start(Kind::Ours)?, connections).await?;
        let mut off = Side::open(start(Kind::Unprotected)?, connections).await?;
        let machine = CpuTime::now()?;
        let (with, without) = pair(&mut on, &mut off).await?;
        let steal = CpuTime::now()?.steal_since(machine);
        if steal > STEAL_MAX {
            voids += 1;
            println!("      void: {:.0}% of the CPU was stolen", steal * 100.0);
            ensure!(voids <= VOID_PAIRS_MAX, "{voids} pairs were void: this machine is too busy");
            continue;
        }
        let share = with / without - 1.0;
        dearer.push(share);
        let (with, without) = (with * 1e5 / requests, without * 1e5 / requests);
        println!("{:>4}  {with:>20.3} {without:>8.3}  {:>+7.2}%", dearer.len(), share * 100.0);
    }
    let cost = bound(&dearer);
    println!(
        "protection adds {:+.2}%, at most {:+.2}% (95%); floor {:.0}%, goal {:.0}%",
        cost.mean * 100.0,
        cost.upper * 100.0,
        DEARER_MAX * 100.0,
        DEARER_GOAL * 100.0
    );
    Ok(cost)
}

/// CPU-seconds of both sides over their turns.
async fn pair(on: &mut Side, off: &mut Side) -> Result<(f64, f64)> {
    let (mut with, mut without) = (0.0, 0.0);
    for turn in 0..TURNS {
        if turn % 2 == 0 {
            without += off.turn().await?;
            with += on.turn().await?;
        } else {
            with += on.turn().await?;
            without += off.turn().await?;
        }
    }
    Ok((with, without))
}

fn bound(shares: &[f64]) -> Cost {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
    let error = (squares / (shares.len() - 1) as f64 / shares.len() as f64).sqrt();
    Cost { mean, upper: mean + T_95 * error }
}
