//! Reads a tree against the schema: every fault is collected, and what is right becomes plain JSON for serde.

use super::schema::{Field, Type};
use super::tree::{Node, Value, shortened};
use crate::fault::{Fault, did_you_mean};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// Collects faults and the lines of fields.
pub(super) struct Reader<'a> {
    file: &'a str,
    faults: Vec<Fault>,
    lines: BTreeMap<String, u32>,
}

impl<'a> Reader<'a> {
    /// Nothing read yet.
    pub fn new(file: &'a str) -> Self {
        Self { file, faults: Vec::new(), lines: BTreeMap::new() }
    }

    /// The faults and the lines.
    pub fn finish(self) -> (Vec<Fault>, BTreeMap<String, u32>) {
        (self.faults, self.lines)
    }

    fn fault(&mut self, line: u32, field: &str, message: impl Into<String>) {
        self.faults.push(Fault { file: self.file.to_owned(), line, field: field.to_owned(), message: message.into() });
    }

    /// Reads known fields; names in `also` are known, and read by the caller.
    pub fn record(&mut self, fields: &[Field], node: &Node, path: &str, also: &[&str]) -> Map<String, Json> {
        let mut read = Map::new();
        let Some(entries) = node.map() else {
            self.fault(node.line, path, format!("expected fields, found {}", node.what()));
            return read;
        };
        let mut seen = BTreeSet::new();
        for (key, value) in entries {
            let at = joined(path, &key.text);
            if !seen.insert(key.text.as_str()) {
                self.fault(key.line, &at, format!("field `{}` stands twice; keep one", shortened(&key.text)));
            } else if let Some(field) = fields.iter().find(|field| field.name == key.text) {
                self.lines.insert(at.clone(), key.line);
                let value = self.value(&field.of, value, &at);
                read.insert(field.name.to_owned(), value);
            } else if !also.contains(&key.text.as_str()) {
                let message = unknown(&key.text, fields, also);
                self.fault(key.line, &at, message);
            }
        }
        for field in fields.iter().filter(|field| field.required && !seen.contains(field.name)) {
            self.fault(
                node.line,
                &joined(path, field.name),
                format!("missing field `{}`: {}", field.name, wanted(&field.of)),
            );
        }
        read
    }

    fn value(&mut self, of: &Type, node: &Node, path: &str) -> Json {
        if node.is_null() {
            self.fault(node.line, path, format!("has no value; give {}, or leave the field out", wanted(of)));
            return Json::Null;
        }
        match (of, &node.value) {
            (Type::List(item), Value::List(nodes)) => self.list(item, nodes, path),
            (Type::Pair(item), Value::List(nodes)) if nodes.len() == 2 => self.list(item, nodes, path),
            (Type::Map(key, of), Value::Map(_)) => self.map(*key, of, node, path),
            (Type::Record(fields) | Type::Shorthand(_, fields), Value::Map(_)) => {
                self.record(fields, node, path, &[]).into()
            }
            (Type::OneOf(one_of, fields), Value::Map(_)) => {
                let read = self.record(fields, node, path, &[]);
                if one_of.iter().filter(|name| read.contains_key(**name)).count() != 1 {
                    self.fault(node.line, path, format!("needs exactly one of {}", one_of.join(", ")));
                }
                read.into()
            }
            (_, Value::Scalar { text, plain }) => match scalar(of, text, *plain) {
                Ok(value) => value,
                Err(message) => {
                    self.fault(node.line, path, message);
                    Json::Null
                }
            },
            _ => {
                self.fault(node.line, path, format!("expected {}, found {}", wanted(of), node.what()));
                Json::Null
            }
        }
    }

    fn list(&mut self, of: &Type, nodes: &[Node], path: &str) -> Json {
        let mut read = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let at = format!("{path}[{index}]");
            self.lines.insert(at.clone(), node.line);
            read.push(self.value(of, node, &at));
        }
        read.into()
    }

    fn map(&mut self, check: fn(&str) -> Result<(), String>, of: &Type, node: &Node, path: &str) -> Json {
        let mut read = Map::new();
        for (key, value) in node.map().unwrap_or_default() {
            let at = joined(path, &key.text);
            if let Err(message) = check(&key.text) {
                self.fault(key.line, &at, message);
            }
            if read.contains_key(&key.text) {
                self.fault(key.line, &at, format!("`{}` stands twice; keep one", shortened(&key.text)));
            }
            self.lines.insert(at.clone(), key.line);
            let value = self.value(of, value, &at);
            read.insert(key.text.clone(), value);
        }
        read.into()
    }
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { shortened(field) } else { format!("{path}.{}", shortened(field)) }
}

fn unknown(text: &str, fields: &[Field], also: &[&str]) -> String {
    if text == "<<" {
        return "merge keys (`<<`) are not supported; write the fields out".to_owned();
    }
    let known = fields.iter().map(|field| field.name).chain(also.iter().copied());
    let hint = did_you_mean(text, known.clone());
    if hint.is_empty() {
        return format!("unknown field `{}`; known are {}", shortened(text), known.collect::<Vec<_>>().join(", "));
    }
    format!("unknown field `{}`{hint}", shortened(text))
}

fn scalar(of: &Type, text: &str, plain: bool) -> Result<Json, String> {
    let refused = || format!("expected {}, found `{}`", wanted(of), shortened(text));
    match of {
        Type::Text => Ok(text.into()),
        Type::Checked(_, check) | Type::Shorthand(check, _) => check(text).map(|()| text.into()),
        Type::Choice(words) if words.contains(&text) => Ok(text.into()),
        Type::Choice(words) => {
            let hint = did_you_mean(text, words.iter().copied());
            Err(format!("{}{hint}", refused()))
        }
        Type::Whole(least, most) => match text.parse::<u64>() {
            Ok(number) if plain && (*least..=*most).contains(&number) => Ok(number.into()),
            _ => Err(refused()),
        },
        Type::Number => {
            let number = if plain { text.parse::<f64>().ok() } else { None };
            number.and_then(serde_json::Number::from_f64).map(Json::Number).ok_or_else(refused)
        }
        Type::Flag => match text {
            "true" if plain => Ok(true.into()),
            "false" if plain => Ok(false.into()),
            _ => Err(refused()),
        },
        Type::List(_) | Type::Pair(_) | Type::Map(..) | Type::Record(_) | Type::OneOf(..) => Err(refused()),
    }
}

/// What a type wants, for messages.
fn wanted(of: &Type) -> String {
    match of {
        Type::Text => "a text".to_owned(),
        Type::Checked(label, _) => (*label).to_owned(),
        Type::Choice(words) => format!("one of {}", words.join(", ")),
        Type::Whole(least, u64::MAX) => format!("a whole number from {least}"),
        Type::Whole(least, most) => format!("a whole number from {least} to {most}"),
        Type::Number => "a number".to_owned(),
        Type::Flag => "true or false".to_owned(),
        Type::List(item) => format!("a list, each item {}", wanted(item)),
        Type::Pair(item) => format!("a list of exactly two, each {}", wanted(item)),
        Type::Map(_, item) => format!("a mapping of names, each to {}", wanted(item)),
        Type::Record(fields) | Type::OneOf(_, fields) => format!("fields ({})", names(fields)),
        Type::Shorthand(_, fields) => format!("fields ({}) or a shorthand", names(fields)),
    }
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}
