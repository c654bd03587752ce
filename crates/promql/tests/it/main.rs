//! The evaluator against a real Prometheus: the same samples, the same queries, the same answers.

mod cases;
mod data;
mod prometheus;

use data::Held;
use prometheus::Prometheus;
use promql::{Answer, Lookback, Options, Query};
use std::collections::BTreeMap;

/// Relative difference allowed.
const TOLERANCE: f64 = 1e-9;

type Found = BTreeMap<BTreeMap<String, String>, Vec<(i64, f64)>>;

fn same(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1e-3)
}

fn ours(answer: Answer) -> Found {
    let named = |labels: promql::Labels| labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    match answer {
        Answer::Scalar(sample) => Found::from([(BTreeMap::new(), vec![sample])]),
        Answer::Text(..) => Found::new(),
        Answer::Vector(found) => found.into_iter().map(|(labels, sample)| (named(labels), vec![sample])).collect(),
        Answer::Matrix(found) => found.into_iter().map(|(labels, samples)| (named(labels), samples)).collect(),
    }
}

fn difference(query: &str, ours: &Found, theirs: &Found) -> Option<String> {
    if ours.keys().ne(theirs.keys()) {
        return Some(format!("{query}\n  ours   {:?}\n  theirs {:?}", ours.keys(), theirs.keys()));
    }
    for (labels, points) in ours {
        let others = &theirs[labels];
        let times = |points: &[(i64, f64)]| points.iter().map(|(at, _)| *at).collect::<Vec<_>>();
        if times(points) != times(others) {
            return Some(format!(
                "{query} {labels:?}: {} points of ours, {} of theirs\n  {points:?}\n  {others:?}",
                points.len(),
                others.len()
            ));
        }
        let wrong = points.iter().zip(others).find(|((_, a), (_, b))| !same(*a, *b));
        if let Some(((at, a), (_, b))) = wrong {
            return Some(format!("{query} {labels:?} at {at}: ours {a}, theirs {b}"));
        }
    }
    None
}

#[tokio::test]
async fn answers_are_those_of_prometheus() {
    let held = Held::made();
    let prometheus = Prometheus::with(&held.open_metrics()).await;
    let options = Options { lookback: Lookback::Fixed(300_000), ..Options::default() };
    let (mut wrong, mut compared, mut values) = (Vec::new(), 0, 0);
    for query in cases::QUERIES {
        let parsed = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        for at in [data::START_MS + 600_000, data::START_MS + 1_234_567] {
            let theirs = prometheus.instant(query, at).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            let ours = ours(parsed.instant(&held, at, &options).unwrap_or_else(|error| panic!("{query}: {error}")));
            wrong.extend(difference(query, &ours, &theirs));
            (compared, values) = (compared + 1, values + theirs.values().map(Vec::len).sum::<usize>());
        }
        if cases::INSTANT_ONLY.contains(query) {
            continue;
        }
        for (from, to, step) in cases::RANGES.map(|(from, to, step)| (data::START_MS + from, data::START_MS + to, step))
        {
            let theirs =
                prometheus.range(query, from, to, step).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            let found =
                parsed.range(&held, (from, to, step), &options).unwrap_or_else(|error| panic!("{query}: {error}"));
            wrong.extend(difference(query, &ours(found), &theirs));
            (compared, values) = (compared + 1, values + theirs.values().map(Vec::len).sum::<usize>());
        }
    }
    println!("{} queries, {compared} comparisons, {values} values", cases::QUERIES.len());
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(values > 20_000, "the data must say something: {values} values");
}

/// What Prometheus refuses is refused here too.
#[tokio::test]
async fn refusals_are_those_of_prometheus() {
    let held = Held::made();
    let prometheus = Prometheus::with(&held.open_metrics()).await;
    let at = data::START_MS + 600_000;
    for query in cases::REFUSED {
        assert!(prometheus.instant(query, at).await.is_err(), "Prometheus answers {query}");
        let ours = Query::parse(query).and_then(|parsed| parsed.instant(&held, at, &Options::default()));
        assert!(ours.is_err(), "{query} is answered: {ours:?}");
    }
}
