//! What outlives what: the proxy its server, its state a restart, requests a stop; and answers not to be believed.

use crate::client::{Client, get};
use crate::plane::Plane;
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, config, until};
use proxy::protect::{LaneAt, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[test]
fn a_restart_without_a_server_serves_the_saved_state_and_no_lease() {
    let mut fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut endpoints = vec![endpoint("w-1", one.address, 1000), endpoint("w-2", two.address, 0)];
    endpoints[1].leased = Some((1_000_000, 60_000));
    fixture.tell(World::web(endpoints));
    until("it is saved", || fixture.folder.path().join("proxy/state").exists());
    fixture.plane = None;
    fixture.stop();
    let proxy = proxy::start(config(&fixture.folder, "http://127.0.0.1:9", 1)).expect("it starts");
    until("the table is in force", || proxy.settled());
    assert_eq!(get(proxy.entry(), "x", "/").text(), "hello");
    assert_eq!((one.requests(), two.requests()), (1, 0), "a lease does not outlive the clock that measured it");
    proxy.stop().expect("it stops");
}

#[test]
fn a_damaged_state_is_refused_and_the_proxy_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder, "http://127.0.0.1:9", 1);
    std::fs::create_dir_all(config.state.parent().expect("a parent")).expect("a folder");
    for bytes in [&b"nonsense"[..], b"springtide proxy state 1\n\xff\xff\xff", b"springtide proxy state 2\n"] {
        std::fs::write(&config.state, bytes).expect("writable");
        let proxy = proxy::start(config.clone()).expect("it starts");
        assert_eq!(get(proxy.entry(), "x", "/").header("x-springtide-reject"), Some("not-ready"));
        proxy.stop().expect("it stops");
    }
}

#[test]
fn a_server_that_comes_back_is_followed_again() {
    let mut fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", one.address, 1000)]));
    let address = fixture.plane().url().trim_start_matches("http://").parse().expect("an address");
    fixture.plane = None;
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    fixture.plane = Some(Plane::at(address));
    fixture.tell(World::web(vec![endpoint("w-2", two.address, 1000)]));
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    assert_eq!((one.requests(), two.requests()), (1, 1));
}

#[test]
fn an_empty_answer_is_not_believed() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    fixture.tell(World::web(vec![]));
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    let warnings = fixture.proxy.as_ref().expect("lives").warnings();
    assert_eq!(warnings.empty_ignored.load(SeqCst), 1);
    let mut resources = World::web(vec![]).resources();
    resources.insert(proxy::xds::resources::LISTENER, Vec::new());
    let version = fixture.plane().tell_raw(resources);
    until("it is acknowledged", || fixture.plane().acknowledged(version));
    fixture.settle();
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    assert_eq!(warnings.empty_ignored.load(SeqCst), 3);
}

#[test]
fn a_deleted_cluster_goes_when_no_route_names_it() {
    let fixture = Fixture::start();
    let (upstream, other) = (Upstream::start(), Upstream::start());
    let mut world = World::web(vec![endpoint("w-1", upstream.address, 1000)])
        .service("other", vec![endpoint("o-1", other.address, 1000)])
        .route("other.example", "/", "other");
    fixture.tell(world.clone());
    world.hidden.push("web".into());
    fixture.tell(world.clone());
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello", "routes name it still");
    world.services.remove("web");
    world.routes.retain(|(_, _, service)| *service != "web");
    fixture.tell(world);
    assert_eq!(get(fixture.entry, "x", "/").status, 404);
    assert_eq!(get(fixture.entry, "other.example", "/").status, 200);
}

#[test]
fn a_server_that_knows_of_nothing_takes_nothing_away() {
    let fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    // As one does whose data folder was lost: no cluster, no endpoint, listeners without routes.
    fixture.tell(World::default());
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello", "an empty answer is never believed");
}

#[test]
fn a_bad_resource_is_refused_alone() {
    let fixture = Fixture::start();
    let (one, two) = (Upstream::start(), Upstream::start());
    fixture.tell(World::web(vec![endpoint("w-1", one.address, 1000)]));
    let mut resources = World::web(vec![endpoint("w-2", two.address, 1000)]).resources();
    let clusters = resources.get_mut(proxy::xds::resources::CLUSTER).expect("there");
    clusters.push(("odd".into(), crate::world::listener("odd")));
    let version = fixture.plane().tell_raw(resources);
    until("it is answered", || fixture.plane().acknowledged(version));
    fixture.settle();
    assert_eq!(get(fixture.entry, "x", "/").text(), "hello");
    assert_eq!((one.requests(), two.requests()), (0, 1), "the rest of the update is in force");
    let nacks = fixture.plane().nacks();
    assert!(nacks.iter().any(|nack| nack.contains("cluster") && nack.contains("Listener")), "{nacks:?}");
    let accepted = fixture.plane().version_of(proxy::xds::resources::CLUSTER);
    assert_eq!(accepted.as_deref(), Some("1"), "a NACK names the version last accepted");
}

