//! What the proxies' protection says, summed over proxies into series of each service.
//!
//! Counters go on where a proxy starts anew; gauges are of the proxies heard from in the last seconds.

use api::fleet::ProtectionSample;
use metrics::series::{Description, Kind, SeriesStore};
use model::UnixMs;
use std::collections::BTreeMap;

/// Silence after which a proxy's gauges count no more.
const SILENT_MS: u64 = 5_000;
/// Services of one proxy; the rest is cut off.
const SERVICES_MAX: usize = 20_000;
/// Counters of a sample, beside their reasons or names.
const COUNTERS: usize = 12;

const LEVEL: &str = "springtide_protection_level";
const DEMAND: &str = "springtide_protection_demand_per_second";
const CAPACITY: &str = "springtide_protection_capacity_per_second";
const QUEUE_DELAY: &str = "springtide_protection_queue_delay_seconds";
const REJECTS: &str = "springtide_protection_rejects_total";
const EVENTS: &str = "springtide_protection_events_total";

const DESCRIPTIONS: &[Description] = &[
    Description {
        name: LEVEL,
        kind: Kind::Gauge,
        unit: "",
        help: "Lowest admission level over proxies: requests of a priority below it are admitted, 65536 admits all.",
    },
    Description {
        name: DEMAND,
        kind: Kind::Gauge,
        unit: "second",
        help: "Calls a second asked for, shed ones included.",
    },
    Description {
        name: CAPACITY,
        kind: Kind::Gauge,
        unit: "second",
        help: "Calls a second completed while busy; 0 unknown.",
    },
    Description {
        name: QUEUE_DELAY,
        kind: Kind::Gauge,
        unit: "seconds",
        help: "Longest mean queue delay over proxies.",
    },
    Description { name: REJECTS, kind: Kind::Counter, unit: "rejects", help: "Fast rejections by proxies, by reason." },
    Description {
        name: EVENTS,
        kind: Kind::Counter,
        unit: "events",
        help: "Calls shed early or reported as shed, retries sent or refused, answers by policies, reports not believed.",
    },
];

/// Metric, label and value of each counter, in the order of [`counters`].
const NAMES: [(&str, &str, &str); COUNTERS] = [
    (REJECTS, "reason", "overload"),
    (REJECTS, "reason", "deadline"),
    (REJECTS, "reason", "overflow"),
    (REJECTS, "reason", "policy"),
    (REJECTS, "reason", "tenant"),
    (REJECTS, "reason", "throttle"),
    (EVENTS, "event", "shed-early"),
    (EVENTS, "event", "shed-reported"),
    (EVENTS, "event", "retry"),
    (EVENTS, "event", "retry-refused"),
    (EVENTS, "event", "policy-answer"),
    (EVENTS, "event", "report-refused"),
];

fn counters(of: &ProtectionSample) -> [u64; COUNTERS] {
    [
        of.rejects_overload,
        of.rejects_deadline,
        of.rejects_overflow,
        of.rejects_policy,
        of.rejects_tenant,
        of.rejects_throttle,
        of.shed_early,
        of.shed_reported,
        of.retries,
        of.retries_refused,
        of.policy_answers,
        of.reports_refused,
    ]
}

#[derive(Default)]
struct Proxy {
    heard: UnixMs,
    services: BTreeMap<String, ProtectionSample>,
}

/// What the proxies said.
#[derive(Default)]
pub struct Protection {
    proxies: BTreeMap<String, Proxy>,
    totals: BTreeMap<String, [u64; COUNTERS]>,
}

impl Protection {
    /// Tells the store what is written.
    pub fn describe(store: &mut SeriesStore) {
        DESCRIPTIONS.iter().for_each(|description| store.describe(*description));
    }

    /// Takes a proxy's samples: of the services that moved.
    pub fn take(&mut self, proxy: &str, samples: &[ProtectionSample], now: UnixMs) {
        let known = self.proxies.entry(proxy.to_owned()).or_default();
        known.heard = now;
        for sample in samples.iter().take(SERVICES_MAX) {
            let before = known.services.get(&sample.service).map(counters).unwrap_or_default();
            let totals = self.totals.entry(sample.service.clone()).or_default();
            for ((total, now), before) in totals.iter_mut().zip(counters(sample)).zip(before) {
                // A counter that fell began anew.
                *total += if now >= before { now - before } else { now };
            }
            known.services.insert(sample.service.clone(), sample.clone());
        }
    }

