//! Faults: what is wrong in a manifest, where, and what would be right.

/// A fault in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, as the caller named it; empty when the fault is in what is stored already.
    pub file: String,
    /// The line, from 1; 0 when the fault has none.
    pub line: u32,
    /// The field, such as `shape.cpu`; empty when the whole document is at fault.
    pub field: String,
    /// What was wrong, and what would be right.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}: ", self.file, self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The candidate that `text` was probably meant to be: at most a third of its letters differ.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(text.len()) <= bound * 4)
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(apart, _)| *apart <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean x?`, or nothing.
pub(crate) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, candidates).map_or_else(String::new, |found| format!("; did you mean `{found}`?"))
}

/// Longest texts compared; longer ones are never close enough to be meant.
const COMPARED_CHARS_MAX: usize = 80;

/// Edits between two texts, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(COMPARED_CHARS_MAX + 1).collect();
    let b: Vec<char> = b.chars().take(COMPARED_CHARS_MAX + 1).collect();
    if a.len() > COMPARED_CHARS_MAX || b.len() > COMPARED_CHARS_MAX {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// Most faults reported at once.
pub const FAULTS_MAX: usize = 200;

/// Cuts faults to [`FAULTS_MAX`]; a last one counts the rest.
pub(crate) fn bounded(mut faults: Vec<Fault>) -> Vec<Fault> {
    if faults.len() > FAULTS_MAX {
        let more = faults.len() - FAULTS_MAX;
        faults.truncate(FAULTS_MAX);
        let message = format!("and {more} more faults");
        faults.push(Fault { field: String::new(), message, ..faults[FAULTS_MAX - 1].clone() });
    }
    faults
}