#[test]
fn a_stop_ends_what_is_in_flight() {
    let mut fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let mut busy = Client::connect(fixture.mesh);
    busy.send(b"GET /slow?700 HTTP/1.1\r\nhost: web\r\n\r\n");
    let mut idle = Client::connect(fixture.mesh);
    assert_eq!(idle.get("web", "/").text(), "hello");
    until("it is under way", || upstream.requests() == 2);
    fixture.stop();
    assert_eq!(busy.read().expect("an answer").text(), "slow");
    assert!(idle.read().is_none(), "closed");
    assert!(std::net::TcpStream::connect(fixture.mesh).is_err());
}

/// Clients that keep asking, on connections they reopen when told `close`, while the proxy is replaced twice.
#[test]
fn replacing_a_proxy_drops_no_request() {
    const CLIENTS: usize = 4;
    let mut fixture = Fixture::with_threads(2);
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    until("it is saved", || fixture.folder.path().join("proxy/state").exists());
    let (mesh, entry) = (fixture.mesh, fixture.entry);
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            std::thread::spawn(move || {
                let (mut client, mut asked) = (Client::connect(mesh), Instant::now());
                while !done.load(SeqCst) {
                    // A proxy that stops closes what idles for a second, and a client may have stood still for that long.
                    if asked.elapsed() > Duration::from_millis(500) {
                        client = Client::connect(mesh);
                    }
                    asked = Instant::now();
                    let answer = client.get("web", "/");
                    assert_eq!(answer.status, 200);
                    answered.fetch_add(1, SeqCst);
                    if answer.header("connection") == Some("close") {
                        client = Client::connect(mesh);
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        let before = answered.load(SeqCst);
        until("traffic flows", || answered.load(SeqCst) > before + 200);
        let mut config = config(&fixture.folder, &fixture.plane().url(), 2);
        (config.mesh, config.entry) = (mesh, entry);
        let next = proxy::start(config).expect("both may listen");
        fixture.stop();
        fixture.proxy = Some(next);
    }
    let before = answered.load(SeqCst);
    until("traffic flows", || answered.load(SeqCst) > before + 200);
    done.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("no request failed"));
    assert_eq!(upstream.requests(), answered.load(SeqCst));
}

/// The process that [`sigterm_drains_the_process`] starts: this very binary, as a proxy.
#[test]
#[ignore = "only as a child of sigterm_drains_the_process"]
fn child() {
    let variable = |name: &str| std::env::var(name).expect("set by the parent");
    let address = |name: &str| variable(name).parse().expect("an address");
    let lane = std::env::var_os("LANE").map_or(LaneAt::Nowhere, |folder| LaneAt::Folder(folder.into()));
    let settings = Settings { lane, ..Settings::default() };
    let config = proxy::Config {
        name: "child".into(),
        server: variable("SERVER"),
        token: crate::plane::TOKEN.into(),
        datacenter: "east".into(),
        entry: address("ENTRY"),
        mesh: address("MESH"),
        threads: 2,
        state: variable("STATE").into(),
        protection: std::env::var_os("HANDOVER").is_none().then_some(settings),
        tls: None,
        access_log: None,
        handover: std::env::var_os("HANDOVER").map(Into::into),
    };
    proxy::run(config).expect("it runs and drains");
}

#[test]
fn sigterm_drains_the_process() {
    let mut fixture = Fixture::start();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let (entry, mesh) = (fixture.entry.to_string(), fixture.mesh);
    // The child takes the ports over from the proxy of the fixture, as an upgrade would.
    let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "restart::child"])
        .envs([("SERVER", fixture.plane().url()), ("ENTRY", entry), ("MESH", mesh.to_string())])
        .env("STATE", fixture.folder.path().join("child-state"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    until("the child is heard", || {
        fixture.plane().heard(|heard| heard.hello.as_ref().is_some_and(|hello| hello.proxy == "child"))
    });
    until("it has saved its state", || fixture.folder.path().join("child-state").exists());
    fixture.stop();
    let mut busy = Client::connect(mesh);
    busy.send(b"GET /slow?400 HTTP/1.1\r\nhost: web\r\n\r\n");
    until("it is under way", || upstream.requests() == 1);
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    assert_eq!(busy.read().expect("an answer").text(), "slow");
    assert!(child.wait().expect("a child").success(), "exit code 0");
}

#[test]
fn a_wrong_configuration_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = config(&folder, "http://127.0.0.1:9", 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let cases = [
        (proxy::Config { threads: 0, ..good.clone() }, "threads is 0, expected 1 to 256".to_owned()),
        (proxy::Config { server: "127.0.0.1:9".into(), ..good.clone() }, "expected http://HOST:PORT".to_owned()),
        (proxy::Config { mesh: address, ..good }, format!("cannot listen on {address} (mesh)")),
    ];
    for (config, wanted) in cases {
        let error = proxy::start(config).expect_err("refused").to_string();
        assert!(error.contains(&wanted), "{error:?} should say {wanted:?}");
    }
}
