//! The layer: who is served, what is told, and that a policy file acts.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use model::{Clocks, KeptPolicy, PoliciesFile};
use sdk::{Config, Place, Sdk, Start, Ticket};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::Notify;
use tower::{Layer, Service, service_fn};

fn place() -> Place {
    Place { service: "lottery".into(), business: "red-packet".into(), datacenter: "a".into(), ..Place::default() }
}

fn request(priority: u16, deadline_ms: u64) -> Request<Full<Bytes>> {
    let request = Request::builder().uri("/draw").header("x-springtide-priority", priority.to_string());
    let request = request.header("x-springtide-deadline-ms", deadline_ms.to_string());
    request.header("x-springtide-user", "00000000000000ff").body(Full::default()).expect("a request")
}

async fn ok(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"won\n"))))
}

#[tokio::test]
async fn a_served_request_tells_the_level_and_is_counted() {
    let sdk = Sdk::new(place(), Config::default()).expect("a good config");
    let mut service = sdk.layer().layer(service_fn(ok));
    let answer = service.call(request(2_048, 60_000)).await.expect("served");
    assert_eq!(answer.status(), 200);
    let told = answer.headers()["endpoint-load-metrics"].to_str().expect("text");
    assert!(told.contains("springtide_level=65536"), "{told}");
    let metrics = service.call(Request::builder().uri("/metrics").body(Full::default()).unwrap()).await.unwrap();
    let text = metrics.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("springtide_sdk_requests_total{outcome=\"served\"} 1"), "{text}");
}

