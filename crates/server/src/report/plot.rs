//! Lines over time, as inline SVG that follows the page's colours.

use super::page::escape;
use model::UnixMs;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 24.0;
/// Horizontal lines.
const GRID: u32 = 4;
/// A gap longer than this in a line is left open, in steps of its own mean distance.
const GAP_STEPS: f64 = 4.0;

/// One plot.
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// In which unit.
    pub unit: String,
    /// Left edge.
    pub from: UnixMs,
    /// Right edge.
    pub to: UnixMs,
    /// The lines.
    pub lines: Vec<Line>,
    /// Moments marked, with a word.
    pub marks: Vec<(UnixMs, String)>,
}

/// One line.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Time and value, in order of time.
    pub points: Vec<(UnixMs, f64)>,
}

/// The smallest 1, 2 or 5 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|at| *at >= value).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let text = if value >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

impl Plot {
    fn x(&self, at: UnixMs) -> f64 {
        let span = (self.to.saturating_sub(self.from)).max(1) as f64;
        LEFT + (WIDTH - LEFT - RIGHT) * at.saturating_sub(self.from) as f64 / span
    }

    /// Draws it, with its legend; a plot without any point says so.
    pub fn svg(&self) -> String {
        let top = self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max);
        let top = round_up(top);
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0);
        let title = format!("{} ({})", self.title, self.unit);
        let mut svg = format!("<figure><figcaption><b>{}</b> {}", escape(&self.title), escape(&self.unit));
        for (at, line) in self.lines.iter().enumerate() {
            // Writing into a text never fails.
            let _ = write!(svg, " <span class=\"key c{at}\"></span>{}", escape(&line.name));
        }
        let _ = write!(
            svg,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&title)
        );
        for step in 0..=GRID {
            let value = top * f64::from(step) / f64::from(GRID);
            let at = y(value);
            let right = WIDTH - RIGHT;
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(value)
            );
        }
        self.marks(&mut svg);
        if self.lines.iter().all(|line| line.points.is_empty()) {
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">not measured</text>",
                WIDTH / 2.0,
                HEIGHT / 2.0
            );
        }
        for (at, line) in self.lines.iter().enumerate() {
            let _ = write!(svg, "<path class=\"line c{at}\" d=\"{}\"/>", self.path(line, y));
        }
        svg.push_str("</svg></figure>");
        svg
    }

    fn marks(&self, svg: &mut String) {
        for (at, word) in self.marks.iter().filter(|(at, _)| (self.from..=self.to).contains(at)) {
            let x = self.x(*at);
            let bottom = HEIGHT - BOTTOM;
            let _ = write!(
                svg,
                "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 8.0,
                escape(word)
            );
        }
    }

    fn path(&self, line: &Line, y: impl Fn(f64) -> f64) -> String {
        let (Some(first), Some(last)) = (line.points.first(), line.points.last()) else { return String::new() };
        let mean = (last.0 - first.0) as f64 / (line.points.len() as f64 - 1.0).max(1.0);
        let mut path = String::new();
        let mut before: Option<UnixMs> = None;
        for (at, value) in &line.points {
            let joined = before.is_some_and(|before| ((at - before) as f64) <= mean * GAP_STEPS);
            let _ = write!(path, "{}{:.1} {:.1}", if joined { "L" } else { "M" }, self.x(*at), y(*value));
            before = Some(*at);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, round) in [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1.2, 2.0), (34.0, 50.0), (700.0, 1_000.0)] {
            assert_eq!(round_up(value), round, "{value}");
        }
        assert_eq!((number(0.25), number(50.0), number(1_000.0)), ("0.25".into(), "50".into(), "1000".into()));
    }

    #[test]
    fn a_gap_is_left_open_and_nothing_leaves_the_frame() {
        let points: Vec<_> = (0..10).chain(60..70).map(|s| (1_000_000 + s * 1_000, s as f64)).collect();
        let line = Line { name: "p99".to_owned(), points };
        let (from, to) = (1_000_000, 1_070_000);
        let plot = Plot {
            title: "<b>".into(),
            unit: "ms".into(),
            from,
            to,
            lines: vec![line],
            marks: vec![(from, "begin".into())],
        };
        let svg = plot.svg();
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b><b>"));
        let path = svg.split("class=\"line c0\" d=\"").nth(1).expect("a line").split('"').next().expect("its path");
        assert_eq!(path.matches('M').count(), 2, "{path}");
        let numbers = path
            .split(['M', 'L', ' '])
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<f64>().expect("a number"));
        assert!(numbers.clone().all(|at| (0.0..=WIDTH).contains(&at)), "{path}");
    }
}
