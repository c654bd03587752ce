//! Answers as Prometheus writes them: numbers are strings, so that NaN and infinities travel.

use promql::{Answer, Labels, Sample};
use std::fmt::Write;

fn text(to: &mut String, text: &str) {
    to.push_str(&serde_json::Value::from(text).to_string());
}

/// A number in Go's form.
pub fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

fn time(to: &mut String, ms: i64) {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    let written = match ms % 1_000 {
        0 => write!(to, "{sign}{}", ms / 1_000),
        rest => write!(to, "{sign}{}.{rest:03}", ms / 1_000),
    };
    written.expect("a String takes all");
}

fn point(to: &mut String, (at, value): Sample) {
    to.push('[');
    time(to, at);
    write!(to, ",\"{}\"]", number(value)).expect("a String takes all");
}

fn label_set(to: &mut String, labels: &Labels) {
    to.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        text(to, name);
        to.push(':');
        text(to, value);
    }
    to.push('}');
}

fn list<T>(to: &mut String, items: impl Iterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
    to.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            to.push(',');
        }
        each(to, item);
    }
    to.push(']');
}

/// The data of an answer.
pub fn answer(answer: &Answer) -> String {
    let mut to = String::new();
    let (kind, result) = match answer {
        Answer::Scalar(sample) => {
            point(&mut to, *sample);
            ("scalar", to)
        }
        Answer::Text(at, found) => {
            to.push('[');
            time(&mut to, *at);
            to.push(',');
            text(&mut to, found);
            to.push(']');
            ("string", to)
        }
        Answer::Vector(found) => {
            list(&mut to, found.iter(), |to, (labels, sample)| {
                to.push_str("{\"metric\":");
                label_set(to, labels);
                to.push_str(",\"value\":");
                point(to, *sample);
                to.push('}');
            });
            ("vector", to)
        }
        Answer::Matrix(found) => {
            list(&mut to, found.iter(), |to, (labels, samples)| {
                to.push_str("{\"metric\":");
                label_set(to, labels);
                to.push_str(",\"values\":");
                list(to, samples.iter(), |to, sample| point(to, *sample));
                to.push('}');
            });
            ("matrix", to)
        }
    };
    format!("{{\"resultType\":\"{kind}\",\"result\":{result}}}")
}

/// A list of texts.
pub fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut to = String::new();
    list(&mut to, texts, text);
    to
}

/// A list of label sets.
pub fn label_sets<'a>(sets: impl Iterator<Item = &'a Labels>) -> String {
    let mut to = String::new();
    list(&mut to, sets, label_set);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_written_as_prometheus_writes_it() {
        let labels = Labels::new([("__name__".into(), "up".into()), ("job".into(), "a\"b".into())]);
        let vector = Answer::Vector(vec![(labels.clone(), (1_435_781_451_781, f64::NAN))]);
        assert_eq!(
            answer(&vector),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1435781451.781,"NaN"]}]}"#
        );
        let matrix = Answer::Matrix(vec![(Labels::default(), vec![(1_000, 1e21), (2_000, f64::INFINITY)])]);
        assert_eq!(
            answer(&matrix),
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1000000000000000000000"],[2,"+Inf"]]}]}"#
        );
        assert_eq!(answer(&Answer::Scalar((-1_500, 0.5))), r#"{"resultType":"scalar","result":[-1.500,"0.5"]}"#);
        assert_eq!(texts(["a", "b"].into_iter()), r#"["a","b"]"#);
        assert_eq!(label_sets([labels].iter()), r#"[{"__name__":"up","job":"a\"b"}]"#);
    }
}
