//! Operators between numbers, and between a vector and a scalar.

use super::{ABSENT, Evaluator, Grid, Row, Sink, is_absent, keeps_name};
use crate::ast::{Expr, Op};
use crate::error::Error;

/// Two scalars; a comparison gives 1 or 0.
pub(super) fn both(op: Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Mod => a % b,
        Op::Pow => a.powf(b),
        Op::Atan2 => a.atan2(b),
        _ => f64::from(u8::from(compare(op, a, b))),
    }
}

fn compare(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Eq => a == b,
        Op::Ne => a != b,
        Op::Lt => a < b,
        Op::Le => a <= b,
        Op::Gt => a > b,
        _ => a >= b,
    }
}

/// Two values; a comparison that fails gives nothing, one that holds gives `kept`, or 1 and 0 with `bool`.
pub(super) fn paired(op: Op, truth: bool, a: f64, b: f64, kept: f64) -> f64 {
    match op.compares() && !truth {
        true if compare(op, a, b) => kept,
        true => ABSENT,
        false => both(op, a, b),
    }
}

impl Evaluator<'_> {
    /// A vector with a scalar.
    #[expect(clippy::too_many_arguments, reason = "the parts of one node of the tree")]
    pub(super) fn with_scalar(
        &self,
        op: Op,
        left: &Expr,
        right: &Expr,
        truth: bool,
        scalar_left: bool,
        grid: Grid,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let (scalar, vector) = if scalar_left { (left, right) } else { (right, left) };
        let scalar = self.scalar(scalar, grid)?;
        let f = |value: f64, at: usize| match scalar_left {
            true => paired(op, truth, scalar[at], value, value),
            false => paired(op, truth, value, scalar[at], value),
        };
        if !keeps_name(op, truth) {
            return self.unnamed(vector, grid, &mut |value, at| f(value, at), sink);
        }
        self.rows(vector, grid, &mut |mut row: Row| {
            for (at, value) in row.values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
                *value = f(*value, at);
            }
            if row.values.iter().all(|value| is_absent(*value)) { Ok(()) } else { sink(row) }
        })
    }
}
