//! Hooks against real processes and a real listener.

use super::*;
use model::{OperationId, ServiceName};
use std::time::Instant;
use tokio::io::AsyncWriteExt;

fn run(call: HookCall, timeout_ms: u32) -> HookRun {
    HookRun {
        key: "op-1/start/before/0".to_owned(),
        operation: OperationId::new("op-1").expect("a name"),
        service: ServiceName::new("pay").expect("a name"),
        call,
        timeout_ms,
    }
}

fn shell(script: &str) -> HookCall {
    HookCall::Command(["sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn a_command_gets_its_key_and_its_failure_is_told() {
    let http = reqwest::Client::new();
    let right = r#"test "$SPRINGTIDE_IDEMPOTENCY_KEY $SPRINGTIDE_OPERATION $SPRINGTIDE_SERVICE" = "op-1/start/before/0 op-1 pay""#;
    assert_eq!(call(&run(shell(right), 5_000), &http).await, Ok(()));
    let why = call(&run(shell("echo no permission >&2; exit 3"), 5_000), &http).await.expect_err("it fails");
    assert!(why.contains("no permission") && why.contains('3'), "{why}");
    let why = call(&run(HookCall::Command(vec!["/nowhere/at-all".to_owned()]), 5_000), &http).await;
    assert!(why.expect_err("no such program").contains("/nowhere/at-all"));
}

#[tokio::test]
async fn a_command_may_say_much_and_leave_something_running() {
    let http = reqwest::Client::new();
    let chatty = "yes 'no news is good news' | head -c 300000 >&2 && echo done >&2";
    assert_eq!(call(&run(shell(chatty), 10_000), &http).await, Ok(()));
    let begun = Instant::now();
    assert_eq!(call(&run(shell("sleep 60 & exit 0"), 10_000), &http).await, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(5), "it ended at once");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let folder = tempfile::tempdir().expect("a folder");
    let pid_file = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", pid_file.display());
    let begun = Instant::now();
    let why = call(&run(shell(&script), 8_000), &reqwest::Client::new()).await.expect_err("too long");
    assert!(why.contains("8000 ms") && begun.elapsed() < Duration::from_secs(30), "{why}");
    let pid = std::fs::read_to_string(&pid_file).expect("the child was started");
    let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !gone() {
        assert!(begun.elapsed() < Duration::from_secs(40), "the child outlived its group");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_webhook_gets_the_key_and_must_answer_2xx() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let served = tokio::spawn(async move {
        let mut seen = Vec::new();
        for status in ["204 No Content", "500 Oops"] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.expect("a request");
            seen.push(String::from_utf8_lossy(&request[..read]).to_lowercase());
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
        seen
    });
    let http = reqwest::Client::new();
    assert_eq!(call(&run(HookCall::Webhook(url.clone()), 5_000), &http).await, Ok(()));
    let why = call(&run(HookCall::Webhook(url), 5_000), &http).await.expect_err("500");
    assert!(why.contains("500"), "{why}");
    let seen = served.await.expect("served");
    assert!(
        seen[0].starts_with("post /hook") && seen[0].contains("idempotency-key: op-1/start/before/0"),
        "{}",
        seen[0]
    );
}
