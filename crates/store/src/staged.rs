//! Changes of any size, in effect wholly or not at all, over transactions of limited size.
//!
//! A change within the limits is one transaction. A larger one is written in chunks under `/staged/<id>/<n>`; it is
//! decided by one commit record, the key `/staged`, whose transaction checks the guards; then each chunk is rolled forward
//! into the real keys in a transaction that also removes the chunk, and the last one removes the record. While the record
//! stands, the change is half copied: readers who decide must wait, and every writer through [`commit`] is refused.
//! After a crash [`recover`] finishes a decided change and discards an undecided one.
//!
//! Absent on purpose: leased keys in large changes (a lease could end half-way).

#[cfg(test)]
mod tests;

use crate::kv::*;
use crate::state::{bytes_of, check_keys};
use serde::{Deserialize, Serialize};

/// The commit record; it exists only while a large change is being copied.
pub const RECORD: &str = "/staged";
/// Prefix of the chunks.
pub const CHUNKS: &str = "/staged/";
/// Operations in one chunk: its transaction also removes the chunk, and the last one the record.
pub const CHUNK_OPS_MAX: usize = TXN_OPS_MAX - 2;
/// Bytes in one chunk (one larger operation is a chunk of its own).
pub const CHUNK_BYTES_MAX: usize = TXN_BYTES_MAX / 2;
/// Bytes kept free in a transaction for the keys and the framing that staging adds.
const OVERHEAD_BYTES: usize = 8 * KEY_BYTES_MAX;
/// Guards checked by the transaction of the commit record itself, which also compares the record.
const GUARDS_MAX: usize = TXN_OPS_MAX - 1;
/// Version of the record and the chunks.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Writers are kept out while more guards are read than one transaction can compare.
    Checking,
    /// Decided: it will be rolled forward.
    Decided,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    id: String,
    chunks: usize,
    phase: Phase,
}

/// What [`recover`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was half-done.
    Nothing,
    /// A decided change was rolled forward to its end, at this revision.
    Finished {
        /// Its id.
        id: String,
        /// The revision at which it was complete.
        revision: Revision,
    },
    /// Chunks of changes that were never decided are gone.
    Discarded {
        /// How many keys.
        keys: usize,
    },
}

