//! Ranges against a naive model; every bound, met.

use super::*;
use proptest::prelude::*;

const LOAD: Description =
    Description { name: "load_requests", kind: Kind::Gauge, unit: "requests", help: "Requests of the test." };
const LATENCY: Description =
    Description { name: "wait_seconds", kind: Kind::Histogram, unit: "seconds", help: "Latency of the test." };

fn store(limits: Limits) -> SeriesStore {
    let mut store = SeriesStore::new(limits);
    store.describe(LOAD);
    store.describe(LATENCY);
    store
}

/// Sets a histogram of some labels.
fn set(
    store: &mut SeriesStore,
    name: &str,
    labels: &[(&str, &str)],
    time_ms: UnixMs,
    latency: &LatencyHistogram,
) -> Result<(), Refused> {
    let row = store.row(labels)?;
    store.set_histogram(row, name, time_ms, latency, 0)
}

/// What `range` promises, in the words of its documentation.
fn naive(points: &[(u64, f64)], from: u64, to: u64, step: u64) -> Vec<(u64, f64)> {
    if step == 0 {
        return points.iter().copied().filter(|(time, _)| (from..=to).contains(time)).collect();
    }
    let mut out = Vec::new();
    let mut at = from;
    while at <= to {
        let inside = |time: u64| time <= at && time + step > at;
        out.extend(points.iter().rev().find(|(time, _)| inside(*time)).map(|(_, value)| (at, *value)));
        at += step;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn range_equals_the_naive_model(
        pushes in prop::collection::vec((0..40_u64, -5.0..5.0_f64), 0..60),
        start in 100..150_u64,
        from in 0..300_u64,
        length in 0..200_u64,
        step in 0..30_u64,
    ) {
        let mut store = store(Limits::default());
        let mut kept: Vec<(u64, f64)> = Vec::new();
        let mut time = start;
        for (gap, value) in pushes {
            // Gaps above 30 stand for a clock that went back.
            let at = if gap > 30 { time.saturating_sub(gap) } else { time + gap };
            let pushed = store.push("load_requests", &[], at, value);
            match kept.last() {
                Some((newest, _)) if at < *newest => {
                    prop_assert_eq!(pushed, Err(Refused::OutOfOrder));
                    continue;
                }
                Some((newest, known)) if at == *newest => {
                    prop_assert_eq!(pushed.is_ok(), *known == value, "another value at its time");
                    continue;
                }
                _ => kept.push((at, value)),
            }
            prop_assert_eq!(pushed, Ok(()));
            time = at;
        }
        let got = store.range(&Selector::of("load_requests"), from, from + length, step);
        let points = got.first().map(|series| series.points.clone()).unwrap_or_default();
        prop_assert_eq!(points, naive(&kept, from, from + length, step));
    }

    #[test]
    fn histograms_lose_no_count_and_no_latency_strays_further_than_its_bucket(
        latencies in prop::collection::vec(0..20_000_000_u64, 0..200),
    ) {
        let mut latency = LatencyHistogram::default();
        latencies.iter().for_each(|us| latency.record(*us));
        let buckets = coarse(1, &latency, 0);
        for (bound, up_to) in LATENCY_BOUNDS_US.iter().zip(buckets.up_to) {
            let surely = latencies.iter().filter(|us| (**us as f64) < *bound as f64 / 1.033).count() as u64;
            let perhaps = latencies.iter().filter(|us| (**us as f64) < *bound as f64 * 1.033).count() as u64;
            prop_assert!((surely..=perhaps).contains(&up_to), "{up_to} up to {bound}");
        }
        prop_assert_eq!(buckets.count, latencies.len() as u64);
    }
}

#[test]
fn selectors_choose_by_label_whatever_their_order() {
    let mut store = store(Limits::default());
    for (service, instance) in [("a", "a-1"), ("a", "a-2"), ("b", "b-1")] {
        store.push("load_requests", &[("service", service), ("instance", instance)], 1_000, 1.0).expect("takes");
        store.push("load_requests", &[("instance", instance), ("service", service)], 2_000, 2.0).expect("takes");
    }
    assert_eq!(store.len(), 3);
    let chosen = |selector: Selector| {
        let series = store.latest(&selector);
        series.into_iter().map(|mut series| series.labels.remove("instance").expect("labelled")).collect::<Vec<_>>()
    };
    assert_eq!(chosen(Selector::of("load_requests").with("service", "a")), ["a-1", "a-2"]);
    assert_eq!(chosen(Selector::of("load_requests").with("service", "a").with("instance", "a-2")), ["a-2"]);
    assert!(chosen(Selector::of("load_requests").with("host", "a")).is_empty());
    assert!(chosen(Selector::of("unknown")).is_empty());
    let all = store.range(&Selector::of("load_requests"), 0, 2_000, 0);
    assert!(all.iter().all(|series| series.points == [(1_000, 1.0), (2_000, 2.0)]));
}

#[test]
fn a_full_store_keeps_what_it_has_and_counts_what_it_refuses() {
    let mut store = store(Limits { series_max: 2, idle_ms_max: 10_000, ..Limits::default() });
    let put = |store: &mut SeriesStore, host: &str, time| store.push("load_requests", &[("host", host)], time, 1.0);
    put(&mut store, "a", 1_000).expect("takes");
    let latency = LatencyHistogram::default();
    set(&mut store, "wait_seconds", &[], 1_000, &latency).expect("takes");
    assert_eq!(put(&mut store, "b", 1_000), Err(Refused::TooManySeries));
    assert_eq!(set(&mut store, "wait_seconds", &[("a", "b")], 1, &latency), Err(Refused::TooManySeries));
    put(&mut store, "a", 8_000).expect("those that exist live on");
    set(&mut store, "wait_seconds", &[], 2_000, &latency).expect("those that exist live on");
    assert_eq!(set(&mut store, "wait_seconds", &[], 1_999, &latency), Err(Refused::OutOfOrder));
    assert_eq!(store.store().refused()[2], ("too_many_series", 2));
    store.forget_idle(13_000);
    assert_eq!(store.len(), 1, "the idle histogram made room");
    put(&mut store, "b", 13_000).expect("takes");
    store.forget_idle(18_001);
    assert_eq!(store.latest(&Selector::of("load_requests")).len(), 1);
    store.forget_idle(100_000);
    assert!(store.is_empty() && store.rows.is_empty(), "rows and texts go with their series");
}

#[test]
fn a_row_that_went_leaves_nothing_to_the_one_in_its_place() {
    let mut store = store(Limits { idle_ms_max: 10_000, ..Limits::default() });
    store.push("load_requests", &[("host", "a")], 1_000, 1.0).expect("takes");
    store.forget_idle(20_000);
    store.push("load_requests", &[("host", "b")], 20_000, 2.0).expect("takes");
    store.push("load_requests", &[("host", "a")], 21_000, 3.0).expect("takes");
    let points = |host| store.range(&Selector::of("load_requests").with("host", host), 0, 30_000, 0)[0].points.clone();
    assert_eq!((points("a"), points("b")), (vec![(1_000, 1.0), (21_000, 3.0)], vec![(20_000, 2.0)]));
    assert_eq!(store.latest(&Selector::of("load_requests").with("host", "b"))[0].points, [(20_000, 2.0)]);
}

#[test]
fn what_cannot_be_exposed_is_refused() {
    let mut store = store(Limits::default());
    let long = "x".repeat(LABEL_BYTES_MAX + 1);
    let bad: [&[(&str, &str)]; 6] =
        [&[("le", "1")], &[("", "1")], &[("Host", "1")], &[("1a", "1")], &[("a", "1"), ("a", "2")], &[("a", &long)]];
    for labels in bad {
        assert_eq!(store.push("load_requests", labels, 1, 1.0), Err(Refused::BadLabel), "{labels:?}");
    }
    assert_eq!(store.push("load_requests", &[("a", "1"); 9], 1, 1.0), Err(Refused::BadLabel));
    for value in [f64::NAN, f64::INFINITY] {
        assert_eq!(store.push("load_requests", &[], 1, value), Err(Refused::NotFinite));
    }
    assert_eq!(store.push("unknown", &[], 1, 1.0), Err(Refused::Undescribed));
    assert_eq!(store.push("wait_seconds", &[], 1, 1.0), Err(Refused::Undescribed), "a histogram takes no points");
    let latency = LatencyHistogram::default();
    assert_eq!(set(&mut store, "load_requests", &[], 1, &latency), Err(Refused::Undescribed));
    let refused = store.store().refused();
    assert_eq!((store.len(), refused[1], refused[4]), (0, ("bad_label", 7), ("not_finite", 2)));
}

#[test]
#[should_panic(expected = "is not a name for a Counter")]
fn a_counter_is_named_total() {
    store(Limits::default()).describe(Description {
        name: "load_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        help: "",
    });
}

#[test]
fn a_range_is_bounded_by_widening_its_step() {
    let mut store = store(Limits::default());
    (1..50_000).for_each(|time| store.push("load_requests", &[], time, 0.0).expect("takes"));
    let got = store.range(&Selector::of("load_requests"), 0, 50_000, 1);
    assert!(got[0].points.len() as u64 <= RANGE_POINTS_MAX + 1 && got[0].points.len() > 9_000);
}
