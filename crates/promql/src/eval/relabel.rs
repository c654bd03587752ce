//! `label_replace` and `label_join`.

use super::{Evaluator, Grid, Row, failed, merged};
use crate::ast::Expr;
use crate::error::{Error, Span};
use crate::labels::whole;

const WHY: &str = "two series have the same labels after the change";

fn check_label(span: Span, name: &str) -> Result<(), Error> {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Ok(());
    }
    failed(span, format!("{name:?} is not a label's name: letters, digits and _ would be right"))
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&self, span: Span, arguments: &[Expr], grid: Grid) -> Result<Vec<Row>, Error> {
        let [of, to, replacement, from, pattern] = arguments else {
            return failed(span, "five arguments would be right");
        };
        let (label, from) = (self.text(to)?, self.text(from)?);
        let replacement = self.text(replacement)?;
        check_label(to.span, &label)?;
        let pattern_text = self.text(pattern)?;
        let regex = whole(&pattern_text).or_else(|message| failed(pattern.span, message))?;
        let mut rows = self.vector(of, grid)?;
        for row in &mut rows {
            let Some(found) = regex.captures(row.labels.get(&from)) else { continue };
            let mut value = String::new();
            found.expand(&replacement, &mut value);
            row.labels.set(&label, &value);
        }
        merged(rows, span, WHY)
    }

    pub(super) fn label_join(&self, span: Span, arguments: &[Expr], grid: Grid) -> Result<Vec<Row>, Error> {
        let texts = arguments[1..].iter().map(|argument| self.text(argument));
        let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
        let [label, separator, from @ ..] = &texts[..] else {
            return failed(span, "three arguments or more would be right");
        };
        check_label(arguments[1].span, label)?;
        let mut rows = self.vector(&arguments[0], grid)?;
        for row in &mut rows {
            let joined: Vec<&str> = from.iter().map(|name| row.labels.get(name)).collect();
            let joined = joined.join(separator);
            row.labels.set(label, &joined);
        }
        merged(rows, span, WHY)
    }
}
