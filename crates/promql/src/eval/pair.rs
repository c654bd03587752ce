//! Operators between two vectors: which series meet, and what comes out.

use super::binary::paired;
use super::{ABSENT, Evaluator, Grid, Row, failed, is_absent, keeps_name, merged};
use crate::ast::{Expr, Many, Op, Pairing};
use crate::error::{Error, Span};
use crate::labels::{Labels, NAME};
use std::collections::BTreeMap;

impl Pairing {
    /// The labels on which a series meets others.
    fn key(&self, labels: &Labels) -> Labels {
        if self.on { labels.only(&self.labels) } else { labels.without(&self.labels) }
    }

    /// Labels of what comes out of a series of the side with many (or of the left) and one of the other.
    fn result(&self, of: &Labels, other: &Labels, keeps_name: bool) -> Labels {
        let mut labels = of.clone();
        if !keeps_name {
            labels.remove(NAME);
        }
        if self.many == Many::Neither {
            labels = match self.on {
                true => labels.only(&self.labels),
                false => {
                    self.labels.iter().for_each(|name| labels.remove(name));
                    labels
                }
            };
        }
        for name in &self.taken {
            labels.set(name, other.get(name));
        }
        labels
    }
}

fn grouped(rows: Vec<Row>, pairing: &Pairing) -> BTreeMap<Labels, Vec<Row>> {
    let mut groups: BTreeMap<Labels, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(pairing.key(&row.labels)).or_default().push(row);
    }
    groups
}

/// Whether any row of a group has a value, at each step.
fn presence(rows: &[Row], count: usize) -> Vec<bool> {
    let mut present = vec![false; count];
    for row in rows {
        present.iter_mut().zip(&row.values).for_each(|(to, value)| *to |= !is_absent(*value));
    }
    present
}

impl Evaluator<'_> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one node of the tree")]
    pub(super) fn pair(
        &self,
        span: Span,
        op: Op,
        left: &Expr,
        right: &Expr,
        truth: bool,
        pairing: &Pairing,
        grid: Grid,
    ) -> Result<Vec<Row>, Error> {
        let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
        self.check_time(span)?;
        if op.is_of_sets() {
            return sets(op, left, right, pairing, grid, span);
        }
        // The side that may have many is walked; the other is looked up.
        let swapped = pairing.many == Many::Right;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let ones = grouped(one, pairing);
        let mut found = Vec::new();
        for (key, rows) in grouped(many, pairing) {
            let Some(others) = ones.get(&key) else { continue };
            let side = if swapped { "left" } else { "right" };
            check_single(span, others, &key, side)?;
            if pairing.many == Many::Neither {
                check_many(span, &rows, &presence(others, grid.count), &key)?;
            }
            for row in &rows {
                for other in others {
                    let values = combined(op, truth, row, other, swapped);
                    if values.iter().all(|value| is_absent(*value)) {
                        continue;
                    }
                    self.spend_values(grid.count, span)?;
                    let labels = pairing.result(&row.labels, &other.labels, keeps_name(op, truth));
                    found.push(Row { labels, values });
                }
            }
        }
        let why = "several results have the same labels: with group_left or group_right, the labels left must tell series apart";
        merged(found, span, why)
    }
}

fn combined(op: Op, truth: bool, row: &Row, other: &Row, swapped: bool) -> Vec<f64> {
    let both = row.values.iter().zip(&other.values);
    let one = |(a, b): (&f64, &f64)| match (is_absent(*a) || is_absent(*b), swapped) {
        (true, _) => ABSENT,
        (false, false) => paired(op, truth, *a, *b, *a),
        (false, true) => paired(op, truth, *b, *a, *b),
    };
    both.map(one).collect()
}

/// At no step may the side with one have two.
fn check_single(span: Span, rows: &[Row], key: &Labels, side: &str) -> Result<(), Error> {
    let [first, rest @ ..] = rows else { return Ok(()) };
    let mut seen: Vec<bool> = first.values.iter().map(|value| !is_absent(*value)).collect();
    for row in rest {
        for (seen, value) in seen.iter_mut().zip(&row.values).filter(|(_, value)| !is_absent(**value)) {
            if std::mem::replace(seen, true) && !is_absent(*value) {
                let message = format!(
                    "several series on the {side} side meet on {key}: {} and {}; aggregate that side, or pair on more labels",
                    first.labels, row.labels
                );
                return failed(span, message);
            }
        }
    }
    Ok(())
}

/// At no step may two of the left meet one of the right, unless group_left says so.
fn check_many(span: Span, rows: &[Row], other: &[bool], key: &Labels) -> Result<(), Error> {
    let mut seen = vec![false; other.len()];
    for row in rows {
        for ((seen, other), value) in seen.iter_mut().zip(other).zip(&row.values) {
            if *other && !is_absent(*value) && std::mem::replace(seen, true) {
                let message = format!(
                    "several series on the left side meet one on the right on {key}: write group_left if that is meant, or pair on more labels"
                );
                return failed(span, message);
            }
        }
    }
    Ok(())
}

fn sets(op: Op, left: Vec<Row>, right: Vec<Row>, pairing: &Pairing, grid: Grid, span: Span) -> Result<Vec<Row>, Error> {
    let (kept, judge) = if op == Op::Or { (right, left) } else { (left, right) };
    let mut present: BTreeMap<Labels, Vec<bool>> = BTreeMap::new();
    for row in &judge {
        let at = present.entry(pairing.key(&row.labels)).or_insert_with(|| vec![false; grid.count]);
        at.iter_mut().zip(&row.values).for_each(|(to, value)| *to |= !is_absent(*value));
    }
    let mut found = Vec::new();
    for mut row in kept {
        let judged = present.get(&pairing.key(&row.labels));
        for (at, value) in row.values.iter_mut().enumerate() {
            let other = judged.is_some_and(|judged| judged[at]);
            if other != (op == Op::And) {
                *value = ABSENT;
            }
        }
        if !row.values.iter().all(|value| is_absent(*value)) {
            found.push(row);
        }
    }
    if op != Op::Or {
        return Ok(found);
    }
    let mut all = judge;
    all.append(&mut found);
    merged(all, span, "both sides of \"or\" have a series")
}
