//! What the screen of `top` shows and does: keys and answers in, requests out. No terminal, no network, no clock.

use super::Tab;
use super::rows::{self, Line};
use api::http::{Description, Incident, OperationPlan, OperationView, TopView};
use ratatui::crossterm::event::KeyCode;

/// Lines that one page turn moves.
const PAGE_LINES: usize = 15;
/// Longest text of a filter or a number.
const TEXT_CHARS_MAX: usize = 40;
/// Lines of a plan that a confirmation shows.
const PLAN_LINES_MAX: usize = 8;
/// Length of a silence where none is typed, in minutes.
const SILENCE_MINUTES: u32 = 60;

/// The fleet at a look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// Services, instances and hosts.
    pub top: TopView,
    /// Operations, newest first; absent when this look did not ask for them.
    pub operations: Option<Vec<OperationView>>,
    /// Incidents; absent when this look did not ask for them.
    pub incidents: Option<Vec<Incident>>,
    /// Why incidents may be missing; not asked with other views.
    pub detection_trouble: Option<String>,
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// End.
    Quit,
    /// Look at once: another view is shown.
    Look,
    /// A page about one thing.
    Describe(&'static str, String),
    /// Steer an operation: its id and the verb.
    Steer(String, &'static str),
    /// What scaling a service to so many would do.
    Plan(String, u32),
    /// Scale it.
    Scale(String, u32),
    /// The presets there are.
    Presets,
    /// Put a preset's policies in force.
    Fire(String),
    /// Say that an incident is seen to.
    Acknowledge(String),
    /// Mute an incident for so many minutes.
    Silence(String, u32),
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The fleet.
    Looked(Data),
    /// No answer, and why.
    Unreachable(String),
    /// The page asked for.
    Described(Description),
    /// The plan asked for.
    Planned(String, u32, OperationPlan),
    /// The presets, each with the names of its policies.
    Presets(Vec<(String, String)>),
    /// It was done, in words.
    Done(String),
    /// It was refused, in words.
    Refused(String),
}

/// How one view is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Column that it is sorted by.
    pub column: usize,
    /// From the other end.
    pub reverse: bool,
    /// Name of the line in hand.
    pub selected: Option<String>,
    /// Only lines with this text in them.
    pub filter: String,
    /// Only lines of this group.
    pub group: Option<String>,
}

/// A page about one thing, over the view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Kind and name that it was asked for by.
    pub of: (String, String),
    /// Heading.
    pub title: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// The first line shown.
    pub from: usize,
}

/// A question that takes the keys until it is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialog {
    /// `y` does it.
    Confirm {
        /// The question.
        title: String,
        /// What it would do.
        lines: Vec<String>,
        /// What `y` asks for; absent where it cannot be done.
        go: Option<Request>,
    },
    /// A number is typed.
    Number {
        /// What for.
        title: String,
        /// What was typed.
        text: String,
        /// Whose number it is.
        of: Asked,
    },
    /// One of several is picked.
    Pick {
        /// What for.
        title: String,
        /// Names, and a word on each.
        items: Vec<(String, String)>,
        /// The one in hand.
        at: usize,
    },
    /// The text of the filter is typed.
    Filter,
    /// The keys.
    Help,
}

/// What a number is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Instances of a service.
    Scale(String),
    /// Minutes of silence over an incident.
    Silence(String),
}

/// The whole screen.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    /// The view shown.
    pub tab: Tab,
    settings: [Setting; Tab::ALL.len()],
    /// The fleet at the last look that was answered.
    pub data: Data,
    /// Why the data are old, since no look is answered.
    pub stale: Option<String>,
    /// A page over the view.
    pub page: Option<Page>,
    /// A question over all.
    pub dialog: Option<Dialog>,
    /// The latest word on what was done.
    pub notice: Option<String>,
}

impl Screen {
    /// A screen that begins with a view.
    pub fn new(tab: Tab, data: Data) -> Self {
        let setting = |tab| Setting { column: rows::columns(tab).sorted_by, ..Setting::default() };
        Self { tab, settings: Tab::ALL.map(setting), data, ..Self::default() }
    }

    /// How the view shown is set.
    pub fn setting(&self) -> &Setting {
        &self.settings[self.tab.index()]
    }

