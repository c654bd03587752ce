//! A receiver that refuses, fails and goes away, in the clear and over TLS: what is sent, what is sent again, what is dropped.

use super::cursor::{Cursor, Position};
use super::wire::Wire;
use super::{Back, Batch, Receiver, Sender};
use crate::{serve, tls};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use promql::{Labels, NAME, Sample};
use prost::Message;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

#[derive(Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct Point {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    time_ms: i64,
}

#[derive(Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    points: Vec<Point>,
}

#[derive(Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

/// What a receiver was sent, and how it answers the next requests before it is content.
#[derive(Default)]
struct Seen {
    taken: Vec<(String, Sample)>,
    answers: Vec<StatusCode>,
    requests: usize,
    /// Host and credentials of the last request.
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

async fn receive(State(seen): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
    let request = WriteRequest::decode(&plain[..]).expect("protobuf");
    let mut seen = seen.lock().expect("no holder panics");
    seen.requests += 1;
    let asked = [header::HOST, header::AUTHORIZATION].map(|name| headers.get(name).cloned());
    seen.asked = asked.into_iter().flatten().map(|value| value.to_str().expect("plain").to_owned()).collect();
    if let Some(answer) = seen.answers.pop() {
        return answer;
    }
    let name = |series: &Series| series.labels.iter().find(|label| label.name == NAME).expect("a name").value.clone();
    if request.series.iter().any(|series| name(series) == "bad") {
        return StatusCode::BAD_REQUEST;
    }
    for series in &request.series {
        seen.taken.extend(series.points.iter().map(|point| (name(series), (point.time_ms, point.value))));
    }
    StatusCode::NO_CONTENT
}

fn router(seen: &Shared) -> Router {
    Router::new().route("/api/v1/write", axum::routing::post(receive)).with_state(seen.clone())
}

async fn receiver(seen: &Shared) -> (Receiver, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/api/v1/write", listener.local_addr().expect("an address"));
    let router = router(seen);
    let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
    (url.parse().expect("a receiver"), task)
}

/// A receiver over TLS with a password; its certificate, which is its own authority, is `cert.pem` in `folder`.
async fn receiver_over_tls(seen: &Shared, folder: &Path) -> (Receiver, JoinHandle<Result<(), crate::config::Error>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = tls::Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://me:secret@localhost:{}/api/v1/write", listener.local_addr().expect("an address").port());
    let config = tls::load(&files).expect("they go together");
    let task = tokio::spawn(serve::tcp(listener, router(seen), 8, Some(config)));
    (url.parse().expect("a receiver"), task)
}

/// Series that were written a while ago.
struct Past(Batch);

impl Back for Past {
    async fn read(&self, from_ms: i64, to_ms: i64) -> Result<Batch, String> {
        let within =
            |samples: &[Sample]| samples.iter().filter(|(at, _)| (from_ms..=to_ms).contains(at)).copied().collect();
        let series = self.0.iter().map(|(labels, samples)| (labels.clone(), within(samples)));
        Ok(series.filter(|(_, samples): &(Labels, Vec<Sample>)| !samples.is_empty()).collect())
    }
}

fn past(names: &[&str], from_ms: i64, count: i64) -> Past {
    let labels = |name: &str| Labels::new([(NAME.into(), name.into())]);
    let samples = || (0..count).map(|n| (from_ms + n * 1_000, n as f64)).collect();
    Past(names.iter().map(|name| (labels(name), samples())).collect())
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let waited = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// A sender whose cursor stands before the samples.
async fn sender(to: &Receiver, folder: &Path, acknowledged_ms: i64) -> Sender {
    Cursor::of(folder, to.url().as_str()).write(Position { acknowledged_ms, sending_to_ms: None }).await;
    begun(to, folder, None)
}

fn begun(to: &Receiver, folder: &Path, authorities: Option<&Path>) -> Sender {
    let trusted = to.is_tls().then(|| tls::client(authorities).expect("authorities"));
    Sender::new(to.clone(), folder, trusted).expect("a usable name").settled_after(0)
}

fn minutes_ago() -> i64 {
    crate::clock::now_ms() as i64 - 120_000
}

#[tokio::test]
async fn what_failed_is_sent_again_and_what_is_refused_for_good_is_dropped_alone() {
    let seen = Shared::default();
    // The last one is answered first.
    seen.lock().expect("free").answers = vec![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    let (to, server) = receiver(&seen).await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = minutes_ago();
    let sender = sender(&to, folder.path(), start - 1).await;
    let counts = sender.counts();
    let run = tokio::spawn(sender.run(past(&["a", "b", "bad", "c"], start, 10)));
    until("all samples", || counts.sent.load(Relaxed) == 30 && counts.dropped.load(Relaxed) == 10).await;
    assert_eq!(counts.failed.load(Relaxed), 2);
    let taken = seen.lock().expect("free").taken.clone();
    for name in ["a", "b", "c"] {
        let of: Vec<Sample> = taken.iter().filter(|(known, _)| known == name).map(|(_, sample)| *sample).collect();
        let expected: Vec<Sample> = (0..10).map(|n| (start + n * 1_000, n as f64)).collect();
        assert_eq!(of, expected, "{name}: in order, each once");
    }
    run.abort();
    server.abort();
}

#[tokio::test]
async fn a_receiver_that_was_away_misses_nothing_and_a_new_sender_goes_on_where_the_old_one_stood() {
    let seen = Shared::default();
    let (to, server) = receiver(&seen).await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = minutes_ago();
    // A hundred seconds: four stretches.
    let first = sender(&to, folder.path(), start - 1).await;
    let counts = first.counts();
    seen.lock().expect("free").answers = vec![StatusCode::INTERNAL_SERVER_ERROR; 1_000];
    let run = tokio::spawn(first.run(past(&["a"], start, 100)));
    until("a failure", || counts.failed.load(Relaxed) > 0).await;
    run.abort();
    let cursor = Cursor::of(folder.path(), to.url().as_str());
    let left = cursor.read().expect("kept");
    assert_eq!(
        (left.acknowledged_ms, left.sending_to_ms),
        (start - 1, Some(start - 1 + 30_000)),
        "the same stretch again"
    );
    seen.lock().expect("free").answers.clear();
    let second = begun(&to, folder.path(), None);
    let counts = second.counts();
    let run = tokio::spawn(second.run(past(&["a"], start, 100)));
    until("all samples", || counts.sent.load(Relaxed) == 100).await;
    let taken: Vec<Sample> = seen.lock().expect("free").taken.iter().map(|(_, sample)| *sample).collect();
    let expected: Vec<Sample> = (0..100).map(|n| (start + n * 1_000, n as f64)).collect();
    assert_eq!(taken, expected);
    until("the place", || cursor.read().is_some_and(|at| at.acknowledged_ms >= start + 99_000)).await;
    run.abort();
    server.abort();
}

#[tokio::test]
async fn a_receiver_over_tls_gets_all_when_its_authority_is_trusted() {
    let (seen, folder) = (Shared::default(), tempfile::tempdir().expect("a folder"));
    let (to, server) = receiver_over_tls(&seen, folder.path()).await;
    let start = minutes_ago();
    let place = Position { acknowledged_ms: start - 1, sending_to_ms: None };
    Cursor::of(folder.path(), to.url().as_str()).write(place).await;
    let sender = begun(&to, folder.path(), Some(&folder.path().join("cert.pem")));
    let counts = sender.counts();
    let run = tokio::spawn(sender.run(past(&["a"], start, 100)));
    until("all samples", || counts.sent.load(Relaxed) == 100).await;
    assert_eq!(counts.failed.load(Relaxed), 0);
    let port = to.url().port().expect("given");
    let asked = seen.lock().expect("free").asked.clone();
    assert_eq!(asked, [format!("localhost:{port}"), "Basic bWU6c2VjcmV0".to_owned()]);
    run.abort();
    server.abort();
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_said_with_what_to_do() {
    let (seen, folder) = (Shared::default(), tempfile::tempdir().expect("a folder"));
    let (to, server) = receiver_over_tls(&seen, folder.path()).await;
    let mut other = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    other.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let key = rcgen::KeyPair::generate().expect("a key");
    let path = folder.path().join("other.pem");
    std::fs::write(&path, other.self_signed(&key).expect("a certificate").pem()).expect("written");
    let trusted = tls::client(Some(&path)).expect("an authority");
    let mut wire = Wire::to(&to, Some(trusted)).expect("a usable name");
    let request = http::Request::post(to.url().as_str()).body(reqwest::Body::default()).expect("a request");
    let why = wire.send(request).await.expect_err("nobody knows it").to_string();
    assert!(why.contains("UnknownIssuer") && why.contains("--remote-write-ca FILE names others"), "{why}");
    assert_eq!(seen.lock().expect("free").requests, 0);
    server.abort();
}

#[test]
fn authorities_that_cannot_be_read_are_refused_with_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    let why = || tls::client(Some(&path)).expect_err("refused").to_string();
    let missing = why();
    assert!(missing.contains("ca.pem") && missing.contains("CERTIFICATE sections"), "{missing}");
    std::fs::write(&path, "no certificate\n").expect("written");
    let none = why();
    assert!(none.contains("ca.pem: no certificate of an authority in it"), "{none}");
}

#[test]
fn a_receiver_is_read_and_shown_without_its_password() {
    let shown = |text: &str| text.parse::<Receiver>().map(|to| to.shown());
    assert_eq!(shown("http://me:secret@127.0.0.1/api/v1/write").expect("good"), "127.0.0.1:80/api/v1/write");
    assert_eq!(shown("https://a/b").expect("good"), "a:443/b");
    let cases = [
        ("127.0.0.1:9090", "would be right"),
        ("ftp://a/b", "over HTTP, not over ftp: http://HOST:PORT/api/v1/write or https://HOST/"),
        ("", "no URL"),
    ];
    for (text, part) in cases {
        let why = shown(text).expect_err(text);
        assert!(why.contains(part), "{text}: {why}");
    }
}
