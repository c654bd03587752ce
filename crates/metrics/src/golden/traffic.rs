//! Traffic of instances, services and pairs, from the edges of proxies.

use super::window::{Counts, Window};
use super::{EDGES_MAX, EdgeSample, IDLE_MS_MAX, INSTANCES_MAX, PROXY_SILENT_MS_MAX, SILENT_MS_MAX};
use model::{LatencyHistogram, UnixMs};
use std::collections::BTreeMap;

/// Time between a proxy's samples of edges that are not under stress.
const PUSH_MS: u64 = 1_000;

/// Requests by which buckets may run ahead of counters, since a proxy reads them one after the other.
pub(super) const UNTIDY_REQUESTS_MAX: u64 = 64;

/// Counters of traffic, over all proxies, since it was first heard of; they only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Sent to the instance.
    pub started: u64,
    /// Answered.
    pub requests: u64,
    /// Failed.
    pub errors: u64,
    /// Fast rejections, also in errors.
    pub rejects: u64,
    /// Latencies of those answered.
    pub latency: LatencyHistogram,
    /// Sum of the latencies.
    pub latency_us_sum: u64,
    /// Attempts after the first, part of those sent.
    pub retries: u64,
    /// Sum of the times that requests waited in proxies.
    pub queue_us_sum: u64,
    /// Sum of the times from then until the head of the answer.
    pub back_us_sum: u64,
    /// How many of those there were.
    pub back_answers: u64,
    /// These times; of services and pairs only.
    pub back: LatencyHistogram,
}

/// Traffic of one instance, service or pair.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The service.
    pub(crate) service: String,
    pub(crate) traffic: Traffic,
    pub(crate) window: Window,
    pub(crate) heard: UnixMs,
    /// Keeps the distribution of back latencies too: an instance has its mean only, since there are so many of them.
    has_back: bool,
}

/// How far an edge's counters have come.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    started: u64,
    requests: u64,
    errors: u64,
    rejects: u64,
    latency_us_sum: u64,
    retries: u64,
    queue_us_sum: u64,
    back_us_sum: u64,
    in_flight: u32,
    heard: UnixMs,
}

/// Caller, service, instance.
type EdgeKey = (String, String, String);

#[derive(Debug, Default)]
struct Proxy {
    time_us: u64,
    heard: UnixMs,
    edges: BTreeMap<EdgeKey, Seen>,
}

/// What an edge adds.
struct Delta<'a> {
    sample: &'a EdgeSample,
    traffic: Traffic,
    /// Time covered; `None`: unknown, so that it counts in no rate.
    covered_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Flows {
    proxies: BTreeMap<String, Proxy>,
    pub(crate) instances: BTreeMap<String, Flow>,
    pub(crate) services: BTreeMap<String, Flow>,
    /// By caller and service.
    pub(crate) pairs: BTreeMap<(String, String), Flow>,
    pub(crate) refused: u64,
}

impl Seen {
    fn of(sample: &EdgeSample, now: UnixMs) -> Self {
        Self {
            heard: now,
            started: sample.started,
            requests: sample.requests,
            errors: sample.errors,
            rejects: sample.rejects,
            latency_us_sum: sample.latency_us_sum,
            retries: sample.retries,
            queue_us_sum: sample.queue_us_sum,
            back_us_sum: sample.back_us_sum,
            in_flight: sample.in_flight,
        }
    }

    /// A counter that went back tells of a restart; so do buckets that hold the counters' whole life, and much more than
    /// came since they were seen.
    fn restarted(&self, sample: &EdgeSample, fresh: u64) -> bool {
        let whole_life = fresh >= sample.requests && fresh + self.requests > sample.requests + UNTIDY_REQUESTS_MAX;
        whole_life
            || sample.started < self.started
            || sample.requests < self.requests
            || sample.errors < self.errors
            || sample.rejects < self.rejects
            || sample.latency_us_sum < self.latency_us_sum
    }
}

/// What came since `seen`; an edge met for the first time is believed as far as its buckets vouch for it.
fn delta(seen: Option<Seen>, sample: &EdgeSample) -> Traffic {
    let mut latency = LatencyHistogram::default();
    for (bucket, count) in &sample.buckets {
        latency.add(*bucket as usize, *count);
    }
    let mut back = LatencyHistogram::default();
    for (bucket, count) in &sample.back_buckets {
        back.add(*bucket as usize, *count);
    }
    let since = match seen {
        Some(seen) if !seen.restarted(sample, latency.total()) => seen,
        Some(_) => Seen::default(),
        None if latency.total() >= sample.requests => Seen::default(),
        None => {
            let mut since = Seen::of(sample, 0);
            since.requests -= latency.total();
            since
        }
    };
    Traffic {
        started: sample.started - since.started,
        requests: sample.requests - since.requests,
        errors: sample.errors - since.errors,
        rejects: sample.rejects - since.rejects,
        latency,
        latency_us_sum: sample.latency_us_sum - since.latency_us_sum,
        // A proxy that was upgraded in between may tell these for the first time.
        retries: sample.retries.saturating_sub(since.retries),
        queue_us_sum: sample.queue_us_sum.saturating_sub(since.queue_us_sum),
        back_us_sum: sample.back_us_sum.saturating_sub(since.back_us_sum),
        back_answers: back.total(),
        back,
    }
}

