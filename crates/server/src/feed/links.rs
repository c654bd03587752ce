//! What proxies moved between datacenters, and how much of the circuits that takes.
//!
//! Measured where the bytes leave and arrive: each proxy counts what it writes to and reads from its connections with
//! instances, by the datacenter of the instance; the caller's datacenter is the proxy's. Requests go one way, their answers
//! the other. Absent: traffic that passes no proxy (replication, package downloads), and the kernel's own overhead.

use api::fleet::LinkSample;
use metrics::series::{Description, Kind, SeriesStore};
use model::{Circuit, UnixMs};
use std::collections::{BTreeMap, VecDeque};

/// Datacenters that one proxy may name; the rest is cut off.
const DATACENTERS_MAX: usize = 256;
/// Pairs of datacenters known at the same time.
const PAIRS_MAX: usize = 10_000;
/// Proxies whose counters are remembered.
const PROXIES_MAX: usize = 10_000;
/// Seconds that the share of a circuit looks back.
const WINDOW_S: usize = 5;

const BYTES: &str = "springtide_datacenter_bytes_total";
const REQUESTS: &str = "springtide_datacenter_requests_total";
const CAPACITY: &str = "springtide_circuit_capacity_bytes_per_second";
const USED: &str = "springtide_circuit_used_ratio";

const DESCRIPTIONS: [Description; 4] = [
    Description {
        name: BYTES,
        kind: Kind::Counter,
        unit: "bytes",
        help: "Bytes that proxies moved from one datacenter to another, or within one; heads, bodies and frames.",
    },
    Description {
        name: REQUESTS,
        kind: Kind::Counter,
        unit: "requests",
        help: "Requests that callers in one datacenter sent to instances in another, or in the same.",
    },
    Description {
        name: CAPACITY,
        kind: Kind::Gauge,
        unit: "second",
        help: "What a circuit carries in each direction, as declared.",
    },
    Description {
        name: USED,
        kind: Kind::Gauge,
        unit: "ratio",
        help: "Share of a circuit that proxies filled in one direction, over 5 s.",
    },
];

/// From, to.
type Pair = (String, String);

#[derive(Debug, Default)]
struct Moved {
    bytes: u64,
    requests: u64,
    /// Bytes as they stood at the last seconds.
    before: VecDeque<(UnixMs, u64)>,
}

impl Moved {
    /// Bytes a second over the window.
    fn rate(&mut self, now: UnixMs) -> f64 {
        self.before.push_back((now, self.bytes));
        if self.before.len() > WINDOW_S + 1 {
            self.before.pop_front();
        }
        let (since, bytes) = self.before[0];
        if now > since { (self.bytes - bytes) as f64 * 1_000.0 / (now - since) as f64 } else { 0.0 }
    }
}

/// What the proxies said.
#[derive(Debug, Default)]
pub struct Links {
    /// Counters as last told, by proxy and the instances' datacenter.
    seen: BTreeMap<String, BTreeMap<String, LinkSample>>,
    moved: BTreeMap<Pair, Moved>,
}

/// What came since; a counter that fell began anew.
fn since(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}

impl Links {
    /// Tells the store what is written.
    pub fn describe(store: &mut SeriesStore) {
        DESCRIPTIONS.iter().for_each(|description| store.describe(*description));
    }

    /// Takes the samples of a proxy in a datacenter.
    pub fn take(&mut self, proxy: &str, datacenter: &str, samples: &[LinkSample]) {
        if samples.is_empty() || (!self.seen.contains_key(proxy) && self.seen.len() >= PROXIES_MAX) {
            return;
        }
        let seen = self.seen.entry(proxy.to_owned()).or_default();
        for sample in samples.iter().take(DATACENTERS_MAX) {
            let new = LinkSample { datacenter: sample.datacenter.clone(), ..LinkSample::default() };
            let before = seen.insert(sample.datacenter.clone(), sample.clone()).unwrap_or(new);
            let (there, back) = ((datacenter, sample.datacenter.as_str()), (sample.datacenter.as_str(), datacenter));
            let sent = since(before.sent_bytes, sample.sent_bytes);
            let received = since(before.received_bytes, sample.received_bytes);
            add(&mut self.moved, there, sent, since(before.requests, sample.requests));
            add(&mut self.moved, back, received, 0);
        }
    }

