//! Remote write from a real Prometheus, what senders that err are told, and series across a restart.

use crate::harness::{Server, until};
use api::http::{Problem, SeriesView};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn http(server: &Server) -> (String, String) {
    let handle = server.handle();
    (format!("http://{}", handle.http.expect("asked for")), handle.api_token.clone())
}

/// Points of a metric, over the API.
async fn range(server: &Server, query: &str) -> Vec<SeriesView> {
    let (url, token) = http(server);
    let request = reqwest::Client::new().get(format!("{url}/v1/metrics/range?{query}")).bearer_auth(&token);
    request.send().await.expect("an answer").json().await.expect("series")
}

/// A Prometheus that scrapes itself each second and writes into ours.
struct Prometheus(Child);

impl Prometheus {
    fn start(folder: &Path, url: &str, token_file: &Path) -> Self {
        let address = testkit::address();
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['{address}']}}]\n\
             remote_write:\n- url: {url}/api/v1/write\n  authorization: {{credentials_file: {}}}\n",
            token_file.display()
        );
        let path = folder.join("prometheus.yml");
        std::fs::write(&path, config).expect("writes");
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("a log");
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(path).arg("--storage.tsdb.path").arg(folder.join("tsdb"));
        command.arg(format!("--web.listen-address={address}")).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().expect("Debian's prometheus is there: cargo xtask test installs it"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_writes_into_ours_and_a_restart_keeps_it() {
    let mut server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(folder.path(), &http(&server).0, &server.data.path().join("api-token"));
    let written = until("three scrapes", || async {
        let found = range(&server, "name=up").await;
        // A scrape that a busy machine held up for a second counts as failed.
        let scrapes = |series: &SeriesView| series.points.iter().filter(|(_, up)| *up == 1.0).count();
        found.into_iter().next().filter(|series| scrapes(series) >= 3)
    });
    let written = written.await;
    assert_eq!(written.labels["job"], "self");
    assert!(!range(&server, "name=prometheus_http_request_duration_seconds_bucket").await.is_empty());
    drop(prometheus);
    server.restart().await;
    let kept = range(&server, "name=up").await;
    let kept = kept.first().expect("the series survived");
    assert_eq!(kept.points[..3], written.points[..3]);
    assert!(!range(&server, "name=springtide_server_agents").await.is_empty(), "our own as well");
    let about = range(&server, "name=springtide_store_failing").await;
    assert!(about[0].points.iter().all(|(_, failing)| *failing == 0.0), "and how the store is");
    let log = std::fs::read_to_string(folder.path().join("prometheus.log")).expect("a log");
    assert!(!log.contains("non-recoverable"), "{log}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_errs_is_told_what_would_be_right() {
    let mut server = Server::start().await;
    let (url, token) = http(&server);
    let client = reqwest::Client::new();
    let post = |body: &'static [u8]| client.post(format!("{url}/api/v1/write")).body(body);
    let answer = |request: reqwest::RequestBuilder| async move {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Problem>().await.map(|problem| problem.message).unwrap_or_default())
    };
    assert_eq!(answer(post(b"x")).await.0, 401);
    let (status, what) = answer(post(b"plain").bearer_auth(&token)).await;
    assert_eq!(status, 400);
    assert!(what.starts_with("the body is not in snappy's block format"), "{what}");
    let (status, what) = answer(post(b"").bearer_auth(&token).header("content-encoding", "gzip")).await;
    assert_eq!((status, what.as_str()), (415, "Content-Encoding \"gzip\": snappy would be right"));
    let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let (status, what) = answer(post(b"").bearer_auth(&token).header("content-type", kind)).await;
    assert!(status == 415 && what.ends_with("set protobuf_message to prometheus.WriteRequest"), "{status} {what}");
    // Snappy of four bytes: a field that is cut off.
    let (status, what) = answer(post(b"\x04\x0c\x0a\x7f\x01\x02").bearer_auth(&token)).await;
    assert!(
        status == 400 && what.starts_with("byte 0 of the uncompressed body: a series is cut off"),
        "{status} {what}"
    );
    let large = vec![0; metrics::store::BODY_BYTES_MAX + 1];
    let request = client.post(format!("{url}/api/v1/write")).bearer_auth(&token).body(large);
    let status = request.send().await.map(|answer| answer.status().as_u16());
    // A server that answers before the body has gone out may be met as a broken connection.
    assert!(status.is_err() || status.is_ok_and(|status| status == 413));
    // Nothing at all is a request too: of no series.
    assert_eq!(answer(post(b"\x00").bearer_auth(&token)).await.0, 204);
    server.stop().await;
}
