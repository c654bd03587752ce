//! The server process, and what it says of its own detection.

use anyhow::{Context, Result, bail};
use api::client::Client;
use springtide_bench::fleet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time in which it must answer.
const UP_SECONDS_MAX: u64 = 60;

/// The server; it ends when this is dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    fleet: SocketAddr,
    pub client: Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it on the data in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        let fleet = testkit::address();
        let log = std::fs::File::create(folder.join("server.log"))?;
        let mut command = Command::new(fleet::program()?);
        command.args(["server", "--data", "data", "--socket", "api.sock", "--fleet", &fleet.to_string()]);
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start the server")?;
        let client = Client::at_socket(&folder.join("api.sock"));
        let mut server = Self { child, folder: folder.to_owned(), fleet, client };
        let deadline = Instant::now() + Duration::from_secs(UP_SECONDS_MAX);
        while server.client.status().await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                bail!("the server ended ({status}):\n{log}");
            }
            if Instant::now() > deadline {
                bail!("the server does not answer within {UP_SECONDS_MAX} s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Where agents and proxies connect, and their token.
    pub fn place(&self) -> Result<(String, String)> {
        let token = std::fs::read_to_string(self.folder.join("data/fleet-token"))?;
        Ok((format!("http://{}", self.fleet), token.trim().to_owned()))
    }

    /// Series that detection watches.
    pub async fn series(&self) -> u64 {
        value(&self.client.metrics().await.unwrap_or_default(), "springtide_detect_series") as u64
    }
}

/// How a server and its detection do, in a line.
pub async fn health(client: &Client) -> String {
    // Once for all: with 100,000 series an exposition is long.
    let text = client.metrics().await.unwrap_or_default();
    let shown = |(name, shown): (&str, &str)| {
        let value = value(&text, name);
        let value = if shown == "resident MB" { value / 1e6 } else { value };
        format!("{shown} {value:.1}")
    };
    let all = [
        ("springtide_detect_series", "series"),
        ("springtide_detect_frames_total", "frames"),
        ("springtide_detect_frames_blind_total", "blind"),
        ("springtide_detect_messages_dropped_total", "dropped"),
        ("springtide_detect_frame_late_seconds", "late s"),
        ("springtide_detect_cpu_seconds_total", "detect CPU s"),
        ("springtide_server_cpu_seconds_total", "server CPU s"),
        ("springtide_server_resident_memory_bytes", "resident MB"),
        ("springtide_incidents_open", "open"),
    ];
    all.map(shown).join(", ")
}

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(f64::NAN)
}
