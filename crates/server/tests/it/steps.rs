//! Retry and skip over the API, with a hook that fails for real.

use crate::agent::Agent;
use crate::harness::{Server, apply, facilities, service, settled, until};
use api::client::{Client, Error};
use api::http::{OperationOrder, OperationRequest, OperationView, StepRequest};
use model::{OperationPhase, StepName};
use std::collections::BTreeMap;

async fn held(client: &Client, id: &str, attempts: usize) -> OperationView {
    until(&format!("{id} to hold for the {attempts}. time"), || async {
        let view = client.operation_view(id).await.ok()?;
        let holds = view.operation.log.iter().filter(|line| line.text.starts_with("held")).count();
        (view.operation.held_at().is_some() && holds == attempts).then_some(view)
    })
    .await
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> (u16, String) {
    match answer.expect_err("is refused") {
        Error::Refused(problem, status) => (status.as_u16(), problem.message),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_step_is_retried_and_a_later_one_skipped() {
    let mut server = Server::start().await;
    let client = server.client();
    let permit = server.data.path().join("permit");
    let hook = format!("hooks: [{{ when: before, step: start, command: [test, -e, {}] }}]\n", permit.display());
    std::fs::write(&permit, "").expect("written");
    apply(&client, &[("facilities.yaml", facilities(2)), ("pay.yaml", service(1, 1) + &hook)]).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 2).await;
    std::fs::remove_file(&permit).expect("removed");
    let request = OperationRequest::Scale { service: "pay".to_owned(), to: Some(4), instances: BTreeMap::new() };
    let opened = client.order_operation(&OperationOrder { request, hold: true }).await.expect("opened");
    let id = opened.id.as_str();

    let view = held(&client, id, 1).await;
    assert_eq!(view.operation.held_at().expect("holds").name, StepName::Start);
    assert_eq!(
        (view.allowed.verbs.join(" "), view.allowed.step.as_deref()),
        ("rollback retry skip".into(), Some("start"))
    );
    assert!(view.allowed.targets.contains(&"before/0".to_owned()), "{:?}", view.allowed);
    let aim = |step: &str, target: &str| StepRequest {
        step: Some(step.to_owned()).filter(|step| !step.is_empty()),
        target: Some(target.to_owned()).filter(|target| !target.is_empty()),
    };
    let (status, why) = refused(client.steer_step(id, "retry", &aim("lunch", "")).await);
    assert!(status == 400 && why.contains("attributes, deploy, silence"), "{status} {why}");
    let (status, why) = refused(client.steer_step(id, "retry", &aim("gray", "")).await);
    assert!(status == 409 && why.contains("is at step start, not at gray"), "{status} {why}");
    let (status, why) = refused(client.steer_step(id, "skip", &aim("", "pay-1")).await);
    assert!(status == 404 && why.contains("before/0"), "{status} {why}");
    let (status, why) = refused(client.steer_operation(id, "resume").await);
    assert!(status == 409 && why.contains("retry it, skip it, or roll"), "{status} {why}");
    let (status, _) = refused(client.steer_step("op-99", "skip", &aim("", "")).await);
    assert_eq!(status, 404);

    client.steer_step(id, "retry", &aim("", "")).await.expect("tried again");
    held(&client, id, 2).await;
    std::fs::write(&permit, "").expect("written");
    client.steer_step(id, "skip", &aim("gray", "")).await.expect("a later step may be");
    client.steer_step(id, "retry", &aim("start", "before/0")).await.expect("tried again");
    let ended = until("the end", || async {
        client.operation_view(id).await.ok().filter(|view| view.operation.phase.is_final())
    })
    .await;
    assert_eq!(ended.operation.phase, OperationPhase::Succeeded, "{:?}", ended.operation.log);
    assert!(ended.allowed.verbs.is_empty());
    let gray = ended.operation.steps.iter().find(|step| step.name == StepName::Gray).expect("has the step");
    assert_eq!((gray.state, gray.message.as_str()), (model::StepState::Skipped, "skipped by unix:root"));
    settled(&client, "pay", 4).await;
    for agent in &agents {
        let seen = agent.seen.lock().expect("no panic");
        assert!(seen.starts.values().all(|starts| *starts == 1), "{:?}", seen.starts);
    }
    let audit = client.audit(0, 1_000).await.expect("listed");
    let steered = audit.iter().filter(|entry| entry.what == format!("operation {id}") && entry.who == "unix:root");
    assert_eq!(steered.count(), 4, "opened, retried, skipped, retried");
    server.stop().await;
}
