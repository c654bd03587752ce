//! A useful subset of PromQL over any [`Source`] of series: parsed, checked, bounded, evaluated as Prometheus does.
//!
//! Pure: no clock, no I/O; the caller says when time is up. Every refusal has a place in the query's text.
//! The meaning is that of Prometheus 2 (a window holds both its ends), held against a real one by a test; one thing differs on
//! purpose: how long a series holds its last value ([`Lookback`]). Absent: native histograms, exemplars, recording rules,
//! functions of dates and angles; they are refused by name.

mod ast;
mod error;
mod eval;
mod labels;
mod lex;
mod parse;
mod source;

pub use error::{Error, ErrorKind, Span};
pub use eval::{Answer, Limits, Lookback, Options};
pub use labels::{Labels, Matcher, NAME, Pattern, Test};
pub use lex::{duration_ms, duration_text};
pub use parse::QUERY_BYTES_MAX;
pub use source::{Refused, STALE_BITS, Sample, Source, Visit, is_stale};

/// A parsed query.
#[derive(Debug, Clone)]
pub struct Query {
    text: String,
    root: ast::Expr,
}

impl Query {
    /// Reads a query; refuses what is not PromQL, or not served here.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let root = parse::parse(text).map_err(|error| error.placed(text))?;
        Ok(Self { text: text.to_owned(), root })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates at one time.
    pub fn instant(&self, source: &dyn Source, at_ms: i64, options: &Options<'_>) -> Result<Answer, Error> {
        eval::instant(&self.root, source, at_ms, options).map_err(|error| error.placed(&self.text))
    }

    /// Evaluates at `from_ms`, `from_ms + step_ms`, … up to `to_ms`.
    pub fn range(
        &self,
        source: &dyn Source,
        (from_ms, to_ms, step_ms): (i64, i64, i64),
        options: &Options<'_>,
    ) -> Result<Answer, Error> {
        eval::range(&self.root, source, (from_ms, to_ms, step_ms), options).map_err(|error| error.placed(&self.text))
    }

    /// What it selects, for callers that must fetch before they evaluate: matchers, and the times asked of the source.
    pub fn selections(&self, from_ms: i64, to_ms: i64, options: &Options<'_>) -> Vec<(Vec<Matcher>, i64, i64)> {
        eval::selections(&self.root, (from_ms, to_ms), options)
    }
}

/// Reads one selector without window or offset, as `match[]` of the HTTP API has it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, Error> {
    let root = parse::parse(text).map_err(|error| error.placed(text))?;
    match root.node {
        ast::Node::Select(selector) if selector.when.offset_ms == 0 && selector.when.at.is_none() => {
            Ok(selector.matchers)
        }
        _ => {
            Err(Error::new(ErrorKind::Parse, root.span, "a selector would be right, such as up{job=\"a\"}")
                .placed(text))
        }
    }
}
