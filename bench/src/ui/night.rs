//! What the simulated instances do: a crowd with a hot service, and memory that moves to another colour each second.

use springtide_bench::simulated::{Answers, Behaviour, Instance, Use, steady, unix_ms};
use std::collections::HashMap;
use std::sync::Mutex;

/// Shares in the middle of the heat map's steps, in order of its colours.
const LEVELS: [f64; 8] = [0.05, 0.2, 0.4, 0.55, 0.63, 0.73, 0.85, 0.95];
/// Parts of the record, so that agents seldom wait for one another.
const PARTS: usize = 64;
/// Samples of an instance that are remembered.
const SAMPLES_MAX: usize = 600;

/// A colour that a cell was seen to have, and when its frame had been presented.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Place of the colour in the scale.
    pub level: usize,
    /// Unix time.
    pub at_ms: f64,
}

/// The behaviour, and what it said of each instance when.
pub struct Night {
    seed: u64,
    said: Vec<Mutex<HashMap<String, Vec<u64>>>>,
}

impl Night {
    /// Nothing said yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, said: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    fn part(&self, name: &str) -> &Mutex<HashMap<String, Vec<u64>>> {
        &self.said[(steady(name, 7) * PARTS as f64) as usize]
    }

    fn note(&self, name: &str, at_ms: u64) -> usize {
        let mut part = self.part(name).lock().expect("no holder of this lock panics");
        let said = part.entry(name.to_owned()).or_default();
        if said.last() != Some(&at_ms) {
            said.push(at_ms);
        }
        if said.len() > SAMPLES_MAX {
            said.remove(0);
        }
        level(name, self.seed, at_ms)
    }

    /// For each sample of an instance between `from` and `to`: the time until it, or a newer one, was presented.
    pub fn delays(&self, name: &str, seen: &[Seen], from_ms: f64, to_ms: f64) -> Vec<f64> {
        let said = self.part(name).lock().expect("no holder of this lock panics");
        let said = said.get(name).map_or(&[][..], Vec::as_slice);
        delays(said, |at| level(name, self.seed, at), seen, from_ms, to_ms)
    }
}

/// The colour that an instance has at a time: another one each second, each instance with its own beginning.
fn level(name: &str, seed: u64, at_ms: u64) -> usize {
    let begin = (steady(name, seed) * LEVELS.len() as f64) as u64;
    ((at_ms / 1_000 + begin) % LEVELS.len() as u64) as usize
}

fn delays(said: &[u64], level: impl Fn(u64) -> usize, seen: &[Seen], from_ms: f64, to_ms: f64) -> Vec<f64> {
    // What a colour shows: the newest sample with it that was made before.
    let shown: Vec<(u64, f64)> = seen
        .iter()
        .filter_map(|seen| {
            let sample = said.iter().rev().find(|at| (**at as f64) <= seen.at_ms && level(**at) == seen.level)?;
            Some((*sample, seen.at_ms))
        })
        .collect();
    said.iter()
        .filter(|at| (from_ms..=to_ms).contains(&(**at as f64)))
        .map(|at| {
            let first = shown.iter().find(|(sample, _)| sample >= at).map_or(f64::INFINITY, |(_, when)| *when);
            first - *at as f64
        })
        .collect()
}

impl Behaviour for Night {
    fn uses(&self, instance: &Instance, at_ms: u64) -> Use {
        let wave = (at_ms as f64 / 30_000.0 + steady(&instance.name, 1) * 6.0).sin() * 0.06;
        let hot = if instance.service == "lottery" { 0.24 } else { 0.0 };
        let cpu = 0.22 + 0.25 * steady(&instance.service, 2) + 0.12 * steady(&instance.name, 3) + wave + hot;
        Use { cpu, memory: LEVELS[self.note(&instance.name, at_ms)] }
    }

    fn answers(&self, _caller: &str, instance: &Instance, at_ms: u64) -> Option<Answers> {
        let wave = 1.0 + (at_ms as f64 / 20_000.0).sin() * 0.15;
        let hot = instance.service == "lottery";
        let p50_ms = 2.0 + 20.0 * steady(&instance.service, 4);
        Some(Answers {
            rps: 40.0 * wave * (0.5 + steady(&instance.name, 5)),
            failed: if steady(&instance.name, 6) > 0.995 { 0.04 } else { 0.0002 },
            rejected: if hot { 0.03 } else { 0.0 },
            p50_ms,
            p99_ms: p50_ms * (4.0 + 4.0 * steady(&instance.name, 8)),
        })
    }
}

/// Begin and end of the planned crowd: in two hours, for half an hour.
pub fn hours() -> (String, String) {
    let at = unix_ms();
    (model::time::rfc3339(at + 7_200_000), model::time::rfc3339(at + 9_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_shown_by_its_own_colour_or_a_newer_one() {
        let level = |at: u64| (at / 1_000 % 8) as usize;
        let said = [1_000, 2_000, 3_000, 4_000];
        let seen = [(1, 1_400.0), (3, 3_300.0)].map(|(level, at_ms)| Seen { level, at_ms });
        // The second sample was never seen itself: the third, which came after it, counts. The last is out of the window.
        assert_eq!(delays(&said, level, &seen, 500.0, 3_500.0), [400.0, 1_300.0, 300.0]);
        assert_eq!(delays(&said, level, &seen[..1], 1_500.0, 2_500.0), [f64::INFINITY]);
    }
}
