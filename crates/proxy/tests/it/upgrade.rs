//! The next process takes the listening sockets over while requests keep coming, at times that do not depend on answers.

use crate::client::get;
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, config, until};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Requests a second; every second one opens a connection of its own.
const RATE: u64 = 500;
/// Requests under way at once: what an upstream that stands still has room for.
const UNDER_WAY_MAX: usize = 200;
/// A connection idle for longer is not used again: one that stops may close it after twice that.
const IDLE_MAX: Duration = Duration::from_millis(500);

type Sender = SendRequest<Empty<bytes::Bytes>>;
/// Connections that wait for a request, and when they last had one.
type Idle = Mutex<VecDeque<(Sender, Instant)>>;

/// Open-loop load: what was sent, and what failed and why.
struct Load {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (done, sent, failed) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<Mutex<Vec<String>>>)>::default();
        let shared = (Arc::clone(&done), Arc::clone(&sent), Arc::clone(&failed));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(address, shared.0, shared.1, shared.2));
        });
        Self { done, sent, failed, thread }
    }

    fn stop(self) -> (u64, Vec<String>) {
        self.done.store(true, SeqCst);
        self.thread.join().expect("no panic");
        let failed = self.failed.lock().expect("not poisoned").clone();
        (self.sent.load(SeqCst), failed)
    }
}

