//! The shim alone, as an agent would start it: logs, orphans, refusals, and what it weighs.

use shim::spec::{ExitRecord, LOG_FILE, PidRecord, Spec, VERSION};
use std::process::Command;
use std::time::{Duration, Instant};

/// Most memory of a shim's own, in KiB (ADR 4).
const OWN_KIB_MAX: u64 = 2 << 10;

/// A line of `/proc/<pid>/status`, in KiB.
fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn run_shim(dir: &std::path::Path, script: &str) -> std::process::Child {
    let spec = Spec {
        version: VERSION,
        run: 7,
        instance: "fixture-1".into(),
        restarts: 0,
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        variables: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        work: dir.to_owned(),
        user: None,
        join: vec![],
        leave: vec![],
        slice: None,
        log_bytes_max: 10_000,
        log_files_max: 3,
    };
    std::fs::write(dir.join("spec.json"), serde_json::to_vec(&spec).expect("plain")).expect("temp");
    Command::new(env!("CARGO_BIN_EXE_springtide-shim")).arg(dir).spawn().expect("built")
}

fn record<T: serde::de::DeserializeOwned>(dir: &std::path::Path, file: &str) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(record) = shim::spec::read(dir, file).expect("whole or absent") {
            return record;
        }
        assert!(Instant::now() < until, "no {file}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn logs_are_rotated_bounded_and_never_block() {
    let dir = tempfile::tempdir().expect("temp");
    // More than the pipe holds, so that a shim that comes late has to read several times.
    let script = "head -c 400000 /dev/zero; i=0; while [ $i -lt 5000 ]; do echo \"line $i\"; i=$((i+1)); done; exit 5";
    let mut shim = run_shim(dir.path(), script);
    let exit: ExitRecord = record(dir.path(), "exit.json");
    assert!(shim.wait().expect("ours").success());
    assert_eq!((exit.run, exit.code, exit.signal), (7, Some(5), None));
    let path = dir.path().join(LOG_FILE);
    let files: Vec<std::path::PathBuf> = [0, 1, 2, 3].map(|age| shim::log::rotated(&path, age)).into();
    assert!(!files[3].exists(), "three files at most");
    let texts = files[..3].iter().rev().map(|file| std::fs::read_to_string(file).expect("there"));
    let all: Vec<String> = texts.collect();
    assert!(all.iter().all(|text| text.len() <= 10_000 + 64 * 1024), "bounded");
    assert!(all.concat().ends_with("line 4998\nline 4999\n"), "the newest is kept");
}

#[test]
fn the_shim_reaps_orphans_and_a_second_shim_is_refused() {
    let dir = tempfile::tempdir().expect("temp");
    let mut shim = run_shim(dir.path(), "setsid sh -c 'echo begun; sleep 0.3; echo orphan' & exec sleep 300");
    let pid: PidRecord = record(dir.path(), "pid.json");
    assert_eq!(pid.shim_pid, shim.id());
    let (own, all) = (memory_kib(shim.id(), "RssAnon:"), memory_kib(shim.id(), "VmRSS:"));
    println!("a shim takes {own} KiB of its own, {all} KiB resident");
    assert!(own < OWN_KIB_MAX, "a shim takes {own} KiB of its own; a host runs hundreds of them");
    let second = Command::new(env!("CARGO_BIN_EXE_springtide-shim")).arg(dir.path()).output().expect("built");
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another shim holds"));
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(dir.path().join(LOG_FILE)).is_ok_and(|text| text.contains("begun")) {
        assert!(Instant::now() < until, "no orphan");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-9", &pid.pid.to_string()]).status().expect("kill").success());
    let exit: ExitRecord = record(dir.path(), "exit.json");
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert!(shim.wait().expect("ours").success(), "it ends once its orphans have");
    assert!(std::fs::read_to_string(dir.path().join(LOG_FILE)).expect("there").ends_with("orphan\n"));
}

#[test]
fn a_program_that_cannot_run_and_a_newer_spec_are_told() {
    let dir = tempfile::tempdir().expect("temp");
    let mut shim = run_shim(dir.path(), "true");
    shim.wait().expect("ours");
    let spec = std::fs::read_to_string(dir.path().join("spec.json")).expect("there");
    std::fs::write(dir.path().join("spec.json"), spec.replace("/bin/sh", "/bin/no-such")).expect("temp");
    let shim = || Command::new(env!("CARGO_BIN_EXE_springtide-shim")).arg(dir.path()).output().expect("built");
    shim();
    let exit: ExitRecord = record(dir.path(), "exit.json");
    assert!(exit.describe().starts_with("cannot run /bin/no-such in "), "{}", exit.describe());
    std::fs::write(dir.path().join("spec.json"), spec.replace("\"version\":1", "\"version\":2")).expect("temp");
    let refused = shim();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has version 2, this binary knows 1"));
}
