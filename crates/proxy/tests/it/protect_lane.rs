//! Slowed money flows through a whole proxy: 202 and an id, released at the rate, paid exactly once, across a restart.

use crate::client::{Answer, Client, get};
use crate::http2::{connect, request, runtime, whole};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use proxy::protect::{LaneAt, Settings};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const SLOW: &str = r#"{"service":"web","route":"/count","action":{"slow":{"requests_per_second":20}}}"#;
const LONG_MS: u64 = 600_000;

fn with_lane() -> Fixture {
    Fixture::with(1, |config, folder| {
        let lane = LaneAt::Folder(folder.path().join("lane"));
        config.protection = Some(Settings { lane, ..Settings::default() });
    })
}

fn pay(fixture: &Fixture, key: &str, body: &str) -> Answer {
    let mut client = Client::connect(fixture.entry);
    let key = if key.is_empty() { String::new() } else { format!("idempotency-key: {key}\r\n") };
    let length = body.len();
    client.send(
        format!("POST /count?uid=9 HTTP/1.1\r\nhost: x\r\n{key}content-length: {length}\r\n\r\n{body}").as_bytes(),
    );
    client.read().expect("an answer")
}

fn state(fixture: &Fixture, id: &str) -> String {
    Client::connect(fixture.entry).get("x", &format!("/.well-known/springtide/lane/{id}")).text()
}

fn id_of(answer: &Answer) -> String {
    let location = answer.header("location").expect("where it stands").to_owned();
    location.rsplit('/').next().expect("an id").to_owned()
}

#[test]
fn slowed_requests_are_accepted_at_once_and_released_at_the_rate() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).policy(SLOW, LONG_MS));
    let began = Instant::now();
    let accepted: Vec<Answer> = (0..30).map(|n| pay(&fixture, &format!("k-{n}"), "money")).collect();
    assert!(accepted.iter().all(|answer| answer.status == 202), "{:?}", accepted[0]);
    let (first, last) = (id_of(&accepted[0]), id_of(&accepted[29]));
    assert!(state(&fixture, &last).contains("\"state\":\"waiting\"") || began.elapsed() > Duration::from_secs(1));
    let again = pay(&fixture, "k-29", "money");
    assert_eq!((again.status, id_of(&again)), (202, last.clone()), "the same request under the same key is one item");
    assert_eq!(pay(&fixture, "k-29", "more money").status, 422, "another one needs another key");
    until("all are paid", || upstream.requests() == 30);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_300), "30 at 20 a second: {took:?}");
    until("their state says so", || state(&fixture, &last).contains("\"state\":\"done\",\"status\":200"));
    let mut paid = keys("k", 30);
    paid.sort();
    assert_eq!(upstream.keys(), paid, "each once");
    let (target, headers) = upstream.seen.last.lock().expect("not poisoned").clone().expect("it came");
    assert_eq!(target, "/count?uid=9");
    assert!(headers.contains_key("x-springtide-user"), "the item keeps whose it is");
    assert!(!headers.contains_key("x-springtide-lane"), "what a service hands on must not pass other lanes");
    assert!(state(&fixture, &first).contains("done"));
    assert!(state(&fixture, "proxy-1.0").contains("no item"));
    let unslowed = Client::connect(fixture.entry).get("x", "/other");
    assert_eq!(unslowed.status, 200);
}

#[test]
fn a_slowed_call_of_grpc_is_not_sent_again_by_its_caller_and_its_own_status_decides() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let policy = SLOW.replace("/count", "/trailers").replace("20", "1000");
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web").policy(&policy, LONG_MS));
    let slowed = call(&fixture, &[0, 5, 14]);
    until("OK is done", || state(&fixture, &slowed[0]).contains("\"state\":\"done\""));
    until("NOT_FOUND is a dead letter", || state(&fixture, &slowed[1]).contains("grpc-status 5"));
    until("UNAVAILABLE is tried again", || upstream.requests() >= 5);
    assert!(state(&fixture, &slowed[2]).contains("waiting"));
}

