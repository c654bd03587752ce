//! Whatever becomes of the agent or the server, instances run on.

use crate::agent::{Agent, ask, assignment, bring_up, url};
use crate::fleet::{FakeFleet, Listener};
use api::fleet::{Assignments, Phase};
use std::time::{Duration, Instant};

#[tokio::test]
async fn killed_and_started_again_it_readopts_at_once() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let mut assignments = Vec::new();
    let mut pids = Vec::new();
    for number in 1..=8_u64 {
        let one = assignment(&listener, &format!("fixture-{number}"));
        pids.push(bring_up(&listener, &one, number).await);
        assignments.push(one);
    }
    let mut least = Duration::MAX;
    for round in 2..=4 {
        agent.kill();
        for one in &assignments {
            ask(one, "/healthz").await;
        }
        let began = Instant::now();
        agent.start();
        let hello = listener.fleet.connected(round).await;
        let took = began.elapsed();
        println!("readopted {} instances in {took:?}, agent {} KiB", pids.len(), agent.resident_kib());
        least = least.min(took);
        assert_eq!(hello.revision, 8);
        let found: Vec<u32> = hello.instances.iter().map(|report| report.pid).collect();
        assert_eq!(found, pids);
        let well = |r: &api::fleet::InstanceReport| r.adopted && r.phase() == Phase::Healthy && r.restarts == 0;
        assert!(hello.instances.iter().all(well), "{:#?}", hello.instances);
    }
    assert!(least < Duration::from_secs(2), "readopted in {least:?} at best");
    listener.fleet.set(9, vec![], &["fixture-1"]).await;
    assert_eq!(
        listener.fleet.phase("fixture-1", Phase::Stopped).await.exit_code,
        Some(-15),
        "an adopted one stops well"
    );
    agent.end();
}

#[tokio::test]
async fn killed_while_an_instance_starts_it_is_neither_lost_nor_doubled() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    listener.fleet.set(1, vec![assignment(&listener, "warm-up-1")], &[]).await;
    listener.fleet.phase("warm-up-1", Phase::Healthy).await;
    for number in 1..=6_u64 {
        let name = format!("fixture-{number}");
        let one = assignment(&listener, &name);
        listener.fleet.set(number + 1, vec![one.clone()], &[]).await;
        listener.fleet.report(&name, "at all", |_| true).await;
        // A little later each time, from before the shim to after the first health.
        tokio::time::sleep(Duration::from_millis(number * 8)).await;
        agent.kill();
        agent.start();
        listener.fleet.connected(usize::try_from(number).expect("small") + 1).await;
        let report = listener.fleet.phase(&name, Phase::Healthy).await;
        let slice = agent.slices().into_iter().find(|path| path.ends_with(&name)).expect("there");
        let processes = std::fs::read_to_string(slice.join("cgroup.procs")).expect("there");
        assert_eq!(processes.trim(), report.pid.to_string());
        assert!(ask(&one, "/status").await.contains(&format!("Pid:\t{}\n", report.pid)));
    }
    agent.end();
}

#[tokio::test]
async fn without_a_server_all_runs_on_and_crashes_are_mended() {
    let listener = Listener::start_on(testkit::address(), FakeFleet::default()).await;
    let mut agent = Agent::started(&listener).await;
    let (one, two) = (assignment(&listener, "fixture-1"), assignment(&listener, "fixture-2"));
    let pid = bring_up(&listener, &one, 1).await;
    bring_up(&listener, &two, 2).await;
    let address = listener.address;
    let fleet = listener.stop().await;
    agent.kill();
    let _it_ends = reqwest::get(url(&two, "/exit?7")).await;
    agent.start();
    let until = Instant::now() + Duration::from_secs(15);
    while reqwest::get(url(&two, "/healthz")).await.is_err() {
        assert!(Instant::now() < until, "not started again: {}", agent.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ask(&one, "/status").await.contains(&format!("Pid:\t{pid}\n")));
    // The server comes back, empty as if its store had been lost: nobody believes it.
    let fresh = FakeFleet::default();
    fresh.seen().snapshot = Some(Assignments { revision: 0, snapshot: true, ..Default::default() });
    drop(fleet);
    let listener = Listener::start_on(address, fresh).await;
    let hello = listener.fleet.connected(1).await;
    let crashed = hello.instances.iter().find(|report| report.instance == "fixture-2").expect("reported");
    assert_eq!(crashed.restarts, 1);
    listener.fleet.log(1, "fixture-1", 1, false).await;
    listener
        .fleet
        .until("an answer after the snapshot", |seen| seen.logs.get(&1).filter(|log| log.1).map(|_| ()))
        .await;
    ask(&one, "/healthz").await;
    // A later empty one is meant.
    listener.fleet.snapshot(3, vec![]).await;
    listener.fleet.phase("fixture-1", Phase::Stopped).await;
    listener.fleet.phase("fixture-2", Phase::Stopped).await;
    agent.end();
}

#[tokio::test]
async fn with_its_state_lost_it_still_finds_what_runs() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let pid = bring_up(&listener, &assignment(&listener, "fixture-1"), 1).await;
    agent.kill();
    std::fs::write(agent.data().join("assignments.json"), "{").expect("ours");
    agent.start();
    let hello = listener.fleet.connected(2).await;
    assert_eq!((hello.instances[0].pid, hello.instances[0].adopted, hello.revision), (pid, true, 0));
    agent.end();
}

