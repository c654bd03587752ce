//! Scripts as people write them: what is wrong is told with its line and its field.

use sim::script::parse;

const GOOD: &str = "\
name: one
duration_s: 10
services:
  - name: m
    instances: 3
    workers: 4
    work: {shape: exponential, mean_ms: 16}
streams:
  - name: s
    calls: [{to: m, times: 2}]
    load:
      - {at_s: 0, rps: 100}
";

fn faults(text: &str) -> Vec<String> {
    parse("s.yaml", text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn the_scripts_of_the_repository_are_right() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut read = 0;
    for entry in std::fs::read_dir(&folder).expect("scenarios/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a script");
            let found = parse(&path.display().to_string(), &text);
            assert!(found.is_ok(), "{}", found.err().map(|faults| faults[0].to_string()).unwrap_or_default());
            read += 1;
        }
    }
    assert!(read >= 10, "{read} scripts");
}

#[test]
fn a_good_script_has_its_values_and_defaults() {
    let script = parse("s.yaml", GOOD).expect("a good script");
    assert_eq!((script.deadline_ms, script.callers, script.services[0].queue_max), (500.0, 3, 10_000));
    assert!((script.optimum(1.0) - 1.0).abs() < 1e-9);
}

#[test]
fn an_unknown_field_is_told_with_its_place() {
    let told = faults(&GOOD.replace("    workers: 4", "    worker: 4"));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("s.yaml:6: services[0].worker: unknown field `worker`, expected one of"), "{told:?}");
}

#[test]
fn a_wrong_type_and_broken_yaml_are_told_with_their_lines() {
    let told = faults(&GOOD.replace("duration_s: 10", "duration_s: soon"));
    assert!(told[0].starts_with("s.yaml:2: duration_s: "), "{told:?}");
    let told = faults(&GOOD.replace("calls: [{to: m, times: 2}]", "calls: [{to: m, times: 2}"));
    assert!(told[0].starts_with("s.yaml:1"), "{told:?}");
}

#[test]
fn all_that_the_fields_say_wrongly_is_told_at_once() {
    let text = GOOD
        .replace("{to: m, times: 2}", "{to: n, times: 200}")
        .replace("instances: 3", "instances: 0")
        .replace("{at_s: 0, rps: 100}", "{at_s: 0, rps: -1}");
    assert_eq!(
        faults(&text),
        [
            "s.yaml:5: services[0].instances: 0 is not between 1 and 1000",
            "s.yaml:10: streams[0].calls[0].to: no service is called `n` (services: m)",
            "s.yaml:10: streams[0].calls[0].times: 200 is not between 1 and 64",
            "s.yaml:12: streams[0].load[0].rps: -1 is not between 0 and 10000000",
        ]
    );
}

#[test]
fn recorded_arrivals_are_times_in_their_order() {
    let recorded = |times: &str| GOOD.replace("    load:\n", &format!("    arrivals_s: {times}\n    load:\n"));
    assert_eq!(faults(&recorded("[0.5, 0.5, 9]")), Vec::<String>::new());
    for wrong in ["[2, 1]", "[-1]", "[.nan]", "[.inf]"] {
        let told = faults(&recorded(wrong));
        assert_eq!(told.len(), 1, "{wrong}: {told:?}");
        assert!(
            told[0].starts_with("s.yaml:11: streams[0].arrivals_s: times must be sorted and lie between"),
            "{told:?}"
        );
    }
}

#[test]
fn calls_in_a_circle_and_too_many_tasks_are_refused() {
    let told = faults(&GOOD.replace("    workers: 4", "    workers: 4\n    calls: [{to: m}]"));
    assert!(told[0].contains("services[0].calls[0].to: `m` must stand below `m`"), "{told:?}");
    let told = faults(&GOOD.replace("rps: 100", "rps: 9000000"));
    assert!(told[0].contains("a script offers at most"), "{told:?}");
}
