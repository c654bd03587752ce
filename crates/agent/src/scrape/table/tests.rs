//! Whole answers: what is told of them first, what the next time, and what is left out.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a server holds of one instance.
#[derive(Default)]
struct Held {
    names: BTreeMap<u32, (String, Vec<String>)>,
    values: BTreeMap<(String, Vec<String>), f64>,
}

impl Held {
    fn take(&mut self, told: &Scraped) {
        for id in &told.gone {
            assert!(self.names.remove(id).is_some(), "{id} was not known");
        }
        for series in &told.series {
            let known = self.names.insert(series.id, (series.name.clone(), series.label.clone()));
            assert_eq!(known, None, "{} was not free", series.id);
        }
        self.values.clear();
        let mut id = 0;
        for (step, value) in told.id.iter().zip(&told.value) {
            id += step;
            self.values.insert(self.names[&id].clone(), *value);
        }
        assert_eq!(told.id.len(), told.value.len());
    }

    fn value(&self, name: &str) -> f64 {
        self.values[&(name.to_owned(), Vec::new())]
    }
}

fn table() -> Table {
    let mut table = Table::default();
    table.set_room(usize::MAX);
    table
}

fn read(table: &mut Table, text: &str) -> Scraped {
    table.begin();
    table.feed(text.as_bytes()).expect("good lines");
    table.finish().expect("a good last line");
    let mut told = Scraped::default();
    table.tell(&mut told);
    told
}

