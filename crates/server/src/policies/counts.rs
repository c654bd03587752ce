//! What policies did, summed over the proxies that said so.

use api::fleet::PolicySample;
use model::UnixMs;
use std::collections::{BTreeMap, VecDeque};

/// Policies counted at once; those of a proxy beyond it are not.
const POLICIES_MAX: usize = 2_000;
/// Time over which a rate is told.
const RATE_MS: u64 = 5_000;
/// Readings kept for the rate.
const READINGS_MAX: usize = 32;
/// Time after which a policy that nobody speaks of is forgotten.
const FORGET_MS: u64 = 600_000;

/// What one version of a policy did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// Requests it governed.
    pub matched: u64,
    /// Requests it took.
    pub taken: u64,
    /// Requests for which its expression failed.
    pub failed: u64,
    /// The first failure that a proxy told of.
    pub failure: String,
    /// Requests it took a second, over the last seconds; absent before two readings.
    pub taken_per_second: Option<f64>,
}

#[derive(Debug, Default)]
struct Policy {
    version: u64,
    proxies: BTreeMap<String, Of>,
    readings: VecDeque<(UnixMs, u64)>,
    heard: UnixMs,
}

/// What one proxy counted: before its last restart, and since.
#[derive(Debug, Default)]
struct Of {
    before: (u64, u64, u64),
    last: PolicySample,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Counts {
    policies: BTreeMap<String, Policy>,
}

impl Counts {
    /// Takes a proxy's readings in.
    pub fn take(&mut self, proxy: &str, samples: Vec<PolicySample>, now: UnixMs) {
        for sample in samples.into_iter().take(POLICIES_MAX) {
            if self.policies.len() >= POLICIES_MAX && !self.policies.contains_key(&sample.policy) {
                self.policies.retain(|_, at| now.saturating_sub(at.heard) < FORGET_MS);
                continue;
            }
            let policy = self.policies.entry(sample.policy.clone()).or_default();
            if sample.version > policy.version {
                *policy = Policy { version: sample.version, ..Policy::default() };
            } else if sample.version < policy.version {
                continue;
            }
            policy.heard = now;
            let of = policy.proxies.entry(proxy.to_owned()).or_default();
            if sample.matched < of.last.matched {
                // The process is a new one, and counts from nought.
                of.before.0 += of.last.matched;
                of.before.1 += of.last.taken;
                of.before.2 += of.last.failed;
            }
            of.last = sample;
            let taken = policy.sum().taken;
            if policy.readings.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= RATE_MS / READINGS_MAX as u64) {
                policy.readings.push_back((now, taken));
            }
            while policy.readings.len() > 2 && now.saturating_sub(policy.readings[1].0) >= RATE_MS
                || policy.readings.len() > READINGS_MAX
            {
                policy.readings.pop_front();
            }
        }
    }

    /// What a version of a policy did; nothing when no proxy has spoken of it.
    pub fn of(&self, policy: &str, version: u64) -> Counted {
        match self.policies.get(policy).filter(|at| at.version == version) {
            Some(at) => at.sum(),
            None => Counted::default(),
        }
    }
}

impl Policy {
    fn sum(&self) -> Counted {
        let mut sum = Counted::default();
        for of in self.proxies.values() {
            sum.matched += of.before.0 + of.last.matched;
            sum.taken += of.before.1 + of.last.taken;
            sum.failed += of.before.2 + of.last.failed;
            if sum.failure.is_empty() {
                sum.failure.clone_from(&of.last.failure);
            }
        }
        if let (Some((from, low)), Some((to, high))) = (self.readings.front(), self.readings.back())
            && to > from
        {
            sum.taken_per_second = Some(high.saturating_sub(*low) as f64 * 1_000.0 / (to - from) as f64);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(version: u64, matched: u64, taken: u64) -> Vec<PolicySample> {
        let (policy, failure) = ("p".to_owned(), "why".to_owned());
        vec![PolicySample { policy, version, matched, taken, failed: 1, failure, ..PolicySample::default() }]
    }

    #[test]
    fn proxies_are_summed_over_their_restarts_and_a_new_version_begins_anew() {
        let mut counts = Counts::default();
        counts.take("one", sample(1, 100, 10), 1_000);
        counts.take("two", sample(1, 50, 5), 1_000);
        counts.take("one", sample(1, 150, 20), 2_000);
        let found = counts.of("p", 1);
        assert_eq!((found.matched, found.taken, found.failed, found.failure.as_str()), (200, 25, 2, "why"));
        assert_eq!(found.taken_per_second, Some(15.0));
        counts.take("one", sample(1, 7, 1), 3_000);
        assert_eq!((counts.of("p", 1).matched, counts.of("p", 1).taken), (207, 26), "a new process counts from nought");
        counts.take("two", sample(2, 4, 4), 4_000);
        assert_eq!((counts.of("p", 1), counts.of("p", 2).taken), (Counted::default(), 4));
        counts.take("one", sample(1, 900, 900), 5_000);
        assert_eq!(counts.of("p", 2).taken, 4, "one that is behind is not counted");
    }
}
