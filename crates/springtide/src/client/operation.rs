//! `scale`, `drain`, `undrain` and `operation …`: what changes the world, and steering it.

use super::connect::Connect;
use super::failure::Failure;
use super::nearest::or_nearest;
use super::output::{Format, Output, Table, age};
use super::progress::{self, Wait};
use super::tables;
use super::which::Which;
use api::client::{Client, Error};
use api::http::{OperationOrder, OperationRequest, OperationView, StepRequest};
use clap::Subcommand;
use model::{Kind, OperationId, OperationSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bring a service to a number of instances
#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("counts").required(true).args(["to", "datacenters"]),
    after_help = "Examples:\n  springtide scale lottery --to 12\n  springtide scale lottery --in east=8 --in west=4\n\nThe counts stay until the manifest's own counts change.\nExit codes: 0 scaled, 1 failed, rolled back or held at a step that failed, 3 no server."
)]
pub struct ScaleArgs {
    /// The service
    service: String,
    /// Instances in all, spread as the manifest spreads them
    #[arg(long, value_name = "N", value_parser = instances)]
    to: Option<u32>,
    /// Instances in one datacenter; may stand several times
    #[arg(long = "in", value_name = "DATACENTER=N", value_parser = count)]
    datacenters: Vec<(String, u32)>,
    /// Hold at a step that fails, for retry, skip or rollback; otherwise the operation undoes itself
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

fn instances(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "give a number of instances, such as 8".to_owned())
}

fn count(text: &str) -> Result<(String, u32), String> {
    let parts = text.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    parts.ok_or_else(|| "write DATACENTER=N, such as east=8".to_owned())
}

/// Move everything off a host and place nothing new on it
#[derive(clap::Args)]
#[command(after_help = "Example: springtide drain host-a\n\nTake it back with: springtide undrain host-a")]
pub struct DrainArgs {
    /// The host
    host: String,
    /// Hold at a step that fails, for retry, skip or rollback; otherwise the operation undoes itself
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Place on a drained host again
#[derive(clap::Args)]
#[command(after_help = "Example: springtide undrain host-a")]
pub struct UndrainArgs {
    /// The host
    host: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

const STEERED: &str = "Examples:
  springtide operation pause op-3      hold it before its next move
  springtide operation resume op-3     go on
  springtide operation rollback op-3   undo what it did";

/// See and steer operations
#[derive(Subcommand)]
pub enum Command {
    List(ListArgs),
    /// Show one operation: steps, judgements, log
    #[command(after_help = "Example: springtide operation show op-3")]
    Show(Which),
    Watch(WatchArgs),
    /// Hold an operation before its next move
    #[command(after_help = STEERED)]
    Pause(Which),
    /// Let a paused operation go on
    #[command(after_help = STEERED)]
    Resume(Which),
    /// Have an operation undo what it did
    #[command(after_help = STEERED)]
    Rollback(Which),
    Retry(RetryArgs),
    Skip(SkipArgs),
    Report(ReportArgs),
}

/// List operations, newest first
#[derive(clap::Args)]
#[command(after_help = "Example: springtide operation list --open")]
pub struct ListArgs {
    /// Only those that have not ended
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Follow an operation to its end
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide operation watch op-3\n\nExit codes: 0 succeeded, 1 failed, rolled back or held at a step that failed, 3 no server."
)]
pub struct WatchArgs {
    /// Its id
    id: String,
    /// Longest wait
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    wait_seconds: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Try a step of an operation again, or open an ended one once more
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide operation retry op-3                       the step in hand, from its begin\n  springtide operation retry op-3 --target lottery-7    another instance in its place, on another host\n  springtide operation retry op-3 --target before/0     ask for that hook once more\n\nAn operation that failed or was rolled back is opened again as a new one. Effects that have landed land once.\n`springtide operation show op-3` says what may be retried now."
)]
pub struct RetryArgs {
    #[command(flatten)]
    step: StepArgs,
}

