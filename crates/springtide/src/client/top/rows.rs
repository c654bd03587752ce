//! The tables of `top`: what each view shows of the fleet, its columns, their order and what they are sorted by.

use super::Tab;
use crate::client::{progress, tables};
use api::http::{Incident, OperationView, TopRow, TopView};
use model::{StepState, UnixMs};

/// The columns of a view.
pub struct Columns {
    /// Heads.
    pub heads: &'static [&'static str],
    /// Columns that hold numbers and are set to the right.
    pub numbers: &'static [usize],
    /// Columns, the most telling first: a narrow terminal shows as many as fit.
    pub priority: &'static [usize],
    /// What it is sorted by to begin with.
    pub sorted_by: usize,
}

/// Heads of services, instances and hosts.
pub const MEASURED: Columns = Columns {
    heads: &[
        "NAME",
        "GROUP",
        "STATE",
        "QPS",
        "P50 MS",
        "P99 MS",
        "ERR/S",
        "REJ/S",
        "CPU",
        "MEMORY",
        "THROTTLED",
        "CPU PSI",
        "MEM PSI",
    ],
    numbers: &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    priority: &[0, 3, 5, 8, 2, 6, 7, 9, 10, 4, 11, 12, 1],
    sorted_by: 3,
};

const OPERATIONS: Columns = Columns {
    heads: &["OPERATION", "WHAT", "PHASE", "STEP", "DONE", "AGE", "BY", "MESSAGE"],
    numbers: &[4, 5],
    priority: &[0, 1, 2, 3, 4, 5, 7, 6],
    sorted_by: 5,
};

const INCIDENTS: Columns = Columns {
    heads: &["INCIDENT", "STATE", "SINCE", "WHERE", "CAUSE", "SEEN BY"],
    numbers: &[2],
    priority: &[0, 1, 2, 4, 3, 5],
    sorted_by: 2,
};

/// The columns of a view.
pub fn columns(tab: Tab) -> &'static Columns {
    match tab {
        Tab::Services | Tab::Instances | Tab::Hosts => &MEASURED,
        Tab::Incidents => &INCIDENTS,
        Tab::Operations => &OPERATIONS,
    }
}

/// One line of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name, the same from look to look.
    pub name: String,
    /// What `Enter` on a service narrows instances down to.
    pub group: String,
    /// As text, one for each column.
    pub cells: Vec<String>,
    /// As numbers where the column has some: what it is sorted by.
    pub numbers: Vec<Option<f64>>,
}

/// The lines of services, instances or hosts.
pub fn measured(rows: &[TopRow]) -> Vec<Line> {
    rows.iter()
        .map(|row| Line {
            name: row.name.clone(),
            group: row.group.clone(),
            cells: cells(row).to_vec(),
            numbers: (0..MEASURED.heads.len()).map(|column| measure(row, column)).collect(),
        })
        .collect()
}

/// The rows of a view that `GET /v1/top` has.
pub fn of_top(tab: Tab, view: &TopView) -> &[TopRow] {
    match tab {
        Tab::Services => &view.services,
        Tab::Instances => &view.instances,
        Tab::Hosts => &view.hosts,
        Tab::Incidents | Tab::Operations => &[],
    }
}

/// A row as text; what was not measured is `-`.
pub fn cells(row: &TopRow) -> [String; 13] {
    let none = || "-".to_owned();
    let rate = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.1}"));
    let share = |value: Option<f64>| value.map_or_else(none, |value| format!("{:.0}%", value * 100.0));
    let pair = |used: Option<String>, most: Option<String>| match (used, most) {
        (Some(used), Some(most)) => format!("{used}/{most}"),
        (Some(used), None) => used,
        (None, _) => none(),
    };
    let cores = |value: Option<f64>| value.map(|value| format!("{value:.2}"));
    let memory = |value: Option<u64>| value.map(|value| format!("{}M", value >> 20));
    [
        row.name.clone(),
        row.group.clone(),
        row.state.clone(),
        rate(row.qps),
        rate(row.p50_ms),
        rate(row.p99_ms),
        rate(row.errors_per_second),
        rate(row.rejects_per_second),
        pair(cores(row.cpu_cores), cores(row.cpu_cores_max)),
        pair(memory(row.memory_bytes), memory(row.memory_bytes_max)),
        share(row.throttled),
        share(row.cpu_pressure),
        share(row.memory_pressure),
    ]
}

fn measure(row: &TopRow, column: usize) -> Option<f64> {
    match column {
        3 => row.qps,
        4 => row.p50_ms,
        5 => row.p99_ms,
        6 => row.errors_per_second,
        7 => row.rejects_per_second,
        8 => row.cpu_cores,
        9 => row.memory_bytes.map(|bytes| bytes as f64),
        10 => row.throttled,
        11 => row.cpu_pressure,
        12 => row.memory_pressure,
        _ => None,
    }
}

/// Time since, short: `42 s`, `7 min`, `3 h`, `2 d`.
pub fn since(from: UnixMs, now: UnixMs) -> String {
    match now.saturating_sub(from) / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// The lines of operations at a time.
pub fn operations(views: &[OperationView], now: UnixMs) -> Vec<Line> {
    views.iter().map(|view| operation(view, now)).collect()
}

fn operation(view: &OperationView, now: UnixMs) -> Line {
    let operation = &view.operation;
    let held = operation.held_at();
    let running = operation.steps.iter().find(|step| step.state == StepState::Running);
    let step = held.or(running);
    let age_ms = now.saturating_sub(operation.created_at) as f64;
    let cells = vec![
        operation.id.to_string(),
        progress::title(operation),
        progress::standing(operation).to_owned(),
        step.map(|step| tables::word(&step.name)).unwrap_or_default(),
        step.map(|step| format!("{}/{}", step.done, step.total)).unwrap_or_default(),
        since(operation.created_at, now),
        operation.who.clone(),
        operation.told().to_owned(),
    ];
    // The youngest come first, as the largest do elsewhere.
    let numbers = vec![None, None, None, None, None, Some(-age_ms), None, None];
    Line { name: operation.id.to_string(), group: String::new(), cells, numbers }
}

/// The lines of incidents at a time.
pub fn incidents(all: &[Incident], now: UnixMs) -> Vec<Line> {
    let line = |of: &Incident| {
        let is_mute = of.silenced_until.is_some() && of.ended_at.is_none();
        Line {
            name: of.id.clone(),
            group: String::new(),
            cells: vec![
                of.id.clone(),
                if is_mute { format!("{}, mute", of.state) } else { of.state.clone() },
                since(of.started_at, now),
                of.reach.join(", "),
                of.causes.first().map_or_else(|| of.title.clone(), |cause| cause.what.clone()),
                of.findings.first().map(|found| found.what.clone()).unwrap_or_default(),
            ],
            numbers: vec![None, None, Some(of.started_at as f64), None, None, None],
        }
    };
    all.iter().map(line).collect()
}

/// Lines in the order of a column: numbers from the largest, texts from A, names where they are equal.
pub fn sorted(mut lines: Vec<Line>, column: usize, reverse: bool) -> Vec<Line> {
    lines.sort_by(|one, other| {
        let order = match (one.numbers[column], other.numbers[column]) {
            (None, None) => one.cells[column].cmp(&other.cells[column]),
            (one, other) => other.unwrap_or(f64::MIN).total_cmp(&one.unwrap_or(f64::MIN)),
        };
        order.then_with(|| one.name.cmp(&other.name))
    });
    if reverse {
        lines.reverse();
    }
    lines
}
