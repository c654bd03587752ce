//! Sends one receiver what it lacks, stretch by stretch, for as long as the server lives.

use super::cursor::{Cursor, Position};
use super::wire::Wire;
use super::{Counts, Receiver, encode};
use promql::{Labels, Sample};
use reqwest::{Body, StatusCode, header};
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Age at which samples are sent: what comes later than this after its time is not sent.
const SETTLED_MS: i64 = 5_000;
/// Time between looks whether something is to be sent.
const LOOK_MS: u64 = 1_000;
/// Length of a stretch at most; one that lags goes in such steps.
const STRETCH_MS_MAX: i64 = 30_000;
/// Samples of one request at most.
const REQUEST_SAMPLES_MAX: usize = 5_000;
/// Requests beyond the planned ones in one stretch, to find the series at fault.
const HALVINGS_MAX: usize = 200;
/// Time for one request.
const REQUEST_SECONDS_MAX: u64 = 30;
/// Pauses before a failed request is tried again.
const PAUSE_MS: (u64, u64) = (200, 30_000);
/// Longest pause that a receiver may ask for.
const RETRY_AFTER_SECONDS_MAX: u64 = 120;

/// Series and their samples.
pub type Batch = Vec<(Labels, Vec<Sample>)>;

/// Where stretches are read back from.
pub trait Back: Send + Sync + 'static {
    /// All samples after `from_ms` up to `to_ms`, by series in the order of their labels.
    fn read(&self, from_ms: i64, to_ms: i64) -> impl Future<Output = Result<Batch, String>> + Send;
}

enum Outcome {
    Taken,
    /// Refused for good, and why.
    Refused(String),
    /// Again, after this.
    Later(String, Option<Duration>),
}

/// One receiver's sender.
pub struct Sender {
    receiver: Receiver,
    /// Makes requests, with the password of the URL; `wire` sends them.
    http: reqwest::Client,
    wire: Wire,
    cursor: Cursor,
    counts: Arc<Counts>,
    /// When it was made: where a receiver that nothing was sent to begins.
    begun_ms: i64,
    settled_ms: i64,
}

impl Sender {
    /// A sender that keeps its place in `folder`; `trusted` says whom a receiver over TLS may show.
    ///
    /// # Errors
    /// The receiver's name cannot be used.
    pub fn new(receiver: Receiver, folder: &Path, trusted: Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let wire = Wire::to(&receiver, trusted)?;
        let cursor = Cursor::of(folder, receiver.url().as_str());
        let counts = Arc::new(Counts { receiver: receiver.shown(), ..Counts::default() });
        let begun_ms = now_ms();
        counts.acknowledged_ms.store(begun_ms as u64, Relaxed);
        Ok(Self { receiver, http: reqwest::Client::new(), wire, cursor, counts, begun_ms, settled_ms: SETTLED_MS })
    }

    /// Its counters.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Sends until the task is dropped.
    pub async fn run(mut self, back: impl Back) {
        let fresh = Position { acknowledged_ms: self.begun_ms - 1, sending_to_ms: None };
        let mut position = self.cursor.read().unwrap_or(fresh);
        loop {
            self.counts.acknowledged_ms.store(u64::try_from(position.acknowledged_ms).unwrap_or(0), Relaxed);
            let settled = now_ms() - self.settled_ms;
            let next = (position.acknowledged_ms + STRETCH_MS_MAX).min(settled);
            let to = position.sending_to_ms.unwrap_or(next);
            if to <= position.acknowledged_ms {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                continue;
            }
            let batch = match back.read(position.acknowledged_ms + 1, to).await {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(receiver = ?self.receiver, %error, "samples for remote write cannot be read");
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                    continue;
                }
            };
            if !batch.is_empty() {
                self.cursor.write(Position { sending_to_ms: Some(to), ..position }).await;
                self.stretch(batch).await;
            }
            position = Position { acknowledged_ms: to, sending_to_ms: None };
            self.cursor.write(position).await;
            // One that has caught up waits for a second's worth; one that lags goes on at once.
            if to >= settled {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        }
    }

