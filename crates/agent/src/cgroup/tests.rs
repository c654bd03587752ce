//! Against this machine's real hierarchies where we may write, and against a folder tree for the other version's paths.

use super::detect::Hierarchy;
use super::tests_support::{limits, real};
use super::*;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Dies with the test, however that ends.
struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        let _dead_already = (self.0.kill(), self.0.wait());
    }
}

fn join(slice: &Slice, child: &Child) {
    for file in slice.join_files() {
        fs::write(file, child.id().to_string()).expect("a cgroup of ours takes our child");
    }
}

/// A throttled process on a CPU that stands still dies later than the slice waits for.
fn kill(slice: &Slice) {
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(error) = slice.kill() {
        assert!(Instant::now() < until, "{error}");
    }
}

#[test]
fn a_slice_lives_limits_measures_and_dies() {
    let tree = real("life");
    let slice = tree.slice("one");
    slice.create(&limits()).expect("made");
    slice.create(&limits()).expect("made again is found");
    assert!(tree.existing().contains("one"));
    let mut child = Command::new("sh")
        .args(["-c", "read go; while :; do :; done"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .map(Ours)
        .expect("sh");
    join(&slice, &child.0);
    drop(child.0.stdin.take());
    assert_eq!(slice.processes(), [child.0.id()].into());
    let meter = Meter::open(&slice);
    let until = Instant::now() + Duration::from_secs(5);
    let mut usage = meter.read().expect("it exists");
    // The time of a throttled period is counted at its end.
    while (usage.cpu_usage_us == 0 || usage.throttled_us == 0) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        usage = meter.read().expect("it exists");
    }
    assert!(usage.cpu_usage_us > 0 && usage.throttled_periods > 0 && usage.throttled_us > 0, "{usage:?}");
    assert_eq!(usage.pids, 1);
    kill(&slice);
    child.0.wait().expect("ours");
    slice.remove().expect("removed");
    assert!(!slice.exists() && meter.read().is_err());
    tree.close();
    assert!(tree.branches.iter().all(|branch| !branch.folder.exists()));
}

#[test]
fn a_frozen_slice_uses_no_cpu_and_can_still_be_killed() {
    let tree = real("freeze");
    let slice = tree.slice("one");
    slice.create(&limits()).expect("made");
    let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().map(Ours).expect("sh");
    join(&slice, &child.0);
    slice.freeze(true).expect("frozen");
    let meter = Meter::open(&slice);
    let still = || {
        let before = meter.read().expect("there").cpu_usage_us;
        std::thread::sleep(Duration::from_millis(20));
        meter.read().expect("there").cpu_usage_us == before
    };
    let until = Instant::now() + Duration::from_secs(5);
    while !still() {
        assert!(Instant::now() < until, "it went on using CPU");
    }
    kill(&slice);
    child.0.wait().expect("ours");
    slice.remove().expect("removed");
    tree.close();
}

#[test]
fn neighbours_come_and_go_without_disturbing_each_other() {
    let root = format!("springtide-test/neighbours-{}", std::process::id());
    let come_and_go = |name: &str| {
        for _ in 0..30 {
            Tree::open(&format!("{root}/{name}")).expect("whatever the neighbour does").close();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| come_and_go("a"));
        scope.spawn(|| come_and_go("b"));
    });
}

fn folder_v2(dir: &Path) -> Found {
    let controllers: BTreeSet<_> = [Controller::Cpu, Controller::Memory, Controller::Pids].into();
    let hierarchy =
        Hierarchy { version: Version::Two, controllers, mount: dir.to_owned(), own: dir.join("own.service") };
    Found { layout: Layout::V2, hierarchies: vec![hierarchy] }
}

#[test]
fn v2_passes_controllers_down_to_leaves() {
    let dir = tempfile::tempdir().expect("temp");
    for folder in ["", "springtide", "springtide/a"] {
        fs::create_dir_all(dir.path().join(folder)).expect("temp");
        fs::write(dir.path().join(folder).join("cgroup.subtree_control"), "cpu\n").expect("temp");
    }
    let tree = Tree::build(folder_v2(dir.path()), "springtide/a").expect("built");
    for folder in ["", "springtide", "springtide/a"] {
        let text = fs::read_to_string(dir.path().join(folder).join("cgroup.subtree_control")).expect("there");
        assert_eq!(text, "+memory +pids");
    }
    let slice = tree.slice("lottery-1");
    slice.create(&limits()).expect("made");
    let read = |file: &str| fs::read_to_string(dir.path().join("springtide/a/lottery-1").join(file)).expect(file);
    assert_eq!(read("cpu.max"), "5000 100000");
    assert_eq!(read("cpu.weight"), "5");
    assert_eq!(read("memory.max"), (64 << 20).to_string());
    assert_eq!(read("pids.max"), "20");
    assert_eq!(slice.join_files(), [dir.path().join("springtide/a/lottery-1/cgroup.procs")]);
    assert!(!dir.path().join("springtide/a/lottery-1/cgroup.subtree_control").exists(), "a leaf stays a leaf");
}

#[test]
fn what_to_grant_is_said() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("temp");
    let error = Tree::build(folder_v2(&file), "springtide/a").expect_err("a file is no folder");
    // Not a matter of permission: no grant would help.
    assert!(error.to_string().contains("--cgroup-root") && !error.to_string().contains("Delegate"), "{error}");
}

#[test]
fn every_layout_is_read_to_the_same_numbers() {
    let pressures = (Some(11), Some(12), Some(13), Some(14));
    for (layout, has_pressure, has_io) in
        [(Layout::V1, false, false), (Layout::Hybrid, true, false), (Layout::V2, true, true)]
    {
        let dir = tempfile::tempdir().expect("temp");
        let meter = Meter::open(&tests_support::slice(dir.path(), layout));
        let usage = meter.read().expect("files are there");
        let golden =
            (usage.cpu_usage_us, usage.throttled_us, usage.throttled_periods, usage.periods, usage.memory_bytes);
        assert_eq!(golden, (77, 5, 3, 9, 4_096), "{layout:?}");
        assert_eq!((usage.pids, usage.oom_kills), (6, 4), "{layout:?}");
        let read = (
            usage.cpu_pressure_us,
            usage.cpu_pressure_full_us,
            usage.memory_pressure_us,
            usage.memory_pressure_full_us,
        );
        assert_eq!(read, if has_pressure { pressures } else { Default::default() }, "{layout:?}");
        let rest = meter.read_rest(&mut crate::held::buffer());
        let memory = (rest.memory_file_bytes, rest.memory_anon_bytes, rest.memory_peak_bytes);
        assert_eq!(memory, (Some(2_048), Some(1_024), Some(8_192)), "{layout:?}");
        assert_eq!(rest.io_pressure_us.zip(rest.io_pressure_full_us), has_pressure.then_some((15, 16)), "{layout:?}");
        let io = Io { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
        assert_eq!(rest.io, has_io.then_some(io), "{layout:?}");
    }
}
