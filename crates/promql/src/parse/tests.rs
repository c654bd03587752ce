//! What is read, what is refused, and where the mark stands.

use super::parse;
use crate::ast::{Node, Op};
use crate::error::ErrorKind;

fn refused(query: &str) -> (ErrorKind, String, String) {
    let error = parse(query).expect_err(query).placed(query);
    let span = query.get(error.span.start..error.span.end).unwrap_or("").to_owned();
    (error.kind, span, error.message)
}

#[test]
fn operators_bind_as_in_promql() {
    let top = |query: &str| match parse(query).expect(query).node {
        Node::Binary { op, .. } => op,
        other => panic!("{other:?}"),
    };
    assert_eq!(top("a + b * c"), Op::Add);
    assert_eq!(top("a * b + c"), Op::Add);
    assert_eq!(top("a or b and c"), Op::Or);
    assert_eq!(top("a > 1 and b"), Op::And);
    assert_eq!(top("(a or b) * c"), Op::Mul);
    let Node::Binary { right, .. } = parse("2 ^ 3 ^ 2").expect("good").node else { panic!("binary") };
    assert!(matches!(right.node, Node::Binary { op: Op::Pow, .. }));
    assert!(matches!(parse("-a ^ 2").expect("good").node, Node::Negate(_)));
    assert!(matches!(parse("-1").expect("good").node, Node::Number(n) if n == -1.0));
}

#[test]
fn what_dashboards_ask_is_read() {
    for query in [
        "up",
        "up{}",
        "{__name__=~\"up|down\"}",
        "{\"up\", job=\"x\"}",
        "sum",
        "sum by (a) (x)",
        "sum(x) by (a)",
        "SUM WITHOUT (a, b,) (x)",
        "rate(x{a!=\"b\",c!~\"d.*\"}[5m] offset -1m)",
        "x @ 12.5",
        "x @ end() offset 5m",
        "rate(x[1m] @ start())",
        "max_over_time(rate(x[1m])[10m:30s])",
        "sum_over_time((x + 1)[5m:] offset 1m)",
        "a / on (i) group_left (v) b",
        "a * ignoring (z) b",
        "a > bool 1",
        "topk(3, x)",
        "quantile(0.9, x)",
        "histogram_quantile(0.99, sum by (le) (rate(h_bucket[1m])))",
        "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
        "label_join(x, \"a\", \"-\")",
        "label_join(x, \"a\", \"-\", \"b\", \"c\")",
        "round(x)",
        "round(x, 0.1)",
        "1 + 2",
        "Inf",
        "-NaN",
        "time() - timestamp(x)",
        "\"text\"",
        "x[1m]",
        "on",
    ] {
        if query == "on" {
            assert!(parse(query).is_err());
            continue;
        }
        parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn refusals_say_what_where_and_what_would_be_right() {
    let cases = [
        ("", "", "empty"),
        ("sum(", "", "a metric, a function"),
        ("rate(x)", "x", "add a window"),
        ("rate(sum(x))", "sum(x)", "subquery"),
        ("rte(x[1m])", "rte", "did you mean rate?"),
        ("frobnicate(x)", "frobnicate", "supported are abs"),
        ("abs(x[1m])", "x[1m]", "leave the window out"),
        ("x{a=b}", "b", "quotes"),
        ("x{a~\"b\"}", "~", "unexpected character"),
        ("x{a=~\"(\"}", "\"(\"", "unclosed"),
        ("{a=\"\"}", "{a=\"\"}", "every series"),
        ("x{__name__=\"y\"}", "__name__", "twice"),
        ("1 > 2", ">", "bool"),
        ("x[1m] + 1", "x[1m]", "rate()"),
        ("(x)[1m]", "[1m]", "subquery"),
        ("x offset 1m [5m]", "[5m]", "before its offset"),
        ("x[5]", "5", "duration"),
        ("x y", "y", "an operator or the end"),
        ("x and 1", "1", "instant vectors"),
        ("x + bool y", "bool", "comparisons only"),
        ("x / on (a) group_left (a) y", "(a)", "both in on()"),
        ("x and on (a) group_left y", "group_left", "many with many"),
        ("quantile(x)", "quantile(x)", "takes (scalar, instant vector)"),
        ("topk(x, 1)", "x", "scalar()"),
        ("round()", "round()", "0 arguments"),
        ("sum(x) offset 5m", "offset", "directly"),
        ("x offset 5m offset 5m", "offset", "twice"),
    ];
    for (query, place, part) in cases {
        let (_, span, message) = refused(query);
        assert!(span == place && message.contains(part), "{query}: at {span:?}: {message}");
    }
    assert_eq!(refused("hour(x)").0, ErrorKind::Unsupported);
    assert!(refused(&format!("{}1{}", "(".repeat(200), ")".repeat(200))).2.contains("deep"));
    assert!(refused(&"x".repeat(100_000)).2.contains("bytes"));
}
