//! The screen of `top`, drawn: views in a line, what is amiss, a table or a page, the keys; a question over all of it.

use super::Tab;
use super::rows::{self, Columns, Line as Entry};
use super::state::{Dialog, Screen};
use api::http::Incident;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

/// Space between columns.
const SPACING: u16 = 2;
/// Width of a question.
const DIALOG_WIDTH: u16 = 70;
/// Room for the last column, where it is a text of any length.
const MESSAGE_WIDTH: u16 = 60;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

const HELP: [&str; 13] = [
    "1-5, tab, left, right   services, instances, hosts, incidents, operations",
    "up, down, pgup, pgdn    move; home and end",
    "enter                   into the line: a service's instances, else its page",
    "esc                     back out; takes the filter away",
    "s, r                    sort by the next column, the other way round",
    "/                       only lines with a text",
    "P                       protect: put a preset's policies in force",
    "services: c             scale; the plan is shown first",
    "incidents: a, m         acknowledge, mute for some minutes",
    "operations: p, u, b     pause, resume, rollback",
    "operations: t, k        retry, skip the step in hand",
    "q                       quit",
    "Whatever changes the fleet asks first.",
];

/// Draws all.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let heights = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
    let [top, word, body, bottom] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(tabs(screen), top);
    let left_out = match &screen.page {
        Some(page) => {
            let lines = page.lines.iter().skip(page.from).map(|line| Line::raw(line.as_str()));
            frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), body);
            0
        }
        None => table(screen, frame, body),
    };
    frame.render_widget(said(screen, left_out), word);
    frame.render_widget(Line::raw(keys(screen, bottom.width)), bottom);
    if let Some(dialog) = &screen.dialog {
        question(dialog, frame, body);
    }
}

fn tabs(screen: &Screen) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == screen.tab { REVERSED } else { Style::new() };
        let count = screen.count(tab).map(|count| format!(" {count}")).unwrap_or_default();
        spans.push(Span::styled(format!(" {} {}{count} ", index + 1, tab.title()), style));
    }
    Line::from(spans)
}

/// The line below the views: what is amiss, else what was done, else what narrows the view.
fn said(screen: &Screen, left_out: usize) -> Line<'static> {
    if let Some(why) = &screen.stale {
        let since = model::time::rfc3339(screen.data.top.at);
        return Line::styled(format!(" STALE since {since}, trying again: {why} "), REVERSED);
    }
    if let Some(notice) = &screen.notice {
        return Line::styled(notice.clone(), BOLD);
    }
    if let Some(page) = &screen.page {
        return Line::styled(page.title.clone(), BOLD);
    }
    let setting = screen.setting();
    let mut parts = Vec::new();
    parts.extend(screen.data.detection_trouble.clone());
    parts.extend(setting.group.as_ref().map(|group| format!("of {group}")));
    let typing = screen.dialog == Some(Dialog::Filter);
    if typing || !setting.filter.is_empty() {
        parts.push(format!("with \"{}{}\"", setting.filter, if typing { "_" } else { "" }));
    }
    match left_out {
        0 => {}
        1 => parts.push("(1 column needs more width)".to_owned()),
        more => parts.push(format!("({more} columns need more width)")),
    }
    parts.extend(open_incidents(screen));
    Line::raw(parts.join(" "))
}

/// What every view but their own says of incidents that are open.
fn open_incidents(screen: &Screen) -> Option<String> {
    let all = screen.data.incidents.as_ref().filter(|_| screen.tab != Tab::Incidents)?;
    let open: Vec<&Incident> = all.iter().filter(|one| one.ended_at.is_none()).collect();
    match open.as_slice() {
        [] => None,
        [one] => Some(format!("incident {}: {}", one.id, one.title)),
        more => Some(format!("{} incidents are open", more.len())),
    }
}

