//! A Prometheus of its own for one test: filled by `promtool`, on a free port of the loopback, stopped at the end.

use super::Found;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time allowed to begin to answer.
const READY_SECONDS_MAX: u64 = 30;
/// Pause between looks.
const LOOK_MS: u64 = 50;

pub struct Prometheus {
    child: Child,
    base: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    pub async fn with(open_metrics: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (text, config, data) =
            (folder.path().join("samples"), folder.path().join("config.yml"), folder.path().join("data"));
        std::fs::write(&text, open_metrics).expect("written");
        std::fs::write(&config, "").expect("written");
        let mut fill = Command::new("promtool");
        fill.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&text).arg(&data);
        let filled = fill.output().expect("promtool is needed: `cargo xtask test` installs Debian's prometheus");
        assert!(filled.status.success(), "promtool: {}", String::from_utf8_lossy(&filled.stderr));
        let address = testkit::address();
        let mut server = Command::new("prometheus");
        server.arg(format!("--config.file={}", config.display()));
        server.arg(format!("--storage.tsdb.path={}", data.display()));
        server.args(["--storage.tsdb.retention.time=100y", "--log.level=error"]);
        server.arg(format!("--web.listen-address={address}"));
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("prometheus starts");
        let prometheus =
            Self { child, base: format!("http://{address}"), http: reqwest::Client::new(), _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(READY_SECONDS_MAX);
        loop {
            let ready = prometheus.http.get(format!("{}/-/ready", prometheus.base)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return prometheus;
            }
            assert!(Instant::now() < deadline, "prometheus does not answer");
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Result<Found, String> {
        let sent = self.http.get(format!("{}/api/v1/{path}", self.base)).query(parameters).send().await;
        let answer: Value = sent.expect("it answers").json().await.expect("JSON");
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let data = &answer["data"];
        let point = |at: &Value| {
            let ms = (at[0].as_f64().expect("a time") * 1_000.0).round() as i64;
            (ms, at[1].as_str().expect("a value").parse::<f64>().expect("a number"))
        };
        if data["resultType"] == "scalar" {
            return Ok(Found::from([(BTreeMap::new(), vec![point(&data["result"])])]));
        }
        let series = |at: &Value| {
            let labels = serde_json::from_value(at["metric"].clone()).expect("labels");
            let points = match at["values"].as_array() {
                Some(points) => points.iter().map(point).collect(),
                None => vec![point(&at["value"])],
            };
            (labels, points)
        };
        Ok(data["result"].as_array().expect("series").iter().map(series).collect())
    }

    pub async fn instant(&self, query: &str, at: i64) -> Result<Found, String> {
        self.ask("query", &[("query", query.to_owned()), ("time", seconds(at))]).await
    }

    pub async fn range(&self, query: &str, from: i64, to: i64, step: i64) -> Result<Found, String> {
        let times =
            [("query", query.to_owned()), ("start", seconds(from)), ("end", seconds(to)), ("step", seconds(step))];
        self.ask("query_range", &times).await
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}
