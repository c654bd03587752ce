//! `top`: the fleet at this second, as a live table on a terminal or once in a pipe.

mod screen;

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Output, Table, terminal_width};
use api::http::{TopRow, TopView};
use std::io::IsTerminal;

/// Show what services, instances and hosts do right now
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide top\n  springtide top --once --of instances\n\nKeys: tab or 1 2 3 services, instances, hosts; s next sort column; r reverse; arrows scroll; q quit.\nMemory and CPU are used/allowed; THROTTLED, CPU PSI and MEM PSI are shares of the time."
)]
pub struct Args {
    /// Print once and end, as in a pipe
    #[arg(long)]
    once: bool,
    /// What to begin with
    #[arg(long, value_enum, default_value_t = Tab::Services)]
    of: Tab,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// What is shown.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// Services
    Services,
    /// Instances
    Instances,
    /// Hosts
    Hosts,
}

impl Tab {
    const ALL: [Tab; 3] = [Tab::Services, Tab::Instances, Tab::Hosts];

    fn title(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Instances => "instances",
            Self::Hosts => "hosts",
        }
    }

    fn rows(self, view: &TopView) -> &[TopRow] {
        match self {
            Self::Services => &view.services,
            Self::Instances => &view.instances,
            Self::Hosts => &view.hosts,
        }
    }
}

/// `springtide top`.
pub async fn top(args: Args) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let live = terminal_width().is_some() && std::io::stdin().is_terminal() && !args.once;
    if live && args.output.format == super::output::Format::Table {
        return screen::run(&client, args.of).await;
    }
    let view = client.top().await?;
    args.output.show(&view, || table(args.of.rows(&view)).text())
}

/// Column heads.
const HEAD: [&str; 13] = [
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
];

fn table(rows: &[TopRow]) -> Table {
    let mut table = Table::new(&HEAD).numbers(&[3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for row in rows {
        table.row(cells(row));
    }
    table
}

/// A row as text; what was not measured is `-`.
fn cells(row: &TopRow) -> [String; 13] {
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

/// What a row is sorted by; the largest come first.
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

/// Rows in the order of a column: texts from A, numbers from the largest.
fn sorted(rows: &[TopRow], column: usize, reverse: bool) -> Vec<TopRow> {
    let mut rows = rows.to_vec();
    rows.sort_by(|one, other| {
        let numbers = measure(other, column).unwrap_or(-1.0).total_cmp(&measure(one, column).unwrap_or(-1.0));
        let text = |row: &TopRow| cells(row)[column.min(2)].clone();
        let order = if column > 2 { numbers } else { text(one).cmp(&text(other)) };
        order.then_with(|| one.name.cmp(&other.name))
    });
    if reverse {
        rows.reverse();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<TopRow> {
        let row = |name: &str, qps, cpu| TopRow {
            name: name.to_owned(),
            group: "red-packet".to_owned(),
            state: "2/2".to_owned(),
            qps,
            p99_ms: qps.map(|_| 12.34),
            cpu_cores: Some(cpu),
            cpu_cores_max: Some(2.0),
            memory_bytes: Some(64 << 20),
            throttled: Some(0.256),
            ..TopRow::default()
        };
        vec![row("lottery", Some(120.0), 0.5), row("sso", None, 1.25)]
    }

    #[test]
    fn a_piped_table_is_plain() {
        let wanted = "\
NAME     GROUP       STATE    QPS  P50 MS  P99 MS  ERR/S  REJ/S        CPU  MEMORY  THROTTLED  CPU PSI  MEM PSI
lottery  red-packet  2/2    120.0       -    12.3      -      -  0.50/2.00     64M        26%        -        -
sso      red-packet  2/2        -       -       -      -      -  1.25/2.00     64M        26%        -        -
";
        assert_eq!(table(&sample()).rendered(None), wanted);
    }

    #[test]
    fn rows_sort_by_any_column() {
        let names = |column, reverse| -> Vec<String> {
            sorted(&sample(), column, reverse).into_iter().map(|row| row.name).collect()
        };
        assert_eq!(names(0, false), ["lottery", "sso"]);
        assert_eq!(names(0, true), ["sso", "lottery"]);
        assert_eq!(names(3, false), ["lottery", "sso"]);
        assert_eq!(names(8, false), ["sso", "lottery"]);
    }
}
