//! The audit: who changed what, when, from what to what. Entries are made before a commit and kept after it.
//!
//! Placements are told apart by instance, operations by what an operator sees of them; counters are no news.

use api::http::AuditEntry;
use control::Commit;
use model::{HostPlacements, Operation, Snapshot, UnixMs, keys};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::records::{Kind, RecordError, Records};

/// Key under which a transaction carries its audit entries until they are in the records.
pub const PENDING: &str = "/audit-pending";
/// Largest pending entries carried whole; beyond it the values before and after are left out (they are recorded all
/// the same, unless the server dies within that very commit).
const PENDING_BYTES_MAX: usize = 128 * 1024;
/// Largest pending entries carried without values; beyond it only their number is (of them the same holds).
const PENDING_BARE_BYTES_MAX: usize = store::TXN_BYTES_MAX / 2;

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// The entries of a commit, without sequence and revision.
pub fn entries(snapshot: &Snapshot, commit: &Commit, at: UnixMs) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    for write in &commit.writes {
        let after = write.value.as_deref();
        let Some((what, before, after)) = change(snapshot, &write.key, after) else { continue };
        entries.push(AuditEntry { sequence: 0, at, who: commit.who.clone(), revision: 0, what, before, after });
    }
    entries
}

fn change(snapshot: &Snapshot, key: &str, after: Option<&[u8]>) -> Option<(String, Value, Value)> {
    let json = || after.map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap_or(Value::Null));
    if let Some(at) = keys::parse_resource(key) {
        let before = snapshot.resources.get(&at).map_or(Value::Null, |at| value(&*at.value));
        return Some((at.to_string(), before, json()));
    }
    if let Some(host) = key.strip_prefix(keys::PLACEMENTS) {
        let before = snapshot.placements.get(host).map(|at| at.value.clone());
        let after = after.and_then(|bytes| serde_json::from_slice::<HostPlacements>(bytes).ok());
        let (before, after) = instances(before.as_deref(), after.as_ref());
        return Some((format!("placements of {host}"), before, after));
    }
    if let Some(id) = key.strip_prefix(keys::OPERATIONS) {
        let before = snapshot.operations.get(id).map_or(Value::Null, |at| outline(&at.value));
        let after = after.and_then(|bytes| serde_json::from_slice::<Operation>(bytes).ok());
        return Some((format!("operation {id}"), before, after.as_ref().map_or(Value::Null, outline)));
    }
    if let Some(service) = key.strip_prefix(keys::SCALES) {
        let before = snapshot.scales.get(service).map_or(Value::Null, |at| value(&*at.value));
        return Some((format!("scale of {service}"), before, json()));
    }
    if let Some(host) = key.strip_prefix(keys::HOST_INTENTS) {
        let before = snapshot.host_intents.get(host).map_or(Value::Null, |at| value(&*at.value));
        return Some((format!("intent of host {host}"), before, json()));
    }
    if let Some(id) = key.strip_prefix(keys::SILENCES) {
        let before = snapshot.silences.get(id).map_or(Value::Null, |at| value(&*at.value));
        return Some((format!("silence {id}"), before, json()));
    }
    None
}

/// The instances that differ.
fn instances(before: Option<&HostPlacements>, after: Option<&HostPlacements>) -> (Value, Value) {
    let by_id = |on: Option<&HostPlacements>| -> BTreeMap<String, Value> {
        on.into_iter().flat_map(|on| &on.instances).map(|at| (at.instance.to_string(), value(at))).collect()
    };
    let (mut before, mut after) = (by_id(before), by_id(after));
    before.retain(|id, placement| match after.get(id) {
        Some(same) if same == placement => {
            after.remove(id);
            false
        }
        _ => true,
    });
    (value(&before), value(&after))
}

/// What an operator sees of an operation; the whole is in the journal.
fn outline(operation: &Operation) -> Value {
    let steps: BTreeMap<String, Value> = operation
        .steps
        .iter()
        .filter_map(|step| Some((value(&step.name).as_str()?.to_owned(), value(&step.state))))
        .collect();
    json!({
        "spec": operation.spec, "phase": operation.phase, "batch": operation.batch, "batches": operation.batches,
        "gray_permille": operation.gray_permille, "steps": steps, "failures": operation.failures,
    })
}

/// What the transaction carries.
pub fn pending(entries: &[AuditEntry]) -> Vec<u8> {
    let whole = serde_json::to_vec(entries).expect("audit entries are plain data");
    if whole.len() <= PENDING_BYTES_MAX {
        return whole;
    }
    let bare: Vec<AuditEntry> =
        entries.iter().map(|entry| AuditEntry { before: Value::Null, after: Value::Null, ..entry.clone() }).collect();
    let bare = serde_json::to_vec(&bare).expect("audit entries are plain data");
    if bare.len() <= PENDING_BARE_BYTES_MAX {
        return bare;
    }
    let first = entries.first().expect("no entries are few bytes");
    let what = format!("{} changes of one commit, {} the first", entries.len(), first.what);
    let one = AuditEntry { what, before: Value::Null, after: Value::Null, ..first.clone() };
    serde_json::to_vec(&[one]).expect("audit entries are plain data")
}

