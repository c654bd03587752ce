//! Routes, weights, overrides, draining.

use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use std::time::{Duration, Instant};

#[test]
fn routes_by_host_and_longest_prefix() {
    let fixture = Fixture::start();
    assert_eq!(get(fixture.entry, "any", "/").header("x-springtide-reject"), Some("not-ready"));
    let (web, pay, refund) = (Upstream::start(), Upstream::start(), Upstream::start());
    let world = World::web(vec![endpoint("web-1", web.address, 1000)])
        .service("pay", vec![endpoint("pay-1", pay.address, 1000)])
        .service("refund", vec![endpoint("refund-1", refund.address, 1000)])
        .route("shop.example", "/pay", "pay")
        .route("shop.example", "/pay/back", "refund");
    fixture.tell(world);
    let counts = || (web.requests(), pay.requests(), refund.requests());
    assert_eq!(get(fixture.entry, "x", "/pay").status, 200);
    assert_eq!(counts(), (1, 0, 0));
    assert_eq!(get(fixture.entry, "shop.example", "/pay").status, 200);
    assert_eq!(get(fixture.entry, "shop.example:8080", "/pay/back/1?q=2").status, 200);
    assert_eq!(counts(), (1, 1, 1));
    assert_eq!(refund.seen.last.lock().expect("not poisoned").as_ref().expect("seen").0, "/pay/back/1?q=2");
    assert_eq!(get(fixture.mesh, "refund", "/any").text(), "hello");
    assert_eq!(counts(), (1, 1, 2));
    let lost = get(fixture.mesh, "nobody", "/");
    assert_eq!((lost.status, lost.header("x-springtide-reject")), (404, Some("no-route")));
}

/// Requests that reached `upstream` out of `total` over one connection.
fn share(fixture: &Fixture, upstream: &Upstream, total: u64) -> u64 {
    let before = upstream.requests();
    let mut client = Client::connect(fixture.mesh);
    for _ in 0..total {
        assert_eq!(client.get("web", "/").status, 200);
    }
    upstream.requests() - before
}

#[test]
fn a_gray_stage_gets_what_it_says() {
    let fixture = Fixture::start();
    let (old, new) = (Upstream::start(), Upstream::start());
    let at = |weight| World::web(vec![endpoint("w-1", old.address, 1000), endpoint("w-2", new.address, weight)]);
    fixture.tell(at(0));
    assert_eq!(share(&fixture, &new, 200), 0);
    fixture.tell(at(10));
    let one = share(&fixture, &new, 2_000);
    assert!((15..=25).contains(&one), "{one} of 2000, wanted 20");
    fixture.tell(at(100));
    let ten = share(&fixture, &new, 1_000);
    assert!((81..=101).contains(&ten), "{ten} of 1000, wanted 91");
    fixture.tell(at(1000));
    let half = share(&fixture, &new, 1_000);
    assert!((450..=550).contains(&half), "{half} of 1000");
}

#[test]
fn an_override_lapses_by_the_proxys_own_clock() {
    assert!((0..3).any(|_| an_override_is_seen_to_lapse()), "too slow a machine to judge");
}

/// `false`: its life was over before all was asked under it.
fn an_override_is_seen_to_lapse() -> bool {
    const LIFE_MS: u64 = 5_000;
    let mut fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut endpoints = vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 1000)];
    endpoints[1].leased = Some((9_000, LIFE_MS));
    let sent = Instant::now();
    fixture.tell(World::web(endpoints));
    let told = Instant::now();
    fixture.plane = None;
    let leased = share(&fixture, &two, 500);
    if sent.elapsed() >= Duration::from_millis(LIFE_MS) {
        return false;
    }
    assert!((440..=460).contains(&leased), "{leased} of 500, wanted 450");
    until("the steady weights are back", || {
        // Each request is judged by its own time: one that begins after the lease is none of the lease's.
        let looked = told.elapsed();
        let of_20 = share(&fixture, &two, 20);
        assert!(of_20 < 15 || looked < Duration::from_millis(LIFE_MS + 50), "reverted late: not yet at {looked:?}");
        (8..=12).contains(&of_20)
    });
    let reverted = sent.elapsed();
    assert!(reverted >= Duration::from_millis(LIFE_MS), "reverted early: {reverted:?}");
    fixture.stop();
    true
}

#[test]
fn a_draining_endpoint_gets_no_new_request_but_ends_the_old() {
    let fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut endpoints = vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 0)];
    fixture.tell(World::web(endpoints.clone()));
    let mut busy = Client::connect(fixture.mesh);
    busy.send(b"GET /slow?400 HTTP/1.1\r\nhost: web\r\n\r\n");
    until("it is under way", || one.requests() == 1);
    endpoints[0].draining = true;
    endpoints[1].weight = 1000;
    fixture.tell(World::web(endpoints));
    assert_eq!(share(&fixture, &two, 50), 50);
    assert_eq!(busy.read().expect("an answer").text(), "slow");
    assert_eq!(one.requests(), 1);
}
