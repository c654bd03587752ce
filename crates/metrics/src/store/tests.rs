//! The store as a whole, in virtual time, with real files.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

mod disk;

const MINUTE: u64 = 60_000;
/// An hour's beginning.
const START: u64 = 472_222 * HOUR_MS;

/// Points of every series of a name, by instance.
fn read(store: &Store, name: &str) -> Vec<(String, Vec<(u64, f64)>)> {
    let found = store.select(&[Matcher::name(name)], 0, u64::MAX).expect("few");
    found.into_iter().map(|series| (series.labels["instance"].clone(), series.points)).collect()
}

fn push(store: &Store, instance: &str, time_ms: u64, value: f64) -> Result<(), Refused> {
    store.append("test", "up", &[("instance", instance)], time_ms, value, time_ms)
}

/// Ten series, a point each 10 s, upkeep and log each minute.
fn fill(store: &Store, from_ms: u64, to_ms: u64) {
    for time_ms in (from_ms..to_ms).step_by(10_000) {
        for n in 0..10_u64 {
            push(store, &format!("i-{n}"), time_ms, ((time_ms / 10_000) * n) as f64).expect("takes");
        }
        if time_ms % MINUTE == 0 {
            store.flush();
        }
        if time_ms % (3 * MINUTE) == 0 {
            store.upkeep(time_ms);
        }
    }
}

/// Every series has exactly the points that [`fill`] wrote.
fn assert_filled(store: &Store, from_ms: u64, to_ms: u64) {
    let found = read(store, "up");
    assert_eq!(found.len(), 10);
    for (n, (instance, points)) in found.iter().enumerate() {
        assert_eq!(*instance, format!("i-{n}"));
        let wanted = (from_ms..to_ms).step_by(10_000).map(|time| (time, ((time / 10_000) * n as u64) as f64));
        let wanted: Vec<_> = wanted.collect();
        let differ = points.iter().zip(&wanted).find(|(got, wanted)| got != wanted);
        assert_eq!((points.len(), differ), (wanted.len(), None), "{instance}");
    }
}

fn about(store: &Store, name: &str) -> u64 {
    store.about().into_iter().find(|line| line.0 == name).map(|line| line.3).expect("it is said")
}

