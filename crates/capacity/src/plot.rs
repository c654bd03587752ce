//! Pictures of a curve: SVG for pages, braille for terminals. Absent: interaction, which is the dashboard's.

use model::{Curve, CurvePoint, StressEnd};
use std::fmt::Write as _;

/// Size of the SVG, user units.
const WIDTH: f64 = 720.0;
/// Height of one of its two panels.
const PANEL: f64 = 220.0;
/// Room for labels left of, and around, a panel.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 56.0;
const TOP: f64 = 44.0;
const GAP: f64 = 56.0;
/// Points drawn at most; more are thinned evenly.
const POINTS_MAX: usize = 600;

/// A panel's place and the ranges it shows.
struct Panel {
    top: f64,
    x_max: f64,
    y_max: f64,
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value / self.x_max).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - (value / self.y_max).clamp(0.0, 1.0) * PANEL
    }
}

/// The curve as an SVG page of two panels: rates and p99 against time, and p99 against throughput.
pub fn svg(curve: &Curve) -> String {
    let points = thinned(&curve.points);
    let height = TOP + 2.0 * PANEL + GAP + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\" fill=\"#444\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    line(&mut out, &format!("<text x=\"{LEFT}\" y=\"18\" font-size=\"14\" fill=\"#111\">{}</text>", title(curve)));
    line(&mut out, &format!("<text x=\"{LEFT}\" y=\"34\">{}</text>", summary(curve)));
    let rate_max =
        nice(points.iter().map(|p| p.offered_rps.max(p.completed_rps)).fold(curve.capacity_rps.high, f64::max));
    let p99_max = nice(points.iter().map(|p| p.latency_p99_ms).fold(1.0, f64::max));
    over_time(&mut out, curve, &points, rate_max, p99_max);
    over_rate(&mut out, curve, &points, rate_max, p99_max);
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn title(curve: &Curve) -> String {
    format!("{} {} on {} ({})", curve.service, escaped(&curve.package_version), curve.host_type, curve.shape)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One line for people.
fn summary(curve: &Curve) -> String {
    let capacity = &curve.capacity_rps;
    let bound = if curve.ended == StressEnd::TrafficExhausted { "at least " } else { "" };
    format!(
        "capacity {bound}{:.1} rps ({:.1} to {:.1}), knee {:.1} rps, {:.2} ms CPU a request",
        capacity.value,
        capacity.low,
        capacity.high,
        curve.knee_rps,
        curve.cpu_us_per_request.value / 1_000.0
    )
}

fn thinned(points: &[CurvePoint]) -> Vec<CurvePoint> {
    points.iter().step_by(points.len().div_ceil(POINTS_MAX).max(1)).copied().collect()
}

/// The next of 1, 2, 5 × a power of ten.
fn nice(value: f64) -> f64 {
    let value = if value.is_finite() { value.max(1e-3) } else { 1.0 };
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|m| *m >= value * 0.999_999).unwrap_or(10.0 * power)
}

