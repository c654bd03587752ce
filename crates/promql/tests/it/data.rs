//! Series with what real ones have: resets, gaps, uneven times, NaN, infinities, buckets, ends.

use promql::{Labels, Matcher, Refused, Sample, Source, Visit};
use std::fmt::Write;

pub const START_MS: i64 = 1_700_000_000_000;
const SECONDS: i64 = 1_800;

pub struct Held(Vec<(Labels, Vec<Sample>)>);

/// A small generator of its own: the same series in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn share(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

fn labels(name: &str, pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Labels::new(pairs.chain([(promql::NAME.into(), name.into())]))
}

impl Held {
    pub fn made() -> Self {
        let mut held = Vec::new();
        let mut dice = Dice(7);
        for (n, instance) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let job = if n < 2 { "pay" } else { "lottery" };
            for code in ["200", "500"] {
                let name = labels("requests_total", &[("instance", instance), ("job", job), ("code", code)]);
                held.push((name, counter(&mut dice, 1_000 + 5_000 * n as i64)));
            }
            held.push((labels("memory_bytes", &[("instance", instance), ("job", job)]), gauge(&mut dice, 5_000)));
            let version = labels("build_info", &[("instance", instance), ("version", if n == 3 { "2" } else { "1" })]);
            held.push((version, (0..SECONDS / 15).map(|at| (START_MS + at * 15_000, 1.0)).collect()));
            buckets(&mut dice, instance, &mut held);
        }
        held.push((labels("odd", &[("kind", "nan")]), odd(f64::NAN, 0.0 / 8.0)));
        held.push((labels("odd", &[("kind", "inf")]), odd(f64::INFINITY, 1.0 / 8.0)));
        held.push((labels("odd", &[("kind", "minus")]), odd(f64::NEG_INFINITY, 2.0 / 8.0)));
        held.push((labels("odd", &[("kind", "plain")]), odd(0.5, 3.0 / 8.0)));
        // Gone after ten minutes, back after twenty.
        let flapping = |at: &i64| !(600..1_200).contains(at);
        let there =
            (0..SECONDS).step_by(10).filter(flapping).map(|at| (START_MS + at * 1_000, at as f64 / 7.0)).collect();
        held.push((labels("flapping", &[("job", "pay")]), there));
        held.push((labels("constant", &[]), (0..SECONDS / 10).map(|at| (START_MS + at * 10_000, 42.0)).collect()));
        Self(held)
    }

    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        for (labels, samples) in &self.0 {
            let name = labels.get(promql::NAME);
            let others: Vec<String> =
                labels.iter().filter(|(n, _)| *n != promql::NAME).map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            for (at, value) in samples {
                let value = if value.is_nan() { "NaN".to_owned() } else { value.to_string().replace("inf", "Inf") };
                let (seconds, ms) = (at / 1_000, at % 1_000);
                writeln!(text, "{name}{{{}}} {value} {seconds}.{ms:03}", others.join(",")).expect("a String takes all");
            }
        }
        text + "# EOF\n"
    }
}

fn counter(dice: &mut Dice, spacing: i64) -> Vec<Sample> {
    let mut value = dice.below(1_000) as f64;
    let mut at = START_MS + dice.below(900) as i64;
    let mut samples = Vec::new();
    while at < START_MS + SECONDS * 1_000 {
        samples.push((at, value));
        value = if dice.below(150) == 0 { dice.below(5) as f64 } else { value + dice.below(40) as f64 };
        // Uneven, and now and then a scrape is missed.
        at += spacing + dice.below(200) as i64 - 100 + if dice.below(40) == 0 { spacing * 3 } else { 0 };
    }
    samples
}

fn gauge(dice: &mut Dice, spacing: i64) -> Vec<Sample> {
    let mut value = 1e6 * dice.share();
    let at = |n: i64| START_MS + n * spacing;
    (0..SECONDS * 1_000 / spacing)
        .map(|n| {
            value += 1e5 * (dice.share() - 0.5);
            (at(n), value)
        })
        .collect()
}

/// Of equal values it is open which are among the best: these differ.
fn odd(value: f64, apart: f64) -> Vec<Sample> {
    (0..SECONDS / 10)
        .map(|n| (START_MS + n * 10_000, if n % 7 == 3 { value } else { n as f64 - 40.0 + apart }))
        .collect()
}

fn buckets(dice: &mut Dice, instance: &str, held: &mut Vec<(Labels, Vec<Sample>)>) {
    let bounds = ["0.01", "0.05", "0.1", "0.5", "1", "+Inf"];
    let mut counts = [0.0_f64; 6];
    let mut series: [Vec<Sample>; 6] = Default::default();
    for n in 0..SECONDS / 10 {
        for _ in 0..dice.below(50) {
            let lands = (dice.share() * dice.share() * 6.0) as usize;
            counts.iter_mut().skip(lands).for_each(|count| *count += 1.0);
        }
        for (samples, count) in series.iter_mut().zip(counts) {
            samples.push((START_MS + 3_000 + n * 10_000, count));
        }
    }
    for (bound, samples) in bounds.into_iter().zip(series) {
        held.push((labels("latency_seconds_bucket", &[("instance", instance), ("le", bound)]), samples));
    }
}

impl Source for Held {
    fn select(&self, matchers: &[Matcher], from: i64, to: i64, visit: Visit<'_>) -> Result<(), Refused> {
        for (labels, samples) in self.0.iter().filter(|(labels, _)| Matcher::all(matchers, labels)) {
            let low = samples.partition_point(|(at, _)| *at < from);
            let high = samples.partition_point(|(at, _)| *at <= to);
            visit(labels.clone(), &samples[low..high.max(low)])?;
        }
        Ok(())
    }
}