/// Commits a change of any size, or says which condition did not hold. A conflict on the key `/staged` means that another
/// large change is being copied: try again once it is gone. Committed carries the revision at which the change was complete.
///
/// `id` names the change among others in flight. All writers of the keys concerned must come through here: guards beyond
/// those of one transaction hold because other writers are kept out while they are read.
///
/// # Errors
/// Those of the store. After one, a large change may be half copied: call [`recover`] before the next.
pub async fn commit(store: &dyn Store, id: &str, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, Error> {
    check_keys(&compares, &ops)?;
    let small = ops.len() <= TXN_OPS_MAX && compares.len() <= GUARDS_MAX;
    if small && bytes_of(&compares, &ops) + RECORD.len() <= TXN_BYTES_MAX {
        return store.txn(Txn { compares: guarded(compares), ops }).await;
    }
    check_large(id, &ops)?;
    let chunks = split(ops);
    stage(store, id, &chunks).await?;
    let record = match decide(store, id, chunks.len(), compares).await? {
        Ok(revision) => revision,
        Err(conflict) => {
            discard(store, &format!("{CHUNKS}{id}/")).await?;
            return Ok(TxnOutcome::Conflict(conflict));
        }
    };
    let ends = roll_forward(store, id, chunks.len(), record).await?;
    Ok(TxnOutcome::Committed(ends))
}

/// Finishes or discards what a crash left half-done. Call it once at the start, before any [`commit`].
pub async fn recover(store: &dyn Store) -> Result<Recovered, Error> {
    let found = store.range(RECORD).await?;
    let record = found.items.iter().find(|item| item.key.as_ref() == RECORD);
    let mut recovered = Recovered::Nothing;
    if let Some(item) = record {
        let record = parse_record(&item.value)?;
        if record.phase == Phase::Decided {
            let revision = roll_forward(store, &record.id, record.chunks, item.mod_revision).await?;
            recovered = Recovered::Finished { id: record.id, revision };
        } else {
            let delete = Op::Delete { key: RECORD.to_owned() };
            store.txn(Txn { compares: vec![], ops: vec![delete] }).await?;
        }
    }
    let keys = discard(store, CHUNKS).await?;
    if recovered == Recovered::Nothing && (keys > 0 || record.is_some()) {
        recovered = Recovered::Discarded { keys };
    }
    Ok(recovered)
}

fn guarded(mut compares: Vec<Compare>) -> Vec<Compare> {
    compares.push(Compare::ModRevision(RECORD.to_owned(), 0));
    compares
}

fn check_large(id: &str, ops: &[Op]) -> Result<(), Error> {
    if id.is_empty() || id.contains('/') {
        let why = "the id of a staged change is one part of a key";
        return Err(Error::BadKey { key: format!("{CHUNKS}{id}"), why });
    }
    for op in ops {
        if op.bytes() > TXN_BYTES_MAX - OVERHEAD_BYTES {
            return Err(Error::TooLarge { bytes: op.bytes() + OVERHEAD_BYTES });
        }
        if let Op::Put { key, lease: Some(_), .. } = op {
            let why = "a change of more than one transaction has no leased keys";
            return Err(Error::BadKey { key: key.clone(), why });
        }
    }
    Ok(())
}

fn split(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut chunks: Vec<Vec<Op>> = vec![Vec::new()];
    let mut bytes = 0;
    for op in ops {
        let chunk = chunks.last_mut().expect("there is always a last chunk");
        if !chunk.is_empty() && (chunk.len() == CHUNK_OPS_MAX || bytes + op.bytes() > CHUNK_BYTES_MAX) {
            bytes = op.bytes();
            chunks.push(vec![op]);
        } else {
            bytes += op.bytes();
            chunk.push(op);
        }
    }
    chunks
}

fn chunk_key(id: &str, number: usize) -> String {
    format!("{CHUNKS}{id}/{number:08}")
}

async fn stage(store: &dyn Store, id: &str, chunks: &[Vec<Op>]) -> Result<(), Error> {
    for (number, chunk) in chunks.iter().enumerate() {
        let put = Op::Put { key: chunk_key(id, number), value: encode(chunk), lease: None };
        store.txn(Txn { compares: vec![], ops: vec![put] }).await?;
    }
    Ok(())
}

/// Writes the commit record if all guards hold; gives its revision.
async fn decide(
    store: &dyn Store,
    id: &str,
    chunks: usize,
    mut compares: Vec<Compare>,
) -> Result<Result<Revision, Compare>, Error> {
    let rest = compares.split_off(compares.len().min(GUARDS_MAX));
    let phase = if rest.is_empty() { Phase::Decided } else { Phase::Checking };
    let begun = put_record(store, id, chunks, phase, guarded(compares)).await?;
    if rest.is_empty() {
        return Ok(begun);
    }
    let checking = match begun {
        Ok(revision) => revision,
        Err(conflict) => return Ok(Err(conflict)),
    };
    let ours = Compare::ModRevision(RECORD.to_owned(), checking);
    if let Some(failed) = first_failed(store, rest).await? {
        let delete = Op::Delete { key: RECORD.to_owned() };
        store.txn(Txn { compares: vec![ours], ops: vec![delete] }).await?;
        return Ok(Err(failed));
    }
    put_record(store, id, chunks, Phase::Decided, vec![ours]).await
}

async fn put_record(
    store: &dyn Store,
    id: &str,
    chunks: usize,
    phase: Phase,
    compares: Vec<Compare>,
) -> Result<Result<Revision, Compare>, Error> {
    let record = Record { format: FORMAT, id: id.to_owned(), chunks, phase };
    let value = serde_json::to_vec(&record).expect("a record of plain fields is JSON");
    let put = Op::Put { key: RECORD.to_owned(), value, lease: None };
    Ok(match store.txn(Txn { compares, ops: vec![put] }).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Conflict(compare) => Err(compare),
    })
}

