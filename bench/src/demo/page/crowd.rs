//! The crowd at the entry over the night: requests a second, failures, and p99, with what was done meanwhile.

use super::escaped;
use loadgen::Second;
use std::fmt::Write as _;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 24.0;
/// Distances between times, in seconds.
const TIME_STEPS_S: [f64; 6] = [5.0, 10.0, 15.0, 30.0, 60.0, 120.0];
/// Width of a letter, about.
const LETTER: f64 = 6.0;

/// A line: its class, and its value each second.
type Line<'a> = (&'a str, &'a dyn Fn(&Second) -> f64);

/// Two plots: what was asked for, turned away and failed, and how long it took.
pub fn plots(seconds: &[Second], marks: &[(f64, String)]) -> String {
    let requests: [Line<'_>; 3] = [
        ("c0", &|second| second.offered as f64),
        ("c1", &|second| second.rejected as f64),
        ("bad", &|second| second.errors as f64),
    ];
    let latency: [Line<'_>; 2] = [("c1", &|second| second.p99_ms), ("c0", &|second| second.p50_ms)];
    let key = |class: &str, name: &str| format!("<span class=\"key k{class}\"></span>{name}");
    format!(
        "<figure><figcaption><b>The crowd at the entry</b> requests a second {}{}{}</figcaption>{}</figure>\n\
         <figure><figcaption><b>Latency as the crowd saw it</b> ms {}{}</figcaption>{}</figure>",
        key("0", "asked for"),
        key("1", "turned away"),
        key("bad", "failed"),
        plot(seconds, marks, &requests),
        key("1", "p99"),
        key("0", "p50"),
        plot(seconds, &[], &latency),
    )
}

/// Distance of the horizontal lines, 1, 2 or 5 times a power of ten.
fn step_of(most: f64) -> f64 {
    let rough = (most / 4.0).max(0.1);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

fn plot(seconds: &[Second], marks: &[(f64, String)], lines: &[Line<'_>]) -> String {
    let values = seconds.iter().flat_map(|second| lines.iter().map(move |(_, value)| value(second)));
    let step = step_of(values.filter(|value| value.is_finite()).fold(0.0, f64::max));
    let values = seconds.iter().flat_map(|second| lines.iter().map(move |(_, value)| value(second)));
    let top = (values.filter(|value| value.is_finite()).fold(step, f64::max) / step).ceil() * step;
    let end_s = seconds.last().map_or(1.0, |second| second.at_s.max(1.0));
    let x = |at_s: f64| LEFT + (at_s / end_s).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg class=crowd viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img>");
    let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a String takes all");
    for line in 0..=(top / step).round() as u32 {
        let value = f64::from(line) * step;
        let (at, right, label) = (y(value), WIDTH - RIGHT, LEFT - 6.0);
        put(format_args!("<path class=grid d=\"M{LEFT} {at:.1}H{right}\"/>"));
        put(format_args!("<text x={label} y={:.1} text-anchor=end>{value}</text>", at + 4.0));
    }
    let between = TIME_STEPS_S.into_iter().find(|step| end_s / step <= 14.0).unwrap_or(300.0);
    for count in 0..=(end_s / between) as u32 {
        let at_s = f64::from(count) * between;
        put(format_args!("<text x={:.1} y={} text-anchor=middle>{at_s} s</text>", x(at_s), HEIGHT - 8.0));
    }
    // Names alternate between two rows, and give way where both are taken.
    let mut free = [0.0, 0.0];
    for (at_s, name) in marks {
        let (at, bottom, wide) = (x(*at_s), HEIGHT - BOTTOM, name.chars().count() as f64 * LETTER);
        put(format_args!("<path class=mark d=\"M{at:.1} {TOP}V{bottom}\"/>"));
        let Some(row) = free.iter().position(|free| *free <= at && at + wide < WIDTH) else { continue };
        free[row] = at + wide + LETTER;
        put(format_args!("<text x={at:.1} y={}>{}</text>", 12.0 + 14.0 * row as f64, escaped(name)));
    }
    for (class, value) in lines {
        let points: Vec<String> =
            seconds.iter().map(|second| format!("{:.1},{:.1}", x(second.at_s), y(value(second)))).collect();
        put(format_args!("<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" ")));
    }
    svg.push_str("</svg>");
    svg
}
