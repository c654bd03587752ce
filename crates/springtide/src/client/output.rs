//! What commands print: tables that fit a terminal and are plain in a pipe, JSON and YAML for programs.

use super::failure::Failure;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table as Grid};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};

/// Form of the output.
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// Manifests that `apply` takes back, where there are any
    Yaml,
}

/// The choice of a form.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub struct Output {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

impl Output {
    /// Prints a value as JSON or YAML, or `table` for people.
    pub fn show<T: Serialize>(&self, value: &T, table: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&table()),
            Format::Json => print(&json(value)?),
            Format::Yaml => print(&yaml(value)?),
        }
    }

    /// A line for people beside the result: on stdout, or on stderr where stdout carries JSON or YAML.
    pub fn note(&self, text: &str) -> Result<(), Failure> {
        if self.format == Format::Table {
            return print(&format!("{text}\n"));
        }
        eprintln!("{text}");
        Ok(())
    }
}

/// A value as JSON text.
pub fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|error| Failure::Local(format!("cannot write JSON: {error}")))? + "\n")
}

/// A value as YAML text.
pub fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::Local(format!("cannot write YAML: {error}")))
}

/// Writes to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Local(format!("cannot write to stdout: {error}"))),
    }
}

/// Width of the terminal on stdout; absent in a pipe.
pub fn terminal_width() -> Option<u16> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// Space between columns.
const GAP: usize = 2;
/// A column no wider than this holds names or numbers: it is never wrapped.
const NAME_CHARS: usize = 24;

/// Rows under column heads.
#[derive(Debug, Clone, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    numbers: Vec<usize>,
    spare: Vec<usize>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|text| (*text).to_owned()).collect(), ..Self::default() }
    }

    /// Columns that hold numbers, set to the right.
    pub fn numbers(mut self, columns: &[usize]) -> Self {
        self.numbers = columns.to_vec();
        self
    }

    /// Columns that a narrow terminal does without, the first of these first.
    pub fn spare(mut self, columns: &[usize]) -> Self {
        self.spare = columns.to_vec();
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As text: wrapped to the terminal; in a pipe a row is always a line.
    pub fn text(&self) -> String {
        self.rendered(terminal_width())
    }

    /// As text of at most this width: what is empty or can be spared goes first, then the longest texts are wrapped.
    pub fn rendered(&self, width: Option<u16>) -> String {
        let (shown, left_out) = self.fitting(width);
        let mut grid = Grid::new();
        grid.load_style(NOTHING);
        let total: usize = shown.iter().map(|column| self.width(*column) + GAP).sum();
        // Wrapping is for what does not fit; left to itself it also breaks names.
        match width.filter(|width| total > usize::from(*width) + GAP) {
            Some(width) => grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        let pick = |row: &[String]| -> Vec<Cell> {
            let one_line = |text: &str| if width.is_none() { text.replace(['\n', '\r'], " ") } else { text.to_owned() };
            shown.iter().map(|column| Cell::new(one_line(row.get(*column).map_or("", String::as_str)))).collect()
        };
        if !self.head.is_empty() {
            grid.set_header(pick(&self.head));
        }
        for row in &self.rows {
            grid.add_row(pick(row));
        }
        for (place, column) in grid.column_iter_mut().enumerate() {
            column.set_padding((0, if place + 1 == shown.len() { 0 } else { GAP as u16 }));
            if self.numbers.contains(&shown[place]) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if self.width(shown[place]) <= NAME_CHARS {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let lines: Vec<String> = grid.lines().map(|line| line.trim_end().to_owned()).collect();
        let note = match left_out.is_empty() {
            true => String::new(),
            false => format!("(a wider terminal also shows {})\n", left_out.join(", ")),
        };
        lines.join("\n") + "\n" + &note
    }

    /// Characters of a column's widest cell.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().chain([&self.head]).filter_map(|row| row.get(column));
        cells.flat_map(|text| text.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
    }

    /// The columns shown at this width, and the names of those left out though they say something.
    fn fitting(&self, width: Option<u16>) -> (Vec<usize>, Vec<&str>) {
        let columns = self.rows.iter().chain([&self.head]).map(Vec::len).max().unwrap_or(0);
        let mut shown: Vec<usize> = (0..columns).collect();
        let Some(width) = width else { return (shown, Vec::new()) };
        let fits =
            |shown: &[usize]| shown.iter().map(|at| self.width(*at) + GAP).sum::<usize>() <= usize::from(width) + GAP;
        let is_empty = |at: usize| self.rows.iter().all(|row| row.get(at).is_none_or(String::is_empty));
        if !fits(&shown) && !self.rows.is_empty() {
            shown.retain(|at| !is_empty(*at));
        }
        let mut left_out = Vec::new();
        for spare in &self.spare {
            if !fits(&shown) && shown.contains(spare) {
                shown.retain(|at| at != spare);
                left_out.extend(self.head.get(*spare).map(String::as_str));
            }
        }
        (shown, left_out)
    }
}

/// `1.5 GiB`, for people.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// `3m 12s`, for people.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d {:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// How long ago a time was.
pub fn age(since: model::UnixMs) -> String {
    duration(now_ms().saturating_sub(since))
}

/// This machine's time.
pub fn now_ms() -> model::UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `one fault`, `3 faults`.
pub fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", "INSTANCES", "MESSAGE"]).numbers(&[1]);
        table.row(["lottery".to_owned(), "12".to_owned(), "all is well with every one of its instances".to_owned()]);
        table.row(["sso".to_owned(), "2".to_owned(), "first\nsecond".to_owned()]);
        table
    }

    #[test]
    fn a_piped_row_is_a_line() {
        let wanted = "\
NAME     INSTANCES  MESSAGE
lottery         12  all is well with every one of its instances
sso              2  first second
";
        assert_eq!(sample().rendered(None), wanted);
    }

    #[test]
    fn a_terminal_s_width_is_kept() {
        let text = sample().rendered(Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("lottery"), "{text}");
        assert!(text.lines().count() > 3, "{text}");
    }

    #[test]
    fn a_narrow_terminal_goes_without_what_can_be_spared() {
        let mut table = Table::new(&["NAME", "PLACE", "NOTE", "STATE"]).spare(&[1]);
        table.row(["lottery-1".to_owned(), "datacenter-a".to_owned(), String::new(), "healthy".to_owned()]);
        let wide = "NAME       PLACE         NOTE  STATE\nlottery-1  datacenter-a        healthy\n";
        assert_eq!(table.rendered(Some(80)), wide);
        let without_empty = "NAME       PLACE         STATE\nlottery-1  datacenter-a  healthy\n";
        assert_eq!(table.rendered(Some(35)), without_empty);
        let spared = "NAME       STATE\nlottery-1  healthy\n(a wider terminal also shows PLACE)\n";
        assert_eq!(table.rendered(Some(25)), spared);
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!([bytes(12), bytes(1536), bytes(3 << 30)], ["12 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([duration(900), duration(61_000), duration(90_000_000)], ["900 ms", "1m 01s", "1d 01h"]);
    }
}
