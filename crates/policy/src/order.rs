//! The order of policies, and how two of them overlap.

use crate::expression::Expression;
use model::{Policy, PolicyAction, Throttle};

/// How much an action takes from a user, the most severe first. Each is a kind of action of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The message is lost, and nobody is told.
    Suppress,
    /// Rejected by business level.
    ThrottleLevel,
    /// Rejected by user.
    ThrottleUsers,
    /// Rejected by rate.
    ThrottleRate,
    /// Answered in the place of the service.
    Degrade,
    /// Served later.
    Slow,
}

impl Severity {
    /// Of an action.
    pub fn of(action: &PolicyAction) -> Self {
        match action {
            PolicyAction::Suppress(_) => Self::Suppress,
            PolicyAction::Throttle(Throttle::BusinessLevelsFrom(_)) => Self::ThrottleLevel,
            PolicyAction::Throttle(Throttle::UsersPercent(_)) => Self::ThrottleUsers,
            PolicyAction::Throttle(Throttle::RequestsPerSecond(_)) => Self::ThrottleRate,
            PolicyAction::Degrade(_) => Self::Degrade,
            PolicyAction::Slow(_) => Self::Slow,
        }
    }
}

/// What policies are sorted by.
pub(crate) fn rank(policy: &Policy) -> (u32, Severity, &str) {
    (policy.order, Severity::of(&policy.action), policy.name.as_str())
}

/// Sorts policies as they are asked: by order, then severity, then name.
pub fn sort(policies: &mut [Policy]) {
    policies.sort_by(|a, b| rank(a).cmp(&rank(b)));
}

/// What an earlier policy means for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Same kind of action, and the earlier one takes every request of the later one: the later never acts.
    Shadowed,
    /// Same kind of action: the earlier governs the requests in both scopes.
    Governed,
    /// Both slow, and the earlier one takes every request of the later one: the later slows nothing new, and what waits for it
    /// is delivered at its own rate all the same.
    ShadowedLane,
    /// Both slow: the earlier governs new requests in both scopes, and what waits for either is delivered at its own rate.
    GovernedLane,
    /// Another kind of action: the earlier is asked first for the requests in both scopes.
    Before,
}

/// Two policies that may meet in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The one that is asked first.
    pub earlier: String,
    /// The other.
    pub later: String,
    /// What that means.
    pub relation: Relation,
}

/// Every pair that may meet, in the order in which policies are asked. Expressions are taken as written: two different
/// ones may meet, so a pair named here may in truth never do.
pub fn overlaps(policies: &[Policy]) -> Vec<Overlap> {
    let mut sorted: Vec<&Policy> = policies.iter().collect();
    sorted.sort_by_key(|policy| rank(policy));
    let mut found = Vec::new();
    for (index, later) in sorted.iter().enumerate() {
        for earlier in &sorted[..index] {
            if !meet(earlier, later) {
                continue;
            }
            let (first, second) = (Severity::of(&earlier.action), Severity::of(&later.action));
            let relation = match (first == second, covers(earlier, later)) {
                (true, true) if first == Severity::Slow => Relation::ShadowedLane,
                (true, false) if first == Severity::Slow => Relation::GovernedLane,
                (true, true) => Relation::Shadowed,
                (true, false) => Relation::Governed,
                (false, _) => Relation::Before,
            };
            found.push(Overlap { earlier: earlier.name.to_string(), later: later.name.to_string(), relation });
        }
    }
    found
}

/// Whether one request may be in both scopes.
fn meet(a: &Policy, b: &Policy) -> bool {
    fn fits<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        a.is_none() || b.is_none() || a == b
    }
    let routes = match (&a.route, &b.route) {
        (Some(a), Some(b)) => under(a, b) || under(b, a),
        _ => true,
    };
    fits(&a.business, &b.business) && fits(&a.service, &b.service) && fits(&a.datacenter, &b.datacenter) && routes
}

/// Whether every request in the scope of `narrow` is in that of `wide`.
fn covers(wide: &Policy, narrow: &Policy) -> bool {
    fn contains<T: PartialEq>(wide: &Option<T>, narrow: &Option<T>) -> bool {
        wide.is_none() || wide == narrow
    }
    let route = match (&wide.route, &narrow.route) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => under(narrow, wide),
        (Some(_), None) => false,
    };
    // A service has one business, so a wide policy of that business covers it; which business it has is not known here.
    let business = contains(&wide.business, &narrow.business);
    let when = wide.when.is_none() || wide.when == narrow.when;
    business
        && contains(&wide.service, &narrow.service)
        && contains(&wide.datacenter, &narrow.datacenter)
        && route
        && when
}

/// Whether a path is under a prefix, by whole segments.
pub(crate) fn under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an expression, where there is one, can tell requests apart at all.
pub(crate) fn selects(when: Option<&str>) -> bool {
    when.is_some_and(|text| Expression::compile(text).is_ok_and(|compiled| !compiled.is_constant()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_whole_segments() {
        for (path, prefix, is) in [
            ("/draw", "/draw", true),
            ("/draw/7", "/draw", true),
            ("/drawing", "/draw", false),
            ("/draw/7", "/draw/", true),
            ("/draw", "/draw/", true),
            ("/", "/", true),
            ("/x", "/", true),
            ("", "/", true),
        ] {
            assert_eq!(under(path, prefix), is, "{path} under {prefix}");
        }
    }
}
