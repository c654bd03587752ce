//! The Redis driver against the real server.

use crate::{payment, until};
use slowlane::streams::Streams;
use slowlane::{Driver, Ending, Error, Item, ItemHeader, State};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A Redis of the test's own; killed when dropped.
pub struct Redis {
    child: Child,
    pub address: SocketAddr,
}

impl Redis {
    pub fn start(folder: &Path, appendfsync: &str, address: Option<SocketAddr>) -> Self {
        let address = address.unwrap_or_else(testkit::address);
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", &ip, "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", appendfsync, "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: `cargo xtask test` does it, or `apt-get install redis-server`");
        until("redis answers", || pong(address).is_ok_and(|answer| answer == *b"+PONG\r\n"));
        Self { child, address }
    }

    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says to a ping. It listens before it has read its file.
fn pong(address: SocketAddr) -> std::io::Result<[u8; 7]> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).map(|()| answer)
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn a_redis_that_may_forget_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path(), "everysec", None);
    let url = format!("redis://{}/", redis.address);
    let error = wait(Streams::open(&url, "lane")).err().expect("refused");
    assert!(matches!(error, Error::NotDurable { setting: "appendfsync", .. }), "{error}");
    assert!(wait(Streams::open("redis://127.0.0.1:1/", "lane")).is_err(), "nobody there");
}

/// A Redis whose network swallows everything: it accepts connections and says nothing. Gives its address and their count.
fn black_hole() -> (String, std::sync::Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("redis://{}/", listener.local_addr().expect("bound"));
    let accepted = std::sync::Arc::new(AtomicU64::new(0));
    let count = accepted.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            count.fetch_add(1, SeqCst);
            held.push(connection);
        }
    });
    (url, accepted)
}

#[test]
fn a_redis_that_says_nothing_is_waited_for_once_and_not_by_each() {
    let (url, accepted) = black_hole();
    let answers = wait(async {
        let lane = std::sync::Arc::new(Streams::later(&url, "lane").expect("a good address"));
        let mut pushes = tokio::task::JoinSet::new();
        for n in 0..50 {
            let lane = lane.clone();
            pushes.spawn(async move { lane.push(payment("", n)).await });
        }
        pushes.join_all().await
    });
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Away(_)))), "{answers:?}");
    // What is told of the failure is old after a second: on a machine that stood still one of them may try again.
    let accepted = accepted.load(SeqCst);
    assert!((1..=2).contains(&accepted), "those who waited hear of the failure, and do not each try: {accepted}");
}

#[test]
fn the_driver_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path(), "always", None);
    let url = format!("redis://{}/", redis.address);
    wait(async {
        let lane = Streams::open(&url, "lane").await.expect("durable");
        let other = Streams::open(&url, "other").await.expect("durable");
        let mut ids = Vec::new();
        for n in 0..10 {
            let key = if n == 0 { "k" } else { "" };
            ids.push(lane.push(payment(key, n)).await.expect("accepted").id);
        }
        assert!(other.push(payment("k", 0)).await.expect("known to all proxies").known);
        assert!(matches!(lane.push(payment("k", 5)).await, Err(Error::KeyReused { .. })));
        let user = ItemHeader { name: "x-springtide-user".into(), value: "00000000000000aa".into() };
        let theirs = Item { headers: vec![user], policy: "other".into(), ..payment("k", 0) };
        assert!(!lane.push(theirs.clone()).await.expect("another user's key").known);
        assert!(other.push(theirs).await.expect("the same user's key").known);
        let one = lane.claim("other", 9).await.expect("claimed").remove(0);
        lane.finish(&one, Ending::Done { status: 200 }).await.expect("ended");
        let backlog = lane.backlog().await.expect("asked");
        assert_eq!((backlog.len(), backlog[0].waiting, backlog[0].rate_milli_rps), (1, 10, 5_000_000));
        let mine = lane.claim("cash", 4).await.expect("claimed");
        let theirs = other.claim("cash", 100).await.expect("claimed");
        let body = |c: &slowlane::Claimed| String::from_utf8_lossy(&c.item.body).into_owned();
        assert_eq!(
            mine.iter().chain(&theirs).map(body).collect::<Vec<_>>(),
            (0..10).map(|n| format!("amount={n}")).collect::<Vec<_>>()
        );
        lane.renew(&[mine[0].place.clone()]).await.expect("renewed");
        lane.finish(&mine[0], Ending::Done { status: 200 }).await.expect("ended");
        let reason = "no such account".to_owned();
        lane.finish(&mine[1], Ending::Dead { status: 404, reason, attempts: 1 }).await.expect("ended");
        // Somebody else delivered it too: the second end changes nothing.
        lane.finish(&mine[1], Ending::Done { status: 200 }).await.expect("ended");
        assert_eq!(lane.state(&ids[0]).await.expect("asked"), Some(State::Done { status: 200 }));
        assert!(matches!(lane.state(&ids[1]).await.expect("asked"), Some(State::Dead { status: 404, .. })));
        assert_eq!(lane.state(&ids[2]).await.expect("asked"), Some(State::Waiting));
        let depth = lane.depth().await.expect("asked");
        assert_eq!((depth.waiting, depth.dead), (8, 1));
        let dead = lane.dead(0, 10).await.expect("listed");
        assert_eq!(
            (dead.len(), dead[0].item.id.as_str(), dead[0].reason.as_str()),
            (1, ids[1].as_str(), "no such account")
        );
        assert!(other.revive(&ids[1]).await.expect("asked") && !other.revive(&ids[1]).await.expect("asked"));
        assert_eq!(other.claim("cash", 10).await.expect("claimed").len(), 1);
        let bounded = slowlane::Item { waiting_max: 1, policy: "few".into(), ..payment("", 0) };
        lane.push(bounded.clone()).await.expect("within its bound");
        assert!(matches!(lane.push(bounded).await, Err(Error::Full { .. })));
    });
}
