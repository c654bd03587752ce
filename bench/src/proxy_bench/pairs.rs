//! What protection costs: our proxy with it and without it, pair by pair.

use super::peers::{Kind, Peer};
use super::turns::Turns;
use anyhow::Result;

/// Fewest pairs.
pub const PAIRS_MIN: usize = 20;
/// Most that protection may add, as a share: the upper 95% bound.
const DEARER_MAX: f64 = 0.05;
/// The same, as a goal.
const DEARER_GOAL: f64 = 0.03;
/// One-sided 95% of Student's t for 19 degrees of freedom; more pairs only lower it.
const T_95: f64 = 1.729;

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

/// Runs so many pairs over so many connections.
pub async fn compare<F>(turns: &mut Turns<F>, (pairs, connections): (usize, usize)) -> Result<Cost>
where
    F: Fn(Kind) -> Result<Peer>,
{
    println!("pair  protection on, off: cpu-s/100k   dearer");
    let mut dearer = Vec::new();
    for pair in 1..=pairs {
        let samples = turns.round(&[Kind::Ours, Kind::Unprotected], connections).await?;
        let (with, without) = (samples[0].cpu, samples[1].cpu);
        let share = with / without - 1.0;
        dearer.push(share);
        println!("{pair:>4}  {with:>20.3} {without:>8.3}  {:>+7.2}%", share * 100.0);
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

fn bound(shares: &[f64]) -> Cost {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
    let error = (squares / (shares.len() - 1) as f64 / shares.len() as f64).sqrt();
    Cost { mean, upper: mean + T_95 * error }
}
