//! Operators' policies as callers meet them.

use crate::client::{Answer, Client};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;

const LONG_MS: u64 = 600_000;

fn world(upstream: &Upstream) -> World {
    World::web(vec![endpoint("w-1", upstream.address, 1000)])
}

fn user(fixture: &Fixture, path: &str, uid: u32) -> Answer {
    Client::connect(fixture.entry).get_with("x", path, &format!("cookie: a=b; uid={uid}\r\n"))
}

#[test]
fn a_throttle_by_users_takes_the_same_users_all_along_and_more_when_it_grows() {
    let (fixture, upstream) = (Fixture::with_threads(2), Upstream::start());
    let throttled = |percent: u32| {
        let policy = format!(r#"{{"service":"web","action":{{"throttle":{{"users_percent":{percent}}}}}}}"#);
        fixture.tell(world(&upstream).policy(&policy, LONG_MS));
        let round = || -> BTreeSet<u32> {
            (0..300)
                .filter(|uid| {
                    let answer = user(&fixture, "/draw", *uid);
                    assert!(answer.status == 200 || answer.status == 429, "{answer:?}");
                    answer.status == 429
                })
                .collect()
        };
        let first = round();
        assert_eq!(first, round(), "the same users");
        first
    };
    let (few, many) = (throttled(20), throttled(50));
    assert!((36..=84).contains(&few.len()), "{} of 300 at 20%", few.len());
    assert!((120..=180).contains(&many.len()), "{} of 300 at 50%", many.len());
    assert!(few.is_subset(&many), "a larger share adds users and spares none");
    let taken = *many.first().expect("some are taken");
    assert_eq!(user(&fixture, "/", taken).header("x-springtide-reject"), Some("policy; by=p0"));
    until("it is counted", || {
        fixture.plane().heard(|heard| heard.policies.get("p0").is_some_and(|p| p.taken > 100 && p.matched > 300))
    });
    let key = ("outside".to_owned(), "web".to_owned(), String::new());
    until("golden signals count fast rejections", || {
        fixture.plane().heard(|heard| heard.edges.get(&key).is_some_and(|edge| edge.rejects > 100))
    });
}

#[test]
fn suppress_and_degrade_answer_in_the_services_place() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    let suppress = r#"{"route":"/push","action":{"suppress":{"status":204,"headers":{"x-quiet":"1"}}}}"#;
    let degrade = r#"{"route":"/feed","when":"request.method == 'GET'",
        "action":{"degrade":{"answer":{"status":200,"headers":{"content-type":"application/json"},"body":"[]"}}}}"#;
    fixture.tell(world(&upstream).policy(suppress, LONG_MS).policy(degrade, LONG_MS));
    let quiet = user(&fixture, "/push/1", 1);
    assert_eq!((quiet.status, quiet.header("x-quiet")), (204, Some("1")));
    let feed = user(&fixture, "/feed?n=1", 1);
    assert_eq!((feed.status, feed.text().as_str(), feed.header("content-type")), (200, "[]", Some("application/json")));
    assert_eq!(upstream.requests(), 0);
    let mut client = Client::connect(fixture.entry);
    client.send(b"POST /feed HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.read().expect("an answer").text(), "hello", "its expression spares what is no GET");
    assert_eq!(user(&fixture, "/pushing", 1).text(), "hello", "whole segments only");
}

#[test]
fn degrade_serves_the_last_good_answer_to_whom_it_was_given() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    let degrade = r#"{"action":{"degrade":{"cached_seconds_max":60,"answer":{"status":200,"body":"later"}}}}"#;
    fixture.tell(world(&upstream).policy(degrade, LONG_MS));
    assert_eq!(user(&fixture, "/feed", 1).text(), "hello", "the first fetches it");
    upstream.seen.failing.store(true, SeqCst);
    for _ in 0..5 {
        assert_eq!(user(&fixture, "/feed", 1).text(), "hello", "what was kept");
    }
    assert_eq!(user(&fixture, "/feed", 2).status, 500, "another user's is fetched, once");
    assert_eq!(user(&fixture, "/feed", 2).text(), "later", "and then the configured answer stands in");
    assert!(upstream.requests() <= 5, "{}", upstream.requests());
}

#[test]
fn a_policy_ends_by_the_proxys_own_clock_with_no_server_in_reach() {
    let (mut fixture, upstream) = (Fixture::start(), Upstream::start());
    let all = r#"{"action":{"throttle":{"users_percent":100}}}"#;
    fixture.tell(world(&upstream).policy(all, 5_000));
    assert_eq!(user(&fixture, "/", 1).status, 429);
    fixture.plane = None;
    assert_eq!(user(&fixture, "/", 1).status, 429, "the server's death ends nothing");
    until("it lapses", || user(&fixture, "/", 1).status == 200);
}

#[test]
fn a_rate_and_a_business_level_throttle() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    let levels = r#"{"action":{"throttle":{"business_levels_from":8}}}"#;
    let world = world(&upstream).number("web", "business_level", 8.0);
    fixture.tell(world.clone().policy(levels, LONG_MS));
    assert_eq!(user(&fixture, "/", 1).status, 429);
    let mut client = Client::connect(fixture.mesh);
    assert_eq!(client.get_with("web", "/", "x-springtide-priority: 5000\r\n").status, 200, "level 4 is more important");
    let rate = r#"{"action":{"throttle":{"requests_per_second":50}}}"#;
    fixture.tell(world.policy(rate, LONG_MS));
    let began = std::time::Instant::now();
    let (mut passed, mut asked) = (0.0, 0);
    let (mut last, mut least) = (began, 0.0);
    while least < 100.0 {
        asked += 1;
        passed += f64::from(u8::from(client.get("web", "/").status == 200));
        // Of a pause the bucket keeps no more than its burst.
        let gap = last.elapsed();
        last += gap;
        least += 50.0 * gap.as_secs_f64().min(0.1);
    }
    let allowed = 50.0 * began.elapsed().as_secs_f64();
    assert!(asked > 200, "{asked} asked: too few to judge by");
    assert!(
        passed <= allowed * 1.1 + 10.0 && passed >= least * 0.7,
        "{passed} passed, {least} to {allowed} allowed, {asked} asked"
    );
}
