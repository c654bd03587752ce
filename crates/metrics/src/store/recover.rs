//! Opening a store: sealed hours are found, the head's snapshot is taken in, the log is replayed over it.
//!
//! A file that is damaged is told once, with the byte; everything before that byte, and every other file, is served.

use super::block::{Block, Fault};
use super::chunk::Data;
use super::disk::{Disk, ENDING, head_path};
use super::index::Slot;
use super::journal::{self, Note};
use super::labels;
use super::log::{self, Segment};
use super::{Limits, SHARDS, Store};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the series' folder {}: {source}", folder.display())]
pub struct OpenError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// A shard of an earlier process and a number there → a series here.
type Known = HashMap<(u8, Slot), (usize, Slot)>;

impl Store {
    /// Opens a store whose sealed hours, snapshot and log lie in a folder; makes it when it is not there. A disk that is
    /// full does not keep it from opening.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, OpenError> {
        let failed = |source| OpenError { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let (blocks, next_block) = find_blocks(folder).map_err(failed)?;
        let segments = log::segments(folder).map_err(failed)?;
        let heads = log::numbered(folder, "head-", ENDING).map_err(failed)?;
        let mut store = Self::in_memory(limits);
        let head = heads.iter().rev().find(|number| store.restore(&head_path(folder, **number))).copied();
        let replayed = segments.iter().filter(|number| **number >= head.unwrap_or(0));
        replayed.for_each(|number| store.replay(&log::path_of(folder, *number)));
        let number = segments.iter().chain(&heads).max().copied().unwrap_or(0) + 1;
        let segment = Segment::create(folder, number);
        let disk = Disk::new(folder, blocks, None, number, next_block);
        match segment {
            Ok(segment) => {
                disk.log().segment = Some(segment);
                (0..SHARDS).for_each(|at| store.lock(at).segment = number);
            }
            Err(error) => disk.failed("the log cannot be begun", &error),
        }
        // The next snapshot takes in what this start had to replay.
        disk.hole.store(segments.iter().any(|number| *number >= head.unwrap_or(0)), Relaxed);
        store.disk = Some(disk);
        Ok(store)
    }

    /// Takes a snapshot of the head in; says whether it could be read at all.
    fn restore(&self, path: &Path) -> bool {
        let opened = Block::open(path, false).and_then(|block| block.read_index().map(|index| (block, index)));
        let (block, index) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                tell(&fault, "a snapshot of the head cannot be read: an older one and the log are taken");
                return false;
            }
        };
        for at in 0..index.len() {
            let (source, labels, places) = index.series(at);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            let Some((shard, slot)) = self.find_or_add(source, labels) else { continue };
            for place in places {
                let mut points = Vec::new();
                let read = block.chunk(&index, place).and_then(|chunk| match chunk.data {
                    Data::Coded { .. } => Ok(Some(chunk)),
                    Data::Packs(_) => {
                        chunk.read(&mut points).map(|()| None).map_err(|error| block.damaged_at(place, error))
                    }
                });
                let mut shard = self.lock(shard);
                match read {
                    Ok(Some(chunk)) => {
                        self.newest_ms.fetch_max(chunk.last_ms, Relaxed);
                        shard.head(slot).expect("just found").restore(chunk);
                    }
                    Ok(None) => self.push_all(&mut shard, slot, points.into_iter()),
                    Err(fault) => block.tell(&fault),
                }
            }
        }
        true
    }

    fn push_all(&self, shard: &mut super::shard::Shard, slot: Slot, points: impl Iterator<Item = (u64, f64)>) {
        for (time_ms, value) in points {
            // What the snapshot has already is met again in the log, and refused.
            if shard.push(slot, time_ms, value).is_ok() {
                self.newest_ms.fetch_max(time_ms, Relaxed);
            }
        }
    }

    fn find_or_add(&self, source: &str, mut labels: Vec<(&str, &str)>) -> Option<(usize, Slot)> {
        let mut canonical = Vec::new();
        labels::canonical(&mut labels, &mut canonical).ok()?;
        let key = self.secret.key(&canonical);
        let at = super::shard_of(key);
        let mut shard = self.lock(at);
        let slot = match shard.find(key) {
            Some(slot) => Ok(slot),
            None => self.add(&mut shard, key, &canonical, source),
        };
        slot.map_err(|why| self.counts.add(why, 1)).ok().map(|slot| (at, slot))
    }

    fn replay(&self, path: &Path) {
        let mut known = Known::new();
        let fault = log::read(path, |shard, notes| {
            for note in journal::read(notes) {
                match note.map_err(|error| error.to_string())? {
                    Note::Define { slot, source, labels } => {
                        let labels: Result<Vec<_>, _> = labels::decode(labels).collect();
                        let labels = labels.map_err(|error| error.to_string())?;
                        match self.find_or_add(source, labels) {
                            Some(found) => known.insert((shard, slot), found),
                            None => known.remove(&(shard, slot)),
                        };
                    }
                    Note::Point { slot, time_ms, value } => {
                        let Some((shard, slot)) = known.get(&(shard, slot)) else { continue };
                        self.push_all(&mut self.lock(*shard), *slot, std::iter::once((time_ms, value)));
                    }
                }
            }
            Ok(())
        });
        if let Some(fault) = fault {
            tell(&fault, "the log ends here: what lies before was taken in");
        }
    }
}

fn tell(fault: &Fault, what: &str) {
    tracing::error!(%fault, "{what}");
}

/// Finds sealed hours, and removes what was being written when a process died.
fn find_blocks(folder: &Path) -> io::Result<(Vec<Arc<Block>>, u64)> {
    let (mut blocks, mut next) = (Vec::new(), 1);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "new") {
            std::fs::remove_file(&path)?;
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
        let number = name.split_once('-').and_then(|(first, number)| {
            first.parse::<u64>().ok()?;
            number.parse::<u64>().ok()
        });
        let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == ENDING)) else { continue };
        next = next.max(number + 1);
        match Block::open(&path, false) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(fault) => tell(&fault, "a sealed hour cannot be read and is left out: every other one is served"),
        }
    }
    blocks.sort_by_key(|block| block.header.first_ms);
    Ok((blocks, next))
}
