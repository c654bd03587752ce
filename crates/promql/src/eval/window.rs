//! Functions over the samples of one window. Sources: Prometheus' documentation of `rate` and its fellows.

use super::ABSENT;
use super::aggregate::quantile;
use crate::source::Sample;

/// The samples of one series within one window, both ends included; at least one.
pub(super) struct Window<'a> {
    pub samples: &'a [Sample],
    /// For each sample, what counters lost by resets up to it.
    pub resets: &'a [f64],
    pub start: i64,
    pub end: i64,
    /// Time of the step, before `offset` and `@`.
    pub step_ms: i64,
    pub range_ms: i64,
    pub parameter: f64,
}

/// What a counter lost by resets, summed up to each sample.
pub(super) fn resets(samples: &[Sample]) -> Vec<f64> {
    let mut lost = 0.0;
    let mut before = f64::NEG_INFINITY;
    let sum = |(_, value): &Sample| {
        if *value < before {
            lost += before;
        }
        before = *value;
        lost
    };
    samples.iter().map(sum).collect()
}

/// Whether a function looks at the ends of its window only.
pub(super) fn is_cheap(name: &str) -> bool {
    matches!(
        name,
        "rate" | "increase" | "delta" | "irate" | "idelta" | "last_over_time" | "count_over_time" | "present_over_time"
    )
}

/// The function of this name.
pub(super) fn function(name: &str) -> fn(&Window<'_>) -> f64 {
    match name {
        "rate" => |w| extrapolated(w, true, true),
        "increase" => |w| extrapolated(w, true, false),
        "delta" => |w| extrapolated(w, false, false),
        "irate" => |w| instant(w, true),
        "idelta" => |w| instant(w, false),
        "deriv" => |w| if w.samples.len() < 2 { ABSENT } else { line(w.samples, w.samples[0].0).0 },
        "predict_linear" => |w| {
            if w.samples.len() < 2 {
                return ABSENT;
            }
            let (slope, intercept) = line(w.samples, w.step_ms);
            slope * w.parameter + intercept
        },
        "changes" => |w| pairs(w, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        "resets" => |w| pairs(w, |a, b| b < a),
        "count_over_time" => |w| w.samples.len() as f64,
        "present_over_time" => |_| 1.0,
        "last_over_time" => |w| w.samples[w.samples.len() - 1].1,
        "sum_over_time" => |w| sum(w.samples.iter().map(|(_, value)| *value)),
        "avg_over_time" => |w| mean(w.samples),
        "min_over_time" => {
            |w| w.samples.iter().fold(f64::NAN, |least, (_, v)| if *v < least || least.is_nan() { *v } else { least })
        }
        "max_over_time" => {
            |w| w.samples.iter().fold(f64::NAN, |most, (_, v)| if *v > most || most.is_nan() { *v } else { most })
        }
        "stdvar_over_time" => |w| variance(w.samples),
        "stddev_over_time" => |w| variance(w.samples).sqrt(),
        "quantile_over_time" => {
            |w| quantile(w.parameter, &mut w.samples.iter().map(|(_, value)| *value).collect::<Vec<_>>())
        }
        other => unreachable!("{other} is in the table of functions, so it is here"),
    }
}

/// The change over the window, stretched to its ends as far as the samples' own spacing allows.
fn extrapolated(window: &Window<'_>, counter: bool, per_second: bool) -> f64 {
    let samples = window.samples;
    let [first, .., last] = samples else { return ABSENT };
    let mut change = last.1 - first.1;
    if counter {
        let lost = window.resets[samples.len() - 1] - window.resets[0];
        // Infinities among earlier samples spoil the difference of sums: then this window's own are added.
        change += if lost.is_finite() { lost } else { *resets(samples).last().expect("there are two samples") };
    }
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let mut to_start = seconds(first.0 - window.start);
    let to_end = seconds(window.end - last.0);
    let sampled = seconds(last.0 - first.0);
    let spacing = sampled / (samples.len() - 1) as f64;
    if counter && change > 0.0 && first.1 >= 0.0 {
        // A counter cannot have been below zero.
        to_start = to_start.min(sampled * (first.1 / change));
    }
    let near = spacing * 1.1;
    let stretch = |gap: f64| if gap < near { gap } else { spacing / 2.0 };
    let mut factor = (sampled + stretch(to_start) + stretch(to_end)) / sampled;
    if per_second {
        factor /= seconds(window.range_ms);
    }
    change * factor
}

fn instant(window: &Window<'_>, counter: bool) -> f64 {
    let [.., before, last] = window.samples else { return ABSENT };
    if !counter {
        return last.1 - before.1;
    }
    let change = if last.1 < before.1 { last.1 } else { last.1 - before.1 };
    change / ((last.0 - before.0) as f64 / 1_000.0)
}

fn pairs(window: &Window<'_>, counts: impl Fn(f64, f64) -> bool) -> f64 {
    window.samples.windows(2).filter(|pair| counts(pair[0].1, pair[1].1)).count() as f64
}

/// A sum that keeps what rounding would lose (Neumaier).
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = sum + value;
        if !next.is_infinite() {
            lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        }
        sum = next;
    }
    if sum.is_infinite() { sum } else { sum + lost }
}

fn mean(samples: &[Sample]) -> f64 {
    sum(samples.iter().map(|(_, value)| *value)) / samples.len() as f64
}

/// Welford's.
fn variance(samples: &[Sample]) -> f64 {
    let (mut mean, mut squares) = (0.0, 0.0);
    for (at, (_, value)) in samples.iter().enumerate() {
        let off = value - mean;
        mean += off / (at + 1) as f64;
        squares += off * (value - mean);
    }
    squares / samples.len() as f64
}

/// Slope and value at a time of the line that fits best.
fn line(samples: &[Sample], at: i64) -> (f64, f64) {
    let n = samples.len() as f64;
    let first = samples[0].1;
    if samples.iter().all(|(_, value)| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let x = |time: i64| (time - at) as f64 / 1_000.0;
    let sum_x = sum(samples.iter().map(|(time, _)| x(*time)));
    let sum_y = sum(samples.iter().map(|(_, value)| *value));
    let sum_xy = sum(samples.iter().map(|(time, value)| x(*time) * value));
    let sum_xx = sum(samples.iter().map(|(time, _)| x(*time) * x(*time)));
    let slope = (sum_xy - sum_x * sum_y / n) / (sum_xx - sum_x * sum_x / n);
    (slope, sum_y / n - slope * sum_x / n)
}
