//! Real receivers of remote write, from Debian: on loopback addresses of their own, stopped at the end.

use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A sample: Unix milliseconds and value.
pub type Sample = (i64, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prometheus,
    VictoriaMetrics,
}

/// One of them; it can go away and come back on its port and data.
pub struct Receiver {
    kind: Kind,
    address: SocketAddr,
    folder: tempfile::TempDir,
    child: Option<Child>,
    http: reqwest::Client,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Receiver {
    pub fn new(kind: Kind) -> Self {
        let address = testkit::address();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.yml"), "").expect("written");
        Self { kind, address, folder, child: None, http: reqwest::Client::new() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    pub fn start(&mut self) {
        let (address, folder) = (self.address, self.folder.path().display());
        let mut command = match self.kind {
            Kind::Prometheus => {
                let mut command = Command::new("prometheus");
                command.arg(format!("--config.file={folder}/config.yml"));
                command.arg(format!("--storage.tsdb.path={folder}/data"));
                command.arg(format!("--web.listen-address={address}"));
                command.arg("--web.enable-remote-write-receiver");
                command
            }
            Kind::VictoriaMetrics => {
                let mut command = Command::new("victoria-metrics");
                command.arg(format!("-storageDataPath={folder}/data"));
                command.arg(format!("-httpListenAddr={address}"));
                command
            }
        };
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(started.expect("`cargo xtask test` installs Debian's prometheus and victoria-metrics"));
    }

    /// As a rolling update would: TERM, then it writes what it holds.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        // It may have ended by itself; then there is nothing to stop.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = child.wait();
    }

    /// Raw samples of the series with this name; none while it does not answer.
    pub async fn samples(&self, name: &str) -> Vec<Sample> {
        let base = format!("http://{}/api/v1", self.address);
        match self.kind {
            Kind::Prometheus => {
                let asked = [("query", format!("{name}[1h]"))];
                let Ok(answer) = self.http.get(format!("{base}/query")).query(&asked).send().await else {
                    return Vec::new();
                };
                let answer: Value = answer.json().await.unwrap_or_default();
                let point =
                    |at: &Value| Some(((at[0].as_f64()? * 1_000.0).round() as i64, at[1].as_str()?.parse().ok()?));
                let points = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
                points.iter().filter_map(point).collect()
            }
            Kind::VictoriaMetrics => {
                let asked = [("match[]", name)];
                let Ok(answer) = self.http.get(format!("{base}/export")).query(&asked).send().await else {
                    return Vec::new();
                };
                let text = answer.text().await.unwrap_or_default();
                let mut samples: Vec<Sample> = Vec::new();
                for line in text.lines() {
                    let line: Value = serde_json::from_str(line).unwrap_or_default();
                    let times = line["timestamps"].as_array().cloned().unwrap_or_default();
                    let values = line["values"].as_array().cloned().unwrap_or_default();
                    let points =
                        times.iter().zip(&values).filter_map(|(at, value)| Some((at.as_i64()?, value.as_f64()?)));
                    samples.extend(points);
                }
                samples.sort_by_key(|(at, _)| *at);
                samples
            }
        }
    }
}