impl Flow {
    fn add(&mut self, delta: &Delta<'_>, now: UnixMs) {
        let (sum, new) = (&mut self.traffic, &delta.traffic);
        sum.started += new.started;
        sum.requests += new.requests;
        sum.errors += new.errors;
        sum.rejects += new.rejects;
        sum.latency_us_sum += new.latency_us_sum;
        sum.latency.merge(&new.latency);
        sum.retries += new.retries;
        sum.queue_us_sum += new.queue_us_sum;
        sum.back_us_sum += new.back_us_sum;
        sum.back_answers += new.back_answers;
        let back = self.has_back.then_some(&new.back);
        back.into_iter().for_each(|back| sum.back.merge(back));
        if let Some(covered_ms) = delta.covered_ms {
            let counts = Counts {
                requests: new.requests as f64,
                errors: new.errors as f64,
                rejects: new.rejects as f64,
                started: new.started.saturating_sub(new.retries) as f64,
                queue_us: new.queue_us_sum as f64,
            };
            self.window.add(counts, (&new.latency, back), covered_ms, now);
        }
        self.heard = now;
    }
}

impl Flows {
    pub(crate) fn proxy(&mut self, name: &str, time_us: u64, edges: &[EdgeSample], now: UnixMs) {
        let known: usize = self.proxies.values().map(|proxy| proxy.edges.len()).sum();
        let mut room = EDGES_MAX.saturating_sub(known);
        let proxy = self.proxies.entry(name.to_owned()).or_default();
        let silent_ms = now.saturating_sub(proxy.heard);
        // By the proxy's own clock, unless that was set meanwhile.
        let covered_ms = match time_us.checked_sub(proxy.time_us) {
            Some(us) if us / 1_000 <= PROXY_SILENT_MS_MAX => us / 1_000,
            _ => silent_ms,
        };
        let covered_ms = (silent_ms <= PROXY_SILENT_MS_MAX).then_some(covered_ms);
        (proxy.time_us, proxy.heard) = (time_us, now);
        let mut deltas = Vec::with_capacity(edges.len());
        for sample in edges {
            let key = (sample.caller.clone(), sample.service.clone(), sample.instance.clone());
            let seen = proxy.edges.get(&key).copied();
            if seen.is_none() && room == 0 {
                self.refused += 1;
                continue;
            }
            room -= usize::from(seen.is_none());
            proxy.edges.insert(key, Seen::of(sample, now));
            // While another service is sampled fast, this edge still comes once a push interval.
            let own_ms = seen.map_or(0, |seen| now.saturating_sub(seen.heard)).min(PUSH_MS);
            let covered_ms = covered_ms.map(|covered_ms| covered_ms.max(own_ms));
            deltas.push(Delta { sample, traffic: delta(seen, sample), covered_ms });
        }
        deltas.iter().for_each(|delta| self.take(delta, now));
    }

    fn take(&mut self, delta: &Delta<'_>, now: UnixMs) {
        let sample = delta.sample;
        let new = || Flow { service: sample.service.clone(), has_back: true, ..Flow::default() };
        self.services.entry(sample.service.clone()).or_insert_with(new).add(delta, now);
        let pair = (sample.caller.clone(), sample.service.clone());
        self.pairs.entry(pair).or_insert_with(new).add(delta, now);
        if sample.instance.is_empty() {
            return;
        }
        if !self.instances.contains_key(&sample.instance) && self.instances.len() >= INSTANCES_MAX {
            self.refused += 1;
            return;
        }
        let new = || Flow { has_back: false, ..new() };
        self.instances.entry(sample.instance.clone()).or_insert_with(new).add(delta, now);
    }

    /// Proxies heard from lately.
    fn live(&self, now: UnixMs) -> impl Iterator<Item = &Proxy> {
        self.proxies.values().filter(move |proxy| proxy.heard + PROXY_SILENT_MS_MAX >= now)
    }

    pub(crate) fn proxies(&self, now: UnixMs) -> usize {
        self.live(now).count()
    }

    /// Mean of the clocks of the live proxies that carry a service, at their newest samples: sums of their counters
    /// belong to that time. Other proxies speak more seldom and would only blur it.
    pub(crate) fn time_us(&self, service: &str, now: UnixMs) -> u64 {
        let carries = |proxy: &&Proxy| proxy.edges.keys().any(|(_, called, _)| called == service);
        let times: Vec<_> = self.live(now).filter(carries).map(|proxy| proxy.time_us).collect();
        let base = times.iter().copied().min().unwrap_or(0);
        let above: u64 = times.iter().map(|time_us| time_us - base).sum();
        base + above / (times.len() as u64).max(1)
    }

    /// Requests in flight at each instance, over live proxies.
    pub(crate) fn in_flight(&self, now: UnixMs) -> BTreeMap<&str, u32> {
        let mut sums = BTreeMap::new();
        for ((_, _, instance), seen) in self.live(now).flat_map(|proxy| &proxy.edges) {
            *sums.entry(instance.as_str()).or_insert(0) += seen.in_flight;
        }
        sums
    }

    /// Requests in flight at one instance.
    pub(crate) fn in_flight_at(&self, instance: &str, now: UnixMs) -> u32 {
        let edges = self.live(now).flat_map(|proxy| &proxy.edges);
        edges.filter(|((_, _, at), _)| at == instance).map(|(_, seen)| seen.in_flight).sum()
    }

    pub(crate) fn forget(&mut self, now: UnixMs, has_slice: impl Fn(&str) -> bool) {
        self.proxies.retain(|_, proxy| proxy.heard + SILENT_MS_MAX >= now);
        let idle = |flow: &Flow| flow.heard + IDLE_MS_MAX < now;
        self.instances.retain(|instance, flow| !idle(flow) || has_slice(instance));
        self.services.retain(|_, flow| !idle(flow));
        self.pairs.retain(|_, flow| !idle(flow));
        let instances = &self.instances;
        for proxy in self.proxies.values_mut() {
            proxy.edges.retain(|(_, _, instance), _| instance.is_empty() || instances.contains_key(instance));
        }
    }
}
