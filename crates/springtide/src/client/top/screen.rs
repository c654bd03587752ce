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
use tokio::sync::mpsc;

/// Time between looks at the fleet.
const LOOK_MS: u64 = 1_000;
/// Time between looks at the keyboard.
const KEY_MS: u64 = 50;
/// Keys pressed and not yet taken.
const KEYS_MAX: usize = 64;

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
    let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
    loop {
        terminal.draw(|frame| screen.draw(frame)).map_err(fault)?;
        tokio::select! {
            _ = look.tick() => match client.top().await {
                Ok(view) => (screen.view, screen.trouble) = (view, None),
                Err(error) => screen.trouble = Some(error.to_string()),
            },
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
        let rows = sorted(self.tab.rows(&self.view), self.column, self.reverse);
        let texts: Vec<[String; 13]> = rows.iter().map(cells).collect();
        let width = |column: usize| {
            let widest = texts.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            Constraint::Length(u16::try_from(widest.max(HEAD[column].len())).unwrap_or(u16::MAX))
        };
        let head = HEAD.iter().enumerate().map(|(column, name)| {
            let style = if column == self.column { Modifier::REVERSED } else { Modifier::BOLD };
            Span::styled(*name, Style::new().add_modifier(style))
        });
        let table =
            Table::new(texts.iter().map(|row| Row::new(row.iter().map(String::as_str))), (0..HEAD.len()).map(width))
                .header(Row::new(head))
                .column_spacing(2)
                .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, body, &mut self.table);
        let help = "tab: next   s: sort by next column   r: reverse   ↑↓: scroll   q: quit";
        frame.render_widget(Line::raw(self.trouble.as_deref().unwrap_or(help)), bottom);
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
        let mut terminal = Terminal::new(TestBackend::new(120, 6)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..120).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
        (0..6).map(line).collect()
    }

    #[test]
    fn the_busiest_service_is_on_top() {
        let lines = drawn(&mut screen());
        assert_eq!(lines[0], "springtide top   1 services (2)  2 instances (1)  3 hosts (0)");
        assert!(lines[1].starts_with("NAME     GROUP  STATE  QPS"), "{lines:?}");
        assert!(lines[2].starts_with("sso") && lines[3].starts_with("lottery"), "{lines:?}");
        assert!(lines[5].ends_with("q: quit"), "{lines:?}");
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
