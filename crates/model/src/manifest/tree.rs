//! YAML documents as trees whose nodes know their line and keep their scalars' text as written.
//!
//! Which text is a number is the schema's business, so `version: 1.10` stays `1.10`. Tags and merge keys are not supported.

use super::{ALIAS_BYTES_MAX, DOCUMENTS_MAX, FILE_BYTES_MAX, NESTING_MAX};
use crate::fault::Fault;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, options};
use std::collections::BTreeMap;

/// A node of a document.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its line, from 1.
    pub line: u32,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A scalar; `plain` when it was not quoted.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order written.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its text.
    pub text: String,
    /// Its line.
    pub line: u32,
}

impl Node {
    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The mapping's entries.
    pub fn map(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// True for nothing, `~` and `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What it is, for messages.
    pub fn what(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// Bytes it costs to copy, and its depth.
    fn size(&self) -> (usize, usize) {
        let over = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.map(Node::size).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1.max(one.1)))
        };
        let (bytes, depth) = match &self.value {
            Value::Scalar { text, .. } => (text.len(), 0),
            Value::List(items) => over(&mut items.iter()),
            Value::Map(entries) => {
                let keys: usize = entries.iter().map(|(key, _)| key.text.len() + size_of::<Key>()).sum();
                let values = over(&mut entries.iter().map(|(_, value)| value));
                (keys + values.0, values.1)
            }
        };
        (bytes + size_of::<Node>(), depth + 1)
    }
}

/// Longest text quoted in a message, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// A text cut to what fits a message, on one line.
pub(super) fn shortened(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTED_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        cut.push('…');
    }
    cut
}

/// A place where the YAML itself is wrong.
#[derive(Debug)]
pub(super) struct Broken {
    line: u32,
    message: String,
}

impl Broken {
    /// As a fault of a file.
    pub fn in_file(self, file: &str) -> Fault {
        Fault { file: file.to_owned(), line: self.line, field: String::new(), message: self.message }
    }
}

/// The documents of a file, empty ones left out, and what is wrong with its YAML. A broken document does not hide the ones after it.
pub(super) fn documents(text: &str) -> (Vec<Node>, Vec<Broken>) {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; split it into files of at most {FILE_BYTES_MAX}", text.len());
        return (Vec::new(), vec![Broken { line: 1, message }]);
    }
    let limits = options! { emit_comments: false, flow_nesting_limit: NESTING_MAX, block_nesting_limit: NESTING_MAX };
    let mut parser = Parser::new_from_str_with_options(text, limits);
    let mut builder = Builder::default();
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    while let Some(next) = parser.next_event() {
        let problem = match next {
            Ok((Event::DocumentEnd, _)) => {
                found.extend(builder.take().filter(|root| !root.is_null()));
                None
            }
            Ok((event, span)) => builder.take_event(event, &span).err(),
            Err(refused) => Some(Broken {
                line: line_from(refused.marker().line()),
                message: format!("not YAML: {}", refused.info()),
            }),
        };
        if let Some(problem) = problem {
            broken.push(problem);
            builder.abandon();
            if !parser.proceed_next_document().unwrap_or(false) {
                break;
            }
        }
        if found.len() + broken.len() > DOCUMENTS_MAX {
            let message = format!("more than {DOCUMENTS_MAX} documents in one file; split it");
            return (Vec::new(), vec![Broken { line: 1, message }]);
        }
    }
    (found, broken)
}

fn line_from(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

/// A list or mapping whose end has not come.
struct Open {
    node: Node,
    key: Option<Key>,
    anchor: usize,
}

/// Makes a tree of events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    alias_bytes: usize,
}

impl Builder {
    fn take(&mut self) -> Option<Node> {
        self.anchors.clear();
        self.root.take()
    }

    fn abandon(&mut self) {
        self.open.clear();
        self.take();
    }

    fn take_event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Broken> {
        let line = line_from(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), line)?;
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.place(Node { line, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), line)?;
                self.begin(Node { line, value: Value::List(Vec::new()) }, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), line)?;
                self.begin(Node { line, value: Value::Map(Vec::new()) }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let ended = self.open.pop().expect("the parser pairs starts and ends");
                self.place(ended.node, ended.anchor)
            }
            Event::Alias(id) => self.expand(id, line),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        if self.awaits_key() {
            return Err(key_not_text(node.line));
        }
        self.open.push(Open { node, key: None, anchor });
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    fn expand(&mut self, id: usize, line: u32) -> Result<(), Broken> {
        let Some(anchored) = self.anchors.get(&id) else {
            let message = "an alias inside the very value it names; write the value out".to_owned();
            return Err(Broken { line, message });
        };
        let (bytes, depth) = anchored.size();
        self.alias_bytes += bytes;
        if self.alias_bytes > ALIAS_BYTES_MAX || depth + self.open.len() > NESTING_MAX {
            let message = format!(
                "aliases expand to more than {ALIAS_BYTES_MAX} bytes or {NESTING_MAX} levels; write less with aliases"
            );
            return Err(Broken { line, message });
        }
        let mut copy = anchored.clone();
        copy.line = line;
        self.place(copy, 0)
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => open.key = Some(Key { text, line: node.line }),
                    Value::List(_) | Value::Map(_) => return Err(key_not_text(node.line)),
                },
            },
            Value::Scalar { .. } => {}
        }
        Ok(())
    }
}

fn key_not_text(line: u32) -> Broken {
    Broken { line, message: "a list or mapping stands where a field name was expected".to_owned() }
}

fn refuse_tag(tagged: bool, line: u32) -> Result<(), Broken> {
    if tagged {
        return Err(Broken {
            line,
            message: "tags such as `!!str` are not supported; leave the tag out, and quote a text if need be"
                .to_owned(),
        });
    }
    Ok(())
}
