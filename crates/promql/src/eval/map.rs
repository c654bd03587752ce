//! Functions from one number to one number.

use super::{Evaluator, Grid, Sink, is_absent};
use crate::ast::Expr;
use crate::error::Error;

impl Evaluator<'_> {
    pub(super) fn map(&self, name: &str, arguments: &[Expr], grid: Grid, sink: Sink<'_>) -> Result<(), Error> {
        let scalars = arguments[1..].iter().map(|argument| self.scalar(argument, grid));
        let scalars: Vec<Vec<f64>> = scalars.collect::<Result<_, _>>()?;
        let parameter = |which: usize, at: usize, default: f64| scalars.get(which).map_or(default, |values| values[at]);
        let mut f = |value: f64, at: usize| match name {
            "abs" => value.abs(),
            "ceil" => value.ceil(),
            "floor" => value.floor(),
            "exp" => value.exp(),
            "ln" => value.ln(),
            "log2" => value.log2(),
            "log10" => value.log10(),
            "sqrt" => value.sqrt(),
            "sgn" if value == 0.0 || value.is_nan() => value,
            "sgn" => value.signum(),
            "round" => {
                let inverse = 1.0 / parameter(0, at, 1.0);
                (value * inverse + 0.5).floor() / inverse
            }
            "clamp_min" => greater(value, parameter(0, at, f64::NAN)),
            "clamp_max" => lesser(value, parameter(0, at, f64::NAN)),
            "clamp" => {
                let (low, high) = (parameter(0, at, f64::NAN), parameter(1, at, f64::NAN));
                if high < low { super::ABSENT } else { greater(low, lesser(high, value)) }
            }
            other => unreachable!("{other} is in the table of functions, so it is here"),
        };
        self.unnamed(&arguments[0], grid, &mut f, &mut |row| {
            if row.values.iter().all(|value| is_absent(*value)) { Ok(()) } else { sink(row) }
        })
    }
}

/// The greater one; NaN when one is NaN.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}
