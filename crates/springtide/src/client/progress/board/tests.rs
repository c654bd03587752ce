//! Tests of `board`.

use super::*;
use model::{LogLine, OperationSpec, StepName, StepRun};

pub(in super::super) fn step(name: StepName, state: StepState, done: u32, total: u32) -> StepRun {
    let (message, hooks) = (String::new(), Default::default());
    let (started_at, finished_at, skipped_by) = (None, None, None);
    StepRun { name, state, started_at, finished_at, attempts: 1, done, total, message, skipped_by, hooks }
}

pub(in super::super) fn line(at: UnixMs, text: &str) -> LogLine {
    LogLine { at, text: text.to_owned() }
}

pub(in super::super) fn operation(id: &str, steps: Vec<StepRun>) -> Operation {
    Operation {
        id: id.parse().unwrap(),
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
        log: vec![line(1_000, "began")],
        report: None,
        scale_before: None,
        hold: false,
        given_up: Vec::new(),
        overtaken: false,
        planned_at: 0,
    }
}

fn board() -> Board {
    Board { output: Output::default(), bars: None, told: RefCell::default() }
}

/// What would be printed now.
fn lines(board: &Board) -> Vec<String> {
    std::mem::take(&mut board.told.borrow_mut().pending).into_values().collect()
}

#[test]
fn each_thing_is_told_once_and_in_order_of_time() {
    let board = board();
    let mut one = operation("op-3", Vec::new());
    let mut other = operation("op-4", Vec::new());
    one.log.push(line(1_900, "deployed"));
    other.log.push(line(1_400, "planned"));
    board.show(&one);
    board.show(&other);
    board.show(&one);
    let wanted = [
        "   +0.0 s op-3 scale lottery: began",
        "   +0.0 s op-4 scale lottery: began",
        "   +0.4 s op-4 scale lottery: planned",
        "   +0.9 s op-3 scale lottery: deployed",
    ];
    assert_eq!(lines(&board), wanted);
    one.phase = OperationPhase::Succeeded;
    one.finished_at = Some(4_500);
    one.log.push(line(4_500, "succeeded"));
    board.show(&one);
    board.show(&one);
    assert_eq!(lines(&board), ["   +3.5 s op-3 scale lottery: succeeded in 3.5 s"]);
}

#[test]
fn a_silent_operation_tells_its_step_once() {
    let board = board();
    let waits =
        StepRun { message: "waiting for lottery-4".to_owned(), ..step(StepName::Start, StepState::Running, 3, 4) };
    board.show(&operation("op-3", vec![step(StepName::Deploy, StepState::Done, 4, 4), waits]));
    assert_eq!(lines(&board).len(), 1);
    board.told.borrow_mut().quiet_steps();
    assert_eq!(lines(&board), [] as [&str; 0], "it was heard of just now");
    let long_ago = Instant::now().checked_sub(Duration::from_millis(2 * QUIET_MS)).unwrap();
    for _ in 0..2 {
        board.told.borrow_mut().operations.values_mut().for_each(|followed| followed.heard = long_ago);
        board.told.borrow_mut().quiet_steps();
    }
    let told = lines(&board);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with(" s op-3 scale lottery: start, 3 of 4: waiting for lottery-4"), "{told:?}");
}

#[test]
fn the_share_grows_with_steps_and_batches() {
    let steps =
        vec![step(StepName::Attributes, StepState::Done, 0, 0), step(StepName::Start, StepState::Running, 2, 4)];
    let mut now = operation("op-3", steps);
    assert_eq!(share_done(&now), 0.375);
    now.batch = 1;
    assert_eq!(share_done(&now), 0.875);
    now.phase = OperationPhase::Succeeded;
    assert_eq!(share_done(&now), 1.0);
}

#[test]
fn only_success_is_success() {
    let mut operation = operation("op-3", Vec::new());
    operation.phase = OperationPhase::RolledBack;
    operation.finished_at = Some(4_500);
    operation.failures = vec!["gray 10%: errors worse".to_owned()];
    assert_eq!(ended(&operation), Some((4_500, "rolled back in 3.5 s".to_owned())));
    let why = super::super::shortfall(&operation);
    assert_eq!(why.as_deref(), Some("op-3: rolled back: gray 10%: errors worse"));
    operation.phase = OperationPhase::Succeeded;
    assert_eq!(super::super::shortfall(&operation), None);
}
