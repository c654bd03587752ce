//! `incident`: what is wrong, why, and what to do about it.

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Output, Table, age, duration, now_ms};
use super::which::Which;
use api::http::{Incident, SilenceRequest, SilenceResponse};
use clap::Subcommand;
use model::Life;
use model::time::rfc3339;

/// Findings shown of one incident.
const FINDINGS_SHOWN: usize = 8;

/// See incidents, look after them, silence them
#[derive(Subcommand)]
pub enum Command {
    List(ListArgs),
    /// Show one incident: causes with evidence, how far it reaches, what goes on, what may help
    #[command(after_help = "Examples:\n  springtide incident show inc-7\n  springtide incident show inc-7 -o json")]
    Show(Which),
    /// Say that you look after an incident
    #[command(after_help = "Example: springtide incident ack inc-7\n\nWho you are is in the audit: springtide audit")]
    Ack(Which),
    Silence(SilenceArgs),
    /// End an incident's silence now
    #[command(
        after_help = "Example: springtide incident unsilence inc-7\n\nWhat went on meanwhile is told at once. Silences of operations stay: they end with their step."
    )]
    Unsilence(Which),
}

/// List incidents, newest first
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide incident list\n  springtide incident list --all --limit 20\n  springtide incident list --service pay -o json"
)]
pub struct ListArgs {
    /// Also those that have ended
    #[arg(long)]
    all: bool,
    /// Only those that reach this service
    #[arg(long)]
    service: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Tell nobody of an incident for a while
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide incident silence inc-7 --for 30m\n  springtide incident silence inc-7 --for 2h --reason 'the bank works on it'\n\nEvery service that it reaches is silenced, each until the same end; the incident stays in the list. End it early: springtide incident unsilence inc-7"
)]
pub struct SilenceArgs {
    /// Its id
    id: String,
    /// How long (90s, 30m, 1h30m; at most 24h)
    #[arg(long = "for", value_name = "LIFE", default_value = "30m")]
    life: Life,
    /// Why, for others
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide incident …`.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => {
            let incident = args.connect.client()?.incident(&args.id).await?;
            args.output.show(&incident, || shown(&incident, now_ms()))
        }
        Command::Ack(args) => {
            let incident = args.connect.client()?.incident_ack(&args.id).await?;
            let who = incident.acknowledged_by.clone().unwrap_or_default();
            args.output.show(&incident, || format!("{}: {who} looks after it\n", args.id))
        }
        Command::Silence(args) => {
            let request = SilenceRequest { r#for: args.life.to_string(), reason: args.reason };
            let done = args.connect.client()?.incident_silence(&args.id, &request).await?;
            args.output.show(&done, || silenced(&args.id, &done))
        }
        Command::Unsilence(args) => {
            let done = args.connect.client()?.incident_unsilence(&args.id).await?;
            args.output.show(&done, || format!("{}: no longer silenced ({})\n", args.id, done.silences.join(", ")))
        }
    }
}

fn silenced(id: &str, done: &SilenceResponse) -> String {
    format!("{id}: nobody is told of it before {} ({})\n", rfc3339(done.until), done.silences.join(", "))
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    if !args.all {
        query.push(("state", "open".to_owned()));
    }
    query.extend(args.service.map(|service| ("service", service)));
    let client = args.connect.client()?;
    let incidents = client.incidents(&query).await?;
    // A list is believed only while somebody watches.
    if let Some(trouble) = client.status().await?.detection_trouble {
        args.output.note(&trouble)?;
    }
    args.output.show(&incidents, || table(&incidents, args.all))
}

/// All of them.
pub fn table(incidents: &[Incident], all: bool) -> String {
    if incidents.is_empty() {
        return if all { "there was no incident\n" } else { "no incident goes on\n" }.to_owned();
    }
    let head = ["ID", "STATE", "SEVERITY", "AGE", "LASTED", "WHAT", "SURE", "REACH"];
    let mut table = Table::new(&head).numbers(&[6]).spare(&[6, 4, 2]);
    for of in incidents {
        let sure =
            of.causes.first().map_or_else(|| "-".to_owned(), |cause| format!("{:.0}%", cause.confidence * 100.0));
        table.row([
            of.id.clone(),
            state(of),
            of.severity.clone(),
            age(of.started_at),
            duration(of.ended_at.unwrap_or_else(now_ms).saturating_sub(of.started_at)),
            of.title.clone(),
            sure,
            of.reach.first().cloned().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn state(of: &Incident) -> String {
    match (&of.merged_into, of.silenced_until) {
        (Some(into), _) => format!("part of {into}"),
        (None, Some(_)) if of.ended_at.is_none() => format!("{}, silenced", of.state),
        _ => of.state.clone(),
    }
}

/// One, in full.
fn shown(of: &Incident, now: model::UnixMs) -> String {
    let mut text = format!("{}  {}\n\n", of.id, of.title);
    let mut line = |name: &str, what: String| text.push_str(&format!("{name:<13}{what}\n"));
    let by = of.acknowledged_by.as_ref().map_or_else(String::new, |who| format!(", {who} looks after it"));
    line("state", format!("{}{by}", state(of)));
    line("severity", of.severity.clone());
    let ended = of.ended_at.map(|ended| format!(", ended {}", rfc3339(ended)));
    let lasted = duration(of.ended_at.unwrap_or(now).saturating_sub(of.started_at));
    line("began", format!("{} ({lasted}){}", rfc3339(of.started_at), ended.unwrap_or_default()));
    line("noticed", format!("{} after that", duration(of.opened_at.saturating_sub(of.started_at))));
    if of.reopened > 0 {
        line("came back", format!("{} times", of.reopened));
    }
    if let Some(until) = of.silenced_until {
        line("silenced", format!("until {}", rfc3339(until)));
    }
    line("reach", of.reach.join("; "));
    if !of.causes.is_empty() {
        text.push_str("\nPROBABLE CAUSES\n");
    }
    for (cause, rank) in of.causes.iter().zip(1..) {
        text.push_str(&format!("{rank}. {:>3.0}%  {}\n", cause.confidence * 100.0, cause.what));
        cause.evidence.iter().for_each(|evidence| text.push_str(&format!("         {evidence}\n")));
    }
    if !of.findings.is_empty() {
        text.push_str("\nFOUND\n");
        let found = of.findings.iter().take(FINDINGS_SHOWN);
        found.for_each(|found| text.push_str(&format!("   {}\n", found.what)));
        if of.findings.len() > FINDINGS_SHOWN {
            text.push_str(&format!("   and {} more (-o json lists them)\n", of.findings.len() - FINDINGS_SHOWN));
        }
    }
    if !of.going_on.is_empty() {
        text.push_str("\nMEANWHILE\n");
        of.going_on.iter().for_each(|on| text.push_str(&format!("   {}, since {}\n", on.what, rfc3339(on.from))));
    }
    if !of.next.is_empty() {
        text.push_str("\nWHAT MAY HELP\n");
        of.next.iter().for_each(|next| text.push_str(&format!("   {next}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::{GoingOn, IncidentCause, IncidentFinding};

    fn incident() -> Incident {
        let cause = |what: &str, confidence| IncidentCause {
            what: what.to_owned(),
            confidence,
            evidence: vec!["errors of service pay: 0.1% → 5.2%".to_owned()],
            ..IncidentCause::default()
        };
        Incident {
            id: "inc-7".to_owned(),
            state: "open".to_owned(),
            title: "errors of service pay".to_owned(),
            severity: "critical".to_owned(),
            started_at: 1_700_000_000_000,
            opened_at: 1_700_000_002_300,
            reach: vec!["2 services: pay, lottery".to_owned(), "in east".to_owned()],
            causes: vec![cause("errors of service pay", 0.82), cause("slowness of external bank", 0.18)],
            findings: vec![IncidentFinding {
                what: "errors of service pay: 0.1% → 5.2%".to_owned(),
                ..Default::default()
            }],
            going_on: vec![GoingOn { what: "rollout of pay (op-3, running, by ann)".to_owned(), ..GoingOn::default() }],
            next: vec!["springtide operation rollback op-3".to_owned()],
            ..Incident::default()
        }
    }

    #[test]
    fn one_incident_tells_what_why_and_what_to_do() {
        let text = shown(&incident(), 1_700_000_065_000);
        for part in [
            "inc-7  errors of service pay\n",
            "began        2023-11-14T22:13:20Z (1m 05s)\n",
            "noticed      2.3 s after that\n",
            "reach        2 services: pay, lottery; in east\n",
            "1.  82%  errors of service pay\n         errors of service pay: 0.1% → 5.2%\n2.  18%  slowness of external bank\n",
            "MEANWHILE\n   rollout of pay (op-3, running, by ann), since",
            "WHAT MAY HELP\n   springtide operation rollback op-3\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_list_says_so_when_there_is_nothing() {
        assert_eq!(table(&[], false), "no incident goes on\n");
        let quiet = Incident { silenced_until: Some(1), ..incident() };
        assert!(table(&[quiet], false).contains("open, silenced"));
    }
}
