//! The HTTP client: what the CLI, the demo and the benchmarks use, and nothing else does.
//!
//! Speaks to a Unix socket (no token: the peer's credentials say who) or to loopback TCP with a bearer token.

use crate::http::*;
use model::{Curve, Operation, PolicyHistory};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod events;

pub use events::Events;

/// Time allowed for an answer to begin; streams may then last as long as they like.
const ANSWER_SECONDS_MAX: u64 = 60;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers there.
    #[error("no springtide server answers at {at}: start one (`springtide dev`), or name it with --server")]
    Unreachable {
        /// The address tried.
        at: String,
        /// What the socket said.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused, and says why.
    #[error("{}", .0.message)]
    Refused(Problem, StatusCode),
    /// The answer was not understood.
    #[error("the answer of {at} was not understood: {why}")]
    Garbled {
        /// The address.
        at: String,
        /// What was wrong.
        why: String,
    },
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// `http://127.0.0.1:PORT`, with its token.
    Http {
        /// The URL.
        url: String,
        /// The bearer token.
        token: String,
    },
}

/// A refusal that has not our form: Prometheus' API has its own.
fn foreign(text: &str, status: StatusCode) -> Problem {
    let read = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (code, message) = match (read["errorType"].as_str(), read["error"].as_str()) {
        (Some(code), Some(message)) => (code, message.to_owned()),
        _ => ("internal", format!("the server answered {status}: {}", text.chars().take(300).collect::<String>())),
    };
    Problem { code: code.to_owned(), message, faults: Vec::new() }
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    shown: String,
}

