//! Lines over time in characters: one row high beside others, or tall alone.

use super::figure;
use model::UnixMs;

/// Characters across.
const WIDTH: usize = 60;
/// Rows of a tall one.
const HEIGHT: usize = 8;
/// Eighths of a character, from below.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The mean of each character's share of the time; `None` where there is nothing to draw.
fn columns(points: &[(UnixMs, f64)], from: UnixMs, to: UnixMs) -> Vec<Option<f64>> {
    let span = (to.saturating_sub(from)).max(1);
    let mut sums = vec![(0.0, 0_u32); WIDTH];
    for (at, value) in points.iter().filter(|(_, value)| value.is_finite()) {
        let column = (at.saturating_sub(from) as u128 * (WIDTH as u128 - 1) / u128::from(span)) as usize;
        let (sum, count) = &mut sums[column.min(WIDTH - 1)];
        (*sum, *count) = (*sum + value, *count + 1);
    }
    let mut columns: Vec<Option<f64>> =
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect();
    // Where points are wider apart than characters, each holds until the next is due; a real gap stays one.
    let spacing = points.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).min().unwrap_or(0);
    let holds = (u128::from(spacing) * (WIDTH as u128 - 1)).div_ceil(u128::from(span)) as usize;
    let mut newest = None;
    for (at, column) in columns.iter_mut().enumerate() {
        match *column {
            Some(value) => newest = Some((at, value)),
            None => *column = newest.filter(|(since, _)| at - since < holds).map(|(_, value)| value),
        }
    }
    columns
}

fn bounds(columns: &[Option<f64>]) -> Option<(f64, f64)> {
    let values = || columns.iter().flatten().copied();
    let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
    Some((low, high))
}

/// One row: from its least to its most.
pub fn spark(points: &[(UnixMs, f64)], from: UnixMs, to: UnixMs) -> String {
    let columns = columns(points, from, to);
    let Some((low, high)) = bounds(&columns) else { return String::new() };
    let level = |value: f64| match high > low {
        true => 1 + ((value - low) / (high - low) * 7.0).round() as usize,
        // What never changes lies in the middle, but nothing lies on the ground.
        false if value == 0.0 => 1,
        false => 4,
    };
    columns.into_iter().map(|value| value.map_or(' ', |value| LEVELS[level(value)])).collect()
}

/// Eight rows with an axis: from zero when nothing is below, unless all lies far above.
pub fn tall(points: &[(UnixMs, f64)], from: UnixMs, to: UnixMs) -> String {
    let columns = columns(points, from, to);
    let Some((low, high)) = bounds(&columns) else { return "nothing that can be drawn: no finite value\n".to_owned() };
    let far_above = low > 0.0 && high - low < high / 4.0 && high > low;
    let floor = if low < 0.0 || far_above { low - (high - low) * 0.05 } else { 0.0 };
    let height = if high > floor { high - floor } else { 1.0 };
    let eighths = |value: f64| ((value - floor) / height * (HEIGHT * 8) as f64).round() as usize;
    let (top, bottom) = (figure(floor + height), figure(floor));
    let margin = top.chars().count().max(bottom.chars().count());
    let mut text = String::new();
    for row in (0..HEIGHT).rev() {
        let label = if row == HEIGHT - 1 {
            top.as_str()
        } else if row == 0 {
            bottom.as_str()
        } else {
            ""
        };
        let cells = columns.iter().map(|value| {
            let filled = value.map_or(0, |value| eighths(value).saturating_sub(row * 8).min(8));
            // What is there but is nothing still leaves a mark on the ground.
            if row == 0 && value.is_some() { LEVELS[filled.max(1)] } else { LEVELS[filled] }
        });
        let line: String = cells.collect();
        text += format!("{label:>margin$} │{line}").trim_end();
        text.push('\n');
    }
    let ago = promql::duration_text((to.saturating_sub(from) / 1_000 * 1_000) as i64);
    let begin = format!("{ago} ago");
    let newest = points.last().map_or_else(String::new, |(_, value)| format!("last {}", figure(*value)));
    let gap = WIDTH.saturating_sub(begin.chars().count() + newest.chars().count());
    text += &format!("{:>margin$} └{}\n{:>margin$}  {begin}{}{newest}\n", "", "─".repeat(WIDTH), "", " ".repeat(gap));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_where_values_do() {
        let points: Vec<(UnixMs, f64)> = (0..60).map(|n| (n * 1_000, n as f64)).collect();
        let line = spark(&points, 0, 59_000);
        assert_eq!(line.chars().count(), WIDTH);
        assert!(line.starts_with('▁') && line.ends_with('█'), "{line}");
        assert_eq!(spark(&[(0, f64::NAN)], 0, 1_000), "");
        assert!(spark(&[(0, 0.0), (59_000, 0.0)], 0, 59_000).starts_with('▁'), "nothing is no half");
        let line = spark(&[(0, 5.0), (2_000, 5.0), (59_000, 5.0)], 0, 59_000);
        assert!(line.starts_with("▄▄▄▄ ") && line.ends_with(" ▄"), "each holds, and a gap is a gap: {line}");
    }

    #[test]
    fn a_tall_one_has_its_axes() {
        let points: Vec<(UnixMs, f64)> = (0..60).map(|n| (n * 1_000, 100.0 * (n % 10) as f64)).collect();
        let text = tall(&points, 0, 59_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines[0].starts_with("900 │") && lines[HEIGHT - 1].starts_with("  0 │▁"), "{text}");
        assert!(lines[HEIGHT + 1].contains("59s ago") && lines[HEIGHT + 1].ends_with("last 900"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        assert!(tall(&[(0, 0.0), (59_000, 0.0)], 0, 59_000).contains('▁'));
    }
}
