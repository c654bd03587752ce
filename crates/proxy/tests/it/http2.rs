//! HTTP/2 in and out, trailers, gRPC, and what HTTP/1.1 neighbours see of it.

use crate::client::{Client, get};
use crate::plane::Plane;
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, plane, until};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{ProxyHello, ProxyUp, proxy_up};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;

/// A runtime for a client that speaks HTTP/2.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

pub async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the proxy accepts");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

pub fn request(host: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let target = format!("http://{host}{path}");
    let method = if body.is_empty() { "GET" } else { "POST" };
    Request::builder().method(method).uri(target).body(Full::new(Bytes::from(body))).expect("valid")
}

/// Head, body and trailers.
pub async fn whole(response: Response<Incoming>) -> (u16, HeaderMap, Bytes, HeaderMap) {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.expect("a whole body");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (head.status.as_u16(), head.headers, collected.to_bytes(), trailers)
}

fn spoken(upstream: &Upstream) -> Version {
    upstream.seen.last_version.lock().expect("not poisoned").expect("a request came")
}

#[test]
fn http2_comes_in_and_http1_goes_out() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    runtime().block_on(async {
        for (address, host) in [(fixture.entry, "shop.example"), (fixture.mesh, "web")] {
            let mut sender = connect(address).await;
            let mut asked = request(host, "/count?1", "abc");
            asked.headers_mut().append("cookie", "a=1".parse().expect("valid"));
            asked.headers_mut().append("cookie", "b=2".parse().expect("valid"));
            asked.headers_mut().insert("x-springtide-caller", "pay".parse().expect("valid"));
            let (status, headers, body, _) = whole(sender.send_request(asked).await.expect("an answer")).await;
            assert_eq!((status, &body[..]), (200, &b"3"[..]));
            assert!(!headers.contains_key("connection"));
            let (target, up) = upstream.seen.last.lock().expect("not poisoned").clone().expect("a request came");
            assert_eq!((target.as_str(), &up["host"]), ("/count?1", &host.parse().expect("valid")));
            assert_eq!(up["cookie"], "a=1; b=2", "one field again");
            assert_eq!(spoken(&upstream), Version::HTTP_11);
            assert_eq!(up["x-springtide-caller"] == "outside", address == fixture.entry, "stripped from outside");
        }
    });
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello", "HTTP/1.1 on the same listener");
}

#[test]
fn many_requests_share_one_connection_on_both_sides() {
    const REQUESTS: usize = 64;
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web"));
    runtime().block_on(async {
        let sender = connect(fixture.mesh).await;
        let mut asked = Vec::new();
        for _ in 0..REQUESTS {
            let mut sender = sender.clone();
            asked.push(tokio::spawn(async move {
                whole(sender.send_request(request("web", "/slow?200", "")).await.expect("an answer")).await
            }));
        }
        for answer in asked {
            let (status, _, body, _) = answer.await.expect("no panic");
            assert_eq!((status, &body[..]), (200, &b"slow"[..]));
        }
    });
    assert_eq!(spoken(&upstream), Version::HTTP_2);
    assert_eq!((upstream.requests(), upstream.connections()), (REQUESTS as u64, 1));
    assert_eq!(Client::connect(fixture.mesh).get("web", "/").text(), "hello", "HTTP/1.1 in, HTTP/2 out");
    let answer = Client::connect(fixture.mesh).get("web", "/big?300000");
    assert_eq!(answer.body.len(), 300_000, "windows are given back");
    let (target, up) = upstream.seen.last.lock().expect("not poisoned").clone().expect("a request came");
    assert!(target.ends_with("/big?300000"), "{target}");
    assert!(!up.contains_key("host") && !up.contains_key("connection"), "{up:?}");
}

#[test]
fn connections_to_an_endpoint_are_bounded() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "connections_max", 3.0).number(
        "web",
        "timeout_ms",
        9000.0,
    );
    fixture.tell(world);
    let mut clients: Vec<_> = (0..12).map(|_| Client::connect(fixture.mesh)).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send(b"GET /slow?20 HTTP/1.1\r\nhost: web\r\n\r\n"));
        for client in &mut clients {
            assert_eq!(client.read().expect("an answer").text(), "slow", "waits for its turn");
        }
    }
    assert_eq!((upstream.requests(), upstream.connections()), (36, 3));
}

#[test]
fn trailers_pass() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web"));
    runtime().block_on(async {
        let mut sender = connect(fixture.entry).await;
        for grpc_status in ["0", "5"] {
            let mut asked = request("web", &format!("/trailers?{grpc_status}"), "four");
            asked.headers_mut().insert("te", "trailers".parse().expect("valid"));
            let (_, _, body, trailers) = whole(sender.send_request(asked).await.expect("an answer")).await;
            assert_eq!((&body[..], &trailers["x-length"]), (&b"four"[..], &"4".parse().expect("valid")));
            assert_eq!(trailers["grpc-status"], grpc_status);
        }
        let (_, up) = upstream.seen.last.lock().expect("not poisoned").clone().expect("a request came");
        assert_eq!(up["te"], "trailers", "what gRPC servers insist on");
    });
}