    /// Writes everything; `circuits` are those declared now.
    pub fn write(&mut self, store: &mut SeriesStore, circuits: &[Circuit], now: UnixMs) {
        // The store counts what it refuses, and its exposition shows the counts.
        let mut put = |name: &str, labels: &[(&str, &str)], value: f64| {
            let _ = store.push(name, labels, now, value);
        };
        let mut by_pair: BTreeMap<(&str, &str), (String, f64)> = BTreeMap::new();
        for circuit in circuits {
            let capacity = circuit.bandwidth_mbps.0 as f64 * 1e6 / 8.0;
            put(CAPACITY, &[("circuit", circuit.name.as_str())], capacity);
            let [a, b] = [circuit.between[0].as_str(), circuit.between[1].as_str()];
            for pair in [(a, b), (b, a)] {
                let (name, sum) = by_pair.entry(pair).or_default();
                // Which of several circuits the bytes take, the network decides: they are one here.
                name.push_str(if name.is_empty() { "" } else { "," });
                name.push_str(circuit.name.as_str());
                *sum += capacity;
            }
        }
        for ((from, to), moved) in &mut self.moved {
            let rate = moved.rate(now);
            let circuit = by_pair.get(&(from.as_str(), to.as_str()));
            let mut labels = vec![("from", from.as_str()), ("to", to.as_str())];
            labels.extend(circuit.map(|(name, _)| ("circuit", name.as_str())));
            put(BYTES, &labels, moved.bytes as f64);
            put(REQUESTS, &labels, moved.requests as f64);
            if let Some((_, capacity)) = circuit.filter(|(_, capacity)| *capacity > 0.0) {
                put(USED, &labels, rate / capacity);
            }
        }
    }
}

fn add(moved: &mut BTreeMap<Pair, Moved>, (from, to): (&str, &str), bytes: u64, requests: u64) {
    let pair = (from.to_owned(), to.to_owned());
    if moved.len() >= PAIRS_MAX && !moved.contains_key(&pair) {
        return;
    }
    let moved = moved.entry(pair).or_default();
    moved.bytes += bytes;
    moved.requests += requests;
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Selector;
    use metrics::series::Limits;

    fn circuit(name: &str, mbps: u64) -> Circuit {
        let text = serde_json::json!({"name": name, "between": ["north", "east"], "bandwidth_mbps": mbps});
        serde_json::from_value(text).expect("a circuit")
    }

    fn sample(datacenter: &str, requests: u64, sent_bytes: u64, received_bytes: u64) -> LinkSample {
        LinkSample { datacenter: datacenter.into(), requests, sent_bytes, received_bytes }
    }

    #[test]
    fn requests_go_one_way_and_answers_the_other_and_circuits_fill() {
        let mut store = SeriesStore::new(Limits::default());
        Links::describe(&mut store);
        let mut links = Links::default();
        let circuits = [circuit("ne-1", 8), circuit("ne-2", 8)];
        links.take("p1", "north", &[sample("east", 10, 1_000, 5_000), sample("north", 1, 10, 10)]);
        links.take("p2", "east", &[sample("north", 4, 400, 0)]);
        links.write(&mut store, &circuits, 1_000);
        links.take("p1", "north", &[sample("east", 30, 201_000, 5_000)]);
        links.write(&mut store, &circuits, 2_000);
        // It was started anew: its counters begin at zero.
        links.take("p1", "north", &[sample("east", 5, 0, 100)]);
        links.write(&mut store, &circuits, 3_000);
        let newest = |name: &str, from: &str, to: &str| {
            let found = store.latest(&Selector::of(name).with("from", from).with("to", to));
            found.first().and_then(|series| series.points.last().copied()).map(|(_, value)| value)
        };
        assert_eq!(newest(BYTES, "north", "east"), Some(201_000.0));
        assert_eq!(newest(BYTES, "east", "north"), Some(5_000.0 + 400.0 + 100.0));
        assert_eq!(newest(REQUESTS, "north", "east"), Some(35.0));
        assert_eq!(newest(REQUESTS, "east", "north"), Some(4.0));
        assert_eq!(newest(BYTES, "north", "north"), Some(20.0));
        assert_eq!(newest(USED, "north", "east"), Some(200_000.0 / 2.0 / 2_000_000.0));
        assert_eq!(newest(USED, "north", "north"), None, "within a datacenter there is no circuit");
        let named = store.latest(&Selector::of(BYTES).with("circuit", "ne-1,ne-2"));
        assert_eq!(named.len(), 2, "both directions bear the circuits' names");
    }
}
