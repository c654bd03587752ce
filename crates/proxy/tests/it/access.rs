//! The access log: what its lines say, what share is taken, and that no request waits for it.

use crate::client::{Client, get};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, until};
use proxy::access_log::{BYTES_MAX_DEFAULT, Settings};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

fn logging(share: f64) -> Fixture {
    Fixture::with(1, |config, folder| {
        let to = folder.path().join("access.log");
        config.access_log = Some(Settings { to, share, bytes_max: BYTES_MAX_DEFAULT });
    })
}

fn lines(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("access.log")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn each_request_leaves_a_line() {
    let upstream = Upstream::start();
    let mut fixture = logging(1.0);
    let world = World::web(vec![endpoint("w-1", upstream.address, 1000)]).service("empty", vec![]);
    fixture.tell(world.number("web", "timeout_ms", 4_000.0));
    get(fixture.entry, "shop.example", "/count?secret=1");
    get(fixture.mesh, "empty", "/");
    let mut broken = Client::connect(fixture.mesh);
    broken.send(b"GET /stall HTTP/1.1\r\nhost: web\r\n\r\n");
    assert!(broken.read().is_none());
    let mut head = Client::connect(fixture.mesh);
    head.send(b"HEAD / HTTP/1.1\r\nhost: web\r\n\r\n");
    head.read_head().expect("an answer");
    fixture.stop();
    let lines = lines(fixture.folder.path());
    assert_eq!(lines.len(), 4, "{lines:?}");
    let of = |index: usize, name: &str| lines[index][name].clone();
    assert_eq!((of(0, "side"), of(0, "method"), of(0, "protocol")), ("entry".into(), "GET".into(), "HTTP/1.1".into()));
    assert_eq!((of(0, "host"), of(0, "path")), ("shop.example".into(), "/count".into()), "without the query");
    assert_eq!((of(0, "service"), of(0, "instance")), ("web".into(), "w-1".into()));
    assert_eq!((of(0, "status"), of(0, "bytes"), of(0, "peer")), (200.into(), 1.into(), "127.0.0.1".into()));
    assert!(of(0, "duration_us").as_u64() > Some(0) && of(0, "aborted").is_null());
    assert_eq!((of(1, "status"), of(1, "reject")), (503.into(), "no-endpoint; by=empty".into()));
    assert_eq!((of(1, "service"), of(1, "instance")), ("empty".into(), "".into()));
    assert_eq!((of(2, "path"), of(2, "bytes"), of(2, "aborted")), ("/stall".into(), 4.into(), true.into()));
    assert!(of(2, "duration_us").as_u64() >= Some(4_000_000), "until the answer ended, not until its head");
    assert_eq!((of(3, "method"), of(3, "status")), ("HEAD".into(), 200.into()));
    assert!(of(3, "aborted").is_null(), "no body was due");
}

#[test]
fn a_share_is_taken_evenly() {
    let upstream = Upstream::start();
    let mut fixture = logging(0.1);
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let mut client = Client::connect(fixture.mesh);
    (0..500).for_each(|_| drop(client.get("web", "/")));
    drop(client);
    fixture.stop();
    let taken = lines(fixture.folder.path()).len();
    assert!((47..=53).contains(&taken), "{taken} of 500");
}

#[test]
fn a_reload_opens_the_file_anew() {
    let upstream = Upstream::start();
    let fixture = logging(1.0);
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let (log, moved) = (fixture.folder.path().join("access.log"), fixture.folder.path().join("moved"));
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    get(fixture.mesh, "web", "/");
    until("the first line is there", || length(&log) > 0);
    std::fs::rename(&log, &moved).expect("moved");
    fixture.proxy.as_ref().expect("it lives").reload().expect("reloaded");
    get(fixture.mesh, "web", "/");
    until("the second is in a new file", || length(&log) > 0);
    assert_eq!(std::fs::read_to_string(moved).expect("there").lines().count(), 1);
}

/// A pipe that nobody reads stands for a disk that hangs.
#[test]
fn no_request_waits_for_a_log_that_is_not_written() {
    const REQUESTS: usize = 10_000;
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("access.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("opened");
    let mut fixture = Fixture::with(1, |config, _| {
        config.access_log = Some(Settings { to: pipe.clone(), share: 1.0, bytes_max: BYTES_MAX_DEFAULT });
    });
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let mut client = Client::connect(fixture.mesh);
    for _ in 0..REQUESTS {
        assert_eq!(client.get("web", "/status?204").status, 204);
    }
    let dropped = || fixture.proxy.as_ref().expect("it lives").warnings().access_lines_dropped.load(SeqCst);
    assert!(dropped() > 0, "what does not fit is dropped, and counted");
    drop(client);
    // Once it is read again, what waited is written, and the proxy can end.
    let reading = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    fixture.stop();
    drop(reading);
}
