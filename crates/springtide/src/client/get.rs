//! `get`, `describe` and `audit`: looking at what is.

use super::connect::Connect;
use super::failure::Failure;
use super::nearest::{missing, must_exist, or_nearest};
use super::output::{Format, Output, Table, json, print, terminal_width, yaml};
use super::{kind, tables};
use api::client::Client;
use api::http::{Description, ResourceView};
use model::Kind;
use serde::Serialize;
use serde_json::json as value;

/// List what is: resources of a kind, instances, operations, curves
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide get services\n  springtide get instances --service lottery\n  springtide get service lottery -o yaml   # a manifest that `apply` takes back\n\nWith -o json, services and hosts carry their live state in `status`.\nKinds: region, datacenter, rack, circuit, hosttype, host, business, external, package, environment, configset, service, event, instances, operations, curves."
)]
pub struct GetArgs {
    /// Kind, such as services
    kind: String,
    /// Only this one
    name: Option<String>,
    /// Only instances (or curves) of this service
    #[arg(long)]
    service: Option<String>,
    /// Only instances on this host
    #[arg(long)]
    host: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show everything about one thing, and why it is as it is
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  springtide describe service lottery\n  springtide describe host host-a")]
pub struct DescribeArgs {
    /// Kind, such as service
    kind: String,
    /// Name
    name: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show who changed what, and when
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide audit --limit 20\n  springtide audit --before 81 --limit 20\n  springtide audit --after 100 --limit 20 -o json\n\nWithout either the newest entries are shown, the newest last; `--after 0` begins with the first, and `--before` the\nfirst number shown goes on to the page before."
)]
pub struct AuditArgs {
    /// Page on from this number instead of showing the newest
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Page back from this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "after")]
    before: Option<u64>,
    /// Most entries
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide get`.
pub async fn get(args: GetArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    match (kind::live(&args.kind), kind::resource(&args.kind)) {
        (Some(live), _) => list_live(&client, live, &args).await,
        (None, Some(kind)) => list_resources(&client, kind, &args).await,
        (None, None) => Err(kind::unknown(&args.kind)),
    }
}

async fn list_live(client: &Client, live: &str, args: &GetArgs) -> Result<(), Failure> {
    let named = |name: &str| args.name.as_deref().is_none_or(|wanted| wanted == name);
    match live {
        "instances" => {
            let mut found = client.instances(args.service.as_deref(), args.host.as_deref()).await?;
            if found.is_empty() {
                told_apart(client, args).await?;
            }
            some(args, found.iter().map(|one| one.instance.as_str()))?;
            found.retain(|one| named(one.instance.as_str()));
            args.output.show(&found, || tables::instances(&found).text())
        }
        "operations" => {
            let mut found = client.operations().await?;
            some(args, found.iter().map(|one| one.id.as_str()))?;
            found.retain(|one| named(one.id.as_str()));
            args.output.show(&found, || tables::operations(&found).text())
        }
        _ => {
            let mut found = client.curves(args.service.as_deref()).await?;
            some(args, found.iter().map(|one| one.operation.as_str()))?;
            found.retain(|one| named(one.operation.as_str()));
            args.output.show(&found, || tables::curves(&found).text())
        }
    }
}

/// A name that was asked for must be there.
fn some<'a>(args: &GetArgs, known: impl Iterator<Item = &'a str> + Clone) -> Result<(), Failure> {
    match &args.name {
        Some(name) if !known.clone().any(|one| one == name) => {
            Err(Failure::Refused(missing(args.kind.trim_end_matches('s'), name, known)))
        }
        _ => Ok(()),
    }
}

/// Tells "it has none" from "there is no such service, or host".
async fn told_apart(client: &Client, args: &GetArgs) -> Result<(), Failure> {
    for (kind, name) in [(Kind::Service, &args.service), (Kind::Host, &args.host)] {
        if let Some(name) = name {
            must_exist(client, kind, name).await?;
        }
    }
    Ok(())
}

async fn list_resources(client: &Client, kind: Kind, args: &GetArgs) -> Result<(), Failure> {
    let views = match &args.name {
        Some(name) => match client.resource(kind.as_str(), name).await {
            Ok(view) => vec![view],
            Err(error) => return Err(or_nearest(client, kind, name, error).await),
        },
        None => client.resources(kind.as_str()).await?,
    };
    if args.output.format == Format::Yaml {
        return print(&manifests(&views)?);
    }
    let named = |name: &str| views.iter().any(|view| view.resource.name() == name);
    match kind {
        Kind::Service => {
            let mut live = client.services().await?;
            live.retain(|one| named(&one.name));
            shown(args, &views, &live, |one| &one.name, || tables::services(&live).text())
        }
        Kind::Host => {
            let mut live = client.hosts().await?;
            live.retain(|one| named(&one.name));
            shown(args, &views, &live, |one| &one.name, || tables::hosts(&live).text())
        }
        _ => shown(args, &views, &[] as &[()], |_| "", || tables::resources(kind, &views).text()),
    }
}

/// Prints a table, or JSON in which each resource carries its live state; one object when one was named.
fn shown<T: Serialize>(
    args: &GetArgs,
    views: &[ResourceView],
    live: &[T],
    name: impl Fn(&T) -> &str,
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if args.output.format == Format::Table {
        return print(&table());
    }
    let with_status = |view: &ResourceView| {
        let mut whole = value!({"revision": view.revision, "resource": view.resource});
        if let Some(status) = live.iter().find(|one| name(one) == view.resource.name()) {
            whole["status"] = value!(status);
        }
        whole
    };
    let all: Vec<serde_json::Value> = views.iter().map(with_status).collect();
    match (&args.name, all.as_slice()) {
        (Some(_), [one]) => print(&json(one)?),
        _ => print(&json(&all)?),
    }
}

/// Resources as manifests that `apply` takes back.
fn manifests(views: &[ResourceView]) -> Result<String, Failure> {
    let texts = views.iter().map(|view| yaml(&view.resource)).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("---\n"))
}

/// `springtide describe`.
pub async fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let kind = match (kind::resource(&args.kind), kind::live(&args.kind)) {
        (Some(kind), _) => kind.as_str(),
        (None, Some(live)) => live.strip_suffix('s').unwrap_or(live),
        (None, None) => return Err(kind::unknown(&args.kind)),
    };
    let client = args.connect.client()?;
    let page = match (client.describe(kind, &args.name).await, kind::resource(&args.kind)) {
        (Ok(page), _) => page,
        (Err(error), Some(kind)) => return Err(or_nearest(&client, kind, &args.name, error).await),
        (Err(error), None) => return Err(error.into()),
    };
    args.output.show(&page, || described(&page))
}

/// Columns that a section stands to the right of its title.
const INDENT: u16 = 2;

fn described(page: &Description) -> String {
    let mut text = format!("{}\n", page.title);
    for section in &page.sections {
        text.push_str(&format!("\n{}\n", section.title));
        let head: Vec<&str> = section.head.iter().map(String::as_str).collect();
        let mut table = Table::new(&head);
        for row in &section.rows {
            table.row(row.iter().cloned());
        }
        let room = terminal_width().map(|width| width.saturating_sub(INDENT));
        let body = if section.rows.is_empty() { "(none)\n".to_owned() } else { table.rendered(room) };
        text.extend(body.lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// `springtide audit`.
pub async fn audit(args: AuditArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let entries = match (args.after, args.before) {
        (Some(after), _) => client.audit(after, args.limit).await?,
        (None, Some(before)) => client.audit_before(before, args.limit).await?,
        (None, None) => client.audit_newest(args.limit).await?,
    };
    args.output.show(&entries, || {
        let mut text = tables::audit(&entries).text();
        let is_seen = super::output::terminal_width().is_some() && args.after.is_none();
        if let Some(first) = entries.first().filter(|first| first.sequence > 1 && is_seen) {
            text.push_str(&format!("older: springtide audit --before {}\n", first.sequence));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::Section;

    #[test]
    fn a_page_is_set_in_sections() {
        let list = Section {
            title: "Facts".to_owned(),
            head: Vec::new(),
            rows: vec![vec!["layer".to_owned(), "logic".to_owned()], vec!["pool".to_owned(), "general".to_owned()]],
        };
        let empty = Section { title: "Instances".to_owned(), head: vec!["NAME".to_owned()], rows: Vec::new() };
        let page = Description { title: "Service lottery".to_owned(), sections: vec![list, empty] };
        let wanted = "Service lottery\n\nFacts\n  layer  logic\n  pool   general\n\nInstances\n  (none)\n";
        assert_eq!(described(&page), wanted);
    }

    #[test]
    fn yaml_is_what_apply_takes() {
        let text = "kind: Region\nname: a\n---\nkind: Datacenter\nname: b\nregion: a\n".to_owned();
        let declared = model::manifest::parse(&[(String::new(), text)]).unwrap();
        let views: Vec<ResourceView> =
            declared.iter().map(|one| ResourceView { revision: 1, resource: one.resource.clone() }).collect();
        let again = model::manifest::parse(&[(String::new(), manifests(&views).unwrap())]).unwrap();
        assert_eq!(again[1].resource, declared[1].resource);
        assert_eq!(again.len(), 2);
    }
}
