//! What a policy may say: shares, rates and answers within bounds, and a scope that means something.
//!
//! Its expression and its end need a compiler and a clock, so `policy` checks those; whether it would reject everyone too.

use super::World;
use crate::fault::Fault;
use crate::name::{BusinessName, PolicyName, ServiceName};
use crate::policy::*;
use crate::resource::*;
use std::collections::BTreeSet;

/// Most requests a second of a limit; more is not a limit.
const RATE_MAX: f64 = 1e9;
/// Headers that belong to the connection, or to us: a configured answer must not carry them.
const RESERVED_HEADERS: &[&str] =
    &["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Every policy and preset.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, resource) in &world.resources {
        let mut say = |field: &str, message: String| faults.push(world.fault(key, field, message));
        match resource {
            Resource::Policy(policy) => {
                scope(world, "", policy.business.as_ref(), policy.service.as_ref(), &mut say);
                action("action", &policy.action, &mut say);
            }
            Resource::Preset(preset) => check_preset(world, preset, &mut say),
            _ => {}
        }
    }
    faults
}

fn check_preset(world: &World<'_>, preset: &Preset, say: &mut impl FnMut(&str, String)) {
    let count = preset.policies.len();
    if count == 0 || count > PRESET_POLICIES_MAX {
        say("policies", format!("{count} policies; a preset has 1 to {PRESET_POLICIES_MAX}"));
    }
    let mut names = BTreeSet::new();
    for (index, policy) in preset.policies.iter().enumerate() {
        let at = format!("policies[{index}].");
        let field = |name: &str| format!("{at}{name}");
        if !names.insert(&policy.name) {
            say(&field("name"), format!("`{}` stands twice in the preset; rename one", policy.name));
        }
        if let Err(refused) = PolicyName::new(format!("{}.{}", preset.name, policy.name)) {
            say(&field("name"), format!("in force it is called {refused}; shorten one of the two names"));
        }
        scope(world, &at, policy.business.as_ref(), policy.service.as_ref(), say);
        action(&field("action"), &policy.action, say);
    }
}

fn scope(
    world: &World<'_>,
    at: &str,
    business: Option<&BusinessName>,
    service: Option<&ServiceName>,
    say: &mut impl FnMut(&str, String),
) {
    let (Some(business), Some(service)) = (business, service) else { return };
    let field = format!("{at}service");
    if let Some(Resource::Service(found)) = world.get(Kind::Service, service.as_str()) {
        if found.business != *business {
            let message = format!(
                "`{service}` belongs to business `{}`, not `{business}`; name one of the two only",
                found.business
            );
            say(&field, message);
        }
    } else if world.get(Kind::External, service.as_str()).is_some() {
        say(&field, format!("the external `{service}` belongs to no business; leave `business` out"));
    }
}

fn action(at: &str, action: &PolicyAction, say: &mut impl FnMut(&str, String)) {
    match action {
        PolicyAction::Throttle(Throttle::UsersPercent(percent)) if !(0.0..=100.0).contains(percent) => {
            say(&format!("{at}.throttle.users_percent"), format!("{percent} is no share; it must be from 0 to 100"));
        }
        PolicyAction::Throttle(Throttle::RequestsPerSecond(rate)) => {
            self::rate(&format!("{at}.throttle.requests_per_second"), *rate, say);
        }
        PolicyAction::Throttle(_) => {}
        PolicyAction::Suppress(configured) => answer(&format!("{at}.suppress"), configured, say),
        PolicyAction::Degrade(degrade) => {
            if degrade.cached_seconds_max.is_none() && degrade.answer.is_none() {
                say(
                    &format!("{at}.degrade"),
                    "says nothing to answer; give cached_seconds_max, answer or both".to_owned(),
                );
            }
            if let Some(configured) = &degrade.answer {
                answer(&format!("{at}.degrade.answer"), configured, say);
            }
        }
        PolicyAction::Slow(slow) => {
            self::rate(&format!("{at}.slow.requests_per_second"), slow.requests_per_second, say);
            if slow.requests_per_second == 0.0 {
                let message = "0 would release nothing, ever; give a rate above 0".to_owned();
                say(&format!("{at}.slow.requests_per_second"), message);
            }
        }
    }
}

fn rate(field: &str, rate: f64, say: &mut impl FnMut(&str, String)) {
    if !(0.0..=RATE_MAX).contains(&rate) {
        say(field, format!("{rate} is no rate; it must be from 0 to {RATE_MAX}"));
    }
}

fn answer(at: &str, answer: &Answer, say: &mut impl FnMut(&str, String)) {
    if answer.body.len() > ANSWER_BYTES_MAX {
        say(&format!("{at}.body"), format!("is {} bytes; at most {ANSWER_BYTES_MAX} are kept", answer.body.len()));
    }
    if answer.headers.len() > ANSWER_HEADERS_MAX {
        say(&format!("{at}.headers"), format!("{} headers; at most {ANSWER_HEADERS_MAX}", answer.headers.len()));
    }
    for (name, value) in &answer.headers {
        let field = format!("{at}.headers.{name}");
        if RESERVED_HEADERS.contains(&name.as_str()) || name.starts_with("x-springtide-") {
            say(&field, format!("`{name}` is set by the proxy itself; leave it out"));
        }
        if !value.bytes().all(|c| c == b' ' || c.is_ascii_graphic()) {
            say(&field, "holds characters that a header cannot carry; use visible ASCII".to_owned());
        }
    }
    let bodiless = matches!(answer.status, 204 | 304);
    if bodiless && !answer.body.is_empty() {
        say(&format!("{at}.body"), format!("an answer with status {} has no body; leave it out", answer.status));
    }
}
