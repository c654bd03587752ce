//! One policy from the command line, without a manifest.

use super::{Change, put};
use crate::client::failure::Failure;
use api::client::Error;
use api::http::{Fault, ManifestFile};
use model::{Answer, Degrade, Life, PolicyAction, PolicyName, Slow, Throttle};
use serde_json::{Map, Value};

/// Where a policy acts, what it is called and when it ends.
#[derive(clap::Args)]
pub struct Scope {
    /// Only requests to this service or external
    #[arg(long)]
    service: Option<String>,
    /// Only requests to services of this business
    #[arg(long)]
    business: Option<String>,
    /// Only paths that begin with this, whole segments
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Only requests through proxies of this datacenter
    #[arg(long)]
    datacenter: Option<String>,
    /// Only requests for which this CEL expression is true
    #[arg(long, value_name = "CEL")]
    when: Option<String>,
    /// Lower is asked first
    #[arg(long, default_value_t = 100)]
    order: u32,
    /// Its name; one of this name is replaced. Absent: made of the action and the scope
    #[arg(long)]
    name: Option<PolicyName>,
    /// Its life (90s, 30m, 1h30m; at most 24h)
    #[arg(long = "for", value_name = "LIFE", default_value = "30m")]
    life: Life,
    /// Tell what it would do to the requests of the last minutes, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reject some requests, by user, rate or business level
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect throttle --service lottery --users 20 --for 30m\n  springtide protect throttle --route /draw --rps 5000 --dry-run\n  springtide protect throttle --business red-packet --levels-from 32\n\n--users takes the same users all along; a larger share adds users and changes none."
)]
#[command(group = clap::ArgGroup::new("how").required(true).multiple(false))]
pub struct ThrottleArgs {
    /// Share of users to reject, in percent
    #[arg(long, value_name = "PERCENT", group = "how")]
    users: Option<f64>,
    /// Requests a second to let through, of all proxies in scope together
    #[arg(long, value_name = "RATE", group = "how")]
    rps: Option<f64>,
    /// Business level to reject, and every less important (higher) one; 0 to 63
    #[arg(long, value_name = "LEVEL", group = "how")]
    levels_from: Option<u8>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    change: Change,
}

/// Drop requests and answer as if all were well
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect suppress --service message --route /push --for 10m\n  springtide protect suppress --service message --status 204"
)]
pub struct SuppressArgs {
    /// Status of the answer
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// Body of the answer
    #[arg(long, default_value = "")]
    body: String,
    /// Header of the answer; may stand several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    change: Change,
}

/// Answer in the place of a service
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide protect degrade --service gift --cached 60 --for 30m\n  springtide protect degrade --service gift --status 200 --body '{\"gift\":\"later\"}' --header 'content-type: application/json'\n\nWith --cached alone, a request for which no answer is kept goes to the service."
)]
#[command(group = clap::ArgGroup::new("with").required(true).multiple(true))]
pub struct DegradeArgs {
    /// Serve the last good answer to the same request when it is not older than this, in seconds
    #[arg(long, value_name = "SECONDS", group = "with")]
    cached: Option<u32>,
    /// Status of the configured answer
    #[arg(long, group = "with")]
    status: Option<u16>,
    /// Body of the configured answer
    #[arg(long, default_value = "", requires = "status")]
    body: String,
    /// Header of the configured answer; may stand several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, requires = "status")]
    header: Vec<(String, String)>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    change: Change,
}

/// Accept requests, and release them to the service slowly
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  springtide protect slow --service pay --route /cash --rps 50 --for 1h\n\nItems wait on disk and are released at least once, with the caller's idempotency key."
)]
pub struct SlowArgs {
    /// Requests a second released to the service, of all proxies in scope together
    #[arg(long, value_name = "RATE")]
    rps: f64,
    /// Header that carries the caller's idempotency key
    #[arg(long, value_name = "NAME", default_value = "idempotency-key")]
    key_header: String,
    /// Most that wait in one proxy
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    waiting_max: u32,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    change: Change,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} has no colon; write name: value"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// `springtide protect throttle`.
pub async fn throttle(args: ThrottleArgs) -> Result<(), Failure> {
    let throttle = match (args.users, args.rps, args.levels_from) {
        (Some(percent), ..) => Throttle::UsersPercent(percent),
        (_, Some(rate), _) => Throttle::RequestsPerSecond(rate),
        (_, _, level) => Throttle::BusinessLevelsFrom(level.unwrap_or(u8::MAX)),
    };
    args.scope.put("throttle", &PolicyAction::Throttle(throttle), &args.change).await
}

