//! Endpoints that fail: ejection, checks, panic, timeouts, broken connections, retries, overflow.

use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Statuses of `count` requests on one connection. They are of a kind that is never sent twice, so that each failure shows.
fn statuses(fixture: &Fixture, count: usize) -> Vec<u16> {
    let mut client = Client::connect(fixture.mesh);
    let one = |_| {
        client.send(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
        client.read().expect("an answer").status
    };
    (0..count).map(one).collect()
}

#[test]
fn an_endpoint_that_refuses_is_ejected_and_comes_back() {
    let fixture = Fixture::start();
    let (well, dead) = (Upstream::start(), testkit::address());
    fixture.tell(World::web(vec![endpoint("w-1", well.address, 1000), endpoint("w-2", dead, 1000)]));
    let first = statuses(&fixture, 200);
    let failed = first.iter().filter(|status| **status == 502).count();
    // On a slow machine an ejection ends within these requests, and a few are tried again.
    assert!((1..=7).contains(&failed), "{failed} failures before the ejection");
    let revived = Upstream::at(dead);
    until("it gets requests again", || {
        statuses(&fixture, 10);
        revived.requests() > 0
    });
    assert!(statuses(&fixture, 50).iter().all(|status| *status == 200));
}

#[test]
fn an_endpoint_that_answers_5xx_is_ejected_but_one_that_rejects_is_not() {
    let fixture = Fixture::start();
    let (well, bad) = (Upstream::start(), Upstream::start());
    bad.seen.rejecting.store(true, SeqCst);
    fixture.tell(World::web(vec![endpoint("w-1", well.address, 1000), endpoint("w-2", bad.address, 1000)]));
    let rejected = statuses(&fixture, 100).iter().filter(|status| **status == 503).count();
    assert!((45..=55).contains(&rejected), "{rejected} of 100");
    bad.seen.rejecting.store(false, SeqCst);
    bad.seen.failing.store(true, SeqCst);
    let failed = statuses(&fixture, 100).iter().filter(|status| **status == 500).count();
    assert!((5..=7).contains(&failed), "{failed} failures, wanted 5 and a trial or two after the ejection");
}

#[test]
fn when_all_are_ejected_all_are_used() {
    let fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 1000)]));
    for upstream in [&one, &two] {
        upstream.seen.failing.store(true, SeqCst);
    }
    assert!(statuses(&fixture, 40).iter().all(|status| *status == 500), "answered by them, not by the proxy");
    let before = (one.requests(), two.requests());
    for upstream in [&one, &two] {
        upstream.seen.failing.store(false, SeqCst);
    }
    assert!(statuses(&fixture, 40).iter().all(|status| *status == 200), "no ejection stands in the way");
    assert!(one.requests() > before.0 && two.requests() > before.1, "both are used");
}

#[test]
fn an_active_check_takes_out_and_brings_back() {
    let fixture = Fixture::with_threads(2);
    let (one, two) = (Upstream::start(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 1000)])
        .health("web", "/health")
        .number("web", "health_interval_ms", 50.0)
        .number("web", "health_failures_max", 2.0);
    fixture.tell(world);
    until("both are checked", || one.seen.checks.load(SeqCst) > 2 && two.seen.checks.load(SeqCst) > 2);
    two.seen.failing.store(true, SeqCst);
    until("it gets nothing", || {
        let before = two.requests();
        statuses(&fixture, 20);
        two.requests() == before
    });
    two.seen.failing.store(false, SeqCst);
    until("it gets requests again", || {
        let before = two.requests();
        statuses(&fixture, 20);
        two.requests() >= before + 8
    });
    let (checks, began) = (one.seen.checks.load(SeqCst), Instant::now());
    std::thread::sleep(Duration::from_millis(500));
    let expected = began.elapsed().as_millis() as u64 / 50 + 2;
    let checks = one.seen.checks.load(SeqCst) - checks;
    assert!(
        checks <= expected,
        "{checks} checks, expected at most {expected}: once for the proxy, not for each worker"
    );
}

#[test]
fn a_slow_endpoint_is_a_504_and_no_retry() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "timeout_ms", 4_000.0));
    let began = Instant::now();
    assert_eq!(get(fixture.mesh, "web", "/slow?9000").status, 504);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(upstream.requests(), 1);
    assert_eq!(get(fixture.mesh, "web", "/slow?50").text(), "slow", "a shorter wait is none of its business");
}

#[test]
fn an_answer_that_breaks_or_stalls_breaks_the_callers_connection() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "timeout_ms", 4_000.0));
    for path in ["/break", "/stall"] {
        let mut client = Client::connect(fixture.mesh);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").as_bytes());
        assert!(client.read().is_none(), "half an answer must not look whole");
    }
    let key = ("other".into(), "web".into(), "w-1".into());
    until("both count as errors", || fixture.plane().heard(|h| h.edges.get(&key).is_some_and(|e| e.errors == 2)));
    assert_eq!(get(fixture.mesh, "web", "/").text(), "hello");
}

/// A server that answers one request on each connection, keeps it open, and closes it without a byte when another comes.
fn one_shot(requests: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let requests = Arc::clone(&requests);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                for turn in 0..2 {
                    if stream.read(&mut buffer).unwrap_or(0) == 0 {
                        return;
                    }
                    requests.fetch_add(1, SeqCst);
                    if turn == 0 {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        stream.write_all(answer).expect("the proxy reads");
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_stale_connection_costs_one_safe_retry_and_no_unsafe_one() {
    let fixture = Fixture::start();
    let requests = Arc::new(AtomicU64::new(0));
    fixture.tell(World::web(vec![endpoint("w-1", one_shot(Arc::clone(&requests)), 1000)]));
    let mut client = Client::connect(fixture.mesh);
    assert_eq!(client.get("web", "/").text(), "ok");
    assert_eq!(client.get("web", "/").text(), "ok", "retried on a fresh connection");
    assert_eq!(requests.load(SeqCst), 3);
    client.send(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.read().expect("an answer").status, 502, "it may have been carried out");
    assert_eq!(requests.load(SeqCst), 4);
}

#[test]
fn an_endpoint_that_dies_mid_request_is_a_502() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let mut client = Client::connect(fixture.mesh);
    client.send(b"GET /slow?9000 HTTP/1.1\r\nhost: web\r\n\r\n");
    until("it is under way", || upstream.requests() == 1);
    drop(upstream);
    assert_eq!(client.read().expect("an answer").status, 502);
}

#[test]
fn what_does_not_fit_is_rejected_fast() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "in_flight_max", 2.0).number(
        "web",
        "pending_max",
        1.0,
    );
    fixture.tell(world);
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(fixture.mesh)).collect();
    for client in &mut clients[..2] {
        client.send(b"GET /slow?4000 HTTP/1.1\r\nhost: web\r\n\r\n");
    }
    until("both are under way", || upstream.requests() == 2);
    clients[2].send(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    until("it is rejected", || {
        let answer = clients[3].get("web", "/");
        assert!(upstream.requests() < 4, "the bound holds");
        answer.status == 503 && answer.header("x-springtide-reject") == Some("overflow; by=web")
    });
    assert_eq!(clients[2].read().expect("an answer").text(), "hello", "the waiting one got its place");
}
