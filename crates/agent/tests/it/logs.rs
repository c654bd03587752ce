//! Logs: kept by the shim, bounded, read over the stream.

use crate::agent::{Agent, ask, assignment, bring_up, resident_kib};
use crate::fleet::{Listener, Seen};
use agent::shim::spec::{ExitRecord, LOG_FILE, PidRecord, Spec, VERSION};
use std::process::Command;
use std::time::{Duration, Instant};

#[tokio::test]
async fn tail_then_follow_across_an_agent_that_dies() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    bring_up(&listener, &one, 1).await;
    ask(&one, "/log?100").await;
    written(&agent, "line 00000099\n").await;
    let text = |id: u64| {
        move |seen: &Seen| {
            seen.logs.get(&id).map(|log| (String::from_utf8_lossy(&log.0).into_owned(), log.1, log.2.clone()))
        }
    };
    let ended = |id: u64| move |seen: &Seen| text(id)(seen).filter(|log| log.1);
    listener.fleet.log(1, "fixture-1", 2, false).await;
    let (tail, _, error) = listener.fleet.until("a tail", ended(1)).await;
    assert_eq!((tail.as_str(), error.as_str()), ("line 00000098\nline 00000099\n", ""));
    listener.fleet.log(2, "fixture-1", 0, false).await;
    let (whole, _, _) = listener.fleet.until("everything", ended(2)).await;
    assert!(whole.starts_with("fixture starts for fixture-1\nfixture has an error stream\nline 00000000\n"), "{whole}");

    agent.kill();
    ask(&one, "/log?3").await;
    written(&agent, "line 00000099\nline 00000000\nline 00000001\nline 00000002\n").await;
    agent.start();
    listener.fleet.connected(2).await;
    listener.fleet.log(3, "fixture-1", 4, true).await;
    let has =
        |lines: usize| move |seen: &Seen| text(3)(seen).filter(|log| log.0.lines().count() == lines).map(|log| log.0);
    let tail = listener.fleet.until("what was written without an agent", has(4)).await;
    assert!(tail.starts_with("line 00000099\nline 00000000\n"), "{tail}");
    ask(&one, "/log?5000").await;
    listener.fleet.until("what comes", has(5_004)).await;
    // Following ends with the instance.
    listener.fleet.set(2, vec![], &["fixture-1"]).await;
    listener.fleet.until("the end", ended(3)).await;
    // Its log stays for a while.
    listener.fleet.log(4, "fixture-1", 1, false).await;
    assert_eq!(listener.fleet.until("the last words", ended(4)).await.0, "line 00004999\n");
    listener.fleet.log(5, "../../etc", 1, false).await;
    assert!(listener.fleet.until("a refusal", ended(5)).await.2.contains("no instance"));
    agent.end();
}

/// Waits until the shim has written what the instance said: it answers before its last words have arrived.
async fn written(agent: &Agent, end: &str) {
    let path = agent.data().join("instances/fixture-1").join(LOG_FILE);
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&path).unwrap_or_default().ends_with(end) {
        assert!(Instant::now() < until, "never written: {end}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The shim alone, as an agent would start it.
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
    Command::new(env!("CARGO_BIN_EXE_springtide-agent")).arg("shim").arg(dir).spawn().expect("built")
}

fn record<T: serde::de::DeserializeOwned>(dir: &std::path::Path, file: &str) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(record) = agent::shim::spec::read(dir, file).expect("whole or absent") {
            return record;
        }
        assert!(Instant::now() < until, "no {file}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn logs_are_rotated_bounded_and_never_block() {
    let dir = tempfile::tempdir().expect("temp");
    let script = "i=0; while [ $i -lt 5000 ]; do echo \"line $i\"; i=$((i+1)); done; exit 5";
    let mut shim = run_shim(dir.path(), script);
    let exit: ExitRecord = record(dir.path(), "exit.json");
    assert!(shim.wait().expect("ours").success());
    assert_eq!((exit.run, exit.code, exit.signal), (7, Some(5), None));
    let path = dir.path().join(LOG_FILE);
    let files: Vec<std::path::PathBuf> = [0, 1, 2, 3].map(|age| agent::shim::log::rotated(&path, age)).into();
    assert!(!files[3].exists(), "three files at most");
    let texts = files[..3].iter().rev().map(|file| std::fs::read_to_string(file).expect("there"));
    let all: Vec<String> = texts.collect();
    assert!(all.iter().all(|text| text.len() <= 10_000 + 64 * 1024), "bounded");
    assert!(all.concat().ends_with("line 4998\nline 4999\n"), "the newest is kept");
}

#[test]
fn the_shim_reaps_orphans_and_a_second_shim_is_refused() {
    let dir = tempfile::tempdir().expect("temp");
    let mut shim = run_shim(dir.path(), "setsid sh -c 'sleep 0.3; echo orphan' & exec sleep 300");
    let pid: PidRecord = record(dir.path(), "pid.json");
    assert_eq!(pid.shim_pid, shim.id());
    let kib = resident_kib(shim.id());
    println!("a shim takes {kib} KiB");
    assert!(kib < 16 << 10, "a shim takes {kib} KiB");
    let second =
        Command::new(env!("CARGO_BIN_EXE_springtide-agent")).arg("shim").arg(dir.path()).output().expect("built");
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another shim holds"));
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
    let shim =
        || Command::new(env!("CARGO_BIN_EXE_springtide-agent")).arg("shim").arg(dir.path()).output().expect("built");
    shim();
    let exit: ExitRecord = record(dir.path(), "exit.json");
    assert!(exit.describe().starts_with("cannot run /bin/no-such in "), "{}", exit.describe());
    std::fs::write(dir.path().join("spec.json"), spec.replace("\"version\":1", "\"version\":2")).expect("temp");
    let refused = shim();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has version 2, this binary knows 1"));
}
