//! Series that behave like those of a fleet, and the requests in which they are sent: the same bytes for every server.

use super::scenario::Scenario;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a series behaves; in the order of the mix's weights.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Requests,
    Buckets,
    Seconds,
    Bytes,
    Wandering,
    Pages,
    Percent,
    Latency,
    Noise,
    Constant,
}

const KINDS: [Kind; 10] = [
    Kind::Requests,
    Kind::Buckets,
    Kind::Seconds,
    Kind::Bytes,
    Kind::Wandering,
    Kind::Pages,
    Kind::Percent,
    Kind::Latency,
    Kind::Noise,
    Kind::Constant,
];

const NAMES: [&str; 10] = [
    "http_requests_total",
    "http_request_duration_seconds_bucket",
    "process_cpu_seconds_total",
    "node_network_transmit_bytes_total",
    "go_goroutines",
    "process_resident_memory_bytes",
    "node_cpu_busy_percent",
    "rpc_latency_p99_seconds",
    "cache_hit_ratio",
    "process_open_fds_max",
];

struct Series {
    kind: Kind,
    /// Level or sum.
    at: f64,
    scale: f64,
    /// Its labels as remote write has them.
    labels: Vec<u8>,
}

/// Makes requests, one after another.
pub struct Samples {
    series: Vec<Series>,
    random: ChaCha8Rng,
    scenario: Scenario,
    begin_ms: u64,
    plain: Vec<u8>,
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn field(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn labels(kind: usize, target: u32, number: u32) -> Vec<u8> {
    let name = NAMES[kind];
    let instance = format!("10.{}.{}.{}:9100", target / 62_500 % 250, target / 250 % 250, target % 250);
    let (service, zone) = (format!("service-{}", target % 37), format!("dc-{}", target % 3));
    // The buckets of one histogram share everything but their bound; any other series is one of its own.
    let handler = if KINDS[kind] == Kind::Buckets { number / 12 } else { number };
    let (handler, code) = (format!("/api/v1/thing/{handler}"), ["200", "404", "500"][handler as usize % 3]);
    let le =
        ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"][number as usize % 12];
    let pod = format!("{service}-{:08x}-{:05x}", target.wrapping_mul(2_654_435_761), target);
    let mut pairs =
        vec![("__name__", name), ("instance", &instance), ("job", &service), ("pod", &pod), ("zone", &zone)];
    pairs.extend([("cluster", "production-1"), ("namespace", "red-packet"), ("handler", &handler), ("code", code)]);
    if KINDS[kind] == Kind::Buckets {
        pairs.push(("le", le));
    }
    pairs.sort_unstable();
    let mut to = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        field(&mut label, 0x0a, name.as_bytes());
        field(&mut label, 0x12, value.as_bytes());
        field(&mut to, 0x0a, &label);
    }
    to
}

impl Samples {
    /// `count` series whose first sample lies at `begin_ms`.
    pub fn new(scenario: &Scenario, count: u32, begin_ms: u64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let weights = scenario.mix.weights();
        let sum: u32 = weights.iter().sum();
        let series = (0..count).map(|number| {
            let mut at = random.random_range(0..sum);
            let kind = weights.iter().position(|weight| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let kind = kind.expect("the weights sum up to the range");
            let (target, within) = (number / scenario.target_series, number % scenario.target_series);
            // Rates and sizes of a fleet spread over some orders of magnitude.
            let scale = 10_f64.powf(random.random_range(-1.0..3.0));
            let at = match KINDS[kind] {
                Kind::Requests | Kind::Buckets | Kind::Bytes => (scale * random.random_range(1e3..1e6)).floor(),
                Kind::Pages => (random.random_range(1e3..1e6_f64)).floor(),
                Kind::Noise => random.random_range(0.0..1.0),
                _ => (scale * 10.0).floor(),
            };
            Series { kind: KINDS[kind], at, scale, labels: labels(kind, target, within) }
        });
        let series = series.collect();
        Self { series, random, scenario: scenario.clone(), begin_ms, plain: Vec::new() }
    }

    /// The compressed requests of one tick, each given to `send`.
    pub fn tick(&mut self, tick: u32, mut send: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Self { series, random, scenario, begin_ms, plain } = self;
        let (mut number, mut time_ms) = (0_u32, 0);
        for request in series.chunks_mut(scenario.request_samples as usize) {
            plain.clear();
            for series in request {
                if number % scenario.target_series == 0 {
                    let jitter = random.random_range(0..=scenario.jitter_ms);
                    let offset = u64::from(number / scenario.target_series) * 37 % (scenario.interval_ms / 2);
                    time_ms = *begin_ms + u64::from(tick) * scenario.interval_ms + offset + jitter;
                }
                number += 1;
                let value = next(series, random);
                write(plain, &series.labels, time_ms, value);
            }
            send(&snap::raw::Encoder::new().compress_vec(plain)?)?;
        }
        Ok(())
    }
}

fn write(to: &mut Vec<u8>, labels: &[u8], time_ms: u64, value: f64) {
    let mut sample = [0_u8; 16];
    sample[0] = 0x09;
    sample[1..9].copy_from_slice(&value.to_le_bytes());
    sample[9] = 0x10;
    let (mut length, mut rest) = (10, time_ms);
    while rest >= 0x80 {
        sample[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    sample[length] = rest as u8;
    length += 1;
    to.push(0x0a);
    varint(to, (labels.len() + 2 + length) as u64);
    to.extend_from_slice(labels);
    to.push(0x12);
    to.push(length as u8);
    to.extend_from_slice(&sample[..length]);
}

/// About a normal distribution: the sum of four even ones.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    (0..4).map(|_| random.random_range(-1.0..1.0_f64)).sum::<f64>() * 0.866
}

fn next(series: &mut Series, random: &mut ChaCha8Rng) -> f64 {
    let scale = series.scale;
    match series.kind {
        Kind::Requests | Kind::Buckets => {
            let restart = series.kind == Kind::Requests && random.random_range(0..5_000) == 0;
            // A Poisson's spread around the rate.
            let step = (scale * 6.0 + (scale * 6.0).sqrt() * normal(random)).max(0.0).round();
            series.at = if restart { 0.0 } else { series.at + step };
            series.at
        }
        Kind::Seconds => {
            series.at += (scale.min(64.0) * (0.6 + 0.05 * normal(random))).max(0.0);
            (series.at * 100.0).round() / 100.0
        }
        Kind::Bytes => {
            series.at += (scale * 9_000.0 * (1.0 + 0.2 * normal(random))).max(0.0).round();
            series.at
        }
        Kind::Wandering => {
            if random.random_range(0..2) == 0 {
                series.at = (series.at + (scale.sqrt() * normal(random)).round()).max(0.0);
            }
            series.at
        }
        Kind::Pages => {
            if random.random_range(0..3) > 0 {
                series.at = (series.at + (20.0 * normal(random)).round()).max(100.0);
            }
            series.at * 4_096.0
        }
        Kind::Percent => ((40.0 + 6.0 * normal(random)).clamp(0.0, 100.0) * 100.0).round() / 100.0,
        Kind::Latency => {
            let tail = if random.random_range(0..50) == 0 { 4.0 } else { 1.0 };
            ((0.02 * tail * (1.0 + 0.1 * normal(random))).max(0.001) * 1e6).round() / 1e6
        }
        Kind::Noise => {
            series.at = (series.at + 0.01 * normal(random)).clamp(0.0, 1.0);
            series.at
        }
        Kind::Constant => series.at,
    }
}
