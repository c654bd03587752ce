//! Sealing: an hour that has ended becomes a file.

use super::super::block::{Block, Draft};
use super::super::chunk::{Chunk, Coder, Data};
use super::super::disk::Disk;
use super::super::head::CHUNK_POINTS_MAX;
use super::super::index::Slot;
use super::super::pack::Point;
use super::super::{HOUR_MS, SHARDS, Store};
use super::{BATCH, State};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

/// The chunk, compressed for good.
pub(super) fn coded(chunk: &Chunk, coder: &mut Coder) -> Chunk {
    let mut points = Vec::with_capacity(usize::from(chunk.points));
    chunk.read(&mut points).expect("packs in memory are whole");
    Chunk::code(&points, coder)
}

/// Puts the chunks of a series that are to be sealed into as few as may be, none across an hour.
fn gathered(chunks: &[Chunk], coder: &mut Coder) -> Vec<Chunk> {
    let mut points: Vec<Point> = Vec::new();
    chunks.iter().for_each(|chunk| chunk.read(&mut points).expect("chunks in memory are whole"));
    if points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        points.sort_by_key(|(time, _)| *time);
        points.dedup_by_key(|(time, _)| *time);
    }
    let hours = points.chunk_by(|left, right| left.0 / HOUR_MS == right.0 / HOUR_MS);
    hours.flat_map(|hour| hour.chunks(CHUNK_POINTS_MAX)).map(|some| Chunk::code(some, coder)).collect()
}

/// Whether chunks would be fewer when put together, or are not compressed yet.
fn loose(chunks: &[Chunk]) -> bool {
    let small = |pair: &[Chunk]| {
        pair[0].first_ms / HOUR_MS == pair[1].first_ms / HOUR_MS
            && usize::from(pair[0].points) + usize::from(pair[1].points) <= CHUNK_POINTS_MAX
    };
    chunks.iter().any(|chunk| matches!(chunk.data, Data::Packs(_))) || chunks.windows(2).any(small)
}

impl Store {
    /// Seals everything before `end_ms` that is in no block yet; says whether it is all on disk now.
    pub(super) fn seal(&self, disk: &Disk, state: &mut State, end_ms: u64, now_ms: u64) -> bool {
        let mut hours = BTreeSet::new();
        (0..SHARDS).for_each(|at| self.close_hours(at, end_ms, &mut state.coder, &mut hours));
        for hour in hours {
            if let Err(error) = self.seal_hour(disk, hour, end_ms) {
                state.tried_ms = now_ms;
                disk.failed("an hour cannot be sealed", &error);
                return false;
            }
        }
        state.sealed_until_ms = state.sealed_until_ms.max(end_ms);
        true
    }

    /// Closes and compresses what is to be sealed, and notes the hours met.
    fn close_hours(&self, at: usize, end_ms: u64, coder: &mut Coder, hours: &mut BTreeSet<u64>) {
        let mut from = 0;
        loop {
            let mut shard = self.lock(at);
            let end = shard.slots_end().min(from + BATCH as Slot);
            let mut work = Vec::new();
            for slot in from..end {
                let Some(head) = shard.head(slot) else { continue };
                head.close_until(end_ms);
                head.shrink();
                let chunks = head.to_seal(end_ms);
                hours.extend(chunks.iter().map(|chunk| chunk.first_ms / HOUR_MS));
                if loose(&chunks) {
                    work.push((slot, chunks));
                }
            }
            let done = end == shard.slots_end();
            drop(shard);
            let ready: Vec<_> =
                work.into_iter().map(|(slot, chunks)| (slot, gathered(&chunks, coder), chunks)).collect();
            let mut shard = self.lock(at);
            for (slot, new, old) in ready {
                if let Some(head) = shard.head(slot) {
                    head.replace(&old, new);
                }
            }
            if done {
                return;
            }
            from = end;
        }
    }

    fn seal_hour(&self, disk: &Disk, hour: u64, end_ms: u64) -> std::io::Result<()> {
        let number = disk.next_block.fetch_add(1, Relaxed);
        let mark = number as u32;
        let mut draft = Draft::default();
        for at in 0..SHARDS {
            self.each_batch(at, |shard, slot| {
                let chunks = shard.head(slot).map(|head| head.mark(hour, end_ms, mark)).unwrap_or_default();
                if !chunks.is_empty() {
                    let source = shard.source(slot).expect("it has a head");
                    draft.add(&source, &shard.labels(slot), chunks);
                }
            });
        }
        if draft.is_empty() {
            return Ok(());
        }
        let path = disk.block_path(hour * HOUR_MS, number);
        let opened = draft.write(&path).and_then(|_| Block::open(&path, true).map_err(std::io::Error::other));
        match opened {
            Ok(block) => {
                disk.add(block);
                Ok(())
            }
            Err(error) => {
                (0..SHARDS).for_each(|at| {
                    self.each_batch(at, |shard, slot| {
                        if let Some(head) = shard.head(slot) {
                            head.unmark(mark);
                        }
                    })
                });
                Err(error)
            }
        }
    }
}
