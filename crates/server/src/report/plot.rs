//! Lines over time, as inline SVG that follows the page's colours.

use super::page::escape;
use model::UnixMs;
use std::fmt::Write;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 34.0;
/// Horizontal lines above zero, about.
const GRID: f64 = 4.0;
/// Times under the plot, at most about.
const TIMES: u64 = 6;
/// Distances between them, in seconds.
const TIME_STEPS_S: [u64; 11] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600];
/// Width of a letter, about.
const LETTER: f64 = 7.2;
/// Farthest that the word of a mark stands from it.
const ASTRAY_MAX: f64 = 70.0;
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
    /// When the operation began: times are told from there, and what follows is shaded.
    pub begun: UnixMs,
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

/// Distance of the horizontal lines, 1, 2, 2.5 or 5 times a power of ten, and the value at the top.
fn grid(most: f64) -> (f64, f64) {
    if most <= 0.0 || !most.is_finite() {
        return (1.0, 1.0);
    }
    let rough = most / GRID;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().map(|step| step * power).find(|at| *at >= rough);
    let step = step.unwrap_or(10.0 * power);
    (step, step * (most / step).ceil())
}

/// A value with as many digits as tell it from its neighbour a step away.
fn number(value: f64, step: f64) -> String {
    let text = if step >= 10.0 { format!("{value:.0}") } else { format!("{value:.3}") };
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
        let values = || self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let most = values().fold(0.0, f64::max);
        let (step, top) = grid(most);
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0);
        let mut svg = format!("<figure><figcaption><b>{}</b> {}", escape(&self.title), escape(&self.unit));
        for (at, line) in self.lines.iter().enumerate() {
            // Writing into a text never fails.
            let _ =
                write!(svg, " <span><span class=\"key c{at}\"></span>{}{}</span>", escape(&line.name), figures(line));
        }
        let _ = write!(
            svg,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&format!("{} ({}) over time", self.title, self.unit))
        );
        self.frame(&mut svg, step, top, y);
        let nothing = if values().next().is_none() { Some("not measured") } else { (most <= 0.0).then_some("none") };
        if let Some(nothing) = nothing {
            let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT / 2.0);
            let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{nothing}</text>");
        }
        for (at, line) in self.lines.iter().enumerate() {
            let _ = write!(svg, "<path class=\"line c{at}\" d=\"{}\"/>", self.path(line, y));
        }
        svg.push_str("</svg></figure>");
        svg
    }

    /// The span of the operation, values, times and marks.
    fn frame(&self, svg: &mut String, step: f64, top: f64, y: impl Fn(f64) -> f64) {
        let (begin, right, bottom) = (self.x(self.begun.max(self.from)), WIDTH - RIGHT, HEIGHT - BOTTOM);
        let (wide, tall) = ((right - begin).max(0.0), bottom - TOP);
        let _ =
            write!(svg, "<rect class=\"span\" x=\"{begin:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{tall}\"/>");
        for line in 0..=(top / step).round() as u32 {
            let value = step * f64::from(line);
            let (at, x) = (y(value), LEFT - 6.0);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                at + 4.0,
                number(value, step)
            );
        }
        self.times(svg);
        self.marks(svg);
    }

    /// Seconds since the operation began.
    fn times(&self, svg: &mut String) {
        let span_s = self.to.saturating_sub(self.from) / 1_000;
        let step_s = TIME_STEPS_S.into_iter().find(|step| span_s / step <= TIMES).unwrap_or(1_200);
        let y = HEIGHT - BOTTOM + 15.0;
        let shown = |seconds: u64| if step_s < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) };
        let mut label = |at: UnixMs, text: String| {
            let x = self.x(at);
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>");
        };
        let before_s = self.begun.saturating_sub(self.from) / 1_000;
        for seconds in (1..=before_s / step_s).map(|step| step * step_s) {
            label(self.begun - seconds * 1_000, format!("−{}", shown(seconds)));
        }
        for seconds in (0..=self.to.saturating_sub(self.begun) / 1_000 / step_s).map(|step| step * step_s) {
            let at = self.begun + seconds * 1_000;
            if at >= self.from {
                label(at, if seconds == 0 { "begin".to_owned() } else { shown(seconds) });
            }
        }
    }

    /// Marked moments; their words stand above, from the right, and one that finds no place near its moment is left out.
    fn marks(&self, svg: &mut String) {
        let mut free = WIDTH;
        for (at, word) in self.marks.iter().rev().filter(|(at, _)| (self.from..=self.to).contains(at)) {
            let (x, bottom) = (self.x(*at), HEIGHT - BOTTOM);
            let _ = write!(svg, "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            let half = word.chars().count() as f64 * LETTER / 2.0;
            let middle = x.min(free - half);
            if x - middle > ASTRAY_MAX {
                continue;
            }
            free = middle - half - LETTER;
            let y = TOP - 6.0;
            let _ = write!(svg, "<text x=\"{middle:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escape(word));
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

/// What a line came to, for its legend.
fn figures(line: &Line) -> String {
    let Some((_, last)) = line.points.last() else { return String::new() };
    let most = line.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    format!(": at most {}, at the end {}", rounded(most), rounded(*last))
}

/// A value in about three digits.
fn rounded(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_with_round_steps() {
        for (value, wanted) in [(0.0, (1.0, 1.0)), (0.05, (0.02, 0.06)), (34.0, (10.0, 40.0)), (700.0, (200.0, 800.0))]
        {
            let (step, top) = grid(value);
            assert!((step - wanted.0).abs() < 1e-9 && (top - wanted.1).abs() < 1e-9, "{value}: {step}, {top}");
        }
        assert_eq!([rounded(0.0312), rounded(97.279), rounded(1_234.5)], ["0.03", "97.3", "1234"]);
        assert_eq!(number(0.25, 0.05), "0.25");
        assert_eq!((number(50.0, 1.0), number(1_000.4, 100.0)), ("50".into(), "1000".into()));
    }

    #[test]
    fn words_of_close_marks_do_not_overlap() {
        let marks = vec![(61_000, "1%".to_owned()), (61_100, "10%".to_owned()), (62_000, "100%".to_owned())];
        let (title, unit, lines) = (String::new(), String::new(), Vec::new());
        let svg = Plot { title, unit, from: 0, to: 62_000, begun: 30_000, lines, marks }.svg();
        let place = |word: &str| -> f64 {
            let before = svg.split(&format!(">{word}<")).next().unwrap();
            let text = before.rsplit("<text x=\"").next().unwrap();
            text.split('"').next().unwrap().parse().unwrap()
        };
        assert!(place("10%") - place("1%") > 2.0 * LETTER && place("100%") - place("10%") > 3.0 * LETTER, "{svg}");
        assert!(svg.contains(">begin<") && svg.contains(">−30 s<") && svg.contains(">not measured<"), "{svg}");
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
            begun: from,
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
