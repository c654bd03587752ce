//! A set of policies from the form in which they are kept.

use crate::set::{InForce, Place, PolicySet};
use model::{Clocks, PoliciesFile, Policy};
use serde::Deserialize;

/// The policies of a file that still live at `now`, compiled for a place; ends count in microseconds of the caller's
/// monotonic clock, which reads `now_us`. What cannot be used is left out and named, with why.
pub fn compile(file: &PoliciesFile, place: &Place, now: &Clocks, now_us: u64) -> (PolicySet, Vec<(String, String)>) {
    let (mut in_force, mut refused) = (Vec::new(), Vec::new());
    for of in &file.policies {
        let left_ms = file.left_ms(of, now);
        if left_ms == 0 {
            continue;
        }
        match Policy::deserialize(&of.policy) {
            Ok(policy) => {
                let ends_us = now_us.saturating_add(left_ms.saturating_mul(1_000));
                in_force.push(InForce { policy, version: of.version, ends_us });
            }
            Err(error) => {
                let name = of.policy.get("name").and_then(|name| name.as_str()).unwrap_or("(no name)");
                refused.push((name.to_owned(), format!("not understood here: {error}")));
            }
        }
    }
    let (set, more) = PolicySet::compile(in_force, place);
    refused.extend(more);
    (set, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::KeptPolicy;

    fn kept(name: &str, life_ms: u64) -> KeptPolicy {
        let policy = serde_json::json!({
            "name": name, "action": {"suppress": {}}, "service": "s", "expires_at": "2027-02-05T12:00:00Z",
        });
        KeptPolicy { version: 1, expires_at_unix_ms: 5_000_000 + life_ms, life_ms, policy }
    }

    #[test]
    fn dead_policies_stay_dead_and_a_newer_one_is_refused_alone() {
        let at = Clocks { boot_id: "a".to_owned(), boot_ms: 1_000, unix_ms: 5_000_000 };
        let mut unknown = kept("unknown", 60_000);
        unknown.policy["action"] = serde_json::json!({"teleport": {}});
        let policies = vec![kept("long", 60_000), kept("short", 1_000), unknown];
        let file = PoliciesFile { format: 1, revision: 7, at: at.clone(), proxies: [].into(), policies };
        let now = Clocks { boot_ms: 11_000, unix_ms: 1, ..at };
        let (set, refused) = compile(&file, &Place::default(), &now, 500);
        let ends: Vec<_> = set.entries().iter().map(|entry| (entry.policy.name.as_str(), entry.ends_us)).collect();
        assert_eq!(ends, [("long", 500 + 50_000_000)], "the wall clock that jumped back changes nothing");
        assert!(refused.len() == 1 && refused[0].0 == "unknown", "{refused:?}");
    }
}
