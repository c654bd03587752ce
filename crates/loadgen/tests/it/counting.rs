//! Every intended request is accounted for, whatever becomes of it.

use crate::one_of_three;
use crate::server::{Server, block_on};
use loadgen::{End, Errors, Handle, Plan, Profile, Report, Users, run, run_watched};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;

const SHORT: Profile = Profile::Constant { rps: 250.0, seconds: 0.2 };

fn report_of(plan: Plan) -> Report {
    let report = block_on(run(plan, |_| {})).unwrap();
    assert_eq!(report.offered, report.done + report.rejected + report.dropped + report.errors.total(), "{report:?}");
    assert_eq!(report.offered, 50);
    report
}

#[test]
fn answers_are_counted_by_class() {
    let server = Server::start();
    let of = |path: &str| report_of(Plan::new(server.address, path, SHORT));
    let all = |report: &Report| report.offered;
    let redirect = of("/status/302");
    assert_eq!(redirect.errors, Errors { redirect_3xx: all(&redirect), ..Errors::default() });
    let missing = of("/status/404");
    assert_eq!(missing.errors, Errors { client_4xx: all(&missing), ..Errors::default() });
    let broken = of("/status/503");
    assert_eq!(broken.errors, Errors { server_5xx: all(&broken), ..Errors::default() });
    assert_eq!(broken.latency.max_ms, 0.0, "fast errors do not flatter the latency");
    for path in ["/reject/503", "/reject/429"] {
        let rejected = of(path);
        assert_eq!((rejected.rejected, rejected.errors.total()), (all(&rejected), 0));
    }
    let only_these_statuses = of("/reject/500");
    assert_eq!((only_these_statuses.rejected, only_these_statuses.errors.server_5xx), (0, all(&only_these_statuses)));
}

#[test]
fn what_overflows_is_dropped_and_counted() {
    let server = Server::start();
    let mut plan = Plan::new(server.address, "/sleep/2000", SHORT);
    plan.in_flight_max = 5;
    let report = report_of(plan);
    assert_eq!((report.done, report.dropped), (5, report.offered - 5));
    assert_eq!(server.seen.lock().unwrap().requests.len(), 5);
    assert_eq!(report.seconds.iter().map(|second| second.dropped).sum::<u64>(), report.dropped);
}

#[test]
fn who_watches_hears_of_each_request_once() {
    let server = Server::start();
    let ends = |path: &str, in_flight_max: u32| {
        let mut plan = Plan::new(server.address, path, SHORT);
        (plan.in_flight_max, plan.users) = (in_flight_max, Users { count: 3, zipf_exponent: None });
        let (tell, told) = std::sync::mpsc::channel();
        let watch = move |ended| tell.send(ended).expect("somebody listens");
        let report = block_on(run_watched(plan, &Handle::new(), |_| {}, watch)).unwrap();
        let told: Vec<_> = told.iter().collect();
        assert_eq!(told.len() as u64, report.offered);
        assert!(told.iter().all(|ended| (1..=3).contains(&ended.user) && ended.lag_us <= ended.latency_us));
        let count = |wanted: fn(&End) -> bool| told.iter().filter(|ended| wanted(&ended.end)).count() as u64;
        let [served, failed] = [count(|end| *end == End::Served), count(|end| *end == End::Failed)];
        assert_eq!((served, failed), (report.done, report.errors.total()));
        assert_eq!(count(|end| *end == End::Dropped), report.dropped);
        assert_eq!(count(|end| matches!(end, End::Rejected(why) if !why.is_empty())), report.rejected);
        report
    };
    assert_eq!(ends("/reject/429", 1_000).rejected, 50);
    assert_eq!(ends("/status/404", 1_000).errors.total(), 50);
    assert!(ends("/sleep/300", 5).dropped > 0);
}

#[test]
fn a_request_is_given_up_in_time_and_timed() {
    one_of_three(|| {
        let server = Server::start();
        let mut plan = Plan::new(server.address, "/sleep/60000", SHORT);
        plan.timeout_ms = 150;
        plan.connections_max = 2;
        let report = report_of(plan);
        assert_eq!(report.errors.timeouts, report.offered, "those that waited for a connection too");
        assert!((150.0..300.0).contains(&report.latency.p50_ms), "{:?}", report.latency);
        assert!(report.duration_s < 3.0, "{}", report.duration_s);
    });
}