/// `springtide protect suppress`.
pub async fn suppress(args: SuppressArgs) -> Result<(), Failure> {
    let answer = Answer { status: args.status, headers: args.header.into_iter().collect(), body: args.body };
    args.scope.put("suppress", &PolicyAction::Suppress(answer), &args.change).await
}

/// `springtide protect degrade`.
pub async fn degrade(args: DegradeArgs) -> Result<(), Failure> {
    let headers = args.header.into_iter().collect();
    let answer = args.status.map(|status| Answer { status, headers, body: args.body });
    let degrade = Degrade { cached_seconds_max: args.cached, answer };
    args.scope.put("degrade", &PolicyAction::Degrade(degrade), &args.change).await
}

/// `springtide protect slow`.
pub async fn slow(args: SlowArgs) -> Result<(), Failure> {
    let slow = Slow { requests_per_second: args.rps, key_header: args.key_header, waiting_max: args.waiting_max };
    args.scope.put("slow", &PolicyAction::Slow(slow), &args.change).await
}

/// Longest name made of a scope.
const MADE_NAME_CHARS_MAX: usize = 60;

impl Scope {
    async fn put(&self, verb: &str, action: &PolicyAction, change: &Change) -> Result<(), Failure> {
        let text = self.manifest(verb, action)?;
        let files = vec![ManifestFile { path: "(command line)".to_owned(), text }];
        put(change, files, Some(self.life), self.dry_run).await.map_err(without_place)
    }

    /// The policy as a manifest; JSON is YAML.
    fn manifest(&self, verb: &str, action: &PolicyAction) -> Result<String, Failure> {
        let mut fields = Map::new();
        let name = self.name.as_ref().map_or_else(|| self.made_name(verb), ToString::to_string);
        fields.insert("kind".to_owned(), "Policy".into());
        fields.insert("name".to_owned(), name.into());
        let scope = [
            ("business", &self.business),
            ("service", &self.service),
            ("route", &self.route),
            ("datacenter", &self.datacenter),
            ("when", &self.when),
        ];
        for (field, value) in scope {
            fields.extend(value.clone().map(|value| (field.to_owned(), Value::from(value))));
        }
        let action = serde_json::to_value(action)
            .map_err(|error| Failure::Local(format!("cannot write the policy: {error}")))?;
        fields.insert("action".to_owned(), action);
        fields.insert("order".to_owned(), self.order.into());
        Ok(Value::Object(fields).to_string())
    }

    /// `throttle-lottery-draw`: the same command again is the same policy again.
    fn made_name(&self, verb: &str) -> String {
        let parts = [&self.business, &self.service, &self.route, &self.datacenter];
        let mut name = verb.to_owned();
        for part in parts.into_iter().flatten() {
            let plain: String =
                part.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
            if !words.is_empty() {
                name = format!("{name}-{}", words.join("-"));
            }
        }
        name.chars().take(MADE_NAME_CHARS_MAX).collect::<String>().trim_end_matches('-').to_owned()
    }
}

/// The faults of a policy of this command line, which has no file and no lines.
fn without_place(failure: Failure) -> Failure {
    match failure {
        Failure::Server(Error::Refused(problem, _)) if problem.faults.iter().any(|fault| !fault.file.is_empty()) => {
            let bare = |fault: Fault| Fault { file: String::new(), line: 0, ..fault };
            Failure::Faults(problem.faults.into_iter().map(bare).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            service: Some("lottery".to_owned()),
            business: None,
            route: Some("/draw/Big_One".to_owned()),
            datacenter: None,
            when: Some("priority > 9 && request.path != \"/x: y\"".to_owned()),
            order: 7,
            name: None,
            life: "30m".parse().unwrap(),
            dry_run: false,
        }
    }

    #[test]
    fn a_command_line_is_a_manifest() {
        let action = PolicyAction::Throttle(Throttle::UsersPercent(20.0));
        let text = scope().manifest("throttle", &action).unwrap();
        let end = model::Expiry::at(1_801_830_600_000);
        let read = model::manifest::parse_ending(&[("(command line)".to_owned(), text)], Some(end)).unwrap();
        let model::Resource::Policy(policy) = &read[0].resource else { panic!("a policy") };
        assert_eq!(policy.name.as_str(), "throttle-lottery-draw-big-one");
        assert_eq!((policy.order, &policy.action), (7, &action));
        assert_eq!(policy.when, scope().when);
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(header("Content-Type: a: b"), Ok(("content-type".to_owned(), "a: b".to_owned())));
        assert!(header("nothing").is_err());
    }
}