/// The keys that do something now, as many as have room: how to see them all, and how to end, always do.
fn keys(screen: &Screen, room: u16) -> String {
    match (&screen.dialog, &screen.page) {
        (Some(Dialog::Confirm { go: Some(_), .. }), _) => return "y yes  n no".to_owned(),
        (Some(Dialog::Confirm { go: None, .. }), _) => return "esc back".to_owned(),
        (Some(Dialog::Number { .. } | Dialog::Filter), _) => return "enter take it  esc forget it".to_owned(),
        (Some(Dialog::Pick { .. }), _) => return "up, down  enter take it  esc forget it".to_owned(),
        (Some(Dialog::Help), _) => return "any key: back".to_owned(),
        (None, Some(_)) if screen.operation().is_none() => return "esc back  up, down scroll  q quit".to_owned(),
        _ => {}
    }
    let own = match screen.tab {
        Tab::Services => "c scale  ".to_owned(),
        Tab::Incidents => "a acknowledge  m mute  ".to_owned(),
        Tab::Operations => operation_keys(screen),
        Tab::Instances | Tab::Hosts => String::new(),
    };
    match screen.page {
        Some(_) => format!("{own}esc back  q quit"),
        None => {
            let mut more = vec!["enter open  ", "/ filter  ", "s sort  ", "r reverse  ", "P protect  "];
            let all = |more: &[&str]| format!("{own}{}? keys  q quit", more.concat());
            for least in ["r reverse  ", "s sort  ", "P protect  ", "/ filter  ", "enter open  "] {
                if all(&more).chars().count() > usize::from(room) {
                    more.retain(|key| *key != least);
                }
            }
            all(&more)
        }
    }
}

fn operation_keys(screen: &Screen) -> String {
    let verbs = screen.operation().map(|view| view.allowed.verbs.as_slice()).unwrap_or_default();
    let key = |verb: &String| {
        Some(match verb.as_str() {
            "pause" => "p pause  ",
            "resume" => "u resume  ",
            "rollback" => "b rollback  ",
            "retry" => "t retry  ",
            "skip" => "k skip  ",
            _ => return None,
        })
    };
    verbs.iter().filter_map(key).collect()
}

/// Draws the table; how many columns had no room.
fn table(screen: &Screen, frame: &mut Frame<'_>, area: Rect) -> usize {
    let lines = screen.lines();
    let columns = rows::columns(screen.tab);
    if lines.is_empty() {
        frame.render_widget(Line::raw(nothing(screen)), area);
        return 0;
    }
    let sorted_by = screen.setting().column;
    let wanted = widths(&lines, columns);
    let measured = measured(&lines, columns, sorted_by);
    let chosen = fitting(&wanted, columns, area.width, sorted_by, &measured);
    let widths = given(wanted, columns, &chosen, area.width);
    let cell = |column: usize, text: Span<'static>| {
        let line = Line::from(text);
        if columns.numbers.contains(&column) { line.right_aligned() } else { line }
    };
    let head = chosen.iter().map(|column| {
        let style = if *column == sorted_by { REVERSED } else { BOLD };
        cell(*column, Span::styled(columns.heads[*column], style))
    });
    let text = |line: &Entry, at: usize| Span::raw(cut(&line.cells[at], usize::from(widths[at])));
    let body = lines.iter().map(|line| Row::new(chosen.iter().map(|at| cell(*at, text(line, *at)))));
    let table = Table::new(body, chosen.iter().map(|column| Constraint::Length(widths[*column])))
        .header(Row::new(head))
        .column_spacing(SPACING)
        .row_highlight_style(REVERSED);
    let mut state = TableState::default().with_selected(screen.at(&lines));
    frame.render_stateful_widget(table, area, &mut state);
    measured.len() - chosen.len()
}

fn nothing(screen: &Screen) -> String {
    let what = screen.tab.title();
    match screen.count(screen.tab) {
        None => format!("asking for {what} …"),
        Some(0) => format!("no {what}"),
        Some(count) => format!("none of {count} {what} fits; esc takes the filter away"),
    }
}

/// The width that each column wants.
fn widths(lines: &[Entry], columns: &Columns) -> Vec<u16> {
    let width = |(column, head): (usize, &&str)| {
        let widest = lines.iter().map(|line| line.cells[column].chars().count()).max().unwrap_or(0);
        let widest = u16::try_from(widest.max(head.len())).unwrap_or(u16::MAX);
        if *head == "MESSAGE" { widest.min(MESSAGE_WIDTH) } else { widest }
    };
    columns.heads.iter().enumerate().map(width).collect()
}

