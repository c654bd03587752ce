//! Operators' policies reach the instances of a host as a file, and stay there without a server.

use crate::agent::{Agent, ask, assignment, bring_up};
use crate::fleet::Listener;
use api::fleet::{Policies, PolicyInForce, agent_down};
use model::PoliciesFile;
use std::os::unix::fs::PermissionsExt;

fn policies(revision: u64, names: &[&str]) -> agent_down::Message {
    let one = |name: &&str| PolicyInForce {
        name: (*name).to_owned(),
        version: 1,
        expires_at_unix_ms: 4_000_000_000_000,
        life_ms: 60_000,
        policy: format!(r#"{{"name":"{name}"}}"#),
    };
    let policies = names.iter().map(one).collect();
    agent_down::Message::Policies(Policies { revision, policies, proxies: [("east".to_owned(), 3)].into() })
}

#[tokio::test]
async fn every_instance_is_told_of_a_file_that_holds_the_policies_in_force() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    bring_up(&listener, &one, 1).await;
    let variables = ask(&one, "/variables").await;
    let path = variables.lines().find_map(|line| line.strip_prefix("SPRINGTIDE_POLICIES=")).expect("it is set");
    let read = || PoliciesFile::read(&std::fs::read(path).expect("there")).expect("whole");
    for (revision, names) in [(7, vec!["a", "b"]), (9, vec![])] {
        listener.fleet.send(policies(revision, &names)).await;
        listener.fleet.until("the confirmation", |seen| seen.policies.contains(&revision).then_some(())).await;
        let file = read();
        let found: Vec<&str> = file.policies.iter().filter_map(|of| of.policy["name"].as_str()).collect();
        assert_eq!((file.revision, found), (revision, names));
        assert_eq!(std::fs::metadata(path).expect("there").permissions().mode() & 0o444, 0o444, "all may read it");
    }
    let fleet = listener.stop().await;
    assert_eq!(read().revision, 9, "without a server it stays");
    drop(fleet);
    agent.end();
}
