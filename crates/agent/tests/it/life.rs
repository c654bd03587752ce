//! An instance's life: started, well, sampled, ill, crashed, stopped.

use crate::agent::{Agent, ask, assignment, bring_up, url};
use crate::fleet::Listener;
use api::fleet::{Assignment, FastSampling, Intent, Phase, agent_down};

#[tokio::test]
async fn from_assignment_to_healthy_samples_and_gone() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let hello = listener.fleet.connected(1).await;
    assert!(hello.isolation.starts_with("cgroup-") && hello.cpu_millis > 0 && hello.instances.is_empty());
    // So little CPU that the quota binds on a busy machine too.
    let one = Assignment { cpu_millis: 100, ..assignment(&listener, "fixture-1") };
    let pid = bring_up(&listener, &one, 1).await;
    let folders = agent.slices().iter().filter(|path| path.ends_with("fixture-1")).count();
    let expected = if hello.isolation == "cgroup-v2" { 1 } else { 6 };
    assert_eq!(folders, expected, "one folder in each hierarchy of ours");

    let status = ask(&one, "/status").await;
    assert!(status.contains(&format!("Pid:\t{pid}")), "the reported pid is the instance's");
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "unprivileged: {status}");
    assert!(status.contains("Groups:\t \n") || status.contains("Groups:\t\n"), "no groups of root's: {status}");
    assert_eq!(ask(&one, "/oom-score").await.trim(), "0");
    let variables = ask(&one, "/variables").await;
    for line in ["SPRINGTIDE_INSTANCE=fixture-1", "SPRINGTIDE_DATACENTER=dc1", "SPRINGTIDE_MESH=127.0.0.1:9"] {
        assert!(variables.contains(line), "{line} in {variables}");
    }
    assert!(!variables.contains("SPRINGTIDE_TOKEN"), "the agent's own secrets stay its own");

    ask(&one, "/burn").await;
    let sample = listener.fleet.until("a throttled sample", |seen| {
        let mut slices = seen.samples.iter().rev().flat_map(|samples| &samples.slices);
        slices.find(|slice| slice.instance == "fixture-1" && slice.throttled_periods > 0).cloned()
    });
    let sample = sample.await;
    assert!(sample.cpu_usage_us > 0 && sample.memory_bytes > 0 && sample.pids >= 1 && sample.throttled_us > 0);
    let kernel_has_psi = std::path::Path::new("/proc/pressure/cpu").exists();
    assert_eq!(sample.cpu_pressure_us.is_some(), kernel_has_psi, "PSI is told where the kernel has it");
    assert!(listener.fleet.seen().samples.iter().any(|samples| samples.host.is_some()));

    listener.fleet.set(2, vec![], &["fixture-1"]).await;
    let stopped = listener.fleet.phase("fixture-1", Phase::Stopped).await;
    assert_eq!(stopped.exit_code, Some(-15), "asked to stop, not killed");
    assert!(agent.slices().iter().all(|path| !path.ends_with("fixture-1")));
    agent.end();
}

#[tokio::test]
async fn deployed_first_then_run_then_drained_then_gone() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let running = assignment(&listener, "fixture-1");
    let deployed = Assignment { intent: Intent::Deployed.into(), ..running.clone() };
    listener.fleet.set(1, vec![deployed], &[]).await;
    assert_eq!(listener.fleet.phase("fixture-1", Phase::Deployed).await.pid, 0);
    let pid = bring_up(&listener, &running, 2).await;
    let draining = Assignment { intent: Intent::Draining.into(), drain_ms: 60_000, ..running.clone() };
    listener.fleet.set(3, vec![draining.clone()], &[]).await;
    ask(&running, "/healthz").await;
    // Less drain than it has had by now: removal does not wait again.
    listener.fleet.set(4, vec![Assignment { drain_ms: 1, ..draining }], &[]).await;
    listener.fleet.set(5, vec![], &["fixture-1"]).await;
    let stopped = listener.fleet.phase("fixture-1", Phase::Stopped).await;
    assert_eq!((stopped.exit_code, stopped.restarts), (Some(-15), 0));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    agent.end();
}

#[tokio::test]
async fn a_crash_is_told_and_started_anew_with_its_orphans_gone() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    let first = bring_up(&listener, &one, 1).await;
    ask(&one, "/orphan").await;
    let mut gone = reqwest::get(url(&one, "/exit?3")).await;
    assert!(gone.is_err(), "it ended instead of answering: {:?}", gone.as_mut().map(|response| response.status()));
    let back = listener.fleet.ever("fixture-1", "in backoff", |r| r.phase() == Phase::Backoff).await;
    assert_eq!((back.exit_code, back.message.as_str(), back.pid), (Some(3), "exited with code 3", 0));
    let again =
        listener.fleet.report("fixture-1", "healthy again", |r| r.phase() == Phase::Healthy && r.restarts == 1).await;
    assert_ne!(again.pid, first);
    let procs = std::fs::read_to_string(
        agent.slices().iter().find(|path| path.ends_with("fixture-1")).expect("there").join("cgroup.procs"),
    );
    assert_eq!(procs.expect("there").trim(), again.pid.to_string(), "the orphan of the first run is gone");
    agent.end();
}

