//! Bodies both ways, keep-alive, pipelining, HTTP/1.0.

use crate::Fixture;
use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use std::time::{Duration, Instant};

fn fixture(upstream: &Upstream) -> Fixture {
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    fixture
}

#[test]
fn one_connection_up_serves_many_requests_down() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    for _ in 0..100 {
        assert_eq!(client.get("x", "/").text(), "hello");
    }
    (0..20).for_each(|_| assert_eq!(get(fixture.mesh, "web", "/").text(), "hello"));
    assert_eq!(upstream.requests(), 120);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"GET /slow?50 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\nGET /big?9 HTTP/1.1\r\nhost: x\r\n\r\n");
    let answers: Vec<_> = (0..3).map(|_| client.read().expect("an answer").text().len()).collect();
    assert_eq!(answers, ["slow".len(), "hello".len(), 9]);
}

#[test]
fn a_big_answer_streams_through_whole() {
    const BYTES: usize = 24 * 1024 * 1024;
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let answer = get(fixture.entry, "x", &format!("/big?{BYTES}"));
    assert_eq!(answer.body.len(), BYTES);
    let wrong = answer.body.iter().enumerate().position(|(i, byte)| *byte != (i / (16 * 1024) % 251) as u8);
    assert_eq!(wrong, None);
}

#[test]
fn a_big_request_streams_through_whole() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 256;
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    let length = CHUNK * CHUNKS;
    client.send(format!("POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    (0..CHUNKS).for_each(|_| client.send(&[b'x'; CHUNK]));
    assert_eq!(client.read().expect("an answer").text(), length.to_string());
    client.send(b"POST /count HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    (0..CHUNKS).for_each(|_| client.send(&[format!("{CHUNK:x}\r\n").as_bytes(), &[b'y'; CHUNK], b"\r\n"].concat()));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.read().expect("an answer").text(), length.to_string());
}

#[test]
fn a_body_flows_while_it_is_written() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    let (status, headers) = client.read_head().expect("the answer begins before the request ends");
    assert_eq!(status, 200);
    assert!(headers.contains(&("transfer-encoding".into(), "chunked".into())), "{headers:?}");
    client.send(b"3\r\ntwo\r\n0\r\n\r\n");
    let mut text = String::new();
    while let Some(size) = client.chunk(&mut text).filter(|size| *size > 0) {
        assert!(size <= 6);
    }
    assert_eq!(text, "onetwo");
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    for _ in 0..3 {
        client.send(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
        let (status, headers) = client.read_head().expect("an answer");
        assert_eq!(status, 200);
        assert!(headers.contains(&("content-length".into(), "5".into())), "{headers:?}");
        for status in [204, 304] {
            client.send(format!("GET /status?{status} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
            assert_eq!(client.read_head().expect("an answer").0, status as u16);
        }
    }
    assert_eq!(client.get("x", "/").text(), "hello");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn http_1_0_is_served() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"GET /big?100000 HTTP/1.0\r\n\r\n");
    let answer = client.read().expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    assert_eq!(answer.header("transfer-encoding"), None);
    let mut client = Client::connect(fixture.entry);
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(client.read().expect("an answer").text(), "hello");
    }
}

#[test]
fn a_slow_upload_is_not_the_endpoints_fault() {
    let upstream = Upstream::start();
    let fixture = Fixture::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "timeout_ms", 4_000.0);
    fixture.tell(world);
    let mut moving = Client::connect(fixture.entry);
    moving.send(b"POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n");
    let began = Instant::now();
    for _ in 0..9 {
        std::thread::sleep(Duration::from_millis(500));
        moving.send(b"x");
    }
    assert_eq!(moving.read().expect("an answer").text(), "9");
    assert!(began.elapsed() > Duration::from_millis(4_000), "longer than the timeout in all");
    let mut stuck = Client::connect(fixture.entry);
    stuck.send(b"POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nx");
    assert_eq!(stuck.read().expect("an answer").status, 408);
}

#[test]
fn callers_that_leave_take_their_request_with_them() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    for _ in 0..10 {
        let mut client = Client::connect(fixture.entry);
        client.send(b"GET /big?50000000 HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(client.read_head().expect("an answer").0, 200);
    }
    crate::until("all are counted as ended", || {
        let key = ("outside".into(), "web".into(), "w-1".into());
        fixture
            .plane()
            .heard(|h| h.edges.get(&key).is_some_and(|e| e.requests == 10 && e.in_flight == 0 && e.errors == 0))
    });
}

#[test]
fn connections_up_are_no_more_than_requests_at_once() {
    const CLIENTS: usize = 32;
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let entry = fixture.entry;
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(entry);
                (0..50).for_each(|_| assert_eq!(client.get("x", "/big?1000").body.len(), 1000));
                (0..10).for_each(|_| assert_eq!(client.get("x", "/status?204").status, 204));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no client failed"));
    assert!(upstream.connections() <= CLIENTS as u64, "{} connections", upstream.connections());
}