    async fn stretch(&mut self, batch: Batch) {
        let mut halvings = HALVINGS_MAX;
        for part in parts(batch) {
            let mut waiting = vec![part];
            while let Some(part) = waiting.pop() {
                let Some(why) = self.until_answered(&part).await else { continue };
                if part.len() > 1 && halvings > 0 {
                    halvings -= 1;
                    let mut left = part;
                    let right = left.split_off(left.len() / 2);
                    waiting.extend([right, left]);
                    continue;
                }
                let samples: usize = part.iter().map(|(_, samples)| samples.len()).sum();
                self.counts.dropped.fetch_add(samples as u64, Relaxed);
                let first = part.first().map(|(labels, _)| labels.to_string()).unwrap_or_default();
                tracing::warn!(receiver = ?self.receiver, samples, first, why, "remote write: refused for good, dropped");
            }
        }
    }

    /// Sends one request until it is taken (`None`) or refused for good.
    async fn until_answered(&mut self, part: &Batch) -> Option<String> {
        let samples: usize = part.iter().map(|(_, samples)| samples.len()).sum();
        let body = bytes::Bytes::from(encode::request(part));
        let mut pause = PAUSE_MS.0;
        let mut said = false;
        loop {
            match self.once(body.clone()).await {
                Outcome::Taken => {
                    self.counts.sent.fetch_add(samples as u64, Relaxed);
                    if said {
                        tracing::info!(receiver = ?self.receiver, "remote write: the receiver takes samples again");
                    }
                    return None;
                }
                Outcome::Refused(why) => return Some(why),
                Outcome::Later(why, after) => {
                    self.counts.failed.fetch_add(1, Relaxed);
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(receiver = ?self.receiver, why, "remote write: it is tried again, nothing is lost while the series reach back");
                    }
                    let wait = after.unwrap_or(Duration::from_millis(jittered(pause)));
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(PAUSE_MS.1);
                }
            }
        }
    }

    async fn once(&mut self, body: bytes::Bytes) -> Outcome {
        let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
        let ended = tokio::time::timeout(limit, self.asked(body)).await;
        ended.unwrap_or_else(|_| Outcome::Later(format!("no answer within {REQUEST_SECONDS_MAX} s"), None))
    }

    async fn asked(&mut self, body: bytes::Bytes) -> Outcome {
        let request = self
            .http
            .post(self.receiver.url().clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "snappy")
            .header(header::USER_AGENT, concat!("springtide/", env!("CARGO_PKG_VERSION")))
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body)
            .build();
        let request = request.and_then(http::Request::try_from).expect("an address and headers that were checked");
        let answer = match self.wire.send(request).await {
            Ok(answer) => reqwest::Response::from(answer.map(Body::wrap)),
            Err(error) => return Outcome::Later(error.to_string(), None),
        };
        let status = answer.status();
        if status.is_success() {
            return Outcome::Taken;
        }
        let after =
            answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let after = after.map(|seconds| Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX)));
        let text: String = answer.text().await.unwrap_or_default().trim().chars().take(200).collect();
        let why = format!("{status}: {text}");
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Outcome::Later(why, after),
            // A wrong token or address is mended by people; until then the series keep what is owed.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Outcome::Later(why, after),
            _ if status.is_client_error() => Outcome::Refused(why),
            _ => Outcome::Later(why, after),
        }
    }
}

fn now_ms() -> i64 {
    crate::clock::now_ms() as i64
}

/// Half to all of a pause, so that many senders do not come back at once.
fn jittered(pause_ms: u64) -> u64 {
    let dice = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    pause_ms / 2 + dice % (pause_ms / 2 + 1)
}

/// Splits a stretch into requests: always in the same way.
fn parts(batch: Batch) -> Vec<Batch> {
    let mut parts = Vec::new();
    let (mut part, mut samples) = (Vec::new(), 0);
    for series in batch {
        let count = series.1.len();
        if samples + count > REQUEST_SAMPLES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            samples = 0;
        }
        samples += count;
        part.push(series);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
impl Sender {
    /// For tests: what is written is sent at once.
    pub(super) fn settled_after(mut self, ms: i64) -> Self {
        self.settled_ms = ms;
        self
    }
}
