//! Policies between the wire and the form in which proxies and agents keep them.

use crate::fleet::{Policies, PolicyInForce};
use model::{Clocks, KeptPolicy, POLICIES_FORMAT, PoliciesFile};

/// Type of the one xDS resource that holds all policies.
pub const TYPE_URL: &str = "type.googleapis.com/springtide.v1.Policies";
/// Name of that resource.
pub const RESOURCE: &str = "policies";

/// What was received at `at`, as it is kept.
pub fn kept(received: Policies, at: Clocks) -> PoliciesFile {
    let keep = |of: PolicyInForce| KeptPolicy {
        version: of.version,
        expires_at_unix_ms: of.expires_at_unix_ms,
        life_ms: of.life_ms,
        // A text that is no JSON is refused by name when it is compiled.
        policy: serde_json::from_str(&of.policy).unwrap_or_else(|_| serde_json::json!({ "name": of.name })),
    };
    PoliciesFile {
        format: POLICIES_FORMAT,
        revision: received.revision,
        at,
        proxies: received.proxies.into_iter().collect(),
        policies: received.policies.into_iter().map(keep).collect(),
    }
}
