//! The course of `scenarios/golden.yaml`, second by second, under three controls, against the trace kept in the repository.
//!
//! A change of the engine, of `admission` or of a baseline shows here as a difference to be read. When it is meant:
//! `SIM_GOLDEN=write cargo nextest run -p sim golden`, and commit the trace with the change.

use sim::scheme::catalog;
use std::fmt::Write;

fn trace() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let text = std::fs::read_to_string(folder.join("golden.yaml")).expect("scenarios/golden.yaml");
    let script = sim::script::parse("golden.yaml", &text).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let mut trace = String::new();
    for name in ["springtide", "dagor", "none"] {
        let report = sim::run(&script, &*catalog::named(name, &script).expect("a name of the catalog"), 1);
        writeln!(trace, "{name}: {} of {} tasks, refusals {:?}", report.all.ok, report.all.arrived, report.refusals)
            .expect("a string takes all");
        for second in &report.seconds {
            let level = second.level.map_or("-".to_owned(), |level| level.to_string());
            writeln!(
                trace,
                "  {:>2} s  arrived {:>4}  done {:>4}  queue delay {:>7.2} ms  level {level}",
                second.at_s, second.arrived, second.done, second.queue_delay_ms
            )
            .expect("a string takes all");
        }
    }
    trace
}

#[test]
fn the_trace_is_the_one_that_was_kept() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/golden.trace");
    let found = trace();
    if std::env::var("SIM_GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, &found).expect("scenarios/golden.trace can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(kept.lines()).find(|(found, kept)| found != kept);
    assert!(found == kept, "the trace has changed, first here (found, kept): {differs:?}");
}
