//! A process with a lane and a runner, to be killed: this test binary itself, started with a variable that says so.
//!
//! It takes pushes over a socket, one line each (`key amount`), and answers each line with the id once it is safe.

use crate::payment;
use slowlane::embedded::Embedded;
use slowlane::runner::Counts;
use slowlane::streams::Streams;
use slowlane::{Driver, Rates, Runner, deliver::Http};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::watch;

const RECEIVER: &str = "SLOWLANE_CHILD_RECEIVER";
const FOLDER: &str = "SLOWLANE_CHILD_FOLDER";
const REDIS: &str = "SLOWLANE_CHILD_REDIS";

/// Not a test by itself: what the children run.
#[test]
fn child() {
    let Ok(receiver) = std::env::var(RECEIVER) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let driver: Arc<dyn Driver> = match (std::env::var(FOLDER), std::env::var(REDIS)) {
            (Ok(folder), _) => Arc::new(Embedded::open(Path::new(&folder), "lane", 1 << 30).expect("the lane opens")),
            (_, Ok(url)) => Arc::new(Streams::later(&url, "lane").expect("an address")),
            _ => panic!("no driver named"),
        };
        let address: SocketAddr = receiver.parse().expect("an address");
        let (_rates, rates) = watch::channel(Rates::default());
        let (_stop, stop) = watch::channel(false);
        let runner = Runner::new(Arc::clone(&driver), Arc::new(Http { address }), rates, Arc::<Counts>::default());
        tokio::spawn(runner.run(stop));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("\nlistens {}", listener.local_addr().expect("bound"));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&driver)));
        }
    });
}

async fn serve(stream: tokio::net::TcpStream, driver: Arc<dyn Driver>) {
    let (from, mut to) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (key, amount) = line.split_once(' ').expect("key and amount");
        let answer = match driver.push(payment(key, amount.parse().expect("a number"))).await {
            Ok(pushed) => format!("{}\n", pushed.id),
            Err(error) => format!("error: {error}\n"),
        };
        if to.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The other side of it.
pub struct Lane {
    child: Child,
    pub address: SocketAddr,
}

pub enum Kept<'a> {
    In(&'a Path),
    Redis(&'a str),
}

impl Lane {
    pub fn start(kept: &Kept<'_>, receiver: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["child::child", "--exact", "--nocapture"]).env(RECEIVER, receiver.to_string());
        match kept {
            Kept::In(folder) => command.env(FOLDER, folder),
            Kept::Redis(url) => command.env(REDIS, url),
        };
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            if let Some(address) = line.strip_prefix("listens ") {
                break address.parse().expect("an address");
            }
        };
        Self { child, address }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("it is gone");
    }

    pub fn connect(&self) -> Pusher {
        let stream = TcpStream::connect(self.address).expect("it listens");
        Pusher { reader: BufReader::new(stream.try_clone().expect("a copy")), stream }
    }
}

pub struct Pusher {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Pusher {
    /// The id, or what went wrong; none when the process died first.
    pub fn push(&mut self, key: &str, amount: u32) -> Option<Result<String, String>> {
        self.stream.write_all(format!("{key} {amount}\n").as_bytes()).ok()?;
        let mut line = String::new();
        if self.reader.read_line(&mut line).ok()? == 0 || !line.ends_with('\n') {
            return None;
        }
        let line = line.trim_end();
        Some(match line.strip_prefix("error: ") {
            Some(error) => Err(error.to_owned()),
            None => Ok(line.to_owned()),
        })
    }
}
