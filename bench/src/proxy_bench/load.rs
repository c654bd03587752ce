//! Closed-loop load: so many keep-alive connections, each with one request under way at all times.
//!
//! The load knows its answers: status 200 and a body of the origin's length, or the run fails. What it measures is the
//! cost of a request; an open loop (crate `loadgen`) is for latency under a given demand.

use crate::proxy_bench::origin::BODY_BYTES;
use anyhow::{Context, Result, bail, ensure};
use model::LatencyHistogram;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, head and body.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What came of a stretch of load.
pub struct Measured {
    /// Answers.
    pub requests: u64,
    /// How long.
    pub seconds: f64,
    /// From request to whole answer.
    pub latency: LatencyHistogram,
}

/// Load under way on one target.
pub struct Load {
    counted: Arc<Counted>,
    tasks: JoinSet<Result<()>>,
}

#[derive(Default)]
struct Counted {
    stop: AtomicBool,
    requests: AtomicU64,
    latency: Mutex<LatencyHistogram>,
}

impl Load {
    /// Opens the connections and begins.
    pub async fn start(target: SocketAddr, connections: usize) -> Result<Self> {
        let counted = Arc::new(Counted::default());
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(ask(connect(target).await?, Arc::clone(&counted)));
        }
        Ok(Self { counted, tasks })
    }

    /// Measures for a while; whatever came before is not counted.
    pub async fn measure(&mut self, length: Duration) -> Result<Measured> {
        *self.counted.latency.lock().expect("no holder panics") = LatencyHistogram::default();
        let (began, before) = (Instant::now(), self.counted.requests.load(Relaxed));
        self.run(length).await?;
        let requests = self.counted.requests.load(Relaxed) - before;
        let latency = std::mem::take(&mut *self.counted.latency.lock().expect("no holder panics"));
        ensure!(requests > 0, "not one answer in {length:?}");
        Ok(Measured { requests, seconds: began.elapsed().as_secs_f64(), latency })
    }

    /// Lets it run; fails when one of its connections did.
    pub async fn run(&mut self, length: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(length) => Ok(()),
            Some(ended) = self.tasks.join_next() => {
                ended.context("a connection's task panicked")??;
                bail!("a connection ended by itself")
            }
        }
    }

    /// Ends it, with every answer read.
    pub async fn stop(mut self) -> Result<()> {
        self.counted.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a connection's task panicked")??;
        }
        Ok(())
    }
}

/// Connections that stay open and are silent between bursts, so that two targets can be asked in turns of a fraction of a
/// second.
pub struct Bursts {
    streams: Vec<TcpStream>,
}

impl Bursts {
    /// Opens the connections.
    pub async fn open(target: SocketAddr, connections: usize) -> Result<Self> {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            streams.push(connect(target).await?);
        }
        Ok(Self { streams })
    }

    /// Asks so many times on each connection, all at once; returns when all answers are read.
    pub async fn ask(&mut self, each: u64) -> Result<()> {
        let mut tasks = JoinSet::new();
        for mut stream in self.streams.drain(..) {
            tasks.spawn(async move {
                let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
                for _ in 0..each {
                    ask_once(&mut stream, &mut answer).await?;
                }
                anyhow::Ok(stream)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            self.streams.push(ended.context("a connection's task panicked")??);
        }
        Ok(())
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target).await.with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn ask(mut stream: TcpStream, counted: Arc<Counted>) -> Result<()> {
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    while !counted.stop.load(Relaxed) {
        let began = Instant::now();
        ask_once(&mut stream, &mut answer).await?;
        counted.latency.lock().expect("no holder panics").record(began.elapsed().as_micros() as u64);
        counted.requests.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn ask_once(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    const REQUEST: &[u8] =
        b"GET /bench/item?id=12345 HTTP/1.1\r\nhost: shop.example\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n";
    stream.write_all(REQUEST).await?;
    answer.clear();
    let read = tokio::time::timeout(ANSWER_TIMEOUT, whole(stream, answer));
    read.await.with_context(|| format!("no answer in {ANSWER_TIMEOUT:?}"))?
}

async fn whole(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let mut whole_bytes = None;
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the connection was closed");
        ensure!(answer.len() <= ANSWER_BYTES_MAX, "an answer larger than {ANSWER_BYTES_MAX} bytes");
        if whole_bytes.is_none()
            && let Some(end) = find(answer, b"\r\n\r\n")
        {
            let head = &answer[..end + 2];
            ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..end]));
            whole_bytes = Some(end + 4 + length(head)?);
        }
        if let Some(bytes) = whole_bytes.filter(|bytes| answer.len() >= *bytes) {
            ensure!(answer.len() == bytes, "more than an answer came");
            return Ok(());
        }
    }
}

fn length(head: &[u8]) -> Result<usize> {
    let lines = head.split(|byte| *byte == b'\n');
    let value = lines.filter_map(|line| line.get(..15).zip(line.get(15..))).find_map(|(name, value)| {
        name.eq_ignore_ascii_case(b"content-length:").then(|| String::from_utf8_lossy(value).trim().parse::<usize>())
    });
    let length = value.context("an answer without content-length")??;
    ensure!(length == BODY_BYTES, "an answer of {length} bytes, expected {BODY_BYTES}");
    Ok(length)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
