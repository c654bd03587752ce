//! The page as a person gets it.

use super::*;
use model::{GateOutcome, GateVerdict, LogLine, OperationPhase, OperationSpec, StepName, StepRun, StepState};

fn operation() -> Operation {
    let service = ServiceName::new("pay").expect("a name");
    let step = |name, state, from, to, message: &str| StepRun {
        name,
        state,
        started_at: Some(from),
        finished_at: Some(to),
        attempts: 1,
        done: 2,
        total: 2,
        message: message.to_owned(),
        skipped_by: None,
        hooks: Default::default(),
    };
    let verdict = GateVerdict {
        gray_permille: 10,
        at: 1_003_000,
        outcome: GateOutcome::LatencyWorse,
        requests_new: 120,
        requests_running: 5_000,
        error_rate_new: 0.02,
        error_rate_running: 0.001,
        latency_p99_ms_new: 81.5,
        latency_p99_ms_running: 20.0,
    };
    let operation = serde_json::json!({
        "id": "op-7",
        "spec": OperationSpec::Scale { service, instances: [(model::DatacenterName::new("north").expect("a name"), 4)].into() },
        "phase": OperationPhase::Running, "who": "unix:<root>", "created_at": 1_000_000, "finished_at": null,
        "steps": [
            step(StepName::Start, StepState::Done, 1_000_500, 1_002_000, ""),
            step(StepName::Gray, StepState::Failed, 1_002_000, 1_003_000, "slower than <the fleet>"),
        ],
        "adds": [], "removes": [], "batch": 0, "batches": 1, "gray_permille": 10, "verdicts": [verdict],
        "failures": ["gray release at 1%: p99 81.5 ms against 20.0 ms"],
        "log": [LogLine { at: 1_000_100, text: "planned 2 instances".to_owned() }],
        "report": null,
    });
    serde_json::from_value(operation).expect("these are the fields of an operation")
}

#[test]
fn failures_come_first_and_nothing_is_taken_for_markup() {
    let page = gather(&World::new(0), &operation(), 1_004_000);
    let html = html(&page);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text:?} is not on the page"));
    assert!(at("What went wrong") < at("<h2>Steps"));
    assert!(at("<h2>Steps") < at("<h2>Gray release"));
    assert!(html.contains("op-7: scale pay to 4 in north"));
    assert!(html.contains("unix:&lt;root&gt;") && !html.contains("<root>"));
    assert!(html.contains("slower than &lt;the fleet&gt;"));
    assert!(html.contains("<h1 class=\"warn\">Scaling pay was done in part</h1>"));
    assert!(html.contains("The reason: gray release at 1%"));
    assert!(html.contains("latency worse") && html.contains("81.5 ms") && html.contains("2.000%"));
    assert!(html.contains("left:min(12.50%,100% - 3px);width:37.50%"), "the first step ran from 0.5 s to 2 s of 4 s");
    assert!(html.contains("class=\"failed\""));
    assert!(html.contains("prefers-color-scheme:dark"));
    assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"), "self-contained");
}

#[test]
fn the_headline_tells_what_came_of_it() {
    let instance = |name: &str| serde_json::json!({"instance": name, "host": "h", "datacenter": "north", "batch": 0});
    let told = |change: &dyn Fn(&mut Operation)| {
        let mut operation = operation();
        operation.failures.clear();
        change(&mut operation);
        let html = html(&gather(&World::new(0), &operation, 1_004_000));
        let headline = html.split("<h1 class=\"").nth(1).expect("a headline");
        headline.split('>').nth(1).expect("its text").split('<').next().expect("its end").to_owned()
    };
    let planned = |count: usize| -> Vec<model::PlannedInstance> {
        (0..count).map(|at| serde_json::from_value(instance(&format!("pay-{at}"))).expect("an instance")).collect()
    };
    assert_eq!(told(&|operation| operation.adds = planned(3)), "pay grew by 3 to 4 instances");
    assert_eq!(told(&|operation| operation.adds = planned(4)), "pay is up with 4 instances");
    assert_eq!(told(&|operation| operation.removes = planned(2)), "pay shrank by 2 to 4 instances");
    assert_eq!(told(&|operation| operation.phase = OperationPhase::RolledBack), "Scaling pay was rolled back");
    assert_eq!(told(&|operation| operation.phase = OperationPhase::Failed), "Scaling pay failed");
    let mut undone = operation();
    (undone.phase, undone.adds) = (OperationPhase::RollingBack, planned(1));
    let html = html(&gather(&World::new(0), &undone, 1_004_000));
    assert!(html.contains("What was planned, and taken back") && !html.contains("What changed"));
}

#[test]
fn a_service_that_fails_all_along_is_pointed_at() {
    let mut operation = operation();
    assert!(!html(&gather(&World::new(0), &operation, 1_004_000)).contains("Look at the service itself"));
    operation.verdicts[0].error_rate_running = 0.31;
    let html = html(&gather(&World::new(0), &operation, 1_004_000));
    assert!(html.contains("Look at the service itself: 31.0% of the requests to its running instances failed"));
    assert!(html.contains("<span class=\"bad\">31.000%</span>"));
}

#[test]
fn without_measurements_the_plots_say_so() {
    let mut world = World::new(0);
    let declared = serde_json::json!({
        "kind": "Service", "name": "pay", "business": "night", "layer": "logic", "package": "p",
        "shape": {"cpu": 0.1, "memory": "64MiB"}, "instances": {"north": 1},
    });
    world.fold("/resources/Service/pay", Some(declared.to_string().as_bytes()), 1).expect("a service");
    let html = html(&gather(&world, &operation(), 1_004_000));
    assert_eq!(html.matches("<figure>").count(), 4);
    assert_eq!(html.matches("not measured").count(), 4);
}
