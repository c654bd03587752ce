//! Pictures of a curve: SVG for pages, braille for terminals. Absent: interaction, which is the dashboard's.

use model::{Curve, CurvePoint, StressEnd};

/// Size of the SVG, user units.
const WIDTH: f64 = 720.0;
/// Height of one of its two panels.
const PANEL: f64 = 220.0;
/// Room for labels left of, and around, a panel.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 56.0;
const TOP: f64 = 44.0;
const GAP: f64 = 56.0;
/// Points drawn at most; more are drawn together, a few as one.
const POINTS_MAX: usize = 120;

/// A panel's place and the ranges it shows.
struct Panel {
    top: f64,
    x_max: f64,
    y_max: f64,
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        LEFT + part(value, self.x_max) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - part(value, self.y_max) * PANEL
    }
}

/// `value` as a part of `most`, 0 to 1; what is no number counts as 0.
fn part(value: f64, most: f64) -> f64 {
    let part = value / most;
    if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
}

/// The curve as an SVG page of two panels: rates and p99 against time, and p99 against throughput.
pub fn svg(curve: &Curve) -> String {
    let points = thinned(&curve.points);
    let height = TOP + 2.0 * PANEL + GAP + 56.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\" fill=\"#444\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    line(
        &mut out,
        &format!("<text x=\"{LEFT}\" y=\"18\" font-size=\"14\" fill=\"#111\">{}</text>", escaped(&title(curve))),
    );
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
    format!("{} {} on {} ({})", curve.service, curve.package_version, curve.host_type, curve.shape)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One line for people.
fn summary(curve: &Curve) -> String {
    let capacity = &curve.capacity_rps;
    let bound = if curve.ended == StressEnd::TrafficExhausted { "at least " } else { "" };
    let upper = if capacity.high.is_finite() { format!("{:.1}", capacity.high) } else { "unknown".to_owned() };
    format!(
        "capacity {bound}{:.1} rps ({:.1} to {upper}), knee {:.1} rps, {:.2} ms CPU a request",
        capacity.value,
        capacity.low,
        curve.knee_rps,
        curve.cpu_us_per_request.value / 1_000.0
    )
}

/// Neighbours drawn as one: their mean rates, and the worst of their p99.
fn thinned(points: &[CurvePoint]) -> Vec<CurvePoint> {
    let together = |few: &[CurvePoint]| {
        let mean = |of: fn(&CurvePoint) -> f64| few.iter().map(of).sum::<f64>() / few.len() as f64;
        CurvePoint {
            at_ms: few[few.len() / 2].at_ms,
            offered_rps: mean(|p| p.offered_rps),
            completed_rps: mean(|p| p.completed_rps),
            latency_mean_ms: mean(|p| p.latency_mean_ms),
            latency_p99_ms: few.iter().map(|p| p.latency_p99_ms).fold(0.0, f64::max),
            in_flight: mean(|p| p.in_flight),
            cpu_cores: mean(|p| p.cpu_cores),
        }
    };
    points.chunks(points.len().div_ceil(POINTS_MAX).max(1)).map(together).collect()
}

/// Ends of axes: their quarters are round.
const ENDS: [f64; 10] = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];

/// The next round end of an axis.
fn nice(value: f64) -> f64 {
    let value = if value.is_finite() { value.max(1e-3) } else { 1.0 };
    let power = 10_f64.powf(value.log10().floor());
    ENDS.iter().map(|m| m * power).find(|m| *m >= value * 0.999_999).unwrap_or(10.0 * power)
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

/// Columns left of a terminal panel.
const LABEL: usize = 8;

/// The curve in braille dots: completed requests a second above, with the capacity dashed, and p99 below; `width` and
/// `height` in characters, the lines of text around the panels apart.
pub fn text(curve: &Curve, width: usize, height: usize) -> String {
    let (width, height) = (width.clamp(24, 400) - LABEL, height.clamp(6, 100));
    let points = thinned(&curve.points);
    let below = height / 3;
    let capacity = curve.capacity_rps.value;
    let rates: Vec<(f64, f64)> = points.iter().map(|p| (p.at_ms as f64, p.completed_rps)).collect();
    let p99: Vec<(f64, f64)> = points.iter().map(|p| (p.at_ms as f64, p.latency_p99_ms)).collect();
    let mut out = format!("{}\n{}\n", title(curve), summary(curve));
    dots(&mut out, "rps", &rates, Some(capacity), (width, height - below));
    dots(&mut out, "p99 ms", &p99, None, (width, below));
    let end = format!("{:.1} s", points.last().map_or(0, |p| p.at_ms) as f64 / 1_000.0);
    line(&mut out, &format!("{:>LABEL$}{end:>1$}", "0", width));
    out
}

/// One panel of dots with its labels.
fn dots(out: &mut String, unit: &str, points: &[(f64, f64)], dashed: Option<f64>, (width, height): (usize, usize)) {
    let (columns, rows) = (width * 2, height * 4);
    let y_max = nice(points.iter().map(|p| p.1).fold(dashed.unwrap_or(1.0), f64::max));
    let x_max = points.last().map_or(1.0, |p| p.0.max(1.0));
    let mut cells = vec![0_u8; width * height];
    let mut set = |column: usize, value: f64| {
        let row = rows - 1 - (part(value, y_max) * (rows - 1) as f64).round() as usize;
        cells[row / 4 * width + column / 2] |= BRAILLE[row % 4][column % 2];
    };
    for column in (0..columns).filter(|_| dashed.is_some()).step_by(4) {
        set(column, dashed.unwrap_or(0.0));
    }
    for pair in points.windows(2) {
        let column = |x: f64| (part(x, x_max) * (columns - 1) as f64).round() as usize;
        let (from, to) = (column(pair[0].0), column(pair[1].0));
        for at in from..=to {
            let along = (at - from) as f64 / (to - from).max(1) as f64;
            set(at, pair[0].1 + (pair[1].1 - pair[0].1) * along);
        }
    }
    for (row, of_row) in cells.chunks(width).enumerate() {
        let label = match row {
            0 => short(y_max),
            row if row == height - 1 => unit.to_owned(),
            _ => String::new(),
        };
        let drawn: String = of_row.iter().filter_map(|cell| char::from_u32(BRAILLE_BLANK + u32::from(*cell))).collect();
        line(out, &format!("{label:>6} \u{2502}{drawn}"));
    }
}

/// The braille cell without a dot.
const BRAILLE_BLANK: u32 = 0x2800;
/// Bits of a braille cell by row and column.
const BRAILLE: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

#[cfg(test)]
mod tests;
