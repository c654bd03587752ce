//! Series out of the source: held values for selectors, samples for windows.

use super::window::{Window, resets};
use super::{ABSENT, Evaluator, Grid, Lookback, Row, SAME_LABELS, Sink, failed, is_absent, may_collide, merged};
use crate::ast::{At, Expr, Node, Selector, When};
use crate::error::{Error, ErrorKind, Span};
use crate::labels::{Labels, Matcher, NAME, Test};
use crate::source::{Refused, Sample, is_stale};

/// Looks between two glances at the clock.
const LOOKS_A_GLANCE: u64 = 1 << 18;

/// Takes a series of the source.
type EachSeries<'e> = &'e mut dyn FnMut(Labels, &[Sample]) -> Result<(), Error>;
/// Takes a series under a window and the times at which windows end; gives a value for each.
type EachWindowed<'e> = &'e mut dyn FnMut(Labels, &[Sample], Grid) -> Result<Vec<f64>, Error>;

/// The times a selector looks at, and over how many steps one of them spreads.
struct Moved {
    grid: Grid,
    /// Steps that all see the one time of `grid`; 0: each its own.
    spread: usize,
}

impl Moved {
    fn spread(&self, mut values: Vec<f64>) -> Vec<f64> {
        if self.spread > 0 {
            let one = values.first().copied().unwrap_or(ABSENT);
            values = vec![one; self.spread];
        }
        values
    }
}

