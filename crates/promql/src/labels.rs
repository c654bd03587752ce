//! Label sets and what selects them.

use regex::Regex;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";
/// Bytes of a compiled expression, so that `(a{1000}){1000}` is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Labels in order of their names, the metric's name among them; no value is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<(Arc<str>, Arc<str>)>);

impl Labels {
    /// Orders them; empty values are no labels, and of two with one name the last counts.
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let mut sorted: Vec<(Arc<str>, Arc<str>)> = pairs.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.reverse();
        sorted.dedup_by(|a, b| a.0 == b.0);
        sorted.reverse();
        sorted.retain(|(_, value)| !value.is_empty());
        Self(sorted)
    }

    /// The value of a label; empty when it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name)).map_or("", |at| &self.0[at].1)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without the metric's name.
    pub fn unnamed(mut self) -> Self {
        self.remove(NAME);
        self
    }

    /// Only these.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        Self(self.0.iter().filter(|(name, _)| names.iter().any(|n| **n == **name)).cloned().collect())
    }

    /// All but these and the metric's name.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        let keeps = |name: &str| name != NAME && !names.iter().any(|n| n == name);
        Self(self.0.iter().filter(|(name, _)| keeps(name)).cloned().collect())
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| **known != *name);
    }

    /// Sets one; an empty value takes it away.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        if !value.is_empty() {
            let at = self.0.partition_point(|(known, _)| **known < *name);
            self.0.insert(at, (name.into(), value.into()));
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get(NAME))?;
        let mut others = self.iter().filter(|(name, _)| *name != NAME).peekable();
        if others.peek().is_none() && !self.get(NAME).is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = others.map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// How a matcher compares.
#[derive(Debug, Clone)]
pub enum Test {
    /// `=`
    Is(String),
    /// `!=`
    IsNot(String),
    /// `=~`: the whole value.
    Like(Pattern),
    /// `!~`
    Unlike(Pattern),
}

/// A regular expression that must fit the whole of a value.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As it was written.
    pub text: String,
    regex: Regex,
}

/// One condition on one label; an absent label has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// The condition.
    pub test: Test,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), regex: whole(text)? })
    }
}

impl Matcher {
    /// Whether a value passes.
    pub fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Is(right) => value == right,
            Test::IsNot(wrong) => value != wrong,
            Test::Like(right) => right.regex.is_match(value),
            Test::Unlike(wrong) => !wrong.regex.is_match(value),
        }
    }

    /// Whether a series passes all of these.
    pub fn all(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)))
    }

    /// The metric's name, when the matchers fix it.
    pub fn fixed_name(matchers: &[Self]) -> Option<&str> {
        matchers.iter().find_map(|matcher| match &matcher.test {
            Test::Is(name) if matcher.name == NAME => Some(name.as_str()),
            _ => None,
        })
    }
}

/// An expression that must fit the whole of a value.
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| {
        let told = error.to_string();
        let last = told.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        format!("bad regular expression {pattern:?}: {last}")
    })
}

/// Orders numbers with NaN last.
pub(crate) fn nan_last(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn a_set_is_ordered_and_has_no_empty_values() {
        let mut set = labels(&[("b", "2"), (NAME, "m"), ("a", ""), ("b", "3")]);
        assert_eq!(set.to_string(), "m{b=\"3\"}");
        set.set("a", "x");
        set.set("b", "");
        assert_eq!((set.get("a"), set.get("b"), set.len()), ("x", "", 2));
        assert_eq!(set.without(&["zz".to_owned()]).to_string(), "{a=\"x\"}");
        assert_eq!(set.only(&["a".to_owned()]).unnamed().to_string(), "{a=\"x\"}");
    }

    #[test]
    fn an_expression_fits_the_whole_value() {
        let like = |pattern: &str| whole(pattern).expect("good");
        assert!(like("a|b").is_match("b") && !like("a|b").is_match("ab"));
        assert!(like("").is_match("") && !like("").is_match("x"));
        assert!(whole("a(").expect_err("open").contains("unclosed"));
        assert!(whole("(a{1000}){1000}").is_err());
    }
}
