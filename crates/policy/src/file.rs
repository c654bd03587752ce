//! Policies as they are kept beside a process: a proxy's own, so that it restarts with them, and the one that an agent writes
//! for the instances of its host (`SPRINGTIDE_POLICIES`).

use crate::life::{Clocks, Kept, Lease};
use crate::set::{InForce, Place, PolicySet};
use model::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this form; a reader refuses one that it does not know, and keeps what it had.
pub const FORMAT: u32 = 1;

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoliciesFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Revision of the server's store at which the last of them changed.
    pub revision: u64,
    /// The clocks when they were received.
    pub at: Clocks,
    /// Live proxies by datacenter.
    pub proxies: BTreeMap<String, u32>,
    /// The policies.
    pub policies: Vec<KeptPolicy>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPolicy {
    /// Its version.
    pub version: u64,
    /// Its end by the server's clock.
    pub expires_at_unix_ms: u64,
    /// Its remaining life when the server sent it.
    pub life_ms: u64,
    /// The resource; read one by one, so that one of a newer form does not take the others along.
    pub policy: serde_json::Value,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFault {
    /// Not JSON of this form.
    Damaged(String),
    /// A form of a newer version.
    Format(u32),
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "not a file of policies: {why}"),
            Self::Format(found) => write!(f, "has format {found}, and this version reads {FORMAT}: upgrade it"),
        }
    }
}

impl std::error::Error for FileFault {}

impl PoliciesFile {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// It is damaged, or of a newer form.
    pub fn read(bytes: &[u8]) -> Result<Self, FileFault> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let damaged = |error: serde_json::Error| FileFault::Damaged(error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(FileFault::Format(format));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The bytes of a file.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("policies are plain data")
    }

    /// The policies that still live at `now`, compiled for a place; ends count in microseconds of the caller's monotonic clock,
    /// which reads `now_us`. What cannot be used is named, with why.
    pub fn compile(&self, place: &Place, now: &Clocks, now_us: u64) -> (PolicySet, Vec<(String, String)>) {
        let kept = Kept { at: self.at.clone() };
        let (mut in_force, mut refused) = (Vec::new(), Vec::new());
        for of in &self.policies {
            let lease = Lease { expires_at_unix_ms: of.expires_at_unix_ms, life_ms: of.life_ms };
            let left_ms = kept.remaining_ms(lease, now);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(policies: Vec<KeptPolicy>) -> PoliciesFile {
        let at = Clocks { boot_id: "a".to_owned(), boot_ms: 1_000, unix_ms: 5_000_000 };
        PoliciesFile { format: FORMAT, revision: 7, at, proxies: BTreeMap::from([("east".to_owned(), 2)]), policies }
    }

    fn kept(name: &str, life_ms: u64) -> KeptPolicy {
        let policy = serde_json::json!({
            "name": name, "action": {"suppress": {}}, "service": "s", "expires_at": "2027-02-05T12:00:00Z",
        });
        KeptPolicy { version: 1, expires_at_unix_ms: 5_000_000 + life_ms, life_ms, policy }
    }

    #[test]
    fn what_is_kept_is_read_back_and_dead_policies_stay_dead() {
        let whole = file(vec![kept("long", 60_000), kept("short", 1_000)]);
        let read = PoliciesFile::read(&whole.bytes()).unwrap();
        assert_eq!(read, whole);
        let now = Clocks { boot_ms: 11_000, unix_ms: 1, ..whole.at };
        let (set, refused) = read.compile(&Place::default(), &now, 500);
        assert_eq!(refused, []);
        let ends: Vec<_> = set.entries().iter().map(|entry| (entry.policy.name.as_str(), entry.ends_us)).collect();
        assert_eq!(ends, [("long", 500 + 50_000_000)], "the wall clock that jumped back changes nothing");
    }

    #[test]
    fn a_newer_form_is_refused_and_a_newer_policy_refused_alone() {
        let mut newer = file(Vec::new());
        newer.format = 2;
        assert_eq!(PoliciesFile::read(&newer.bytes()), Err(FileFault::Format(2)));
        assert!(matches!(PoliciesFile::read(b"{\"format\": 1}"), Err(FileFault::Damaged(_))));
        assert!(matches!(PoliciesFile::read(b"torn"), Err(FileFault::Damaged(_))));
        let mut unknown = kept("unknown", 9_000);
        unknown.policy["action"] = serde_json::json!({"teleport": {}});
        let whole = file(vec![unknown, kept("known", 9_000)]);
        let (set, refused) = whole.compile(&Place::default(), &whole.at, 0);
        assert_eq!(set.entries().len(), 1);
        assert!(refused.len() == 1 && refused[0].0 == "unknown", "{refused:?}");
    }
}