/// Pass over a step of an operation, or one of its targets
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide operation skip op-3                        do not wait for the step in hand\n  springtide operation skip op-3 --step gray            release at once when its turn comes, unjudged\n  springtide operation skip op-3 --target lottery-7     go on without that instance\n  springtide operation skip op-3 --target before/0      do not ask for that hook\n\nWhat later steps stand on still lands; what is passed over is waiting and judging. The plan (attributes) cannot be skipped."
)]
pub struct SkipArgs {
    #[command(flatten)]
    step: StepArgs,
}

/// Which step of which operation.
#[derive(clap::Args)]
struct StepArgs {
    /// Its id
    id: String,
    /// The step [default: the one in hand]
    #[arg(long, value_name = "STEP", value_parser = ["attributes", "deploy", "silence", "start", "gray", "drain", "stop", "report"])]
    step: Option<String>,
    /// One instance of the step (lottery-7), or one of its hooks (before/0)
    #[arg(long, value_name = "INSTANCE|HOOK")]
    target: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Save the health report of an operation (HTML)
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide operation report op-3 --file report.html\n\nWith -o json: {\"operation\", \"file\"}, or {\"operation\", \"html\"} without --file."
)]
pub struct ReportArgs {
    /// Its id
    id: String,
    /// Where to write it [default: stdout]
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide scale`.
pub async fn scale(args: ScaleArgs) -> Result<(), Failure> {
    let instances: BTreeMap<String, u32> = args.datacenters.into_iter().collect();
    let service = args.service;
    let request = OperationRequest::Scale { service: service.clone(), to: args.to, instances };
    let client = args.connect.client()?;
    let order = OperationOrder { request, hold: args.hold };
    open(&client, &order, (Kind::Service, &service), &args.wait, args.output).await
}

/// `springtide drain`.
pub async fn drain(args: DrainArgs) -> Result<(), Failure> {
    let request = OperationRequest::Drain { host: args.host.clone() };
    let order = OperationOrder { request, hold: args.hold };
    open(&args.connect.client()?, &order, (Kind::Host, &args.host), &args.wait, args.output).await
}

/// `springtide undrain`.
pub async fn undrain(args: UndrainArgs) -> Result<(), Failure> {
    let request = OperationRequest::Undrain { host: args.host.clone() };
    let client = args.connect.client()?;
    let ended = match client.open_operation(&request).await {
        Ok(ended) => ended,
        Err(error) => return Err(or_nearest(&client, Kind::Host, &args.host, error).await),
    };
    args.output.show(&ended, || format!("{} takes instances again\n", args.host))
}

/// Opens an operation on the resource that it concerns, and follows it.
async fn open(
    client: &Client,
    order: &OperationOrder,
    (kind, name): (Kind, &str),
    wait: &Wait,
    output: Output,
) -> Result<(), Failure> {
    let opened = match client.order_operation(order).await {
        Ok(opened) => opened,
        Err(error) => return Err(or_nearest(client, kind, name, error).await),
    };
    if wait.no_wait {
        return output.show(&opened, || format!("{} {} accepted\n", opened.id, progress::title(&opened)));
    }
    let ended =
        if opened.phase.is_final() { Ok(opened) } else { progress::follow(client, &opened.id, wait, output).await };
    match output.format {
        Format::Table => ended.map(drop),
        Format::Json | Format::Yaml => output.show(&ended?, String::new),
    }
}

/// `springtide operation …`.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => {
            let view = args.connect.client()?.operation_view(&args.id).await?;
            args.output.show(&view, || shown(&view))
        }
        Command::Watch(args) => watch(args).await,
        Command::Pause(args) => steer(args, "pause").await,
        Command::Resume(args) => steer(args, "resume").await,
        Command::Rollback(args) => steer(args, "rollback").await,
        Command::Retry(args) => steer_step(args.step, "retry").await,
        Command::Skip(args) => steer_step(args.step, "skip").await,
        Command::Report(args) => report(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut operations = args.connect.client()?.operations().await?;
    operations.retain(|operation| !args.open || !operation.phase.is_final());
    operations.sort_by_key(|operation| std::cmp::Reverse((operation.created_at, operation.id.clone())));
    args.output.show(&operations, || tables::operations(&operations).text())
}

async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let id: OperationId = args.id.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let wait = Wait { no_wait: false, wait_seconds: args.wait_seconds };
    let ended = progress::follow(&client, &id, &wait, args.output).await?;
    match args.output.format {
        Format::Table => Ok(()),
        Format::Json | Format::Yaml => args.output.show(&ended, String::new),
    }
}

async fn steer(args: Which, verb: &str) -> Result<(), Failure> {
    let operation = args.connect.client()?.steer_operation(&args.id, verb).await?;
    args.output.show(&operation, || format!("{} {}\n", operation.id, progress::standing(&operation)))
}

async fn steer_step(args: StepArgs, verb: &str) -> Result<(), Failure> {
    let request = StepRequest { step: args.step, target: args.target };
    let view = args.connect.client()?.steer_step(&args.id, verb, &request).await?;
    args.output.show(&view, || {
        let operation = &view.operation;
        let said = operation.log.last().map(|line| format!(": {}", line.text)).unwrap_or_default();
        let again = if operation.id.as_str() == args.id { "" } else { " (opened again)" };
        format!("{} {}{again}{said}\n", operation.id, progress::standing(operation))
    })
}

async fn report(args: ReportArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let html = match client.report(&args.id).await {
        Ok(html) => html,
        Err(error) => return Err(without_report(&client, &args.id, error).await),
    };
    let Some(file) = args.file else {
        return args.output.show(&json!({"operation": args.id, "html": html}), || html.clone());
    };
    let written = std::fs::write(&file, html);
    written.map_err(|error| Failure::Local(format!("cannot write {}: {error}", file.display())))?;
    let file = file.display().to_string();
    args.output.show(&json!({"operation": args.id, "file": file}), || format!("{file}\n"))
}

/// A stress test ends in a curve, and who asks for its report is told where that is.
async fn without_report(client: &Client, id: &str, error: Error) -> Failure {
    match client.operation(id).await.map(|operation| operation.spec) {
        Ok(OperationSpec::Stress { service, .. }) => Failure::Refused(format!(
            "{id} measured {service}: what came of it is a curve: springtide curve {service} --operation {id}"
        )),
        _ => error.into(),
    }
}

/// What may be done with an operation now, for people; nothing, when nothing may.
fn may(view: &OperationView) -> String {
    let OperationView { operation, allowed } = view;
    let mut text = String::new();
    if !allowed.verbs.is_empty() {
        text.push_str(&format!("may now: {}", allowed.verbs.join(", ")));
        let at = operation.held_at().map(|step| format!(" (held at step {}, which failed)", tables::word(&step.name)));
        text.push_str(&at.unwrap_or_default());
        text.push('\n');
    }
    if !allowed.targets.is_empty() {
        text.push_str(&format!("targets of retry and skip: {}\n", allowed.targets.join(", ")));
    }
    text
}

/// One operation, for people.
fn shown(view: &OperationView) -> String {
    let operation = &view.operation;
    let mut text = format!("{} {}: {}\n", operation.id, progress::title(operation), progress::standing(operation));
    text.push_str(&format!("asked by {} {} ago", operation.who, age(operation.created_at)));
    if operation.batches > 1 {
        text.push_str(&format!(", batch {} of {}", operation.batch + 1, operation.batches));
    }
    text.push_str(&format!(", adds {}, removes {}\n", operation.adds.len(), operation.removes.len()));
    text.push_str(&may(view));
    text.push('\n');
    let mut steps = Table::new(&["STEP", "STATE", "DONE", "ATTEMPTS", "MESSAGE"]).numbers(&[3]);
    for step in &operation.steps {
        let done = format!("{}/{}", step.done, step.total);
        steps.row([
            tables::word(&step.name),
            tables::word(&step.state),
            done,
            step.attempts.to_string(),
            step.message.clone(),
        ]);
    }
    text.push_str(&steps.text());
    if !operation.verdicts.is_empty() {
        text.push('\n');
        text.push_str(&tables::verdicts(&operation.verdicts).text());
    }
    for failure in &operation.failures {
        text.push_str(&format!("\nfailure: {failure}"));
    }
    if !operation.log.is_empty() {
        text.push_str("\nlog:\n");
    }
    for line in &operation.log {
        text.push_str(&format!("  {} {}\n", model::time::rfc3339(line.at), line.text));
    }
    text
}