fn axes(out: &mut String, panel: &Panel, x_label: &str, y_label: &str) {
    for i in 0..=4 {
        let (x, y) = (panel.x_max * f64::from(i) / 4.0, panel.y_max * f64::from(i) / 4.0);
        line(
            out,
            &format!(
                "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#e4e4e4\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
                panel.y(y),
                WIDTH - RIGHT,
                LEFT - 6.0,
                panel.y(y) + 4.0,
                short(y)
            ),
        );
        let below = panel.top + PANEL + 14.0;
        line(out, &format!("<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", panel.x(x), short(x)));
    }
    let (middle, below) = ((LEFT + WIDTH - RIGHT) / 2.0, panel.top + PANEL + 28.0);
    line(out, &format!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{x_label}</text>"));
    line(out, &format!("<text x=\"{LEFT}\" y=\"{}\">{y_label}</text>", panel.top - 4.0));
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn polyline(out: &mut String, at: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let path: Vec<String> = at.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if !path.is_empty() {
        let path = path.join(" ");
        line(out, &format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"));
    }
}

fn over_time(out: &mut String, curve: &Curve, points: &[CurvePoint], rate_max: f64, p99_max: f64) {
    let end_s = points.last().map_or(1.0, |p| p.at_ms as f64 / 1_000.0);
    let rates = Panel { top: TOP + 12.0, x_max: nice(end_s), y_max: rate_max };
    let p99 = Panel { top: rates.top, x_max: rates.x_max, y_max: p99_max };
    let legend = "requests a second: <tspan fill=\"#9a9a9a\">offered</tspan>, <tspan fill=\"#1667c7\">completed</tspan>; \
                  <tspan fill=\"#d1495b\">p99 (right)</tspan>";
    axes(out, &rates, "seconds", legend);
    let (low, high) = (rates.y(curve.capacity_rps.low), rates.y(curve.capacity_rps.high));
    let wide = WIDTH - LEFT - RIGHT;
    line(
        out,
        &format!(
            "<rect x=\"{LEFT}\" y=\"{high:.1}\" width=\"{wide}\" height=\"{:.1}\" fill=\"#1667c7\" opacity=\"0.15\"/>",
            (low - high).max(1.0)
        ),
    );
    for i in 0..=4 {
        let at = p99_max * f64::from(i) / 4.0;
        let (x, y) = (WIDTH - RIGHT + 6.0, p99.y(at) + 4.0);
        line(out, &format!("<text x=\"{x}\" y=\"{y:.1}\" fill=\"#d1495b\">{} ms</text>", short(at)));
    }
    let time = |p: &CurvePoint| p.at_ms as f64 / 1_000.0;
    polyline(out, points.iter().map(|p| (rates.x(time(p)), p99.y(p.latency_p99_ms))), "#d1495b");
    polyline(out, points.iter().map(|p| (rates.x(time(p)), rates.y(p.offered_rps))), "#9a9a9a");
    polyline(out, points.iter().map(|p| (rates.x(time(p)), rates.y(p.completed_rps))), "#1667c7");
}

fn over_rate(out: &mut String, curve: &Curve, points: &[CurvePoint], rate_max: f64, p99_max: f64) {
    let panel = Panel { top: TOP + 12.0 + PANEL + GAP, x_max: rate_max, y_max: p99_max };
    axes(out, &panel, "requests completed a second", "p99, milliseconds");
    for (at, colour, name) in [(curve.knee_rps, "#e08e0b", "knee"), (curve.capacity_rps.value, "#1667c7", "capacity")] {
        let (x, y) = (panel.x(at), panel.top);
        line(
            out,
            &format!(
                "<path d=\"M{x:.1} {y}v{PANEL}\" stroke=\"{colour}\" stroke-dasharray=\"4 3\"/>\
                 <text x=\"{:.1}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
                x - 4.0,
                y + if name == "knee" { 12.0 } else { 26.0 }
            ),
        );
    }
    for p in points {
        let (x, y) = (panel.x(p.completed_rps), panel.y(p.latency_p99_ms));
        line(out, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"#d1495b\" opacity=\"0.5\"/>"));
    }
}

/// The curve in braille dots, `width` × `height` characters and some lines of text around them: rates against time.
pub fn text(curve: &Curve, width: usize, height: usize) -> String {
    let (width, height) = (width.clamp(20, 400), height.clamp(4, 100));
    let label = 8;
    let (columns, rows) = ((width - label) * 2, height * 4);
    let mut dots = vec![0_u8; (width - label) * height];
    let rate_max =
        nice(curve.points.iter().map(|p| p.offered_rps.max(p.completed_rps)).fold(curve.capacity_rps.value, f64::max));
    let end_ms = curve.points.last().map_or(1, |p| p.at_ms.max(1)) as f64;
    let mut set = |x: f64, y: f64| {
        let column = ((x * (columns - 1) as f64) as usize).min(columns - 1);
        let row = (rows - 1) - ((y.clamp(0.0, 1.0) * (rows - 1) as f64).round() as usize);
        dots[row / 4 * (width - label) + column / 2] |= BRAILLE[row % 4][column % 2];
    };
    for column in (0..columns).step_by(4) {
        set(column as f64 / columns as f64, curve.capacity_rps.value / rate_max);
    }
    for p in &curve.points {
        set(p.at_ms as f64 / end_ms, p.completed_rps / rate_max);
    }
    let mut out = format!("{}\n{}\n", title(curve), summary(curve));
    for (row, cells) in dots.chunks(width - label).enumerate() {
        let at = rate_max * (1.0 - row as f64 / (height - 1).max(1) as f64);
        let cells: String =
            cells.iter().map(|c| char::from_u32(0x2800 + u32::from(*c)).expect("a braille cell")).collect();
        writeln!(out, "{:>6} \u{2502}{cells}", short(at.round())).expect("writing to a string");
    }
    let axis = "\u{2500}".repeat(width - label);
    writeln!(out, "{:>6} \u{2514}{axis}", "rps").expect("writing to a string");
    let end = format!("{:.1} s", end_ms / 1_000.0);
    writeln!(out, "{:>7} 0{end:>1$}", "", width - label - 1).expect("writing to a string");
    out
}

/// Bits of a braille cell by row and column.
const BRAILLE: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