#[tokio::test]
async fn work_whose_deadline_passed_in_the_queue_is_not_begun() {
    let sdk = Sdk::new(place(), Config { workers: 1, ..Config::default() }).expect("a good config");
    let (began, over) = <(Arc<Notify>, Arc<Notify>)>::default();
    let (told, awaited) = (began.clone(), over.clone());
    let slow = service_fn(move |_: Request<Full<Bytes>>| {
        told.notify_one();
        let awaited = awaited.clone();
        async move {
            awaited.notified().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let service = sdk.layer().layer(slow);
    let (mut first, mut second) = (service.clone(), service);
    // The second one comes while the first one's work holds the only worker.
    let later = async {
        began.notified().await;
        let mut second = second.call(request(2_048, 40));
        let polled = std::future::poll_fn(|wake| Poll::Ready(second.as_mut().poll(wake))).await;
        assert!(polled.is_pending(), "it waits for the worker");
        tokio::time::sleep(Duration::from_millis(60)).await;
        over.notify_one();
        second.await
    };
    let (first, second) = tokio::join!(first.call(request(2_048, 60_000)), later);
    assert_eq!(first.expect("served").status(), 200);
    let second = second.expect("answered");
    assert_eq!(second.status(), 504);
    assert_eq!(second.headers()["x-springtide-reject"], "deadline; by=lottery");
}

#[tokio::test]
async fn a_service_that_starts_its_work_itself_frees_the_worker_while_it_waits_for_others() {
    let sdk = Sdk::new(place(), Config { workers: 1, start: Start::Service, ..Config::default() }).expect("good");
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let both = both.clone();
        async move {
            let ticket = request.extensions().get::<Ticket>().expect("the layer left it").clone();
            drop(ticket.start().await.expect("in time"));
            // Both are here at once only if neither holds the one worker any more.
            both.wait().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let service = sdk.layer().layer(service);
    let (mut one, mut two) = (service.clone(), service);
    let done = async { tokio::join!(one.call(request(1, 5_000)), two.call(request(1, 5_000))) };
    let (one, two) = tokio::time::timeout(Duration::from_secs(5), done).await.expect("they met");
    assert_eq!((one.unwrap().status().as_u16(), two.unwrap().status().as_u16()), (200, 200));
}

#[tokio::test]
async fn the_policies_of_the_hosts_file_act_and_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies.json");
    let write = |policies: Vec<KeptPolicy>, revision| {
        let at = Clocks { boot_id: String::new(), boot_ms: 0, unix_ms: 0 };
        let file = PoliciesFile { format: 1, revision, at, proxies: [].into(), policies };
        std::fs::write(path.with_extension("new"), file.bytes()).expect("temp");
        // All have the same time, as those have that come within one tick of the file system's clock.
        let new = std::fs::File::options().append(true).open(path.with_extension("new")).expect("temp");
        new.set_modified(UNIX_EPOCH).expect("ours");
        std::fs::rename(path.with_extension("new"), &path).expect("temp");
    };
    let policy = serde_json::json!({
        "name": "quiet", "service": "lottery", "expires_at": "2099-01-01T00:00:00Z",
        "action": {"suppress": {"status": 200, "body": "later\n"}},
    });
    let kept = KeptPolicy { version: 1, expires_at_unix_ms: u64::MAX, life_ms: 60_000, policy };
    let sdk = Sdk::new(Place { policies: Some(path.clone()), ..place() }, Config::default()).expect("good");
    let mut service = sdk.layer().layer(service_fn(ok));
    let mut body = async || {
        let answer = service.call(request(2_048, 60_000)).await.expect("answered");
        let instead = answer.headers().get("x-springtide-instead").map(|name| name.as_bytes().to_vec());
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(instead.as_deref(), (&body[..] == b"later\n").then_some(&b"quiet"[..]), "who answers is said");
        body
    };
    assert_eq!(body().await, "won\n");
    write(vec![kept], 1);
    let taken = async {
        while body().await != "later\n" {
            tokio::time::sleep(Duration::from_millis(20)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken).await.expect("in force");
    write(vec![], 2);
    let lifted = async {
        while body().await != "won\n" {
            tokio::time::sleep(Duration::from_millis(20)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(5), lifted).await.expect("lifted");
}

#[tokio::test]
async fn what_only_proxies_enforce_hides_nothing_and_answers_nothing_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies.json");
    let served = async |actions: &[serde_json::Value]| {
        let policies = actions.iter().enumerate().map(|(order, action)| {
            let policy = serde_json::json!({"name": format!("p-{order}"), "service": "lottery", "order": order,
                "expires_at": "2099-01-01T00:00:00Z", "action": action});
            KeptPolicy { version: 1, expires_at_unix_ms: u64::MAX, life_ms: 60_000, policy }
        });
        let at = Clocks { boot_id: String::new(), boot_ms: 0, unix_ms: 0 };
        let file = PoliciesFile { format: 1, revision: 1, at, proxies: [].into(), policies: policies.collect() };
        std::fs::write(&path, file.bytes()).expect("temp");
        let sdk = Sdk::new(Place { policies: Some(path.clone()), ..place() }, Config::default()).expect("good");
        let mut service = sdk.layer().layer(service_fn(ok));
        let mut bodies = Vec::new();
        for _ in 0..3 {
            let answer = service.call(request(2_048, 60_000)).await.expect("answered");
            bodies.push(answer.into_body().collect().await.expect("whole").to_bytes());
        }
        bodies
    };
    let rate = serde_json::json!({"throttle": {"requests_per_second": 0.001}});
    let slow = serde_json::json!({"slow": {"requests_per_second": 1.0}});
    let quiet = serde_json::json!({"suppress": {"status": 200, "body": "later\n"}});
    let kept = serde_json::json!({"degrade": {"cached_seconds_max": 60, "answer": {"status": 200, "body": "stale\n"}}});
    assert_eq!(served(&[rate.clone(), slow.clone(), quiet.clone()]).await, ["later\n"; 3]);
    assert_eq!(served(&[rate, slow]).await, ["won\n"; 3]);
    assert_eq!(served(std::slice::from_ref(&kept)).await, ["won\n"; 3], "the proxies fetch what they keep");
    assert_eq!(served(&[kept, quiet]).await, ["later\n"; 3]);
}

#[tokio::test]
async fn a_stress_test_finds_no_gate_in_its_way() {
    let sdk = Sdk::new(place(), Config { workers: 1, ..Config::default() }).expect("a good config");
    let slow = service_fn(|_: Request<Full<Bytes>>| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let mut service = sdk.layer().layer(slow);
    let last = |ungated: bool| {
        let mut request = request(u16::MAX, 5_000);
        if ungated {
            request.headers_mut().insert("x-springtide-ungated", http::HeaderValue::from_static("1"));
        }
        request
    };
    let crowd = async {
        let mut calls = tokio::task::JoinSet::new();
        while sdk.admits(admission::Priority::LAST) {
            calls.spawn(service.call(request(60_000, 400)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), crowd).await.expect("ten times what it can: it sheds");
    assert_eq!(service.call(last(false)).await.expect("answered").status(), 503);
    assert_eq!(service.call(last(true)).await.expect("answered").status(), 200);
}
