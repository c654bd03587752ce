//! What policies did, summed over proxies into series of each policy.
//!
//! Counters go on where a proxy starts anew and where a policy changes its version; a policy that nobody speaks of any more is
//! forgotten.

use api::fleet::PolicySample;
use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;
use std::collections::BTreeMap;

/// Policies counted at once; further ones have no series.
const POLICIES_MAX: usize = 2_000;
/// Silence after which a policy is forgotten.
const FORGET_MS: u64 = 600_000;

const MATCHED: &str = "springtide_policy_matched_total";
const ANSWERED: &str = "springtide_policy_answered_total";
const FAILED: &str = "springtide_policy_failed_total";

const DESCRIPTIONS: &[Description] = &[
    Description {
        name: MATCHED,
        kind: Kind::Counter,
        unit: "",
        help: "Requests in the scope of a policy, whether it took them or let them pass.",
    },
    Description {
        name: ANSWERED,
        kind: Kind::Counter,
        unit: "",
        help: "Requests that a policy took: rejected, answered in the service's place, or put into the slow lane.",
    },
    Description {
        name: FAILED,
        kind: Kind::Counter,
        unit: "",
        help: "Requests for which a policy's expression failed.",
    },
];

#[derive(Default)]
struct Policy {
    heard: UnixMs,
    /// By action, which another version may change: matched, answered, failed.
    totals: BTreeMap<String, [u64; 3]>,
    /// As last told, by proxy, and of which version.
    told: BTreeMap<String, (u64, [u64; 3])>,
}

/// What the proxies said.
#[derive(Default)]
pub struct Policies(BTreeMap<String, Policy>);

impl Policies {
    /// Tells the store what is written.
    pub fn describe(store: &mut SeriesStore) {
        DESCRIPTIONS.iter().for_each(|description| store.describe(*description));
    }

    /// Takes a proxy's samples.
    pub fn take(&mut self, proxy: &str, samples: &[PolicySample], now: UnixMs) {
        for sample in samples.iter().take(POLICIES_MAX) {
            if self.0.len() >= POLICIES_MAX && !self.0.contains_key(&sample.policy) {
                continue;
            }
            let policy = self.0.entry(sample.policy.clone()).or_default();
            policy.heard = now;
            let counted = [sample.matched, sample.taken, sample.failed];
            let told = policy.told.entry(proxy.to_owned()).or_default();
            // Another version, or another process, counts from nought.
            let anew = told.0 != sample.version || counted[0] < told.1[0];
            let before = if anew { [0; 3] } else { told.1 };
            *told = (sample.version, counted);
            let totals = policy.totals.entry(sample.action.clone()).or_default();
            for ((total, now), before) in totals.iter_mut().zip(counted).zip(before) {
                *total += now.saturating_sub(before);
            }
        }
    }

    /// Writes everything.
    pub fn write(&mut self, store: &mut SeriesStore, now: UnixMs) {
        self.0.retain(|_, policy| now.saturating_sub(policy.heard) < FORGET_MS);
        for (name, policy) in &self.0 {
            for (action, totals) in &policy.totals {
                let labels = [("policy", name.as_str()), ("action", action.as_str())];
                for (series, total) in [MATCHED, ANSWERED, FAILED].into_iter().zip(totals) {
                    // The store counts what it refuses, and its exposition shows the counts.
                    let _ = store.push(series, &labels, now, *total as f64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::series::Limits;

    fn sample(version: u64, action: &str, matched: u64, taken: u64) -> PolicySample {
        PolicySample { policy: "p".into(), version, matched, taken, action: action.into(), ..Default::default() }
    }

    fn exposed(policies: &mut Policies, now: UnixMs) -> String {
        let mut store = SeriesStore::new(Limits::default());
        Policies::describe(&mut store);
        policies.write(&mut store, now);
        store.exposition(now)
    }

    fn value(text: &str, name: &str, action: &str) -> Option<f64> {
        let line =
            text.lines().find(|line| line.starts_with(name) && line.contains(&format!("action=\"{action}\"")))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    #[test]
    fn counters_go_on_over_versions_and_restarts_and_end_with_the_policy() {
        let mut policies = Policies::default();
        policies.take("a", &[sample(1, "throttle", 10, 4)], 1_000);
        policies.take("b", &[sample(1, "throttle", 5, 1)], 1_000);
        policies.take("a", &[sample(1, "throttle", 12, 5)], 2_000);
        policies.take("b", &[sample(1, "throttle", 2, 1)], 2_000);
        policies.take("a", &[sample(2, "suppress", 3, 3)], 3_000);
        let text = exposed(&mut policies, 3_000);
        assert_eq!(value(&text, MATCHED, "throttle"), Some(19.0), "{text}");
        assert_eq!(value(&text, ANSWERED, "throttle"), Some(7.0), "{text}");
        assert_eq!(value(&text, ANSWERED, "suppress"), Some(3.0), "{text}");
        assert_eq!(value(&exposed(&mut policies, 3_000 + FORGET_MS), MATCHED, "throttle"), None);
    }
}
