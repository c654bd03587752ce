//! `protect`: policies on the night, each with one command: put in force, fired, tried out, rolled back, lifted.

mod one;
mod shown;

use super::connect::Connect;
use super::failure::Failure;
use super::manifests::Files;
use super::output::Output;
use api::client::{Client, Error};
use api::http::{
    DryRunQuestion, FireRequest, LiftRequest, ManifestFile, ProtectRequest, ProtectResponse, RollbackRequest,
};
use clap::Subcommand;
use model::Life;

/// Throttle, suppress, degrade and slow requests, each until an end
#[derive(Subcommand)]
pub enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Throttle(one::ThrottleArgs),
    Suppress(one::SuppressArgs),
    Degrade(one::DegradeArgs),
    Slow(one::SlowArgs),
    Apply(ApplyArgs),
    Fire(FireArgs),
    DryRun(DryRunArgs),
    Rollback(RollbackArgs),
    Lift(LiftArgs),
    DeadLetters(DeadLettersArgs),
}

/// `springtide protect …`.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Throttle(args) => one::throttle(args).await,
        Command::Suppress(args) => one::suppress(args).await,
        Command::Degrade(args) => one::degrade(args).await,
        Command::Slow(args) => one::slow(args).await,
        Command::Apply(args) => apply(args).await,
        Command::Fire(args) => fire(args).await,
        Command::DryRun(args) => dry_run(args).await,
        Command::Rollback(args) => rollback(args).await,
        Command::Lift(args) => lift(args).await,
        Command::DeadLetters(args) => dead_letters(args).await,
    }
}

/// How a change is made, beside what it is.
#[derive(clap::Args)]
pub struct Change {
    /// Put it in force even if it takes every request in its scope
    #[arg(long)]
    force: bool,
    /// Longest wait for proxies and agents to confirm, in ms (at most 10000)
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    wait_ms: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show what is in force, in order, and what overlaps
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  springtide protect list\n  springtide protect list -o json")]
pub struct ListArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show one policy: what it does and did, and its versions
#[derive(clap::Args)]
#[command(after_help = "Example:\n  springtide protect show fewer-draws")]
pub struct ShowArgs {
    /// The policy
    name: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Put the policies of manifests in force, and store presets
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect apply -f presets.yaml\n  springtide protect apply -f tonight.yaml --for 30m\n  springtide protect apply -f tonight.yaml --dry-run\n\nExit codes: 0 in force everywhere, 1 stored and not confirmed by all yet, 2 wrong manifests, 3 no server."
)]
pub struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// Life of each policy from now on (90s, 30m, 1h30m; at most 24h), whatever its manifest says
    #[arg(long = "for", value_name = "LIFE")]
    life: Option<Life>,
    /// Tell what it would do to the requests of the last minutes, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    change: Change,
}

/// Put all policies of a preset in force, in one commit
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect fire midnight-surge\n  springtide protect fire midnight-surge --for 10m\n  springtide protect fire midnight-surge --dry-run"
)]
pub struct FireArgs {
    /// The preset
    preset: String,
    /// Life of each policy from now on, whatever the preset says
    #[arg(long = "for", value_name = "LIFE")]
    life: Option<Life>,
    /// Tell what it would do to the requests of the last minutes, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    change: Change,
}

/// Tell what policies would do to the last minutes' requests
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect dry-run -f tonight.yaml\n  springtide protect dry-run --preset midnight-surge\n\nThe proxies keep a bounded sample of the last five minutes' request heads; the numbers are estimates from it, with\ntheir 95% intervals. Exit codes: 0 measured, 1 nothing was measured, 2 wrong manifests, 3 no server."
)]
pub struct DryRunArgs {
    /// File or folder of manifests; may stand several times
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "preset")]
    files: Vec<std::path::PathBuf>,
    /// A stored preset
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Go back to an earlier version, or take back the last change
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect rollback\n  springtide protect rollback fewer-draws\n  springtide protect rollback fewer-draws --to 3 --for 30m\n\nA rollback is a change like any other: rolling back once more undoes it."
)]
pub struct RollbackArgs {
    /// The policy; absent: every policy of the last change
    name: Option<String>,
    /// Version to go back to (0: not in force); absent: the one before
    #[arg(long, value_name = "VERSION", requires = "name")]
    to: Option<u64>,
    /// Life from now on; absent: the end that the version had
    #[arg(long = "for", value_name = "LIFE")]
    life: Option<Life>,
    #[command(flatten)]
    change: Change,
}

