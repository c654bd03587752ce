//! What the protection did, for `/metrics`. Absent: the service's own metrics, which it adds itself.

use crate::Shared;
use admission::wire::Why;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters from the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    served: AtomicU64,
    failed: AtomicU64,
    overload: AtomicU64,
    deadline: AtomicU64,
    overflow: AtomicU64,
    policy: AtomicU64,
    shed: AtomicU64,
    retries: AtomicU64,
}

impl Counts {
    pub(crate) fn served(&self, well: bool) {
        let of = if well { &self.served } else { &self.failed };
        of.fetch_add(1, Relaxed);
    }

    pub(crate) fn rejected(&self, why: Why) {
        let of = match why {
            Why::Deadline => &self.deadline,
            Why::Overflow => &self.overflow,
            Why::Policy => &self.policy,
            Why::Overload | Why::Tenant | Why::Throttle | Why::NoEndpoint => &self.overload,
        };
        of.fetch_add(1, Relaxed);
    }

    pub(crate) fn expired(&self) {
        self.deadline.fetch_add(1, Relaxed);
    }

    pub(crate) fn shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }
}

/// The Prometheus text format.
pub(crate) fn exposition(shared: &Shared) -> String {
    let counts = &shared.counts;
    let state = shared.gate.snapshot(shared.clock.now_us());
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes any text");
        for (labels, value) in values {
            writeln!(text, "{name}{labels} {value}").expect("a String takes any text");
        }
    };
    let at = |of: &AtomicU64| of.load(Relaxed) as f64;
    family(
        "springtide_sdk_requests_total",
        "counter",
        "Requests by what became of them.",
        &[
            (r#"{outcome="served"}"#, at(&counts.served)),
            (r#"{outcome="failed"}"#, at(&counts.failed)),
            (r#"{outcome="overload"}"#, at(&counts.overload)),
            (r#"{outcome="deadline"}"#, at(&counts.deadline)),
            (r#"{outcome="overflow"}"#, at(&counts.overflow)),
            (r#"{outcome="policy"}"#, at(&counts.policy)),
        ],
    );
    let calls = [(r#"{what="shed"}"#, at(&counts.shed)), (r#"{what="retry"}"#, at(&counts.retries))];
    family("springtide_sdk_calls_total", "counter", "Calls to others that were shed, and second attempts.", &calls);
    let advert = state.advert;
    family("springtide_sdk_level", "gauge", "Priorities below it are admitted.", &[("", f64::from(advert.level))]);
    let rates =
        [(r#"{of="demand"}"#, f64::from(advert.demand_rps)), (r#"{of="capacity"}"#, f64::from(advert.capacity_rps))];
    family("springtide_sdk_rps", "gauge", "Demand, shed calls included, and measured capacity.", &rates);
    let delay = f64::from(advert.queue_delay_us) / 1e6;
    family("springtide_sdk_queue_delay_seconds", "gauge", "Mean wait for a worker.", &[("", delay)]);
    text
}
