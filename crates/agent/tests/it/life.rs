//! An instance's life: started, well, sampled, ill, crashed, stopped.

use crate::agent::{Agent, ask, assignment, bring_up};
use crate::fleet::Listener;
use api::fleet::Phase;

#[tokio::test]
async fn from_assignment_to_healthy_samples_and_gone() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let hello = listener.fleet.connected(1).await;
    assert!(hello.isolation.starts_with("cgroup-") && hello.cpu_millis > 0 && hello.instances.is_empty());
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    assert_eq!(agent.slices().iter().filter(|path| path.ends_with("fixture-1")).count(), 6);

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
        let slices = seen.samples.iter().rev().flat_map(|samples| &samples.slices);
        slices.filter(|slice| slice.instance == "fixture-1" && slice.throttled_periods > 0).next().cloned()
    });
    let sample = sample.await;
    assert!(sample.cpu_usage_us > 0 && sample.memory_bytes > 0 && sample.pids >= 1 && sample.throttled_us > 0);
    assert!(sample.cpu_pressure_us.is_some(), "PSI is here on this machine");
    assert!(listener.fleet.seen().samples.iter().any(|samples| samples.host.is_some()));

    listener.fleet.set(2, vec![], &["fixture-1"]).await;
    let stopped = listener.fleet.phase("fixture-1", Phase::Stopped).await;
    assert_eq!(stopped.exit_code, Some(-15), "asked to stop, not killed");
    assert!(agent.slices().iter().all(|path| !path.ends_with("fixture-1")));
    agent.end();
}