impl Evaluator<'_> {
    fn moved(&self, when: &When, grid: Grid) -> Moved {
        let at = match when.at {
            None => return Moved { grid: Grid { start: grid.start - when.offset_ms, ..grid }, spread: 0 },
            Some(At::Ms(at)) => at,
            Some(At::Start) => self.whole.0,
            Some(At::End) => self.whole.1,
        };
        Moved { grid: Grid { start: at - when.offset_ms, step: 1, count: 1 }, spread: grid.count }
    }

    /// Shows each series of the source, counted.
    fn visit(
        &self,
        span: Span,
        matchers: &[Matcher],
        (from, to): (i64, i64),
        each: EachSeries<'_>,
    ) -> Result<(), Error> {
        let limits = &self.options.limits;
        let mut why = None;
        let selected = self.source.select(matchers, from, to, &mut |labels, samples| {
            let one = self
                .check_time(span)
                .and_then(|()| self.spend(&self.series, 1, limits.series_max, "series", span))
                .and_then(|()| self.spend(&self.samples, samples.len() as u64, limits.samples_max, "samples", span))
                .and_then(|()| each(labels, samples));
            one.map_err(|error| {
                why = Some(error);
                Refused::Visitor
            })
        });
        match (selected, why) {
            (_, Some(error)) => Err(error),
            (Err(Refused::Source(message)), None) => Err(Error::new(ErrorKind::Execution, span, message)),
            _ => Ok(()),
        }
    }

    pub(super) fn select(&self, span: Span, selector: &Selector, grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        self.held(span, selector, grid, &|(_, value)| value, sink)
    }

    fn held(
        &self,
        span: Span,
        selector: &Selector,
        grid: Grid,
        of: &dyn Fn(Sample) -> f64,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let moved = self.moved(&selector.when, grid);
        let lookback = self.options.lookback;
        let longest = match lookback {
            Lookback::Fixed(ms) => ms,
            Lookback::Spacing { max_ms, .. } => max_ms,
        };
        let span_of_time = (moved.grid.start - longest, moved.grid.end());
        self.visit(span, &selector.matchers, span_of_time, &mut |labels, samples| {
            let values = hold(samples, moved.grid, lookback, of);
            match values.iter().all(|value| is_absent(*value)) {
                true => Ok(()),
                false => sink(Row { labels, values: moved.spread(values) }),
            }
        })
    }

    /// `timestamp()`: when a selector's value was taken; of other expressions, the step.
    pub(super) fn timestamp(&self, of: &Expr, grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        let Node::Select(selector) = &of.node else {
            return self.unnamed(of, grid, &mut |_, at| grid.at(at) as f64 / 1_000.0, sink);
        };
        let mut rows = Vec::new();
        self.held(of.span, selector, grid, &|(time, _)| time as f64 / 1_000.0, &mut |row| {
            self.spend_values(row.values.len(), of.span)?;
            rows.push(Row { labels: row.labels.unnamed(), values: row.values });
            Ok(())
        })?;
        merged(rows, of.span, SAME_LABELS)?.into_iter().try_for_each(sink)
    }

    /// Shows each series under a window, with the times at which windows end.
    fn sampled(&self, of: &Expr, grid: Grid, each: EachWindowed<'_>, sink: Sink<'_>) -> Result<(), Error> {
        match &of.node {
            Node::Window { of: selector, range_ms } => {
                let moved = self.moved(&selector.when, grid);
                let span_of_time = (moved.grid.start - range_ms, moved.grid.end());
                let mut whole = Vec::new();
                self.visit(of.span, &selector.matchers, span_of_time, &mut |labels, samples| {
                    whole.clear();
                    let real = samples.iter().filter(|(_, value)| !is_stale(*value));
                    whole.extend(real.map(|(time, value)| (*time, plain(*value))));
                    let values = each(labels.clone(), &whole, moved.grid)?;
                    sink(Row { labels, values: moved.spread(values) })
                })
            }
            Node::Subquery { of: inner, range_ms, step_ms, when } => {
                let moved = self.moved(when, grid);
                let step = step_ms.unwrap_or(self.options.subquery_step_ms);
                let first = moved.grid.start - range_ms;
                let start = first.div_euclid(step) * step + if first.rem_euclid(step) == 0 { 0 } else { step };
                let count = (moved.grid.end() - start).div_euclid(step) + 1;
                if count.unsigned_abs() > self.options.limits.steps_max {
                    let most = self.options.limits.steps_max;
                    let message = format!("this subquery has {count} steps, and {most} are the most: widen its step");
                    return Err(Error::new(ErrorKind::Limit, of.span, message));
                }
                let under = Grid { start, step, count: usize::try_from(count).unwrap_or(0) };
                let mut through = |row: Row| {
                    let present = row.values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
                    let samples: Vec<Sample> = present.map(|(at, value)| (under.at(at), *value)).collect();
                    let values = each(row.labels.clone(), &samples, moved.grid)?;
                    sink(Row { labels: row.labels, values: moved.spread(values) })
                };
                match inner.gives() {
                    crate::ast::Type::Scalar => {
                        through(Row { labels: Labels::default(), values: self.scalar(inner, under)? })
                    }
                    _ => self.rows(inner, under, &mut through),
                }
            }
            _ => failed(of.span, "a range vector would be right here"),
        }
    }

    /// A function over the windows of each series.
    pub(super) fn over_windows(&self, name: &str, arguments: &[Expr], grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        let of = arguments.iter().find(|argument| argument.gives() == crate::ast::Type::Range);
        let of = of.expect("the parser checked the types");
        let parameter = arguments.iter().find(|argument| argument.gives() == crate::ast::Type::Scalar);
        let parameter = parameter.map(|parameter| self.scalar(parameter, grid)).transpose()?.unwrap_or_default();
        let f = super::window::function(name);
        let range_ms = range_of(of);
        let mut each = |_: Labels, samples: &[Sample], windows: Grid| {
            let sums = resets(samples);
            let (mut low, mut high) = (0, 0);
            let mut values = vec![ABSENT; windows.count];
            for (at, to) in values.iter_mut().enumerate() {
                let (start, end) = (windows.at(at) - range_ms, windows.at(at));
                high += samples[high..].iter().take_while(|(time, _)| *time <= end).count();
                low += samples[low..].iter().take_while(|(time, _)| *time < start).count();
                if low >= high {
                    continue;
                }
                let touched = if super::window::is_cheap(name) { 2 } else { (high - low) as u64 };
                self.look(touched, of.span)?;
                let parameter = parameter.get(at).copied().unwrap_or(f64::NAN);
                let (samples, resets) = (&samples[low..high], &sums[low..high]);
                *to = f(&Window { samples, resets, start, end, step_ms: grid.at(at), range_ms, parameter });
            }
            Ok(values)
        };
        if name == "last_over_time" {
            return self.sampled(of, grid, &mut each, sink);
        }
        let nothing = |row: &Row| row.values.iter().all(|value| is_absent(*value));
        let bare = |row: Row| Row { labels: row.labels.unnamed(), values: row.values };
        if !may_collide(of) {
            return self.sampled(of, grid, &mut each, &mut |row| if nothing(&row) { Ok(()) } else { sink(bare(row)) });
        }
        let mut rows = Vec::new();
        self.sampled(of, grid, &mut each, &mut |row| {
            self.spend_values(row.values.len(), of.span)?;
            rows.push(bare(row));
            Ok(())
        })?;
        merged(rows, of.span, SAME_LABELS)?.into_iter().try_for_each(sink)
    }

    fn look(&self, count: u64, span: Span) -> Result<(), Error> {
        let before = self.looks.get();
        self.spend(&self.looks, count, self.options.limits.looks_max, "looks at samples (windows × steps)", span)?;
        if before / LOOKS_A_GLANCE != (before + count) / LOOKS_A_GLANCE { self.check_time(span) } else { Ok(()) }
    }

    /// `absent()` and `absent_over_time()`: one where there is nothing.
    pub(super) fn absent(&self, of: &Expr, grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        let mut values = vec![1.0; grid.count];
        let mut gone = |row: Row| {
            for (to, _) in values.iter_mut().zip(&row.values).filter(|(_, value)| !is_absent(**value)) {
                *to = ABSENT;
            }
            Ok(())
        };
        match of.gives() {
            crate::ast::Type::Range => {
                let present = crate::ast::FUNCTIONS.iter().find(|known| known.name == "present_over_time");
                let name = present.expect("it is listed").name;
                self.over_windows(name, std::slice::from_ref(of), grid, &mut gone)?;
            }
            _ => self.rows(of, grid, &mut gone)?,
        }
        sink(Row { labels: absent_labels(of), values })
    }

    /// A range vector itself, at the first step.
    pub(super) fn raw(&self, of: &Expr, grid: Grid) -> Result<Vec<(Labels, Vec<Sample>)>, Error> {
        let mut found = Vec::new();
        let range_ms = range_of(of);
        let mut each = |labels: Labels, samples: &[Sample], windows: Grid| {
            self.spend_values(samples.len() * 2, of.span)?;
            let (start, end) = (windows.start - range_ms, windows.start);
            let within: Vec<Sample> = samples.iter().filter(|(at, _)| (start..=end).contains(at)).copied().collect();
            if !within.is_empty() {
                found.push((labels, within));
            }
            Ok(Vec::new())
        };
        self.sampled(of, grid, &mut each, &mut |_| Ok(()))?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}

