//! Numbers over the API: series over a range, the exposition, and the fleet at this second.

use super::App;
use super::extract::{Json, Params};
use super::problem::{self, Failure};
use super::views::{host_view, operations_at_work, phase, service_view};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use api::http::{Problem, SeriesView, TopRow, TopView};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use metrics::Selector;
use metrics::golden::Row;
use model::{CpuMillis, Shape, UnixMs};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Time looked back where none is asked for.
const RANGE_MS_DEFAULT: u64 = 300_000;
/// Series in one answer.
const SERIES_MAX: usize = 10_000;

/// Which series, over which time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    name: String,
    service: Option<String>,
    instance: Option<String>,
    host: Option<String>,
    caller: Option<String>,
    from_ms: Option<UnixMs>,
    to_ms: Option<UnixMs>,
    #[serde(default)]
    step_ms: u64,
}

/// Series over a time range.
#[utoipa::path(get, path = "/v1/metrics/range",
    params(("name" = String, Query, description = "metric, such as springtide_service_requests_per_second"),
        ("service" = Option<String>, Query, description = "only of this service"),
        ("instance" = Option<String>, Query, description = "only of this instance"),
        ("host" = Option<String>, Query, description = "only of this host"),
        ("caller" = Option<String>, Query, description = "only of calls from this service"),
        ("from_ms" = Option<u64>, Query, description = "from; absent: 5 minutes before the end"),
        ("to_ms" = Option<u64>, Query, description = "to; absent: now"),
        ("step_ms" = Option<u64>, Query, description = "at most one point in this time; 0: every point")),
    responses((status = 200, body = Vec<SeriesView>), (status = 400, body = Problem)))]
pub async fn range(State(app): State<App>, Params(asked): Params<Range>) -> Result<Json<Vec<SeriesView>>, Failure> {
    let to = asked.to_ms.unwrap_or_else(now_ms);
    let from = asked.from_ms.unwrap_or(to.saturating_sub(RANGE_MS_DEFAULT));
    if from > to {
        return Err(problem::malformed("from_ms lies after to_ms"));
    }
    let named =
        [("service", asked.service), ("instance", asked.instance), ("host", asked.host), ("caller", asked.caller)];
    let labels = named.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value?))).collect();
    let selector = Selector { name: asked.name, labels };
    let read = move || app.series.range(&selector, from, to, asked.step_ms);
    let found = tokio::task::spawn_blocking(read).await.map_err(|error| problem::internal(error.to_string()))?;
    let found = found.map_err(|error| problem::unprocessable(error.to_string()))?;
    let views = found.into_iter().take(SERIES_MAX);
    Ok(Json(views.map(|at| SeriesView { name: at.name, labels: at.labels, points: at.points }).collect()))
}

/// Everything, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn exposition(State(app): State<App>) -> Result<Response, Failure> {
    let text = app.control.read(|world| world.feed.exposition(now_ms())).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// The fleet at this second.
#[utoipa::path(get, path = "/v1/top", responses((status = 200, body = TopView)))]
pub async fn top(State(app): State<App>) -> Result<Json<TopView>, Failure> {
    Ok(Json(app.control.read(view).await?))
}

/// What is declared, with what was measured of it beside.
fn view(world: &World) -> TopView {
    let at = now_ms();
    let measured = world.feed.top(at);
    let services = by_name(measured.services);
    let instances = by_name(measured.instances);
    let hosts = by_name(measured.hosts);
    let at_work = operations_at_work(world);
    let service_rows = world.snapshot.services().map(|service| {
        let seen = service_view(world, service, &at_work);
        let mut row = row(&seen.name, services.get(&seen.name));
        row.group = seen.business;
        row.state = format!("{}/{}", seen.healthy, seen.wanted);
        let shapes = world.placements_of(&service.name).map(|(_, placement)| placement.shape);
        let (cores, bytes) =
            shapes.fold((0.0, 0), |(cores, bytes), shape| (cores + self::cores(shape), bytes + shape.memory.0));
        row.cpu_cores_max = Some(cores);
        row.memory_bytes_max = Some(bytes);
        row
    });
    let placed = world.snapshot.placements.values().flat_map(|on| on.value.instances.iter());
    let instance_rows = placed.map(|placement| {
        let mut row = row(placement.instance.as_str(), instances.get(placement.instance.as_str()));
        row.group = placement.service.to_string();
        let seen = world.observed.instances.get(&placement.instance);
        row.state = seen.map_or("unknown", |seen| phase(seen.phase)).to_owned();
        row.cpu_cores_max = Some(cores(placement.shape));
        row.memory_bytes_max = Some(placement.shape.memory.0);
        row
    });
    let host_rows = world.snapshot.hosts().map(|host| {
        let seen = host_view(world, host);
        let mut row = row(&seen.name, hosts.get(&seen.name));
        row.group = seen.datacenter;
        row.state = if seen.cordoned { format!("{}, cordoned", seen.state) } else { seen.state };
        row.cpu_cores_max = row.cpu_cores_max.or(Some(seen.cpu_millis as f64 / 1_000.0));
        row.memory_bytes_max = row.memory_bytes_max.or(Some(seen.memory_bytes));
        row
    });
    TopView { at, services: service_rows.collect(), instances: instance_rows.collect(), hosts: host_rows.collect() }
}

fn by_name(rows: Vec<Row>) -> BTreeMap<String, Row> {
    rows.into_iter().map(|row| (row.name.clone(), row)).collect()
}

fn cores(Shape { cpu: CpuMillis(millis), .. }: Shape) -> f64 {
    f64::from(millis) / 1_000.0
}

fn row(name: &str, measured: Option<&Row>) -> TopRow {
    let Some(row) = measured else { return TopRow { name: name.to_owned(), ..TopRow::default() } };
    TopRow {
        name: name.to_owned(),
        group: String::new(),
        state: String::new(),
        qps: row.qps,
        p50_ms: row.p50_ms,
        p99_ms: row.p99_ms,
        errors_per_second: row.errors_per_second,
        rejects_per_second: row.rejects_per_second,
        cpu_cores: row.cpu_cores,
        cpu_cores_max: row.cpu_cores_max,
        memory_bytes: row.memory_bytes,
        memory_bytes_max: row.memory_bytes_max,
        throttled: row.throttled,
        cpu_pressure: row.cpu_pressure,
        memory_pressure: row.memory_pressure,
    }
}
