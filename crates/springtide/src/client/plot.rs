//! Draws points with braille characters: each holds two by four dots.

/// Points to draw, and what they are.
#[derive(Debug, Clone)]
pub struct Plot<'a> {
    /// Heading.
    pub title: &'a str,
    /// What runs to the right.
    pub x: &'a str,
    /// The points.
    pub points: &'a [(f64, f64)],
    /// A vertical line, with its name.
    pub mark: Option<(f64, &'a str)>,
}

/// Columns of the drawing.
const COLUMNS: usize = 64;
/// Rows of the drawing.
const ROWS: usize = 14;
/// Bits of the dots of a braille character, by column and row.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// Width of the numbers at the left.
const SCALE_CHARS: usize = 9;

impl Plot<'_> {
    /// The drawing, lines ended; empty when there is nothing to draw.
    pub fn text(&self) -> String {
        let finite: Vec<(f64, f64)> =
            self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0_f64, f64::max);
        let mark = self.mark.filter(|(at, _)| at.is_finite() && *at > 0.0);
        let x_max = most(&mut finite.iter().map(|point| point.0).chain(mark.map(|(at, _)| at))) * 1.02;
        let y_max = most(&mut finite.iter().map(|point| point.1)) * 1.05;
        if finite.is_empty() || x_max <= 0.0 || y_max <= 0.0 {
            return String::new();
        }
        let mut cells = vec![vec![0_u32; COLUMNS]; ROWS];
        for (x, y) in &finite {
            let column = scaled(*x, x_max, COLUMNS * 2);
            let row = ROWS * 4 - 1 - scaled(*y, y_max, ROWS * 4);
            cells[row / 4][column / 2] |= DOTS[column % 2][row % 4];
        }
        let mut text = format!("{}\n", self.title);
        let line = mark.map(|(at, _)| scaled(at, x_max, COLUMNS * 2) / 2);
        for (index, row) in cells.iter().enumerate() {
            let label = match index {
                0 => number(y_max),
                _ if index == ROWS / 2 => number(y_max / 2.0),
                _ => String::new(),
            };
            let drawn: String =
                row.iter().enumerate().map(|(column, dots)| glyph(*dots, line == Some(column))).collect();
            text.push_str(&format!("{label:>SCALE_CHARS$} ┤{}\n", drawn.trim_end()));
        }
        text.push_str(&format!("{:>SCALE_CHARS$} └{}\n", "0", "─".repeat(COLUMNS)));
        let right = format!("{} {}", number(x_max), self.x);
        text.push_str(&format!("{:SCALE_CHARS$}  0{right:>width$}\n", "", width = COLUMNS - 1));
        if let Some((_, name)) = mark {
            text.push_str(&format!("{:SCALE_CHARS$}  │ {name}\n", ""));
        }
        text
    }
}

fn glyph(dots: u32, on_line: bool) -> char {
    match (dots, on_line) {
        (0, true) => '│',
        (0, false) => ' ',
        _ => char::from_u32(0x2800 + dots).unwrap_or(' '),
    }
}

/// Place of a value among so many.
fn scaled(value: f64, most: f64, places: usize) -> usize {
    ((value.max(0.0) / most * places as f64) as usize).min(places - 1)
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_land_where_they_belong() {
        let points: Vec<(f64, f64)> = (0..=20).map(|at| (f64::from(at) * 50.0, f64::from(at * at) / 4.0)).collect();
        let plot = Plot { title: "p99 latency, ms", x: "requests/s", points: &points, mark: Some((800.0, "capacity")) };
        let text = plot.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS + 4);
        assert_eq!(lines[0], "p99 latency, ms");
        assert!(lines[1].starts_with("      105 ┤"), "{text}");
        let first = lines[ROWS].chars().nth(SCALE_CHARS + 2).unwrap();
        assert_eq!(first, '\u{2840}', "the first point is at the bottom left:\n{text}");
        let column = |line: &str| line.chars().position(|c| c == '│');
        assert_eq!(column(lines[ROWS]), Some(SCALE_CHARS + 2 + 50), "{text}");
        assert!(lines[ROWS + 2].ends_with("1020 requests/s"), "{text}");
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(Plot { title: "", x: "", points: &[], mark: None }.text(), "");
        assert_eq!(Plot { title: "", x: "", points: &[(f64::NAN, 1.0)], mark: None }.text(), "");
    }
}
