//! Isolation none: no slices, and still nothing is lost or left behind.

use crate::agent::{Agent, ask, assignment, bring_up, url};
use crate::fleet::{Listener, Seen};
use api::fleet::Phase;
use std::path::Path;

#[tokio::test]
async fn without_slices_it_is_announced_and_everything_else_works() {
    let listener = Listener::start().await;
    let mut agent = Agent::new(&listener, "none");
    agent.start();
    assert_eq!(listener.fleet.connected(1).await.isolation, "none");
    let (one, two) = (assignment(&listener, "fixture-1"), assignment(&listener, "fixture-2"));
    let pid = bring_up(&listener, &one, 1).await;
    bring_up(&listener, &two, 2).await;
    assert!(agent.slices().is_empty());
    ask(&one, "/burn").await;
    ask(&one, "/orphan").await;
    let used = |seen: &Seen| {
        let mut slices = seen.samples.iter().rev().flat_map(|samples| &samples.slices);
        slices.find(|slice| slice.instance == "fixture-1" && slice.cpu_usage_us > 0 && slice.pids >= 2).map(|_| ())
    };
    listener.fleet.until("a sample of processes, the orphan among them", used).await;
    // It is asked for at once, and becomes a `sleep` in its own time.
    let sleeps = || standing_in(&agent.data()).iter().any(|program| program.trim() == "sleep");
    listener.fleet.until("the orphan can be seen", |_| sleeps().then_some(())).await;
    agent.kill();
    agent.start();
    let hello = listener.fleet.connected(2).await;
    assert_eq!((hello.instances[0].pid, hello.instances[0].adopted), (pid, true));
    let _it_ends = reqwest::get(url(&two, "/exit?1")).await;
    listener.fleet.report("fixture-2", "again", |r| r.phase() == Phase::Healthy && r.restarts == 1).await;
    listener.fleet.set(3, vec![], &["fixture-1", "fixture-2"]).await;
    listener.fleet.phase("fixture-1", Phase::Stopped).await;
    listener.fleet.phase("fixture-2", Phase::Stopped).await;
    assert_eq!(standing_in(&agent.data()), Vec::<String>::new(), "the orphan is gone too");
    agent.end();
}

#[tokio::test]
async fn an_instance_started_without_slices_can_be_removed_by_an_agent_with_slices() {
    let listener = Listener::start().await;
    let mut agent = Agent::new(&listener, "none");
    agent.start();
    listener.fleet.connected(1).await;
    let one = assignment(&listener, "fixture-1");
    let pid = bring_up(&listener, &one, 1).await;
    ask(&one, "/orphan").await;
    agent.kill();
    agent.isolation = "auto";
    agent.start();
    let hello = listener.fleet.connected(2).await;
    assert_eq!((hello.instances[0].pid, hello.instances[0].adopted), (pid, true));
    listener.fleet.set(2, vec![], &["fixture-1"]).await;
    listener.fleet.phase("fixture-1", Phase::Stopped).await;
    agent.end();
}

/// Programs of the living processes whose working folder lies below `folder`, as those of this agent's instances do.
fn standing_in(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ours = processes.filter(|path| std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)));
    ours.filter_map(|path| std::fs::read_to_string(path.join("comm")).ok()).collect()
}