/// The columns in which some line has a value, and the one sorted by.
fn measured(lines: &[Entry], columns: &Columns, sorted_by: usize) -> Vec<usize> {
    let says = |column: usize| lines.iter().any(|line| !matches!(line.cells[column].as_str(), "" | "-"));
    (0..columns.heads.len()).filter(|column| *column == 0 || *column == sorted_by || says(*column)).collect()
}

/// The columns for so much room, in their order.
fn fitting(widths: &[u16], columns: &Columns, room: u16, sorted_by: usize, measured: &[usize]) -> Vec<usize> {
    let mut chosen = vec![0];
    let mut used = widths[0];
    let by_worth = std::iter::once(&sorted_by).chain(columns.priority).filter(|column| measured.contains(column));
    for &column in by_worth {
        let is_message = columns.heads[column] == "MESSAGE";
        let least = if is_message { columns.heads[column].len() as u16 } else { widths[column] };
        let wanted = used.saturating_add(SPACING).saturating_add(least);
        if !chosen.contains(&column) && (wanted <= room || column == sorted_by) {
            chosen.push(column);
            used = used.saturating_add(SPACING).saturating_add(if is_message { room } else { widths[column] });
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The widths that the chosen columns get: texts of any length give way first, then the widest, until all have room.
fn given(mut widths: Vec<u16>, columns: &Columns, chosen: &[usize], room: u16) -> Vec<u16> {
    let gaps = SPACING.saturating_mul(u16::try_from(chosen.len().saturating_sub(1)).unwrap_or(u16::MAX));
    let room = room.saturating_sub(gaps);
    let message = chosen.iter().copied().find(|column| columns.heads[*column] == "MESSAGE");
    for _ in 0..=chosen.len() {
        let used = chosen.iter().fold(0_u16, |used, column| used.saturating_add(widths[*column]));
        let over = used.saturating_sub(room);
        let widest = chosen.iter().copied().max_by_key(|column| widths[*column]);
        let long = message.filter(|column| usize::from(widths[*column]) > columns.heads[*column].len());
        let Some(column) = long.or(widest).filter(|_| over > 0) else { break };
        let least = columns.heads[column].len() as u16;
        widths[column] = widths[column].saturating_sub(over).max(least);
    }
    widths
}

/// A text in so much room; that it goes on is shown.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn question(dialog: &Dialog, frame: &mut Frame<'_>, area: Rect) {
    let (title, lines): (String, Vec<Line<'_>>) = match dialog {
        Dialog::Filter => return,
        Dialog::Confirm { title, lines, .. } => {
            (title.clone(), lines.iter().map(|line| Line::raw(line.as_str())).collect())
        }
        Dialog::Number { title, text, .. } => (title.clone(), vec![Line::raw(format!("{text}_"))]),
        Dialog::Pick { title, items, at } => {
            let line = |(index, (name, word)): (usize, &(String, String))| {
                let style = if index == *at { REVERSED } else { Style::new() };
                Line::styled(format!("{name}  {word}"), style)
            };
            (title.clone(), items.iter().enumerate().map(line).collect())
        }
        Dialog::Help => ("keys".to_owned(), HELP.iter().map(|line| Line::raw(*line)).collect()),
    };
    let width = DIALOG_WIDTH.max(HELP.map(str::len).into_iter().max().unwrap_or(0) as u16 + 2).min(area.width);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let wrapped: usize = lines.iter().map(|line| line.width().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(wrapped + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let scroll = match dialog {
        Dialog::Pick { at, .. } => u16::try_from(*at).unwrap_or(0).saturating_sub(height.saturating_sub(3)),
        _ => 0,
    };
    let block = Block::bordered().title(Line::styled(format!(" {title} "), BOLD)).title_alignment(Alignment::Left);
    let text = Paragraph::new(lines).block(block).wrap(Wrap { trim: false }).scroll((scroll, 0));
    frame.render_widget(Clear, place);
    frame.render_widget(text, place);
}