#[tokio::test]
async fn illness_is_reported_and_does_not_kill() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    ask(&one, "/sick?1").await;
    let is_ill = |r: &api::fleet::InstanceReport| r.phase() == Phase::Unhealthy && r.message.contains("503");
    listener.fleet.report("fixture-1", "ill by its own word", is_ill).await;
    ask(&one, "/sick?0").await;
    let well = listener.fleet.phase("fixture-1", Phase::Healthy).await;
    assert_eq!((well.pid, well.restarts, well.message.as_str()), (pid, 0, ""));
    agent.end();
}

#[tokio::test]
async fn limits_hold_and_running_out_of_memory_is_named() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    bring_up(&listener, &one, 1).await;
    let lived: u32 = ask(&one, "/fork?100").await.parse().expect("a number");
    assert!((1..20).contains(&lived), "{lived} children under a limit of 20 processes and threads");
    let _it_dies = reqwest::get(url(&one, "/eat?200")).await;
    let back = listener.fleet.ever("fixture-1", "in backoff", |r| r.phase() == Phase::Backoff).await;
    assert_eq!(back.exit_code, Some(-9));
    assert_eq!(back.message, "killed by signal 9: out of memory, its limit is 64MiB");
    let counted = |seen: &crate::fleet::Seen| {
        seen.samples.iter().flat_map(|samples| &samples.slices).find(|slice| slice.oom_kills > 0).map(|_| ())
    };
    listener.fleet.until("an OOM kill in a sample", counted).await;
    agent.end();
}

#[tokio::test]
async fn who_does_not_stop_in_time_is_killed() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let command =
        ["/bin/sh", "-c", "trap '' TERM; \"$SPRINGTIDE_PACKAGE/bin/fixture\"; true"].map(str::to_owned).to_vec();
    let one = Assignment { command, grace_ms: 200, ..assignment(&listener, "fixture-1") };
    bring_up(&listener, &one, 1).await;
    listener.fleet.set(2, vec![], &["fixture-1"]).await;
    assert_eq!(listener.fleet.phase("fixture-1", Phase::Stopped).await.exit_code, Some(-9));
    agent.end();
}

#[tokio::test]
async fn a_changed_config_restarts_with_its_variables_resolved() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let mut one = assignment(&listener, "fixture-1");
    one.variables.insert("GREETING".into(), "hello".into());
    one.config_files.insert("sub/app.conf".into(), "${GREETING} from ${SPRINGTIDE_INSTANCE}, $$5".into());
    let first = bring_up(&listener, &one, 1).await;
    assert_eq!(ask(&one, "/config?sub/app.conf").await, "hello from fixture-1, $5");
    one.variables.insert("GREETING".into(), "goodbye".into());
    one.config_digest = "two".into();
    listener.fleet.set(2, vec![one.clone()], &[]).await;
    let is_second =
        |r: &api::fleet::InstanceReport| r.phase() == Phase::Healthy && r.config_digest == "two" && r.pid != first;
    listener.fleet.report("fixture-1", "with config two", is_second).await;
    assert_eq!(ask(&one, "/config?sub/app.conf").await, "goodbye from fixture-1, $5");
    assert_eq!(listener.fleet.seen().package_gets, 1, "fetched once, cached");
    agent.end();
}

#[tokio::test]
async fn a_service_under_stress_is_sampled_ten_times_a_second() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    bring_up(&listener, &assignment(&listener, "fixture-1"), 1).await;
    let fast = FastSampling { services: vec!["fixture".into()], life_ms: 10_000 };
    listener.fleet.send(agent_down::Message::FastSampling(fast)).await;
    let times = |seen: &crate::fleet::Seen| {
        let fast = seen.samples.iter().filter(|samples| samples.host.is_none());
        let times: Vec<u64> = fast.flat_map(|samples| &samples.slices).map(|slice| slice.time_unix_us).collect();
        (times.len() >= 12).then_some(times)
    };
    let times = listener.fleet.until("twelve fast samples", times).await;
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    assert!((80_000..=150_000).contains(&gaps[gaps.len() / 2]), "{gaps:?}");
    agent.end();
}
