//! From words to a tree whose types fit. Absent: what the tree means over data; that is the evaluator's.
//!
//! A parser of our own, for places: every refusal says where in the text it stands, and what would be right there.

mod check;
mod select;
#[cfg(test)]
mod tests;

use crate::ast::{Aggregation, Expr, FUNCTIONS, FUNCTIONS_ABSENT, Function, Groups, Many, Node, Op, Pairing};
use crate::error::{Error, ErrorKind, Span};
use crate::lex::{Token, tokens};

/// Bytes of a query.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// Expressions within one another.
const DEPTH_MAX: usize = 100;
/// Operators of one query: the tree of a long chain is deep.
const OPERATORS_MAX: usize = 500;
/// How strongly `^` binds; a sign before a number binds weaker.
const POWER: u8 = 6;

/// Reads a query.
pub(crate) fn parse(query: &str) -> Result<Expr, Error> {
    if query.len() > QUERY_BYTES_MAX {
        let message = format!("the query has {} bytes; at most {QUERY_BYTES_MAX} are read", query.len());
        return Err(Error::new(ErrorKind::Limit, Span::default(), message));
    }
    let mut parser = Parser { words: tokens(query)?, at: 0, depth: 0, operators: 0 };
    if parser.peek() == &Token::End {
        return Err(parser.wrong("no expression: the query is empty"));
    }
    let expr = parser.expr(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => {
            let message =
                format!("unexpected {} after a whole expression: an operator or the end would be right", other.shown());
            Err(parser.wrong(message))
        }
    }
}

