//! Evaluation: every expression gives, for each step of the query, a scalar or rows of values.
//!
//! A row is dense: one value for each step, [`ABSENT`] where the series has none. Rows stream out of selectors and functions
//! of windows, so that a sum over many series never holds them all.

mod aggregate;
mod binary;
mod histogram;
mod map;
mod pair;
mod relabel;
mod select;
#[cfg(test)]
mod tests;
mod window;

use crate::ast::{Aggregation, At, Expr, Groups, Node, Op, Type, When, Work};
use crate::error::{Error, ErrorKind, Span};
use crate::labels::{Labels, Matcher, NAME, nan_last};
use crate::source::{Sample, Source};
use std::cell::Cell;
use std::collections::BTreeMap;

/// No value at this step. A NaN of its own; values of sources are freed of payloads.
const ABSENT: f64 = f64::from_bits(0x7ff8_0000_0ab5_e470);

fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// Bounds of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps of a range, as in Prometheus.
    pub steps_max: u64,
    /// Series that selectors may touch together.
    pub series_max: u64,
    /// Samples that selectors may touch together.
    pub samples_max: u64,
    /// Samples that functions of windows may look at together; a sample in many windows counts in each.
    pub looks_max: u64,
    /// Values held at once or one after another; 8 bytes each.
    pub values_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_max: 11_000,
            series_max: 500_000,
            samples_max: 100_000_000,
            looks_max: 1_000_000_000,
            values_max: 20_000_000,
        }
    }
}

/// How long a series holds its last value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookback {
    /// So long, whatever the series; Prometheus does so, by default for 5 minutes.
    Fixed(i64),
    /// Three times the time between its last two samples, within these bounds; the upper one where there is only one sample.
    /// So a series of one second goes within seconds of its target, and one of a minute does not flicker.
    Spacing {
        /// At least.
        min_ms: i64,
        /// At most.
        max_ms: i64,
    },
}

impl Default for Lookback {
    fn default() -> Self {
        Self::Spacing { min_ms: 15_000, max_ms: 300_000 }
    }
}

/// How to evaluate.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Bounds.
    pub limits: Limits,
    /// How long a value holds.
    pub lookback: Lookback,
    /// Step of subqueries that name none.
    pub subquery_step_ms: i64,
    /// True when the time for evaluation is over; asked often.
    pub stop: &'a dyn Fn() -> bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { limits: Limits::default(), lookback: Lookback::default(), subquery_step_ms: 60_000, stop: &|| false }
    }
}

/// What a query gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One number at one time.
    Scalar(Sample),
    /// A text.
    Text(i64, String),
    /// One sample of each series.
    Vector(Vec<(Labels, Sample)>),
    /// Samples of each series.
    Matrix(Vec<(Labels, Vec<Sample>)>),
}

/// The times of evaluation.
#[derive(Debug, Clone, Copy)]
struct Grid {
    start: i64,
    step: i64,
    count: usize,
}

impl Grid {
    fn at(&self, index: usize) -> i64 {
        self.start + index as i64 * self.step
    }

    fn end(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }
}

/// A series' values, one for each step.
#[derive(Debug, Clone)]
struct Row {
    labels: Labels,
    values: Vec<f64>,
}

type Sink<'s> = &'s mut dyn FnMut(Row) -> Result<(), Error>;

struct Evaluator<'a> {
    source: &'a dyn Source,
    options: &'a Options<'a>,
    /// Times of the whole query, for `@ start()` and `@ end()`.
    whole: (i64, i64),
    series: Cell<u64>,
    samples: Cell<u64>,
    looks: Cell<u64>,
    values: Cell<u64>,
}

fn failed<T>(span: Span, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Execution, span, message))
}

pub(crate) fn instant(root: &Expr, source: &dyn Source, at: i64, options: &Options<'_>) -> Result<Answer, Error> {
    let grid = Grid { start: at, step: 1, count: 1 };
    let evaluator = Evaluator::new(source, options, (at, at));
    match root.gives() {
        Type::Text => Ok(Answer::Text(at, evaluator.text(root)?)),
        Type::Scalar => Ok(Answer::Scalar((at, evaluator.scalar(root, grid)?[0]))),
        Type::Range => evaluator.raw(root, grid).map(Answer::Matrix),
        Type::Instant => {
            let mut rows = evaluator.vector(root, grid)?;
            if !is_ordered(root) {
                rows.sort_by(|a, b| a.labels.cmp(&b.labels));
            }
            let present = rows.into_iter().filter(|row| !is_absent(row.values[0]));
            Ok(Answer::Vector(present.map(|row| (row.labels, (at, row.values[0]))).collect()))
        }
    }
}

