//! What a test against a real Prometheus cannot hold: our own lookback, marks of an end, bounds, places of failures.

use crate::{
    Answer, ErrorKind, Labels, Limits, Lookback, Matcher, Options, Query, Refused, STALE_BITS, Sample, Source, Visit,
};
use proptest::prelude::*;

struct Held(Vec<(Labels, Vec<Sample>)>);

impl Source for Held {
    fn select(&self, matchers: &[Matcher], from: i64, to: i64, visit: Visit<'_>) -> Result<(), Refused> {
        for (labels, samples) in self.0.iter().filter(|(labels, _)| Matcher::all(matchers, labels)) {
            let within: Vec<Sample> = samples.iter().filter(|(at, _)| (from..=to).contains(at)).copied().collect();
            visit(labels.clone(), &within)?;
        }
        Ok(())
    }
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').map(|pair| pair.split_once('=').expect("a pair"));
    Labels::new(pairs.map(|(name, value)| (name.into(), value.into())))
}

fn series(text: &str, samples: &[Sample]) -> (Labels, Vec<Sample>) {
    (labels(text), samples.to_vec())
}

fn instant(held: &Held, query: &str, at: i64) -> Result<Answer, crate::Error> {
    Query::parse(query)?.instant(held, at, &Options::default())
}

fn values(held: &Held, query: &str, at: i64) -> Vec<(String, f64)> {
    match instant(held, query, at).expect(query) {
        Answer::Vector(found) => found.into_iter().map(|(labels, (_, value))| (labels.to_string(), value)).collect(),
        other => panic!("{query}: {other:?}"),
    }
}

fn every(spacing_ms: i64, count: i64) -> Vec<Sample> {
    (0..count).map(|n| (n * spacing_ms, n as f64)).collect()
}

#[test]
fn a_value_holds_as_long_as_its_series_is_slow() {
    let held = Held(vec![
        series("__name__=fast", &every(1_000, 61)),
        series("__name__=slow", &every(60_000, 3)),
        series("__name__=once", &[(0, 1.0)]),
        series("__name__=ended", &[(0, 1.0), (1_000, f64::from_bits(STALE_BITS))]),
    ]);
    assert_eq!(values(&held, "fast", 75_000).len(), 1, "15 s at least");
    assert_eq!(values(&held, "fast", 75_001).len(), 0);
    assert_eq!(values(&held, "slow", 120_000 + 180_000).len(), 1, "three spacings");
    assert_eq!(values(&held, "slow", 120_000 + 180_001).len(), 0);
    assert_eq!(values(&held, "once", 300_000).len(), 1);
    assert_eq!(values(&held, "once", 300_001).len(), 0);
    assert_eq!(values(&held, "ended", 999).len(), 1);
    assert_eq!(values(&held, "ended", 1_000).len(), 0, "its end was said");
    assert_eq!(values(&held, "count_over_time(ended[1m])", 2_000), [("{}".to_owned(), 1.0)], "the mark is no sample");
    assert_eq!(values(&held, "absent(ended)", 1_000), [("{}".to_owned(), 1.0)]);
    let fixed = Options { lookback: Lookback::Fixed(300_000), ..Options::default() };
    let answer = Query::parse("fast").expect("good").instant(&held, 360_000, &fixed).expect("good");
    assert!(matches!(answer, Answer::Vector(found) if found.len() == 1));
}

#[test]
fn failures_have_a_place_and_a_remedy() {
    let held = Held(vec![
        series("__name__=a,x=1,y=1", &[(0, 1.0)]),
        series("__name__=a,x=1,y=2", &[(0, 2.0)]),
        series("__name__=b,x=1", &[(0, 3.0)]),
        series("__name__=c,x=1,y=1", &[(0, 3.0)]),
    ]);
    let failure = |query: &str| {
        let error = instant(&held, query, 0).expect_err(query);
        assert_eq!(error.kind, ErrorKind::Execution, "{query}");
        (error.column, error.message)
    };
    assert!(failure("1 + a / on (x) b").1.contains("group_left"));
    assert_eq!(failure("1 + a / on (x) b").0, 5);
    assert!(failure("b / on (x) a").1.contains("right side"));
    assert!(failure("abs({__name__=~\"a|c\"})").1.contains("name is dropped"));
    assert!(failure("label_replace(a, \"y\", \"\", \"y\", \".*\")").1.contains("same labels"));
    assert!(failure("label_replace(a, \"1y\", \"\", \"y\", \".*\")").1.contains("label's name"));
    assert!(failure("topk(NaN, a)").1.contains("count of series"));
    assert_eq!(values(&held, "a / on (x) group_left b", 0).len(), 2);
}

