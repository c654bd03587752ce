//! Taking over a slot whose process is gone: what it holds moves into this process's own log, and the slot is free again.
//!
//! The slot's files go only once everything is synced in the own log. A crash before leaves items in both; whoever takes
//! over next knows them by their ids, whichever of the two logs is its own. None is ever in neither.

use super::index::{Index, Standing};
use super::log::{self, Log};
use super::segment::{self, Died, Done, Event, Put, Record, disk};
use crate::{Error, Item};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of items that move with one sync; others' requests are written in between.
const CHUNK_BYTES_MAX: u64 = 1024 * 1024;
/// Done items that move with one sync.
const CHUNK_DONE_MAX: usize = 4_096;
/// Number of a done item that has no record of its own in the log: no item ever gets it.
const NOBODY: u64 = u64::MAX;

/// A part of what another log held.
#[derive(Default)]
pub struct Chunk {
    /// Waiting and dead items, in order, and why they died.
    pub items: Vec<(Item, Option<Died>)>,
    /// What is known of items that were delivered.
    pub done: Vec<Done>,
}

/// The records by which a log with this index takes a chunk; those it has already are left out, unless the other log knows
/// how they ended. New items are numbered from `seq` on.
pub fn records(index: &Index, mut seq: u64, chunk: Chunk) -> Vec<Record> {
    let mut records = Vec::new();
    for done in chunk.done {
        match index.standing(&done.id) {
            Standing::Done => {}
            Standing::Waiting(seq) | Standing::Dead(seq) => records.push(Event::Done(Done { seq, ..done }).into()),
            Standing::Unknown => records.push(Event::Done(Done { seq: NOBODY, ..done }).into()),
        }
    }
    for (item, died) in chunk.items {
        let here = match index.standing(&item.id) {
            Standing::Done | Standing::Dead(_) => continue,
            Standing::Waiting(here) => here,
            Standing::Unknown => {
                records.push(Event::Put(Put { seq, item }).into());
                seq += 1;
                seq - 1
            }
        };
        records.extend(died.map(|died| Event::Died(Died { seq: here, ..died }).into()));
    }
    records
}

/// Moves what the slot at `path` holds, whose `lock` is held, to `own`; then removes the slot. Returns the items moved.
/// Ends early, with the slot as it was, when told to `stop`.
pub fn take_over(path: &Path, lock: File, own: &Log, stop: &AtomicBool) -> Result<u64, Error> {
    let index = log::read(path)?;
    for done in index.all_done().chunks(CHUNK_DONE_MAX) {
        own.inherit(Chunk { done: done.to_vec(), ..Chunk::default() }, stop)?;
    }
    let (mut chunk, mut bytes, mut moved) = (Chunk::default(), 0, 0);
    for (file, span, died) in index.all() {
        if bytes + span.bytes > CHUNK_BYTES_MAX {
            own.inherit(std::mem::take(&mut chunk), stop)?;
            bytes = 0;
        }
        chunk.items.push((segment::read_item(&file, span)?, died));
        bytes += span.bytes;
        moved += 1;
    }
    own.inherit(chunk, stop)?;
    if stop.load(Relaxed) {
        return Err(Error::Closed);
    }
    remove(path)?;
    // Not before: until here nobody else may open the slot.
    drop(lock);
    Ok(moved)
}

/// Oldest first: a `Done` must not go before its `Put`.
fn remove(path: &Path) -> Result<(), Error> {
    for number in segment::numbers(path)? {
        let path = segment::path_of(path, number);
        std::fs::remove_file(&path).map_err(disk("cannot remove", &path))?;
    }
    log::sync_folder(path)?;
    let at = path.join("lock");
    std::fs::remove_file(&at).map_err(disk("cannot remove", &at))?;
    // A folder with copies of damaged segments, or that another process has begun to use, stays.
    let _ = std::fs::remove_dir(path);
    Ok(())
}
