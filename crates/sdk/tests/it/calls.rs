//! The client: what it hands on, what it sheds, what it tries again.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sdk::{CallError, Config, Context, Place, Sdk};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

type Seen = Arc<Mutex<Vec<http::HeaderMap>>>;

/// A mesh that remembers what came and answers as `answer` says for the number of the request.
async fn mesh(answer: fn(usize) -> Response<Full<Bytes>>) -> (SocketAddr, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let seen: Seen = Arc::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let number = {
                    let mut kept = kept.lock().expect("no panic");
                    kept.push(request.headers().clone());
                    kept.len()
                };
                async move { Ok::<_, Infallible>(answer(number)) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, seen)
}

fn sdk(mesh: SocketAddr) -> Sdk {
    let place = Place { service: "sso".into(), mesh: Some(mesh.to_string()), ..Place::default() };
    Sdk::new(place, Config::default()).expect("a good config")
}

fn get() -> Request<Bytes> {
    Request::builder().uri("/draw").body(Bytes::new()).expect("a request")
}

#[tokio::test]
async fn names_deadlines_and_priorities_go_along() {
    let (address, seen) = mesh(|_| Response::new(Full::default())).await;
    let client = sdk(address).client();
    let mut context = Context::background(60_000, &client);
    client.call(&mut context, "lottery", get()).await.expect("answered");
    client.call(&mut context, "lottery", get()).await.expect("answered");
    let seen = seen.lock().expect("no panic");
    assert_eq!(
        (&seen[0]["host"], &seen[0]["x-springtide-caller"]),
        (&"lottery".parse().unwrap(), &"sso".parse().unwrap())
    );
    assert_eq!(seen[0]["x-springtide-priority"], "65535");
    let left: u64 = seen[0]["x-springtide-deadline-ms"].to_str().unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert!(!seen[0].contains_key("x-springtide-admitted"));
    assert_eq!(seen[1]["x-springtide-admitted"], "lottery", "a sub-call of an admitted task says so");
}

#[tokio::test]
async fn a_doomed_call_is_not_sent_and_reported_with_the_next() {
    fn overloaded(_: usize) -> Response<Full<Bytes>> {
        let metrics = "TEXT named_metrics.springtide_level=40000,named_metrics.springtide_demand_rps=900,\
                       named_metrics.springtide_capacity_rps=300,named_metrics.springtide_queue_delay_ms=60";
        Response::builder().header("endpoint-load-metrics", metrics).body(Full::default()).expect("an answer")
    }
    let (address, seen) = mesh(overloaded).await;
    let client = sdk(address).client();
    client.call(&mut Context::background(60_000, &client), "lottery", get()).await.expect("nothing is known yet");
    let mut shed = 0;
    for _ in 0..50 {
        match client.call(&mut Context::background(60_000, &client), "lottery", get()).await {
            Err(CallError::Shed { .. }) => shed += 1,
            other => drop(other.expect("probes are answered")),
        }
    }
    assert!(shed > 25, "{shed} of 50 were shed");
    let sent = seen.lock().expect("no panic").len();
    assert_eq!(sent, 51 - shed);
}

#[tokio::test]
async fn what_failed_is_tried_again_within_the_budget_and_never_a_post() {
    fn first_fails(number: usize) -> Response<Full<Bytes>> {
        let status = if number == 1 { 502 } else { 200 };
        Response::builder().status(status).body(Full::default()).expect("an answer")
    }
    let (address, seen) = mesh(first_fails).await;
    let client = sdk(address).client();
    let answer = client.call(&mut Context::background(60_000, &client), "gift", get()).await.expect("answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(seen.lock().expect("no panic")[1]["x-springtide-attempt"], "1");

    let (address, seen) = mesh(|_| Response::builder().status(502).body(Full::default()).expect("an answer")).await;
    let client = sdk(address).client();
    let post = Request::builder().method("POST").uri("/pay").body(Bytes::new()).expect("a request");
    let answer = client.call(&mut Context::background(60_000, &client), "pay", post).await.expect("answered");
    assert_eq!((answer.status().as_u16(), seen.lock().expect("no panic").len()), (502, 1));
}

#[tokio::test]
async fn no_time_left_is_told_without_a_call() {
    let (address, seen) = mesh(|_| Response::new(Full::default())).await;
    let client = sdk(address).client();
    let error = client.call(&mut Context::background(0, &client), "gift", get()).await.expect_err("too late");
    assert!(matches!(error, CallError::Deadline { .. }), "{error}");
    assert!(seen.lock().expect("no panic").is_empty());
}
