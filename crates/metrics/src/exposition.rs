//! The Prometheus text format (version 0.0.4): the described metrics' newest values, and how the store itself is.

use crate::Store;
use crate::series::{Buckets, Family, Kind, LATENCY_BOUNDS_US, Labels};
use std::fmt::Write;

fn escaped_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escaped_value(text: &str) -> String {
    escaped_help(text).replace('"', "\\\"")
}

fn head(to: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(to, "# HELP {name} {}\n# TYPE {name} {kind}", escaped_help(help)).expect("a String takes all");
}

fn line(to: &mut String, name: &str, labels: &Labels, bound: Option<&str>, value: impl std::fmt::Display) {
    let known = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped_value(value)));
    let all: Vec<_> = known.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    let labels = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
    writeln!(to, "{name}{labels} {value}").expect("a String takes all");
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn histogram(to: &mut String, name: &str, labels: &Labels, newest: &Buckets) {
    let bucket = format!("{name}_bucket");
    for (bound, up_to) in LATENCY_BOUNDS_US.iter().zip(&newest.up_to) {
        line(to, &bucket, labels, Some(&seconds(*bound).to_string()), up_to);
    }
    line(to, &bucket, labels, Some("+Inf"), newest.count);
    line(to, &format!("{name}_sum"), labels, None, seconds(newest.sum_us));
    line(to, &format!("{name}_count"), labels, None, newest.count);
}

/// Writes all series, and how the store itself is.
pub(crate) fn write(families: &[Family<'_>], store: &Store) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.series.is_empty() || !family.histograms.is_empty()) {
        let name = family.description.name;
        let kind = match family.description.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        head(&mut text, name, kind, family.description.help);
        for (labels, value) in &family.series {
            line(&mut text, name, labels, None, value);
        }
        for (labels, newest) in &family.histograms {
            histogram(&mut text, name, labels, newest);
        }
    }
    about(&mut text, store);
    text
}

/// How the store itself is.
fn about(to: &mut String, store: &Store) {
    for (name, kind, help, value) in store.about() {
        head(to, name, kind, help);
        line(to, name, &Vec::new(), None, value);
    }
    let name = "springtide_points_refused_total";
    head(to, name, "counter", "Points that the series store refused, by reason.");
    for (reason, count) in store.refused() {
        line(to, name, &vec![("reason".into(), reason.into())], None, count);
    }
}
