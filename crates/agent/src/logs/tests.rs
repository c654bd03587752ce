//! Tails and turns.

use super::*;
use shim::log::RotatingLog;

fn drain(follower: &mut Follower) -> String {
    let mut all = Vec::new();
    loop {
        let chunk = follower.next_chunk().expect("readable");
        if chunk.is_empty() {
            return String::from_utf8(all).expect("text");
        }
        all.extend(chunk);
    }
}

#[test]
fn the_last_lines_are_counted_across_rotated_files() {
    let dir = tempfile::tempdir().expect("temp");
    let path = dir.path().join("output.log");
    let mut log = RotatingLog::new(path.clone(), 40, 4);
    for line in 0..12 {
        log.append(format!("line {line:04}\n").as_bytes());
    }
    for lines in 1..=12 {
        let wanted: String = (12 - lines..12).map(|line| format!("line {line:04}\n")).collect();
        let mut follower = Follower::open(path.clone(), lines).expect("there");
        assert_eq!(drain(&mut follower), wanted, "{lines} lines");
    }
    let mut all = Follower::open(path.clone(), 0).expect("there");
    assert_eq!(drain(&mut all).lines().count(), 12);
    log.append(b"unfinished");
    let mut follower = Follower::open(path, 2).expect("there");
    assert_eq!(drain(&mut follower), "line 0011\nunfinished");
}

#[test]
fn following_misses_nothing_when_the_file_turns_over() {
    let dir = tempfile::tempdir().expect("temp");
    let path = dir.path().join("output.log");
    let mut follower = Follower::open(path.clone(), 5).expect("an absent log is an empty one");
    assert_eq!(drain(&mut follower), "");
    let mut log = RotatingLog::new(path, 50, 3);
    let mut seen = String::new();
    for line in 0..40 {
        log.append(format!("line {line:04}\n").as_bytes());
        if line % 3 == 0 {
            seen.push_str(&drain(&mut follower));
        }
    }
    seen.push_str(&drain(&mut follower));
    let wanted: String = (0..40).map(|line| format!("line {line:04}\n")).collect();
    assert_eq!(seen, wanted);
}