/// Whether the order of the answer has a meaning.
fn is_ordered(root: &Expr) -> bool {
    match &root.node {
        Node::Call { function, .. } => function.work == Work::Sort,
        Node::Aggregate { how, .. } => matches!(how, Aggregation::Topk | Aggregation::Bottomk),
        _ => false,
    }
}

pub(crate) fn range(
    root: &Expr,
    source: &dyn Source,
    (from, to, step): (i64, i64, i64),
    options: &Options<'_>,
) -> Result<Answer, Error> {
    let wrong = |message: String| Err(Error::new(ErrorKind::Limit, Span::default(), message));
    if to < from || step <= 0 {
        return failed(Span::default(), "the end lies before the start, or the step is not positive");
    }
    let count = (to.saturating_sub(from) / step).unsigned_abs().saturating_add(1);
    if count > options.limits.steps_max {
        let most = options.limits.steps_max;
        return wrong(format!(
            "{count} steps are asked for, and {most} are the most: widen the step or shorten the range"
        ));
    }
    let grid = Grid { start: from, step, count: count as usize };
    let evaluator = Evaluator::new(source, options, (from, to));
    let points = |values: &[f64]| -> Vec<Sample> {
        let all = values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
        all.map(|(at, value)| (grid.at(at), *value)).collect()
    };
    let rows = match root.gives() {
        Type::Scalar => vec![Row { labels: Labels::default(), values: evaluator.scalar(root, grid)? }],
        Type::Instant => evaluator.vector(root, grid)?,
        other => {
            return failed(
                root.span,
                format!("a {other} cannot be drawn over time: a scalar or an instant vector would be right"),
            );
        }
    };
    let mut series: Vec<(Labels, Vec<Sample>)> = Vec::with_capacity(rows.len());
    for row in rows {
        let points = points(&row.values);
        if !points.is_empty() {
            series.push((row.labels, points));
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Answer::Matrix(series))
}

/// What a tree selects.
pub(crate) fn selections(root: &Expr, (from, to): (i64, i64), options: &Options<'_>) -> Vec<(Vec<Matcher>, i64, i64)> {
    let held = match options.lookback {
        Lookback::Fixed(ms) => ms,
        Lookback::Spacing { max_ms, .. } => max_ms,
    };
    let mut found = Vec::new();
    let whole = (from, to);
    gather(root, (from, to), whole, held, &mut found);
    found
}

fn gather(
    expr: &Expr,
    (from, to): (i64, i64),
    whole: (i64, i64),
    held: i64,
    found: &mut Vec<(Vec<Matcher>, i64, i64)>,
) {
    let moved = |when: &When, back: i64| {
        let (from, to) = match when.at {
            None => (from, to),
            Some(At::Ms(at)) => (at, at),
            Some(At::Start) => (whole.0, whole.0),
            Some(At::End) => (whole.1, whole.1),
        };
        (from - when.offset_ms - back, to - when.offset_ms)
    };
    match &expr.node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Select(selector) => {
            let (from, to) = moved(&selector.when, held);
            found.push((selector.matchers.clone(), from, to));
        }
        Node::Window { of, range_ms } => {
            let (from, to) = moved(&of.when, *range_ms);
            found.push((of.matchers.clone(), from, to));
        }
        Node::Subquery { of, range_ms, when, .. } => gather(of, moved(when, *range_ms), whole, held, found),
        Node::Call { arguments, .. } => arguments.iter().for_each(|of| gather(of, (from, to), whole, held, found)),
        Node::Aggregate { parameter, of, .. } => {
            parameter.iter().for_each(|of| gather(of, (from, to), whole, held, found));
            gather(of, (from, to), whole, held, found);
        }
        Node::Binary { left, right, .. } => {
            gather(left, (from, to), whole, held, found);
            gather(right, (from, to), whole, held, found);
        }
        Node::Negate(of) => gather(of, (from, to), whole, held, found),
    }
}

