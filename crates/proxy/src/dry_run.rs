//! The workers' samples of request heads, and what policies would have done to them: counted here, so that no head leaves
//! the proxy.

use crate::endpoint::Clock;
use crate::xds::policies::clocks;
use api::fleet::{DryRunFindings, DryRunRequest, DryRunRow};
use api::policies::kept;
use policy::Place;
use policy::dry_run::{Findings, Row};
use policy::reservoir::{Reservoir, Sample};
use std::sync::{Arc, Mutex, PoisonError};

/// The sample of one worker. Only a dry run ever makes it wait.
pub type WorkerSample = Arc<Mutex<Reservoir>>;

/// The samples of all workers. Cheap to clone: clones share.
#[derive(Debug, Clone)]
pub struct Samples {
    clock: Clock,
    workers: Arc<Mutex<Vec<WorkerSample>>>,
}

impl Samples {
    /// Samples in the time of `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, workers: Arc::default() }
    }

    /// A sample for one more worker; it offers each request with [`Clock::now_us`].
    pub fn worker(&self) -> WorkerSample {
        let sample = WorkerSample::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&sample));
        sample
    }

    /// What the policies asked about would have done.
    pub fn answer(&self, request: DryRunRequest, datacenter: String) -> DryRunFindings {
        let id = request.id;
        let Some(policies) = request.policies else {
            let error = "names no policies".to_owned();
            return DryRunFindings { id, error, ..DryRunFindings::default() };
        };
        let sample = self.together();
        let rate_scale = sample.below as f64 / u64::MAX as f64;
        let place = Place { datacenter, proxies: policies.proxies.clone().into_iter().collect(), rate_scale };
        // Policies that are asked about live for as long as the sample looks back.
        let (set, refused) = policy::compile(&kept(policies, clocks()), &place, &clocks(), self.clock.now_us());
        if let Some((name, why)) = refused.into_iter().find(|(name, _)| request.count.contains(name)) {
            return DryRunFindings { id, error: format!("{name}: {why}"), ..DryRunFindings::default() };
        }
        let found = policy::dry_run::run(&set, &sample, &request.count);
        wire(id, found)
    }

    fn together(&self) -> Sample {
        let now_us = self.clock.now_us();
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let samples: Vec<Sample> = workers
            .iter()
            .map(|worker| worker.lock().unwrap_or_else(PoisonError::into_inner).sample(now_us))
            .filter(|sample| !sample.heads.is_empty())
            .collect();
        Sample::together(samples)
    }
}

fn wire(id: u64, found: Findings) -> DryRunFindings {
    let row = |row: Row| DryRunRow { place: row.place, user: row.user, requests: row.requests, hits: row.hits };
    DryRunFindings {
        id,
        error: String::new(),
        below: found.below,
        window_us: found.window_us,
        rows: found.rows.into_iter().map(row).collect(),
        failed: found.failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::fleet::{Policies, PolicyInForce};
    use policy::{Head, NoHeaders};

    fn request(policy: &str) -> DryRunRequest {
        let one = PolicyInForce {
            name: "p".to_owned(),
            version: 1,
            expires_at_unix_ms: u64::MAX / 4,
            life_ms: 600_000,
            policy: policy.to_owned(),
        };
        DryRunRequest {
            id: 5,
            policies: Some(Policies { revision: 1, policies: vec![one], proxies: [("east".to_owned(), 1)].into() }),
            count: vec!["p".to_owned()],
        }
    }

    #[test]
    fn heads_of_all_workers_are_counted_and_nothing_measured_is_said_to_be_so() {
        let samples = Samples::new(Clock::start());
        let asked = r#"{"name":"p","route":"/draw","action":{"suppress":{}},"expires_at":"2099-01-01T00:00:00Z"}"#;
        let empty = samples.answer(request(asked), "east".to_owned());
        assert_eq!((empty.id, empty.rows.len(), empty.error.as_str()), (5, 0, ""));
        for path in ["/draw", "/login"] {
            let worker = samples.worker();
            for user in 0..10 {
                let head = Head {
                    business: "b",
                    service: "s",
                    caller: "outside",
                    datacenter: "east",
                    method: "GET",
                    host: "h",
                    path,
                    query: "",
                    headers: &NoHeaders,
                    user: Some(user),
                    priority: 0,
                };
                worker.lock().unwrap().offer(&head, std::iter::empty, samples.clock.now_us());
            }
        }
        let found = samples.answer(request(asked), "east".to_owned());
        let sum = |of: fn(&DryRunRow) -> u32| found.rows.iter().map(of).sum::<u32>();
        assert_eq!((found.rows.len(), sum(|row| row.requests), sum(|row| row.hits[0])), (10, 20, 10));
        let wrong = samples.answer(request(&asked.replace("suppress", "teleport")), "east".to_owned());
        assert!(wrong.error.starts_with("p: not understood here"), "{}", wrong.error);
    }
}
