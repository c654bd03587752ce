//! Proxies asked in turns of a tenth of a second.
//!
//! This machine's speed changes by a tenth and more within seconds, with what its neighbours do. A turn is shorter than
//! that, and who comes first changes with each: a change falls on all alike. Where a process happens to lie in memory makes
//! a difference of some percent that stays as long as it lives, so each round starts all of them anew.

use super::Sample;
use super::load::Bursts;
use super::peers::{Kind, Peer};
use anyhow::{Result, ensure};
use model::LatencyHistogram;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use std::time::{Duration, Instant};

/// Turns of each proxy in a round.
const TURNS: usize = 16;
/// Requests of a turn, over all connections.
const REQUESTS: usize = 3_200;
/// The same before the first turn.
const WARM_UP_REQUESTS: usize = 12_800;
/// Void rounds tried again, in all.
const VOID_ROUNDS_MAX: u32 = 10;

/// Runs rounds.
pub struct Turns<F> {
    start: F,
    random: ChaCha8Rng,
    voids: u32,
}

impl<F: Fn(Kind) -> Result<Peer>> Turns<F> {
    /// Proxies come from `start`, their order from `random`.
    pub fn new(start: F, random: ChaCha8Rng) -> Self {
        Self { start, random, voids: 0 }
    }

    /// One round of these proxies; run again when the machine was not ours meanwhile.
    pub async fn round(&mut self, kinds: &[Kind], connections: usize) -> Result<Vec<Sample>> {
        loop {
            let mut sides = Vec::with_capacity(kinds.len());
            for kind in kinds {
                sides.push(Side::open((self.start)(*kind)?, connections).await?);
            }
            let machine = CpuTime::now()?;
            let mut order: Vec<usize> = (0..sides.len()).collect();
            for turn in 0..TURNS {
                // Each order is followed by its reverse, so that nobody comes later than another on the whole.
                if turn % 2 == 0 {
                    order.shuffle(&mut self.random);
                } else {
                    order.reverse();
                }
                for at in &order {
                    sides[*at].turn(REQUESTS / connections).await?;
                }
            }
            let steal = CpuTime::now()?.steal_since(machine);
            if steal <= STEAL_MAX {
                return sides.iter().map(Side::sample).collect();
            }
            self.voids += 1;
            println!("       void: {:.0}% of the CPU was stolen", steal * 100.0);
            ensure!(self.voids <= VOID_ROUNDS_MAX, "{} rounds were void: this machine is too busy", self.voids);
        }
    }
}

/// A proxy, the connections to it, and what its turns took.
struct Side {
    peer: Peer,
    bursts: Bursts,
    cpu_s: f64,
    lasted: Duration,
    latency: LatencyHistogram,
}

impl Side {
    async fn open(peer: Peer, connections: usize) -> Result<Self> {
        let mut bursts = Bursts::open(peer.address, connections).await?;
        // Warm: the first requests open the connections to the origin, and the allocator's pages.
        bursts.ask(WARM_UP_REQUESTS / connections).await?;
        Ok(Self { peer, bursts, cpu_s: 0.0, lasted: Duration::ZERO, latency: LatencyHistogram::default() })
    }

    async fn turn(&mut self, requests_each: usize) -> Result<()> {
        let (began, before) = (Instant::now(), self.peer.cpu_seconds()?);
        self.latency.merge(&self.bursts.ask(requests_each).await?);
        self.cpu_s += self.peer.cpu_seconds()? - before;
        self.lasted += began.elapsed();
        Ok(())
    }

    fn sample(&self) -> Result<Sample> {
        let requests = self.latency.total() as f64;
        Ok(Sample {
            cpu: self.cpu_s * 1e5 / requests,
            p99_ms: self.latency.quantile_us(0.99).unwrap_or(f64::NAN) / 1e3,
            rps: requests / self.lasted.as_secs_f64(),
            resident_mib: self.peer.resident_mib()?,
        })
    }
}