impl<'a> Evaluator<'a> {
    fn new(source: &'a dyn Source, options: &'a Options<'a>, whole: (i64, i64)) -> Self {
        let [series, samples, looks, values] = std::array::from_fn(|_| Cell::new(0));
        Self { source, options, whole, series, samples, looks, values }
    }

    fn spend(&self, spent: &Cell<u64>, count: u64, most: u64, what: &str, span: Span) -> Result<(), Error> {
        let sum = spent.get().saturating_add(count);
        spent.set(sum);
        if sum > most {
            let message = format!("the query needs more than {most} {what}: select fewer series, or a shorter time");
            return Err(Error::new(ErrorKind::Limit, span, message));
        }
        Ok(())
    }

    fn check_time(&self, span: Span) -> Result<(), Error> {
        if (self.options.stop)() {
            let message = "the time for this query is over: select fewer series, a shorter time or a wider step";
            return Err(Error::new(ErrorKind::Timeout, span, message));
        }
        Ok(())
    }

    fn spend_values(&self, count: usize, span: Span) -> Result<(), Error> {
        self.spend(&self.values, count as u64, self.options.limits.values_max, "values in memory", span)
    }

    fn text(&self, expr: &Expr) -> Result<String, Error> {
        match &expr.node {
            Node::Text(text) => Ok(text.clone()),
            _ => failed(expr.span, "a string would be right here"),
        }
    }

    /// A scalar at each step.
    fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, Error> {
        self.spend_values(grid.count, expr.span)?;
        match &expr.node {
            Node::Number(number) => Ok(vec![*number; grid.count]),
            Node::Negate(of) => Ok(self.scalar(of, grid)?.into_iter().map(|value| -value).collect()),
            Node::Binary { op, left, right, .. } => {
                let (left, right) = (self.scalar(left, grid)?, self.scalar(right, grid)?);
                Ok(left.iter().zip(&right).map(|(a, b)| binary::both(*op, *a, *b)).collect())
            }
            Node::Call { function, arguments } if function.work == Work::Scalar => {
                let mut found = vec![ABSENT; grid.count];
                self.rows(&arguments[0], grid, &mut |row| {
                    for (to, value) in found.iter_mut().zip(&row.values).filter(|(_, value)| !is_absent(**value)) {
                        *to = if is_absent(*to) { *value } else { f64::NAN };
                    }
                    Ok(())
                })?;
                Ok(found.into_iter().map(|value| if is_absent(value) { f64::NAN } else { value }).collect())
            }
            Node::Call { .. } => Ok((0..grid.count).map(|at| grid.at(at) as f64 / 1_000.0).collect()),
            _ => failed(expr.span, "a scalar would be right here"),
        }
    }

