//! The hot store: every series of the last hours in memory, compressed; sealed hours on disk; shared by all who write and read.
//!
//! Sixteen shards under a lock each, so that writers do not wait for one another and a reader holds a lock only while it
//! takes compressed parts out. What happens at each bound:
//!
//! - a series more than [`Limits::series_max`], or than [`Limits::source_series_max`] of one source: refused and counted,
//!   those that exist live on. A series that was quiet for [`Limits::idle_ms_max`] and is on disk leaves memory;
//! - memory beyond [`Limits::memory_bytes_max`]: no new series; then the oldest hours that are on disk leave memory; and
//!   when that does not suffice, as with a full disk, the oldest that are not, counted as lost;
//! - a point too old, too new, out of order, or another one at its time: refused and counted by reason;
//! - a read of too many series or points: refused whole, never cut ([`TooMuch`]).
//!
//! Absent: downsampling, and anything older than [`Limits::disk_ms`]; remote write to a database is for that.

mod bits;
mod block;
mod chunk;
mod copy;
mod disk;
mod hash;
mod head;
mod index;
mod journal;
mod keeper;
mod labels;
mod log;
mod matcher;
mod pack;
mod read;
mod recover;
mod refused;
mod remote;
mod shard;
#[cfg(test)]
mod tests;
mod upkeep;

pub use bits::Damaged;
pub use block::Fault;
pub use copy::Copied;
pub use head::{HOUR_MS, LATE_POINTS_MAX};
pub use keeper::Keeper;
pub use labels::{BadLabels, LABELS_MAX, NAME, NAME_BYTES_MAX, VALUE_BYTES_MAX};
pub use matcher::{Matcher, Op};
pub use read::{POINTS_SELECT_MAX, SERIES_SELECT_MAX, TooMuch};
pub use recover::OpenError;
pub use refused::{REASONS, Refused};
pub use remote::{BODY_BYTES_MAX, Malformed, PLAIN_BYTES_MAX, Written};
pub use upkeep::{LOG_BYTES_MAX, LOG_SYNC_MS, SEAL_GRACE_MS, SNAPSHOT_MS};

use disk::Disk;
pub(crate) use hash::Key;
use hash::Secret;
use index::Slot;
use refused::Counts;
use shard::{Shard, Source};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts under a lock of their own.
pub(crate) const SHARDS: usize = 16;

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Series in memory at the same time.
    pub series_max: usize,
    /// Series of one source at the same time.
    pub source_series_max: usize,
    /// Bytes of memory, about.
    pub memory_bytes_max: usize,
    /// Time that points stay in memory.
    pub memory_ms: u64,
    /// Time without a point after which a series leaves memory, once it is on disk.
    pub idle_ms_max: u64,
    /// Time that sealed hours stay on disk.
    pub disk_ms: u64,
    /// Bytes of sealed hours on disk; the oldest go first.
    pub disk_bytes_max: u64,
    /// How far back in time a point may lie.
    pub age_ms_max: u64,
    /// How far ahead a point may lie: clocks are minutes off.
    pub ahead_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 1_000_000,
            source_series_max: 100_000,
            memory_bytes_max: 2 << 30,
            memory_ms: 3 * HOUR_MS,
            idle_ms_max: 15 * 60_000,
            disk_ms: 48 * HOUR_MS,
            disk_bytes_max: 16 << 30,
            age_ms_max: 3 * HOUR_MS,
            ahead_ms_max: 10 * 60_000,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    pub(crate) limits: Limits,
    secret: Secret,
    pub(crate) shards: [Mutex<Shard>; SHARDS],
    sources: Mutex<HashMap<Arc<str>, Arc<Source>>>,
    /// Series in memory.
    pub(crate) series: AtomicUsize,
    pub(crate) counts: Counts,
    /// Time of the newest point.
    pub(crate) newest_ms: AtomicU64,
    /// Memory is short: no new series.
    pub(crate) short: AtomicBool,
    /// Bytes of memory, as counted last.
    pub(crate) memory_bytes: AtomicU64,
    /// Points that left memory before they were on disk.
    pub(crate) lost: AtomicU64,
    disk: Option<Disk>,
    state: Mutex<upkeep::State>,
}

