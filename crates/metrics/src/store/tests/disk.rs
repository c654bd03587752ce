//! Restarts, damage and a full disk.

use super::*;

fn open(folder: &Path) -> Store {
    Store::open(folder, Limits::default()).expect("opens")
}

fn files(folder: &Path, part: &str) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").path());
    let mut some: Vec<_> = all.filter(|path| path.display().to_string().contains(part)).collect();
    some.sort();
    some
}

#[test]
fn a_restart_at_any_minute_loses_nothing_that_was_flushed() {
    let disk = SmallDisk::mount(64 << 20);
    let folder = disk.path();
    let mut begin = START;
    // Before any seal, between snapshots, just before an hour's end, after it, and long after.
    for minutes in [1, 17, 59, 63, 130] {
        let store = open(folder);
        fill(&store, begin, START + minutes * MINUTE);
        store.flush();
        begin = START + minutes * MINUTE;
        assert_filled(&store, START, begin);
        drop(store);
        assert_filled(&open(folder), START, begin);
    }
    let store = open(folder);
    assert_eq!(files(folder, ".new").len(), 0);
    assert!(about(&store, "springtide_store_blocks") >= 2);
    assert_eq!(about(&store, "springtide_store_damaged_blocks"), 0);
    let series = store.select(&[Matcher::new("instance", Op::Regex, "i-[34]")], START, START + MINUTE).expect("few");
    assert_eq!(series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [7, 7]);
}

#[test]
fn hours_leave_memory_and_then_the_disk() {
    let disk = SmallDisk::mount(64 << 20);
    let folder = disk.path();
    let limits = Limits { memory_ms: HOUR_MS, disk_ms: 3 * HOUR_MS, ..Limits::default() };
    let store = Store::open(folder, limits).expect("opens");
    fill(&store, START, START + 4 * HOUR_MS);
    assert_filled(&store, START, START + 4 * HOUR_MS);
    let in_memory = about(&store, "springtide_store_memory_bytes");
    fill(&store, START + 4 * HOUR_MS, START + 9 * HOUR_MS);
    let oldest = read(&store, "up")[0].1[0].0;
    assert!((START + 5 * HOUR_MS..=START + 6 * HOUR_MS).contains(&oldest), "{}", (oldest - START) / MINUTE);
    assert!(about(&store, "springtide_store_memory_bytes") < in_memory * 2, "memory does not grow with time");
    assert!(files(folder, "-").len() < 8, "{:?}", files(folder, "-"));
}

#[test]
fn a_crash_in_the_middle_of_a_frame_costs_that_frame() {
    let disk = SmallDisk::mount(64 << 20);
    let folder = disk.path();
    let store = open(folder);
    fill(&store, START, START + 5 * MINUTE);
    store.flush();
    push(&store, "i-0", START + 5 * MINUTE, 77.0).expect("takes");
    store.flush();
    drop(store);
    let log = files(folder, "wal-").pop().expect("a log");
    let bytes = std::fs::read(&log).expect("reads");
    std::fs::write(&log, &bytes[..bytes.len() - 3]).expect("writes");
    assert_filled(&open(folder), START, START + 5 * MINUTE);
}

#[test]
fn a_damaged_block_costs_what_is_damaged() {
    let disk = SmallDisk::mount(64 << 20);
    let folder = disk.path();
    let store = open(folder);
    fill(&store, START, START + 3 * HOUR_MS + 5 * MINUTE);
    store.flush();
    drop(store);
    let blocks = files(folder, &format!("{}-", START + HOUR_MS));
    let bytes = std::fs::read(&blocks[0]).expect("reads");
    std::fs::write(&blocks[0], &bytes[..bytes.len() - 5]).expect("writes");
    let store = open(folder);
    let counts: Vec<usize> = read(&store, "up").iter().map(|(_, points)| points.len()).collect();
    assert_eq!(counts.iter().filter(|count| **count == 3 * 360 + 30).count(), 9, "{counts:?}");
    assert_eq!(counts.iter().filter(|count| **count == 2 * 360 + 30).count(), 1, "{counts:?}");
    assert_eq!(about(&store, "springtide_store_damaged_blocks"), 1);
    drop(store);
    std::fs::write(&blocks[0], b"rubbish").expect("writes");
    let store = open(folder);
    assert!(read(&store, "up").iter().all(|(_, points)| points.len() == 2 * 360 + 30));
    fill(&store, START + 3 * HOUR_MS + 5 * MINUTE, START + 3 * HOUR_MS + 10 * MINUTE);
}