/// Lift policies before their end
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect lift fewer-draws\n  springtide protect lift --preset midnight-surge\n  springtide protect lift --all"
)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct LiftArgs {
    /// The policies
    #[arg(group = "which")]
    names: Vec<String>,
    /// Every policy that this preset put in force
    #[arg(long, value_name = "NAME", group = "which")]
    preset: Option<String>,
    /// Every policy
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show what receivers refused of the slow lane for good, or have it delivered again
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect dead-letters\n  springtide protect dead-letters --retry proxy-1.019a9e\n  springtide protect dead-letters --retry-all\n\nMend what made the receiver refuse them first: each is delivered again at the rate of its policy.\nExit codes: 0 shown, or put back; 1 not all could be; 3 no server."
)]
pub struct DeadLettersArgs {
    /// Have this one delivered again; may stand several times
    #[arg(long, value_name = "ID", conflicts_with = "retry_all")]
    retry: Vec<String>,
    /// Have each of those shown delivered again
    #[arg(long)]
    retry_all: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

async fn dead_letters(args: DeadLettersArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    if args.retry.is_empty() && !args.retry_all {
        let all = client.dead_letters().await?;
        args.output.show(&all, || shown::dead_letters(&all))?;
        return shown::lanes_missing(&all).map_or(Ok(()), |why| Err(Failure::Refused(why)));
    }
    let ids = if args.retry_all {
        client.dead_letters().await?.letters.into_iter().map(|letter| letter.id).collect()
    } else {
        args.retry
    };
    let mut retried = Vec::new();
    for id in &ids {
        retried.push(client.retry_dead_letter(id).await?);
    }
    args.output.show(&retried, || shown::retried(&retried))
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let view = args.connect.client()?.protect().await?;
    args.output.show(&view, || shown::list(&view))
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let (history, view) = (client.protect_history(&args.name).await?, client.protect().await?);
    let now = view.policies.iter().find(|of| of.policy.name.as_str() == args.name);
    let both = serde_json::json!({ "in_force": now, "versions": history.versions });
    args.output.show(&both, || shown::one(&args.name, now, &history, &view.overlaps))
}

async fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let files = texts(&args.files)?;
    put(&args.change, files, args.life, args.dry_run).await
}

/// Puts manifests in force, or asks what that would do.
async fn put(change: &Change, files: Vec<ManifestFile>, life: Option<Life>, dry_run: bool) -> Result<(), Failure> {
    let client = change.connect.client()?;
    if dry_run {
        return ask(&client, change.output, DryRunQuestion { files, preset: None }).await;
    }
    let life = life.map(|life| life.to_string());
    let request = ProtectRequest { files, life, force: change.force, wait_ms: Some(change.wait_ms) };
    done(change.output, &client.protect_apply(&request).await?)
}

async fn fire(args: FireArgs) -> Result<(), Failure> {
    let client = args.change.connect.client()?;
    if args.dry_run {
        let question = DryRunQuestion { files: Vec::new(), preset: Some(args.preset) };
        return ask(&client, args.change.output, question).await;
    }
    let life = args.life.map(|life| life.to_string());
    let request = FireRequest { life, force: args.change.force, wait_ms: Some(args.change.wait_ms) };
    done(args.change.output, &client.protect_fire(&args.preset, &request).await?)
}

async fn dry_run(args: DryRunArgs) -> Result<(), Failure> {
    let files = if args.files.is_empty() { Vec::new() } else { texts(&Files { files: args.files })? };
    ask(&args.connect.client()?, args.output, DryRunQuestion { files, preset: args.preset }).await
}

async fn rollback(args: RollbackArgs) -> Result<(), Failure> {
    let request = RollbackRequest {
        name: args.name,
        to: args.to,
        life: args.life.map(|life| life.to_string()),
        force: args.change.force,
        wait_ms: Some(args.change.wait_ms),
    };
    done(args.change.output, &args.change.connect.client()?.protect_rollback(&request).await?)
}

async fn lift(args: LiftArgs) -> Result<(), Failure> {
    let request = LiftRequest { names: args.names, preset: args.preset, all: args.all, wait_ms: None };
    let client = args.connect.client()?;
    match client.protect_lift(&request).await {
        Ok(response) => done(args.output, &response),
        Err(error) => Err(meant(&client, &request.names, error).await),
    }
}

/// The failure of a lift; for a name that is no policy in force, with what may be meant.
async fn meant(client: &Client, names: &[String], error: Error) -> Failure {
    let Error::Refused(_, _) = &error else { return error.into() };
    let Ok(view) = client.protect().await else { return error.into() };
    let policies = view.policies.iter().map(|of| (of.policy.name.as_str(), of.policy.preset.as_ref()));
    let policies: Vec<(&str, Option<&str>)> =
        policies.map(|(name, preset)| (name, preset.map(|preset| preset.as_str()))).collect();
    let presets: Vec<&str> = view.presets.iter().map(|preset| preset.name.as_str()).collect();
    let hints: Vec<String> = names.iter().filter_map(|name| shown::not_in_force(name, &policies, &presets)).collect();
    if hints.is_empty() { error.into() } else { Failure::Refused(hints.join("\n")) }
}

fn texts(files: &Files) -> Result<Vec<ManifestFile>, Failure> {
    let read = files.texts()?;
    Ok(read.into_iter().map(|(path, text)| ManifestFile { path, text }).collect())
}

/// Asks for a dry run; an answer without a measurement is a failure, lest a program take it for "nobody".
async fn ask(client: &Client, output: Output, question: DryRunQuestion) -> Result<(), Failure> {
    let answer = client.protect_dry_run(&question).await?;
    let measured = answer.sampled > 0;
    if measured || output.format != super::output::Format::Table {
        output.show(&answer, || shown::dry_run(&answer))?;
    }
    if measured { Ok(()) } else { Err(Failure::Refused(shown::unmeasured(&answer))) }
}

/// Tells what was changed and where it is in force; not everywhere yet is a failure.
fn done(output: Output, response: &ProtectResponse) -> Result<(), Failure> {
    output.show(response, || shown::changed(response))?;
    match shown::missing(&response.in_force) {
        None => Ok(()),
        Some(why) => Err(Failure::Refused(why)),
    }
}
