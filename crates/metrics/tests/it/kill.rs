//! kill -9 in the middle of writing: at most the points of the last seconds are gone.

use metrics::store::{HOUR_MS, Keeper, LOG_SYNC_MS, Limits};
use metrics::{Matcher, Store};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FOLDER: &str = "SPRINGTIDE_TEST_STORE";
const SERIES: u64 = 200;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("past 1970").as_millis() as u64
}

/// What the child does: a point for each series again and again, and a line after each round that says its number.
fn write_for_ever(folder: &Path) {
    let store = Arc::new(Store::open(folder, Limits::default()).expect("opens"));
    let _keeper = Keeper::start(store.clone()).expect("starts");
    let begin = now_ms() - HOUR_MS / 2;
    for round in 0_u64.. {
        for n in 0..SERIES {
            let instance = n.to_string();
            let at = begin + round * 10;
            store.append("", "round", &[("instance", &instance)], at, round as f64, now_ms()).expect("takes");
        }
        println!("round {round} {}", now_ms());
        std::io::stdout().flush().expect("the parent reads");
        // The pace of the writer, nothing waits for it.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_kill_loses_at_most_the_last_seconds() {
    if let Ok(folder) = std::env::var(FOLDER) {
        write_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "kill::a_kill_loses_at_most_the_last_seconds", "--nocapture"]);
    let mut child = child.env(FOLDER, folder.path()).stdout(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let rounds = lines.map_while(Result::ok).filter_map(|line| {
        let (round, at) = line.strip_prefix("round ")?.split_once(' ')?;
        Some((round.parse::<u64>().ok()?, at.parse::<u64>().ok()?))
    });
    let (mut told, mut first) = (Vec::new(), None);
    for (round, at) in rounds {
        told.push((round, at));
        if at - *first.get_or_insert(at) > 8 * LOG_SYNC_MS {
            break;
        }
    }
    child.kill().expect("lives");
    let killed = now_ms();
    child.wait().expect("ends");
    let store = Store::open(folder.path(), Limits::default()).expect("opens after the kill");
    let found = store.select(&[Matcher::name("round")], 0, u64::MAX).expect("few");
    assert_eq!(found.len() as u64, SERIES);
    // Twice the time between two syncs, as the writer may have been about to; thrice that on a machine that stands still at times.
    let safe = told.iter().rev().find(|(_, at)| at + 6 * LOG_SYNC_MS < killed).expect("written for long enough").0;
    for series in &found {
        let values: Vec<u64> = series.points.iter().map(|(_, value)| *value as u64).collect();
        assert!(values.last().is_some_and(|last| *last >= safe), "{:?} lost more than the last seconds", values.last());
        assert!(values.iter().enumerate().all(|(at, value)| at as u64 == *value), "no hole before the end");
    }
}
