//! The context of a request over real sockets: forged headers, deadlines, loads that services tell.

use crate::client::{Answer, Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use http::HeaderMap;
use std::time::{Duration, Instant};

fn seen(upstream: &Upstream) -> HeaderMap {
    upstream.seen.last.lock().expect("not poisoned").clone().expect("a request came").1
}

fn call(fixture: &Fixture, path: &str, headers: &str) -> Answer {
    Client::connect(fixture.mesh).get_with("web", path, headers)
}

fn tell_load(upstream: &Upstream, load: &'static str) {
    *upstream.seen.load.lock().expect("not poisoned") = Some(load);
}

#[test]
fn forged_headers_are_stripped_and_ours_are_the_same_on_every_proxy() {
    let (one, two, upstream) = (Fixture::start(), Fixture::start(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "business_level", 8.0);
    one.tell(world.clone());
    two.tell(world);
    let forged = "x-springtide-priority: 0\r\nX-Springtide-User: 0000000000000001\r\nx-springtide-attempt: 3\r\n\
                  x-springtide-deadline-ms: 99999999\r\nx-springtide-admitted: web\r\nx-springtide-lane: cash\r\n\
                  x-springtide-shed: 1:9999\r\nx-springtide-new: 1\r\n";
    let mut sent = Vec::new();
    for fixture in [&one, &two] {
        for headers in [forged, ""] {
            Client::connect(fixture.entry).get_with("x", "/?uid=4711", headers);
            let up = seen(&upstream);
            for gone in ["attempt", "admitted", "lane", "shed", "new"] {
                assert!(!up.contains_key(format!("x-springtide-{gone}")), "{gone} passed");
            }
            let deadline: u64 = up["x-springtide-deadline-ms"].to_str().expect("text").parse().expect("a number");
            assert!((1..=15_000).contains(&deadline), "{deadline}");
            sent.push((up["x-springtide-priority"].clone(), up["x-springtide-user"].clone()));
        }
    }
    assert!(sent.iter().all(|of| *of == sent[0]), "whatever is forged, and whichever proxy: {sent:?}");
    let priority: u16 = sent[0].0.to_str().expect("text").parse().expect("a number");
    assert_eq!(priority >> 10, 8, "the service's business level");
    Client::connect(one.entry).get("x", "/?uid=4712");
    assert_ne!(seen(&upstream)["x-springtide-user"], sent[0].1, "another user");
}

#[test]
fn context_is_believed_on_the_mesh_and_time_runs_out_on_the_way() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let context = "x-springtide-priority: 77\r\nx-springtide-user: 00000000000000ff\r\nx-springtide-attempt: 2\r\n\
                   x-springtide-deadline-ms: 9000\r\nx-springtide-admitted: sso\r\n";
    assert_eq!(call(&fixture, "/", context).status, 200);
    let up = seen(&upstream);
    let of = |name: &str| up[format!("x-springtide-{name}")].to_str().expect("text").to_owned();
    assert_eq!(
        (of("priority"), of("user"), of("attempt"), of("admitted")),
        ("77".into(), "00000000000000ff".into(), "2".into(), "sso".into())
    );
    let left: u64 = of("deadline-ms").parse().expect("a number");
    assert!((1..9_000).contains(&left), "each hop takes its part: {left}");
}

#[test]
fn work_whose_time_is_over_is_dropped_unstarted() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).number("web", "in_flight_max", 1.0));
    let late = call(&fixture, "/", "x-springtide-deadline-ms: 0\r\n");
    assert_eq!((late.status, late.header("x-springtide-reject")), (504, Some("deadline; by=web")));
    assert_eq!(upstream.requests(), 0, "nobody worked for it");
    let mesh = fixture.mesh;
    let first = std::thread::spawn(move || get(mesh, "web", "/slow?4000"));
    until("the only place is taken", || upstream.requests() == 1);
    let began = Instant::now();
    let waited = call(&fixture, "/", "x-springtide-deadline-ms: 300\r\n");
    assert_eq!((waited.status, waited.header("x-springtide-reject")), (504, Some("deadline; by=web")));
    assert!(began.elapsed() >= Duration::from_millis(250), "it waited for a place first");
    assert_eq!((first.join().expect("no panic").status, upstream.requests()), (200, 1));
    let began = Instant::now();
    assert_eq!(call(&fixture, "/slow?9000", "x-springtide-deadline-ms: 200\r\n").status, 504);
    assert!(began.elapsed() < Duration::from_secs(8), "nobody waits longer than the task's time");
    until("rejects are told by reason", || {
        fixture.plane().heard(|heard| heard.protection.get("web").is_some_and(|p| p.rejects_deadline >= 2))
    });
}