/// Calls of gRPC that are slowed, each to end with its status; their ids.
fn call(fixture: &Fixture, statuses: &[u16]) -> Vec<String> {
    runtime().block_on(async {
        let mut sender = connect(fixture.entry).await;
        let mut ids = Vec::new();
        for grpc_status in statuses {
            let mut asked = request("x", &format!("/trailers?{grpc_status}"), "money");
            asked.headers_mut().insert("content-type", "application/grpc".parse().expect("valid"));
            asked.headers_mut().insert("te", "trailers".parse().expect("valid"));
            let (_, headers, body, _) = whole(sender.send_request(asked).await.expect("an answer")).await;
            assert_eq!((headers["grpc-status"].as_bytes(), body.len()), (b"9".as_slice(), 0), "{headers:?}");
            assert!(headers.contains_key("location"));
            ids.push(headers["x-springtide-lane-id"].to_str().expect("text").to_owned());
        }
        ids
    })
}

#[test]
fn what_waits_survives_the_proxy_and_the_policys_end() {
    let (mut fixture, upstream) = (with_lane(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]);
    let hold = SLOW.replace("20", "0.2");
    fixture.tell(world.clone().policy(&hold, LONG_MS));
    let ids: Vec<String> = (0..5).map(|_| id_of(&pay(&fixture, "", "money"))).collect();
    fixture.stop();
    let held = upstream.requests();
    assert!(held <= 2, "{held} were released before the stop");
    let plane = fixture.plane().url();
    let mut config = crate::config(&fixture.folder, &plane, 1);
    let lane = LaneAt::Folder(fixture.folder.path().join("lane"));
    config.protection = Some(Settings { lane, ..Settings::default() });
    let proxy = proxy::start(config).expect("it starts again");
    (fixture.entry, fixture.mesh) = (proxy.entry(), proxy.mesh());
    fixture.proxy = Some(proxy);
    fixture.tell(world.policy(&SLOW.replace("20", "100"), LONG_MS));
    until("all are paid", || ids.iter().all(|id| state(&fixture, id).contains("\"state\":\"done\"")));
    assert_eq!(upstream.requests(), 5, "each once");
}

fn summary(fixture: &Fixture) -> String {
    Client::connect(fixture.mesh).get("web", "/.well-known/springtide/lane").text()
}

fn retried(fixture: &Fixture) -> u64 {
    let summary = summary(fixture);
    let (_, rest) = summary.split_once("\"retried\":").expect("counted");
    rest.split(',').next().expect("a number").parse().expect("a number")
}

/// Another policy over the same route, while money waits.
fn answers_no_delivery(action: &str) {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]);
    fixture.tell(world.clone().policy(&SLOW.replace("20", "0.001"), LONG_MS));
    let ids: Vec<String> = (0..3).map(|n| id_of(&pay(&fixture, "", &format!("money {n}")))).collect();
    until("the first token is used", || upstream.requests() == 1);
    let answering = format!(r#"{{"service":"web","route":"/count","action":{action}}}"#);
    // The first has the name of the one that slowed them, and gives its rate to what waits.
    fixture.tell(world.clone().policy(&SLOW.replace("/count", "/other"), LONG_MS).policy(&answering, LONG_MS));
    assert_eq!(pay(&fixture, "", "new").text(), "later", "callers are answered in the service's place");
    until("they are tried", || retried(&fixture) >= 3);
    assert_eq!(upstream.requests(), 1, "{action}: the policy holds them back");
    assert!(ids[1..].iter().all(|id| state(&fixture, id).contains("waiting")), "{action}: and ends none");
    fixture.tell(world.policy(SLOW, LONG_MS));
    until("all are paid", || ids.iter().all(|id| state(&fixture, id).contains("\"state\":\"done\",\"status\":200")));
    assert_eq!(upstream.requests(), 3, "{action}: each once");
}