#[test]
fn every_bound_is_met_with_its_number() {
    let held = Held((0..50).map(|n| series(&format!("__name__=a,x={n}"), &every(1_000, 100))).collect());
    let small = Limits { steps_max: 100, series_max: 60, samples_max: 6_000, looks_max: 50_000, values_max: 6_000 };
    let ask = |query: &str, stop: &dyn Fn() -> bool| {
        let options = Options { limits: small, stop, ..Options::default() };
        Query::parse(query).expect(query).range(&held, (0, 99_000, 1_000), &options)
    };
    let refused = |query: &str| {
        let error = ask(query, &|| false).expect_err(query);
        assert_eq!(error.kind, ErrorKind::Limit, "{query}: {error}");
        error.message
    };
    assert!(ask("sum(a)", &|| false).is_ok());
    assert!(refused("a + a").contains("60 series"));
    assert!(refused("count(a) + scalar(sum(a{x=~\"1.*\"}))").contains("series"));
    assert!(refused("sum(sum_over_time(a[50s]))").contains("50000 looks"));
    assert!(refused("sort(a)").contains("6000 values"));
    assert!(refused("max_over_time(a[1h:1s])").contains("subquery"));
    assert_eq!(ask("sum(a)", &|| true).expect_err("over").kind, ErrorKind::Timeout);
    let long = Query::parse("a").expect("good").range(
        &held,
        (0, 99_000, 500),
        &Options { limits: small, ..Options::default() },
    );
    assert!(long.expect_err("long").message.contains("199 steps"));
}

#[test]
fn rows_of_one_series_meet_over_time() {
    let held = Held(vec![
        series("__name__=a,x=1", &[(0, 1.0), (1_000, f64::from_bits(STALE_BITS))]),
        series("__name__=b,x=1", &[(2_000, 5.0)]),
    ]);
    let query = Query::parse("-{__name__=~\"a|b\"}").expect("good");
    let answer = query.range(&held, (0, 2_000, 1_000), &Options::default()).expect("no step has both");
    let Answer::Matrix(found) = answer else { panic!("a matrix") };
    assert_eq!(found, [(labels("x=1"), vec![(0, -1.0), (2_000, -5.0)])]);
}

#[test]
fn selections_say_what_will_be_asked() {
    let query = Query::parse("rate(a[5m] offset 1m) + sum(b) + max_over_time(c[10m:1m])").expect("good");
    let asked = query.selections(1_000_000, 2_000_000, &Options::default());
    let times: Vec<(i64, i64)> = asked.iter().map(|(_, from, to)| (*from, *to)).collect();
    assert_eq!(times, [(640_000, 1_940_000), (700_000, 2_000_000), (100_000, 2_000_000)]);
}

proptest! {
    /// No text makes the parser or the evaluator panic.
    #[test]
    fn any_text_is_answered(words in prop::collection::vec(prop::sample::select(vec![
        "a", "b", "sum", "rate", "by", "(", ")", "[5m]", "[5m:1m]", "{x=\"1\"}", "+", "-", "/", "and", "or", "unless", "on", "ignoring",
        "group_left", "offset", "1m", "@", "3", "==", "bool", ",", "topk", "quantile", "histogram_quantile", "label_replace", "\"x\"",
        "avg_over_time", "absent", "scalar", "vector", "time", "^", "%", "NaN", "start", "clamp",
    ]), 1..12)) {
        let held = Held(vec![series("__name__=a,x=1", &every(1_000, 30)), series("__name__=b,x=1", &every(7_000, 5))]);
        if let Ok(query) = Query::parse(&words.join(" ")) {
            let _ = query.instant(&held, 20_000, &Options::default());
            let _ = query.range(&held, (0, 40_000, 5_000), &Options::default());
        }
    }

    /// A sum over parts is the sum over all, whatever the labels.
    #[test]
    fn sums_add_up(values in prop::collection::vec((0..3_u8, 0..3_u8, -1e6..1e6_f64), 1..20)) {
        let named = |(n, (a, b, value)): (usize, &(u8, u8, f64))| series(&format!("__name__=m,a=a{a},b=b{b},n=n{n}"), &[(0, *value)]);
        let held = Held(values.iter().enumerate().map(named).collect());
        let total = |query: &str| super::tests::values(&held, query, 0).first().map_or(f64::NAN, |(_, value)| *value);
        let (all, parts, rest) = (total("sum(m)"), total("sum(sum by (a) (m))"), total("sum(sum without (n, b) (m))"));
        prop_assert!((all - parts).abs() < 1e-6 && (all - rest).abs() < 1e-6);
        prop_assert_eq!(total("count(m)") as usize, values.len());
    }
}
