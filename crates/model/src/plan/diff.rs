//! Fields that differ between two resources of one kind.

use super::FieldDiff;
use crate::resource::Resource;
use serde_json::Value;

/// The fields that differ, by path.
pub(super) fn fields(before: &Resource, after: &Resource) -> Vec<FieldDiff> {
    let json = |resource: &Resource| serde_json::to_value(resource).expect("a resource is always JSON");
    let mut found = Vec::new();
    walk("", &json(before), &json(after), &mut found);
    found
}

fn walk(path: &str, before: &Value, after: &Value, found: &mut Vec<FieldDiff>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            let mut keys: Vec<&String> = old.keys().chain(added).collect();
            keys.sort();
            for key in keys {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&at, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                walk(&format!("{path}[{index}]"), old, new, found);
            }
        }
        _ => found.push(FieldDiff { field: path.to_owned(), before: before.clone(), after: after.clone() }),
    }
}