#[test]
fn a_suppress_over_the_same_route_ends_no_slowed_request() {
    answers_no_delivery(r#"{"suppress":{"status":200,"body":"later"}}"#);
}

#[test]
fn a_degrade_over_the_same_route_ends_no_slowed_request() {
    answers_no_delivery(r#"{"degrade":{"answer":{"status":200,"body":"later"}}}"#);
}

/// A slow policy over the route, asked before those without an order.
fn slow_first(rps: &str) -> String {
    SLOW.replace("\"action\"", "\"order\":50,\"action\"").replace("20", rps)
}

/// Accepts money under keys of this prefix; their ids.
fn accepted(fixture: &Fixture, prefix: &str, count: usize) -> Vec<String> {
    let pay = |n| pay(fixture, &format!("{prefix}-{n}"), "money");
    let answers: Vec<Answer> = (0..count).map(pay).collect();
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    answers.iter().map(id_of).collect()
}

fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn all_paid(fixture: &Fixture, ids: &[String]) -> bool {
    ids.iter().all(|id| state(fixture, id).contains("\"state\":\"done\",\"status\":200"))
}

#[test]
fn a_slow_policy_of_another_name_loses_nothing_of_the_first() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]);
    let world = world.named("lane-a", &SLOW.replace("20", "4"), LONG_MS);
    fixture.tell(world.clone());
    let first = accepted(&fixture, "a", 8);
    fixture.tell(world.named("lane-b", &slow_first("0.01"), LONG_MS));
    let second = accepted(&fixture, "b", 2);
    let again = pay(&fixture, "a-7", "money");
    assert_eq!((again.status, id_of(&again)), (202, first[7].clone()), "one item, whichever policy governs its key");
    until("the backlog is paid", || all_paid(&fixture, &first) && all_paid(&fixture, &second[..1]));
    let seen: Vec<String> = keys("a", 8).into_iter().chain(keys("b", 1)).collect();
    assert_eq!(upstream.keys(), seen, "each once, and of the other policy what its rate allows");
    assert!(summary(&fixture).contains(r#"{"policy":"lane-b","waiting":1}"#), "{}", summary(&fixture));
}

#[test]
fn a_backlog_whose_policy_was_lifted_is_paid_under_the_next_one() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]);
    fixture.tell(world.clone().named("slow-pay-pay", &SLOW.replace("20", "1"), LONG_MS));
    let ids = accepted(&fixture, "k", 4);
    fixture.tell(world.clone().named("elsewhere", &SLOW.replace("/count", "/other"), LONG_MS));
    fixture.tell(world.named("surge.pay", &SLOW.replace("20", "0.01"), LONG_MS));
    until("the backlog is paid", || all_paid(&fixture, &ids));
    assert_eq!(upstream.keys(), keys("k", 4), "each once");
}

#[test]
fn a_slowed_call_of_grpc_is_delivered_under_a_slow_policy_of_another_name() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).http2("web");
    let first = SLOW.replace("/count", "/trailers");
    fixture.tell(world.clone().named("lane-a", &first.replace("20", "0.001"), LONG_MS));
    let ids = call(&fixture, &[0, 0, 0]);
    let second = slow_first("0.001").replace("/count", "/trailers");
    fixture.tell(world.named("lane-a", &first, LONG_MS).named("lane-b", &second, LONG_MS));
    until("all are done", || all_paid(&fixture, &ids));
    assert_eq!(upstream.keys().len(), 3, "each once");
}

#[test]
fn what_a_policy_answers_inside_the_service_ends_no_slowed_request() {
    let (fixture, upstream) = (with_lane(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).policy(SLOW, LONG_MS));
    upstream.seen.instead.store(true, SeqCst);
    let ids = accepted(&fixture, "k", 2);
    until("they are tried again", || retried(&fixture) >= 4);
    assert!(ids.iter().all(|id| state(&fixture, id).contains("waiting")), "the service itself never answered");
    upstream.seen.instead.store(false, SeqCst);
    until("all are paid", || all_paid(&fixture, &ids));
    assert_eq!(upstream.keys(), keys("k", 2), "each once");
}

