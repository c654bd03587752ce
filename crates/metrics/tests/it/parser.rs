//! A parser of the Prometheus text format (0.0.4) that accepts only what a careful exporter writes: each metric in one
//! block, HELP and TYPE first, no sample twice, counters named `_total`, histograms cumulative and complete.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Metric {
    pub kind: String,
    pub help: String,
    /// Name, labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

fn name(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    match text.as_bytes().first() {
        Some(first) if !first.is_ascii_digit() && end > 0 => Ok(text.split_at(end)),
        _ => Err(format!("no name at {text:?}")),
    }
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut rest = text.strip_prefix('"').ok_or(format!("no quote at {text:?}"))?.chars();
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('"') => return Ok((value, rest.as_str())),
            Some('\\') => match rest.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('\\' | '"')) => value.push(c),
                other => return Err(format!("escape {other:?} in {text:?}")),
            },
            Some(c) => value.push(c),
            None => return Err(format!("no end of {text:?}")),
        }
    }
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let (sample, mut rest) = name(line)?;
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = name(rest)?;
            let (value, after) = quoted(after.strip_prefix('=').ok_or(format!("no = in {line:?}"))?)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("{label} twice in {line:?}"));
            }
            match after.as_bytes().first() {
                Some(b',') => rest = &after[1..],
                Some(b'}') => {
                    rest = &after[1..];
                    break;
                }
                _ => return Err(format!("labels do not end in {line:?}")),
            }
        }
    }
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok()).ok_or(format!("no value in {line:?}"))?;
    Ok((sample.to_owned(), labels, value))
}

/// Bounds with their counts, sum, and count of a histogram.
type Parts = (Vec<(f64, f64)>, Option<f64>, Option<f64>);

fn check_histogram(metric: &str, samples: &[(String, Labels, f64)]) -> Result<(), String> {
    let mut series: BTreeMap<Labels, Parts> = BTreeMap::new();
    for (name, labels, value) in samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let at = series.entry(labels).or_default();
        match (name.strip_prefix(metric), bound) {
            (Some("_bucket"), Some(bound)) => {
                let bound = bound.replace("+Inf", "inf").parse().map_err(|_| format!("bound {bound:?}"))?;
                at.0.push((bound, *value));
            }
            (Some("_sum"), None) => at.1 = Some(*value),
            (Some("_count"), None) => at.2 = Some(*value),
            _ => return Err(format!("{name} does not belong to histogram {metric}")),
        }
    }
    for (labels, (buckets, sum, count)) in series {
        let rising = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let (bound, last) = buckets.last().copied().ok_or(format!("{metric} {labels:?} has no bucket"))?;
        if !rising || bound != f64::INFINITY || Some(last) != count || sum.is_none() {
            return Err(format!("{metric} {labels:?} is no histogram"));
        }
    }
    Ok(())
}

pub fn parse(text: &str) -> Result<BTreeMap<String, Metric>, String> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut seen = BTreeSet::new();
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (metric, help) = rest.split_once(' ').ok_or(format!("no help in {line:?}"))?;
            let new = Metric { kind: String::new(), help: help.to_owned(), samples: vec![] };
            if metrics.insert(metric.to_owned(), new).is_some() {
                return Err(format!("{metric} in two blocks"));
            }
            current = Some(metric.to_owned());
            continue;
        }
        let of = current.clone().ok_or(format!("{line:?} before any HELP"))?;
        let metric = metrics.get_mut(&of).expect("inserted with its help");
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (named, kind) = rest.split_once(' ').ok_or(format!("no type in {line:?}"))?;
            let known = ["counter", "gauge", "histogram"].contains(&kind);
            let total = named.ends_with("_total") == (kind == "counter");
            if named != of || !known || !total || !metric.kind.is_empty() || !metric.samples.is_empty() {
                return Err(format!("type out of place: {line:?}"));
            }
            metric.kind = kind.to_owned();
            continue;
        }
        let (name, labels, value) = sample(line)?;
        let fits = if metric.kind == "histogram" { name.starts_with(&of) } else { name == of };
        if metric.kind.is_empty() || !fits || !seen.insert((name.clone(), labels.clone())) {
            return Err(format!("sample out of place or twice: {line:?}"));
        }
        metric.samples.push((name, labels, value));
    }
    for (name, metric) in &metrics {
        if metric.samples.is_empty() {
            return Err(format!("{name} has no sample"));
        }
        if metric.kind == "histogram" {
            check_histogram(name, &metric.samples)?;
        }
    }
    Ok(metrics)
}

#[test]
fn the_parser_is_strict() {
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"\\\"\\\\\\n\"} 1\n";
    assert_eq!(parse(good).expect("good")["a_total"].samples[0].1["b"], "\"\\\n");
    let bad = [
        "a 1\n",
        "# HELP a x\na 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"1} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"1\"}\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 1\na_count 2\n",
    ];
    for text in bad {
        assert!(parse(text).is_err(), "accepted: {text}");
    }
}
