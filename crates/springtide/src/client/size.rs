//! `size`: what an event needs, and scaling to it.

use super::connect::Connect;
use super::failure::Failure;
use super::nearest::or_nearest;
use super::output::{Output, Table, counted};
use super::progress::{self, Wait};
use api::http::{ServiceSize, SizeRequest, SizeResponse};
use model::{Kind, OperationId};
use std::collections::BTreeMap;

/// Tell how many instances an event needs
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide size midnight\n  springtide size midnight --apply\n\nUtilisation is at 50 to 60% at the peak, and never over 66% with any one datacenter lost.\nExit codes: 0 it fits, 1 something is short or an operation failed, 3 no server."
)]
pub struct Args {
    /// The event
    event: String,
    /// Start the scale operations at once
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide size`.
pub async fn size(args: Args) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let sized = match client.size(&SizeRequest { event: args.event.clone(), apply: args.apply }).await {
        Ok(sized) => sized,
        Err(error) => return Err(or_nearest(&client, Kind::Event, &args.event, error).await),
    };
    args.output.show(&sized, || shown(&sized))?;
    let mut failed = Vec::new();
    if !args.wait.no_wait && !sized.operations.is_empty() {
        let ids: Result<Vec<OperationId>, _> = sized.operations.iter().map(|id| id.parse()).collect();
        let ids = ids.map_err(|error| Failure::Local(format!("the server named no operation: {error}")))?;
        match progress::follow_all(&client, &ids, &args.wait, args.output).await {
            Err(Failure::Refused(why)) => failed.push(why),
            other => drop(other?),
        }
    }
    if !sized.shortages.is_empty() {
        failed.insert(0, counted(sized.shortages.len(), "shortage"));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Refused(failed.join("\n"))) }
}

fn shown(sized: &SizeResponse) -> String {
    let head = ["SERVICE", "LOAD", "EACH TAKES", "INSTANCES", "UTILISATION", "ONE DC LOST", "BASIS"];
    let mut table = Table::new(&head).numbers(&[1, 2, 4, 5]).spare(&[4, 6]);
    for one in &sized.services {
        table.row(row(one));
    }
    let mut text = format!("event {}\n\n{}", sized.event, table.text());
    for shortage in &sized.shortages {
        text.push_str(&format!("\nshort: {shortage}"));
    }
    if !sized.operations.is_empty() {
        text.push_str(&format!("\nstarted: {}", sized.operations.join(", ")));
    }
    text.trim_end().to_owned() + "\n"
}

fn row(one: &ServiceSize) -> [String; 7] {
    let percent = |share: f64| if share > 0.0 { format!("{:.0}%", share * 100.0) } else { "-".to_owned() };
    [
        one.service.clone(),
        format!("{:.0}/s", one.load_rps),
        one.capacity_rps.map_or_else(|| "-".to_owned(), |rps| format!("{rps:.0}/s")),
        counts(&one.now, &one.needed),
        percent(one.utilisation),
        percent(one.utilisation_one_lost),
        one.basis.clone(),
    ]
}

/// `4 → 12 (east 6, west 6)`.
fn counts(now: &BTreeMap<String, u32>, needed: &BTreeMap<String, u32>) -> String {
    let (before, after): (u32, u32) = (now.values().sum(), needed.values().sum());
    let parts: Vec<String> = needed.iter().map(|(name, count)| format!("{name} {count}")).collect();
    match (parts.is_empty(), now == needed) {
        (true, _) => "-".to_owned(),
        (false, true) => format!("{after} ({})", parts.join(", ")),
        (false, false) => format!("{before} → {after} ({})", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sizing_reads_well() {
        let counts = |east, west| BTreeMap::from([("east".to_owned(), east), ("west".to_owned(), west)]);
        let sized = SizeResponse {
            event: "midnight".to_owned(),
            services: vec![ServiceSize {
                service: "lottery".to_owned(),
                load_rps: 4_000.0,
                capacity_rps: Some(512.4),
                basis: "curve op-3".to_owned(),
                now: counts(2, 2),
                needed: counts(8, 8),
                utilisation: 0.52,
                utilisation_one_lost: 0.649,
            }],
            shortages: vec!["bank: 900 requests/s expected, takes 800".to_owned()],
            operations: vec!["op-9".to_owned()],
        };
        let wanted = "\
event midnight

SERVICE    LOAD  EACH TAKES  INSTANCES                UTILISATION  ONE DC LOST  BASIS
lottery  4000/s       512/s  4 → 16 (east 8, west 8)          52%          65%  curve op-3

short: bank: 900 requests/s expected, takes 800
started: op-9
";
        assert_eq!(shown(&sized), wanted);
    }
}
