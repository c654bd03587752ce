//! Prometheus' HTTP API, as far as Grafana asks for it: queries, labels, series, metadata, build information.
//!
//! Errors have Prometheus' form here, not ours. Evaluation runs on threads of its own, few at once: the control loop never
//! waits for a query.

mod asked;
mod written;

use super::App;
use crate::clock::now_ms;
use crate::query::{self, Asking};
use asked::{Asked, Wrong};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use promql::{ErrorKind, Lookback, Matcher, Query};
use std::time::Duration;

/// Selectors, each with all of its matchers, and the times between which they look.
type Selected = (Vec<Vec<Matcher>>, (i64, i64));

/// Version of Prometheus whose dialect is spoken: that of the one our answers are held against.
const DIALECT: &str = "2.42.0";
/// Names, values or series in one answer.
const NAMES_MAX: usize = 100_000;
/// Time looked back for names where none is asked for.
const NAMES_MS_DEFAULT: i64 = 3_600_000;
/// Time for one query at most.
const QUERY_MS_MAX: u64 = 20_000;

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}

impl From<promql::Error> for Wrong {
    fn from(error: promql::Error) -> Self {
        let message = error.to_string();
        match error.kind {
            ErrorKind::Parse | ErrorKind::Unsupported => Self::bad(format!("invalid parameter \"query\": {message}")),
            ErrorKind::Timeout => Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "timeout", message },
            ErrorKind::Execution | ErrorKind::Limit => {
                Self { status: StatusCode::UNPROCESSABLE_ENTITY, kind: "execution", message }
            }
        }
    }
}

impl From<query::Failed> for Wrong {
    fn from(failed: query::Failed) -> Self {
        match failed {
            query::Failed::Query(error) => error.into(),
            query::Failed::Busy { .. } => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "timeout", message: failed.to_string() }
            }
            query::Failed::TooMuch(message) => {
                Self { status: StatusCode::UNPROCESSABLE_ENTITY, kind: "execution", message }
            }
            query::Failed::Lost(message) => {
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "internal", message }
            }
        }
    }
}

fn good(data: String) -> Response {
    let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn asking(asked: &Asked) -> Result<Asking, Wrong> {
    let lookback = asked.duration_ms("lookback_delta")?.map_or_else(Lookback::default, Lookback::Fixed);
    let timeout = asked.duration_ms("timeout")?.and_then(|ms| u64::try_from(ms).ok());
    let time = Duration::from_millis(timeout.unwrap_or(QUERY_MS_MAX).min(QUERY_MS_MAX));
    Ok(Asking { lookback, time })
}

/// A query at one time, in PromQL.
#[utoipa::path(get, path = "/api/v1/query",
    params(("query" = String, Query, description = "PromQL"),
        ("time" = Option<String>, Query, description = "Unix seconds or RFC 3339; absent: now"),
        ("timeout" = Option<String>, Query, description = "time for evaluation; at most 20 s"),
        ("lookback_delta" = Option<String>, Query, description = "how long a value holds; absent: three times its series' spacing, 15 s to 5 min")),
    responses((status = 200, body = Object), (status = 400, body = Object), (status = 422, body = Object)))]
pub async fn instant(State(app): State<App>, asked: Asked) -> Result<Response, Wrong> {
    let query = Query::parse(asked.needed("query")?)?;
    let at = asked.time_ms("time")?.unwrap_or(now_ms() as i64);
    let answer = app.queries.instant(query, at, asking(&asked)?).await?;
    Ok(good(written::answer(&answer)))
}

/// A query over a range of time, in PromQL.
#[utoipa::path(get, path = "/api/v1/query_range",
    params(("query" = String, Query, description = "PromQL"),
        ("start" = String, Query, description = "Unix seconds or RFC 3339"),
        ("end" = String, Query, description = "Unix seconds or RFC 3339"),
        ("step" = String, Query, description = "seconds, or a duration such as 15s; at most 11,000 steps"),
        ("timeout" = Option<String>, Query, description = "time for evaluation; at most 20 s"),
        ("lookback_delta" = Option<String>, Query, description = "as for query")),
    responses((status = 200, body = Object), (status = 400, body = Object), (status = 422, body = Object)))]
pub async fn range(State(app): State<App>, asked: Asked) -> Result<Response, Wrong> {
    let query = Query::parse(asked.needed("query")?)?;
    let (from, to) = (asked.time_needed("start")?, asked.time_needed("end")?);
    asked.needed("step")?;
    let step = asked.duration_ms("step")?.filter(|step| *step > 0);
    let step = step.ok_or_else(|| Wrong::bad("invalid parameter \"step\": it must be longer than zero".to_owned()))?;
    if to < from {
        return Err(Wrong::bad("invalid parameter \"end\": it lies before the start".to_owned()));
    }
    let answer = app.queries.range(query, (from, to, step), asking(&asked)?).await?;
    Ok(good(written::answer(&answer)))
}