impl Client {
    /// A client of the server at `address`; connects with the first call.
    pub fn new(address: &Address) -> Self {
        // A connection kept idle may be closed by the server just as the next call writes to it, and a write that
        // failed half-way must not be repeated blindly: on one machine a new connection for each call costs little.
        let builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).pool_max_idle_per_host(0);
        let (builder, base, token, shown) = match address {
            Address::Socket(path) => {
                let shown = path.display().to_string();
                (builder.unix_socket(path.as_path()), "http://springtide".to_owned(), None, shown)
            }
            Address::Http { url, token } => {
                let base = url.trim_end_matches('/').to_owned();
                (builder, base, Some(token.clone()), url.clone())
            }
        };
        let http = builder.build().expect("a client without TLS settings can be built");
        Self { http, base, token, shown }
    }

    /// A client over a Unix socket.
    pub fn at_socket(path: &Path) -> Self {
        Self::new(&Address::Socket(path.to_owned()))
    }

    /// The address, for messages.
    pub fn address(&self) -> &str {
        &self.shown
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let unreachable = |source| Error::Unreachable { at: self.shown.clone(), source };
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        let answer = tokio::time::timeout(limit, request.send())
            .await
            .map_err(|_| self.garbled(format!("nothing came for {ANSWER_SECONDS_MAX} s")))?
            .map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| foreign(&text, status));
        Err(Error::Refused(problem, status))
    }

    fn garbled(&self, why: String) -> Error {
        Error::Garbled { at: self.shown.clone(), why }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let bytes = self.send(request).await?.bytes().await.map_err(|e| self.garbled(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| self.garbled(e.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    async fn text(&self, path: &str) -> Result<String, Error> {
        let answer = self.send(self.request(Method::GET, path)).await?;
        answer.text().await.map_err(|e| self.garbled(e.to_string()))
    }

    /// What apply would change.
    pub async fn plan(&self, request: &ApplyRequest) -> Result<PlanResponse, Error> {
        self.post("/v1/plan", request).await
    }

    /// Applies manifests.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error> {
        self.post("/v1/apply", request).await
    }

    /// Deletes one resource.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<ApplyResponse, Error> {
        self.json(self.request(Method::DELETE, &format!("/v1/resources/{}/{}", segment(kind), segment(name)))).await
    }

    /// All resources of a kind.
    pub async fn resources(&self, kind: &str) -> Result<Vec<ResourceView>, Error> {
        self.get(&format!("/v1/resources/{}", segment(kind))).await
    }

    /// One resource.
    pub async fn resource(&self, kind: &str, name: &str) -> Result<ResourceView, Error> {
        self.get(&format!("/v1/resources/{}/{}", segment(kind), segment(name))).await
    }

    /// A page about one thing.
    pub async fn describe(&self, kind: &str, name: &str) -> Result<Description, Error> {
        self.get(&format!("/v1/describe/{}/{}", segment(kind), segment(name))).await
    }

    /// Instances, of one service or one host where given.
    pub async fn instances(&self, service: Option<&str>, host: Option<&str>) -> Result<Vec<InstanceView>, Error> {
        let query: Vec<(&str, &str)> =
            [("service", service), ("host", host)].into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
        self.json(self.request(Method::GET, "/v1/instances").query(&query)).await
    }

    /// Hosts.
    pub async fn hosts(&self) -> Result<Vec<HostView>, Error> {
        self.get("/v1/hosts").await
    }

    /// Services.
    pub async fn services(&self) -> Result<Vec<ServiceView>, Error> {
        self.get("/v1/services").await
    }

    /// The log of an instance: an open stream of bytes.
    pub async fn logs(&self, instance: &str, tail_lines: u32, follow: bool) -> Result<Response, Error> {
        let path = format!("/v1/instances/{}/logs?tail={tail_lines}&follow={follow}", segment(instance));
        self.send(self.request(Method::GET, &path)).await
    }

    /// True when the server has the package's bytes.
    pub async fn has_package(&self, digest: &str) -> Result<bool, Error> {
        match self.send(self.request(Method::HEAD, &format!("/v1/packages/{}/blob", segment(digest)))).await {
            Ok(_) => Ok(true),
            Err(Error::Refused(_, StatusCode::NOT_FOUND)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a package's bytes.
    pub async fn put_package(&self, digest: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let request = self.request(Method::PUT, &format!("/v1/packages/{}/blob", segment(digest))).body(bytes);
        self.send(request).await.map(drop)
    }

    /// Opens an operation.
    pub async fn open_operation(&self, request: &OperationRequest) -> Result<Operation, Error> {
        self.post("/v1/operations", request).await
    }

    /// Opens an operation, with what is to happen when a step of it fails.
    pub async fn order_operation(&self, order: &OperationOrder) -> Result<Operation, Error> {
        self.post("/v1/operations", order).await
    }

    /// Operations, each with what may be done with it.
    pub async fn operation_views(&self) -> Result<Vec<OperationView>, Error> {
        self.get("/v1/operations").await
    }

    /// One operation, with what may be done with it.
    pub async fn operation_view(&self, id: &str) -> Result<OperationView, Error> {
        self.get(&format!("/v1/operations/{}", segment(id))).await
    }

    /// Has a step tried again (`retry`) or passed over (`skip`). The operation at work: another one, when one that had
    /// ended was opened again.
    pub async fn steer_step(&self, id: &str, verb: &str, request: &StepRequest) -> Result<OperationView, Error> {
        self.post(&format!("/v1/operations/{}/{}", segment(id), segment(verb)), request).await
    }

    /// What a scale would do now.
    pub async fn plan_operation(&self, request: &OperationRequest) -> Result<OperationPlan, Error> {
        self.post("/v1/operations/plan", request).await
    }

    /// All operations.
    pub async fn operations(&self) -> Result<Vec<Operation>, Error> {
        self.get("/v1/operations").await
    }

    /// One operation.
    pub async fn operation(&self, id: &str) -> Result<Operation, Error> {
        self.get(&format!("/v1/operations/{}", segment(id))).await
    }

    /// An operation's states as they come, the last one final.
    pub async fn watch_operation(&self, id: &str) -> Result<Events<Operation>, Error> {
        let request = self.request(Method::GET, &format!("/v1/operations/{}/watch", segment(id)));
        Ok(Events::new(self.send(request).await?))
    }

    /// `pause`, `resume` or `rollback`.
    pub async fn steer_operation(&self, id: &str, verb: &str) -> Result<Operation, Error> {
        self.json(self.request(Method::POST, &format!("/v1/operations/{}/{}", segment(id), segment(verb)))).await
    }

    /// An operation's health report, HTML.
    pub async fn report(&self, id: &str) -> Result<String, Error> {
        self.text(&format!("/v1/operations/{}/report", segment(id))).await
    }

    /// A backup: an open stream of bytes.
    pub async fn backup(&self, with_metrics: bool) -> Result<Response, Error> {
        self.send(self.request(Method::GET, &format!("/v1/backup?metrics={with_metrics}"))).await
    }

    /// Curves, newest first.
    pub async fn curves(&self, service: Option<&str>) -> Result<Vec<Curve>, Error> {
        let query: Vec<(&str, &str)> = service.map(|name| ("service", name)).into_iter().collect();
        self.json(self.request(Method::GET, "/v1/curves").query(&query)).await
    }

    /// A curve drawn as SVG.
    pub async fn curve_svg(&self, operation: &str) -> Result<String, Error> {
        self.text(&format!("/v1/curves/{}/svg", segment(operation))).await
    }

    /// What an event needs.
    pub async fn size(&self, request: &SizeRequest) -> Result<SizeResponse, Error> {
        self.post("/v1/size", request).await
    }

    /// Policies, presets, and where they stand.
    pub async fn protect(&self) -> Result<ProtectView, Error> {
        self.get("/v1/protect").await
    }

    /// Puts policies in force.
    pub async fn protect_apply(&self, request: &ProtectRequest) -> Result<ProtectResponse, Error> {
        self.post("/v1/protect/apply", request).await
    }

    /// Fires a preset.
    pub async fn protect_fire(&self, preset: &str, request: &FireRequest) -> Result<ProtectResponse, Error> {
        self.post(&format!("/v1/protect/fire/{}", segment(preset)), request).await
    }

    /// Lifts policies.
    pub async fn protect_lift(&self, request: &LiftRequest) -> Result<ProtectResponse, Error> {
        self.post("/v1/protect/lift", request).await
    }

    /// Takes a change of policies back.
    pub async fn protect_rollback(&self, request: &RollbackRequest) -> Result<ProtectResponse, Error> {
        self.post("/v1/protect/rollback", request).await
    }

    /// What policies would have done to the last minutes' requests.
    pub async fn protect_dry_run(&self, question: &DryRunQuestion) -> Result<DryRunAnswer, Error> {
        self.post("/v1/protect/dry-run", question).await
    }

    /// What receivers refused of the slow lanes for good.
    pub async fn dead_letters(&self) -> Result<DeadLetters, Error> {
        self.get("/v1/protect/dead-letters").await
    }

    /// Puts a dead letter back.
    pub async fn retry_dead_letter(&self, id: &str) -> Result<RetriedLetter, Error> {
        self.post(&format!("/v1/protect/dead-letters/{}/retry", segment(id)), &()).await
    }

    /// What became of a policy.
    pub async fn protect_history(&self, policy: &str) -> Result<PolicyHistory, Error> {
        self.get(&format!("/v1/protect/history/{}", segment(policy))).await
    }

    /// Incidents, newest first; `query` as in the route's table.
    pub async fn incidents(&self, query: &[(&str, String)]) -> Result<Vec<Incident>, Error> {
        self.json(self.request(Method::GET, "/v1/incidents").query(query)).await
    }

    /// One incident.
    pub async fn incident(&self, id: &str) -> Result<Incident, Error> {
        self.get(&format!("/v1/incidents/{}", segment(id))).await
    }

    /// Says that someone looks after an incident.
    pub async fn incident_ack(&self, id: &str) -> Result<Incident, Error> {
        self.json(self.request(Method::POST, &format!("/v1/incidents/{}/ack", segment(id)))).await
    }

    /// Silences what an incident reaches.
    pub async fn incident_silence(&self, id: &str, request: &SilenceRequest) -> Result<SilenceResponse, Error> {
        self.post(&format!("/v1/incidents/{}/silence", segment(id)), request).await
    }

    /// Ends an incident's silences.
    pub async fn incident_unsilence(&self, id: &str) -> Result<SilenceResponse, Error> {
        self.json(self.request(Method::DELETE, &format!("/v1/incidents/{}/silence", segment(id)))).await
    }

    /// Series over a range; `query` as in the route's table.
    pub async fn range(&self, query: &[(&str, String)]) -> Result<Vec<SeriesView>, Error> {
        self.json(self.request(Method::GET, "/v1/metrics/range").query(query)).await
    }

    /// Prometheus' API: `query`, `query_range`, `labels`…; gives the answer's `data`.
    pub async fn prometheus(&self, path: &str, parameters: &[(&str, String)]) -> Result<serde_json::Value, Error> {
        let request = self.request(Method::GET, &format!("/api/v1/{path}")).query(parameters);
        let mut answer: serde_json::Value = self.json(request).await?;
        Ok(answer["data"].take())
    }

    /// Everything measured, as Prometheus text.
    pub async fn metrics(&self) -> Result<String, Error> {
        self.text("/metrics").await
    }

    /// The fleet at this second.
    pub async fn top(&self) -> Result<TopView, Error> {
        self.get("/v1/top").await
    }

    /// Audit entries after a sequence number.
    pub async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        self.get(&format!("/v1/audit?after={after}&limit={limit}")).await
    }

    /// The last audit entries before one, the newest last.
    pub async fn audit_before(&self, before: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        self.get(&format!("/v1/audit?before={before}&limit={limit}")).await
    }

    /// The newest audit entries, the newest last.
    pub async fn audit_newest(&self, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        self.get(&format!("/v1/audit?limit={limit}")).await
    }

    /// How the control plane is.
    pub async fn status(&self) -> Result<Status, Error> {
        self.get("/v1/status").await
    }
}

/// A text as one segment of a path, whatever people typed (RFC 3986: everything but unreserved characters is escaped).
fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn what_people_type_stays_one_segment() {
        assert_eq!(segment("lottery-1.a"), "lottery-1.a");
        assert_eq!(segment("a/../b?c=d#é"), "a%2F..%2Fb%3Fc%3Dd%23%C3%A9");
    }
}
