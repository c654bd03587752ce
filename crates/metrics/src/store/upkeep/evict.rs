//! Holding memory within its bound: by age, then hours that are on disk, then, when the disk takes nothing, hours that are not.

use super::super::disk::Disk;
use super::super::index::Slot;
use super::super::{HOUR_MS, SHARDS, Store};
use super::State;
use std::sync::atomic::Ordering::Relaxed;

/// Time between sealings before an hour's end, for want of room.
const EARLY_MS: u64 = 5 * 60_000;
/// Time between looks at every series, while there is room.
const EVICT_MS: u64 = 30_000;
/// Age of points that such a sealing takes.
const EARLY_AGE_MS: u64 = 60_000;

impl Store {
    /// Drops what is old, and what is too much.
    pub(super) fn evict(&self, state: &mut State, present_ms: u64, now_ms: u64) {
        let about: usize = (0..SHARDS).map(|at| self.lock(at).series_bytes).sum();
        let pressed = about > self.limits.memory_bytes_max / 8 * 7 || self.series() > self.limits.series_max / 4 * 3;
        if !pressed && now_ms.saturating_sub(state.evicted_ms) < EVICT_MS {
            return;
        }
        state.evicted_ms = now_ms;
        let mut horizon_ms = present_ms.saturating_sub(self.limits.memory_ms);
        self.drop_before(horizon_ms, self.disk.is_none());
        let crowded = self.series() > self.limits.series_max / 4 * 3;
        let mut bytes = self.count_bytes();
        let full = bytes > self.limits.memory_bytes_max;
        if let Some(disk) = self.disk.as_ref().filter(|_| full || crowded)
            && now_ms.saturating_sub(state.early_ms) >= EARLY_MS
        {
            state.early_ms = now_ms;
            let end_ms = present_ms.saturating_sub(EARLY_AGE_MS);
            let sealed_until_ms = state.sealed_until_ms;
            let sealed = self.seal(disk, state, end_ms, now_ms);
            state.sealed_until_ms = sealed_until_ms;
            if sealed {
                self.snapshot_if_due(disk, state, true, now_ms);
            }
        }
        while self.disk.is_some() && bytes > self.limits.memory_bytes_max && horizon_ms < present_ms {
            horizon_ms = (horizon_ms + HOUR_MS / 4).min(present_ms);
            self.drop_before(horizon_ms, false);
            bytes = self.count_bytes();
        }
        if bytes > self.limits.memory_bytes_max {
            bytes = self.drop_unsealed(present_ms);
        }
        self.forget(present_ms, crowded || full);
        self.short.store(bytes > self.limits.memory_bytes_max / 8 * 7, Relaxed);
        self.memory_bytes.store(bytes as u64, Relaxed);
    }

    fn count_bytes(&self) -> usize {
        (0..SHARDS).map(|at| self.lock(at).count_bytes()).sum()
    }

    /// Drops chunks that ended before a time and are on disk; or all of them.
    fn drop_before(&self, horizon_ms: u64, unsealed: bool) {
        if let Some(disk) = &self.disk {
            // Readers look into memory first, then into blocks that are not all in memory: so the mark goes first.
            leave_memory(disk, horizon_ms);
        }
        for at in 0..SHARDS {
            self.each_batch(at, |shard, slot| {
                if let Some(head) = shard.head(slot) {
                    head.drop_before(horizon_ms, unsealed);
                }
            });
        }
    }

    /// Drops closed chunks that no block has, oldest first, and says how many points that cost.
    fn drop_unsealed(&self, present_ms: u64) -> usize {
        let mut bytes = self.count_bytes();
        let mut horizon_ms = present_ms.saturating_sub(self.limits.memory_ms);
        let mut lost = 0;
        while bytes > self.limits.memory_bytes_max && horizon_ms < present_ms {
            horizon_ms = (horizon_ms + HOUR_MS / 4).min(present_ms);
            for at in 0..SHARDS {
                self.each_batch(at, |shard, slot| {
                    lost += shard.head(slot).map_or(0, |head| head.drop_before(horizon_ms, true));
                });
            }
            bytes = self.count_bytes();
        }
        if lost > 0 {
            self.lost.fetch_add(lost, Relaxed);
            tracing::error!(points = lost, "memory is full and the disk takes nothing: the oldest points are lost");
        }
        bytes
    }

    /// Forgets series that have nothing left in memory; under pressure also quiet ones whose points are all on disk.
    fn forget(&self, present_ms: u64, pressed: bool) {
        let quiet_ms = present_ms.saturating_sub(self.limits.idle_ms_max);
        for at in 0..SHARDS {
            let mut gone: Vec<Slot> = Vec::new();
            let mut until_ms = 0;
            self.each_batch(at, |shard, slot| {
                let Some(head) = shard.head(slot) else { return };
                let quiet = head.newest_ms().is_none_or(|newest| newest < quiet_ms);
                if quiet && (head.oldest_ms().is_none() || pressed && (head.is_sealed() || self.disk.is_none())) {
                    gone.push(slot);
                    until_ms = until_ms.max(head.newest_ms().map_or(0, |newest| newest + 1));
                }
            });
            if gone.is_empty() {
                continue;
            }
            if let Some(disk) = &self.disk {
                leave_memory(disk, until_ms);
            }
            let mut shard = self.lock(at);
            // A point may have come since it was looked at.
            gone.retain(|slot| {
                shard.head(*slot).is_some_and(|head| head.newest_ms().is_none_or(|newest| newest < quiet_ms))
            });
            shard.remove(&gone);
            self.series.fetch_sub(gone.len(), Relaxed);
        }
        self.forget_sources();
    }
}

/// Readers look into blocks that begin before a time from now on.
fn leave_memory(disk: &Disk, before_ms: u64) {
    for block in disk.blocks().iter().filter(|block| block.header.first_ms < before_ms) {
        block.in_memory.store(false, Relaxed);
    }
}
