//! What is done beside reading and writing: the log each second; closed chunks compressed, hours sealed, the head
//! snapshotted, memory and disk held within their bounds every few seconds. Time is a parameter; [`super::Keeper`] has the clock.

mod evict;
mod seal;

use super::block::Draft;
use super::chunk::{Chunk, Coder};
use super::disk::{Disk, ENDING, Log, head_path};
use super::index::Slot;
use super::log::{self, Segment};
use super::{HOUR_MS, SHARDS, Store};
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

/// Time between writes of the log: a kill -9 or a loss of power loses at most the points of this time.
pub const LOG_SYNC_MS: u64 = 1_000;
/// Time after an hour's end in which late points still come; then it is sealed.
pub const SEAL_GRACE_MS: u64 = 120_000;
/// Time between snapshots of the head, when nothing else asks for one.
pub const SNAPSHOT_MS: u64 = 15 * 60_000;
/// Bytes of the log beyond which a snapshot is written sooner.
pub const LOG_BYTES_MAX: u64 = 512 << 20;
/// Time after which a snapshot that failed is tried again.
const RETRY_MS: u64 = 10_000;
/// Series looked at under one hold of a lock.
const BATCH: usize = 128;

/// What upkeep remembers from one round to the next.
#[derive(Debug, Default)]
pub(crate) struct State {
    coder: Coder,
    /// Hours before this are sealed, but for what came late.
    sealed_until_ms: u64,
    snapshot_ms: u64,
    tried_ms: u64,
    /// When hours were last sealed for want of room, before their end.
    early_ms: u64,
    /// When every series was last looked at.
    evicted_ms: u64,
}

impl Store {
    /// Writes what was noted since the last call into the log, and syncs it. Call it each [`LOG_SYNC_MS`].
    pub fn flush(&self) {
        let Some(disk) = &self.disk else { return };
        let mut log = disk.log();
        let written = self.write_log(disk, &mut log);
        self.note_log(disk, &mut log, written);
    }

    fn note_log(&self, disk: &Disk, log: &mut Log, written: io::Result<()>) {
        match written {
            Ok(()) => disk.recovered(),
            Err(error) => {
                log.segment = None;
                disk.hole.store(true, Relaxed);
                disk.failed("the log cannot be written", &error);
            }
        }
    }

    fn write_log(&self, disk: &Disk, log: &mut Log) -> io::Result<()> {
        if log.segment.is_none() {
            self.begin_segment(disk, log)?;
        }
        let segment = log.segment.as_mut().expect("just begun, or there");
        let mut spare = Vec::new();
        for at in 0..SHARDS {
            let (notes, points) = self.lock(at).take_notes(std::mem::take(&mut spare));
            if !notes.is_empty() {
                segment.append(at as u8, &notes).inspect_err(|_| self.lost_notes(disk, points))?;
            }
            spare = notes;
            spare.clear();
            spare.shrink_to(1 << 20);
        }
        segment.sync()
    }

    fn lost_notes(&self, disk: &Disk, points: u64) {
        disk.unlogged.fetch_add(points, Relaxed);
    }

    /// Begins a new segment after the disk refused: what was noted meanwhile is dropped, since its series may not be
    /// defined; the snapshot that is due has it.
    fn begin_segment(&self, disk: &Disk, log: &mut Log) -> io::Result<()> {
        let number = log.number + 1;
        let made = Segment::create(&disk.folder, number);
        for at in 0..SHARDS {
            let mut shard = self.lock(at);
            let (_, points) = shard.take_notes(Vec::new());
            shard.segment = number;
            self.lost_notes(disk, points);
        }
        log.segment = Some(made?);
        log.number = number;
        Ok(())
    }

    /// Ends the running segment and begins the next; everything noted before is in the old one.
    fn rotate(&self, disk: &Disk) -> io::Result<u32> {
        let mut log = disk.log();
        if log.segment.is_none() {
            self.begin_segment(disk, &mut log)?;
            return Ok(log.number);
        }
        let number = log.number + 1;
        let next = Segment::create(&disk.folder, number)?;
        let ended = self.end_segment(&mut log, number);
        log.segment = Some(next);
        log.number = number;
        if ended.is_err() {
            disk.hole.store(true, Relaxed);
        }
        ended.map(|()| number)
    }

    fn end_segment(&self, log: &mut Log, next: u32) -> io::Result<()> {
        let segment = log.segment.as_mut().expect("looked at by `rotate`");
        let mut ended = Ok(());
        for at in 0..SHARDS {
            let mut shard = self.lock(at);
            let (notes, _) = shard.take_notes(Vec::new());
            shard.segment = next;
            drop(shard);
            if !notes.is_empty() && ended.is_ok() {
                ended = segment.append(at as u8, &notes);
            }
        }
        ended.and_then(|()| segment.sync())
    }

