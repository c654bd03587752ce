//! Pages about one thing, as titled sections: what is wanted, what is, and why not.

pub mod operation;
mod service;

use super::App;
use super::extract::{Json, kind, name};
use super::problem::{self, Failure};
use super::views::{host_view, instance_views};
use crate::clock::now_ms;
use crate::control_loop::world::{World, placements_on};
use api::http::{Description, InstanceView, Problem, Section};
use axum::extract::{Path, State};
use model::{HostName, ResourceKey, UnixMs};
use serde_json::Value;

/// Rows of one section; longer ones say how many were left out.
const ROWS_MAX: usize = 500;

/// A page about one thing.
#[utoipa::path(get, path = "/v1/describe/{kind}/{name}",
    params(("kind" = String, Path, description = "Service, Host, Operation, Instance or any other kind"),
        ("name" = String, Path, description = "its name")),
    responses((status = 200, body = Description), (status = 404, body = Problem)))]
pub async fn describe(
    State(app): State<App>,
    Path((of, at)): Path<(String, String)>,
) -> Result<Json<Description>, Failure> {
    match of.to_lowercase().trim_end_matches('s') {
        "operation" => {
            let operation = super::operations::find(&app, &name(&at)?).await?;
            Ok(Json(operation::page(&operation, now_ms())))
        }
        "instance" => app.control.read(move |world| instance(world, &at)).await?.map(Json),
        _ => {
            let key = ResourceKey { kind: kind(&of)?, name: at };
            app.control.read(move |world| resource(world, &key)).await?.map(Json)
        }
    }
}

fn resource(world: &World, key: &ResourceKey) -> Result<Description, Failure> {
    let missing =
        || problem::not_found(format!("there is no {key}: `springtide get {}` lists them", key.kind.as_str()));
    let stored = world.snapshot.resources.get(key).ok_or_else(missing)?;
    let mut sections = match &*stored.value {
        model::Resource::Service(of) => service::sections(world, of, now_ms()),
        model::Resource::Host(of) => host(world, &of.name),
        _ => Vec::new(),
    };
    let declared = serde_json::to_value(&*stored.value).unwrap_or(Value::Null);
    sections.push(list("declared", fields(&declared)));
    Ok(Description { title: format!("{key}, revision {}", stored.revision), sections })
}

/// A section of names and values.
fn list(title: &str, rows: Vec<Vec<String>>) -> Section {
    Section { title: title.to_owned(), head: Vec::new(), rows }
}

/// A section with heads, cut to its limit.
fn table(title: &str, head: &[&str], mut rows: Vec<Vec<String>>) -> Section {
    let left = rows.len().saturating_sub(ROWS_MAX);
    if left > 0 {
        rows.truncate(ROWS_MAX);
        rows.push(vec![format!("… and {left} more")]);
    }
    Section { title: title.to_owned(), head: head.iter().map(|&text| text.to_owned()).collect(), rows }
}

fn row(name: &str, value: impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

/// The fields of a resource, nested ones by their paths.
fn fields(value: &Value) -> Vec<Vec<String>> {
    fn walk(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, value, rows);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (at, value) in items.iter().enumerate() {
                    walk(&format!("{path}[{at}]"), value, rows);
                }
            }
            Value::String(text) => rows.push(row(path, text)),
            Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                rows.push(row(path, texts.collect::<Vec<_>>().join(" ")));
            }
            Value::Null => {}
            other => rows.push(row(path, other)),
        }
    }
    let mut rows = Vec::new();
    walk("", value, &mut rows);
    rows.retain(|row| row[0] != "kind");
    rows
}

/// A time span for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

fn ago(at: UnixMs, now: UnixMs) -> String {
    match at {
        0 => String::new(),
        _ => span(now.saturating_sub(at)),
    }
}

const INSTANCE_HEAD: [&str; 8] = ["instance", "host", "wanted", "phase", "for", "restarts", "weight", "message"];

fn instance_row(at: &InstanceView, now: UnixMs) -> Vec<String> {
    let intent = serde_json::to_value(at.intent).ok();
    vec![
        at.instance.to_string(),
        at.host.clone(),
        intent.and_then(|intent| intent.as_str().map(str::to_owned)).unwrap_or_default(),
        at.phase.clone(),
        ago(at.since, now),
        at.restarts.to_string(),
        at.weight.to_string(),
        at.message.clone(),
    ]
}

fn host(world: &World, name: &HostName) -> Vec<Section> {
    let now = now_ms();
    let Some(declared) = world.snapshot.host(name) else { return Vec::new() };
    let view = host_view(world, declared);
    let cores = |millis: u64| millis as f64 / 1_000.0;
    let mib = |bytes: u64| bytes >> 20;
    let state = list(
        "state",
        vec![
            row("agent", format!("{} {}", view.state, ago(view.since, now))),
            row("isolation", &view.isolation),
            row("takes new instances", if view.cordoned { "no: cordoned" } else { "yes" }),
            row("datacenter", &view.datacenter),
            row("cpu", format!("{} of {} cores given out", cores(view.cpu_millis_used), cores(view.cpu_millis))),
            row("memory", format!("{} of {} MiB given out", mib(view.memory_bytes_used), mib(view.memory_bytes))),
        ],
    );
    let here = placements_on(&world.snapshot, name).map(|placement| (name, placement));
    let rows = instance_views(world, here).iter().map(|at| instance_row(at, now)).collect();
    vec![state, table("instances", &INSTANCE_HEAD, rows)]
}

fn instance(world: &World, id: &str) -> Result<Description, Failure> {
    let missing = || problem::not_found(format!("there is no instance {id}: `springtide get instances` lists them"));
    let (host, placement) = world.placement(id).ok_or_else(missing)?;
    let now = now_ms();
    let view = instance_views(world, std::iter::once((host, placement))).remove(0);
    let seen = world.observed.instances.get(id);
    let config = seen.map(|seen| seen.config_digest.as_str()).unwrap_or_default();
    let mut rows = vec![
        row("service", &view.service),
        row("host", format!("{} in {}", view.host, view.datacenter)),
        row("wanted", instance_row(&view, now)[2].clone()),
        row("phase", format!("{} {}", view.phase, ago(view.since, now))),
        row("message", &view.message),
        row("restarts", view.restarts),
        row("pid", view.pid),
        row("endpoint", &view.endpoint),
        row("weight", view.weight),
        row("shape", view.shape),
        row("package", format!("{} {}", placement.package, placement.package_version)),
        row("package digest", &placement.package_digest),
        row("config digest", &placement.config_digest),
    ];
    if !config.is_empty() && config != placement.config_digest.as_str() {
        rows.push(row("config it runs", config));
    }
    rows.retain(|row| !row[1].is_empty());
    Ok(Description { title: format!("Instance {id}"), sections: vec![list("state", rows)] })
}
