//! The browser's side: Chromium driven by `ui/e2e/bench.mjs`, one JSON line for each question.

use super::night::Seen;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use springtide_bench::server::Server;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Time in which the page must be open, and in which a round must end beyond its own.
const ANSWER_SECONDS_MAX: u64 = 90;
/// The page's folder.
const UI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ui");

/// An open page over the fleet.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    /// Bytes of the page and its files as sent.
    pub page_bytes: u64,
    /// Instances whose cells are watched.
    pub cells: Vec<String>,
}

#[derive(Deserialize)]
struct Opened {
    page_bytes: u64,
    cells: Vec<String>,
}

/// What a round saw.
#[derive(Deserialize)]
pub struct Round {
    /// Begin and end of the time whose samples count, Unix.
    pub from_ms: f64,
    pub to_ms: f64,
    /// Each frame of the heat map, painted to the last pixel.
    pub frames_ms: Vec<f64>,
    /// Colours as they were presented.
    pub changes: Vec<Change>,
    /// Share of the time in which the page's thread worked.
    pub busy: f64,
}

/// A cell that was presented in a colour.
#[derive(Deserialize)]
#[serde(from = "(usize, usize, f64)")]
pub struct Change {
    /// Place in [`Browser::cells`].
    pub cell: usize,
    /// Colour and time.
    pub seen: Seen,
}

impl From<(usize, usize, f64)> for Change {
    fn from((cell, level, at_ms): (usize, usize, f64)) -> Self {
        Self { cell, seen: Seen { level, at_ms } }
    }
}

fn command(script: &str, server: &Server, shots: &Path) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(script).current_dir(UI).kill_on_drop(true);
    command.env("URL", format!("http://{}", server.http)).env("TOKEN", server.api_token()?).env("SHOTS", shots);
    Ok(command)
}

/// Takes screenshots of every page.
pub async fn shots(server: &Server, folder: &Path) -> Result<()> {
    let mut command = command("e2e/shots.mjs", server, folder)?;
    let done = command.env("PREFIX", "fleet").status().await?;
    if !done.success() {
        bail!("the screenshots ended with {done}");
    }
    Ok(())
}

impl Browser {
    /// Opens the page and waits until it shows all instances.
    pub async fn open(server: &Server, instances: usize, shots: &Path) -> Result<Self> {
        let mut command = command("e2e/bench.mjs", server, shots)?;
        command.env("CELLS", instances.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("node cannot be started")?;
        let to = child.stdin.take().context("its input is piped")?;
        let from = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let mut browser = Self { child, to, from, page_bytes: 0, cells: Vec::new() };
        let opened: Opened = browser.answer(0).await?;
        Ok(Self { page_bytes: opened.page_bytes, cells: opened.cells, ..browser })
    }

    /// Watches for so long.
    pub async fn round(&mut self, seconds: u64) -> Result<Round> {
        self.to.write_all(format!("{seconds}\n").as_bytes()).await?;
        self.answer(seconds).await
    }

    /// Lets the browser end by itself.
    pub async fn close(mut self) -> Result<()> {
        drop(self.to);
        let ended = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), self.child.wait()).await??;
        if !ended.success() {
            bail!("the browser ended with {ended}");
        }
        Ok(())
    }

    async fn answer<T: serde::de::DeserializeOwned>(&mut self, seconds: u64) -> Result<T> {
        let line = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX + seconds), self.from.next_line());
        let line = line.await.context("the browser does not answer")??.context("the browser ended early")?;
        serde_json::from_str(&line).with_context(|| format!("the browser's answer is no answer: {line:.200}"))
    }
}
