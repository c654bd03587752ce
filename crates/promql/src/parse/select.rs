//! Selectors, their windows, subqueries, `offset` and `@`.

use super::Parser;
use crate::ast::{At, Expr, Node, Selector, Type, When};
use crate::error::{Error, ErrorKind, Span};
use crate::labels::{Matcher, NAME, Pattern, Test};
use crate::lex::Token;

impl Parser {
    /// `name`, `name{…}` or `{…}`.
    pub(super) fn selector(&mut self, name: Option<&str>) -> Result<Expr, Error> {
        let start = self.span();
        let mut matchers = Vec::new();
        if let Some(name) = name {
            self.next();
            matchers.push(Matcher { name: NAME.to_owned(), test: Test::Is(name.to_owned()) });
        }
        if self.is("{") {
            self.matchers(&mut matchers, name.is_some())?;
        }
        let span = start.to(self.last());
        if matchers.iter().all(|matcher| matcher.matches("")) {
            let message = "a selector that fits every series is refused: name a metric, or give one label a value that is not empty";
            return Err(Error::new(ErrorKind::Parse, span, message));
        }
        Ok(Expr { span, node: Node::Select(Selector { matchers, when: When::default() }) })
    }

    fn matchers(&mut self, to: &mut Vec<Matcher>, named: bool) -> Result<(), Error> {
        self.expect("{", "before matchers")?;
        while !self.eat("}") {
            let at = self.span();
            let (token, _) = self.next();
            let label = match token {
                Token::Name(label) if !label.contains(':') => label,
                // `{"name"}` of Prometheus 3.
                Token::Text(name) if self.is(",") || self.is("}") => {
                    to.push(Matcher { name: NAME.to_owned(), test: Test::Is(name) });
                    self.eat(",");
                    continue;
                }
                Token::Text(label) => label,
                other => {
                    let message =
                        format!("unexpected {} among matchers: a label's name or \"}}\" would be right", other.shown());
                    return Err(Error::new(ErrorKind::Parse, at, message));
                }
            };
            if label == NAME && named {
                return Err(Error::new(
                    ErrorKind::Parse,
                    at,
                    "the metric's name is given twice: before the brackets and in them",
                ));
            }
            let test = self.test(&label)?;
            to.push(Matcher { name: label, test });
            if !self.eat(",") && !self.is("}") {
                let message =
                    format!("unexpected {} after a matcher: \",\" or \"}}\" would be right", self.peek().shown());
                return Err(self.wrong(message));
            }
        }
        Ok(())
    }

    fn test(&mut self, label: &str) -> Result<Test, Error> {
        let Token::Sign(sign @ ("=" | "!=" | "=~" | "!~")) = *self.peek() else {
            let message =
                format!("unexpected {} after label {label}: =, !=, =~ or !~ would be right", self.peek().shown());
            return Err(self.wrong(message));
        };
        self.next();
        let at = self.span();
        let Token::Text(value) = self.peek().clone() else {
            let message =
                format!("unexpected {} after {label}{sign}: a string in quotes would be right", self.peek().shown());
            return Err(self.wrong(message));
        };
        self.next();
        let regex = |value: &str| Pattern::new(value).map_err(|message| Error::new(ErrorKind::Parse, at, message));
        Ok(match sign {
            "=" => Test::Is(value),
            "!=" => Test::IsNot(value),
            "=~" => Test::Like(regex(&value)?),
            _ => Test::Unlike(regex(&value)?),
        })
    }

