//! Filters, order and cut over a small frame.

use super::*;
use api::live::{HostColumns, InstanceColumns, LiveHost, LiveInstance, LiveService};

fn frame() -> (Layout, Tick) {
    let host = |name: &str, datacenter: &str| LiveHost {
        name: name.to_owned(),
        datacenter: datacenter.to_owned(),
        rack: "r1".to_owned(),
    };
    let service = |name: &str| LiveService {
        name: name.to_owned(),
        business: "b".to_owned(),
        layer: "logic".to_owned(),
        calls: Vec::new(),
    };
    let instance = |name: &str, service, host| LiveInstance { name: name.to_owned(), service, host };
    let layout = Layout {
        hosts: vec![host("h1", "east"), host("h2", "east"), host("h10", "west")],
        services: vec![service("lottery"), service("pay")],
        instances: vec![instance("pay-2", 1, 0), instance("pay-10", 1, 0), instance("lottery-1", 0, 2)],
        ..Layout::default()
    };
    let tick = Tick {
        at: 7,
        hosts: HostColumns { state: vec![1, 6, 1], cpu: vec![Some(0.5), None, Some(0.9)], ..HostColumns::default() },
        instances: InstanceColumns {
            phase: vec![4, 5, 4],
            cpu: vec![Some(0.2), Some(0.8), None],
            ..InstanceColumns::default()
        },
        ..Tick::default()
    };
    (layout, tick)
}

fn asked(query: &str) -> Asked {
    let uri: http::Uri = format!("/?{query}").parse().expect("a query");
    axum::extract::Query::try_from_uri(&uri).expect("well formed").0
}

fn hosts(query: &str) -> (u64, Vec<String>) {
    let (layout, tick) = frame();
    let found = host_rows(&layout, &tick, &asked(query)).expect(query);
    (found.total, found.rows.into_iter().map(|row| row.name).collect())
}

fn instances(query: &str) -> (u64, Vec<String>) {
    let (layout, tick) = frame();
    let found = instance_rows(&layout, &tick, &asked(query)).expect(query);
    (found.total, found.rows.into_iter().map(|row| row.name).collect())
}

fn named(total: u64, names: &[&str]) -> (u64, Vec<String>) {
    (total, names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn rows_are_filtered_by_words_and_by_fields() {
    assert_eq!(hosts("words=EAST%20r1"), named(2, &["h1", "h2"]));
    assert_eq!(hosts("state=cordoned"), named(1, &["h2"]));
    assert_eq!(hosts("datacenter=west&words=h1"), named(1, &["h10"]));
    assert_eq!(instances("service=pay&state=unhealthy"), named(1, &["pay-10"]));
    assert_eq!(instances("host=h1"), named(2, &["pay-2", "pay-10"]));
    assert_eq!(instances("words=nowhere"), named(0, &[]));
}

#[test]
fn rows_are_sorted_with_what_was_not_measured_last_and_numbers_in_names_as_numbers() {
    assert_eq!(hosts("sort=cpu"), named(3, &["h1", "h10", "h2"]));
    assert_eq!(hosts("sort=cpu&descending=true"), named(3, &["h10", "h1", "h2"]));
    assert_eq!(hosts("sort=name"), named(3, &["h1", "h2", "h10"]));
    assert_eq!(hosts("sort=instances&descending=true"), named(3, &["h1", "h10", "h2"]));
    assert_eq!(instances("sort=name"), named(3, &["lottery-1", "pay-2", "pay-10"]));
    assert_eq!(instances("sort=cpu&descending=true&offset=1&limit=1"), named(3, &["pay-2"]));
}

#[test]
fn what_cannot_be_sorted_by_is_refused_with_what_can() {
    let (layout, tick) = frame();
    let refused = host_rows(&layout, &tick, &asked("sort=rps")).expect_err("hosts have no rate");
    assert!(refused.status == 400 && refused.problem.message.contains("given"), "{}", refused.problem.message);
    assert!(host_rows(&layout, &tick, &asked("service=pay")).is_err());
}
