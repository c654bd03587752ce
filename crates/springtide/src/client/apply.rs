//! `plan`, `apply` and `delete`: changing what should be.

use super::connect::Connect;
use super::failure::Failure;
use super::manifests::{Files, Gathered};
use super::nearest::or_nearest;
use super::output::{self, Output, counted, print};
use super::{kind, progress};
use api::client::Client;
use api::http::{ChangeAction, PlanResponse, ResourceChange};
use std::io::IsTerminal;

/// Show what apply would change
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide plan -f examples/red-packet/manifests\n\nPackages are packed (their digests are part of the plan), not uploaded."
)]
pub struct PlanArgs {
    #[command(flatten)]
    files: Files,
    /// Also delete what was applied before and is in none of the files
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Make what should be what the manifests say
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide apply -f examples/red-packet/manifests\n\nCounts set by `scale` stay until the manifest's own counts change. Nothing is deleted without --prune.\nExit codes: 0 applied and settled, 1 refused or an operation failed, 2 wrong manifests, 3 no server."
)]
pub struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// Also delete what was applied before and is in none of the files
    #[arg(long)]
    prune: bool,
    /// Delete without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    wait: progress::Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Delete one resource
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide delete service lottery --yes\n\nThe instances of a deleted service are drained and stopped, which is watched to its end.\nExit codes: 0 deleted and gone, 1 refused or an operation failed, 3 no server."
)]
pub struct DeleteArgs {
    /// Kind, such as service
    kind: String,
    /// Name
    name: String,
    /// Delete without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    wait: progress::Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide plan`.
pub async fn plan(args: PlanArgs) -> Result<(), Failure> {
    let gathered = args.files.gather(args.prune)?;
    let plan = args.connect.client()?.plan(&gathered.request).await?;
    args.output.show(&plan, || planned(&plan))
}

/// `springtide apply`.
pub async fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let gathered = args.files.gather(args.prune)?;
    let client = args.connect.client()?;
    let plan = client.plan(&gathered.request).await?;
    args.output.note(planned(&plan).trim_end())?;
    let deletes = plan.changes.iter().filter(|change| change.action == ChangeAction::Delete).count();
    if deletes > 0 && !args.yes {
        confirm(&format!("delete {}?", counted(deletes, "resource")))?;
    }
    upload(&client, &gathered, args.output).await?;
    let known = progress::known(&client).await?;
    let applied = client.apply(&gathered.request).await?;
    match args.output.format {
        output::Format::Table => print(&format!("applied at revision {}\n", applied.revision))?,
        _ => args.output.show(&applied, String::new)?,
    }
    if args.wait.no_wait || applied.consequences.is_empty() {
        return Ok(());
    }
    progress::settle(&client, &applied, known, &args.wait, args.output).await
}

/// `springtide delete`.
pub async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let kind = kind::wanted(&args.kind)?;
    let client = args.connect.client()?;
    if !args.yes {
        confirm(&format!("delete {} {}?", kind.as_str(), args.name))?;
    }
    let known = progress::known(&client).await?;
    let deleted = match client.delete(kind.as_str(), &args.name).await {
        Ok(deleted) => deleted,
        Err(error) => return Err(or_nearest(&client, kind, &args.name, error).await),
    };
    args.output.show(&deleted, || {
        let lines: Vec<String> = std::iter::once(format!("{} {} deleted", kind.as_str(), args.name))
            .chain(deleted.consequences.iter().map(|text| format!("→ {text}")))
            .collect();
        lines.join("\n") + "\n"
    })?;
    if args.wait.no_wait || deleted.consequences.is_empty() {
        return Ok(());
    }
    progress::settle(&client, &deleted, known, &args.wait, args.output).await
}

async fn upload(client: &Client, gathered: &Gathered, output: Output) -> Result<(), Failure> {
    for package in &gathered.packages {
        if client.has_package(package.digest.as_str()).await? {
            continue;
        }
        let size = output::bytes(package.bytes.len() as u64);
        client.put_package(package.digest.as_str(), package.bytes.to_vec()).await?;
        output.note(&format!("uploaded {} ({size})", package.titles.join(", ")))?;
    }
    Ok(())
}

/// Asks on a terminal; a script is taken at its word.
fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::Local(format!("cannot read the answer: {error}")))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::Refused("not confirmed; nothing was changed".to_owned()))
}

/// A plan, for people.
fn planned(plan: &PlanResponse) -> String {
    let mut lines: Vec<String> = plan.changes.iter().flat_map(changed).collect();
    lines.extend(plan.consequences.iter().map(|text| format!("→ {text}")));
    let count = |action| plan.changes.iter().filter(|change| change.action == action).count();
    if plan.changes.is_empty() {
        lines.push(format!("nothing to change ({} as declared)", plan.unchanged));
    } else {
        lines.push(format!(
            "{}: {} to create, {} to update, {} to delete; {} unchanged",
            counted(plan.changes.len(), "change"),
            count(ChangeAction::Create),
            count(ChangeAction::Update),
            count(ChangeAction::Delete),
            plan.unchanged
        ));
    }
    lines.join("\n") + "\n"
}

/// Longest value shown in a plan, in characters.
const VALUE_CHARS_MAX: usize = 80;

fn changed(change: &ResourceChange) -> Vec<String> {
    let sign = match change.action {
        ChangeAction::Create => '+',
        ChangeAction::Update => '~',
        ChangeAction::Delete => '-',
    };
    let mut lines = vec![format!("{sign} {} {}", change.kind, change.name)];
    lines.extend(
        change
            .fields
            .iter()
            .map(|field| format!("    {}: {} → {}", field.field, shown(&field.before), shown(&field.after))),
    );
    lines
}

fn shown(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::Null => "(none)".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::FieldChange;

    #[test]
    fn a_plan_reads_well() {
        let change = |kind: &str, name: &str, action, fields| ResourceChange {
            kind: kind.to_owned(),
            name: name.to_owned(),
            action,
            fields,
        };
        let field = FieldChange { field: "shape.cpu".to_owned(), before: "0.5".into(), after: serde_json::Value::Null };
        let plan = PlanResponse {
            revision: 7,
            changes: vec![
                change("Service", "lottery", ChangeAction::Create, Vec::new()),
                change("Service", "sso", ChangeAction::Update, vec![field]),
                change("Event", "midnight", ChangeAction::Delete, Vec::new()),
            ],
            unchanged: 12,
            consequences: vec!["lottery: 0 → 4 instances".to_owned()],
        };
        let wanted = "\
+ Service lottery
~ Service sso
    shape.cpu: \"0.5\" → (none)
- Event midnight
→ lottery: 0 → 4 instances
3 changes: 1 to create, 1 to update, 1 to delete; 12 unchanged
";
        assert_eq!(planned(&plan), wanted);
        let none = PlanResponse { unchanged: 3, ..PlanResponse::default() };
        assert_eq!(planned(&none), "nothing to change (3 as declared)\n");
    }
}
