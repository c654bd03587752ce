//! What a user of the business meets.

use crate::http::{Answer, call, get, receive, send};
use crate::process::{Role, Stage, until};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Of a role whose calls are to be answered.
const PATIENT: &str = r#"{"call_timeout_ms": 20000}"#;

fn draw(entry: &Role, user: &str) -> Answer {
    call(entry.address, "GET", "/draw", &format!("x-user-id: {user}\r\n"), "").unwrap()
}

fn stat(role: &Role, pointer: &str) -> u64 {
    get(role.address, "/stats").json().pointer(pointer).and_then(serde_json::Value::as_u64).unwrap()
}

#[test]
fn a_winning_draw_goes_through_every_service_and_is_recorded() {
    let stage = Stage::new();
    let entry = stage.start("sso", PATIENT);
    let lottery = stage.start("lottery", r#"{"cpu_us_per_draw": 3000, "win_rate": 1.0, "call_timeout_ms": 20000}"#);
    let rest = ["gift", "message", "pay", "bank"].map(|role| stage.start(role, PATIENT));
    let records = stage.start("records", r#"{"fsync": true}"#);
    let won = draw(&entry, "7");
    assert_eq!(won.status, 200, "{won:?}");
    let won = won.json();
    assert_eq!((won["user"].as_str(), won["won"].as_bool()), (Some("7"), Some(true)));
    let cents = won["gift"]["cents"].as_u64().unwrap();
    assert!((1..=20_000).contains(&cents));
    let transfer = won["paid"]["transfer"].as_str().unwrap();
    let kept = get(records.address, &format!("/records/{transfer}")).json();
    assert_eq!(kept, serde_json::json!({"user": "7", "cents": cents}));
    assert_eq!(get(records.address, "/count").json()["count"], 1);
    let calls = stage.calls();
    let expected = [
        ("lottery", "sso"),
        ("gift", "lottery"),
        ("pay", "lottery"),
        ("bank", "pay"),
        ("records", "pay"),
        ("message", "lottery"),
    ];
    assert_eq!(calls.iter().map(|(on, by, _)| (on.as_str(), by.as_str())).collect::<Vec<_>>(), expected);
    assert!(calls.iter().all(|(_, _, user)| user == "7"), "{calls:?}");
    assert!(stat(&lottery, "/work/cpu_burnt_us") >= 3_000);
    assert!(stat(&lottery, "/work/cpu_process_us") >= stat(&lottery, "/work/cpu_burnt_us"));
    drop(rest);
}

#[test]
fn the_share_of_winners_is_the_configured_one() {
    let stage = Stage::new();
    let lottery = stage.start("lottery", r#"{"win_rate": 0.0, "call_timeout_ms": 20000}"#);
    for _ in 0..20 {
        assert_eq!(draw(&lottery, "1").json()["won"], false);
    }
    assert!(stage.calls().is_empty());
    let generous = stage.start("lottery", r#"{"win_rate": 0.5, "call_timeout_ms": 20000}"#);
    let _rest = ["gift", "message", "pay", "bank", "records"].map(|role| stage.start(role, PATIENT));
    let wins = (0..60).filter(|_| draw(&generous, "1").json()["won"] == true).count();
    assert!((10..50).contains(&wins), "five standard deviations around 30: {wins}");
}

#[test]
fn what_fails_below_is_told_and_a_rejection_is_passed_on() {
    let stage = Stage::new();
    let entry = stage.start("sso", PATIENT);
    let rejected = draw(&entry, "1");
    assert_eq!(rejected.status, 503, "{rejected:?}");
    assert!(rejected.head.contains("x-springtide-reject: no-endpoint"), "{rejected:?}");
    let mut lottery = stage.start("lottery", r#"{"win_rate": 0.0, "hold_us": 15000000}"#);
    let hasty = stage.start("sso", r#"{"call_timeout_ms": 1000}"#);
    let slow = draw(&hasty, "1");
    assert_eq!((slow.status, slow.json()["error"].as_str()), (504, Some("lottery did not answer in time")));
    lottery.child.kill().unwrap();
    lottery.ended();
    let gone = draw(&entry, "1");
    assert_eq!(gone.status, 502, "{gone:?}");
    assert_eq!(get(entry.address, "/nothing").status, 404);
}

#[test]
fn the_banks_delay_can_be_set_while_it_runs() {
    let stage = Stage::new();
    let bank = stage.start("bank", r#"{"delay_ms": 0}"#);
    assert_eq!(call(bank.address, "PUT", "/delay/120", "", "").unwrap().json()["delay_ms"], 120);
    let start = Instant::now();
    assert_eq!(call(bank.address, "POST", "/transfer", "", "{}").unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(120));
    assert_eq!(call(bank.address, "PUT", "/delay/soon", "", "").unwrap().status, 400);
}

#[test]
fn a_probe_costs_what_it_is_told() {
    let stage = Stage::new();
    let cpu = stage.start("probe", r#"{"cpu_us": 2000, "version": 1}"#);
    let before = stat(&cpu, "/work/cpu_process_us");
    for _ in 0..20 {
        assert_eq!(get(cpu.address, "/any/path").status, 200);
    }
    assert!((40_000..44_000).contains(&stat(&cpu, "/work/cpu_burnt_us")));
    assert!(stat(&cpu, "/work/cpu_process_us") - before >= 40_000);
    let held = stage.start("probe", r#"{"workers": 2, "hold_us": 30000}"#);
    let start = Instant::now();
    let waiting: Vec<TcpStream> = (0..6).map(|_| send(held.address, "GET", "/", "", "").unwrap()).collect();
    for stream in waiting {
        assert_eq!(receive(stream).unwrap().status, 200);
    }
    assert!(start.elapsed() >= Duration::from_millis(90), "three turns of two");
    assert_eq!((stat(&held, "/work/workers/slots"), stat(&held, "/work/workers/holds")), (2, 6));
    assert!(stat(&held, "/work/workers/held_us") >= 180_000);
    assert!(stat(&held, "/work/cpu_process_us") < 150_000, "held without CPU");
}

#[test]
fn term_finishes_what_is_in_flight_and_takes_nothing_new() {
    let stage = Stage::new();
    let mut probe = stage.start("probe", r#"{"workers": 8, "hold_us": 6000000}"#);
    // A kept connection without a request must not hold up the end.
    let mut idle = TcpStream::connect(probe.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: probe\r\n\r\n").unwrap();
    let busy: Vec<TcpStream> = (0..4).map(|_| send(probe.address, "GET", "/", "", "").unwrap()).collect();
    until("four requests are in flight", || (stat(&probe, "/work/workers/in_use") == 4).then_some(()));
    probe.terminate();
    for stream in busy {
        assert_eq!(receive(stream).unwrap().status, 200, "in flight at TERM");
    }
    assert!(probe.ended().success());
    TcpStream::connect(probe.address).unwrap_err();
}

#[test]
fn answered_records_survive_kill_9() {
    let stage = Stage::new();
    let mut records = stage.start("records", "{}");
    let address = records.address;
    let writer = std::thread::spawn(move || {
        let mut answered = Vec::new();
        // Until the store is killed under it.
        for number in 0.. {
            let key = format!("key-{number}");
            match call(address, "POST", &format!("/records/{key}"), "", &format!("value {number}")) {
                Ok(answer) if answer.status == 200 => answered.push((key, format!("value {number}"))),
                Ok(answer) => panic!("{answer:?}"),
                Err(_) => return answered,
            }
        }
        unreachable!("the loop has no end of its own")
    });
    until("some records are kept", || (get(address, "/count").json()["count"].as_u64()? >= 50).then_some(()));
    records.child.kill().unwrap();
    records.ended();
    let answered = writer.join().unwrap();
    assert!(answered.len() >= 50);
    let again = stage.start("records", "{}");
    let count = get(again.address, "/count").json()["count"].as_u64().unwrap();
    assert!((answered.len() as u64..=answered.len() as u64 + 1).contains(&count), "{count} of {}", answered.len());
    for (key, value) in &answered {
        assert_eq!(&get(again.address, &format!("/records/{key}")).body, value);
    }
    assert_eq!(get(again.address, "/records/none").status, 404);
    assert_eq!(call(again.address, "POST", "/records/a%20b", "", "x").unwrap().status, 400);
    assert!(stage.data().join("records.log").exists());
}

#[test]
fn a_wrong_start_says_what_would_be_right() {
    let stage = Stage::new();
    let stderr = |command: &mut std::process::Command| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let typo = stderr(&mut stage.command("lottery", r#"{"cpu_uss": 1}"#, testkit::address()));
    assert!(typo.contains("lottery.json is not usable") && typo.contains("cpu_uss"), "{typo}");
    let unset = stderr(stage.command("gift", "{}", testkit::address()).env_remove("PORT_HTTP"));
    assert!(unset.contains("PORT_HTTP is not set: declare `ports: [http]`"), "{unset}");
    let dataless = stderr(stage.command("records", "{}", testkit::address()).env_remove("SPRINGTIDE_DATA"));
    assert!(dataless.contains("SPRINGTIDE_DATA is not set"), "{dataless}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = stderr(&mut stage.command("gift", "{}", taken.local_addr().unwrap()));
    assert!(busy.contains("cannot listen on 127.0.0.1:"), "{busy}");
    let unknown = stderr(&mut stage.command("loterry", "{}", testkit::address()));
    assert!(unknown.contains("usage: red-packet sso|lottery"), "{unknown}");
}