#[tokio::test]
async fn asked_to_end_the_agent_leaves_its_instances() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    agent.terminate();
    assert!(ask(&one, "/status").await.contains(&format!("Pid:\t{pid}\n")));
    agent.end();
}

#[tokio::test]
async fn a_killed_shim_is_told_and_its_instance_runs_on() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    let shim = shim_of(&agent, "fixture-1");
    kill(shim);
    let gone = |r: &api::fleet::InstanceReport| r.message.contains("its shim is gone") && r.phase() == Phase::Healthy;
    assert_eq!(listener.fleet.report("fixture-1", "without its shim", gone).await.pid, pid, "it runs on");
    ask(&one, "/healthz").await;
    // A pipe that nobody reads would end it at its first line, or stop it when full; and what it says is kept.
    ask(&one, "/log?9000").await;
    let path = agent.data().join("instances/fixture-1/logs/output.log");
    let kept = |line: &str| {
        let (path, line) = (path.clone(), line.to_owned());
        move || std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&line))
    };
    until("the last line", kept("line 00008999")).await;
    // The next agent finds the same.
    agent.kill();
    listener.fleet.seen().reports.clear();
    agent.start();
    listener.fleet.connected(2).await;
    let hello = listener.fleet.until("a report", |seen| seen.reports.iter().find(|r| gone(r)).cloned()).await;
    assert_eq!((hello.pid, hello.adopted), (pid, true));
    ask(&one, "/log?9900").await;
    until("the last line", kept("line 00009899")).await;
    // Started anew, it has a shim again and nothing to say.
    kill(pid);
    let again = |r: &api::fleet::InstanceReport| r.restarts == 1 && r.phase() == Phase::Healthy;
    let report = listener.fleet.report("fixture-1", "restarted", again).await;
    assert_eq!(report.message, "");
    assert_ne!(shim_of(&agent, "fixture-1"), shim);
    agent.end();
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let late = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < late, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.expect("kill exists").success());
}

/// The shim of an instance, as it wrote itself down.
fn shim_of(agent: &Agent, instance: &str) -> u32 {
    let path = agent.data().join("instances").join(instance).join("pid.json");
    let text = std::fs::read_to_string(&path).expect("it runs");
    let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    u32::try_from(record["shim_pid"].as_u64().expect("a pid")).expect("a pid")
}

#[tokio::test]
async fn assignments_that_a_full_disk_refused_are_saved_once_it_takes_them() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    // A folder in its place refuses the file, as a full disk would.
    let file = agent.data().join("assignments.json");
    std::fs::create_dir(&file).expect("nothing is assigned yet");
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    assert!(agent.log().contains("cannot keep the assignments"), "{}", agent.log());
    std::fs::remove_dir(&file).expect("it is empty");
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("fixture-1")) {
        assert!(Instant::now() < until, "not saved again: {}", agent.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.kill();
    agent.start();
    let hello = listener.fleet.connected(2).await;
    assert_eq!((hello.revision, hello.instances.len(), hello.instances[0].pid), (1, 1, pid));
    agent.end();
}