fn range_of(of: &Expr) -> i64 {
    match &of.node {
        Node::Window { range_ms, .. } | Node::Subquery { range_ms, .. } => *range_ms,
        _ => 0,
    }
}

/// The same number; a NaN without its payload.
fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// The newest sample at each step, while it holds.
fn hold(samples: &[Sample], grid: Grid, lookback: Lookback, of: &dyn Fn(Sample) -> f64) -> Vec<f64> {
    let mut next = 0;
    let mut values = vec![ABSENT; grid.count];
    for (at, to) in values.iter_mut().enumerate() {
        let now = grid.at(at);
        next += samples[next..].iter().take_while(|(time, _)| *time <= now).count();
        let Some(newest) = next.checked_sub(1).map(|newest| samples[newest]) else { continue };
        let holds_ms = match lookback {
            Lookback::Fixed(ms) => ms,
            Lookback::Spacing { min_ms, max_ms } => {
                let before = next.checked_sub(2).map(|before| samples[before].0);
                before.map_or(max_ms, |before| (3 * (newest.0 - before)).clamp(min_ms, max_ms))
            }
        };
        if !is_stale(newest.1) && now - newest.0 <= holds_ms {
            *to = plain(of(newest));
        }
    }
    values
}

/// Labels that an absent series would surely have.
fn absent_labels(of: &Expr) -> Labels {
    let (Node::Select(selector) | Node::Window { of: selector, .. }) = &of.node else { return Labels::default() };
    let known = selector.matchers.iter().filter(|matcher| matcher.name != NAME);
    let once = known.filter(|matcher| selector.matchers.iter().filter(|other| other.name == matcher.name).count() == 1);
    Labels::new(once.filter_map(|matcher| match &matcher.test {
        Test::Is(value) => Some((matcher.name.as_str().into(), value.as_str().into())),
        _ => None,
    }))
}