#[test]
fn a_full_disk_is_said_and_survived_and_left_behind() {
    let disk = SmallDisk::mount(512 << 10);
    let folder = disk.path();
    let store = open(folder);
    fill(&store, START, START + 10 * MINUTE);
    assert_eq!(about(&store, "springtide_store_failing"), 0);
    let hog = folder.join("hog");
    let room = vec![7_u8; 512 << 10];
    assert!(std::fs::write(&hog, &room).is_err(), "the disk is full now");
    fill(&store, START + 10 * MINUTE, START + 70 * MINUTE);
    assert_eq!(about(&store, "springtide_store_failing"), 1);
    assert!(about(&store, "springtide_store_write_failures_total") > 1);
    assert!(about(&store, "springtide_store_unlogged_points_total") > 0);
    assert_filled(&store, START, START + 70 * MINUTE);
    std::fs::remove_file(&hog).expect("makes room");
    fill(&store, START + 70 * MINUTE, START + 80 * MINUTE);
    assert_eq!(about(&store, "springtide_store_failing"), 0);
    assert_filled(&store, START, START + 80 * MINUTE);
    store.flush();
    drop(store);
    assert_filled(&open(folder), START, START + 80 * MINUTE);
    assert!(files(folder, &format!("{START}-")).len() == 1, "the hour was sealed after all");
}

#[test]
fn a_copy_has_what_is_only_in_memory_and_changes_nothing() {
    let (disk, other) = (SmallDisk::mount(64 << 20), SmallDisk::mount(64 << 20));
    let store = open(disk.path());
    assert_eq!(store.copy().expect("copies").span_ms, None, "nothing is there yet");
    // In the first hour, where nothing is sealed yet; and in a later one.
    for (begin, minutes, sealed) in [(0, 7, 0), (7, 130, 2)] {
        fill(&store, START + begin * MINUTE, START + minutes * MINUTE);
        let end = START + minutes * MINUTE;
        let copy = store.copy().expect("copies");
        assert_eq!(copy.span_ms, Some((START, end - 10_000)));
        assert_eq!(copy.files.len(), sealed + 1, "{copy:?}");
        let folder = other.path().join(minutes.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        for (name, mut file) in copy.files {
            let mut to = std::fs::File::create(folder.join(name)).expect("a file");
            std::io::copy(&mut file, &mut to).expect("copied");
        }
        let again = open(&folder);
        assert_filled(&again, START, end);
        assert_filled(&store, START, end);
        fill(&again, end, end + 130 * MINUTE);
        assert_filled(&again, START, end + 130 * MINUTE);
    }
    drop(store);
    assert_filled(&open(disk.path()), START, START + 130 * MINUTE);
}

#[test]
fn a_copy_that_the_disk_does_not_take_is_an_error() {
    let disk = SmallDisk::mount(512 << 10);
    let store = open(disk.path());
    fill(&store, START, START + 10 * MINUTE);
    assert!(std::fs::write(disk.path().join("hog"), vec![7_u8; 512 << 10]).is_err(), "the disk is full now");
    store.copy().expect_err("there is no room");
    std::fs::remove_file(disk.path().join("hog")).expect("makes room");
    store.copy().expect("there is room");
    assert_filled(&store, START, START + 10 * MINUTE);
}