/// This very binary as a proxy process, on the addresses of the fixture's.
fn process(fixture: &Fixture) -> Child {
    let folder = fixture.folder.path();
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "restart::child"])
        .envs([("SERVER", fixture.plane().url()), ("ENTRY", fixture.entry.to_string())])
        .envs([("MESH", fixture.mesh.to_string())])
        .envs([("STATE", folder.join("child-state")), ("LANE", folder.join("lane"))])
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Tells a process the world, and waits until each of its workers acts by it.
fn tell_process(fixture: &Fixture, world: World, round: usize) {
    let probe = format!(r#"{{"route":"/probe/{round}","action":{{"suppress":{{"status":204}}}}}}"#);
    let version = fixture.plane().tell(world.named(&format!("probe-{round}"), &probe, LONG_MS));
    until("the world is acknowledged", || fixture.plane().acknowledged(version));
    let in_force = || {
        TcpStream::connect(fixture.entry).is_ok() && get(fixture.entry, "x", &format!("/probe/{round}")).status == 204
    };
    until("it is in force", || (0..16).all(|_| in_force()));
}

#[test]
fn money_outlives_kill_9_and_every_other_policy_over_its_route() {
    let mut fixture = Fixture::start();
    let upstream = Upstream::start();
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]);
    let mut running = process(&fixture);
    until("the process is heard", || {
        fixture.plane().heard(|heard| heard.hello.as_ref().is_some_and(|hello| hello.proxy == "child"))
    });
    fixture.stop();
    let held = world.clone().named("lane-a", &SLOW.replace("20", "0.001"), LONG_MS);
    tell_process(&fixture, held.clone(), 0);
    let ids = accepted(&fixture, "k", 8);
    until("the first is paid", || all_paid(&fixture, &ids[..1]));
    let world = world.named("lane-a", SLOW, LONG_MS).named("lane-b", &slow_first("0.001"), LONG_MS);
    let answering = |action: &str| format!(r#"{{"service":"web","route":"/count","order":10,"action":{action}}}"#);
    let answer = r#"{"status":200,"body":"later"}"#;
    let suppress = answering(&format!(r#"{{"suppress":{answer}}}"#));
    // The lane's rate is the whole process's and rises with the first worker: by then each of them must hold back.
    tell_process(&fixture, held.named("quiet", &suppress, LONG_MS), 1);
    tell_process(&fixture, world.clone().named("quiet", &suppress, LONG_MS), 2);
    until("they are tried, and held back", || retried(&fixture) >= 7);
    running.kill().expect("kill -9");
    running.wait().expect("it ended");
    running = process(&fixture);
    let degrade = answering(&format!(r#"{{"degrade":{{"answer":{answer}}}}}"#));
    until("it listens", || TcpStream::connect(fixture.entry).is_ok());
    tell_process(&fixture, world.clone().named("static", &degrade, LONG_MS), 3);
    until("they are tried again", || retried(&fixture) >= 7);
    assert_eq!(upstream.keys(), keys("k", 1), "all that answer in the service's place hold them back");
    assert!(ids[1..].iter().all(|id| state(&fixture, id).contains("waiting")), "and end none");
    tell_process(&fixture, world, 4);
    until("all are paid", || all_paid(&fixture, &ids[1..]));
    assert_eq!(upstream.keys(), keys("k", 8), "each once");
    running.kill().expect("it is ours");
    running.wait().expect("it ended");
}

#[test]
fn without_a_lane_a_slow_policy_says_so_and_a_refused_item_is_a_dead_letter() {
    let (fixture, upstream) = (Fixture::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).policy(SLOW, LONG_MS));
    let refused = pay(&fixture, "", "money");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("--slow-lane"), "{}", refused.text());
    let (fixture, upstream) = (with_lane(), Upstream::start());
    let status = SLOW.replace("/count", "/status");
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]).policy(&status, LONG_MS));
    let mut client = Client::connect(fixture.entry);
    client.send(b"POST /status?410 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    let id = id_of(&client.read().expect("an answer"));
    until("it is a dead letter", || state(&fixture, &id).contains("\"state\":\"dead\",\"status\":410"));
    let mesh = |method: &str, path: &str| {
        let mut client = Client::connect(fixture.mesh);
        client.send(
            format!("{method} /.well-known/springtide/lane{path} HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n")
                .as_bytes(),
        );
        client.read().expect("an answer").text()
    };
    assert!(mesh("GET", "/dead").contains(&id), "listed, not dropped");
    assert!(mesh("GET", "").contains("\"dead\":1"));
    assert!(mesh("POST", &format!("/dead/{id}/retry")).contains("waiting"));
    until("it was tried again", || upstream.requests() >= 2);
    let outside = Client::connect(fixture.entry).get("x", "/.well-known/springtide/lane/dead");
    assert_eq!(outside.status, 404, "what is kept for people is not shown to the outside");
}
