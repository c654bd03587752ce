//! Tables of hosts and instances over the live frame: the server filters, sorts and cuts.
//!
//! They are made from the frame that viewers of the live feed share, outside the control loop.

use super::App;
use super::extract::{Json, Params};
use super::problem::{self, Failure};
use api::http::Problem;
use api::live::{Layout, PHASES, Tick};
use api::rows::{HostRow, HostRows, InstanceRow, InstanceRows};
use axum::extract::State;
use serde::Deserialize;
use std::cmp::Ordering;

/// Rows in one answer where none are asked for.
const ROWS_DEFAULT: usize = 100;
/// Rows in one answer at most.
const ROWS_MAX: usize = 1_000;

/// Which rows, in which order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    words: Option<String>,
    name: Option<String>,
    service: Option<String>,
    host: Option<String>,
    datacenter: Option<String>,
    rack: Option<String>,
    state: Option<String>,
    sort: Option<String>,
    #[serde(default)]
    descending: bool,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// Hosts with their numbers, filtered, sorted and cut.
#[utoipa::path(get, path = "/v1/rows/hosts",
    params(("words" = Option<String>, Query, description = "each of these words is in the name, datacenter, rack or state"),
        ("name" = Option<String>, Query, description = "only this one"),
        ("datacenter" = Option<String>, Query, description = "only in this datacenter"),
        ("rack" = Option<String>, Query, description = "only in this rack"),
        ("state" = Option<String>, Query, description = "only in this state: unknown, connected, lost, or cordoned"),
        ("sort" = Option<String>, Query, description = "name (as it is), datacenter, rack, state, instances, cpu, memory or given"),
        ("descending" = Option<bool>, Query, description = "largest first; what was not measured comes last either way"),
        ("offset" = Option<usize>, Query, description = "leave out so many"),
        ("limit" = Option<usize>, Query, description = "at most so many; 100 unless said, 1000 at most")),
    responses((status = 200, body = HostRows), (status = 400, body = Problem)))]
pub async fn hosts(State(app): State<App>, Params(asked): Params<Asked>) -> Result<Json<HostRows>, Failure> {
    let frame = app.live.frame(&app.control, &app.incidents).await?;
    host_rows(frame.layout(), frame.tick(), &asked).map(Json)
}

/// Instances with their numbers, filtered, sorted and cut.
#[utoipa::path(get, path = "/v1/rows/instances",
    params(("words" = Option<String>, Query, description = "each of these words is in the name, service, host, datacenter or state"),
        ("name" = Option<String>, Query, description = "only this one"),
        ("service" = Option<String>, Query, description = "only of this service"),
        ("host" = Option<String>, Query, description = "only on this host"),
        ("datacenter" = Option<String>, Query, description = "only in this datacenter"),
        ("rack" = Option<String>, Query, description = "only in this rack"),
        ("state" = Option<String>, Query, description = "only in this state, such as unhealthy"),
        ("sort" = Option<String>, Query, description = "name (as it is), service, host, state, rps, p99_ms, errors, cpu or memory"),
        ("descending" = Option<bool>, Query, description = "largest first; what was not measured comes last either way"),
        ("offset" = Option<usize>, Query, description = "leave out so many"),
        ("limit" = Option<usize>, Query, description = "at most so many; 100 unless said, 1000 at most")),
    responses((status = 200, body = InstanceRows), (status = 400, body = Problem)))]
pub async fn instances(State(app): State<App>, Params(asked): Params<Asked>) -> Result<Json<InstanceRows>, Failure> {
    let frame = app.live.frame(&app.control, &app.incidents).await?;
    instance_rows(frame.layout(), frame.tick(), &asked).map(Json)
}

/// What rows are sorted by.
enum Key<'a> {
    Number(&'a [Option<f32>]),
    Text(Box<dyn Fn(usize) -> &'a str + 'a>),
    Count(Vec<u32>),
}

impl Key<'_> {
    fn order(&self, a: usize, b: usize, descending: bool) -> Ordering {
        let turned = |order: Ordering| if descending { order.reverse() } else { order };
        match self {
            Key::Number(column) => match (column.get(a).copied().flatten(), column.get(b).copied().flatten()) {
                (Some(a), Some(b)) => turned(a.total_cmp(&b)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            },
            Key::Text(of) => turned(natural(of(a)).cmp(&natural(of(b)))),
            Key::Count(column) => turned(column[a].cmp(&column[b])),
        }
    }
}

/// Orders `pay-2` before `pay-10`.
fn natural(name: &str) -> (&str, u64, &str) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (front, number) = name.split_at(name.len() - digits);
    (front, number.parse().unwrap_or(0), name)
}

fn unsortable(asked: &str, known: &str) -> Failure {
    problem::malformed(format!("sort={asked:?}: one of {known} would be right"))
}

/// The places of the rows asked for, and how many fit.
fn cut(mut fitting: Vec<usize>, key: Option<&Key<'_>>, asked: &Asked) -> (u64, Vec<usize>) {
    if let Some(key) = key {
        fitting.sort_by(|a, b| key.order(*a, *b, asked.descending));
    } else if asked.descending {
        fitting.reverse();
    }
    let total = fitting.len() as u64;
    let limit = asked.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX);
    (total, fitting.into_iter().skip(asked.offset).take(limit).collect())
}

/// Words that must all be there.
struct Words(Vec<String>);

impl Words {
    fn of(asked: &Asked) -> Self {
        let words = asked.words.as_deref().unwrap_or("").split_whitespace();
        Self(words.map(str::to_lowercase).collect())
    }

    fn all_in(&self, texts: &[&str]) -> bool {
        // Names are lower case already.
        self.0.iter().all(|word| texts.iter().any(|text| text.contains(word.as_str())))
    }
}