    fn set(&mut self) -> &mut Setting {
        &mut self.settings[self.tab.index()]
    }

    /// How many lines a view has, before filters; absent while it is not known.
    pub fn count(&self, tab: Tab) -> Option<usize> {
        match tab {
            Tab::Services | Tab::Instances | Tab::Hosts => Some(rows::of_top(tab, &self.data.top).len()),
            Tab::Incidents => self.data.incidents.as_ref().map(Vec::len),
            Tab::Operations => self.data.operations.as_ref().map(Vec::len),
        }
    }

    /// The lines shown, in their order.
    pub fn lines(&self) -> Vec<Line> {
        let now = self.data.top.at;
        let all = match self.tab {
            Tab::Services | Tab::Instances | Tab::Hosts => rows::measured(rows::of_top(self.tab, &self.data.top)),
            Tab::Incidents => rows::incidents(self.data.incidents.as_deref().unwrap_or_default(), now),
            Tab::Operations => rows::operations(self.data.operations.as_deref().unwrap_or_default(), now),
        };
        let setting = self.setting();
        let wanted = setting.filter.to_lowercase();
        let fits = |line: &Line| {
            let in_group = setting.group.as_ref().is_none_or(|group| *group == line.group);
            in_group && line.cells.iter().any(|cell| cell.to_lowercase().contains(&wanted))
        };
        rows::sorted(all.into_iter().filter(fits).collect(), setting.column, setting.reverse)
    }

    /// Where the line in hand is among those shown: the first, when it is gone.
    pub fn at(&self, lines: &[Line]) -> Option<usize> {
        let selected = self.setting().selected.as_ref();
        let found = selected.and_then(|name| lines.iter().position(|line| line.name == *name));
        found.or((!lines.is_empty()).then_some(0))
    }

    fn in_hand(&self) -> Option<Line> {
        let mut lines = self.lines();
        self.at(&lines).map(|at| lines.swap_remove(at))
    }