    /// One round of everything but the log. Call it every few seconds.
    pub fn upkeep(&self, now_ms: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.code_pending(&mut state.coder);
        let present_ms = self.present_ms(now_ms);
        let end_ms = present_ms.saturating_sub(SEAL_GRACE_MS) / HOUR_MS * HOUR_MS;
        let mut sealed = false;
        if let Some(disk) = &self.disk {
            if end_ms > state.sealed_until_ms && now_ms >= state.tried_ms.saturating_add(RETRY_MS) {
                sealed = self.seal(disk, &mut state, end_ms, now_ms);
            }
            self.snapshot_if_due(disk, &mut state, sealed, now_ms);
        }
        self.evict(&mut state, present_ms, now_ms);
        if let Some(disk) = &self.disk {
            disk.expire(present_ms.saturating_sub(self.limits.disk_ms), self.limits.disk_bytes_max);
        }
    }

    /// The present as far as points tell it: a sender's clock that is early does not bring an hour to its end, and points
    /// that are sent later than they were measured do not find their hour sealed.
    fn present_ms(&self, now_ms: u64) -> u64 {
        self.newest_ms.load(Relaxed).min(now_ms)
    }

    /// Compresses chunks that were closed since the last round.
    fn code_pending(&self, coder: &mut Coder) {
        for at in 0..SHARDS {
            loop {
                let mut shard = self.lock(at);
                let left = shard.pending.len().saturating_sub(BATCH);
                let slots = shard.pending.split_off(left);
                let packed: Vec<(Slot, Chunk)> =
                    slots.iter().flat_map(|slot| shard.packed(*slot).into_iter().map(|chunk| (*slot, chunk))).collect();
                drop(shard);
                let coded: Vec<(Slot, Chunk)> =
                    packed.into_iter().map(|(slot, chunk)| (slot, seal::coded(&chunk, coder))).collect();
                let mut shard = self.lock(at);
                for (slot, chunk) in coded {
                    if let Some(head) = shard.head(slot) {
                        head.put_coded(chunk);
                    }
                }
                if left == 0 {
                    break;
                }
            }
        }
    }

    fn snapshot_if_due(&self, disk: &Disk, state: &mut State, sealed: bool, now_ms: u64) {
        if state.snapshot_ms == 0 {
            state.snapshot_ms = now_ms;
        }
        let bytes = disk.log().segment.as_ref().map_or(0, |segment| segment.bytes);
        let old = now_ms.saturating_sub(state.snapshot_ms) >= SNAPSHOT_MS && bytes > 1 << 10;
        let due = sealed || old || bytes > LOG_BYTES_MAX || disk.hole.load(Relaxed);
        if !due || now_ms < state.tried_ms.saturating_add(RETRY_MS) && !sealed {
            return;
        }
        state.tried_ms = now_ms;
        if self.snapshot(disk).is_ok() {
            state.snapshot_ms = now_ms;
        }
    }

    /// Writes everything that is in no block, and removes the log that led there; gives the snapshot's number.
    pub(super) fn snapshot(&self, disk: &Disk) -> io::Result<u32> {
        let written = self.write_snapshot(disk);
        match &written {
            Ok(_) => {
                disk.hole.store(false, Relaxed);
                disk.recovered();
            }
            Err(error) => disk.failed("a snapshot of the head cannot be written", error),
        }
        written
    }

    fn write_snapshot(&self, disk: &Disk) -> io::Result<u32> {
        let number = self.rotate(disk)?;
        let mut draft = Draft::default();
        for at in 0..SHARDS {
            self.each_batch(at, |shard, slot| {
                let chunks = shard.head(slot).map(|head| head.unsealed()).unwrap_or_default();
                if !chunks.is_empty() {
                    let source = shard.source(slot).expect("it has a head");
                    draft.add(&source, &shard.labels(slot), chunks);
                }
            });
        }
        draft.write(&head_path(&disk.folder, number))?;
        let gone = log::segments(&disk.folder)?.into_iter().map(|old| (old, log::path_of(&disk.folder, old)));
        let heads = log::numbered(&disk.folder, "head-", ENDING)?.into_iter();
        for (old, path) in gone.chain(heads.map(|old| (old, head_path(&disk.folder, old)))) {
            if old < number {
                std::fs::remove_file(path)?;
            }
        }
        Ok(number)
    }

    /// Shows each series of a shard, letting go of the lock between batches.
    fn each_batch(&self, at: usize, mut show: impl FnMut(&mut super::shard::Shard, Slot)) {
        let mut from = 0;
        loop {
            let mut shard = self.lock(at);
            let end = shard.slots_end().min(from + BATCH as Slot);
            for slot in from..end {
                if shard.head(slot).is_some() {
                    show(&mut shard, slot);
                }
            }
            if end == shard.slots_end() {
                return;
            }
            from = end;
        }
    }
}