fn is(wanted: &Option<String>, value: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == value)
}

fn host_state(code: u8) -> &'static str {
    ["unknown", "connected", "lost", "lost", "unknown, cordoned", "connected, cordoned", "lost, cordoned"]
        .get(usize::from(code))
        .copied()
        .unwrap_or("unknown")
}

fn host_rows(layout: &Layout, tick: &Tick, asked: &Asked) -> Result<HostRows, Failure> {
    if asked.service.is_some() || asked.host.is_some() {
        return Err(problem::malformed(
            "hosts have no service and no host: name, datacenter, rack and state would be right",
        ));
    }
    let words = Words::of(asked);
    let state = |at: usize| host_state(tick.hosts.state.get(at).copied().unwrap_or(0));
    let mut carried = vec![0u32; layout.hosts.len()];
    layout.instances.iter().for_each(|of| carried[of.host as usize] += 1);
    let fits = |at: &usize| {
        let (host, state) = (&layout.hosts[*at], state(*at));
        is(&asked.name, &host.name)
            && is(&asked.datacenter, &host.datacenter)
            && is(&asked.rack, &host.rack)
            && asked.state.as_deref().is_none_or(|wanted| state.split(", ").any(|word| word == wanted))
            && words.all_in(&[&host.name, &host.datacenter, &host.rack, state])
    };
    let key = match asked.sort.as_deref() {
        None => None,
        Some("name") => Some(Key::Text(Box::new(|at| layout.hosts[at].name.as_str()))),
        Some("datacenter") => Some(Key::Text(Box::new(|at| layout.hosts[at].datacenter.as_str()))),
        Some("rack") => Some(Key::Text(Box::new(|at| layout.hosts[at].rack.as_str()))),
        Some("state") => Some(Key::Text(Box::new(state))),
        Some("instances") => Some(Key::Count(carried.clone())),
        Some("cpu") => Some(Key::Number(&tick.hosts.cpu)),
        Some("memory") => Some(Key::Number(&tick.hosts.memory)),
        Some("given") => Some(Key::Number(&tick.hosts.given)),
        Some(other) => return Err(unsortable(other, "name, datacenter, rack, state, instances, cpu, memory, given")),
    };
    let (total, places) = cut((0..layout.hosts.len()).filter(fits).collect(), key.as_ref(), asked);
    let row = |at: usize| {
        let (host, of) = (&layout.hosts[at], |column: &[Option<f32>]| column.get(at).copied().flatten());
        HostRow {
            name: host.name.clone(),
            datacenter: host.datacenter.clone(),
            rack: host.rack.clone(),
            state: state(at).to_owned(),
            instances: carried[at],
            cpu: of(&tick.hosts.cpu),
            memory: of(&tick.hosts.memory),
            given: of(&tick.hosts.given),
        }
    };
    Ok(HostRows { at: tick.at, total, rows: places.into_iter().map(row).collect() })
}

fn instance_rows(layout: &Layout, tick: &Tick, asked: &Asked) -> Result<InstanceRows, Failure> {
    let words = Words::of(asked);
    let columns = &tick.instances;
    let state = |at: usize| {
        let phase = usize::from(columns.phase.get(at).copied().unwrap_or(0));
        PHASES.get(phase).copied().unwrap_or(PHASES[0])
    };
    let host = |at: usize| &layout.hosts[layout.instances[at].host as usize];
    let service = |at: usize| layout.services[layout.instances[at].service as usize].name.as_str();
    let fits = |at: &usize| {
        let (instance, host, service, state) = (&layout.instances[*at], host(*at), service(*at), state(*at));
        is(&asked.name, &instance.name)
            && is(&asked.service, service)
            && is(&asked.host, &host.name)
            && is(&asked.datacenter, &host.datacenter)
            && is(&asked.rack, &host.rack)
            && is(&asked.state, state)
            && words.all_in(&[&instance.name, service, &host.name, &host.datacenter, state])
    };
    let key = match asked.sort.as_deref() {
        None => None,
        Some("name") => Some(Key::Text(Box::new(|at| layout.instances[at].name.as_str()))),
        Some("service") => Some(Key::Text(Box::new(service))),
        Some("host") => Some(Key::Text(Box::new(|at| host(at).name.as_str()))),
        Some("state") => Some(Key::Text(Box::new(state))),
        Some("rps") => Some(Key::Number(&columns.rps)),
        Some("p99_ms") => Some(Key::Number(&columns.p99_ms)),
        Some("errors") => Some(Key::Number(&columns.errors)),
        Some("cpu") => Some(Key::Number(&columns.cpu)),
        Some("memory") => Some(Key::Number(&columns.memory)),
        Some(other) => return Err(unsortable(other, "name, service, host, state, rps, p99_ms, errors, cpu, memory")),
    };
    let (total, places) = cut((0..layout.instances.len()).filter(fits).collect(), key.as_ref(), asked);
    let row = |at: usize| {
        let of = |column: &[Option<f32>]| column.get(at).copied().flatten();
        InstanceRow {
            name: layout.instances[at].name.clone(),
            service: service(at).to_owned(),
            host: host(at).name.clone(),
            datacenter: host(at).datacenter.clone(),
            state: state(at).to_owned(),
            rps: of(&columns.rps),
            p99_ms: of(&columns.p99_ms),
            errors: of(&columns.errors),
            cpu: of(&columns.cpu),
            memory: of(&columns.memory),
        }
    };
    Ok(InstanceRows { at: tick.at, total, rows: places.into_iter().map(row).collect() })
}

#[cfg(test)]
mod tests;
