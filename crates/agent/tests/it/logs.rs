//! Logs: kept by the shim, read over the stream.

use crate::agent::{Agent, ask, assignment, bring_up};
use crate::fleet::{Listener, Seen};
use shim::spec::LOG_FILE;
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
