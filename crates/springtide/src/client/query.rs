//! `query`: PromQL from the command line: a table of values, or lines over time.

mod plot;

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Output, Table, counted};
use model::UnixMs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Points of a range where no step is given: as wide as a line on a terminal.
const POINTS_DEFAULT: i64 = 60;
/// Least step.
const STEP_MS_MIN: i64 = 1_000;
/// Labels that get a column of their own; beyond, they share one.
const COLUMNS_MAX: usize = 5;

/// Ask the server's metrics a question in PromQL
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide query 'topk(5, springtide_service_requests_per_second)'\n  springtide query 'sum(springtide_service_requests_per_second)' --range 15m\n  springtide query 'max by (host) (springtide_host_used_cores)' --range 1h --step 1m -o json\n\nJSON is as Prometheus' API gives it. What is supported: docs/metrics.md.\nExit codes: 0 answered, 1 refused by the server, 2 not PromQL, 3 no server."
)]
pub struct Args {
    /// The query
    #[arg(value_name = "PROMQL")]
    expression: String,
    /// Over this time until now, such as 15m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    range: Option<i64>,
    /// Time between points of a range [default: a sixtieth of it]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "range")]
    step: Option<i64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no duration; expected 30s, 5m, 1h30m or the like");
    promql::duration_ms(text).filter(|ms| *ms > 0).ok_or_else(wrong)
}

/// `springtide query`.
pub async fn query(args: Args) -> Result<(), Failure> {
    let text = args.expression.as_str();
    // Read here first: a slip of the pen is told with its place, and needs no server.
    promql::Query::parse(text).map_err(|error| {
        let place = error.marked(text).replace('\n', "\n  ");
        Failure::Usage(format!("{}\n  {place}", error.message))
    })?;
    let client = args.connect.client()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut parameters = vec![("query", text.to_owned())];
    let path = match args.range {
        None => "query",
        Some(range) => {
            let step = args.step.unwrap_or((range / POINTS_DEFAULT).max(STEP_MS_MIN));
            // Whole steps, so that asking again gives the same points.
            let end = now - now % step;
            parameters.extend([("start", seconds(end - range)), ("end", seconds(end)), ("step", seconds(step))]);
            "query_range"
        }
    };
    let answer = client.prometheus(path, &parameters).await;
    let data = answer.map_err(|error| pointed(text, error))?;
    args.output.show(&data, || shown(&data, args.range))
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// A refusal of the server, with a mark under its place when it has one.
fn pointed(query: &str, error: api::client::Error) -> Failure {
    let api::client::Error::Refused(problem, _) = &error else { return error.into() };
    let message = problem.message.trim_start_matches("invalid parameter \"query\": ");
    let mut parts = message.splitn(3, ':');
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<usize>().ok()).filter(|number| *number > 0);
    let (Some(line), Some(column), Some(rest)) = (number(parts.next()), number(parts.next()), parts.next()) else {
        return error.into();
    };
    let shown = query.split('\n').nth(line - 1).unwrap_or("");
    Failure::Refused(format!("{}\n  {shown}\n  {}^", rest.trim_start(), " ".repeat(column - 1)))
}

/// An answer, for people.
fn shown(data: &Value, range_ms: Option<i64>) -> String {
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => format!("{}\n", figure(number(&result[1]))),
        Some("string") => format!("{}\n", result[1].as_str().unwrap_or("")),
        Some("matrix") => over_time(result, range_ms),
        _ => at_once(result),
    }
}

fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// A number as people read it: four digits that count, or all before the point.
fn figure(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    if !(-6..=15).contains(&before) {
        return format!("{value:.3e}");
    }
    let digits = usize::try_from(4 - before).unwrap_or(0);
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

type Labels = BTreeMap<String, String>;

fn series(result: &Value) -> Vec<(Labels, &Value)> {
    let labels = |at: &Value| serde_json::from_value(at["metric"].clone()).unwrap_or_default();
    result.as_array().map(|all| all.iter().map(|at| (labels(at), at)).collect()).unwrap_or_default()
}

/// What all series have in common, for one line, and the labels in which they differ.
fn told_apart(all: &[(Labels, &Value)]) -> (String, Vec<String>) {
    let Some((first, _)) = all.first() else { return (String::new(), Vec::new()) };
    let is_common =
        |name: &str, value: &str| all.iter().all(|(labels, _)| labels.get(name).is_some_and(|v| v == value));
    let common: Vec<(&String, &String)> = first.iter().filter(|(name, value)| is_common(name, value)).collect();
    let metric = common.iter().find(|(name, _)| *name == "__name__").map_or("", |(_, value)| value.as_str());
    let others: Vec<String> =
        common.iter().filter(|(name, _)| *name != "__name__").map(|(n, v)| format!("{n}={v}")).collect();
    let mut differ: Vec<String> = all.iter().flat_map(|(labels, _)| labels.keys().cloned()).collect();
    differ.sort();
    differ.dedup();
    differ.retain(|name| !common.iter().any(|(known, _)| *known == name));
    let title = [metric.to_owned(), others.join(" ")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ");
    (title, differ)
}

/// Heads and cells of the columns that tell series apart.
fn columns(differ: &[String]) -> (Vec<String>, impl Fn(&Labels) -> Vec<String>) {
    let single = differ.len() > COLUMNS_MAX;
    let head = |name: &String| if name == "__name__" { "METRIC".to_owned() } else { name.to_uppercase() };
    let heads = if single { vec!["SERIES".to_owned()] } else { differ.iter().map(head).collect() };
    let names = differ.to_vec();
    let cells = move |labels: &Labels| {
        let cell = |name: &String| labels.get(name).cloned().unwrap_or_default();
        match single {
            true => vec![
                names
                    .iter()
                    .filter(|n| labels.contains_key(*n))
                    .map(|n| format!("{n}={}", cell(n)))
                    .collect::<Vec<_>>()
                    .join(" "),
            ],
            false => names.iter().map(cell).collect(),
        }
    };
    (heads, cells)
}

const NOTHING: &str =
    "no series: `springtide query 'count by (__name__) ({__name__=~\".+\"})'` lists the metrics there are\n";

fn at_once(result: &Value) -> String {
    let all = series(result);
    if all.is_empty() {
        return NOTHING.to_owned();
    }
    let (title, differ) = told_apart(&all);
    let (mut heads, cells) = columns(&differ);
    heads.push("VALUE".to_owned());
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = Table::new(&heads).numbers(&[heads.len() - 1]);
    for (labels, at) in &all {
        table.row(cells(labels).into_iter().chain([figure(number(&at["value"][1]))]));
    }
    titled(&title, &table.text())
}

fn titled(title: &str, text: &str) -> String {
    if title.is_empty() { text.to_owned() } else { format!("{title}\n{text}") }
}

fn points(at: &Value) -> Vec<(UnixMs, f64)> {
    let point = |point: &Value| ((point[0].as_f64().unwrap_or(0.0) * 1_000.0).round() as UnixMs, number(&point[1]));
    at["values"].as_array().map(|points| points.iter().map(point).collect()).unwrap_or_default()
}

fn over_time(result: &Value, range_ms: Option<i64>) -> String {
    let all = series(result);
    if all.is_empty() {
        return NOTHING.to_owned();
    }
    let (title, differ) = told_apart(&all);
    let lines: Vec<Vec<(UnixMs, f64)>> = all.iter().map(|(_, at)| points(at)).collect();
    let times = || lines.iter().flatten().map(|(at, _)| *at);
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let from = range_ms.map_or(first, |range| first.min(last.saturating_sub(range.unsigned_abs())));
    let about = format!(
        "{} over {}",
        counted(all.len(), "series").replace("seriess", "series"),
        promql::duration_text((last - from) as i64)
    );
    let title = [title, about].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
    if let [points] = &lines[..] {
        return titled(&title, &plot::tall(points, from, last));
    }
    let (mut heads, cells) = columns(&differ);
    heads.extend(["OVER TIME", "LEAST", "MOST", "LAST"].map(str::to_owned));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let end = heads.len();
    let mut table = Table::new(&heads).numbers(&[end - 3, end - 2, end - 1]);
    for ((labels, _), points) in all.iter().zip(&lines) {
        let least = points.iter().map(|(_, value)| *value).fold(f64::NAN, f64::min);
        let most = points.iter().map(|(_, value)| *value).fold(f64::NAN, f64::max);
        let newest = points.last().map_or(f64::NAN, |(_, value)| *value);
        let line = plot::spark(points, from, last);
        table.row(cells(labels).into_iter().chain([line, figure(least), figure(most), figure(newest)]));
    }
    titled(&title, &table.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_set_out_by_what_tells_them_apart() {
        let data = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "cpu", "dc": "north", "host": "a"}, "value": [1, "0.123456"]},
            {"metric": {"__name__": "cpu", "dc": "north", "host": "b"}, "value": [1, "12345.6"]},
        ]});
        assert_eq!(shown(&data, None), "cpu  dc=north\nHOST   VALUE\na     0.1235\nb      12346\n");
        assert!(shown(&json!({"resultType": "vector", "result": []}), None).contains("no series"));
        assert_eq!(shown(&json!({"resultType": "scalar", "result": [1, "2.50"]}), None), "2.5\n");
    }

    #[test]
    fn figures_have_four_digits_that_count() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.000_123_456, "0.0001235"),
            (99.999, "100"),
            (1_234_567.8, "1234568"),
            (-0.5, "-0.5"),
            (1e30, "1.000e30"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
        assert_eq!(figure(f64::NAN), "NaN");
    }

    #[test]
    fn a_refusal_of_the_server_is_pointed_at() {
        let problem = api::http::Problem {
            code: "execution".to_owned(),
            message: "1:5: many meet one".to_owned(),
            faults: Vec::new(),
        };
        let failure =
            pointed("1 + a / b", api::client::Error::Refused(problem, reqwest::StatusCode::UNPROCESSABLE_ENTITY));
        let Failure::Refused(text) = failure else { panic!("refused") };
        assert_eq!(text, "many meet one\n  1 + a / b\n      ^");
    }
}
