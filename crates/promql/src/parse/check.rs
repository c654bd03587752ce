//! Whether the types of a tree's parts fit.

use crate::ast::{Aggregation, Expr, Function, Many, Node, Op, Pairing, Type};
use crate::error::{Error, ErrorKind, Span};

fn wrong<T>(span: Span, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Parse, span, message))
}

/// A sign goes before numbers only.
pub(super) fn signed(of: &Expr) -> Result<(), Error> {
    match of.gives() {
        Type::Scalar | Type::Instant => Ok(()),
        other => wrong(of.span, format!("a sign goes before a scalar or an instant vector, and this is a {other}")),
    }
}

pub(super) fn binary(
    op: Op,
    at: Span,
    left: Expr,
    right: Expr,
    truth: bool,
    pairing: Option<Pairing>,
) -> Result<Expr, Error> {
    for side in [&left, &right] {
        let gives = side.gives();
        if gives == Type::Range {
            return wrong(
                side.span,
                "an operator wants a scalar or an instant vector, and this is a range vector: put it into rate(), max_over_time() or the like",
            );
        }
        if gives == Type::Text {
            return wrong(side.span, "an operator wants a scalar or an instant vector, and this is a string");
        }
        if op.is_of_sets() && gives == Type::Scalar {
            return wrong(side.span, "and, or, unless want instant vectors on both sides, and this is a scalar");
        }
    }
    let scalars = [&left, &right].map(|side| side.gives() == Type::Scalar);
    if scalars == [true, true] && op.compares() && !truth {
        return wrong(at, "a comparison of two scalars wants \"bool\" after its operator");
    }
    if pairing.is_some() && scalars.contains(&true) {
        return wrong(at, "on and ignoring pair two instant vectors; one side is a scalar here");
    }
    let all = Pairing { on: false, labels: Vec::new(), many: Many::Neither, taken: Vec::new() };
    let span = left.span.to(right.span);
    let (left, right) = (Box::new(left), Box::new(right));
    Ok(Expr { span, node: Node::Binary { op, left, right, truth, pairing: pairing.unwrap_or(all) } })
}

fn argument(what: &str, wanted: Type, given: &Expr) -> Result<(), Error> {
    if given.gives() == wanted {
        return Ok(());
    }
    let hint = match (wanted, given.gives(), &given.node) {
        (Type::Range, Type::Instant, Node::Select(_)) => ": add a window, such as [1m]",
        (Type::Range, Type::Instant, _) => ": make it a subquery, such as [5m:10s]",
        (Type::Instant, Type::Range, _) => ": leave the window out, or put it into rate() or the like",
        (Type::Instant, Type::Scalar, _) => ": vector() makes one of it",
        (Type::Scalar, Type::Instant, _) => ": scalar() makes one of it",
        (Type::Text, _, _) => ": put it into quotes",
        _ => "",
    };
    wrong(given.span, format!("{what} wants a {wanted} here, and this is a {}{hint}", given.gives()))
}

pub(super) fn aggregate(how: Aggregation, span: Span, arguments: &[Expr]) -> Result<(), Error> {
    let (name, _) = Aggregation::ALL.iter().find(|(_, known)| *known == how).expect("all are listed");
    let wanted: Vec<Type> = how.parameter().into_iter().chain([Type::Instant]).collect();
    if arguments.len() != wanted.len() {
        let list: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        return wrong(span, format!("{name} takes ({}), and {} arguments are given", list.join(", "), arguments.len()));
    }
    wanted.iter().zip(arguments).try_for_each(|(wanted, given)| argument(name, *wanted, given))
}

pub(super) fn call(function: &Function, span: Span, arguments: &[Expr]) -> Result<(), Error> {
    let takes = function.takes;
    let (least, most) = match function.optional {
        usize::MAX => (takes.len() - 1, usize::MAX),
        optional => (takes.len() - optional, takes.len()),
    };
    if arguments.len() < least || arguments.len() > most {
        let list: Vec<String> = takes.iter().map(ToString::to_string).collect();
        let more = if most == usize::MAX { ", …" } else { "" };
        let message =
            format!("{} takes ({}{more}), and {} arguments are given", function.name, list.join(", "), arguments.len());
        return wrong(span, message);
    }
    let wanted = takes.iter().chain(std::iter::repeat(takes.last().unwrap_or(&Type::Scalar)));
    wanted.zip(arguments).try_for_each(|(wanted, given)| argument(function.name, *wanted, given))
}