/// Checks conditions in transactions that write nothing.
async fn first_failed(store: &dyn Store, mut compares: Vec<Compare>) -> Result<Option<Compare>, Error> {
    while !compares.is_empty() {
        let rest = compares.split_off(compares.len().min(TXN_OPS_MAX));
        if let TxnOutcome::Conflict(failed) = store.txn(Txn { compares, ops: vec![] }).await? {
            return Ok(Some(failed));
        }
        compares = rest;
    }
    Ok(None)
}

/// Copies what is left of the chunks into the real keys; gives the revision of the last copy.
async fn roll_forward(store: &dyn Store, id: &str, chunks: usize, record: Revision) -> Result<Revision, Error> {
    let staged = store.range(&format!("{CHUNKS}{id}/")).await?;
    let mut revision = staged.revision;
    for number in 0..chunks {
        let key = chunk_key(id, number);
        let found = staged.items.iter().find(|item| item.key.as_ref() == key);
        let mut ops = found.map(|item| decode(&key, &item.value)).transpose()?.unwrap_or_default();
        let last = number + 1 == chunks;
        if found.is_none() && !last {
            continue;
        }
        ops.push(Op::Delete { key });
        if last {
            ops.push(Op::Delete { key: RECORD.to_owned() });
        }
        let compares = vec![Compare::ModRevision(RECORD.to_owned(), record)];
        match store.txn(Txn { compares, ops }).await? {
            TxnOutcome::Committed(at) => revision = at,
            TxnOutcome::Conflict(_) => {
                let why = "someone else rolled the staged change forward: one process at a time may";
                return Err(Error::BadKey { key: RECORD.to_owned(), why });
            }
        }
    }
    Ok(revision)
}

/// Deletes the keys under a prefix; gives how many there were.
async fn discard(store: &dyn Store, prefix: &str) -> Result<usize, Error> {
    let found = store.range(prefix).await?;
    for items in found.items.chunks(TXN_OPS_MAX) {
        let ops = items.iter().map(|item| Op::Delete { key: item.key.to_string() }).collect();
        store.txn(Txn { compares: vec![], ops }).await?;
    }
    Ok(found.items.len())
}

fn parse_record(bytes: &[u8]) -> Result<Record, Error> {
    let damaged = |why| Error::Damaged { path: RECORD.to_owned(), why };
    let record: Record = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if record.format > FORMAT {
        let (found, known) = (record.format.into(), FORMAT.into());
        return Err(Error::Newer { path: RECORD.to_owned(), found, known });
    }
    Ok(record)
}

/// Each operation: key length (u32), key, 1 and value length (u32) and value, or 0 for a deletion; little-endian.
fn encode(ops: &[Op]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = |part: &[u8]| u32::try_from(part.len()).expect("an operation fits a transaction").to_le_bytes();
    for op in ops {
        bytes.extend(length(op.key().as_bytes()));
        bytes.extend_from_slice(op.key().as_bytes());
        match op {
            Op::Put { value, .. } => {
                bytes.push(1);
                bytes.extend(length(value));
                bytes.extend_from_slice(value);
            }
            Op::Delete { .. } => bytes.push(0),
        }
    }
    bytes
}

fn decode(chunk: &str, mut bytes: &[u8]) -> Result<Vec<Op>, Error> {
    fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        Some(part)
    }
    fn op(bytes: &mut &[u8]) -> Option<Op> {
        let key = std::str::from_utf8(part(bytes)?).ok()?.to_owned();
        let (put, rest) = bytes.split_first()?;
        *bytes = rest;
        match put {
            1 => Some(Op::Put { key, value: part(bytes)?.to_vec(), lease: None }),
            0 => Some(Op::Delete { key }),
            _ => None,
        }
    }
    let mut ops = Vec::new();
    while !bytes.is_empty() {
        let why = || "an operation of the chunk is malformed".to_owned();
        ops.push(op(&mut bytes).ok_or_else(|| Error::Damaged { path: chunk.to_owned(), why: why() })?);
    }
    Ok(ops)
}