    /// Writes everything; gauges of proxies that fell silent are left out.
    pub fn write(&mut self, store: &mut SeriesStore, now: UnixMs) {
        // What a service tells of itself each proxy tells alike; what proxies infer is of each one's own part.
        let mut gauges = BTreeMap::<&str, [f64; 4]>::new();
        let mut told = BTreeMap::<&str, [f64; 2]>::new();
        for proxy in self.proxies.values().filter(|proxy| now.saturating_sub(proxy.heard) <= SILENT_MS) {
            for (service, of) in &proxy.services {
                let sum = gauges.entry(service).or_insert([f64::MAX, 0.0, 0.0, 0.0]);
                sum[0] = sum[0].min(f64::from(of.level));
                if of.aware {
                    let told = told.entry(service).or_default();
                    told[0] = told[0].max(f64::from(of.demand_rps));
                    told[1] = told[1].max(f64::from(of.capacity_rps));
                } else {
                    sum[1] += f64::from(of.demand_rps);
                    sum[2] += f64::from(of.capacity_rps);
                }
                sum[3] = sum[3].max(f64::from(of.queue_delay_us) / 1e6);
            }
        }
        for (service, [demand, capacity]) in told {
            if let Some(sum) = gauges.get_mut(service) {
                sum[1] += demand;
                sum[2] += capacity;
            }
        }
        let mut put = |name: &str, labels: &[(&str, &str)], value: f64| {
            // The store counts what it refuses, and its exposition shows the counts.
            let _ = store.push(name, labels, now, value);
        };
        for (service, values) in gauges {
            for (name, value) in [LEVEL, DEMAND, CAPACITY, QUEUE_DELAY].into_iter().zip(values) {
                put(name, &[("service", service)], value);
            }
        }
        for (service, totals) in &self.totals {
            for ((name, label, value), total) in NAMES.into_iter().zip(totals) {
                // What never happened needs no series.
                if *total > 0 {
                    put(name, &[("service", service), (label, value)], *total as f64);
                }
            }
        }
        self.proxies.retain(|_, proxy| now.saturating_sub(proxy.heard) <= SILENT_MS * 120);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::series::Limits;

    fn sample(level: u32, demand_rps: f32, rejects_overload: u64) -> ProtectionSample {
        ProtectionSample { service: "pay".to_owned(), level, demand_rps, rejects_overload, ..Default::default() }
    }

    fn line(protection: &mut Protection, name: &str, now: UnixMs) -> Option<String> {
        let mut store = SeriesStore::new(Limits::default());
        Protection::describe(&mut store);
        protection.write(&mut store, now);
        let text = store.exposition(now);
        text.lines().find(|line| line.starts_with(&format!("{name}{{"))).map(str::to_owned)
    }

    #[test]
    fn counters_survive_a_restart_and_gauges_a_death() {
        let mut protection = Protection::default();
        protection.take("a", &[sample(65_536, 10.0, 5)], 1_000);
        protection.take("b", &[sample(20_000, 30.0, 7)], 1_000);
        let found = line(&mut protection, REJECTS, 1_000).expect("written");
        assert!(
            found.contains("reason=\"overload\"") && found.contains("service=\"pay\"") && found.contains(" 12"),
            "{found}"
        );
        assert!(line(&mut protection, LEVEL, 1_000).expect("written").contains(" 20000"));
        protection.take("a", &[sample(65_536, 10.0, 2)], 2_000);
        assert!(line(&mut protection, REJECTS, 2_000).expect("written").contains(" 14"), "a proxy began anew");
        protection.take("a", &[], 9_000);
        assert!(line(&mut protection, LEVEL, 9_000).expect("written").contains(" 65536"), "the other fell silent");
        assert!(
            line(&mut protection, DEMAND, 9_000).expect("written").contains(" 10"),
            "what did not move still counts"
        );
        assert_eq!(line(&mut protection, EVENTS, 9_000), None);
        let told = |demand| ProtectionSample { aware: true, ..sample(65_536, demand, 0) };
        protection.take("a", &[told(400.0)], 9_000);
        protection.take("b", &[told(390.0)], 9_000);
        let found = line(&mut protection, DEMAND, 9_000).expect("written");
        assert!(found.contains(" 400"), "each proxy tells of the whole service: {found}");
    }
}
