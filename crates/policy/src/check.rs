//! What `model` cannot tell of a policy: whether its expression compiles, its end is ahead, and it spares anybody.

use crate::expression::Expression;
use crate::order::selects;
use model::manifest::Declared;
use model::time::rfc3339;
use model::{Fault, POLICY_LIFE_MS_MAX, Policy, PolicyAction, Resource, Throttle, UnixMs};

/// A share of users from which on nobody worth naming is left.
const USERS_PERCENT_ALL: f64 = 99.0;
/// A rate of a whole scope below which practically everybody is rejected.
const REQUESTS_PER_SECOND_NONE: f64 = 1.0;

/// Why a policy would reject, drop or replace everything in its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweeping {
    /// It rejects all users.
    AllUsers,
    /// Its rate lets nobody through.
    NoRate,
    /// It rejects every business level.
    AllLevels,
    /// It answers or holds back every request of a whole business, or of everything.
    NoScope,
}

impl std::fmt::Display for Sweeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AllUsers => "would reject every user",
            Self::NoRate => "would reject practically every request: its rate is below 1 a second",
            Self::AllLevels => "would reject every business level",
            Self::NoScope => {
                "would take every request: it names no service, no route and no expression that tells requests apart"
            }
        })
    }
}

/// Whether a policy would take everything.
pub fn sweeping(policy: &Policy) -> Option<Sweeping> {
    if selects(policy.when.as_deref()) {
        return None;
    }
    match policy.action {
        PolicyAction::Throttle(Throttle::UsersPercent(percent)) => {
            (percent > USERS_PERCENT_ALL).then_some(Sweeping::AllUsers)
        }
        PolicyAction::Throttle(Throttle::RequestsPerSecond(rate)) => {
            (rate < REQUESTS_PER_SECOND_NONE).then_some(Sweeping::NoRate)
        }
        PolicyAction::Throttle(Throttle::BusinessLevelsFrom(from)) => (from == 0).then_some(Sweeping::AllLevels),
        PolicyAction::Suppress(_) | PolicyAction::Degrade(_) | PolicyAction::Slow(_) => {
            let routed = policy.route.as_deref().is_some_and(|route| route != "/");
            (policy.service.is_none() && !routed).then_some(Sweeping::NoScope)
        }
    }
}

/// Faults of a policy that is to be put in force at `now`, as field and message. `force` allows a sweeping one.
pub fn check_policy(policy: &Policy, now: UnixMs, force: bool) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let ends = policy.expires_at.unix_ms();
    if ends <= now {
        let message = format!("{} is over already; give a later end", rfc3339(ends));
        faults.push(("expires_at", message));
    } else if ends - now > POLICY_LIFE_MS_MAX + 1_000 {
        let message = format!(
            "{} is more than 24 h ahead; a policy lives at most that long, a preset keeps it ready for later",
            rfc3339(ends)
        );
        faults.push(("expires_at", message));
    }
    faults.extend(check_parts(policy, force));
    faults
}

fn check_parts(policy: &Policy, force: bool) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Some(Err(fault)) = policy.when.as_deref().map(Expression::compile) {
        faults.push(("when", fault.to_string()));
    }
    if let Some(why) = sweeping(policy).filter(|_| !force) {
        faults.push(("action", format!("{why}; narrow it, or put it in force with --force")));
    }
    faults
}

/// Faults of the policies and presets among declared resources, with their file and line.
pub fn check(declared: &[Declared], now: UnixMs, force: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for one in declared {
        match &one.resource {
            Resource::Policy(policy) => {
                let found = check_policy(policy, now, force);
                faults.extend(found.into_iter().map(|(field, message)| one.fault(field, message)));
            }
            Resource::Preset(preset) => {
                // A name too long is `model`'s fault to tell.
                for (index, policy) in preset.fire(now, None).unwrap_or_default().iter().enumerate() {
                    let found = check_parts(policy, force);
                    let at = |field| format!("policies[{index}].{field}");
                    faults.extend(found.into_iter().map(|(field, message)| one.fault(&at(field), message)));
                }
            }
            _ => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests;
