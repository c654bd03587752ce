//! Reads manifests: YAML files of many documents into resources that know the line of each field.
//!
//! Every fault of every file is collected, not only the first. What one document says about another
//! (references, rules of the layers) is `validate`'s work; reading files from a disk is the caller's.

mod kinds;
mod read;
mod schema;
mod tree;

use crate::fault::{Fault, bounded, did_you_mean};
use crate::policy::Expiry;
use crate::resource::{Kind, Resource, ResourceKey};
use std::collections::BTreeMap;

/// Largest manifest file, in bytes.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// Most documents in a file.
pub const DOCUMENTS_MAX: usize = 50_000;
/// Deepest nesting in a document.
pub const NESTING_MAX: usize = 32;
/// Most that the aliases of one file may expand to, in bytes.
pub const ALIAS_BYTES_MAX: usize = 4 << 20;

/// A resource as a manifest declares it, with the place of each of its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// The resource.
    pub resource: Resource,
    /// The file, as the caller named it.
    pub file: String,
    /// The line on which the document begins, from 1.
    pub line: u32,
    /// Field path (`shape.cpu`, `dependencies[0].on`) → line.
    pub lines: BTreeMap<String, u32>,
}

impl Declared {
    /// The line of a field, or of the closest field around it that was written.
    pub fn line_of(&self, field: &str) -> u32 {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.line,
            }
        }
    }

    /// A fault at one of its fields.
    pub fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        Fault { file: self.file.clone(), line: self.line_of(field), field: field.to_owned(), message: message.into() }
    }
}

/// Reads manifests, given as path and text.
///
/// # Errors
/// All faults of all files, at most [`crate::FAULTS_MAX`], in the order of files and lines.
pub fn parse(files: &[(String, String)]) -> Result<Vec<Declared>, Vec<Fault>> {
    parse_ending(files, None)
}

/// Reads manifests as [`parse`] does; with `end`, every policy ends then, whatever its document says or leaves out.
///
/// # Errors
/// As [`parse`].
pub fn parse_ending(files: &[(String, String)], end: Option<Expiry>) -> Result<Vec<Declared>, Vec<Fault>> {
    let mut declared = Vec::new();
    let mut faults = Vec::new();
    for (path, text) in files {
        let (documents, broken) = tree::documents(text);
        faults.extend(broken.into_iter().map(|at| at.in_file(path)));
        for document in &documents {
            match read_document(path, document, end) {
                Ok(one) => declared.push(one),
                Err(mut some) => faults.append(&mut some),
            }
        }
    }
    faults.extend(duplicates(&declared));
    if faults.is_empty() {
        return Ok(declared);
    }
    let place = |fault: &Fault| (files.iter().position(|(path, _)| *path == fault.file), fault.line);
    faults.sort_by_cached_key(place);
    Err(bounded(faults))
}

/// Names of the fields of a kind, `kind` itself left out.
pub fn field_names(kind: Kind) -> impl Iterator<Item = &'static str> {
    kinds::fields(kind).iter().map(|field| field.name)
}

fn read_document(path: &str, document: &tree::Node, end: Option<Expiry>) -> Result<Declared, Vec<Fault>> {
    let fault = |line, field: &str, message| Fault { file: path.to_owned(), line, field: field.to_owned(), message };
    let Some(fields) = document.map() else {
        let message =
            format!("found {} where a resource was expected; begin with `kind:` and `name:`", document.what());
        return Err(vec![fault(document.line, "", message)]);
    };
    let Some((_, kind)) = fields.iter().find(|(key, _)| key.text == "kind") else {
        let message = format!("missing field `kind`: one of {}", kinds_listed());
        return Err(vec![fault(document.line, "kind", message)]);
    };
    let text = kind.text().unwrap_or_default();
    let Some(found) = Kind::ALL.iter().find(|known| known.as_str() == text) else {
        let hint = did_you_mean(text, Kind::ALL.iter().map(|known| known.as_str()));
        let message = format!("unknown kind `{text}`{hint} (kinds: {})", kinds_listed());
        return Err(vec![fault(kind.line, "kind", message)]);
    };
    let mut reader = read::Reader::new(path);
    let end = end.filter(|_| *found == Kind::Policy);
    let fields = if end.is_some() { kinds::POLICY_ENDING } else { kinds::fields(*found) };
    let mut value = reader.record(fields, document, "", &["kind"]);
    let (mut faults, lines) = reader.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    value.insert("kind".to_owned(), found.as_str().into());
    value.extend(end.map(|end| ("expires_at".to_owned(), end.to_string().into())));
    match serde_json::from_value::<Resource>(value.into()) {
        Ok(resource) => Ok(Declared { resource, file: path.to_owned(), line: document.line, lines }),
        Err(refused) => {
            faults.push(fault(document.line, "", refused.to_string()));
            Err(faults)
        }
    }
}

fn kinds_listed() -> String {
    Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

fn duplicates(declared: &[Declared]) -> Vec<Fault> {
    let mut first: BTreeMap<ResourceKey, &Declared> = BTreeMap::new();
    let mut faults = Vec::new();
    for one in declared {
        let key = one.resource.key();
        if let Some(other) = first.get(&key) {
            let message =
                format!("{key} is declared twice; first at {}:{}; keep one", other.file, other.line_of("name"));
            faults.push(one.fault("name", message));
        } else {
            first.insert(key, one);
        }
    }
    faults
}

#[cfg(test)]
mod tests;
