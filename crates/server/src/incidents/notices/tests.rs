//! A real HTTP receiver that fails first, a real command, silences, restarts.

use super::*;
use api::http::Incident;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use model::Severity;
use serde_json::Value;
use std::sync::Mutex;

/// What the receiver got, and how often it is still to fail.
#[derive(Default)]
struct Got {
    failures_left: u32,
    refused: u32,
    taken: Vec<Value>,
    keys: Vec<String>,
}

type Inbox = Arc<Mutex<Got>>;

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, body: String) -> StatusCode {
    let mut got = inbox.lock().expect("no panic");
    if got.failures_left > 0 {
        (got.failures_left, got.refused) = (got.failures_left - 1, got.refused + 1);
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    got.taken.push(serde_json::from_str(&body).expect("JSON"));
    got.keys.push(headers["idempotency-key"].to_str().expect("text").to_owned());
    StatusCode::OK
}

async fn listen(failures: u32) -> (Inbox, String) {
    let inbox = Inbox::new(Mutex::new(Got { failures_left: failures, ..Got::default() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/alerts", listener.local_addr().expect("bound"));
    let router = Router::new().route("/alerts", post(take)).with_state(inbox.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (inbox, url)
}

fn told(number: u64, ended: bool, tell: u64) -> (u64, Arc<Told>) {
    let view = Incident {
        id: format!("inc-{number}"),
        state: if ended { "resolved" } else { "open" }.to_owned(),
        title: "errors of service pay".to_owned(),
        severity: "critical".to_owned(),
        started_at: 1_700_000_000_000,
        ended_at: ended.then_some(1_700_000_060_000),
        services: vec!["pay".to_owned()],
        change: tell,
        ..Incident::default()
    };
    (number, Arc::new(Told { view, tell, severity: Severity::Critical }))
}

fn shown(receivers: Vec<Receiver>, incidents: impl IntoIterator<Item = (u64, Arc<Told>)>) -> Arc<Shown> {
    let incidents = incidents.into_iter().collect();
    Arc::new(Shown { incidents, receivers: Arc::new(receivers), ..Shown::default() })
}

fn receiver(fields: Value) -> Receiver {
    serde_json::from_value(fields).expect("a receiver")
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_receiver_that_fails_first_is_told_in_the_end_once_and_of_the_end_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (inbox, url) = listen(2).await;
    let heard = folder.path().join("heard");
    let command = format!("cat >> {}", heard.display());
    let hook = receiver(serde_json::json!({ "name": "hook", "webhook": url }));
    let program = receiver(serde_json::json!({ "name": "program", "command": ["sh", "-c", command] }));
    let receivers = vec![hook, program];
    let (show, view) = watch::channel(shown(receivers.clone(), [told(1, false, 1), told(2, false, 1)]));
    let file = folder.path().join("notices.json");
    let office = tokio::spawn(run(view.clone(), file.clone(), "http://127.0.0.1:1".to_owned()));
    until("the webhook is told", || inbox.lock().expect("no panic").taken.len() == 1).await;
    {
        let got = inbox.lock().expect("no panic");
        assert_eq!(got.refused, 2);
        let payload = &got.taken[0];
        assert_eq!((payload["version"].as_str(), payload["status"].as_str()), (Some("4"), Some("firing")));
        assert_eq!(payload["receiver"], "hook");
        assert_eq!(payload["alerts"].as_array().map(Vec::len), Some(2), "both in one notice");
        assert_eq!(payload["alerts"][0]["labels"]["incident"], "inc-1");
        assert_eq!(payload["alerts"][0]["startsAt"], "2023-11-14T22:13:20Z");
        assert_eq!(payload["alerts"][0]["endsAt"], NO_END);
        assert_eq!(payload["commonLabels"]["severity"], "critical");
    }
    let lines = || std::fs::read_to_string(&heard).unwrap_or_default();
    until("the command is told", || lines().contains("inc-2")).await;
    let remembered = |name: &str| std::fs::read_to_string(&file).is_ok_and(|text| text.contains(name));
    until("it is remembered", || remembered("\"hook\"") && remembered("\"program\"")).await;

    // Killed and started again: who was told is not told again, and hears of the end.
    office.abort();
    show.send_replace(shown(receivers.clone(), [told(1, true, 2), told(2, false, 1)]));
    let office = tokio::spawn(run(view, file, String::new()));
    until("the end is told", || inbox.lock().expect("no panic").taken.len() == 2).await;
    let got = inbox.lock().expect("no panic");
    let payload = &got.taken[1];
    assert_eq!((payload["status"].as_str(), payload["alerts"].as_array().map(Vec::len)), (Some("resolved"), Some(1)));
    assert_eq!(payload["alerts"][0]["endsAt"], "2023-11-14T22:14:20Z");
    assert_eq!(payload["alerts"][0]["fingerprint"], got.taken[0]["alerts"][0]["fingerprint"]);
    assert_ne!(got.keys[0], got.keys[1]);
    office.abort();
}

const NO_END: &str = "0001-01-01T00:00:00Z";

/// A desk, looked at without a clock.
fn desk(fields: Value, shown: &Shown) -> Desk {
    Desk::new(receiver(fields), None, shown, 0)
}

fn step(desk: &mut Desk, shown: &Shown, now: UnixMs, taken: bool) -> Option<Vec<String>> {
    desk.owe(shown, now);
    let (told, _) = desk.due(shown, "", now)?;
    let ids = told.iter().map(|(id, ..)| id.clone()).collect();
    desk.under_way = told;
    desk.ended(taken, now);
    Some(ids)
}

#[test]
fn an_hour_of_failures_is_survived_and_told_once_how_things_stand() {
    let mut desk = desk(serde_json::json!({ "name": "r", "webhook": "http://x" }), &Shown::default());
    let mut tries = 0;
    for now in (0..3_600_000).step_by(200) {
        // Meanwhile ever more happens.
        let view = shown(vec![], (1..=1 + now / 600_000).map(|number| told(number, false, 1 + now / 900_000)));
        tries += usize::from(step(&mut desk, &view, now, false).is_some());
    }
    assert!((60..120).contains(&tries), "{tries}");
    let view = shown(vec![], (1..=6).map(|number| told(number, number < 3, 9)));
    let told = step(&mut desk, &view, 3_700_000, true).expect("a notice");
    assert_eq!(told.len(), 6);
    assert_eq!(step(&mut desk, &view, 3_800_000, true), None);
}

#[test]
fn what_is_silenced_is_not_told_before_the_silence_ends() {
    let mut desk = desk(serde_json::json!({ "name": "r", "webhook": "http://x" }), &Shown::default());
    let (number, open) = told(1, false, 1);
    let mut view = open.view.clone();
    view.silenced_until = Some(60_000);
    let quiet = Arc::new(Told { view, ..(*open).clone() });
    let silenced = shown(vec![], [(number, quiet)]);
    assert!((0..60_000).step_by(500).all(|now| step(&mut desk, &silenced, now, true).is_none()));
    let loud = shown(vec![], [(number, open)]);
    assert_eq!(step(&mut desk, &loud, 60_000, true), None, "gathered first");
    assert_eq!(step(&mut desk, &loud, 62_000, true), Some(vec!["inc-1".to_owned()]));
    // Told, then silenced: it is not repeated while it is.
    assert!((70_000..30_000_000).step_by(100_000).all(|now| step(&mut desk, &silenced, now, true).is_none()));
    assert_eq!(step(&mut desk, &loud, 60_000_000, true), Some(vec!["inc-1".to_owned()]));
}

#[test]
fn a_receiver_hears_what_it_asked_for() {
    let fields = serde_json::json!({ "name": "r", "webhook": "http://x", "services": ["web"], "resolved": false });
    let mut picky = desk(fields, &Shown::default());
    let view = shown(vec![], [told(1, false, 1)]);
    picky.owe(&view, 0);
    assert_eq!(picky.due(&view, "", 10_000), None);
    let mut web = (*told(2, false, 1).1).clone();
    web.view.services.push("web".to_owned());
    let view = shown(vec![], [(2, Arc::new(web.clone()))]);
    picky.owe(&view, 20_000);
    assert_eq!(step(&mut picky, &view, 22_000, true), Some(vec!["inc-2".to_owned()]));
    web.view.ended_at = Some(30_000);
    web.tell = 2;
    let ended = shown(vec![], [(2, Arc::new(web))]);
    assert!((30_000..40_000_000).step_by(600_000).all(|now| step(&mut picky, &ended, now, true).is_none()));
}

#[test]
fn a_new_receiver_is_told_of_what_goes_on_and_not_of_what_has_been() {
    let view = shown(vec![], [told(1, true, 3), told(2, false, 1)]);
    let mut desk = desk(serde_json::json!({ "name": "r", "webhook": "http://x" }), &view);
    step(&mut desk, &view, 0, true);
    assert_eq!(step(&mut desk, &view, 2_000, true), Some(vec!["inc-2".to_owned()]));
}

fn standing(title: &str, severity: Severity, ended: bool, tell: u64) -> Arc<Shown> {
    let (number, told) = told(1, ended, tell);
    let view = Incident { title: title.to_owned(), ..told.view.clone() };
    shown(Vec::new(), [(number, Arc::new(Told { view, tell, severity }))])
}

/// Looks once; what was told, when anything was.
fn look(desk: &mut Desk, shown: &Shown, now: UnixMs) -> Option<Last> {
    desk.owe(shown, now);
    let (told, _) = desk.due(shown, "", now)?;
    desk.under_way = told;
    desk.ended(true, now);
    desk.last.get("inc-1").cloned()
}

#[test]
fn a_cause_that_flaps_is_told_once_a_minute_and_never_the_same_twice_and_what_is_worse_or_over_at_once() {
    let hook = receiver(serde_json::json!({ "name": "hook", "webhook": "http://127.0.0.1:1" }));
    let mut desk = Desk::new(hook, None, &shown(Vec::new(), []), 0);
    let titles = ["errors of service pay", "slowness of service sso", "errors of service pay"];
    let mut notices = Vec::new();
    let mut tell = 1;
    for now in (0..1_320_000).step_by(200) {
        tell += u64::from(now > 0 && now % 7_000 == 0);
        let title = titles[tell as usize % titles.len()];
        notices.extend(look(&mut desk, &standing(title, Severity::Warning, false, tell), now));
    }
    assert_eq!(notices[0].at, 1_000, "its begin at once");
    assert!((10..=22).contains(&notices.len()), "{notices:?}");
    for two in notices.windows(2) {
        assert!(two[1].at >= two[0].at + CAUSE_EVERY_MS && two[1].title != two[0].title, "{two:?}");
    }
    let end = 1_320_000;
    let worse =
        |ended: bool| standing("slowness of service sso", Severity::Critical, ended, tell + 1 + u64::from(ended));
    let more = (end..end + 10_000).step_by(200);
    let more: Vec<Last> = more.filter_map(|now| look(&mut desk, &worse(now >= end + 4_000), now)).collect();
    let about: Vec<_> = more.iter().map(|last| (last.severity, last.ended)).collect();
    assert_eq!(about, [(Severity::Critical, false), (Severity::Critical, true)]);
    assert!(more[0].at <= end + 1_000 && more[1].at == end + 5_000, "{more:?}");
}

#[test]
fn a_cause_that_is_back_before_the_notice_leaves_is_no_news_and_the_repeat_stays() {
    let hook = receiver(serde_json::json!({ "name": "hook", "webhook": "http://127.0.0.1:1", "repeat_minutes": 10 }));
    let mut desk = Desk::new(hook, None, &shown(Vec::new(), []), 0);
    let (pay, sso) = ("errors of service pay", "slowness of service sso");
    let at = |title, tell| standing(title, Severity::Warning, false, tell);
    assert!(look(&mut desk, &at(pay, 1), 0).is_none());
    assert!(look(&mut desk, &at(pay, 1), 1_000).is_some());
    assert!(look(&mut desk, &at(sso, 2), 70_000).is_none(), "it waits for what comes with it");
    assert!(look(&mut desk, &at(pay, 3), 71_000).is_none());
    assert!(look(&mut desk, &at(pay, 3), 600_000).is_none());
    let repeated = (601_000..680_000).step_by(200).filter_map(|now| look(&mut desk, &at(pay, 3), now));
    assert_eq!(repeated.count(), 1);
}