async fn run(address: SocketAddr, done: Arc<AtomicBool>, sent: Arc<AtomicU64>, failed: Arc<Mutex<Vec<String>>>) {
    let idle = Arc::new(Idle::default());
    let mut tasks = tokio::task::JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !done.load(SeqCst) {
        tick.tick().await;
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= UNDER_WAY_MAX {
            continue;
        }
        let turn = sent.fetch_add(1, SeqCst);
        let (idle, failed) = (Arc::clone(&idle), Arc::clone(&failed));
        tasks.spawn(async move {
            if let Err(error) = one(address, &idle, turn.is_multiple_of(2)).await {
                failed.lock().expect("not poisoned").push(error);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// First in, first out: no connection idles for long, as with any client that keeps few.
fn kept(idle: &Idle) -> Option<Sender> {
    let mut idle = idle.lock().expect("not poisoned");
    let fit = |(sender, asked): &(Sender, Instant)| asked.elapsed() <= IDLE_MAX && !sender.is_closed();
    std::iter::from_fn(|| idle.pop_front()).find(fit).map(|(sender, _)| sender)
}

async fn one(address: SocketAddr, idle: &Idle, fresh: bool) -> Result<(), String> {
    let found = if fresh { None } else { kept(idle) };
    let mut sender = match found {
        Some(sender) => sender,
        None => {
            let stream = tokio::net::TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("open: {e}"))?;
            tokio::spawn(connection);
            sender
        }
    };
    let request = http::Request::get("/slow?5").header("host", "web").body(Empty::new()).expect("valid");
    let asked = Instant::now();
    let answer = sender.send_request(request).await.map_err(|e| format!("send: {e}"))?;
    let (head, body) = answer.into_parts();
    let close = head.headers.get("connection").is_some_and(|value| value == "close");
    let body = body.collect().await.map_err(|e| format!("body: {e}"))?.to_bytes();
    if head.status != 200 || &body[..] != b"slow" {
        return Err(format!("{}: {body:?}", head.status));
    }
    if !fresh && !close {
        sender.ready().await.map_err(|e| format!("ready: {e}"))?;
        idle.lock().expect("not poisoned").push_back((sender, asked));
    }
    Ok(())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("handover.sock")
}

fn with_handover(threads: usize) -> Fixture {
    Fixture::with(threads, |config, folder| {
        config.handover = Some(socket(folder.path()));
        // On a machine that does ten things at once protection would rightly shed; here only loss counts.
        config.protection = None;
    })
}

/// This very binary as the next proxy process, on the same folder.
fn next_process(fixture: &Fixture) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "restart::child"])
        .envs([("SERVER", fixture.plane().url()), ("ENTRY", fixture.entry.to_string())])
        .envs([("MESH", fixture.mesh.to_string())])
        .env("STATE", fixture.folder.path().join("proxy/state"))
        .env("HANDOVER", socket(fixture.folder.path()))
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[test]
fn upgrades_under_load_fail_no_request() {
    let mut fixture = with_handover(3);
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    until("the state is saved", || fixture.folder.path().join("proxy/state").exists());
    let load = Load::start(fixture.mesh);
    let flows = || {
        let before = upstream.requests();
        until("traffic flows", || upstream.requests() > before + 100);
    };
    flows();
    let mut running = next_process(&fixture);
    until("the first is replaced", || fixture.proxy.as_ref().expect("it lives").replaced());
    fixture.stop();
    for _ in 0..3 {
        flows();
        let next = next_process(&fixture);
        let ended = until_some("the old process drains and ends", || running.try_wait().expect("a child"));
        assert!(ended.success(), "{ended}");
        running = next;
    }
    flows();
    let (sent, failed) = load.stop();
    assert!(failed.is_empty(), "{} of {sent} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(upstream.requests(), sent, "each exactly once");
    let killed = Command::new("kill").args(["-TERM", &running.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    assert!(running.wait().expect("a child").success());
    assert!(!socket(fixture.folder.path()).exists(), "nobody is left to ask");
    assert!(std::net::TcpStream::connect(fixture.mesh).is_err());
}

fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = look();
        found.is_some()
    });
    found.expect("found")
}

#[test]
fn a_new_process_that_dies_before_it_is_ready_changes_nothing() {
    let mut fixture = with_handover(2);
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    for _ in 0..3 {
        drop(std::os::unix::net::UnixStream::connect(socket(fixture.folder.path())).expect("it can be asked"));
    }
    assert_eq!(get(fixture.mesh, "web", "/").text(), "hello");
    assert!(!fixture.proxy.as_ref().expect("it lives").replaced());
    // While another holds the sockets a stop must leave them as they are. They are given to one after the other: once the
    // fourth was turned away, nobody does.
    let mut last = std::os::unix::net::UnixStream::connect(socket(fixture.folder.path())).expect("it can be asked");
    last.shutdown(std::net::Shutdown::Write).expect("open");
    std::io::copy(&mut last, &mut std::io::sink()).expect("it ends");
    assert_eq!(get(fixture.mesh, "web", "/").text(), "hello");
    fixture.stop();
    assert!(std::net::TcpStream::connect(fixture.mesh).is_err(), "no socket is left behind");
}

/// A running proxy that says so much when it is asked, and dies.
fn dying_predecessor(path: PathBuf, words: &'static [u8]) -> std::thread::JoinHandle<()> {
    let listener = std::os::unix::net::UnixListener::bind(path).expect("a free name");
    std::thread::spawn(move || {
        let (mut asked, _) = listener.accept().expect("it is asked");
        std::io::Write::write_all(&mut asked, words).expect("it reads");
    })
}

#[test]
fn a_predecessor_that_dies_during_the_hand_over_stops_nobody() {
    // Before a word, amid its sockets, and when it only had to be told that the next one is ready.
    for words in [b"".as_slice(), b"1", b"1."] {
        let folder = tempfile::tempdir().expect("a folder");
        let died = dying_predecessor(socket(folder.path()), words);
        let fixture = Fixture::with(1, |config, _| config.handover = Some(socket(folder.path())));
        died.join().expect("it died");
        let upstream = Upstream::start();
        fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
        assert_eq!(get(fixture.entry, "x", "/").text(), "hello", "after {words:?}");
    }
}

#[test]
fn fewer_workers_take_over_all_sockets_and_another_address_is_bound_anew() {
    let mut fixture = with_handover(4);
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    until("the state is saved", || fixture.folder.path().join("proxy/state").exists());
    let mut config = config(&fixture.folder, &fixture.plane().url(), 1);
    (config.handover, config.protection) = (Some(socket(fixture.folder.path())), None);
    config.entry = "127.0.0.2:0".parse().expect("an address");
    config.mesh = fixture.mesh;
    let next = proxy::start(config).expect("it takes over");
    until("the old one knows", || fixture.proxy.as_ref().expect("it lives").replaced());
    fixture.stop();
    assert_eq!(next.mesh(), fixture.mesh);
    // The kernel spreads connections over all four sockets: each must be accepted from.
    for _ in 0..40 {
        assert_eq!(get(next.mesh(), "web", "/").text(), "hello");
    }
    assert_ne!(next.entry(), fixture.entry);
    assert_eq!(get(next.entry(), "x", "/").text(), "hello");
    assert!(std::net::TcpStream::connect(fixture.entry).is_err(), "the old entry is gone");
    next.stop().expect("it stops");
}
