//! The curve on a terminal: p99 over the rate offered, in braille dots (two by four in a character).

use super::scale::Scale;
use super::{is_lower_bound, line, thinned};
use model::Curve;

/// Points drawn at most; more are drawn together, a few as one.
const POINTS_MAX: usize = 240;
/// Smallest and largest drawing, in characters.
const COLUMNS: (usize, usize) = (24, 400);
const ROWS: (usize, usize) = (4, 100);
/// Columns left of the drawing.
const LABEL: usize = 8;
/// The braille cell without a dot.
const BRAILLE_BLANK: u32 = 0x2800;
/// Bits of a braille cell by row and column.
const BRAILLE: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The curve as a drawing of so many characters, its labels included; nothing when there is nothing to draw.
pub fn text(curve: &Curve, width: usize, height: usize) -> String {
    let columns = width.clamp(COLUMNS.0 + LABEL, COLUMNS.1 + LABEL) - LABEL;
    let rows = height.clamp(ROWS.0 + 3, ROWS.1 + 3) - 3;
    let points: Vec<(f64, f64)> =
        thinned(&curve.points, POINTS_MAX).iter().map(|p| (p.offered_rps, p.latency_p99_ms)).collect();
    let p99: Vec<f64> = points.iter().map(|point| point.1).collect();
    if !p99.iter().any(|value| value.is_finite() && *value > 0.0) {
        return String::new();
    }
    let capacity = curve.capacity_rps.value;
    let most = points.iter().map(|point| point.0).chain([capacity]).filter(|rate| rate.is_finite());
    let (across, up) = (Scale::linear(most.fold(0.0, f64::max)), Scale::spread(&p99));
    let mut cells = vec![vec![0_u32; columns]; rows];
    for (rate, p99) in points {
        let column = place(across.part(rate), columns * 2);
        let row = rows * 4 - 1 - place(up.part(p99), rows * 4);
        cells[row / 4][column / 2] |= BRAILLE[row % 4][column % 2];
    }
    let upright = place(across.part(capacity), columns * 2) / 2;
    let mut out = String::new();
    line(&mut out, &format!("{:LABEL$}p99 latency, ms{}", "", up.note()));
    for (cells, label) in cells.iter().zip(labels(&up, rows)) {
        let drawn: String = cells.iter().enumerate().map(|(column, dots)| glyph(*dots, column == upright)).collect();
        let tick = if label.is_empty() { '│' } else { '┤' };
        line(&mut out, &format!("{label:>6} {tick}{}", drawn.trim_end()));
    }
    line(&mut out, &format!("{:6} └{}", "", "─".repeat(columns)));
    foot(&mut out, &across, columns);
    let name = if is_lower_bound(curve) { "capacity is at least" } else { "capacity" };
    line(&mut out, &format!("{:LABEL$}│ {name} {capacity:.0} requests/s", ""));
    out
}

/// Rates under the drawing.
fn foot(out: &mut String, across: &Scale, columns: usize) {
    let mut foot = String::from("0");
    for tick in across.ticks().into_iter().skip(1) {
        let end = (across.part(tick) * columns as f64) as usize;
        let label = number(tick);
        let gap = end.saturating_sub(foot.chars().count() + label.chars().count());
        if gap > 0 {
            foot.push_str(&" ".repeat(gap));
            foot.push_str(&label);
        }
    }
    line(out, &format!("{:LABEL$}{foot}", ""));
    line(out, &format!("{:LABEL$}{:>columns$}", "", "requests offered a second"));
}

/// The label of each row, from the top.
fn labels(scale: &Scale, rows: usize) -> Vec<String> {
    let mut labels = vec![String::new(); rows];
    let mut ticks = scale.ticks();
    // The ends come first: where rows are few, they are what must be there.
    ticks.rotate_right(1);
    for tick in ticks {
        let row = rows - 1 - place(scale.part(tick), rows);
        if labels[row.saturating_sub(1)..(row + 2).min(rows)].iter().all(String::is_empty) {
            labels[row] = number(tick);
        }
    }
    labels
}

fn glyph(dots: u32, is_upright: bool) -> char {
    match (dots, is_upright) {
        (0, true) => '│',
        (0, false) => ' ',
        _ => char::from_u32(BRAILLE_BLANK + dots).unwrap_or(' '),
    }
}

/// One of so many places, for a part of 0 to 1.
fn place(part: f64, places: usize) -> usize {
    ((part * places as f64) as usize).min(places - 1)
}

fn number(value: f64) -> String {
    let value = (value * 100.0).round() / 100.0;
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value}") }
}