#[test]
fn a_services_own_level_sheds_doomed_calls_before_they_cost_anything_and_their_demand_is_reported() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    tell_load(&upstream, "TEXT named_metrics.springtide_level=20000,named_metrics.springtide_demand_rps=900");
    let important = "x-springtide-priority: 100\r\n";
    let first = call(&fixture, "/", important);
    let own = first.header("endpoint-load-metrics").expect("passed on").to_owned();
    assert!(own.contains("springtide_demand_rps=900"), "as the service said it: {own}");
    until("a doomed one never reaches the service", || {
        // Of a view that heard nothing for a while one is let through, to ask.
        assert_eq!(call(&fixture, "/", important).status, 200);
        let before = upstream.requests();
        let doomed = call(&fixture, "/", "x-springtide-priority: 60000\r\n");
        if doomed.status != 503 || upstream.requests() != before {
            return false;
        }
        assert_eq!(doomed.header("x-springtide-reject"), Some("overload; by=web"));
        assert!(doomed.header("endpoint-load-metrics").expect("on rejects too").contains("springtide_level="));
        true
    });
    assert_eq!(call(&fixture, "/", important).status, 200);
    let shed = seen(&upstream)["x-springtide-shed"].to_str().expect("text").to_owned();
    assert_eq!(shed, format!("{}:1", 60_000 / 64), "but counts as demand there");
    let admitted = "x-springtide-priority: 60000\r\nx-springtide-admitted: sso, web\r\n";
    assert_eq!(call(&fixture, "/", admitted).status, 200, "a sub-call of an admitted task passes");
    let outside = Client::connect(fixture.entry).get("x", "/?uid=1");
    assert_eq!(outside.header("endpoint-load-metrics"), None, "loads are not told to the outside");
}

#[test]
fn a_service_that_tells_nonsense_is_not_believed() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    for nonsense in [
        "TEXT named_metrics.springtide_level=-1",
        "TEXT named_metrics.springtide_level=NaN,named_metrics.springtide_demand_rps=1",
        "TEXT named_metrics.springtide_level=1e300",
        "TEXT named_metrics.springtide_level=0,named_metrics.springtide_queue_delay_ms=1e99",
        "TEXT =,,;=",
        "{\"cpu\":1}",
    ] {
        tell_load(&upstream, nonsense);
        for _ in 0..3 {
            assert_eq!(call(&fixture, "/", "x-springtide-priority: 65535\r\n").status, 200, "{nonsense}");
        }
    }
    let refused = || fixture.plane().heard(|heard| heard.protection.get("web").map_or(0, |p| p.reports_refused));
    until("they are counted", || refused() >= 6);
    let wrong = "x-springtide-shed: 5000:1,::\r\nx-springtide-priority: x\r\nx-springtide-deadline-ms: -5\r\n";
    *upstream.seen.load.lock().expect("not poisoned") = None;
    assert_eq!(call(&fixture, "/", wrong).status, 200);
}

#[test]
fn only_a_stress_test_opens_the_gates_of_a_service() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    let mut endpoint = endpoint("w-1", upstream.address, 1000);
    fixture.tell(World::web(vec![endpoint.clone()]));
    let ungated = |headers: &str| {
        assert_eq!(call(&fixture, "/", headers).status, 200);
        seen(&upstream).contains_key("x-springtide-ungated")
    };
    assert!(!ungated("x-springtide-ungated: 1\r\n"), "no caller opens them");
    endpoint.leased = Some((500, 60_000));
    fixture.tell(World::web(vec![endpoint]));
    until("the override is in force", || ungated(""));
}