const TEXT: &str = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{code=\"200\"} 5\n\
    requests_total{code=\"500\"} 1\n# TYPE depth gauge\ndepth 3\nplain 7";

#[test]
fn names_are_told_once_and_values_each_time() {
    let (mut table, mut held) = (table(), Held::default());
    let told = read(&mut table, TEXT);
    held.take(&told);
    assert_eq!((told.series.len(), told.exposed, held.value("plain"), held.value("depth")), (4, 4, 7.0, 3.0));
    let mut families: Vec<_> =
        told.families.iter().map(|f| (f.name.as_str(), f.kind.as_str(), f.help.as_str())).collect();
    families.sort_unstable();
    assert_eq!(families, [("depth", "gauge", ""), ("requests_total", "counter", "Requests.")]);
    let told = read(&mut table, &TEXT.replace("depth 3", "depth 4"));
    held.take(&told);
    assert_eq!((told.series.len(), told.families.len(), told.gone.len()), (0, 0, 0));
    assert_eq!((told.id.as_slice(), held.value("depth")), (&[0, 1, 1, 1][..], 4.0));
    table.forget_told();
    assert_eq!(read(&mut table, TEXT).series.len(), 4, "a new stream is told everything");
}

#[test]
fn what_comes_and_goes_is_told_by_its_id() {
    let (mut table, mut held) = (table(), Held::default());
    held.take(&read(&mut table, "a 1\nb 2\nc 3\n"));
    let told = read(&mut table, "new 9\na 1\nc 4\n");
    assert_eq!(told.gone, [1]);
    held.take(&told);
    assert_eq!((held.value("new"), held.value("c"), held.values.len()), (9.0, 4.0, 3));
    let told = read(&mut table, "c 4\nlater 5\na 1\nnew 9\n");
    assert_eq!((told.series[0].id, told.gone.len()), (1, 0), "the free id is used again");
    held.take(&told);
    assert_eq!((held.value("later"), held.value("a")), (5.0, 1.0));
}

#[test]
fn what_is_no_finite_number_has_no_value_and_is_counted() {
    let (mut table, mut held) = (table(), Held::default());
    held.take(&read(&mut table, "a 1\nb 2\n"));
    let told = read(&mut table, "a NaN\nb +Inf\nc -Inf\n");
    assert_eq!((told.not_finite, told.gone.as_slice(), told.exposed), (3, &[0, 1][..], 3));
    held.take(&told);
    assert!(held.values.is_empty());
    held.take(&read(&mut table, "a 1\nb 2\n"));
    assert_eq!(held.values.len(), 2);
}

#[test]
fn a_million_series_are_cut_counted_and_said() {
    let mut table = table();
    table.begin();
    let mut wanted = true;
    let mut number = 0;
    while wanted && number < 1_000_000 {
        let mut part = String::new();
        for _ in 0..1_000 {
            writeln!(part, "requests_total{{user=\"{number}\"}} {number}").expect("a String takes all");
            number += 1;
        }
        wanted = table.feed(part.as_bytes()).expect("good lines");
    }
    assert!(!wanted && number < 1_000_000, "it stops reading after {ANSWER_BYTES_MAX} bytes");
    table.finish().expect("nothing is left");
    let mut told = Scraped::default();
    table.tell(&mut told);
    assert_eq!((told.series.len(), told.value.len()), (SERIES_MAX, SERIES_MAX));
    assert_eq!(told.cut_reason, format!("more than {SERIES_MAX} series of one instance"));
    assert!(told.cut > 100_000 && told.cut >= told.exposed - SERIES_MAX as u32, "{} of {}", told.cut, told.exposed);
}

#[test]
fn duplicates_long_lines_and_long_labels_are_left_out() {
    let mut table = table();
    let long = "v".repeat(LINE_BYTES_MAX);
    let told = read(&mut table, &format!("a 1\na 2\nb{{x=\"{long}\"}} 3\nc{{x=\"{}\"}} 4\nd 5\n", &long[..300]));
    assert_eq!((told.value.as_slice(), told.cut, told.exposed), (&[1.0, 5.0][..], 3, 5));
    assert_eq!(told.cut_reason, "`a` stands twice");
    table.set_room(3);
    let told = read(&mut table, "a 1\nd 5\ne 6\nf 7\n");
    assert_eq!((told.value.len(), told.cut_reason.as_str()), (3, "more series than one host may have"));
}

#[test]
fn a_bad_line_is_named_and_nothing_is_believed() {
    let mut table = table();
    read(&mut table, "a 1\nb 2\n");
    table.begin();
    let error = table.feed(b"a 1\n<html>\n").expect_err("no exposition").to_string();
    assert!(error.starts_with("line 2: no metric name in `<html>`"), "{error}");
    assert_eq!((table.drop_all(), table.len()), (vec![0, 1], 0));
}

#[test]
fn open_metrics_counters_keep_their_suffix_and_the_end_is_the_end() {
    let mut table = table();
    let text = "# TYPE foo counter\n# HELP foo Foo.\nfoo_total 17.0 # {id=\"x\"} 1.0\nfoo_created 1.5\n# EOF\nrubbish here and there\n";
    let told = read(&mut table, text);
    assert_eq!(
        told.families,
        [ScrapedFamily { name: "foo_total".into(), kind: "counter".into(), help: "Foo.".into() }]
    );
    assert_eq!(told.value, [17.0, 1.5]);
}

/// A family of a service as a person would declare it.
#[derive(Debug, Clone)]
struct Declared {
    name: String,
    samples: BTreeMap<Vec<(String, String)>, f64>,
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

fn exposition(families: &[Declared]) -> String {
    let mut text = String::new();
    for family in families {
        writeln!(text, "# HELP {} Help of it.\n# TYPE {} gauge", family.name, family.name).expect("a String takes all");
        for (labels, value) in &family.samples {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            writeln!(text, "{}{labels} {value:?}", family.name).expect("a String takes all");
        }
    }
    text
}

fn families() -> impl Strategy<Value = Vec<Declared>> {
    let value =
        prop_oneof![any::<f64>().prop_filter("finite", |value| value.is_finite()), (0..9_u32).prop_map(f64::from)];
    let labels = prop::collection::btree_map("[a-z_][a-z0-9_]{0,5}", "[^\\x00]{1,8}", 0..4)
        .prop_map(|labels| labels.into_iter().collect::<Vec<_>>());
    let samples = prop::collection::btree_map(labels, value, 1..6);
    prop::collection::btree_map("[a-zA-Z_:][a-zA-Z0-9_:]{0,9}", samples, 0..5)
        .prop_map(|all| all.into_iter().map(|(name, samples)| Declared { name, samples }).collect())
}

fn wanted(families: &[Declared]) -> BTreeMap<(String, Vec<String>), f64> {
    let of = |family: &Declared| {
        let name = family.name.clone();
        let flat = |labels: &Vec<(String, String)>| labels.iter().flat_map(|(n, v)| [n.clone(), v.clone()]).collect();
        family.samples.iter().map(move |(labels, value)| ((name.clone(), flat(labels)), *value)).collect::<Vec<_>>()
    };
    families.iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_declared_is_what_is_held(rounds in prop::collection::vec(families(), 1..4), part in 1..64_usize) {
        let (mut table, mut held) = (table(), Held::default());
        for families in rounds {
            table.begin();
            for part in exposition(&families).as_bytes().chunks(part) {
                prop_assert!(table.feed(part).expect("good lines"));
            }
            table.finish().expect("nothing is left");
            let mut told = Scraped::default();
            table.tell(&mut told);
            held.take(&told);
            let wanted = wanted(&families);
            prop_assert_eq!(told.exposed as usize, wanted.len());
            prop_assert_eq!(&held.values, &wanted);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut table = table();
        table.begin();
        let good = parts.iter().try_for_each(|part| table.feed(part).map(|_| ()));
        if good.is_ok() && table.finish().is_ok() {
            table.tell(&mut Scraped::default());
        }
    }
}