/// A disk of its own in memory: it can be filled, and syncing it costs nothing.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "springtide-test"]).arg(folder.path());
        assert!(mount.status().expect("mount is there").success(), "a small disk needs root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]
    /// Against a naive model: late points within the last eight find their place, others are refused with the reason.
    #[test]
    fn points_in_any_order_are_kept_or_refused(steps in prop::collection::vec((0..30_u64, 0..40_u64, 0..4_u8), 1..900)) {
        let store = Store::in_memory(Limits::default());
        let mut known = std::collections::BTreeMap::<u64, f64>::new();
        let mut newest = START + HOUR_MS - 300_000;
        for (ahead, behind, value) in steps {
            let time = if behind < 8 { newest.saturating_sub(behind * 400) } else { newest + ahead * 1_000 };
            newest = newest.max(time);
            let value = f64::from(value);
            let done = push(&store, "a", time, value);
            let newer = known.range(time + 1..).count();
            match known.get(&time) {
                Some(there) if newer < LATE_POINTS_MAX => {
                    let wanted = if *there == value { Ok(()) } else { Err(Refused::Duplicate) };
                    prop_assert_eq!(done, wanted);
                }
                Some(_) => prop_assert!(!matches!(done, Ok(())) || known[&time] == value),
                None if newer <= LATE_POINTS_MAX => {
                    prop_assert_eq!(done, Ok(()));
                    known.insert(time, value);
                }
                None => if done.is_ok() {
                    known.insert(time, value);
                } else {
                    prop_assert_eq!(done, Err(Refused::OutOfOrder));
                }
            }
        }
        let points = read(&store, "up").remove(0).1;
        prop_assert_eq!(points, known.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn clocks_that_are_off_are_bounded() {
    let store = Store::in_memory(Limits::default());
    let at = |time_ms| store.append("test", "up", &[("instance", "a")], time_ms, 1.0, START);
    assert_eq!(at(START - 4 * HOUR_MS), Err(Refused::TooOld));
    assert_eq!(at(START + 11 * MINUTE), Err(Refused::TooNew));
    assert_eq!((at(START - HOUR_MS), at(START + 9 * MINUTE)), (Ok(()), Ok(())));
    // A clock that runs ahead does not bring the hour to its end for the others.
    store.upkeep(START);
    assert_eq!(store.append("test", "up", &[("instance", "b")], START - MINUTE, 1.0, START), Ok(()));
}

#[test]
fn short_series_leave_nothing_behind() {
    let disk = SmallDisk::mount(256 << 20);
    let limits = Limits { series_max: 10_000, idle_ms_max: 2 * MINUTE, disk_ms: 10 * MINUTE, ..Limits::default() };
    let store = Store::open(disk.path(), limits).expect("opens");
    let (mut number, mut most) = (0_u64, 0);
    let mut at = START;
    // Waves of 4,000 series that live for five minutes, one after another.
    while number < 40_000 {
        for _ in 0..4_000 {
            number += 1;
            let labels = [("instance", format!("pod-{number}")), ("deploy", format!("v{}", number / 4_000))];
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            store.append("", "up", &labels, at, 1.0, at).expect("takes");
        }
        for _ in 0..6 {
            at += MINUTE;
            push(&store, "steady", at, 1.0).expect("takes");
            store.flush();
        }
        store.upkeep(at);
        most = most.max(about(&store, "springtide_store_memory_bytes"));
    }
    assert!(store.series() <= 10_000, "{}", store.series());
    assert!(most < 16 << 20, "{most} bytes at most");
    assert_eq!(about(&store, "springtide_store_lost_points_total"), 0);
    assert_eq!(read(&store, "up").iter().filter(|(instance, _)| instance == "steady").count(), 1);
}

#[test]
fn memory_is_bounded_with_no_disk_at_all() {
    let store = Store::in_memory(Limits { memory_bytes_max: 640 << 10, ..Limits::default() });
    for minute in 0..180 {
        let at = START + minute * MINUTE;
        for n in 0..200_u64 {
            for second in [0, 20, 40] {
                // Noise in every bit costs the most.
                let mixed = (minute * 7_919 + n * 104_729 + second).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let noise = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 12;
                let value = f64::from_bits(0x3ff0_0000_0000_0000 | noise);
                push(&store, &format!("i-{n}"), at + second * 1_000, value).expect("series that exist live on");
            }
        }
        store.upkeep(at + 50_000);
    }
    let bytes = about(&store, "springtide_store_memory_bytes");
    assert!(bytes <= 640 << 10, "{bytes} bytes");
    assert!(about(&store, "springtide_store_lost_points_total") > 0, "the oldest points went, and that is said");
    assert_eq!(read(&store, "up").len(), 200);
    let full = Store::in_memory(Limits { memory_bytes_max: 1 << 10, ..Limits::default() });
    push(&full, "a", START, 1.0).expect("there was room");
    full.upkeep(START);
    assert_eq!(push(&full, "b", START, 1.0), Err(Refused::Memory));
    push(&full, "a", START + 1, 1.0).expect("those that exist live on");
}

#[test]
fn names_and_values_of_labels_are_listed() {
    let store = Store::in_memory(Limits::default());
    for (name, job, at) in [("up", "a", 1), ("up", "b", 2), ("down", "c", 3)] {
        store.append("", name, &[("job", job)], START + at, 1.0, START).expect("takes");
    }
    let values = |label: &str, matchers: &[Matcher], from: u64| {
        store.label_values(label, matchers, START + from, START + 9).expect("few")
    };
    assert_eq!(values("job", &[], 0), ["a", "b", "c"]);
    assert_eq!(values("job", &[Matcher::name("up")], 2), ["b"]);
    assert_eq!(values(NAME, &[], 0), ["down", "up"]);
    assert_eq!(store.label_names(&[], START, START + 9).expect("few"), [NAME, "job"]);
    assert_eq!(store.label_names(&[], 0, START - 1).expect("few"), Vec::<String>::new());
    let error = store.select(&[Matcher::new("job", Op::Regex, "a(")], 0, START).expect_err("no expression");
    assert!(error.to_string().starts_with("regular expression \"a(\" of label job: "), "{error}");
}
