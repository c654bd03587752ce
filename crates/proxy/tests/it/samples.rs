//! Golden signals: what is counted is what was sent.

use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use api::fleet::EdgeSample;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn edge(fixture: &Fixture, caller: &str, service: &str, instance: &str) -> EdgeSample {
    let key = (caller.to_owned(), service.to_owned(), instance.to_owned());
    fixture.plane().heard(|heard| heard.edges.get(&key).cloned().unwrap_or_default())
}

#[test]
fn every_request_is_counted_exactly_once() {
    const CLIENTS: usize = 8;
    const EACH: u64 = 250;
    let fixture = Fixture::with_threads(2);
    let (one, two) = (Upstream::start(), Upstream::start());
    fixture.tell(
        World::web(vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 1000)])
            .service("lottery", vec![]),
    );
    let mesh = fixture.mesh;
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(mesh);
                (0..EACH).for_each(|_| {
                    assert_eq!(client.get_with("web", "/", "x-springtide-caller: lottery\r\n").status, 200);
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no client failed"));
    let total = CLIENTS as u64 * EACH;
    assert_eq!(one.requests() + two.requests(), total);
    for (instance, upstream) in [("w-1", &one), ("w-2", &two)] {
        until("all are reported", || edge(&fixture, "lottery", "web", instance).requests == upstream.requests());
        let edge = edge(&fixture, "lottery", "web", instance);
        assert_eq!((edge.started, edge.errors, edge.rejects, edge.in_flight), (upstream.requests(), 0, 0, 0));
        let key = ("lottery".to_owned(), "web".to_owned(), instance.to_owned());
        assert_eq!(fixture.plane().heard(|heard| heard.buckets[&key]), upstream.requests(), "the histogram holds all");
        assert!(edge.latency_us_sum > 0);
    }
    let hello = fixture.plane().heard(|heard| heard.hello.clone()).expect("a hello");
    assert_eq!((hello.proxy.as_str(), hello.mesh), ("proxy-1", fixture.mesh.to_string()));
}

#[test]
fn errors_rejects_and_strangers_are_told_apart() {
    let fixture = Fixture::unprotected();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).service("empty", vec![]));
    (0..3).for_each(|_| assert_eq!(get(fixture.entry, "x", "/").status, 200));
    upstream.seen.failing.store(true, SeqCst);
    (0..2).for_each(|_| assert_eq!(get(fixture.entry, "x", "/").status, 500));
    upstream.seen.failing.store(false, SeqCst);
    upstream.seen.rejecting.store(true, SeqCst);
    (0..4).for_each(|_| assert_eq!(get(fixture.entry, "x", "/").status, 503));
    let empty = get(fixture.mesh, "empty", "/");
    assert_eq!((empty.status, empty.header("x-springtide-reject")), (503, Some("no-endpoint; by=empty")));
    assert_eq!(get(fixture.mesh, "nobody", "/").status, 404);
    let mut client = Client::connect(fixture.mesh);
    for stranger in 0..50 {
        client.get_with("web", "/", &format!("x-springtide-caller: stranger-{stranger}\r\n"));
    }
    until("strangers are one", || edge(&fixture, "other", "web", "w-1").requests == 50);
    let outside = edge(&fixture, "outside", "web", "w-1");
    assert_eq!((outside.started, outside.requests, outside.errors, outside.rejects), (9, 9, 6, 4));
    let own = edge(&fixture, "other", "empty", "");
    assert_eq!((own.started, own.requests, own.errors, own.rejects), (0, 1, 1, 1));
    let unrouted = edge(&fixture, "other", "", "");
    assert_eq!((unrouted.requests, unrouted.errors), (1, 0));
}

#[test]
fn a_service_under_stress_is_sampled_fast_until_its_life_ends() {
    const LIFE_MS: u32 = 4_000;
    let fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    fixture.tell(
        World::web(vec![endpoint("w-1", one.address, 1000)]).service("calm", vec![endpoint("c-1", two.address, 1000)]),
    );
    get(fixture.mesh, "web", "/");
    get(fixture.mesh, "calm", "/");
    let samples = |service: &str| fixture.plane().heard(|heard| heard.samples.get(service).copied().unwrap_or(0));
    until("both are known", || samples("web") > 0 && samples("calm") > 0);
    let before = (samples("web"), samples("calm"));
    fixture.plane().sample_fast("web", LIFE_MS);
    until("it is sampled fast", || samples("web") >= before.0 + 6);
    assert!(samples("calm") <= before.1 + 1, "only what moved");
    until("the life ended, and nothing moved", || {
        let before = samples("web");
        std::thread::sleep(Duration::from_millis(500));
        samples("web") == before
    });
}

#[test]
fn the_last_requests_are_reported_before_the_end() {
    let mut fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    until("the stream stands", || fixture.plane().heard(|heard| heard.hello.is_some()));
    (0..37).for_each(|_| assert_eq!(get(fixture.entry, "x", "/").status, 200));
    fixture.stop();
    until("the last are reported", || edge(&fixture, "outside", "web", "w-1").requests == 37);
}
