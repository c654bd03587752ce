//! Which series: conditions on labels, as Prometheus has them.

use super::labels::NAME;
use regex::Regex;

/// Bytes of a compiled regular expression at most.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// How a label's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// It is this value; the empty value means: has no such label.
    Equal,
    /// It is not this value.
    NotEqual,
    /// The whole of it matches this regular expression (RE2's syntax).
    Regex,
    /// The whole of it does not match.
    NotRegex,
}

/// A condition on one label; a label that is not there has the empty value. The metric's name is label `__name__`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// How.
    pub op: Op,
    /// With what.
    pub value: String,
}

impl Matcher {
    /// A condition.
    pub fn new(label: &str, op: Op, value: &str) -> Self {
        Self { label: label.to_owned(), op, value: value.to_owned() }
    }

    /// Series of this name.
    pub fn name(name: &str) -> Self {
        Self::new(NAME, Op::Equal, name)
    }
}

/// A condition, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) label: String,
    test: Test,
    negated: bool,
    /// What a label that is not there gives.
    pub(crate) absent: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Is(String),
    OneOf(Vec<String>),
    Matches(Box<Regex>),
}

impl Condition {
    pub(crate) fn compile(matcher: &Matcher) -> Result<Self, regex::Error> {
        let (test, negated) = match matcher.op {
            Op::Equal => (Test::Is(matcher.value.clone()), false),
            Op::NotEqual => (Test::Is(matcher.value.clone()), true),
            Op::Regex => (expression(&matcher.value)?, false),
            Op::NotRegex => (expression(&matcher.value)?, true),
        };
        let mut condition = Self { label: matcher.label.clone(), test, negated, absent: false };
        condition.absent = condition.holds("");
        Ok(condition)
    }

    pub(crate) fn holds(&self, value: &str) -> bool {
        let found = match &self.test {
            Test::Is(wanted) => wanted == value,
            Test::OneOf(wanted) => wanted.iter().any(|wanted| wanted == value),
            Test::Matches(regex) => regex.is_match(value),
        };
        found != self.negated
    }

    /// The only values for which it holds, when they are few and known.
    pub(crate) fn values(&self) -> Option<&[String]> {
        match &self.test {
            _ if self.negated => None,
            Test::Is(wanted) => Some(std::slice::from_ref(wanted)),
            Test::OneOf(wanted) => Some(wanted),
            Test::Matches(_) => None,
        }
    }
}

fn expression(text: &str) -> Result<Test, regex::Error> {
    let plain = |part: &str| part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-:/ ".contains(&c) || c >= 0x80);
    if text.split('|').all(plain) {
        return Ok(Test::OneOf(text.split('|').map(str::to_owned).collect()));
    }
    let whole = format!("^(?s:{text})$");
    let built = regex::RegexBuilder::new(&whole).size_limit(REGEX_BYTES_MAX).build()?;
    Ok(Test::Matches(Box::new(built)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_must_match() {
        let holds = |op, with: &str, value: &str| {
            Condition::compile(&Matcher::new("a", op, with)).expect("compiles").holds(value)
        };
        assert!(holds(Op::Equal, "x", "x") && !holds(Op::Equal, "x", "xx"));
        assert!(holds(Op::NotEqual, "x", "") && !holds(Op::NotEqual, "", ""));
        assert!(holds(Op::Regex, "x|yy", "yy") && !holds(Op::Regex, "x|yy", "y"));
        assert!(holds(Op::Regex, "a.*", "a\nb") && !holds(Op::Regex, ".+", ""));
        assert!(holds(Op::Regex, "x.|y", "y") && !holds(Op::Regex, "x.|y", "zy"));
        assert!(holds(Op::NotRegex, "x.*", "y") && !holds(Op::NotRegex, "", ""));
        assert!(Condition::compile(&Matcher::new("a", Op::Regex, "(")).is_err());
        assert!(Condition::compile(&Matcher::new("a", Op::Regex, "(a{1000}){1000}")).is_err(), "bounded");
    }
}