/// Keeps the entries of a committed revision; those already there stay as they are. Their time tells them from those of
/// an earlier store: one that began anew, or was restored, gives its revisions again.
pub fn append(records: &Records, revision: u64, entries: &[AuditEntry]) -> Result<(), RecordError> {
    let made: Vec<(String, Vec<u8>)> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let entry = AuditEntry { revision, ..entry.clone() };
            (
                format!("{revision}-{index}-{}", entry.at),
                serde_json::to_vec(&entry).expect("an audit entry is plain data"),
            )
        })
        .collect();
    let made: Vec<(&str, &[u8])> = made.iter().map(|(id, bytes)| (id.as_str(), bytes.as_slice())).collect();
    match made.is_empty() {
        true => Ok(()),
        false => records.append_all(Kind::Audit, &made).map(drop),
    }
}

/// Appends what a crash kept out of the records: `pending` as stored, at the revision that stored it.
pub fn recover(records: &Records, revision: u64, pending: &[u8]) -> Result<(), RecordError> {
    let entries: Vec<AuditEntry> = serde_json::from_slice(pending).unwrap_or_default();
    append(records, revision, &entries)
}

/// Entries in order: those after a sequence, or the newest.
pub fn list(records: &Records, after: Option<u64>, limit: usize) -> Result<Vec<AuditEntry>, RecordError> {
    let newest = || records.last(Kind::Audit).saturating_sub(limit as u64);
    let after = after.unwrap_or_else(newest);
    let found = records.list(Kind::Audit, after, limit)?;
    let read = found.into_iter().filter_map(|record| {
        let entry: AuditEntry = serde_json::from_slice(&record.bytes).ok()?;
        Some(AuditEntry { sequence: record.sequence, ..entry })
    });
    Ok(read.collect())
}

/// Entries looked at by one search.
const SEARCHED_MAX: u64 = 20_000;
/// Entries read at a time.
const READ_MAX: u64 = 500;

/// The newest entries before a sequence that have every word somewhere, in order, and how far back was looked.
pub fn search(
    records: &Records,
    before: Option<u64>,
    words: &str,
    limit: usize,
) -> Result<(Vec<AuditEntry>, u64), RecordError> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let end = before.unwrap_or(u64::MAX).min(records.last(Kind::Audit) + 1);
    let mut from = end;
    let mut found = Vec::new();
    while from > 1 && found.len() < limit && end - from < SEARCHED_MAX {
        let first = from.saturating_sub(READ_MAX).max(1);
        let read = records.list(Kind::Audit, first - 1, (from - first) as usize)?;
        for record in read.into_iter().rev() {
            if found.len() == limit {
                break;
            }
            from = record.sequence;
            let text = String::from_utf8_lossy(&record.bytes).to_lowercase();
            if !words.iter().all(|word| text.contains(word.as_str())) {
                continue;
            }
            if let Ok(entry) = serde_json::from_slice::<AuditEntry>(&record.bytes) {
                found.push(AuditEntry { sequence: record.sequence, ..entry });
            }
        }
        if found.len() < limit {
            from = first;
        }
    }
    found.reverse();
    Ok((found, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_backwards_page_by_page_and_finds_words_in_any_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::open(folder.path()).expect("new records");
        let entry = |n: u64| AuditEntry {
            sequence: 0,
            at: n,
            who: "ann".to_owned(),
            revision: 0,
            what: format!("Host h{n} in {}", if n.is_multiple_of(100) { "West" } else { "east" }),
            before: Value::Null,
            after: Value::Null,
        };
        append(&records, 1, &(1..=1_200).map(entry).collect::<Vec<_>>()).expect("kept");
        let sequences = |before, words: &str, limit| {
            let (found, to) = search(&records, before, words, limit).expect("read");
            (found.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), to)
        };
        assert_eq!(sequences(None, "", 2), (vec![1_199, 1_200], 1_199));
        assert_eq!(sequences(Some(1_199), "", 1), (vec![1_198], 1_198));
        assert_eq!(sequences(None, "WEST ann", 3), (vec![1_000, 1_100, 1_200], 1_000));
        assert_eq!(sequences(Some(1_000), "west", 100), ((1..10).map(|n| n * 100).collect(), 1));
        assert_eq!(sequences(None, "nobody", 5), (vec![], 1));
    }

    #[test]
    fn what_a_commit_carries_fits_a_transaction_however_large_it_is() {
        let entry = |n| AuditEntry {
            sequence: 0,
            at: 1_700_000_000_000,
            who: "ann".to_owned(),
            revision: 0,
            what: format!("Host a-rather-long-name-of-a-host-{n}"),
            before: Value::Null,
            after: json!({ "rack": n }),
        };
        for (count, carried) in [(1, 1), (3_000, 3_000), (100_000, 1)] {
            let entries: Vec<AuditEntry> = (0..count).map(entry).collect();
            let bytes = pending(&entries);
            assert!(bytes.len() <= store::TXN_BYTES_MAX / 2, "{} bytes for {count} entries", bytes.len());
            let read: Vec<AuditEntry> = serde_json::from_slice(&bytes).expect("as recovery reads it");
            assert_eq!((read.len(), read[0].who.as_str()), (carried, "ann"));
        }
    }
}
