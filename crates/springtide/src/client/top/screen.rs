//! The live screen of `top`: tabs, a sorted table, keys. The terminal is put back however it ends.

use super::{HEAD, Tab, cells, sorted};
use crate::client::failure::Failure;
use api::client::Client;
use api::http::TopView;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table, TableState};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Time between looks at the fleet.
const LOOK_MS: u64 = 1_000;
/// Time between looks at the keyboard.
const KEY_MS: u64 = 50;
/// Keys pressed and not yet taken.
const KEYS_MAX: usize = 64;

/// Columns, the most telling first: a narrow terminal shows as many as fit, and always the one sorted by.
const PRIORITY: [usize; HEAD.len()] = [0, 3, 5, 8, 2, 6, 7, 9, 10, 4, 11, 12, 1];
/// Columns that hold texts; the others hold numbers and are set to the right.
const TEXTS: usize = 3;
/// Space between columns.
const SPACING: u16 = 2;

/// What the screen shows.
struct Screen {
    tab: Tab,
    column: usize,
    reverse: bool,
    view: TopView,
    trouble: Option<String>,
    table: TableState,
}

/// Shows the screen until `q`.
pub async fn run(client: &Client, tab: Tab) -> Result<(), Failure> {
    let view = client.top().await?;
    let mut screen = Screen { tab, column: 3, reverse: false, view, trouble: None, table: TableState::default() };
    let mut terminal = ratatui::init();
    let done = serve(client, &mut screen, &mut terminal).await;
    ratatui::restore();
    done
}

async fn serve(client: &Client, screen: &mut Screen, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    let fault = |error: std::io::Error| Failure::Local(format!("cannot draw on the terminal: {error}"));
    let mut keys = keyboard();
    let mut told_to_end = signal(SignalKind::terminate()).map_err(fault)?;
    let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
    loop {
        terminal.draw(|frame| screen.draw(frame)).map_err(fault)?;
        tokio::select! {
            _ = look.tick() => match client.top().await {
                Ok(view) => (screen.view, screen.trouble) = (view, None),
                Err(error) => screen.trouble = Some(error.to_string()),
            },
            _ = told_to_end.recv() => return Ok(()),
            key = keys.recv() => match key {
                Some(key) if screen.press(key) => {}
                _ => return Ok(()),
            },
        }
    }
}

/// Keys, read on a thread of its own that ends with the receiver.
fn keyboard() -> mpsc::Receiver<KeyCode> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(Duration::from_millis(KEY_MS)) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                        let code = if interrupt { KeyCode::Char('q') } else { key.code };
                        if sender.blocking_send(code).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    receiver
}

impl Screen {
    /// Takes a key; false at the end.
    fn press(&mut self, key: KeyCode) -> bool {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Tab | KeyCode::Right => self.turn(at + 1),
            KeyCode::BackTab | KeyCode::Left => self.turn(at + Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => self.turn(digit as usize - '1' as usize),
            KeyCode::Char('s') => self.column = (self.column + 1) % HEAD.len(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Down => self.table.select_next(),
            KeyCode::Up => self.table.select_previous(),
            _ => {}
        }
        true
    }

    fn turn(&mut self, to: usize) {
        self.tab = Tab::ALL[to % Tab::ALL.len()];
        self.table = TableState::default();
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [top, body, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(self.tabs(), top);
        let texts: Vec<[String; HEAD.len()]> =
            sorted(self.tab.rows(&self.view), self.column, self.reverse).iter().map(cells).collect();
        let widths = widths(&texts);
        let measured = measured(&texts, self.column);
        let columns = fitting(&widths, body.width, self.column, &measured);
        if texts.is_empty() {
            frame.render_widget(Line::raw(format!("no {} yet", self.tab.title())), body);
        } else {
            let head = columns.iter().map(|column| {
                let style = if *column == self.column { Modifier::REVERSED } else { Modifier::BOLD };
                cell(*column, Span::styled(HEAD[*column], Style::new().add_modifier(style)))
            });
            let rows =
                texts.iter().map(|row| Row::new(columns.iter().map(|at| cell(*at, Span::raw(row[*at].as_str())))));
            let table = Table::new(rows, columns.iter().map(|column| Constraint::Length(widths[*column])))
                .header(Row::new(head))
                .column_spacing(SPACING)
                .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
            frame.render_stateful_widget(table, body, &mut self.table);
        }
        frame.render_widget(Line::raw(self.foot(measured.len() - columns.len())), bottom);
    }

    /// The line at the bottom: trouble, or the keys.
    fn foot(&self, left_out: usize) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let more = if left_out > 0 { format!("  ({left_out} columns need more width)") } else { String::new() };
        format!("tab next  s sort  r reverse  ↑↓ scroll  q quit{more}")
    }

    fn tabs(&self) -> Line<'static> {
        let mut spans = vec![Span::raw("springtide top  ")];
        for (index, tab) in Tab::ALL.into_iter().enumerate() {
            let style = if tab == self.tab { Modifier::REVERSED } else { Modifier::empty() };
            let text = format!(" {} {} ({}) ", index + 1, tab.title(), tab.rows(&self.view).len());
            spans.push(Span::styled(text, Style::new().add_modifier(style)));
        }
        Line::from(spans)
    }
}

