//! Operators' policies as the server sends them: kept on disk before they are acknowledged, in force by this proxy's own
//! clock until each one's end, with or without a server in reach.
//!
//! What they do to a request is `protect`'s work; here they are received, compiled and handed over.

use crate::endpoint::Clock;
use crate::xds::resources::Refused;
use crate::xds::saved;
use crate::xds::state::Verdict;
pub use api::policies::TYPE_URL as POLICIES;
use api::policies::kept;
use envoy_types::pb::google::protobuf::Any;
use model::{Clocks, PoliciesFile};
use policy::{Place, PolicySet};
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a refusal calls it.
const KIND: &str = "policy";
/// Most policies taken at once.
const POLICIES_MAX: usize = 10_000;

/// The policies of this proxy.
#[derive(Debug)]
pub struct Policies {
    path: PathBuf,
    datacenter: String,
    clock: Clock,
    in_force: Arc<PolicySet>,
}

impl Policies {
    /// Takes up what was saved beside the proxy's state: what has not ended meanwhile is in force again.
    pub fn load(state: &Path, datacenter: &str, clock: Clock) -> Self {
        let path = state.with_extension("policies.json");
        let datacenter = datacenter.to_owned();
        let mut policies = Self { path, datacenter, clock, in_force: Arc::default() };
        match std::fs::read(&policies.path) {
            Ok(bytes) => match PoliciesFile::read(&bytes) {
                Ok(file) => {
                    policies.put_in_force(&file);
                    let count = policies.in_force.entries().len();
                    tracing::info!(count, path = %policies.path.display(), "saved policies are in force");
                }
                Err(fault) => tracing::error!(path = %policies.path.display(), %fault, "saved policies are not used"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(path = %policies.path.display(), %error, "saved policies cannot be read"),
        }
        policies
    }

    /// The compiled set.
    pub fn in_force(&self) -> Arc<PolicySet> {
        Arc::clone(&self.in_force)
    }

    /// Takes an answer: all policies, in the place of those before. One that cannot be used is refused alone.
    pub fn accept(&mut self, resources: &[Any]) -> Verdict {
        let mut verdict = Verdict::default();
        let refuse = |what: String| Refused { kind: KIND, name: "policies".to_owned(), what };
        // No resource at all is not "no policies": that would be one resource without any.
        let Some(any) = resources.first() else {
            verdict.empty_ignored = 1;
            return verdict;
        };
        let received = match api::fleet::Policies::decode(any.value.as_slice()) {
            Ok(received) if received.policies.len() <= POLICIES_MAX => received,
            Ok(received) => {
                let count = received.policies.len();
                verdict.refused.push(refuse(format!("{count} policies, at most {POLICIES_MAX} are taken")));
                return verdict;
            }
            Err(error) => {
                verdict.refused.push(refuse(error.to_string()));
                return verdict;
            }
        };
        let file = kept(received, clocks());
        if let Err(error) = saved::save(&self.path, &file.bytes()) {
            // They act all the same; only a restart without a server would not know them.
            tracing::error!(%error, "the policies are not saved");
        }
        let refused = self.put_in_force(&file);
        verdict.refused.extend(refused.into_iter().map(|(name, what)| Refused { kind: KIND, name, what }));
        verdict
    }

    fn put_in_force(&mut self, file: &PoliciesFile) -> Vec<(String, String)> {
        let place = Place { datacenter: self.datacenter.clone(), proxies: file.proxies.clone(), rate_scale: 1.0 };
        let (set, refused) = policy::compile(file, &place, &clocks(), self.clock.now_us());
        self.in_force = Arc::new(set.inheriting(&self.in_force));
        refused
    }
}

/// The machine's clocks, now.
pub fn clocks() -> Clocks {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Clocks {
        boot_id: boot_id.trim().to_owned(),
        boot_ms: boot.tv_sec as u64 * 1_000 + boot.tv_nsec as u64 / 1_000_000,
        unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64),
    }
}

#[cfg(test)]
mod tests;