/// The selectors of `match[]`, and the time to look at.
fn selected(asked: &Asked, optional: bool) -> Result<Selected, Wrong> {
    let to = asked.time_ms("end")?.unwrap_or(now_ms() as i64);
    let from = asked.time_ms("start")?.unwrap_or(to - NAMES_MS_DEFAULT);
    let given = asked.all("match[]");
    let selectors = given.iter().map(|text| promql::parse_selector(text)).collect::<Result<Vec<_>, _>>();
    let mut selectors = selectors.map_err(|error| Wrong::bad(format!("invalid parameter \"match[]\": {error}")))?;
    if selectors.is_empty() && !optional {
        let message = "no match[] parameter provided: a selector such as up{job=\"a\"} would be right";
        return Err(Wrong::bad(message.to_owned()));
    }
    if selectors.is_empty() {
        // Every series.
        selectors.push(Vec::new());
    }
    Ok((selectors, (from, to)))
}

fn limit(asked: &Asked) -> usize {
    let given = asked.get("limit").and_then(|text| text.parse::<usize>().ok()).filter(|limit| *limit > 0);
    given.unwrap_or(NAMES_MAX).min(NAMES_MAX)
}

/// Names of labels.
#[utoipa::path(get, path = "/api/v1/labels",
    params(("match[]" = Option<Vec<String>>, Query, description = "only of these series"),
        ("start" = Option<String>, Query, description = "from; absent: one hour before the end"),
        ("end" = Option<String>, Query, description = "to; absent: now")),
    responses((status = 200, body = Object), (status = 400, body = Object)))]
pub async fn labels(State(app): State<App>, asked: Asked) -> Result<Response, Wrong> {
    let (selectors, times) = selected(&asked, true)?;
    let names = app.queries.texts(None, selectors, times).await?;
    Ok(good(written::texts(names.iter().map(String::as_str).take(limit(&asked)))))
}

/// Values of one label.
#[utoipa::path(get, path = "/api/v1/label/{name}/values",
    params(("name" = String, Path, description = "the label; __name__ gives the names of metrics"),
        ("match[]" = Option<Vec<String>>, Query, description = "only of these series"),
        ("start" = Option<String>, Query, description = "from; absent: one hour before the end"),
        ("end" = Option<String>, Query, description = "to; absent: now")),
    responses((status = 200, body = Object), (status = 400, body = Object)))]
pub async fn values(State(app): State<App>, Path(name): Path<String>, asked: Asked) -> Result<Response, Wrong> {
    let good_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if !good_name {
        return Err(Wrong::bad(format!("invalid label name {name:?}: letters, digits and _ would be right")));
    }
    let (selectors, times) = selected(&asked, true)?;
    let values = app.queries.texts(Some(name), selectors, times).await?;
    Ok(good(written::texts(values.iter().map(String::as_str).take(limit(&asked)))))
}

/// Label sets of series.
#[utoipa::path(get, path = "/api/v1/series",
    params(("match[]" = Vec<String>, Query, description = "selectors, such as up{job=\"a\"}"),
        ("start" = Option<String>, Query, description = "from; absent: one hour before the end"),
        ("end" = Option<String>, Query, description = "to; absent: now")),
    responses((status = 200, body = Object), (status = 400, body = Object)))]
pub async fn series(State(app): State<App>, asked: Asked) -> Result<Response, Wrong> {
    let (selectors, times) = selected(&asked, false)?;
    let found = app.queries.label_sets(selectors, times).await?;
    Ok(good(written::label_sets(found.iter().take(limit(&asked)))))
}

/// Kinds and meanings of metrics.
#[utoipa::path(get, path = "/api/v1/metadata",
    params(("metric" = Option<String>, Query, description = "only of this metric"),
        ("limit" = Option<usize>, Query, description = "metrics at most")),
    responses((status = 200, body = Object)))]
pub async fn metadata(State(app): State<App>, asked: Asked) -> Result<Response, Wrong> {
    let only = asked.get("metric").map(str::to_owned);
    let described = app.control.read(|world| world.feed.descriptions()).await;
    let described = described.map_err(|ended| query::Failed::Lost(ended.to_string()))?;
    let wanted =
        described.iter().filter(|about| only.as_ref().is_none_or(|only| about.name == *only)).take(limit(&asked));
    let kind = |kind: metrics::Kind| match kind {
        metrics::Kind::Counter => "counter",
        metrics::Kind::Gauge => "gauge",
        metrics::Kind::Histogram => "histogram",
    };
    let entry = |about: &metrics::Description| {
        let value = serde_json::json!([{ "type": kind(about.kind), "help": about.help, "unit": about.unit }]);
        (about.name.to_owned(), value)
    };
    Ok(good(serde_json::Value::Object(wanted.map(entry).collect()).to_string()))
}

/// What Grafana asks to learn which dialect is spoken.
#[utoipa::path(get, path = "/api/v1/status/buildinfo", responses((status = 200, body = Object)))]
pub async fn build_info() -> Response {
    let version = format!("{DIALECT}+springtide-{}", env!("CARGO_PKG_VERSION"));
    let empty = "";
    let about = serde_json::json!({
        "version": version, "revision": empty, "branch": empty, "buildUser": empty, "buildDate": empty, "goVersion": empty,
    });
    good(about.to_string())
}

/// What is not served here, in Prometheus' form.
pub async fn absent() -> Wrong {
    let served = "query, query_range, labels, label/NAME/values, series, metadata and status/buildinfo";
    let message =
        format!("this part of Prometheus' API is not served here: {served} are, and what is ours is under /v1");
    Wrong { status: StatusCode::NOT_FOUND, kind: "not_found", message }
}
