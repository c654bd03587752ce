//! On which line each field of a YAML document stands.

use serde_saphyr::granit_parser::{Event, Parser, Span};
use std::collections::BTreeMap;

/// Field path (`streams[0].load[1].rps`) → line, from 1.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, u32>);

enum Open {
    List { path: String, items: usize },
    Map { path: String, key: Option<String> },
}

impl Lines {
    /// Of the first document of a text; what the parser refuses is left out.
    pub fn of(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        let mut open: Vec<Open> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            let line = line_of(&span);
            match event {
                Event::Scalar(text, ..) => {
                    if let Some(Open::Map { path, key: key @ None }) = open.last_mut() {
                        let name = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
                        lines.insert(name.clone(), line);
                        *key = Some(name);
                    } else {
                        lines.entry(value_path(&mut open)).or_insert(line);
                    }
                }
                Event::SequenceStart(..) => {
                    let path = value_path(&mut open);
                    lines.entry(path.clone()).or_insert(line);
                    open.push(Open::List { path, items: 0 });
                }
                Event::MappingStart(..) => {
                    let path = value_path(&mut open);
                    lines.entry(path.clone()).or_insert(line);
                    open.push(Open::Map { path, key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        Self(lines)
    }

    /// The line of a field, or of the closest one around it that was written.
    pub fn line(&self, field: &str) -> u32 {
        let mut path = field;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 1,
            }
        }
    }

    /// The innermost field that begins on a line; with `name`, one that ends in it.
    pub fn field(&self, line: u32, name: Option<&str>) -> String {
        let on_line = || self.0.iter().filter(|(_, at)| **at == line).map(|(path, _)| path);
        let named = name.and_then(|name| on_line().find(|path| path.rsplit('.').next() == Some(name)));
        named.or_else(|| on_line().max_by_key(|path| path.len())).cloned().unwrap_or_default()
    }
}

fn line_of(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1)
}

/// The path of the value that comes now.
fn value_path(open: &mut [Open]) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::List { path, items }) => {
            *items += 1;
            format!("{path}[{}]", *items - 1)
        }
        Some(Open::Map { key, .. }) => key.take().unwrap_or_default(),
    }
}
