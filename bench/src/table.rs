//! The table at a benchmark's end: ours beside the floor and, where there is one, the goal.

/// One line: what was measured, what came out, and what was asked for.
pub struct Row {
    what: &'static str,
    ours: String,
    floor: String,
    goal: String,
    met: bool,
}

impl Row {
    /// A figure with its floor.
    pub fn new(what: &'static str, ours: impl ToString, floor: impl ToString, met: bool) -> Self {
        Self { what, ours: ours.to_string(), floor: floor.to_string(), goal: "-".to_owned(), met }
    }

    /// The same with a goal beyond the floor.
    pub fn goal(self, goal: impl ToString) -> Self {
        Self { goal: goal.to_string(), ..self }
    }
}

/// Prints the table; true when every floor is met.
pub fn print(rows: &[Row]) -> bool {
    rows_text(rows).iter().for_each(|line| println!("{line}"));
    rows.iter().all(|row| row.met)
}

fn rows_text(rows: &[Row]) -> Vec<String> {
    let wide = |of: fn(&Row) -> usize, head: &str| rows.iter().map(of).max().unwrap_or(0).max(head.len());
    let what = wide(|row| row.what.len(), "");
    let ours = wide(|row| row.ours.len(), "ours");
    let floor = wide(|row| row.floor.len(), "floor");
    let goal = wide(|row| row.goal.len(), "goal");
    let mut lines = vec![format!("{:<what$}  {:>ours$}  {:>floor$}  {:>goal$}", "", "ours", "floor", "goal")];
    lines.extend(rows.iter().map(|row| {
        let missed = if row.met { "" } else { "  missed" };
        format!("{:<what$}  {:>ours$}  {:>floor$}  {:>goal$}{missed}", row.what, row.ours, row.floor, row.goal)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_missed_floor_is_marked() {
        let rows = [Row::new("instances lost", 0, 0, true), Row::new("worst, ms", 312, "200", false).goal(100)];
        let lines = rows_text(&rows);
        assert_eq!(lines[1], "instances lost     0      0     -");
        assert_eq!(lines[2], "worst, ms        312    200   100  missed");
    }
}
