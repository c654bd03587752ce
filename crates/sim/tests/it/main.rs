//! The simulator against theory, against itself, and against a trace kept from before.

mod golden;
mod hangups;
mod invariants;
mod scripts;
mod theory;

use sim::Script;
use sim::script::parse;

/// One service `m` without network delay.
fn script(instances: u32, workers: u32, work: &str, calls: &str, rps: f64, duration_s: f64) -> Script {
    let text = format!(
        "name: test\nduration_s: {duration_s}\nmeasure_from_s: {}\nnetwork_ms: 0\ncallers: 1\nbalancer: random\n\
         deadline_ms: 60000\nservices:\n- {{name: m, instances: {instances}, workers: {workers}, queue_max: 1000000, work: {work}}}\n\
         streams:\n- {{name: s, calls: [{calls}], load: [{{at_s: 0, rps: {rps}}}]}}\n",
        duration_s / 10.0
    );
    parse("test.yaml", &text).unwrap_or_else(|faults| panic!("{}", faults[0]))
}
