//! `top`: the fleet at this second, as a live screen on a terminal or once in a pipe.

mod draw;
mod incidents;
mod live;
mod page;
mod rows;
mod state;
#[cfg(test)]
mod tests;

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Format, Output, Table, terminal_width};
use rows::Line;
use std::io::IsTerminal;

/// Watch services, instances, hosts, incidents and operations live, and act
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide top\n  springtide top --once --of instances\n\nKeys: tab or 1 to 5 the views; enter into a line, esc back; s next sort column, r reverse; / filter; arrows move;\nc scale a service (the plan is shown first); p u b t k pause, resume, roll back, retry, skip an operation;\na m acknowledge, mute an incident; P protect by a preset; ? all keys; q quit. What changes the fleet asks first.\nMemory and CPU are used/allowed; THROTTLED, CPU PSI and MEM PSI are shares of the time."
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
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tab {
    /// Services
    #[default]
    Services,
    /// Instances
    Instances,
    /// Hosts
    Hosts,
    /// Incidents
    Incidents,
    /// Operations
    Operations,
}

impl Tab {
    const ALL: [Tab; 5] = [Tab::Services, Tab::Instances, Tab::Hosts, Tab::Incidents, Tab::Operations];

    fn index(self) -> usize {
        self as usize
    }

    fn title(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Instances => "instances",
            Self::Hosts => "hosts",
            Self::Incidents => "incidents",
            Self::Operations => "operations",
        }
    }

    /// The kind that `describe` knows its lines by.
    fn kind(self) -> &'static str {
        match self {
            Self::Services => "service",
            Self::Instances => "instance",
            Self::Hosts => "host",
            Self::Incidents => "incident",
            Self::Operations => "operation",
        }
    }
}

/// `springtide top`.
pub async fn top(args: Args) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let live = terminal_width().is_some() && std::io::stdin().is_terminal() && !args.once;
    if live && args.output.format == Format::Table {
        return live::run(&client, args.of).await;
    }
    match args.of {
        Tab::Operations => {
            let views = client.operation_views().await?;
            args.output.show(&views, || table(args.of, rows::operations(&views, now_ms())).text())
        }
        Tab::Incidents => {
            let found = incidents::all(&client).await?;
            if let Some(trouble) = client.status().await?.detection_trouble {
                args.output.note(&trouble)?;
            }
            args.output.show(&found, || table(args.of, rows::incidents(&found, now_ms())).text())
        }
        Tab::Services | Tab::Instances | Tab::Hosts => {
            let view = client.top().await?;
            args.output.show(&view, || table(args.of, rows::measured(rows::of_top(args.of, &view))).text())
        }
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn table(tab: Tab, lines: Vec<Line>) -> Table {
    let columns = rows::columns(tab);
    let mut table = Table::new(columns.heads).numbers(columns.numbers);
    for line in lines {
        table.row(line.cells);
    }
    table
}
