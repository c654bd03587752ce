//! `detect-nab`: one detector, with parameters frozen here, over NAB's files, scored by NAB's published rule.
//!
//! The rule (Lavin and Ahmad 2015, standard profile): within a labelled window only the earliest detection counts, by a
//! sigmoid of its place; a missed window costs 1; a false detection 0.11 by the same sigmoid of its distance behind the
//! last window, in full beyond three window lengths; the first 15% of a file (of 5,000 rows at most) is probation. The sum
//! is scaled so that a detector that says nothing has 0 and a perfect one 100. NAB itself lets each detector's threshold be
//! optimised on the corpus; ours is fixed.

use anyhow::{Context, Result};
use clap::Parser;
use detect::{SeriesConfig, SeriesDetector};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `detect-nab`.
#[derive(Parser)]
pub struct Args {
    /// Folder with labels.json (windows by file) and the files
    #[arg(long, default_value = "../shared/data/nab")]
    data: PathBuf,
    /// Not used: nothing here is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Frozen, after a coarse search on these files (they are the development set; a score on others may be lower). Rows are
/// five minutes apart: a season is a day, the level half a day, the scale three and a half days.
const FROZEN: SeriesConfig = SeriesConfig {
    warm: 150,
    level: 144.0,
    scale: 1_000.0,
    period: 288,
    risk: 1e-6,
    drift: 1.0,
    shift: 20.0,
    pause: 200,
};

/// Cost of a false detection, standard profile.
const FALSE_WEIGHT: f64 = 0.11;
/// Share of a file that is probation.
const PROBATION: f64 = 0.15;
/// Rows of which that share is taken at most.
const PROBATION_ROWS: f64 = 5_000.0;

struct Rows {
    times: Vec<String>,
    values: Vec<f64>,
}

#[derive(Default)]
struct Score {
    windows: usize,
    found: usize,
    wrong: usize,
    raw: f64,
}

impl Score {
    /// Nothing said is 0, perfect is 100.
    fn scaled(&self) -> f64 {
        let windows = self.windows as f64;
        if self.windows == 0 { f64::NAN } else { 100.0 * (self.raw + windows) / (2.0 * windows) }
    }
}

/// Runs it; there is no floor, the score is the result.
pub fn run(args: &Args) -> Result<bool> {
    let path = args.data.join("labels.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let labels: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).with_context(|| format!("{} is not windows by file", path.display()))?;
    println!("frozen: {FROZEN:?}");
    println!("{:<58} {:>5} {:>7} {:>5} {:>6} {:>8} {:>7}", "file", "rows", "windows", "found", "false", "raw", "score");
    let mut all = Score::default();
    for (file, windows) in &labels {
        let rows = read(&args.data.join(file))?;
        let score = score(&rows, windows, &alarms(&rows.values))?;
        println!(
            "{file:<58} {:>5} {:>7} {:>5} {:>6} {:>8.3} {:>7.1}",
            rows.values.len(),
            score.windows,
            score.found,
            score.wrong,
            score.raw,
            score.scaled()
        );
        all.windows += score.windows;
        all.found += score.found;
        all.wrong += score.wrong;
        all.raw += score.raw;
    }
    println!(
        "anchors, over all of NAB's 58 files with thresholds optimised on them: ARTime 74.9, HTM 70.1, CAD-OSE 69.9, RCF 51.7, windowedGaussian 39.6"
    );
    println!("ours is over {} of these files, so the figures are neighbours, not rivals", labels.len());
    println!(
        "bench detect-nab: files={} windows={} found={} false={} score={:.1}",
        labels.len(),
        all.windows,
        all.found,
        all.wrong,
        all.scaled()
    );
    Ok(true)
}

fn alarms(values: &[f64]) -> Vec<usize> {
    let mut detector = SeriesDetector::new(FROZEN);
    values.iter().enumerate().filter_map(|(at, value)| detector.step(*value).map(|_| at)).collect()
}

fn read(path: &std::path::Path) -> Result<Rows> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows = Rows { times: Vec::new(), values: Vec::new() };
    for (line, row) in text.lines().enumerate().skip(1) {
        let (time, value) =
            row.split_once(',').with_context(|| format!("{}:{}: no comma", path.display(), line + 1))?;
        rows.times.push(time.to_owned());
        rows.values.push(value.trim().parse().unwrap_or(f64::NAN));
    }
    Ok(rows)
}

fn score(rows: &Rows, windows: &[[String; 2]], alarms: &[usize]) -> Result<Score> {
    let place = |time: &str| {
        let time = time.split('.').next().unwrap_or(time);
        rows.times.iter().position(|row| row == time).with_context(|| format!("no row at {time}"))
    };
    let mut places = Vec::new();
    for [from, to] in windows {
        places.push((place(from)?, place(to)?));
    }
    let probation = (PROBATION * (rows.values.len() as f64).min(PROBATION_ROWS)).floor() as usize;
    let counted: Vec<usize> = alarms.iter().copied().filter(|at| *at >= probation).collect();
    let best = sigmoid(-1.0);
    let mut score = Score::default();
    // A window that lies in probation as a whole is not asked for.
    for (from, to) in places.iter().filter(|(_, to)| *to >= probation) {
        score.windows += 1;
        let first = counted.iter().find(|at| (*from..=*to).contains(at));
        let width = (to - from + 1) as f64;
        score.found += usize::from(first.is_some());
        score.raw += first.map_or(-1.0, |at| (sigmoid(-((to - at + 1) as f64) / width) / best).max(-1.0));
    }
    for at in counted.iter().filter(|at| !places.iter().any(|(from, to)| (*from..=*to).contains(at))) {
        let behind = places.iter().rfind(|(_, to)| to < at);
        let distance = behind.map_or(3.0, |(from, to)| (at - to) as f64 / ((to - from) as f64).max(1.0));
        score.wrong += 1;
        score.raw += FALSE_WEIGHT * sigmoid(distance);
    }
    Ok(score)
}

/// 0.987 at the window's left edge, 0 at its right, towards -1 behind it.
fn sigmoid(place: f64) -> f64 {
    if place >= 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Rows {
        Rows { times: (0..count).map(|at| format!("t{at}")).collect(), values: vec![0.0; count] }
    }

    fn window(from: usize, to: usize) -> [String; 2] {
        [format!("t{from}"), format!("t{to}.000000")]
    }

    #[test]
    fn nothing_said_is_0_and_the_first_row_of_each_window_is_100() {
        let (rows, windows) = (rows(1_000), [window(400, 499), window(700, 799)]);
        assert_eq!(score(&rows, &windows, &[]).unwrap().scaled(), 0.0);
        let perfect = score(&rows, &windows, &[400, 450, 700]).unwrap();
        assert!((perfect.scaled() - 100.0).abs() < 1e-9 && perfect.wrong == 0);
    }

    #[test]
    fn false_detections_cost_by_their_distance_and_probation_costs_nothing() {
        let (rows, windows) = (rows(1_000), [window(400, 499)]);
        let raw = |alarms: &[usize]| score(&rows, &windows, alarms).unwrap().raw;
        assert_eq!(raw(&[10, 149]), -1.0);
        assert!((raw(&[200]) + 1.11).abs() < 1e-9);
        assert!(raw(&[501]) > raw(&[560]) && raw(&[560]) > raw(&[999]));
        assert!((raw(&[999]) + 1.11).abs() < 1e-9);
    }
}
