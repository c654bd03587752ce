//! Instances' own numbers: asked, told once by name and then by value, cut, and gone.

use crate::agent::{Agent, assignment, bring_up};
use crate::fleet::{FakeFleet, Listener, Seen};
use api::fleet::{Assignment, MetricsEndpoint, Phase, Scraped};

fn telling(listener: &Listener, path: &str) -> Assignment {
    let one = assignment(listener, "fixture-1");
    let metrics = MetricsEndpoint { path: path.into(), port: one.ports["http"], interval_ms: 1_000 };
    Assignment { metrics: Some(metrics), ..one }
}

/// The first reading after `past` of them for which it holds, and how many there were by then.
async fn reading(fleet: &FakeFleet, what: &str, past: usize, is_it: impl Fn(&Scraped) -> bool) -> (Scraped, usize) {
    let find = |seen: &Seen| {
        let (at, found) = seen.scraped.iter().enumerate().skip(past).find(|(_, reading)| is_it(reading))?;
        Some((found.clone(), at + 1))
    };
    fleet.until(what, find).await
}

fn is_up(reading: &Scraped) -> bool {
    reading.error.is_empty() && !reading.end
}

#[tokio::test]
async fn numbers_are_told_by_name_once_then_by_value_and_all_anew_to_a_new_stream() {
    let listener = Listener::start().await;
    let mut agent = Agent::started(&listener).await;
    let one = telling(&listener, "/metrics");
    bring_up(&listener, &one, 1).await;
    let (first, past) = reading(&listener.fleet, "a first reading", 0, is_up).await;
    assert_eq!((first.instance.as_str(), first.service.as_str()), ("fixture-1", "fixture"));
    let names: Vec<_> = first.series.iter().map(|series| (series.name.as_str(), series.label.join("="))).collect();
    assert_eq!(names, [("fixture_asked_total", "path=a \"b\"".into()), ("fixture_quantile_count", String::new())]);
    assert_eq!((first.exposed, first.not_finite, first.cut), (3, 1, 0));
    let family = first.families.iter().find(|family| family.name == "fixture_asked_total").expect("declared");
    assert_eq!((family.kind.as_str(), family.help.as_str()), ("counter", "Times asked."));
    let (second, _) = reading(&listener.fleet, "a second reading", past, |r| is_up(r) && r.series.is_empty()).await;
    assert_eq!((second.series.len(), second.families.len(), second.id.as_slice()), (0, 0, &[0, 1][..]));
    assert!(second.value[0] > first.value[0] && second.time_unix_ms > first.time_unix_ms);

    agent.kill();
    let past = listener.fleet.seen().scraped.len();
    agent.start();
    listener.fleet.connected(2).await;
    // Before it there may be one that the old stream still held.
    let is_anew = |r: &Scraped| is_up(r) && !r.series.is_empty();
    let (anew, past) = reading(&listener.fleet, "a reading that tells all anew", past, is_anew).await;
    assert_eq!(anew.series.len(), 2, "the new stream knows nothing yet");

    // It answers, but not with an exposition; then it tells no numbers any more.
    let status = MetricsEndpoint { path: "/status".into(), ..one.metrics.clone().expect("given") };
    listener.fleet.set(2, vec![Assignment { metrics: Some(status), ..one.clone() }], &[]).await;
    let is_bad = |reading: &Scraped| reading.error.contains("/status: line 1: ");
    let (bad, past) = reading(&listener.fleet, "a bad reading", past, is_bad).await;
    assert!(bad.value.is_empty() && bad.series.is_empty());
    listener.fleet.set(3, vec![Assignment { metrics: None, ..one }], &[]).await;
    let (last, _) = reading(&listener.fleet, "a last word", past, |reading| reading.end).await;
    assert_eq!(last.instance, "fixture-1");
    assert_eq!(listener.fleet.phase("fixture-1", Phase::Healthy).await.restarts, 0, "nothing of this restarts it");
    agent.kill();
    agent.end();
}

#[tokio::test]
async fn a_service_with_too_many_series_is_cut_and_one_that_is_gone_is_down() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = telling(&listener, "/metrics?5000");
    bring_up(&listener, &one, 1).await;
    let (cut, past) = reading(&listener.fleet, "a reading that is cut", 0, |reading| reading.cut > 0).await;
    assert_eq!((cut.value.len(), cut.exposed), (agent::SERIES_MAX, 5_003));
    assert_eq!(cut.cut as usize + cut.value.len() + cut.not_finite as usize, 5_003);
    assert_eq!(cut.cut_reason, format!("more than {} series of one instance", agent::SERIES_MAX));
    assert!(agent.resident_kib() < 40 << 10, "{} KiB", agent.resident_kib());

    let gone =
        Assignment { intent: api::fleet::Intent::Running.into(), command: vec!["sleep".into(), "100".into()], ..one };
    listener.fleet.set(2, vec![gone], &[]).await;
    let (down, _) = reading(&listener.fleet, "it is gone", past, |reading| !reading.error.is_empty()).await;
    assert_eq!(down.gone.len(), agent::SERIES_MAX, "what it told has no value any more");
    reading(&listener.fleet, "nobody answers", past, |reading| reading.error.contains("refused")).await;
    agent.end();
}