/// The width that each column wants.
fn widths(texts: &[[String; HEAD.len()]]) -> [u16; HEAD.len()] {
    std::array::from_fn(|column| {
        let widest = texts.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        u16::try_from(widest.max(HEAD[column].len())).unwrap_or(u16::MAX)
    })
}

/// The columns in which some row has a value, and the one sorted by.
fn measured(texts: &[[String; HEAD.len()]], sorted_by: usize) -> Vec<usize> {
    let says = |column: usize| texts.iter().any(|row| !matches!(row[column].as_str(), "" | "-"));
    (0..HEAD.len()).filter(|column| *column == 0 || *column == sorted_by || says(*column)).collect()
}

/// The columns for so much room, in their order.
fn fitting(widths: &[u16; HEAD.len()], room: u16, sorted_by: usize, measured: &[usize]) -> Vec<usize> {
    let mut chosen = vec![0];
    let mut used = widths[0];
    for column in std::iter::once(sorted_by).chain(PRIORITY).filter(|column| measured.contains(column)) {
        let wanted = used.saturating_add(SPACING).saturating_add(widths[column]);
        if !chosen.contains(&column) && (wanted <= room || column == sorted_by) {
            chosen.push(column);
            used = wanted;
        }
    }
    chosen.sort_unstable();
    chosen
}

fn cell(column: usize, text: Span<'_>) -> Line<'_> {
    let line = Line::from(text);
    if column < TEXTS { line } else { line.right_aligned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::TopRow;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen() -> Screen {
        let row = |name: &str, qps| TopRow { name: name.to_owned(), qps: Some(qps), ..TopRow::default() };
        let view = TopView {
            at: 0,
            services: vec![row("lottery", 10.0), row("sso", 99.0)],
            instances: vec![row("lottery-1", 5.0)],
            hosts: Vec::new(),
        };
        Screen { tab: Tab::Services, column: 3, reverse: false, view, trouble: None, table: TableState::default() }
    }

    fn drawn(screen: &mut Screen) -> Vec<String> {
        drawn_at(screen, 120)
    }

    fn drawn_at(screen: &mut Screen, width: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, 6)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
        (0..6).map(line).collect()
    }

    #[test]
    fn the_busiest_service_is_on_top() {
        let lines = drawn(&mut screen());
        assert_eq!(lines[0], "springtide top   1 services (2)  2 instances (1)  3 hosts (0)");
        assert!(lines[1].starts_with("NAME      QPS"), "{lines:?}");
        assert!(lines[2].starts_with("sso") && lines[3].starts_with("lottery"), "{lines:?}");
        assert!(lines[5].ends_with("q quit"), "{lines:?}");
    }

    #[test]
    fn a_narrow_terminal_shows_whole_columns_that_matter() {
        let mut screen = screen();
        let row = |name: &str| TopRow {
            name: name.to_owned(),
            group: "red-packet".to_owned(),
            state: "2/2".to_owned(),
            qps: Some(1234.5),
            p50_ms: Some(1.5),
            p99_ms: Some(12.25),
            cpu_cores: Some(0.5),
            cpu_cores_max: Some(2.0),
            memory_bytes: Some(64 << 20),
            throttled: Some(0.25),
            ..TopRow::default()
        };
        screen.view.services = vec![row("lottery"), row("sso")];
        for (width, wanted) in [
            (120, "NAME GROUP STATE QPS P50 MS P99 MS CPU MEMORY THROTTLED"),
            (60, "NAME STATE QPS P99 MS CPU MEMORY THROTTLED"),
            (40, "NAME QPS P99 MS CPU"),
        ] {
            let line = drawn_at(&mut screen, width)[1].clone();
            assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "at {width}");
        }
        screen.column = 12;
        assert!(drawn_at(&mut screen, 40)[1].contains("MEM PSI"), "what it is sorted by is always shown");
        screen.tab = Tab::Hosts;
        assert_eq!(drawn_at(&mut screen, 80)[1], "no hosts yet");
    }

    #[test]
    fn keys_turn_sort_and_quit() {
        let mut screen = screen();
        assert!(screen.press(KeyCode::Tab) && screen.tab == Tab::Instances);
        assert!(drawn(&mut screen)[2].starts_with("lottery-1"));
        assert!(screen.press(KeyCode::BackTab) && screen.press(KeyCode::Left) && screen.tab == Tab::Hosts);
        assert!(screen.press(KeyCode::Char('1')) && screen.press(KeyCode::Char('r')));
        assert!(drawn(&mut screen)[2].starts_with("lottery"));
        screen.trouble = Some("no server".to_owned());
        assert_eq!(drawn(&mut screen)[5], "no server");
        assert!(!screen.press(KeyCode::Char('q')));
    }
}
