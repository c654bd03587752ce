//! Retries: on a budget, told to the endpoint, never of what must not be sent twice, none against an overloaded level.

use crate::client::Client;
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

#[test]
fn an_idempotent_request_finds_another_endpoint_and_says_which_attempt_it_is() {
    let fixture = Fixture::start();
    let (well, ill) = (Upstream::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", well.address, 1000), endpoint("w-2", ill.address, 1000)]));
    ill.seen.rejecting.store(true, SeqCst);
    let mut client = Client::connect(fixture.mesh);
    let answers: Vec<u16> = (0..20).map(|_| client.get("web", "/").status).collect();
    assert!(ill.requests() >= 3, "{} went to the one that rejects", ill.requests());
    let failed = answers.iter().filter(|status| **status != 200).count();
    assert!(failed <= 2, "{failed} of 20 failed although another endpoint was well");
    let mut told = false;
    for _ in 0..20 {
        client.get("web", "/");
        let last = well.seen.last.lock().expect("not poisoned").clone();
        told |= last.is_some_and(|(_, headers)| headers.get("x-springtide-attempt").is_some_and(|n| n == "1"));
    }
    assert!(told, "the second attempt says so");
}

#[test]
fn the_budget_bounds_the_storm() {
    const ASKED: u64 = 400;
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    upstream.seen.unavailable.store(true, SeqCst);
    let mut client = Client::connect(fixture.mesh);
    for _ in 0..ASKED {
        assert_eq!(client.get("web", "/").status, 503);
    }
    // 10% of the calls, what was saved up, and one a second at least.
    let most = ASKED + ASKED / 10 + 10 + 15;
    assert!(upstream.requests() <= most, "{} attempts for {ASKED} calls", upstream.requests());
    until("retries are told", || {
        let told = fixture.plane().heard(|heard| heard.protection.get("web").cloned()).unwrap_or_default();
        told.retries > 10 && told.retries_refused > 40 && told.rejects_throttle > ASKED / 4
    });
    // A service that only refuses is soon asked less, and served again once it is well.
    upstream.seen.unavailable.store(false, SeqCst);
    until("it is tried now and then", || client.get("web", "/").status == 200);
}

#[test]
fn what_must_not_be_sent_twice_is_not_and_an_overloaded_level_gets_no_retry() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    upstream.seen.rejecting.store(true, SeqCst);
    let mut client = Client::connect(fixture.mesh);
    for _ in 0..5 {
        client.send(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.read().expect("an answer").status, 503);
    }
    assert_eq!(upstream.requests(), 5);
    *upstream.seen.load.lock().expect("not poisoned") = Some("TEXT named_metrics.springtide_level=1000");
    client.get_with("web", "/", "x-springtide-priority: 5\r\n");
    let before = upstream.requests();
    // The level dooms this one: at most the probe goes through, and it is not repeated.
    assert_eq!(client.get_with("web", "/", "x-springtide-priority: 30000\r\n").status, 503);
    assert!(upstream.requests() <= before + 1, "no retry against an overloaded level");
}

#[test]
fn what_an_overloaded_endpoint_sheds_is_tried_again_only_where_another_has_room() {
    let fixture = Fixture::start();
    let (first, second) = (Upstream::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", first.address, 1000), endpoint("w-2", second.address, 1000)]));
    for upstream in [&first, &second] {
        upstream.seen.rejecting.store(true, SeqCst);
        *upstream.seen.load.lock().expect("not poisoned") = Some("TEXT named_metrics.springtide_level=60000");
    }
    let mut client = Client::connect(fixture.mesh);
    let mut get = |priority: u16| client.get_with("web", "/", &format!("x-springtide-priority: {priority}\r\n")).status;
    // Both tell their level first.
    until("both were asked", || get(40_000) == 503 && first.requests() > 0 && second.requests() > 0);
    let (before, began) = (first.requests() + second.requests(), Instant::now());
    for _ in 0..10 {
        assert_eq!(get(40_000), 503);
    }
    let sent = first.requests() + second.requests() - before;
    // A level is believed for 2 s: where the machine stood still for longer, one finds out again.
    let most = if began.elapsed() > Duration::from_millis(1_500) { 11 } else { 10 };
    assert!((10..=most).contains(&sent), "{sent} sent: its level admits it, and yet it is sent once");
    // The second sheds too, but surely not what matters so much more.
    second.seen.rejecting.store(false, SeqCst);
    let before = first.requests();
    let served = (0..10).filter(|_| get(5) == 200).count();
    assert_eq!(served, 10, "{} of them came to the first", first.requests() - before);
    // And once it sheds nothing it takes all that the first refuses, within the budget.
    *second.seen.load.lock().expect("not poisoned") = Some("TEXT named_metrics.springtide_level=65536");
    until("the second says so", || get(5) == 200);
    let served = (0..5).filter(|_| get(40_000) == 200).count();
    assert_eq!(served, 5, "{} of them came to the first", first.requests() - before);
}

#[test]
fn a_connection_refused_is_tried_elsewhere_within_the_budget() {
    let fixture = Fixture::start();
    let nobody = testkit::address();
    let well = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", well.address, 1000), endpoint("w-2", nobody, 1000)]));
    let mut client = Client::connect(fixture.mesh);
    let failed = (0..30).filter(|_| client.get("web", "/").status != 200).count();
    assert!(failed <= 1, "{failed} of 30 failed");
}
