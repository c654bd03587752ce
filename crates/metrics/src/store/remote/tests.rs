//! Requests as senders write them, odd ones, and bytes that are none.

use super::*;
use crate::store::{Limits, Matcher, NAME};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000_000;

pub(crate) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    put_varint(&mut to, number << 3 | BYTES);
    put_varint(&mut to, bytes.len() as u64);
    to.extend_from_slice(bytes);
    to
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

fn point(time_ms: i64, value: f64) -> Vec<u8> {
    let mut bytes = vec![VALUE as u8];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.push(TIME as u8);
    put_varint(&mut bytes, time_ms as u64);
    field(2, &bytes)
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).expect("compresses")
}

fn store() -> Store {
    Store::in_memory(Limits::default())
}

fn read(store: &Store, name: &str) -> Vec<(u64, f64)> {
    let found = store.select(&[Matcher::name(name)], 0, u64::MAX).expect("few");
    found.into_iter().flat_map(|series| series.points).collect()
}

#[test]
fn labels_in_any_order_and_place_are_one_series() {
    let store = store();
    let (name, job, instance) = (label(NAME, "up"), label("job", "a"), label("instance", "b:1"));
    let at = NOW as i64;
    let canonical = [name.clone(), instance.clone(), job.clone(), point(at, 1.0)].concat();
    let unsorted = [job.clone(), name.clone(), instance.clone(), point(at + 1, 2.0)].concat();
    let apart = [name.clone(), point(at + 2, 3.0), job.clone(), point(at + 3, 4.0), instance.clone()].concat();
    let empty = [name, instance, job, label("none", ""), point(at + 4, 5.0)].concat();
    let body: Vec<u8> = [canonical, unsorted, apart, empty].iter().flat_map(|series| field(1, series)).collect();
    let written = store.write(&snappy(&body), NOW).expect("well formed");
    assert_eq!(written, Written { taken: 5, ..Written::default() });
    assert_eq!(store.series(), 1);
    assert_eq!(read(&store, "up").iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn each_refusal_is_counted_and_the_first_is_told() {
    let store = store();
    let (name, at) = (label(NAME, "up"), NOW as i64);
    let good =
        [name.clone(), point(at, 1.0), point(at, 2.0), point(at, 1.0), point(at - 1, 0.5), point(at + 1, f64::NAN)];
    let far = [name.clone(), point(at + 3_600_000, 1.0), point(-5, 1.0), point(at - 8 * 3_600_000, 1.0)];
    let bad = [label("job", "without a name"), point(at, 1.0)];
    let histogram = [name, field(4, b"\x08\x01")];
    let body =
        [field(1, &good.concat()), field(1, &far.concat()), field(1, &bad.concat()), field(1, &histogram.concat())];
    // Metadata, and a field of a later version.
    let body = [body.concat(), field(3, b"\x08\x01"), field(9, b"later")].concat();
    let written = store.write(&snappy(&body), NOW).expect("well formed");
    assert_eq!((written.taken, written.refused, written.histograms), (4, 5, 1));
    let complaint = written.complaint().expect("there is one");
    assert!(complaint.starts_with("5 of 9 samples were refused and the rest taken; the first, of {"), "{complaint}");
    assert!(complaint.ends_with("1 native histograms were left out: send classic ones"), "{complaint}");
    let refused: Vec<_> = store.refused().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused, [("bad_label", 1), ("duplicate", 1), ("too_old", 2), ("too_new", 1)]);
    let values: Vec<u64> = read(&store, "up").iter().map(|(_, value)| value.to_bits()).collect();
    assert_eq!(values, [0.5_f64.to_bits(), 1.0_f64.to_bits(), super::super::NO_NUMBER], "a late point found its place");
}

#[test]
fn a_source_and_the_store_have_as_many_series_as_they_may() {
    let limits = Limits { series_max: 150, source_series_max: 100, ..Limits::default() };
    let store = Store::in_memory(limits);
    let series = |source: &str, n: usize| {
        let labels = [label(NAME, "up"), label("instance", source), label("user", &n.to_string())].concat();
        field(1, &[labels, point(NOW as i64, 1.0)].concat())
    };
    let body: Vec<u8> = (0..1_000).flat_map(|n| series("greedy", n)).collect();
    let written = store.write(&snappy(&body), NOW).expect("well formed");
    assert_eq!((written.taken, written.refused), (100, 900));
    let body: Vec<u8> = (0..60).flat_map(|n| series("other", n)).collect();
    let written = store.write(&snappy(&body), NOW).expect("well formed");
    assert_eq!((written.taken, written.refused), (50, 10));
    let count = |wanted: &str| store.refused().iter().find(|(reason, _)| *reason == wanted).map(|(_, count)| *count);
    assert_eq!((count("source_full"), count("too_many_series")), (Some(900), Some(10)));
}

#[test]
fn a_malformed_request_says_where_and_changes_nothing() {
    let store = store();
    let good = field(1, &[label(NAME, "up"), point(NOW as i64, 1.0)].concat());
    let body = [good.clone(), vec![0x0a, 0x7f, 1]].concat();
    let error = store.write(&snappy(&body), NOW).expect_err("cut off");
    assert_eq!(error, Malformed::Protobuf { offset: good.len(), what: "a series is cut off" });
    assert!(matches!(store.write(b"plain text", NOW), Err(Malformed::Snappy(_))));
    let mut large = Vec::new();
    put_varint(&mut large, 1 << 31);
    assert_eq!(store.write(&large, NOW), Err(Malformed::TooLarge(1 << 31)));
    assert_eq!(store.series(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..300), at in 0..200_usize, byte: u8) {
        let store = store();
        let _ = store.write(&noise, NOW);
        let _ = store.write(&snappy(&noise), NOW);
        let mut body: Vec<u8> = (0..3)
            .flat_map(|n| field(1, &[label(NAME, "up"), label("n", &n.to_string()), point(NOW as i64, 1.0)].concat()))
            .collect();
        let at = at % body.len();
        body[at] = byte;
        let _ = store.write(&snappy(&body), NOW);
        let mut compressed = snappy(&body);
        let at = at % compressed.len();
        compressed[at] = byte;
        let _ = store.write(&compressed, NOW);
    }
}
