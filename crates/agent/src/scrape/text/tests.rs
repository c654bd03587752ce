//! Lines as exporters write them, and lines that no exporter should.

use super::*;
use proptest::prelude::*;

fn sample(text: &str) -> (String, f64) {
    match line(text.as_bytes()).expect(text) {
        Line::Sample { key, value } => (String::from_utf8_lossy(key).into_owned(), value),
        other => panic!("{text} is {other:?}"),
    }
}

fn labels(key: &str) -> Vec<(String, String)> {
    named(key.as_bytes()).expect(key).expect("within limits").labels
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn samples_with_and_without_labels_timestamps_and_exemplars() {
    assert_eq!(sample("up 1"), ("up".into(), 1.0));
    assert_eq!(sample("  up\t1.5e3  \r"), ("up".into(), 1_500.0));
    assert_eq!(sample("a:b{x=\"1\"} -2 1395066363000"), ("a:b{x=\"1\"}".into(), -2.0));
    assert_eq!(sample("a {x=\"}\",y=\"\\\"} 7\"} 3"), ("a {x=\"}\",y=\"\\\"} 7\"}".into(), 3.0));
    assert_eq!(sample("h_bucket{le=\"+Inf\"} 9 # {trace_id=\"x\"} 0.67 1.5").1, 9.0);
    assert_eq!(sample("h_bucket{le=\"1\"} 9 1.25 # {trace_id=\"x\"} 0.67").1, 9.0);
    assert_eq!((sample("a +Inf").1, sample("a -Inf").1), (f64::INFINITY, f64::NEG_INFINITY));
    assert!(sample("a NaN").1.is_nan());
    assert_eq!(sample("a 12345678901234567890").1, 12_345_678_901_234_567_890.0);
}

#[test]
fn comments_are_told_apart() {
    let of = |text: &'static str| line(text.as_bytes()).expect(text);
    assert_eq!(of("# TYPE a counter"), Line::Type { name: b"a", kind: b"counter" });
    assert_eq!(
        of("#  HELP a What it is, \\\\ and \\n."),
        Line::Help { name: b"a", text: b"What it is, \\\\ and \\n." }
    );
    assert_eq!(help(b"What it is, \\\\ and \\n."), "What it is, \\ and \n.");
    assert_eq!(
        (of("# EOF"), of("# just words"), of(""), of("#")),
        (Line::End, Line::Nothing, Line::Nothing, Line::Nothing)
    );
}

#[test]
fn labels_are_unescaped_and_empty_ones_left_out() {
    assert_eq!(labels("a"), []);
    assert_eq!(labels("a{}"), []);
    assert_eq!(labels("a { x = \"1\" , y=\"\", }"), [pair("x", "1")]);
    assert_eq!(labels(r#"a{p="C:\\d\n\"q\"\t"}"#), [pair("p", "C:\\d\n\"q\"\\t")]);
    assert_eq!(labels("a{city=\"广州\"}"), [pair("city", "广州")]);
}

#[test]
fn bad_lines_say_what_is_wrong() {
    for (text, wanted) in [
        ("1a 2", "no metric name in `1a 2`"),
        ("a", "no value in ``"),
        ("a x", "no value in ` x`; wanted a number"),
        ("a 1 x", "no timestamp after the value"),
        ("a 1 2 3", "more after the timestamp"),
        ("a{x=\"1\" 2", "labels without an end"),
        ("<!DOCTYPE html>", "no metric name in `<!DOCTYPE html>`"),
    ] {
        let error = line(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    for (key, wanted) in [
        ("a{1=\"x\"}", "no label name"),
        ("a{x}", "a label without `=`"),
        ("a{x=1}", "a bare label value"),
        ("a{x=\"1\"y=\"2\"}", "no `,` between labels"),
        ("a{x=\"1\",x=\"2\"}", "a label that stands twice"),
        ("a{,}", "no label name"),
    ] {
        let error = named(key.as_bytes()).expect_err(key).to_string();
        assert!(error.contains(wanted), "{key}: {error}");
    }
    let error = named(b"a{x=\"\xff\"}").expect_err("no UTF-8").to_string();
    assert!(error.contains("UTF-8"), "{error}");
}

#[test]
fn limits_are_told_from_faults() {
    let long = "v".repeat(VALUE_BYTES_MAX + 1);
    let many: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n}=\"1\"")).collect();
    for (key, wanted) in [
        (format!("a{{x=\"{long}\"}}"), TooMuch::Value),
        (format!("a{{{}}}", many.join(",")), TooMuch::Labels),
        ("n".repeat(NAME_BYTES_MAX + 1), TooMuch::Name),
    ] {
        assert_eq!(named(key.as_bytes()), Ok(Err(wanted)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(Line::Sample { key, .. }) = line(&bytes) {
            let _whatever = named(key);
        }
    }

    /// Closer to the format than random bytes: its own characters.
    #[test]
    fn no_words_make_it_panic(text in "[a{}\\\\\"=, #1+.\\n\t]{0,60}") {
        if let Ok(Line::Sample { key, .. }) = line(text.as_bytes()) {
            let _whatever = named(key);
        }
    }
}
