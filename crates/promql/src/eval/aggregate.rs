//! Aggregations over series.

use super::{ABSENT, Evaluator, Grid, Row, failed, is_absent};
use crate::ast::{Aggregation, Expr, Groups};
use crate::error::{Error, Span};
use crate::labels::{Labels, nan_last};
use std::collections::BTreeMap;

impl Groups {
    fn key(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) => labels.only(names),
            Self::Without(names) => labels.without(names),
        }
    }
}

/// What is kept of a group while its series pass.
struct Sums {
    value: Vec<f64>,
    /// Sum of squared differences to the mean.
    squares: Vec<f64>,
    count: Vec<u32>,
}

impl Sums {
    fn add(&mut self, how: Aggregation, values: &[f64]) {
        for (at, value) in values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            self.count[at] += 1;
            let (to, count) = (&mut self.value[at], self.count[at]);
            let first = count == 1;
            match how {
                Aggregation::Min if first || *value < *to || to.is_nan() => *to = *value,
                Aggregation::Max if first || *value > *to || to.is_nan() => *to = *value,
                Aggregation::Sum | Aggregation::Avg => *to += value,
                Aggregation::Stddev | Aggregation::Stdvar => {
                    let off = value - *to;
                    *to += off / f64::from(count);
                    self.squares[at] += off * (value - *to);
                }
                _ => {}
            }
        }
    }

    fn end(mut self, how: Aggregation) -> Vec<f64> {
        for (at, to) in self.value.iter_mut().enumerate() {
            let count = f64::from(self.count[at]);
            *to = match how {
                _ if self.count[at] == 0 => ABSENT,
                Aggregation::Avg => *to / count,
                Aggregation::Count => count,
                Aggregation::Group => 1.0,
                Aggregation::Stdvar => self.squares[at] / count,
                Aggregation::Stddev => (self.squares[at] / count).sqrt(),
                _ => *to,
            };
        }
        self.value
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        span: Span,
        how: Aggregation,
        groups: &Groups,
        parameter: Option<&Expr>,
        of: &Expr,
        grid: Grid,
    ) -> Result<Vec<Row>, Error> {
        match how {
            Aggregation::Quantile | Aggregation::Topk | Aggregation::Bottomk => {
                let parameter = self.scalar(parameter.expect("the parser checked it"), grid)?;
                let sets = self.grouped(groups, of, grid)?;
                if how == Aggregation::Quantile {
                    return Ok(quantiles(sets, &parameter));
                }
                best(span, how == Aggregation::Topk, sets, &parameter)
            }
            Aggregation::CountValues => {
                let label = self.text(parameter.expect("the parser checked it"))?;
                self.count_values(span, &label, groups, of, grid)
            }
            _ => {
                let mut sums: BTreeMap<Labels, Sums> = BTreeMap::new();
                let squared = matches!(how, Aggregation::Stddev | Aggregation::Stdvar);
                self.rows(of, grid, &mut |row| {
                    let key = groups.key(&row.labels);
                    if !sums.contains_key(&key) {
                        self.spend_values(grid.count * 2, span)?;
                        let squares = if squared { vec![0.0; grid.count] } else { Vec::new() };
                        let new = Sums { value: vec![0.0; grid.count], squares, count: vec![0; grid.count] };
                        sums.insert(key.clone(), new);
                    }
                    sums.get_mut(&key).expect("it was put there").add(how, &row.values);
                    Ok(())
                })?;
                Ok(sums.into_iter().map(|(labels, sums)| Row { labels, values: sums.end(how) }).collect())
            }
        }
    }

    fn grouped(&self, groups: &Groups, of: &Expr, grid: Grid) -> Result<BTreeMap<Labels, Vec<Row>>, Error> {
        let mut sets: BTreeMap<Labels, Vec<Row>> = BTreeMap::new();
        for row in self.vector(of, grid)? {
            sets.entry(groups.key(&row.labels)).or_default().push(row);
        }
        Ok(sets)
    }

    fn count_values(&self, span: Span, label: &str, groups: &Groups, of: &Expr, grid: Grid) -> Result<Vec<Row>, Error> {
        let good = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !good {
            return failed(span, format!("{label:?} is not a label's name: letters, digits and _ would be right"));
        }
        let mut counts: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        for row in self.vector(of, grid)? {
            let key = groups.key(&row.labels);
            for (at, value) in row.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                let mut labels = key.clone();
                labels.set(label, &number_text(*value));
                if !counts.contains_key(&labels) {
                    self.spend_values(grid.count, span)?;
                    counts.insert(labels.clone(), vec![ABSENT; grid.count]);
                }
                let to = &mut counts.get_mut(&labels).expect("it was put there")[at];
                *to = if is_absent(*to) { 1.0 } else { *to + 1.0 };
            }
        }
        Ok(counts.into_iter().map(|(labels, values)| Row { labels, values }).collect())
    }
}

/// A number as Prometheus writes it.
fn number_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

/// The value below which a share of the others lies, between neighbours by their distance.
pub(super) fn quantile(share: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    // As in Prometheus, NaN counts as the least.
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(nan_last(*a, *b)));
    let rank = share * (values.len() - 1) as f64;
    let low = rank.floor() as usize;
    let high = (low + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[low] * (1.0 - weight) + values[high] * weight
}

fn quantiles(sets: BTreeMap<Labels, Vec<Row>>, share: &[f64]) -> Vec<Row> {
    let mut held = Vec::new();
    let one = |(labels, rows): (Labels, Vec<Row>)| {
        let at = |(at, share): (usize, &f64)| {
            held.clear();
            held.extend(rows.iter().map(|row| row.values[at]).filter(|value| !is_absent(*value)));
            if held.is_empty() { ABSENT } else { quantile(*share, &mut held) }
        };
        let values = share.iter().enumerate().map(at).collect();
        Row { labels, values }
    };
    sets.into_iter().map(one).collect()
}

/// The `k` greatest or least of each group, at each step; the best first where there is one step.
fn best(span: Span, greatest: bool, sets: BTreeMap<Labels, Vec<Row>>, k: &[f64]) -> Result<Vec<Row>, Error> {
    if let Some(wrong) = k.iter().find(|k| k.is_nan() || k.is_infinite()) {
        return failed(span, format!("{wrong} is not a count of series: a whole number would be right"));
    }
    let mut found = Vec::new();
    for (_, mut rows) in sets {
        let order = |a: f64, b: f64| match greatest {
            true => nan_last(-a, -b),
            false => nan_last(a, b),
        };
        let mut places = Vec::with_capacity(rows.len());
        for (at, k) in k.iter().enumerate() {
            places.clear();
            places.extend((0..rows.len()).filter(|row| !is_absent(rows[*row].values[at])));
            places.sort_by(|a, b| order(rows[*a].values[at], rows[*b].values[at]));
            let keep = if *k < 1.0 { 0 } else { *k as usize };
            for row in places.iter().skip(keep) {
                rows[*row].values[at] = ABSENT;
            }
        }
        rows.retain(|row| !row.values.iter().all(|value| is_absent(*value)));
        if k.len() == 1 {
            rows.sort_by(|a, b| order(a.values[0], b.values[0]));
        }
        found.extend(rows);
    }
    Ok(found)
}