/// A service that speaks gRPC, called by a client that does: the fleet protocol itself, as any other.
#[test]
fn grpc_passes_both_ways_at_once() {
    let service = Plane::start();
    let address: SocketAddr = service.url().strip_prefix("http://").expect("a URL").parse().expect("an address");
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", address, 1000)]).http2("web"));
    runtime().block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", fixture.entry)).expect("valid");
        let mut client = FleetClient::new(channel.connect().await.expect("it connects"));
        let (to, up) = tokio::sync::mpsc::channel(1);
        let refused = client.proxy(ReceiverStream::new(up)).await.expect_err("no token");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "an answer of trailers only: {refused:?}");
        drop(to);
        let (to, up) = tokio::sync::mpsc::channel(1);
        let mut asked = tonic::Request::new(ReceiverStream::new(up));
        let token = format!("Bearer {}", plane::TOKEN).parse().expect("valid");
        asked.metadata_mut().insert("authorization", token);
        let mut down = client.proxy(asked).await.expect("a stream").into_inner();
        let hello = ProxyHello { proxy: "through".into(), ..Default::default() };
        to.send(ProxyUp { message: Some(proxy_up::Message::Hello(hello)) }).await.expect("it is read");
        let heard = || service.heard(|heard| heard.hello.as_ref().is_some_and(|hello| hello.proxy == "through"));
        tokio::task::block_in_place(|| until("the message arrives while the stream is open", heard));
        service.sample_fast("web", 1234);
        let message = tokio::time::timeout(Duration::from_secs(5), down.message()).await.expect("in time");
        assert!(message.expect("a message").is_some());
    });
}

#[test]
fn a_grpc_stream_may_rest_longer_than_the_limit_on_silence() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "timeout_ms", 4_000.0);
    fixture.tell(world.http2("web"));
    runtime().block_on(async {
        let mut sender = connect(fixture.mesh).await;
        let answer = sender.send_request(request("web", "/watch?4500", "")).await.expect("an answer");
        assert_eq!(&whole(answer).await.2[..], b"first and last");
        let answer = sender.send_request(request("web", "/stall", "")).await.expect("an answer");
        answer.into_body().collect().await.expect_err("other answers may not");
    });
}

#[test]
fn grpc_callers_are_answered_in_their_own_words() {
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![]));
    runtime().block_on(async {
        let mut sender = connect(fixture.mesh).await;
        for (host, code, reject) in [("web", "14", "no-endpoint; by=web"), ("nobody", "12", "no-route")] {
            let mut asked = request(host, "/a.B/C", "body");
            asked.headers_mut().insert("content-type", "application/grpc+proto".parse().expect("valid"));
            let (status, headers, body, _) = whole(sender.send_request(asked).await.expect("an answer")).await;
            assert_eq!((status, body.len(), &headers["grpc-status"]), (200, 0, &code.parse().expect("valid")));
            assert_eq!(headers["x-springtide-reject"], reject);
            assert!(!headers["grpc-message"].is_empty());
        }
        let (status, ..) = whole(sender.send_request(request("nobody", "/", "")).await.expect("an answer")).await;
        assert_eq!(status, 404, "others get HTTP's");
    });
}

#[test]
fn failing_grpc_counts_as_an_error() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web"));
    runtime().block_on(async {
        let mut sender = connect(fixture.mesh).await;
        for grpc_status in ["0", "5", "13", "14"] {
            let asked = request("web", &format!("/trailers?{grpc_status}"), "x");
            whole(sender.send_request(asked).await.expect("an answer")).await;
        }
    });
    let key = ("other".into(), "web".into(), "w-1".into());
    let told = || fixture.plane().heard(|h| h.edges.get(&key).map(|edge| (edge.requests, edge.errors)));
    until("INTERNAL and UNAVAILABLE count, NOT_FOUND does not", || told() == Some((4, 2)));
}

#[test]
fn an_endpoint_that_goes_away_costs_no_idempotent_request() {
    let first = Upstream::start();
    let address = first.address;
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", address, 1000)]).http2("web"));
    assert_eq!(get(fixture.mesh, "web", "/").text(), "hello");
    drop(first);
    let second = Upstream::at(address);
    assert_eq!(get(fixture.mesh, "web", "/").text(), "hello", "on a fresh connection");
    assert_eq!(second.connections(), 1);
    second.seen.failing.store(true, SeqCst);
    assert_eq!(get(fixture.mesh, "web", "/").status, 500);
}

#[test]
fn an_endpoint_is_checked_in_http2_when_it_speaks_that() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web").health("web", "/health");
    fixture.tell(world.number("web", "health_interval_ms", 50.0));
    until("it is checked", || upstream.seen.checks.load(SeqCst) > 2);
    assert_eq!(*upstream.seen.check_version.lock().expect("not poisoned"), Some(Version::HTTP_2));
}
