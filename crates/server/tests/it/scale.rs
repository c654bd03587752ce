//! From a manifest to running instances, and on through scale-out, scale-in, drain and restart.

use crate::agent::Agent;
use crate::harness::{Server, apply, apply_pay, facilities, service, settled, until};
use crate::proxy::Proxy;
use api::fleet::Intent;
use api::http::OperationRequest;
use model::OperationPhase;
use std::collections::BTreeMap;

async fn finished(client: &api::client::Client, id: &str) -> model::Operation {
    until(&format!("the end of {id}"), || async {
        client.operation(id).await.ok().filter(|operation| operation.phase.is_final())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_becomes_running_instances() {
    let mut server = Server::start().await;
    let client = server.client();
    let said = apply_pay(&client, 2, 2).await;
    assert!(said.revision > 0 && said.changes.len() > 10, "{said:?}");
    assert_eq!(said.consequences, ["pay: 0 → 4 instances"]);
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 4).await;
    let assigned: Vec<_> =
        agents.iter().flat_map(|agent| agent.seen.lock().expect("no panic").running.clone()).collect();
    assert_eq!(assigned.len(), 4);
    for (instance, at) in &assigned {
        assert_eq!((at.service.as_str(), at.business.as_str(), at.layer.as_str()), ("pay", "night", "logic"));
        assert_eq!(at.intent(), Intent::Running);
        assert_eq!(at.command, ["bin/worker", "--fast"]);
        assert_eq!(at.config_files["worker.conf"], "level 1 in ${PLACE}");
        let place = if at.datacenter == "north" { "the-north" } else { "everywhere" };
        assert_eq!((at.variables["PLACE"].as_str(), at.variables["COMMON"].as_str()), (place, "yes"), "{instance}");
        assert_eq!((at.cpu_millis, at.memory_bytes), (100, 64 << 20));
        let check = at.health_check.as_ref().expect("declared");
        assert_eq!((check.path.as_str(), check.port), ("/healthz", at.ports["http"]));
        assert_ne!(at.ports["http"], at.ports["admin"]);
        assert!(at.address.starts_with("127.1."), "{}", at.address);
        assert!(at.package_digest.starts_with("sha256:"));
    }
    let instances = client.instances(Some("pay"), None).await.expect("listed");
    assert_eq!(instances.len(), 4);
    assert!(instances.iter().all(|at| at.phase == "healthy" && at.weight == 1_000 && at.pid == 4_242), "{instances:?}");
    let status =
        until("all agents", || async { client.status().await.ok().filter(|at| at.hosts_connected == 4) }).await;
    assert_eq!((status.hosts, status.operations_open), (4, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_out_scale_in_and_drain_run_to_their_ends() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 2).await;

    until("traffic from before", || async {
        let top = client.top().await.ok()?;
        top.services.iter().any(|row| row.qps.is_some_and(|qps| qps > 600.0)).then_some(())
    })
    .await;
    let other = service(1, 1).replace("level 1", "level 2");
    let planned = client.plan(&crate::harness::request(&[("p.yaml", other)])).await.expect("planned");
    assert_eq!(planned.consequences, ["pay: rollout of worker 1 and its config to 2 instances"]);
    let scale = |to| OperationRequest::Scale { service: "pay".to_owned(), to: Some(to), instances: BTreeMap::new() };
    let out = client.open_operation(&scale(6)).await.expect("opened");
    assert_eq!(out.who, "unix:root");
    let out = finished(&client, out.id.as_str()).await;
    assert_eq!(out.phase, OperationPhase::Succeeded, "{:?} {:?}", out.failures, out.log);
    settled(&client, "pay", 6).await;
    let report = client.report(out.id.as_str()).await.expect("a health report");
    assert!(report.starts_with("<!doctype html>") && report.contains(out.id.as_str()));
    assert!(out.verdicts.iter().any(|verdict| verdict.requests_new >= 100), "{:?}", out.verdicts);
    // Each instance gets the same traffic: were older traffic counted, two instances would show far more than four.
    let first = &out.verdicts[0];
    assert!(first.requests_running <= first.requests_new, "{first:?}");

    let refused = client.open_operation(&scale(6)).await.expect_err("nothing to do").to_string();
    assert!(refused.contains("nothing to do"), "{refused}");

    let back = client.open_operation(&scale(3)).await.expect("opened");
    assert_eq!(finished(&client, back.id.as_str()).await.phase, OperationPhase::Succeeded);
    settled(&client, "pay", 3).await;

    let host = client.instances(Some("pay"), None).await.expect("listed")[0].host.clone();
    let drain = client.open_operation(&OperationRequest::Drain { host: host.clone() }).await.expect("opened");
    assert_eq!(finished(&client, drain.id.as_str()).await.phase, OperationPhase::Succeeded);
    settled(&client, "pay", 3).await;
    assert!(client.instances(None, Some(&host)).await.expect("listed").is_empty());
    assert!(client.hosts().await.expect("listed").iter().any(|at| at.name == host && at.cordoned));
    let undrained = client.open_operation(&OperationRequest::Undrain { host: host.clone() }).await.expect("undone");
    assert_eq!(undrained.phase, OperationPhase::Succeeded);
    for agent in &agents {
        let seen = agent.seen.lock().expect("no panic");
        assert!(seen.starts.values().all(|starts| *starts == 1), "{:?}", seen.starts);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_touches_no_instance_and_resumes_what_was_open() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 2, 2).await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 4).await;
    let before: Vec<_> = agents.iter().map(Agent::running).collect();
    server.restart().await;
    let client = server.client();
    until("all agents again", || async {
        client.status().await.ok().filter(|status| status.hosts_connected == 4 && status.settled)
    })
    .await;
    assert_eq!(agents.iter().map(Agent::running).collect::<Vec<_>>(), before);

    let scale = OperationRequest::Scale { service: "pay".to_owned(), to: Some(8), instances: BTreeMap::new() };
    let operation = client.open_operation(&scale).await.expect("opened");
    server.restart().await;
    let client = server.client();
    let ended = finished(&client, operation.id.as_str()).await;
    assert_eq!(ended.phase, OperationPhase::Succeeded, "{:?}", ended.failures);
    settled(&client, "pay", 8).await;
    for agent in &agents {
        let seen = agent.seen.lock().expect("no panic");
        assert!(seen.stops.is_empty() && seen.starts.values().all(|starts| *starts == 1), "{:?}", seen.starts);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_watched_paused_resumed_and_rolled_back() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let _agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 2).await;
    let scale = OperationRequest::Scale { service: "pay".to_owned(), to: Some(4), instances: BTreeMap::new() };
    let operation = client.open_operation(&scale).await.expect("opened");
    let id = operation.id.as_str();
    let mut events = client.watch_operation(id).await.expect("watched");
    let paused = client.steer_operation(id, "pause").await.expect("paused");
    assert_eq!(paused.phase, OperationPhase::Paused);
    let refused = client.steer_operation(id, "pause").await.expect_err("paused already").to_string();
    assert!(refused.contains("paused"), "{refused}");
    client.steer_operation(id, "rollback").await.expect("rolled back");
    let mut phases = Vec::new();
    while let Some(event) = events.next().await {
        phases.push(event.expect("an operation").phase);
    }
    assert_eq!(phases.last(), Some(&OperationPhase::RolledBack), "{phases:?}");
    assert!(phases.contains(&OperationPhase::Paused), "{phases:?}");
    settled(&client, "pay", 2).await;
    let unknown = client.operation("op-999").await.expect_err("unknown").to_string();
    assert!(unknown.contains("op-999"), "{unknown}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_agent_and_end_when_the_client_leaves() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 0).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 1).await;
    let instance = client.instances(Some("pay"), None).await.expect("listed")[0].instance.to_string();
    let log = client.logs(&instance, 7, false).await.expect("a log").text().await.expect("whole");
    assert_eq!(log, format!("log of {instance}, 7 lines\n"));
    let following = client.logs(&instance, 1, true).await.expect("a log");
    drop(following);
    until("the cancelled request", || async {
        let cancelled = |agent: &Agent| !agent.seen.lock().expect("no panic").cancelled_logs.is_empty();
        agents.iter().any(cancelled).then_some(())
    })
    .await;
    let unknown = client.logs("pay-999", 1, false).await.expect_err("no such instance").to_string();
    assert!(unknown.contains("pay-999"), "{unknown}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_agent_for_each_host_and_a_silent_one_is_lost() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 0).await;
    let mut agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 1).await;
    let host = client.instances(Some("pay"), None).await.expect("listed")[0].host.clone();
    let at = usize::from(host.ends_with('1'));
    assert_eq!(agents[at].running().len(), 1);
    drop(agents.remove(at));
    let view = until("the lost host", || async {
        client.hosts().await.ok()?.into_iter().find(|view| view.name == host && view.state == "lost")
    })
    .await;
    assert_eq!(view.instances, 1, "its instances very likely still run");
    assert_eq!(client.instances(Some("pay"), None).await.expect("listed")[0].weight, 1_000, "and still serve");
    let again = Agent::start(&host, server.data.path());
    until("the host again", || async {
        client.hosts().await.ok()?.into_iter().find(|view| view.name == host && view.state == "connected")
    })
    .await;
    let newer = Agent::start(&host, server.data.path());
    until("the older stream's end", || async {
        let refused = again.seen.lock().expect("no panic").refused.clone();
        refused.filter(|status| status.message().contains("a newer agent"))
    })
    .await;
    drop(newer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_around_their_steps_and_a_failing_one_stops_the_operation() {
    let mut server = Server::start().await;
    let client = server.client();
    let keys = server.data.path().join("keys");
    let script = format!("echo $SPRINGTIDE_IDEMPOTENCY_KEY >> {}", keys.display());
    let hooked = |script: &str| {
        let hook = format!("hooks: [{{ when: before, step: start, command: [sh, -c, '{script}'] }}]\ninstances:");
        service(1, 0).replace("instances:", &hook)
    };
    apply(&client, &[("f.yaml", facilities(1)), ("p.yaml", hooked(&script))]).await;
    let agents = Agent::fleet(1, server.data.path());
    settled(&client, "pay", 1).await;
    let opened = client.operation("op-1").await.expect("is there").created_at;
    let key = format!("op-1/start/before/0@{opened}");
    assert_eq!(std::fs::read_to_string(&keys).expect("it ran").trim(), key);
    apply(&client, &[("p.yaml", hooked("echo no permission >&2; exit 1"))]).await;
    let scale = OperationRequest::Scale { service: "pay".to_owned(), to: Some(2), instances: BTreeMap::new() };
    let operation = client.open_operation(&scale).await.expect("opened");
    let ended = finished(&client, operation.id.as_str()).await;
    assert_ne!(ended.phase, OperationPhase::Succeeded);
    assert!(ended.failures.iter().any(|failure| failure.contains("no permission")), "{:?}", ended.failures);
    assert_eq!(agents.iter().map(|agent| agent.running().len()).sum::<usize>(), 1, "nothing new was left behind");
    server.stop().await;
}

/// What a config digest stands for outlives its manifest: a rollout replaces instances, it never changes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_keep_the_config_they_were_placed_with() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 2).await;
    drop(agents);
    apply(&client, &[("p.yaml", service(1, 1).replace("level 1", "level 2"))]).await;
    server.restart().await;
    let client = server.client();
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    let level = |id: &str| {
        let running = agents.iter().flat_map(|agent| agent.seen.lock().expect("no panic").given.clone());
        running.filter(|(instance, _)| instance == id).map(|(_, file)| file).next()
    };
    until("the rollout", || async {
        let operations = client.operations().await.ok()?;
        let rollout = operations.iter().find(|at| matches!(at.spec, model::OperationSpec::Rollout { .. }))?;
        (rollout.phase == OperationPhase::Succeeded).then_some(())
    })
    .await;
    settled(&client, "pay", 2).await;
    for old in ["pay-1", "pay-2"] {
        assert_eq!(level(old).as_deref(), Some("level 1 in ${PLACE}"), "{old}");
    }
    let now = client.instances(Some("pay"), None).await.expect("listed");
    for at in &now {
        assert_eq!(level(at.instance.as_str()).as_deref(), Some("level 2 in ${PLACE}"), "{}", at.instance);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_before_are_not_taken_for_those_of_a_store_that_began_anew() {
    let mut server = Server::start().await;
    for round in 1..=2 {
        let client = server.client();
        apply_pay(&client, round, 0).await;
        let _agents = Agent::fleet(2, server.data.path());
        settled(&client, "pay", round).await;
        let operations = client.operations().await.expect("listed");
        assert_eq!(operations[0].id.as_str(), format!("op-{round}"), "a number is given once");
        let report = client.report(operations[0].id.as_str()).await.expect("a report");
        assert!(report.contains(&format!("op-{round}")));
        let audit = client.audit(0, 1_000).await.expect("listed");
        let applied = audit.iter().filter(|entry| entry.what == "Service pay").count();
        assert_eq!(applied, round as usize, "each is audited");
        server.stop().await;
        std::fs::remove_file(server.data.path().join("store.redb")).expect("moved away, as a damaged one would be");
        server.restart_stopped().await;
    }
    server.stop().await;
}
