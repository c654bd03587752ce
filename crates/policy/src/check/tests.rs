//! Tests of `check`.

use super::*;

const NOW: UnixMs = 1_801_828_800_000; // 2027-02-05T12:00:00Z

fn faults(text: &str, force: bool) -> Vec<String> {
    let declared = model::manifest::parse(&[("a.yaml".to_owned(), text.to_owned())]).expect("the manifest is read");
    check(&declared, NOW, force).iter().map(ToString::to_string).collect()
}

fn policy(rest: &str) -> String {
    format!("kind: Policy\nname: p\nexpires_at: 2027-02-05T12:30:00Z\n{rest}\n")
}

#[test]
fn one_that_would_take_everything_is_refused_unless_forced() {
    let table: &[(&str, Option<&str>)] = &[
        ("action: {throttle: {users_percent: 100}}", Some("would reject every user")),
        ("service: lottery\naction: {throttle: {users_percent: 99.5}}", Some("would reject every user")),
        ("action: {throttle: {users_percent: 99}}", None),
        ("when: 'true'\naction: {throttle: {users_percent: 100}}", Some("would reject every user")),
        ("when: caller == 'bot'\naction: {throttle: {users_percent: 100}}", None),
        ("action: {throttle: {requests_per_second: 0}}", Some("practically every request")),
        ("action: {throttle: {requests_per_second: 0.001}}", Some("practically every request")),
        ("action: {throttle: {requests_per_second: 1}}", None),
        ("action: {throttle: {business_levels_from: 0}}", Some("every business level")),
        ("action: {throttle: {business_levels_from: 1}}", None),
        ("action: {suppress: {}}", Some("would take every request")),
        ("business: b\naction: {suppress: {}}", Some("would take every request")),
        ("route: /\naction: {degrade: {cached_seconds_max: 1}}", Some("would take every request")),
        ("when: 1 == 1\naction: {slow: {requests_per_second: 5}}", Some("would take every request")),
        ("service: gift\naction: {suppress: {}}", None),
        ("route: /gift\naction: {suppress: {}}", None),
        ("when: business_level > 9\naction: {suppress: {}}", None),
    ];
    for (rest, why) in table {
        let found = faults(&policy(rest), false);
        match why {
            None => assert!(found.is_empty(), "{rest}: {found:?}"),
            Some(why) => {
                assert!(
                    found.len() == 1 && found[0].contains(why) && found[0].contains("--force"),
                    "{rest}: {found:?}"
                );
                let line = rest.lines().count() + 3;
                assert!(found[0].starts_with(&format!("a.yaml:{line}: action: ")), "{rest}: {found:?}");
            }
        }
        assert!(faults(&policy(rest), true).is_empty(), "{rest} with force");
    }
}

#[test]
fn an_end_must_be_ahead_and_within_a_day() {
    let end =
        |end: &str| faults(&policy("service: s\naction: {suppress: {}}").replace("2027-02-05T12:30:00Z", end), true);
    assert!(end("2027-02-05T12:00:01Z").is_empty());
    assert!(end("2027-02-06T12:00:00Z").is_empty());
    assert_eq!(
        end("2027-02-05T12:00:00Z"),
        ["a.yaml:3: expires_at: 2027-02-05T12:00:00Z is over already; give a later end"]
    );
    assert!(end("2027-02-06T12:00:09Z")[0].contains("more than 24 h ahead"));
}

#[test]
fn a_wrong_expression_is_told_with_file_line_and_field() {
    let found = faults(&policy("service: s\naction: {suppress: {}}\nwhen: request.pth == '/x'"), false);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("a.yaml:6: when: unknown field of request `pth`; did you mean `path`?"), "{found:?}");
    let preset = "kind: Preset\nname: surge\npolicies:\n- {name: a, service: s, action: {suppress: {}}, for: 5m}\n\
        - name: b\n  when: size(\n  action: {throttle: {users_percent: 100}}\n  for: 5m\n";
    let found = faults(preset, false);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.yaml:6: policies[1].when: column "), "{found:?}");
    assert!(found[1].starts_with("a.yaml:7: policies[1].action: would reject every user"), "{found:?}");
}

#[test]
fn the_preset_of_the_sample_business_is_right() {
    let text = include_str!("../../../../examples/red-packet/presets/midnight-surge.yaml");
    assert_eq!(faults(text, false), [""; 0]);
}