#[test]
fn refused_and_broken_connections_are_told_apart() {
    let listener = TcpListener::bind(testkit::address()).unwrap();
    let address = listener.local_addr().unwrap();
    let closing = std::thread::spawn(move || {
        // Reads something of each request, then hangs up; the last one is this test's farewell.
        for stream in listener.incoming() {
            let mut byte = [0];
            if stream.unwrap().read(&mut byte).unwrap() == 0 {
                return;
            }
        }
    });
    let report = report_of(Plan::new(address, "/", SHORT));
    assert_eq!(report.errors, Errors { broken: report.offered, ..Errors::default() });
    drop(std::net::TcpStream::connect(address).unwrap());
    closing.join().unwrap();
    let report = report_of(Plan::new(address, "/", SHORT));
    assert_eq!(report.errors, Errors { connect: report.offered, ..Errors::default() });
}

#[test]
fn connections_are_kept_and_closed_ones_replaced() {
    let server = Server::start();
    let mut plan = Plan::new(server.address, "/", SHORT);
    plan.connections_max = 3;
    let report = report_of(plan);
    assert_eq!(report.done, report.offered);
    let kept = server.seen.lock().unwrap().connections;
    assert!((1..=3).contains(&kept), "{kept}");
    let report = report_of(Plan::new(server.address, "/close", SHORT));
    assert_eq!(report.done, report.offered, "{:?}", report.errors);
    assert!(server.seen.lock().unwrap().connections >= kept + 45);
}

#[test]
fn users_hosts_and_targets_are_as_planned() {
    let (first, second) = (Server::start(), Server::start());
    let mut plan = Plan::new(first.address, "/draw/{user}?again={user}", SHORT);
    plan.targets.push(second.address);
    plan.host = Some("lottery.example".to_owned());
    plan.users = Users { count: 1_000_000, zipf_exponent: Some(0.9) };
    plan.seed = 42;
    let users = |server: &Server| {
        let seen = std::mem::take(&mut server.seen.lock().unwrap().requests);
        assert!(seen.iter().all(|(path, host, user)| path == &format!("/draw/{user}") && host == "lottery.example"));
        seen.into_iter().map(|(_, _, user)| user).collect::<BTreeSet<_>>()
    };
    let offered = report_of(plan.clone()).offered;
    let (on_first, on_second) = (users(&first), users(&second));
    assert!(on_first.len() > 10 && on_second.len() > 10, "{offered} went to both in turn");
    report_of(plan.clone());
    assert_eq!((users(&first), users(&second)), (on_first.clone(), on_second), "the seed decides");
    plan.seed = 43;
    report_of(plan);
    assert_ne!(users(&first), on_first);
}

#[test]
fn senseless_plans_are_refused_before_anything_is_sent() {
    let server = Server::start();
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = Plan::new(server.address, "/", SHORT);
        change(&mut plan);
        block_on(run(plan, |_| {})).unwrap_err().to_string()
    };
    assert_eq!(refused(&|plan| plan.targets.clear()), "no target: give at least one address");
    let path = refused(&|plan| plan.path = "draw".to_owned());
    assert_eq!(path, "path: draw is not usable; give a path that begins with / and holds no space");
    for (field, change) in [
        ("path", Box::new(|plan: &mut Plan| plan.path = "/a b".to_owned()) as Box<dyn Fn(&mut Plan)>),
        ("headers", Box::new(|plan| plan.headers.push(("a b".to_owned(), "c".to_owned())))),
        ("host", Box::new(|plan| plan.host = Some("a\nb".to_owned()))),
        ("users", Box::new(|plan| plan.users.count = 0)),
        ("zipf_exponent", Box::new(|plan| plan.users.zipf_exponent = Some(f64::NAN))),
        ("timeout_ms", Box::new(|plan| plan.timeout_ms = 0)),
        ("connections_max", Box::new(|plan| plan.connections_max = 0)),
        ("in_flight_max", Box::new(|plan| plan.in_flight_max = 0)),
        ("lag_p99_ms_max", Box::new(|plan| plan.lag_p99_ms_max = f64::NAN)),
        ("profile", Box::new(|plan| plan.profile = Profile::Constant { rps: 1.0, seconds: 0.0 })),
    ] {
        let message = refused(&*change);
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
    }
    assert!(server.seen.lock().unwrap().requests.is_empty());
}

#[test]
fn what_happens_after_the_last_whole_second_is_told_too() {
    let server = Server::start();
    let mut told = Vec::new();
    let plan = Plan::new(server.address, "/", SHORT);
    let report = block_on(run(plan, |progress| told.push(progress.second))).unwrap();
    assert_eq!(told.iter().map(|second| second.done).sum::<u64>(), 50);
    assert_eq!(told, report.seconds);
}
