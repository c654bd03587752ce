//! A page of `describe` as lines for the screen.

use api::http::{Description, Section};

/// Space between columns.
const GAP: usize = 2;

/// The lines of a page.
pub fn lines(page: &Description) -> Vec<String> {
    let mut lines = Vec::new();
    for section in page.sections.iter().filter(|section| !section.rows.is_empty()) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(section.title.to_uppercase());
        lines.extend(rows(section));
    }
    lines
}

fn rows(section: &Section) -> Vec<String> {
    let head = (!section.head.is_empty()).then_some(&section.head);
    let all: Vec<&Vec<String>> = head.into_iter().chain(&section.rows).collect();
    let columns = all.iter().map(|row| row.len()).max().unwrap_or(0);
    let width = |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0) + GAP).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", cells.collect::<String>().trim_end())
    };
    all.iter().map(line).collect()
}