    /// The operation in hand, in its view or on its page.
    pub fn operation(&self) -> Option<&OperationView> {
        let name = match &self.page {
            Some(page) if page.of.0 == "operation" => page.of.1.clone(),
            Some(_) => return None,
            None if self.tab == Tab::Operations => self.in_hand()?.name,
            None => return None,
        };
        self.data.operations.as_ref()?.iter().find(|view| view.operation.id.as_str() == name)
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyCode) -> Vec<Request> {
        if let Some(dialog) = self.dialog.take() {
            return self.press_in(dialog, key);
        }
        self.notice = None;
        match key {
            KeyCode::Char('q') => return vec![Request::Quit],
            KeyCode::Char('?') => self.dialog = Some(Dialog::Help),
            KeyCode::Char('P') => return vec![Request::Presets],
            KeyCode::Tab | KeyCode::Right => return self.turn(self.tab.index() + 1),
            KeyCode::BackTab | KeyCode::Left => return self.turn(self.tab.index() + Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => return self.turn(digit as usize - '1' as usize),
            KeyCode::Down => self.move_by(1),
            KeyCode::Up => self.move_by(-1),
            KeyCode::PageDown => self.move_by(PAGE_LINES as isize),
            KeyCode::PageUp => self.move_by(-(PAGE_LINES as isize)),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Esc => self.back(),
            KeyCode::Enter if self.page.is_none() => return self.enter(),
            KeyCode::Char('/') if self.page.is_none() => self.dialog = Some(Dialog::Filter),
            KeyCode::Char('s') if self.page.is_none() => {
                let columns = rows::columns(self.tab).heads.len();
                self.set().column = (self.setting().column + 1) % columns;
            }
            KeyCode::Char('r') if self.page.is_none() => self.set().reverse ^= true,
            KeyCode::Char(letter) => self.act(letter),
            _ => {}
        }
        Vec::new()
    }

    fn turn(&mut self, to: usize) -> Vec<Request> {
        self.tab = Tab::ALL[to % Tab::ALL.len()];
        self.page = None;
        vec![Request::Look]
    }

    /// One thing less over the view: the page, the filter, the group.
    fn back(&mut self) {
        if self.page.take().is_some() {
            return;
        }
        let setting = self.set();
        if !setting.filter.is_empty() {
            setting.filter.clear();
        } else if setting.group.take().is_some() {
            self.tab = Tab::Services;
        }
    }

    fn move_by(&mut self, by: isize) {
        if let Some(page) = &mut self.page {
            page.from = page.from.saturating_add_signed(by).min(page.lines.len().saturating_sub(1));
            return;
        }
        let lines = self.lines();
        let Some(at) = self.at(&lines) else { return };
        let to = at.saturating_add_signed(by).min(lines.len() - 1);
        self.set().selected = Some(lines[to].name.clone());
    }

    /// Down into the line in hand.
    fn enter(&mut self) -> Vec<Request> {
        let Some(line) = self.in_hand() else { return Vec::new() };
        if self.tab == Tab::Services {
            self.tab = Tab::Instances;
            let setting = self.set();
            (setting.group, setting.selected) = (Some(line.name), None);
            setting.filter.clear();
            return Vec::new();
        }
        vec![Request::Describe(self.tab.kind(), line.name)]
    }

    /// A key that does something to the line in hand, after a question.
    fn act(&mut self, letter: char) {
        if let Some(verb) = verb(letter)
            && let Some(view) = self.operation()
        {
            let view = view.clone();
            return self.ask_steer(&view, verb);
        }
        let Some(line) = self.in_hand().filter(|_| self.page.is_none()) else { return };
        match (self.tab, letter) {
            (Tab::Services, 'c') => {
                self.ask_number(format!("instances of {} in all", line.name), Asked::Scale(line.name))
            }
            (Tab::Incidents, 'a') => {
                let title = format!("acknowledge {}: you see to it?", line.name);
                self.confirm(title, line.cells[3..5].to_vec(), Some(Request::Acknowledge(line.name)));
            }
            (Tab::Incidents, 'm') => {
                let title = format!("mute {} for how many minutes [{SILENCE_MINUTES}]", line.name);
                self.ask_number(title, Asked::Silence(line.name));
            }
            _ => {}
        }
    }

    fn ask_steer(&mut self, view: &OperationView, verb: &'static str) {
        let id = view.operation.id.to_string();
        if !view.allowed.verbs.iter().any(|allowed| allowed == verb) {
            let may = match view.allowed.verbs.as_slice() {
                [] => "it has ended".to_owned(),
                verbs => format!("now it may: {}", verbs.join(", ")),
            };
            self.notice = Some(format!("{id} cannot {verb}: {may}"));
            return;
        }
        let mut lines = vec![crate::client::progress::title(&view.operation)];
        lines.extend(view.allowed.step.as_ref().map(|step| format!("it is at step {step}")));
        lines.extend(view.operation.failures.last().cloned());
        self.confirm(format!("{verb} {id}?"), lines, Some(Request::Steer(id, verb)));
    }

    fn confirm(&mut self, title: String, lines: Vec<String>, go: Option<Request>) {
        self.dialog = Some(Dialog::Confirm { title, lines, go });
    }

    fn ask_number(&mut self, title: String, of: Asked) {
        self.dialog = Some(Dialog::Number { title, text: String::new(), of });
    }

    fn press_in(&mut self, dialog: Dialog, key: KeyCode) -> Vec<Request> {
        match (dialog, key) {
            (Dialog::Filter, key) => self.type_filter(key),
            (_, KeyCode::Esc) | (Dialog::Help, _) => {}
            (Dialog::Confirm { go, .. }, KeyCode::Char('y')) => return go.into_iter().collect(),
            (Dialog::Confirm { .. }, KeyCode::Char('n' | 'q')) => {}
            (Dialog::Number { text, of, .. }, KeyCode::Enter) => return self.number(&text, of),
            (Dialog::Number { title, mut text, of }, key) => {
                edit(&mut text, key, |c| c.is_ascii_digit());
                self.dialog = Some(Dialog::Number { title, text, of });
            }
            (Dialog::Pick { mut items, at, .. }, KeyCode::Enter) if at < items.len() => {
                let (name, policies) = items.swap_remove(at);
                let lines = vec![format!("its policies take effect on all proxies: {policies}")];
                self.confirm(format!("fire preset {name}?"), lines, Some(Request::Fire(name)));
            }
            (Dialog::Pick { title, items, at }, key) => {
                let at = match key {
                    KeyCode::Down => (at + 1).min(items.len().saturating_sub(1)),
                    KeyCode::Up => at.saturating_sub(1),
                    _ => at,
                };
                self.dialog = Some(Dialog::Pick { title, items, at });
            }
            (confirm @ Dialog::Confirm { .. }, _) => self.dialog = Some(confirm),
        }
        Vec::new()
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => {}
            KeyCode::Esc => self.set().filter.clear(),
            key => {
                edit(&mut self.set().filter, key, |c| !c.is_control());
                self.dialog = Some(Dialog::Filter);
            }
        }
    }

