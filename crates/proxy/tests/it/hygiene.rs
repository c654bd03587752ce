//! Headers on the way, malformed requests, what is not supported.

use crate::Fixture;
use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use http::HeaderMap;

fn seen(upstream: &Upstream) -> (String, HeaderMap) {
    upstream.seen.last.lock().expect("not poisoned").clone().expect("a request came")
}

fn fixture(upstream: &Upstream) -> Fixture {
    let fixture = Fixture::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    fixture
}

#[test]
fn only_what_may_pass_passes() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let headers = "connection: keep-alive, x-drop\r\nx-drop: 1\r\nte: trailers\r\nkeep-alive: 5\r\nx-keep: 1\r\n\
                   x-springtide-caller: pay\r\nx-springtide-user: 7\r\nx-forwarded-for: 9.9.9.9\r\n";
    let answer = Client::connect(fixture.entry).get_with("Shop.Example:81", "/hops", headers);
    let (_, up) = seen(&upstream);
    assert_eq!(up["host"], "Shop.Example:81");
    assert_eq!(up["x-springtide-caller"], "outside");
    assert_eq!(up["x-forwarded-for"], "9.9.9.9, 127.0.0.1");
    assert_eq!(up["x-keep"], "1");
    let user = up["x-springtide-user"].to_str().expect("text");
    assert!(user.len() == 16 && user != "7", "set by us: {user}");
    for gone in ["x-drop", "te", "keep-alive", "connection"] {
        assert!(!up.contains_key(gone), "{gone} passed");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
    assert_eq!(answer.header("keep-alive"), None);
    assert_eq!(answer.header("proxy-authenticate"), None);
    Client::connect(fixture.mesh).get_with("web", "/", "x-springtide-caller: web\r\nx-springtide-user: 7\r\n");
    let (_, up) = seen(&upstream);
    assert_eq!(
        (&up["x-springtide-caller"], &up["x-springtide-user"]),
        (&"web".parse().expect("ok"), &"7".parse().expect("ok"))
    );
}

#[test]
fn an_absolute_target_outranks_the_host_header() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"GET http://shop.example/a?b HTTP/1.1\r\nhost: other\r\n\r\n");
    assert_eq!(client.read().expect("an answer").status, 200);
    let (target, up) = seen(&upstream);
    assert_eq!((target.as_str(), &up["host"]), ("/a?b", &"shop.example".parse().expect("valid")));
}

#[test]
fn expect_continue_is_answered_here() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.read_head().expect("an interim answer").0, 100);
    client.send(b"abc");
    assert_eq!(client.read().expect("an answer").text(), "3");
    assert!(!seen(&upstream).1.contains_key("expect"));
}

#[test]
fn malformed_requests_are_refused_and_harm_nobody() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let cases: &[(&[u8], u16)] = &[
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n", 400),
        (huge.as_bytes(), 431),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n", 501),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    ];
    for (bytes, status) in cases {
        let mut client = Client::connect(fixture.entry);
        client.send(bytes);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert_eq!(client.read_head().map(|(status, _)| status), Some(*status), "{text:?}");
    }
    assert_eq!(upstream.requests(), 0);
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
}

#[test]
fn a_smuggled_length_does_not_pass() {
    let upstream = Upstream::start();
    let fixture = fixture(&upstream);
    let mut client = Client::connect(fixture.entry);
    client.send(b"POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n");
    if let Some(answer) = client.read() {
        assert!(answer.status == 400 || answer.text() == "6", "{answer:?}");
    }
    assert!(upstream.requests() <= 1);
    if upstream.requests() == 1 {
        assert!(!seen(&upstream).1.contains_key("content-length"));
    }
}
