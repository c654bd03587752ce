//! Why a query is refused or fails, and where in its text.

use std::fmt;

/// Part of a query's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Span {
    /// From the beginning of one to the end of the other.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not PromQL, or its types do not fit.
    Parse,
    /// It is PromQL, but a part that is not served here.
    Unsupported,
    /// The data do not allow it: two series where one must be, say.
    Execution,
    /// A bound of [`crate::Limits`] was met.
    Limit,
    /// The time for evaluation is over.
    Timeout,
}

/// A failure: what, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Kind of failure.
    pub kind: ErrorKind,
    /// Where in the text.
    pub span: Span,
    /// Line of the beginning, from 1.
    pub line: usize,
    /// Character of the beginning in its line, from 1.
    pub column: usize,
    /// What was wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            ErrorKind::Parse => "parse error: ",
            _ => "",
        };
        write!(f, "{}:{}: {prefix}{}", self.line, self.column, self.message)
    }
}

impl Error {
    /// An error at a place; its line and column are set by [`Error::placed`].
    pub fn new(kind: ErrorKind, span: Span, message: impl Into<String>) -> Self {
        Self { kind, span, line: 1, column: span.start + 1, message: message.into() }
    }

    /// The same, with line and column as they are in `query`.
    #[must_use]
    pub fn placed(mut self, query: &str) -> Self {
        let mut start = self.span.start.min(query.len());
        while !query.is_char_boundary(start) {
            start -= 1;
        }
        let before = &query[..start];
        self.line = before.matches('\n').count() + 1;
        self.column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        self
    }

    /// The line at fault with a mark under the place, for terminals.
    pub fn marked(&self, query: &str) -> String {
        let line = query.split('\n').nth(self.line - 1).unwrap_or("");
        let line: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
        let left = line.chars().count().saturating_sub(self.column - 1).max(1);
        let text = query.get(self.span.start..self.span.end.min(query.len())).unwrap_or("");
        let width = text.split('\n').next().map_or(1, |part| part.chars().count()).clamp(1, left);
        format!("{line}\n{}{}", " ".repeat(self.column - 1), "^".repeat(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_under_the_place() {
        let query = "sum(ä) +\n  rote(x[1m])";
        let at = query.find("rote").expect("there");
        let error = Error::new(ErrorKind::Parse, Span { start: at, end: at + 4 }, "unknown function").placed(query);
        assert_eq!((error.line, error.column), (2, 3));
        assert_eq!(error.marked(query), "  rote(x[1m])\n  ^^^^");
        let end = Error::new(ErrorKind::Parse, Span { start: query.len(), end: query.len() }, "x").placed(query);
        assert_eq!(end.marked(query), "  rote(x[1m])\n             ^");
    }
}
