//! Operators' policies on their way out: what is put in force, who has it in force, what it does there.
//!
//! What a policy means is `policy`'s work; who may change one is the control loop's, through which every change goes.

pub mod counts;
pub mod enforcers;
pub mod history;
pub mod questions;

use api::fleet::{DryRunFindings, LaneAnswer, Policies, PolicyInForce};
use enforcers::Enforcers;
use model::{PolicyAction, Snapshot, Throttle, UnixMs};
use questions::Questions;
use std::collections::BTreeMap;

/// What the handlers of `/v1/protect` share with the loop and the streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Protect {
    /// Who has which policies in force.
    pub enforcers: Enforcers,
    /// Dry runs on their way.
    pub dry_runs: Questions<DryRunFindings>,
    /// Questions about the slow lanes' dead letters.
    pub lanes: Questions<LaneAnswer>,
}

/// Everything in force, as it is sent; only the remaining lives are written when it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoliciesPut {
    /// Revision at which the last policy changed.
    pub revision: u64,
    /// Live proxies by datacenter; empty while no policy shares a rate, so that a proxy that comes or goes is no news.
    pub proxies: BTreeMap<String, u32>,
    /// When the first policy of the store ends; in the past when one has that is still there.
    first_end: Option<UnixMs>,
    policies: Vec<Put>,
}

#[derive(Debug, Clone, PartialEq)]
struct Put {
    name: String,
    version: u64,
    ends: UnixMs,
    json: String,
}

impl PoliciesPut {
    /// What is in force at `now`.
    pub fn of(snapshot: &Snapshot, proxies: BTreeMap<String, u32>, now: UnixMs) -> Self {
        let live = || snapshot.policies().filter(|policy| policy.expires_at.unix_ms() > now);
        let put = |policy: &model::Policy| Put {
            name: policy.name.to_string(),
            version: snapshot.policy_histories.get(&policy.name).map_or(1, |at| at.value.version()),
            ends: policy.expires_at.unix_ms(),
            json: serde_json::to_string(policy).expect("a policy is plain data"),
        };
        let shares_rate = |policy: &model::Policy| {
            matches!(policy.action, PolicyAction::Throttle(Throttle::RequestsPerSecond(_)) | PolicyAction::Slow(_))
        };
        Self {
            revision: snapshot.policy_histories.values().map(|at| at.revision).max().unwrap_or(0),
            proxies: if live().any(shares_rate) { proxies } else { BTreeMap::new() },
            first_end: snapshot.policies().map(|policy| policy.expires_at.unix_ms()).min(),
            policies: live().map(put).collect(),
        }
    }

    /// With other policies put beside or in the place of those of the same names.
    pub fn and(mut self, policies: &[model::Policy]) -> Self {
        for policy in policies {
            self.policies.retain(|put| put.name != policy.name.as_str());
            let json = serde_json::to_string(policy).expect("a policy is plain data");
            self.policies.push(Put {
                name: policy.name.to_string(),
                version: 0,
                ends: policy.expires_at.unix_ms(),
                json,
            });
        }
        self
    }

    /// When the first policy of the store ends; in the past when one has that is still there.
    pub fn first_end(&self) -> Option<UnixMs> {
        self.first_end
    }

    /// The message, with what is left of each life at `now`.
    pub fn message(&self, now: UnixMs) -> Policies {
        let wire = |put: &Put| PolicyInForce {
            name: put.name.clone(),
            version: put.version,
            expires_at_unix_ms: put.ends,
            life_ms: put.ends.saturating_sub(now),
            policy: put.json.clone(),
        };
        Policies {
            revision: self.revision,
            policies: self.policies.iter().map(wire).collect(),
            proxies: self.proxies.clone().into_iter().collect(),
        }
    }
}
