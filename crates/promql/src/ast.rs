//! The tree of a parsed query. Every node knows where it stands in the text.

use crate::error::Span;
use crate::labels::Matcher;
use std::fmt;

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    /// Series with one value at each step.
    Instant,
    /// Series with all samples of a window at each step.
    Range,
    Text,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Instant => "instant vector",
            Self::Range => "range vector",
            Self::Text => "string",
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub span: Span,
    pub node: Node,
}

/// When a selector looks, other than at the step itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum At {
    Ms(i64),
    Start,
    End,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct When {
    pub offset_ms: i64,
    pub at: Option<At>,
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub matchers: Vec<Matcher>,
    pub when: When,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    Select(Selector),
    Window { of: Selector, range_ms: i64 },
    Subquery { of: Box<Expr>, range_ms: i64, step_ms: Option<i64>, when: When },
    Call { function: &'static Function, arguments: Vec<Expr> },
    Aggregate { how: Aggregation, groups: Groups, parameter: Option<Box<Expr>>, of: Box<Expr> },
    Binary { op: Op, left: Box<Expr>, right: Box<Expr>, truth: bool, pairing: Pairing },
    Negate(Box<Expr>),
}

impl Expr {
    pub(crate) fn gives(&self) -> Type {
        match &self.node {
            Node::Number(_) => Type::Scalar,
            Node::Text(_) => Type::Text,
            Node::Select(_) | Node::Aggregate { .. } => Type::Instant,
            Node::Window { .. } | Node::Subquery { .. } => Type::Range,
            Node::Call { function, .. } => function.gives,
            Node::Negate(of) => of.gives(),
            Node::Binary { left, right, .. } => match (left.gives(), right.gives()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Instant,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    Topk,
    Bottomk,
    CountValues,
}

impl Aggregation {
    pub(crate) const ALL: [(&'static str, Self); 12] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("count", Self::Count),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("quantile", Self::Quantile),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
    ];

    /// What it wants before the vector.
    pub(crate) fn parameter(self) -> Option<Type> {
        match self {
            Self::Quantile | Self::Topk | Self::Bottomk => Some(Type::Scalar),
            Self::CountValues => Some(Type::Text),
            _ => None,
        }
    }
}

/// Labels that make groups.
#[derive(Debug, Clone)]
pub(crate) enum Groups {
    By(Vec<String>),
    Without(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Unless,
}

impl Op {
    /// Text and strength: a stronger one binds its operands first.
    pub(crate) const ALL: [(&'static str, Self, u8); 16] = [
        ("or", Self::Or, 1),
        ("and", Self::And, 2),
        ("unless", Self::Unless, 2),
        ("==", Self::Eq, 3),
        ("!=", Self::Ne, 3),
        ("<=", Self::Le, 3),
        ("<", Self::Lt, 3),
        (">=", Self::Ge, 3),
        (">", Self::Gt, 3),
        ("+", Self::Add, 4),
        ("-", Self::Sub, 4),
        ("*", Self::Mul, 5),
        ("/", Self::Div, 5),
        ("%", Self::Mod, 5),
        ("atan2", Self::Atan2, 5),
        ("^", Self::Pow, 6),
    ];

    pub(crate) fn compares(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    pub(crate) fn is_of_sets(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// Which side may have many series for one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Many {
    Neither,
    Left,
    Right,
}

/// How series of both sides find each other.
#[derive(Debug, Clone)]
pub(crate) struct Pairing {
    /// On these labels; otherwise on all but these.
    pub on: bool,
    pub labels: Vec<String>,
    pub many: Many,
    /// Labels taken from the side with one.
    pub taken: Vec<String>,
}

/// What a function computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// From one number and parameters that are scalars.
    Map,
    /// From a window of samples and parameters that are scalars.
    Window,
    Absent,
    AbsentOverTime,
    Scalar,
    Vector,
    Time,
    Timestamp,
    Sort,
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
}

/// A function that is served.
#[derive(Debug)]
pub(crate) struct Function {
    pub name: &'static str,
    pub takes: &'static [Type],
    /// How many of the last arguments may be left out; `usize::MAX`: the last may be repeated.
    pub optional: usize,
    pub gives: Type,
    pub work: Work,
}

use Type::{Instant, Range, Scalar, Text};

const fn f(name: &'static str, takes: &'static [Type], work: Work) -> Function {
    Function { name, takes, optional: 0, gives: Instant, work }
}

pub(crate) const FUNCTIONS: &[Function] = &[
    f("abs", &[Instant], Work::Map),
    f("absent", &[Instant], Work::Absent),
    f("absent_over_time", &[Range], Work::AbsentOverTime),
    f("avg_over_time", &[Range], Work::Window),
    f("ceil", &[Instant], Work::Map),
    f("changes", &[Range], Work::Window),
    f("clamp", &[Instant, Scalar, Scalar], Work::Map),
    f("clamp_max", &[Instant, Scalar], Work::Map),
    f("clamp_min", &[Instant, Scalar], Work::Map),
    f("count_over_time", &[Range], Work::Window),
    f("delta", &[Range], Work::Window),
    f("deriv", &[Range], Work::Window),
    f("exp", &[Instant], Work::Map),
    f("floor", &[Instant], Work::Map),
    f("histogram_quantile", &[Scalar, Instant], Work::HistogramQuantile),
    f("idelta", &[Range], Work::Window),
    f("increase", &[Range], Work::Window),
    f("irate", &[Range], Work::Window),
    Function { optional: usize::MAX, ..f("label_join", &[Instant, Text, Text, Text], Work::LabelJoin) },
    f("label_replace", &[Instant, Text, Text, Text, Text], Work::LabelReplace),
    f("last_over_time", &[Range], Work::Window),
    f("ln", &[Instant], Work::Map),
    f("log10", &[Instant], Work::Map),
    f("log2", &[Instant], Work::Map),
    f("max_over_time", &[Range], Work::Window),
    f("min_over_time", &[Range], Work::Window),
    f("predict_linear", &[Range, Scalar], Work::Window),
    f("present_over_time", &[Range], Work::Window),
    f("quantile_over_time", &[Scalar, Range], Work::Window),
    f("rate", &[Range], Work::Window),
    f("resets", &[Range], Work::Window),
    Function { optional: 1, ..f("round", &[Instant, Scalar], Work::Map) },
    Function { gives: Scalar, ..f("scalar", &[Instant], Work::Scalar) },
    f("sgn", &[Instant], Work::Map),
    f("sort", &[Instant], Work::Sort),
    f("sort_desc", &[Instant], Work::Sort),
    f("sqrt", &[Instant], Work::Map),
    f("stddev_over_time", &[Range], Work::Window),
    f("stdvar_over_time", &[Range], Work::Window),
    f("sum_over_time", &[Range], Work::Window),
    Function { gives: Scalar, ..f("time", &[], Work::Time) },
    f("timestamp", &[Instant], Work::Timestamp),
    f("vector", &[Scalar], Work::Vector),
];

/// Functions of Prometheus that are not served, so that the refusal can say so.
pub(crate) const FUNCTIONS_ABSENT: &[&str] = &[
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "double_exponential_smoothing",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "holt_winters",
    "hour",
    "info",
    "limitk",
    "limit_ratio",
    "mad_over_time",
    "minute",
    "month",
    "pi",
    "rad",
    "sin",
    "sinh",
    "sort_by_label",
    "sort_by_label_desc",
    "tan",
    "tanh",
    "year",
];
