//! Keys in, requests out; and what 80 columns by 24 lines show.

use super::draw::draw;
use super::state::{Answer, Data, Dialog, Request, Screen};
use super::*;
use api::http::{
    Allowed, Description, Incident, IncidentCause, IncidentFinding, OperationPlan, OperationView, PlannedAt, Section,
    TopRow, TopView,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

const NOW: u64 = 1_800_000_000_000;

fn row(name: &str, group: &str, qps: Option<f64>, cpu: f64) -> TopRow {
    TopRow {
        name: name.to_owned(),
        group: group.to_owned(),
        state: "2/2".to_owned(),
        qps,
        p99_ms: qps.map(|_| 12.34),
        cpu_cores: Some(cpu),
        cpu_cores_max: Some(2.0),
        memory_bytes: Some(64 << 20),
        throttled: Some(0.256),
        ..TopRow::default()
    }
}

fn operation(id: &str, phase: &str, step_state: &str, verbs: &[&str]) -> OperationView {
    let message = if step_state == "failed" { "lottery-4 is not healthy after 30 s" } else { "" };
    let operation = serde_json::json!({
        "id": id, "spec": {"type": "scale", "service": "lottery", "instances": {"north": 4}}, "phase": phase, "who": "ann",
        "created_at": NOW - 90_000, "finished_at": null, "batch": 0, "batches": 1, "gray_permille": 0, "verdicts": [],
        "adds": [], "removes": [], "failures": [], "report": null,
        "steps": [{"name": "start", "state": step_state, "started_at": NOW - 60_000, "finished_at": null, "attempts": 1,
            "done": 1, "total": 4, "message": message}],
        "log": [{"at": NOW - 60_000, "text": "batch 1: plan checked, 4 instances concerned"}],
    });
    let verbs = verbs.iter().map(|&verb| verb.to_owned()).collect();
    let allowed = Allowed { verbs, step: Some("start".to_owned()), targets: Vec::new() };
    OperationView { operation: serde_json::from_value(operation).expect("an operation"), allowed }
}

fn data() -> Data {
    let top = TopView {
        at: NOW,
        services: vec![row("lottery", "red-packet", Some(120.0), 0.5), row("sso", "red-packet", None, 1.25)],
        instances: vec![row("lottery-1", "lottery", Some(60.0), 0.25), row("sso-1", "sso", None, 1.25)],
        hosts: Vec::new(),
    };
    let held = operation("op-7", "paused", "failed", &["rollback", "retry", "skip"]);
    let running = operation("op-8", "running", "running", &["pause", "rollback", "retry", "skip"]);
    let incident = Incident {
        id: "inc-3".to_owned(),
        state: "open".to_owned(),
        title: "loss of instance lottery-1".to_owned(),
        severity: "critical".to_owned(),
        started_at: NOW - 8_000,
        reach: vec!["1 service: lottery".to_owned()],
        causes: vec![IncidentCause {
            what: "loss of instance lottery-1".to_owned(),
            confidence: 0.82,
            evidence: vec!["no sign for 3 s".to_owned()],
            ..IncidentCause::default()
        }],
        findings: vec![IncidentFinding { what: "presence of lottery-1".to_owned(), ..IncidentFinding::default() }],
        next: vec!["springtide describe service lottery".to_owned()],
        ..Incident::default()
    };
    let (operations, incidents) = (Some(vec![running, held]), Some(vec![incident]));
    Data { top, operations, incidents, detection_trouble: None }
}

fn press(screen: &mut Screen, keys: &str) -> Vec<Request> {
    let key = |letter| match letter {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        '←' => KeyCode::Backspace,
        '§' => KeyCode::Esc,
        letter => KeyCode::Char(letter),
    };
    keys.chars().flat_map(|letter| screen.press(key(letter))).filter(|request| *request != Request::Look).collect()
}

fn screen() -> Screen {
    Screen::new(Tab::Services, data())
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(screen, frame)).expect("draws");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` rewrites it.
fn golden(screen: &Screen, name: &str) {
    let path = format!("{}/src/client/top/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let found = drawn(screen, 80, 24);
    assert!(found.lines().all(|line| line.chars().count() <= 80));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).expect("the golden folder can be written");
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap_or_default(), "differs from {path}:\n{found}");
}

#[test]
fn a_piped_table_is_plain() {
    let wanted = "\
NAME     GROUP       STATE    QPS  P50 MS  P99 MS  ERR/S  REJ/S        CPU  MEMORY  THROTTLED  CPU PSI  MEM PSI
lottery  red-packet  2/2    120.0       -    12.3      -      -  0.50/2.00     64M        26%        -        -
sso      red-packet  2/2        -       -       -      -      -  1.25/2.00     64M        26%        -        -
";
    assert_eq!(table(Tab::Services, rows::measured(&data().top.services)).rendered(None), wanted);
}

#[test]
fn rows_sort_by_any_column() {
    let names = |column, reverse| -> Vec<String> {
        let lines = rows::sorted(rows::measured(&data().top.services), column, reverse);
        lines.into_iter().map(|line| line.name).collect()
    };
    assert_eq!(names(0, false), ["lottery", "sso"]);
    assert_eq!(names(0, true), ["sso", "lottery"]);
    assert_eq!(names(3, false), ["lottery", "sso"]);
    assert_eq!(names(8, false), ["sso", "lottery"]);
}

#[test]
fn eighty_by_twenty_four_shows_each_view() {
    let mut screen = screen();
    golden(&screen, "services");
    press(&mut screen, "2");
    golden(&screen, "instances");
    press(&mut screen, "4");
    golden(&screen, "incidents");
    press(&mut screen, "5");
    golden(&screen, "operations");
    press(&mut screen, "?");
    golden(&screen, "help");
}

#[test]
fn how_to_end_always_has_room_and_what_is_cut_is_marked() {
    let mut screen = screen();
    for tab in ["1", "2", "3", "4", "5"] {
        press(&mut screen, tab);
        for width in [80, 100, 120] {
            let text = drawn(&screen, width, 24);
            assert!(text.trim_end().ends_with("? keys  q quit"), "{text}");
        }
    }
    let text = drawn(&screen, 80, 24);
    assert!(text.contains("scale lottery  held  ") && text.contains("lottery-4 is not healthy …"), "{text}");
    let text = drawn(&screen, 120, 24);
    assert!(text.contains("lottery-4 is not healthy after 30 s"), "{text}");
}

#[test]
fn an_open_incident_is_said_in_every_view() {
    let mut screen = screen();
    assert!(drawn(&screen, 80, 24).contains("incident inc-3: loss of instance lottery-1"));
    let mut more = data();
    let mut incidents = more.incidents.take().expect("one");
    incidents.push(Incident { id: "inc-2".to_owned(), ..incidents[0].clone() });
    screen.take(Answer::Looked(Data { incidents: Some(incidents.clone()), ..more.clone() }));
    assert!(drawn(&screen, 80, 24).contains("2 incidents are open"));
    incidents.iter_mut().for_each(|one| one.ended_at = Some(NOW));
    screen.take(Answer::Looked(Data { incidents: Some(incidents), ..more }));
    assert!(!drawn(&screen, 80, 24).contains("incidents are open"));
}

#[test]
fn a_narrow_terminal_shows_whole_columns_that_matter() {
    let screen = screen();
    for (width, wanted) in [
        (120, "NAME GROUP STATE QPS P99 MS CPU MEMORY THROTTLED"),
        (60, "NAME STATE QPS P99 MS CPU MEMORY THROTTLED"),
        (40, "NAME STATE QPS P99 MS CPU"),
    ] {
        let text = drawn(&screen, width, 8);
        let line = text.lines().nth(2).expect("a head");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "at {width}");
    }
}

#[test]
fn down_into_a_service_and_back_up() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, "\n"), []);
    assert_eq!((screen.tab, screen.lines().len()), (Tab::Instances, 1));
    assert_eq!(press(&mut screen, "\n"), [Request::Describe("instance", "lottery-1".to_owned())]);
    let section =
        Section { title: "state".to_owned(), head: vec![], rows: vec![vec!["host".to_owned(), "host-a".to_owned()]] };
    screen.take(Answer::Described(Description { title: "Instance lottery-1".to_owned(), sections: vec![section] }));
    golden(&screen, "page");
    press(&mut screen, "§");
    assert!(screen.page.is_none() && screen.tab == Tab::Instances);
    press(&mut screen, "§");
    assert_eq!((screen.tab, screen.lines().len()), (Tab::Services, 2));
    press(&mut screen, "2");
    assert_eq!(screen.lines().len(), 2, "the group is gone");
    assert_eq!(press(&mut screen, "q"), [Request::Quit]);
}

#[test]
fn a_filter_narrows_as_it_is_typed() {
    let mut screen = screen();
    press(&mut screen, "/SS");
    assert_eq!(screen.lines().len(), 1);
    assert!(drawn(&screen, 80, 6).contains("with \"SS_\""));
    press(&mut screen, "q←\n");
    assert_eq!((screen.lines()[0].name.as_str(), screen.setting().filter.as_str()), ("sso", "SS"));
    press(&mut screen, "/nothing\n");
    assert!(drawn(&screen, 80, 6).contains("none of 2 services fits"));
    press(&mut screen, "§");
    assert_eq!(screen.lines().len(), 2);
}

#[test]
fn the_line_in_hand_stays_in_hand_when_the_order_changes() {
    let mut screen = screen();
    press(&mut screen, "↓");
    let in_hand = |screen: &Screen| screen.lines()[screen.at(&screen.lines()).expect("a line")].name.clone();
    assert_eq!(in_hand(&screen), "sso");
    let mut busy = data();
    busy.top.services[1].qps = Some(900.0);
    busy.operations = None;
    screen.take(Answer::Looked(busy));
    assert_eq!((in_hand(&screen).as_str(), screen.at(&screen.lines())), ("sso", Some(0)));
    assert_eq!(screen.data.operations.as_ref().map(Vec::len), Some(2), "what was not asked for stays");
    press(&mut screen, "sr");
    assert_eq!(screen.setting().column, 4);
}

#[test]
fn a_scale_shows_its_plan_and_asks() {
    let mut screen = screen();
    press(&mut screen, "c");
    assert_eq!(press(&mut screen, "x1y2\n"), [Request::Plan("lottery".to_owned(), 12)]);
    let at = |n: u32| PlannedAt {
        instance: format!("lottery-{n}"),
        host: format!("host-{n}"),
        datacenter: "north".to_owned(),
    };
    let plan = OperationPlan { adds: (3..=12).map(at).collect(), ..OperationPlan::default() };
    screen.take(Answer::Planned("lottery".to_owned(), 12, plan));
    golden(&screen, "plan");
    assert_eq!(press(&mut screen, "x"), [], "only y and n answer");
    assert_eq!(press(&mut screen, "n"), []);
    assert_eq!(screen.dialog, None);
    let short =
        OperationPlan { shortages: vec!["lottery in north: room for 1 of 10".to_owned()], ..OperationPlan::default() };
    screen.take(Answer::Planned("lottery".to_owned(), 12, short));
    assert_eq!(press(&mut screen, "y"), [], "what cannot be done is not asked for");
    let plan = OperationPlan { removes: vec![at(2)], ..OperationPlan::default() };
    screen.take(Answer::Planned("lottery".to_owned(), 1, plan));
    assert_eq!(press(&mut screen, "y"), [Request::Scale("lottery".to_owned(), 1)]);
    press(&mut screen, "c");
    assert_eq!(press(&mut screen, "\n"), []);
    assert!(
        screen.notice.as_ref().is_some_and(|notice| notice.contains("a number of instances")),
        "{:?}",
        screen.notice
    );
}

#[test]
fn operations_are_steered_as_far_as_they_may_be() {
    let mut screen = screen();
    press(&mut screen, "5");
    // Both are as old: by name then.
    let first = screen.lines()[0].name.clone();
    assert_eq!(first, "op-7");
    assert_eq!(press(&mut screen, "p"), []);
    let told = screen.notice.clone().expect("says why not");
    assert_eq!(told, "op-7 cannot pause: now it may: rollback, retry, skip");
    assert_eq!(press(&mut screen, "t"), [], "it asks first");
    golden(&screen, "retry");
    assert_eq!(press(&mut screen, "y"), [Request::Steer("op-7".to_owned(), "retry")]);
    assert_eq!(press(&mut screen, "ky"), [Request::Steer("op-7".to_owned(), "skip")]);
    assert_eq!(press(&mut screen, "bn"), []);
    assert_eq!(press(&mut screen, "↓py"), [Request::Steer("op-8".to_owned(), "pause")]);
    assert_eq!(press(&mut screen, "u"), []);
    screen.take(Answer::Refused("operation op-8 is paused".to_owned()));
    assert!(drawn(&screen, 80, 24).contains("operation op-8 is paused"));
}

#[test]
fn incidents_are_acknowledged_and_muted() {
    let mut screen = screen();
    press(&mut screen, "4");
    assert_eq!(press(&mut screen, "ay"), [Request::Acknowledge("inc-3".to_owned())]);
    assert_eq!(press(&mut screen, "m\ny"), [Request::Silence("inc-3".to_owned(), 60)]);
    assert_eq!(press(&mut screen, "m15\ny"), [Request::Silence("inc-3".to_owned(), 15)]);
    assert_eq!(press(&mut screen, "m0\n"), []);
    assert!(screen.notice.as_ref().is_some_and(|notice| notice.contains("minutes")));
    assert_eq!(press(&mut screen, "\n"), [Request::Describe("incident", "inc-3".to_owned())]);
}

#[test]
fn a_preset_is_picked_and_fired() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, "P"), [Request::Presets]);
    let item = |name: &str| (name.to_owned(), "throttle-lottery".to_owned());
    screen.take(Answer::Presets(vec![item("evening"), item("midnight-surge")]));
    golden(&screen, "presets");
    assert_eq!(press(&mut screen, "↓↓\n"), []);
    assert!(matches!(&screen.dialog, Some(Dialog::Confirm { title, .. }) if title == "fire preset midnight-surge?"));
    assert_eq!(press(&mut screen, "y"), [Request::Fire("midnight-surge".to_owned())]);
    screen.take(Answer::Presets(Vec::new()));
    assert!(screen.notice.as_ref().is_some_and(|notice| notice.contains("kind Preset")));
}

#[test]
fn a_server_that_is_away_is_said_and_forgotten() {
    let mut screen = screen();
    screen.take(Answer::Unreachable("no server at ./springtide.sock".to_owned()));
    golden(&screen, "stale");
    assert_eq!(screen.lines().len(), 2, "what was known is still shown");
    screen.take(Answer::Looked(data()));
    assert!(!drawn(&screen, 80, 24).contains("STALE"));
}

#[test]
fn a_mute_incident_says_so_and_its_page_tells_why_it_is_believed() {
    let incident = data().incidents.expect("one").remove(0);
    let mute = Incident { silenced_until: Some(NOW + 60_000), ..incident.clone() };
    assert_eq!(rows::incidents(&[mute], NOW)[0].cells[1], "open, mute");
    let page = page::lines(&incidents::described(&incident));
    assert!(page.contains(&"  loss of instance lottery-1  82%     no sign for 3 s".to_owned()), "{page:#?}");
    assert!(page.contains(&"  springtide describe service lottery".to_owned()), "{page:#?}");
}

#[test]
fn incidents_are_not_shown_as_all_that_there_is_while_nobody_watches() {
    let trouble = Some("detection does not run".to_owned());
    let mut screen = Screen::new(Tab::Incidents, Data { detection_trouble: trouble, ..data() });
    assert!(drawn(&screen, 80, 24).contains("detection does not run"));
    press(&mut screen, "1");
    screen.take(Answer::Looked(data()));
    assert!(!drawn(&screen, 80, 24).contains("detection does not run"));
}