impl Store {
    /// A store that keeps nothing on disk.
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            limits,
            secret: Secret::random(),
            shards: Default::default(),
            sources: Mutex::default(),
            series: AtomicUsize::new(0),
            counts: Counts::default(),
            newest_ms: AtomicU64::new(0),
            short: AtomicBool::new(false),
            memory_bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            disk: None,
            state: Mutex::default(),
        }
    }

    /// Adds a point; `source` is whose series it is, for the bound of series a source. The empty source has no such bound:
    /// it is this program itself.
    pub fn append(
        &self,
        source: &str,
        name: &str,
        labels: &[(&str, &str)],
        time_ms: u64,
        value: f64,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let mut all: Vec<(&str, &str)> = Vec::with_capacity(labels.len() + 1);
        all.push((NAME, name));
        all.extend_from_slice(labels);
        let done = self.append_labels(source, &mut all, time_ms, value, now_ms);
        done.map(|_| ()).inspect_err(|why| self.counts.add(*why, 1))
    }

    /// Adds a point of this program's own, as [`Store::append`] does. `key` is what the caller keeps from one point of a
    /// series to the next: where the series is known, its labels are not looked at.
    pub(crate) fn append_own<'a>(
        &self,
        key: &mut Option<Key>,
        name: &'a str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        time_ms: u64,
        value: f64,
    ) -> Result<(), Refused> {
        if let Some(done) = key.and_then(|key| self.append_known(key, time_ms, value)) {
            return done.inspect_err(|why| self.counts.add(*why, 1));
        }
        let mut all: Vec<(&str, &str)> = [(NAME, name)].into_iter().chain(labels).collect();
        let done = self.append_labels("", &mut all, time_ms, value, time_ms);
        *key = done.ok();
        done.map(|_| ()).inspect_err(|why| self.counts.add(*why, 1))
    }

    /// Adds a point to a series in memory; `None` when it is not there.
    fn append_known(&self, key: Key, time_ms: u64, value: f64) -> Option<Result<(), Refused>> {
        let mut shard = self.shard(key);
        let slot = shard.find(key)?;
        let done = self.timely(time_ms, time_ms).and_then(|()| shard.push(slot, time_ms, tidy(value)));
        drop(shard);
        if done.is_ok() {
            self.newest_ms.fetch_max(time_ms, Relaxed);
        }
        Some(done)
    }

    fn append_labels(
        &self,
        source: &str,
        labels: &mut Vec<(&str, &str)>,
        time_ms: u64,
        value: f64,
        now_ms: u64,
    ) -> Result<Key, Refused> {
        self.timely(time_ms, now_ms)?;
        let mut canonical = Vec::with_capacity(256);
        labels::canonical(labels, &mut canonical)?;
        let key = self.secret.key(&canonical);
        let mut shard = self.shard(key);
        let slot = match shard.find(key) {
            Some(slot) => slot,
            None => self.add(&mut shard, key, &canonical, source)?,
        };
        shard.push(slot, time_ms, tidy(value))?;
        drop(shard);
        self.newest_ms.fetch_max(time_ms, Relaxed);
        Ok(key)
    }

    /// Whether a time is one that points may have.
    pub(crate) fn timely(&self, time_ms: u64, now_ms: u64) -> Result<(), Refused> {
        if time_ms == 0 || now_ms.saturating_sub(time_ms) > self.limits.age_ms_max {
            return Err(Refused::TooOld);
        }
        if time_ms.saturating_sub(now_ms) > self.limits.ahead_ms_max {
            return Err(Refused::TooNew);
        }
        Ok(())
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        self.lock(shard_of(key))
    }

    pub(crate) fn lock(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a series that is not there yet.
    fn add(&self, shard: &mut Shard, key: Key, canonical: &[u8], source: &str) -> Result<Slot, Refused> {
        if self.series.load(Relaxed) >= self.limits.series_max {
            return Err(Refused::TooManySeries);
        }
        if self.short.load(Relaxed) {
            return Err(Refused::Memory);
        }
        let source = self.source(source);
        if !source.name.is_empty() && source.series.load(Relaxed) >= self.limits.source_series_max {
            return Err(Refused::SourceFull);
        }
        self.series.fetch_add(1, Relaxed);
        Ok(shard.add(key, canonical, source))
    }

    fn source(&self, name: &str) -> Arc<Source> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        let new = Arc::new(Source { name: name.clone(), series: AtomicUsize::new(0) });
        sources.insert(name, new.clone());
        new
    }

    /// Forgets sources without a series.
    pub(crate) fn forget_sources(&self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, source| Arc::strong_count(source) > 1 || source.series.load(Relaxed) > 0);
        sources.shrink_to_fit();
    }

    /// Series in memory.
    pub fn series(&self) -> usize {
        self.series.load(Relaxed)
    }

    /// How the store is: name, kind, meaning and value.
    pub(crate) fn about(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
        let (mut points, mut unlogged) = (0, 0);
        for at in 0..SHARDS {
            let shard = self.lock(at);
            points += shard.points;
            unlogged += shard.unnoted;
        }
        let mut about = vec![
            ("springtide_series", "gauge", "Series in memory.", self.series() as u64),
            ("springtide_store_points_total", "counter", "Points taken into the series store.", points),
            (
                "springtide_store_memory_bytes",
                "gauge",
                "Memory of the series store, about.",
                self.memory_bytes.load(Relaxed),
            ),
            (
                "springtide_store_lost_points_total",
                "counter",
                "Points that left memory before they were on disk.",
                self.lost.load(Relaxed),
            ),
        ];
        let Some(disk) = &self.disk else { return about };
        let blocks = disk.blocks();
        let sum = |of: fn(&block::Block) -> u64| blocks.iter().map(|block| of(block)).sum::<u64>();
        about.extend([
            ("springtide_store_blocks", "gauge", "Sealed blocks on disk.", blocks.len() as u64),
            (
                "springtide_store_damaged_blocks",
                "gauge",
                "Sealed blocks of which a part cannot be read.",
                sum(|block| u64::from(block.is_damaged())),
            ),
            ("springtide_store_disk_bytes", "gauge", "Bytes of sealed blocks.", sum(|block| block.bytes)),
            ("springtide_store_disk_points", "gauge", "Points in sealed blocks.", sum(|block| block.header.points)),
            (
                "springtide_store_write_failures_total",
                "counter",
                "Writes that the disk refused.",
                disk.failures.load(Relaxed),
            ),
            (
                "springtide_store_failing",
                "gauge",
                "1 while the disk takes nothing: the series go on in memory only.",
                u64::from(disk.failing.load(Relaxed)),
            ),
            (
                "springtide_store_unlogged_points_total",
                "counter",
                "Points that reached no log, since the disk took nothing or was too slow.",
                unlogged + disk.unlogged.load(Relaxed),
            ),
        ]);
        about
    }

    /// How many points were refused, by reason.
    pub fn refused(&self) -> [(&'static str, u64); REASONS.len()] {
        self.counts.all()
    }
}

fn shard_of(key: Key) -> usize {
    (key.1 >> 32) as usize % SHARDS
}

/// A stale marker stays what it is, any other value that is no number becomes the one: equal values are equal bits.
pub(crate) fn tidy(value: f64) -> f64 {
    if value.is_nan() && value.to_bits() != STALE { f64::from_bits(NO_NUMBER) } else { value }
}

/// Prometheus' marker that a series ended here.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Prometheus' value that is no number.
const NO_NUMBER: u64 = 0x7ff8_0000_0000_0001;