struct Parser {
    words: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.words[self.at].0
    }

    fn span(&self) -> Span {
        self.words[self.at].1
    }

    /// The word read last.
    fn last(&self) -> Span {
        self.words[self.at.saturating_sub(1)].1
    }

    fn next(&mut self) -> (Token, Span) {
        let word = self.words[self.at].clone();
        self.at = (self.at + 1).min(self.words.len() - 1);
        word
    }

    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Parse, self.span(), message)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &str, after: &str) -> Result<Span, Error> {
        if self.is(sign) {
            return Ok(self.next().1);
        }
        Err(self.wrong(format!("unexpected {} {after}: {sign:?} would be right", self.peek().shown())))
    }

    /// A keyword, in any case.
    fn word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(name) if name.eq_ignore_ascii_case(word))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word(word);
        if found {
            self.next();
        }
        found
    }

    fn expr(&mut self, weakest: u8) -> Result<Expr, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("expressions stand more than {DEPTH_MAX} deep in one another");
            return Err(Error::new(ErrorKind::Limit, self.span(), message));
        }
        let mut left = self.signed()?;
        while let Some((op, strength)) = self.operator().filter(|(_, strength)| *strength >= weakest) {
            let at = self.next().1;
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    at,
                    format!("more than {OPERATORS_MAX} operators in one query"),
                ));
            }
            let (truth, pairing) = self.modifiers(op)?;
            // `^` binds to the right, all others to the left.
            let right = self.expr(if op == Op::Pow { strength } else { strength + 1 })?;
            left = check::binary(op, at, left, right, truth, pairing)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<(Op, u8)> {
        let text = match self.peek() {
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Name(name) => name.to_ascii_lowercase(),
            _ => return None,
        };
        Op::ALL.iter().find(|(known, _, _)| *known == text).map(|(_, op, strength)| (*op, *strength))
    }

    /// `bool`, `on (…)`, `ignoring (…)`, `group_left (…)`, `group_right (…)`.
    fn modifiers(&mut self, op: Op) -> Result<(bool, Option<Pairing>), Error> {
        let truth = self.word("bool");
        if truth {
            if !op.compares() {
                return Err(self.wrong("\"bool\" goes with comparisons only (==, !=, <, <=, >, >=)"));
            }
            self.next();
        }
        let on = self.word("on");
        if !on && !self.word("ignoring") {
            return Ok((truth, None));
        }
        self.next();
        let mut pairing = Pairing { on, labels: self.names()?, many: Many::Neither, taken: Vec::new() };
        for (word, many) in [("group_left", Many::Left), ("group_right", Many::Right)] {
            if !self.word(word) {
                continue;
            }
            if op.is_of_sets() {
                return Err(self.wrong(format!("{word} does not go with and, or, unless: they pair many with many")));
            }
            self.next();
            pairing.many = many;
            if self.is("(") {
                let at = self.span();
                pairing.taken = self.names()?;
                if let Some(both) = pairing.taken.iter().find(|name| on && pairing.labels.contains(name)) {
                    let message = format!("label {both:?} is both in on() and in {word}()");
                    return Err(Error::new(ErrorKind::Parse, at.to(self.last()), message));
                }
            }
            break;
        }
        Ok((truth, Some(pairing)))
    }

    /// `(a, b)`.
    fn names(&mut self) -> Result<Vec<String>, Error> {
        self.expect("(", "before a list of labels")?;
        let mut names = Vec::new();
        while !self.eat(")") {
            match self.peek().clone() {
                Token::Name(name) if !name.contains(':') => {
                    self.next();
                    names.push(name);
                }
                other => {
                    return Err(self.wrong(format!(
                        "unexpected {} in a list of labels: a label's name would be right",
                        other.shown()
                    )));
                }
            }
            if !self.eat(",") && !self.is(")") {
                return Err(self.wrong(format!(
                    "unexpected {} in a list of labels: \",\" or \")\" would be right",
                    self.peek().shown()
                )));
            }
        }
        Ok(names)
    }

    fn signed(&mut self) -> Result<Expr, Error> {
        let start = self.span();
        if self.eat("+") {
            let of = self.expr(POWER)?;
            check::signed(&of)?;
            return Ok(of);
        }
        if !self.eat("-") {
            return self.primary();
        }
        let of = self.expr(POWER)?;
        check::signed(&of)?;
        let span = start.to(of.span);
        let node = match of.node {
            Node::Number(number) => Node::Number(-number),
            _ => Node::Negate(Box::new(of)),
        };
        Ok(Expr { span, node })
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let (token, span) = (self.peek().clone(), self.span());
        let expr = match token {
            Token::Number(number) => {
                self.next();
                Expr { span, node: Node::Number(number) }
            }
            Token::Text(text) => {
                self.next();
                Expr { span, node: Node::Text(text) }
            }
            Token::Sign("(") => {
                self.next();
                let inner = self.expr(0)?;
                let end = self.expect(")", "in brackets")?;
                // A window belongs to a selector itself; in brackets it is an expression like any other.
                let whole = Expr { span: span.to(end), node: inner.node };
                return self.after(whole, false);
            }
            Token::Sign("{") => self.selector(None)?,
            Token::Name(name) => self.named(&name)?,
            other => {
                let message =
                    format!("unexpected {}: a metric, a function, a number or \"(\" would be right", other.shown());
                return Err(self.wrong(message));
            }
        };
        let is_selector = matches!(expr.node, Node::Select(_));
        self.after(expr, is_selector)
    }

    fn named(&mut self, name: &str) -> Result<Expr, Error> {
        let span = self.span();
        let follows = |sign: &str| matches!(&self.words[(self.at + 1).min(self.words.len() - 1)].0, Token::Sign(found) if *found == sign);
        let aggregation = Aggregation::ALL.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        if let Some((_, how)) = aggregation {
            let next = &self.words[(self.at + 1).min(self.words.len() - 1)].0;
            let grouped =
                matches!(next, Token::Name(word) if ["by", "without"].iter().any(|by| word.eq_ignore_ascii_case(by)));
            if grouped || follows("(") {
                return self.aggregate(*how);
            }
        }
        if follows("(") {
            return self.call(name);
        }
        match name.to_ascii_lowercase().as_str() {
            "inf" => {
                self.next();
                Ok(Expr { span, node: Node::Number(f64::INFINITY) })
            }
            "nan" => {
                self.next();
                Ok(Expr { span, node: Node::Number(f64::NAN) })
            }
            "and" | "or" | "unless" | "atan2" | "bool" | "on" | "ignoring" | "group_left" | "group_right" | "by"
            | "without" | "offset" => {
                Err(self.wrong(format!("unexpected {name:?}: a metric, a function, a number or \"(\" would be right")))
            }
            _ => self.selector(Some(name)),
        }
    }

    fn aggregate(&mut self, how: Aggregation) -> Result<Expr, Error> {
        let start = self.next().1;
        let mut groups = self.groups()?;
        let mut arguments = self.arguments()?;
        let end = self.last();
        if groups.is_none() {
            groups = self.groups()?;
        }
        let span = start.to(if groups.is_some() { self.last() } else { end });
        check::aggregate(how, start.to(end), &arguments)?;
        let of = Box::new(arguments.pop().expect("the check counted them"));
        let parameter = arguments.pop().map(Box::new);
        let groups = groups.unwrap_or(Groups::By(Vec::new()));
        Ok(Expr { span, node: Node::Aggregate { how, groups, parameter, of } })
    }

    fn groups(&mut self) -> Result<Option<Groups>, Error> {
        if self.eat_word("by") {
            return Ok(Some(Groups::By(self.names()?)));
        }
        if self.eat_word("without") {
            return Ok(Some(Groups::Without(self.names()?)));
        }
        Ok(None)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Error> {
        self.expect("(", "before arguments")?;
        let mut arguments = Vec::new();
        while !self.is(")") {
            arguments.push(self.expr(0)?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")", "after an argument")?;
        Ok(arguments)
    }

    fn call(&mut self, name: &str) -> Result<Expr, Error> {
        let start = self.span();
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            return Err(unknown(name, start));
        };
        self.next();
        let arguments = self.arguments()?;
        let span = start.to(self.last());
        check::call(function, span, &arguments)?;
        Ok(Expr { span, node: Node::Call { function, arguments } })
    }
}

/// A function that is not served: one of Prometheus, or none at all.
fn unknown(name: &str, span: Span) -> Error {
    let names = |functions: &[Function]| functions.iter().map(|function| function.name).collect::<Vec<_>>().join(", ");
    if FUNCTIONS_ABSENT.contains(&name) {
        let message =
            format!("the function {name} of PromQL is not supported here; supported are {}", names(FUNCTIONS));
        return Error::new(ErrorKind::Unsupported, span, message);
    }
    let near = FUNCTIONS.iter().map(|function| (distance(name, function.name), function.name)).min();
    let message = match near {
        Some((steps, near)) if steps <= 2 => format!("unknown function {name}: did you mean {near}?"),
        _ => format!("unknown function {name}; supported are {}", names(FUNCTIONS)),
    };
    Error::new(ErrorKind::Parse, span, message)
}

/// Edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = best;
        }
    }
    row[b.len()]
}
