//! Pictures of a curve: SVG for pages, braille for terminals. Absent: interaction, which is the dashboard's.

mod scale;
mod terminal;

pub use terminal::text;

use model::{BindingResource, Curve, CurvePoint, StressEnd};
use scale::Scale;

/// Size of the SVG, user units.
const WIDTH: f64 = 720.0;
/// Height of one of its two panels.
const PANEL: f64 = 220.0;
/// Room for labels left of, and around, a panel.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 64.0;
const TOP: f64 = 44.0;
const GAP: f64 = 60.0;
/// Points drawn at most; more are drawn together, a few as one.
const POINTS_MAX: usize = 120;
/// The same for lines over time: at ten samples a second, single requests would make them jump.
const LINE_POINTS_MAX: usize = 40;

/// Colours, for light and for dark pages; the class keeps them from the page around.
const STYLE: &str = "<style>\
.st-curve{font:11px system-ui,sans-serif}\
.st-curve .bg{fill:#fff}.st-curve text{fill:#555}.st-curve .h{fill:#111;font-size:14px}\
.st-curve .grid{stroke:#e4e4e4}.st-curve .line{fill:none;stroke-width:1.5}.st-curve .dash{fill:none;stroke-dasharray:4 3}\
.st-curve .done{stroke:#1667c7}.st-curve .offered{stroke:#9a9a9a}.st-curve .p99{stroke:#d1495b}.st-curve .knee{stroke:#b86f00}\
.st-curve .t-done{fill:#1667c7}.st-curve .t-offered{fill:#8a8a8a}.st-curve .t-p99{fill:#d1495b}.st-curve .t-knee{fill:#b86f00}\
.st-curve .dot{fill:#d1495b;opacity:.55}.st-curve .band{fill:#1667c7;opacity:.15}\
@media (prefers-color-scheme:dark){.st-curve .bg{fill:#191a1d}.st-curve text{fill:#9a9fa8}.st-curve .h{fill:#edeef0}\
.st-curve .grid{stroke:#363a40}.st-curve .done{stroke:#70b8ff}.st-curve .t-done{fill:#70b8ff}.st-curve .band{fill:#70b8ff}\
.st-curve .p99{stroke:#ff8a94}.st-curve .t-p99,.st-curve .dot{fill:#ff8a94}\
.st-curve .knee{stroke:#f5b061}.st-curve .t-knee{fill:#f5b061}}\
</style>";

/// A panel's place and the ranges it shows.
struct Panel {
    top: f64,
    across: Scale,
    up: Scale,
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.part(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - self.up.part(value) * PANEL
    }

    fn bottom(&self) -> f64 {
        self.top + PANEL
    }
}

/// The curve as an SVG page of two panels: rates and p99 against time, and p99 against throughput.
pub fn svg(curve: &Curve) -> String {
    let points = thinned(&curve.points, POINTS_MAX);
    let height = TOP + 2.0 * PANEL + GAP + 56.0;
    let mut out = String::new();
    line(
        &mut out,
        &format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"st-curve\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"measured curve of {}\">{STYLE}",
            curve.service
        ),
    );
    line(&mut out, &format!("<rect class=\"bg\" width=\"{WIDTH}\" height=\"{height}\"/>"));
    line(&mut out, &format!("<text class=\"h\" x=\"{LEFT}\" y=\"18\">{}</text>", escaped(&title(curve))));
    line(&mut out, &format!("<text x=\"{LEFT}\" y=\"34\">{}</text>", summary(curve)));
    let rate_max = points.iter().map(|p| p.offered_rps.max(p.completed_rps)).fold(curve.capacity_rps.value, f64::max);
    over_time(&mut out, curve, &thinned(&curve.points, LINE_POINTS_MAX));
    over_rate(&mut out, curve, &points, rate_max);
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

/// True when traffic ran out before the instance did: its capacity is not known from above, nor is a knee.
fn is_lower_bound(curve: &Curve) -> bool {
    curve.ended == StressEnd::TrafficExhausted || curve.binding == BindingResource::NotReached
}

/// One line for people.
fn summary(curve: &Curve) -> String {
    let capacity = &curve.capacity_rps;
    let cpu_ms = curve.cpu_us_per_request.value / 1_000.0;
    if is_lower_bound(curve) {
        let value = capacity.value;
        return format!("capacity at least {value:.1} requests/s: traffic ran out first; {cpu_ms:.2} ms CPU a request");
    }
    let upper = if capacity.high.is_finite() { format!("{:.1}", capacity.high) } else { "unknown".to_owned() };
    format!(
        "capacity {:.1} requests/s (95%: {:.1} to {upper}), knee {:.1} requests/s, {cpu_ms:.2} ms CPU a request",
        capacity.value, capacity.low, curve.knee_rps,
    )
}

