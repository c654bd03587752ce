//! Closed-loop load in bursts: so many keep-alive connections, each with one request under way at all times.
//!
//! The load knows its answers: status 200 and a body of the origin's length, or the run fails. What it measures is the
//! cost of a request; an open loop (crate `loadgen`) is for latency under a given demand.

use crate::proxy_bench::origin::BODY_BYTES;
use anyhow::{Context, Result, ensure};
use model::LatencyHistogram;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, head and body.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Connections to one target that stay open and are silent between bursts.
pub struct Bursts {
    streams: Vec<TcpStream>,
}

impl Bursts {
    /// Opens the connections.
    pub async fn open(target: SocketAddr, connections: usize) -> Result<Self> {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(target).await.with_context(|| format!("cannot connect to {target}"))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        Ok(Self { streams })
    }

    /// Asks so many times on each connection, all at once; gives the time from request to whole answer of each.
    pub async fn ask(&mut self, each: usize) -> Result<LatencyHistogram> {
        let mut tasks = JoinSet::new();
        for mut stream in self.streams.drain(..) {
            tasks.spawn(async move {
                let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
                let mut times_us = Vec::with_capacity(each);
                for _ in 0..each {
                    let began = Instant::now();
                    ask_once(&mut stream, &mut answer).await?;
                    times_us.push(began.elapsed().as_micros() as u64);
                }
                anyhow::Ok((stream, times_us))
            });
        }
        let mut latency = LatencyHistogram::default();
        while let Some(ended) = tasks.join_next().await {
            let (stream, times_us) = ended.context("a connection's task panicked")??;
            times_us.into_iter().for_each(|us| latency.record(us));
            self.streams.push(stream);
        }
        Ok(latency)
    }
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
