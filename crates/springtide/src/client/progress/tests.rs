//! Tests of `progress`.

use super::*;
use model::{LogLine, OperationSpec, StepName, StepRun};

fn step(name: StepName, state: StepState, done: u32, total: u32) -> StepRun {
    StepRun { name, state, started_at: None, finished_at: None, attempts: 1, done, total, message: String::new() }
}

fn operation(steps: Vec<StepRun>) -> Operation {
    Operation {
        id: "op-3".parse().unwrap(),
        spec: OperationSpec::Scale { service: "lottery".parse().unwrap(), instances: BTreeMap::new() },
        phase: OperationPhase::Running,
        who: "unix:root".to_owned(),
        created_at: 1_000,
        finished_at: None,
        steps,
        adds: Vec::new(),
        removes: Vec::new(),
        batch: 0,
        batches: 2,
        gray_permille: 0,
        verdicts: Vec::new(),
        failures: Vec::new(),
        log: vec![LogLine { at: 1, text: "began".to_owned() }],
        report: None,
        scale_before: None,
        planned_at: 0,
    }
}

#[test]
fn only_news_is_told() {
    let mut reporter =
        Reporter { output: Output::default(), bar: None, told: BTreeMap::new(), log_lines: BTreeSet::new() };
    let mut now = operation(vec![
        step(StepName::Attributes, StepState::Done, 1, 1),
        step(StepName::Start, StepState::Waiting, 0, 4),
    ]);
    assert_eq!(reporter.news(&now), ["op-3 attributes done 1/1 (batch 1 of 2)"]);
    assert_eq!(reporter.news(&now), [] as [&str; 0]);
    now.steps[1] =
        StepRun { message: "waiting for lottery-4".to_owned(), ..step(StepName::Start, StepState::Running, 3, 4) };
    assert_eq!(reporter.news(&now), ["op-3 start running 3/4 (batch 1 of 2): waiting for lottery-4"]);
    now.log.push(LogLine { at: 2, text: "lottery-4 is up".to_owned() });
    now.steps[1].message = "lottery-4 is up".to_owned();
    assert_eq!(reporter.news(&now), ["op-3 start running 3/4 (batch 1 of 2)"], "what the log says is not said twice");
    now.batch = 1;
    assert_eq!(reporter.news(&now).len(), 2);
}

#[test]
fn the_share_grows_with_steps_and_batches() {
    let mut now = operation(vec![
        step(StepName::Attributes, StepState::Done, 0, 0),
        step(StepName::Start, StepState::Running, 2, 4),
    ]);
    assert_eq!(share_done(&now), 0.375);
    now.batch = 1;
    assert_eq!(share_done(&now), 0.875);
    now.phase = OperationPhase::Succeeded;
    assert_eq!(share_done(&now), 1.0);
}

#[test]
fn only_success_is_success() {
    let mut ended_one = operation(Vec::new());
    ended_one.phase = OperationPhase::RolledBack;
    ended_one.finished_at = Some(4_500);
    ended_one.failures = vec!["gray 10%: errors worse".to_owned()];
    assert_eq!(ended(&ended_one), "op-3 scale lottery rolled back in 3.5 s");
    let Err(Failure::Refused(why)) = verdict(&ended_one) else { panic!("a refusal") };
    assert_eq!(why, "op-3: rolled back: gray 10%: errors worse");
    ended_one.phase = OperationPhase::Succeeded;
    assert!(verdict(&ended_one).is_ok());
}
