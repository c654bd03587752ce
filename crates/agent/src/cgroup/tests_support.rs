//! This machine's real slices, and folders with files such as the kernel writes them, for tests of what reads them.

use super::slice::Part;
use super::*;

/// A tree of this process's own in the real hierarchies.
pub(crate) fn real(name: &str) -> Tree {
    Tree::open(&format!("springtide-test/{name}-{}", std::process::id()))
        .expect("the tests run where cgroups can be made")
}

/// Of a small slice.
pub(crate) fn limits() -> Limits {
    // So little CPU that the quota binds on a busy machine too.
    Limits { cpu_millis: 50, memory_bytes: 64 << 20, pids_max: 20 }
}

/// Files of a slice on v2, with the figures that tests look for.
const V2: [(&str, &str); 10] = [
    ("cpu.stat", "usage_usec 77\nuser_usec 70\nsystem_usec 7\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n"),
    ("memory.current", "4096\n"),
    ("memory.events", "low 0\nhigh 0\nmax 3\noom 4\noom_kill 4\noom_group_kill 0\n"),
    ("pids.current", "6\n"),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n",
    ),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=13\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=14\n",
    ),
    ("memory.stat", "anon 1024\nfile 2048\nkernel 99\nfile_mapped 7\n"),
    ("memory.peak", "8192\n"),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=15\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=16\n",
    ),
    ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
];

/// Files of the same slice on v1, in one folder (their names do not collide but for `cpu.stat`, which is v1's).
const V1: [(&str, &str); 7] = [
    ("cpuacct.usage", "77000\n"),
    ("cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 5000\nnr_bursts 0\n"),
    ("memory.usage_in_bytes", "4096\n"),
    ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
    ("memory.stat", "cache 1\nrss 2\ntotal_cache 2048\ntotal_rss 1024\ntotal_rss_huge 0\n"),
    ("memory.max_usage_in_bytes", "8192\n"),
    ("pids.current", "6\n"),
];

/// A slice of a layout, in a folder.
pub(crate) fn slice(folder: &Path, layout: Layout) -> Slice {
    let part = |below: &str, version, controllers: &[Controller], files: &[(&str, &str)]| {
        let folder = folder.join(below);
        fs::create_dir_all(&folder).expect("temp");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("temp");
        }
        Part { version, controllers: controllers.iter().copied().collect(), folder }
    };
    let v1 = [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids, Controller::Freezer];
    let v2 = [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io];
    let pressure: Vec<_> = V2.into_iter().filter(|(name, _)| name.ends_with(".pressure")).collect();
    let parts = match layout {
        Layout::V1 => vec![part("one", Version::One, &v1, &V1)],
        Layout::Hybrid => vec![part("one", Version::One, &v1, &V1), part("two", Version::Two, &[], &pressure)],
        Layout::V2 => vec![part("", Version::Two, &v2, &V2)],
    };
    Slice { parts }
}

/// The meter of a slice on v2.
pub(crate) fn meter(folder: &Path) -> Meter {
    Meter::open(&slice(folder, Layout::V2))
}