    /// What may follow an expression: `[range]`, `[range:step]`, `offset`, `@`.
    pub(super) fn after(&mut self, mut expr: Expr, is_selector: bool) -> Result<Expr, Error> {
        if self.is("[") {
            expr = self.window(expr, is_selector)?;
        }
        let (mut moved, mut pinned) = (false, false);
        loop {
            let at = self.span();
            if self.word("offset") {
                let ms = self.offset()?;
                let when = when(&mut expr, at)?;
                if std::mem::replace(&mut moved, true) {
                    return Err(Error::new(ErrorKind::Parse, at, "offset is given twice"));
                }
                when.offset_ms = ms;
            } else if self.is("@") {
                let pin = self.pin()?;
                let when = when(&mut expr, at)?;
                if std::mem::replace(&mut pinned, true) {
                    return Err(Error::new(ErrorKind::Parse, at, "@ is given twice"));
                }
                when.at = Some(pin);
            } else {
                break;
            }
            expr.span = expr.span.to(self.last());
        }
        if self.is("[") {
            return self.window(expr, false).and_then(|expr| self.after(expr, false));
        }
        Ok(expr)
    }

    fn window(&mut self, expr: Expr, is_selector: bool) -> Result<Expr, Error> {
        let open = self.expect("[", "before a window")?;
        let range_ms = self.duration("in a window")?;
        if range_ms == 0 {
            return Err(Error::new(
                ErrorKind::Parse,
                self.last(),
                "a window of no length holds nothing: make it longer",
            ));
        }
        if self.eat(":") {
            let step_ms = if self.is("]") { None } else { Some(self.duration("as the step of a subquery")?) };
            let end = self.expect("]", "after the step of a subquery")?;
            if step_ms == Some(0) {
                return Err(Error::new(ErrorKind::Parse, end, "a step of no length never ends: make it longer"));
            }
            if expr.gives() != Type::Instant && expr.gives() != Type::Scalar {
                let message = format!("a subquery is over an instant vector, and this is a {}", expr.gives());
                return Err(Error::new(ErrorKind::Parse, expr.span, message));
            }
            let span = expr.span.to(end);
            let node = Node::Subquery { of: Box::new(expr), range_ms, step_ms, when: When::default() };
            return Ok(Expr { span, node });
        }
        let end = self.expect("]", "after a window")?;
        let span = expr.span.to(end);
        match expr.node {
            Node::Select(of) if is_selector => Ok(Expr { span, node: Node::Window { of, range_ms } }),
            _ => {
                let message = "a window is of a selector itself, and before its offset; for any other expression write a subquery: [5m:10s]";
                Err(Error::new(ErrorKind::Parse, open.to(end), message))
            }
        }
    }

    fn duration(&mut self, place: &str) -> Result<i64, Error> {
        match *self.peek() {
            Token::DurationMs(ms) => {
                self.next();
                Ok(ms)
            }
            _ => Err(self.wrong(format!(
                "unexpected {} {place}: a duration such as 30s, 5m or 1h would be right",
                self.peek().shown()
            ))),
        }
    }

    fn offset(&mut self) -> Result<i64, Error> {
        self.next();
        let back = self.eat("-");
        let ms = self.duration("after offset")?;
        Ok(if back { -ms } else { ms })
    }

    fn pin(&mut self) -> Result<At, Error> {
        self.next();
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.eat_word(word) {
                self.expect("(", "after @ start or @ end")?;
                self.expect(")", "after @ start( or @ end(")?;
                return Ok(at);
            }
        }
        let back = self.eat("-");
        match *self.peek() {
            Token::Number(seconds) if seconds.abs() < 1e12 => {
                self.next();
                let ms = (seconds * 1_000.0).round() as i64;
                Ok(At::Ms(if back { -ms } else { ms }))
            }
            _ => Err(self.wrong(format!(
                "unexpected {} after @: a time in seconds, start() or end() would be right",
                self.peek().shown()
            ))),
        }
    }
}

fn when(expr: &mut Expr, at: Span) -> Result<&mut When, Error> {
    match &mut expr.node {
        Node::Select(selector) | Node::Window { of: selector, .. } => Ok(&mut selector.when),
        Node::Subquery { when, .. } => Ok(when),
        _ => Err(Error::new(ErrorKind::Parse, at, "offset and @ follow a selector, a window or a subquery directly")),
    }
}