    /// All rows, held.
    fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        self.rows(expr, grid, &mut |row| {
            self.spend_values(row.values.len(), expr.span)?;
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// All rows, one after another.
    fn rows(&self, expr: &Expr, grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        match &expr.node {
            Node::Select(selector) => self.select(expr.span, selector, grid, sink),
            Node::Negate(of) => self.unnamed(of, grid, &mut |value, _| -value, sink),
            Node::Aggregate { how, groups, parameter, of } => {
                let rows = self.aggregate(expr.span, *how, groups, parameter.as_deref(), of, grid)?;
                rows.into_iter().try_for_each(sink)
            }
            Node::Binary { op, left, right, truth, pairing } => {
                let sides = [left, right].map(|side| side.gives() == Type::Scalar);
                match sides {
                    [false, false] => {
                        let rows = self.pair(expr.span, *op, left, right, *truth, pairing, grid)?;
                        rows.into_iter().try_for_each(sink)
                    }
                    [scalar_left, _] => self.with_scalar(*op, left, right, *truth, scalar_left, grid, sink),
                }
            }
            Node::Call { function, arguments } => self.call(expr, function.name, function.work, arguments, grid, sink),
            _ => failed(expr.span, "an instant vector would be right here"),
        }
    }

    fn call(
        &self,
        expr: &Expr,
        name: &str,
        work: Work,
        arguments: &[Expr],
        grid: Grid,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        match work {
            Work::Map => self.map(name, arguments, grid, sink),
            Work::Window => self.over_windows(name, arguments, grid, sink),
            Work::Vector => sink(Row { labels: Labels::default(), values: self.scalar(&arguments[0], grid)? }),
            Work::Timestamp => self.timestamp(&arguments[0], grid, sink),
            Work::Absent | Work::AbsentOverTime => self.absent(&arguments[0], grid, sink),
            Work::LabelReplace => self.label_replace(expr.span, arguments, grid)?.into_iter().try_for_each(sink),
            Work::LabelJoin => self.label_join(expr.span, arguments, grid)?.into_iter().try_for_each(sink),
            Work::HistogramQuantile => {
                self.histogram_quantile(expr.span, arguments, grid)?.into_iter().try_for_each(sink)
            }
            Work::Sort => {
                let mut rows = self.vector(&arguments[0], grid)?;
                let down = name == "sort_desc";
                let by = |row: &Row| row.values.first().copied().unwrap_or(f64::NAN);
                rows.sort_by(|a, b| match down {
                    true => nan_last(-by(a), -by(b)),
                    false => nan_last(by(a), by(b)),
                });
                rows.into_iter().try_for_each(sink)
            }
            Work::Scalar | Work::Time => failed(expr.span, "a scalar is no instant vector: vector() makes one of it"),
        }
    }

    /// Each value through a function; the metric's name goes.
    fn unnamed(
        &self,
        of: &Expr,
        grid: Grid,
        f: &mut dyn FnMut(f64, usize) -> f64,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let mut through = |mut row: Row| {
            for (at, value) in row.values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
                *value = f(*value, at);
            }
            Row { labels: row.labels.unnamed(), values: row.values }
        };
        if !may_collide(of) {
            return self.rows(of, grid, &mut |row| sink(through(row)));
        }
        let rows = self.vector(of, grid)?.into_iter().map(through).collect();
        merged(rows, of.span, SAME_LABELS)?.into_iter().try_for_each(sink)
    }
}

const SAME_LABELS: &str = "two series have the same labels once the metric's name is dropped";

/// Whether rows of an expression may become the same once their metric's name is dropped.
fn may_collide(expr: &Expr) -> bool {
    match &expr.node {
        Node::Select(selector) | Node::Window { of: selector, .. } => Matcher::fixed_name(&selector.matchers).is_none(),
        Node::Subquery { of, .. } => may_collide(of),
        Node::Call { function, arguments } => match function.work {
            Work::LabelReplace | Work::LabelJoin => true,
            Work::Sort => may_collide(&arguments[0]),
            Work::Window if function.name == "last_over_time" => may_collide(&arguments[0]),
            _ => false,
        },
        Node::Aggregate { how, groups, of, .. } => match (how, groups) {
            (Aggregation::Topk | Aggregation::Bottomk, _) => may_collide(of),
            (_, Groups::By(names)) => names.iter().any(|name| name == NAME),
            _ => *how == Aggregation::CountValues,
        },
        Node::Binary { op, truth, .. } => op.is_of_sets() || op.compares() && !truth,
        Node::Number(_) | Node::Text(_) | Node::Negate(_) => false,
    }
}

/// Makes one row of those with the same labels; two values at one step are refused.
fn merged(rows: Vec<Row>, span: Span, why: &str) -> Result<Vec<Row>, Error> {
    let mut places: BTreeMap<Labels, usize> = BTreeMap::new();
    let mut result: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(at) = places.get(&row.labels) else {
            places.insert(row.labels.clone(), result.len());
            result.push(row);
            continue;
        };
        let known = &mut result[*at];
        for (to, value) in known.values.iter_mut().zip(&row.values).filter(|(_, value)| !is_absent(**value)) {
            if !is_absent(*to) {
                return failed(span, format!("{why}: {}", known.labels));
            }
            *to = *value;
        }
    }
    Ok(result)
}

/// Whether an operation keeps the metric's name.
fn keeps_name(op: Op, truth: bool) -> bool {
    op.is_of_sets() || op.compares() && !truth
}