    fn number(&mut self, text: &str, of: Asked) -> Vec<Request> {
        match (of, text.parse::<u32>()) {
            (Asked::Scale(service), Ok(to)) => vec![Request::Plan(service, to)],
            (Asked::Silence(incident), Ok(0) | Err(_)) if !text.is_empty() => {
                self.notice = Some(format!("{incident} is not muted: a number of minutes, such as 60, is needed"));
                Vec::new()
            }
            (Asked::Silence(incident), minutes) => {
                let minutes = minutes.unwrap_or(SILENCE_MINUTES);
                let lines = vec!["it notifies nobody meanwhile, and is still shown here".to_owned()];
                let go = Some(Request::Silence(incident.clone(), minutes));
                self.confirm(format!("mute {incident} for {minutes} min?"), lines, go);
                Vec::new()
            }
            (Asked::Scale(service), Err(_)) => {
                self.notice = Some(format!("{service} is not scaled: a number of instances, such as 8, is needed"));
                Vec::new()
            }
        }
    }

    /// Takes what came back.
    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Looked(data) => {
                self.stale = None;
                let before = std::mem::replace(&mut self.data, data);
                self.data.operations = self.data.operations.take().or(before.operations);
                self.data.incidents = self.data.incidents.take().or(before.incidents);
            }
            Answer::Unreachable(why) => self.stale = Some(why),
            Answer::Described(page) => self.show(page),
            Answer::Planned(service, to, plan) => self.show_plan(service, to, &plan),
            Answer::Presets(items) if items.is_empty() => {
                self.notice = Some("there is no preset: `springtide apply` a manifest of kind Preset".to_owned());
            }
            Answer::Presets(items) => {
                self.dialog = Some(Dialog::Pick { title: "protect: which preset?".to_owned(), items, at: 0 });
            }
            Answer::Done(words) | Answer::Refused(words) => self.notice = Some(words),
        }
    }

    fn show(&mut self, page: Description) {
        let name = self.in_hand().map(|line| line.name).unwrap_or_default();
        let of = (self.tab.kind().to_owned(), name);
        self.page = Some(Page { of, lines: super::page::lines(&page), title: page.title, from: 0 });
    }

    fn show_plan(&mut self, service: String, to: u32, plan: &OperationPlan) {
        let title = format!("scale {service} to {to}?");
        if !plan.shortages.is_empty() {
            return self.confirm(format!("{service} cannot be scaled to {to}"), plan.shortages.clone(), None);
        }
        let at = |sign: &str, at: &api::http::PlannedAt| {
            format!("{sign} {} on {} ({})", at.instance, at.host, at.datacenter)
        };
        let adds = plan.adds.iter().map(|add| at("+", add));
        let mut lines: Vec<String> = adds.chain(plan.removes.iter().map(|gone| at("-", gone))).collect();
        if lines.is_empty() {
            self.notice = Some(format!("{service} has {to} instances already"));
            return;
        }
        let left = lines.len().saturating_sub(PLAN_LINES_MAX);
        if left > 0 {
            lines.truncate(PLAN_LINES_MAX);
            lines.push(format!("… and {left} more"));
        }
        self.confirm(title, lines, Some(Request::Scale(service, to)));
    }
}

/// The verb of a key in the view of operations.
fn verb(letter: char) -> Option<&'static str> {
    Some(match letter {
        'p' => "pause",
        'u' => "resume",
        'b' => "rollback",
        't' => "retry",
        'k' => "skip",
        _ => return None,
    })
}

fn edit(text: &mut String, key: KeyCode, takes: impl Fn(char) -> bool) {
    match key {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(letter) if takes(letter) && text.chars().count() < TEXT_CHARS_MAX => text.push(letter),
        _ => {}
    }
}