/// At most so many points, neighbours drawn as one: their mean rates, and the worst of their p99.
fn thinned(points: &[CurvePoint], most: usize) -> Vec<CurvePoint> {
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
    points.chunks(points.len().div_ceil(most).max(1)).map(together).collect()
}

/// The scale of p99 for these points.
fn latencies(points: &[CurvePoint]) -> Scale {
    Scale::spread(&points.iter().map(|p| p.latency_p99_ms).collect::<Vec<_>>())
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn axes(out: &mut String, panel: &Panel, x_label: &str, y_label: &str) {
    for tick in panel.up.ticks() {
        let (y, right) = (panel.y(tick), WIDTH - RIGHT);
        let (x, below) = (LEFT - 6.0, y + 4.0);
        line(out, &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
        line(out, &format!("<text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>", short(tick)));
    }
    let below = panel.bottom() + 14.0;
    for tick in panel.across.ticks() {
        let x = panel.x(tick);
        line(out, &format!("<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", short(tick)));
    }
    let (middle, below) = ((LEFT + WIDTH - RIGHT) / 2.0, panel.bottom() + 28.0);
    line(out, &format!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{x_label}</text>"));
    line(out, &format!("<text x=\"{LEFT}\" y=\"{}\">{y_label}</text>", panel.top - 5.0));
}

fn polyline(out: &mut String, at: impl Iterator<Item = (f64, f64)>, class: &str) {
    let path: Vec<String> = at.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if !path.is_empty() {
        line(out, &format!("<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" ")));
    }
}

fn over_time(out: &mut String, curve: &Curve, points: &[CurvePoint]) {
    let end_s = points.last().map_or(1.0, |p| p.at_ms as f64 / 1_000.0);
    let rate_max = points.iter().map(|p| p.offered_rps.max(p.completed_rps)).fold(curve.capacity_rps.value, f64::max);
    let rates = Panel { top: TOP + 12.0, across: Scale::linear(end_s), up: Scale::linear(rate_max) };
    let p99 = Panel { top: rates.top, across: Scale::linear(end_s), up: latencies(points) };
    let legend = format!(
        "requests a second: <tspan class=\"t-offered\">offered</tspan>, <tspan class=\"t-done\">completed</tspan>, \
         capacity shaded; <tspan class=\"t-p99\">p99 at the right{}</tspan>",
        p99.up.note()
    );
    axes(out, &rates, "seconds", &legend);
    let (low, high) = (rates.y(curve.capacity_rps.low), rates.y(curve.capacity_rps.high));
    let (wide, tall) = (WIDTH - LEFT - RIGHT, (low - high).max(1.0));
    line(out, &format!("<rect class=\"band\" x=\"{LEFT}\" y=\"{high:.1}\" width=\"{wide}\" height=\"{tall:.1}\"/>"));
    for tick in p99.up.ticks() {
        let (x, y) = (WIDTH - RIGHT + 6.0, p99.y(tick) + 4.0);
        line(out, &format!("<text class=\"t-p99\" x=\"{x}\" y=\"{y:.1}\">{} ms</text>", short(tick)));
    }
    let time = |p: &CurvePoint| p.at_ms as f64 / 1_000.0;
    polyline(out, points.iter().map(|p| (rates.x(time(p)), p99.y(p.latency_p99_ms))), "p99");
    polyline(out, points.iter().map(|p| (rates.x(time(p)), rates.y(p.offered_rps))), "offered");
    polyline(out, points.iter().map(|p| (rates.x(time(p)), rates.y(p.completed_rps))), "done");
}

fn over_rate(out: &mut String, curve: &Curve, points: &[CurvePoint], rate_max: f64) {
    let panel = Panel { top: TOP + 12.0 + PANEL + GAP, across: Scale::linear(rate_max), up: latencies(points) };
    axes(out, &panel, "requests completed a second", &format!("p99, ms{}", panel.up.note()));
    let (name, knee) = if is_lower_bound(curve) { ("at least", None) } else { ("capacity", Some(curve.knee_rps)) };
    if let Some(knee) = knee {
        upright(out, &panel, knee, "knee", ("knee", "end", -4.0));
    }
    upright(out, &panel, curve.capacity_rps.value, "done", (name, "start", 4.0));
    for p in points {
        let (x, y) = (panel.x(p.completed_rps), panel.y(p.latency_p99_ms));
        line(out, &format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>"));
    }
}

/// A dashed line at a rate, with its name beside it.
fn upright(out: &mut String, panel: &Panel, rate: f64, class: &str, (name, anchor, beside): (&str, &str, f64)) {
    let (x, top) = (panel.x(rate), panel.top);
    line(out, &format!("<path class=\"dash {class}\" d=\"M{x:.1} {top}v{PANEL}\"/>"));
    let (x, y) = (x + beside, top + 12.0);
    line(out, &format!("<text class=\"t-{class}\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{name}</text>"));
}

#[cfg(test)]
mod tests;
