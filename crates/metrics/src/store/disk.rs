//! What the store has on disk: `wal-N.log`, `head-N.blk` (what was in memory when segment N began) and `BEGIN-N.blk`, sealed hours.

use super::block::{Block, BlockIndex, Fault};
use super::log::Segment;
use super::matcher::Condition;
use super::read::{Gathered, POINTS_SELECT_MAX, SERIES_SELECT_MAX, TEXTS_MAX, TooMuch};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Bytes of the indexes of blocks that are kept after they were read.
const INDEXES_BYTES_MAX: usize = 128 << 20;

/// The log as it is now.
#[derive(Debug)]
pub(crate) struct Log {
    /// None while the disk takes nothing.
    pub(crate) segment: Option<Segment>,
    /// Number of the newest segment that was begun.
    pub(crate) number: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    blocks: RwLock<Vec<Arc<Block>>>,
    indexes: Mutex<VecDeque<(PathBuf, Arc<BlockIndex>)>>,
    pub(crate) log: Mutex<Log>,
    /// Number of the next block.
    pub(crate) next_block: AtomicU64,
    /// The log has a hole: a snapshot of the head is due.
    pub(crate) hole: AtomicBool,
    /// The disk takes nothing.
    pub(crate) failing: AtomicBool,
    pub(crate) failures: AtomicU64,
    /// Points that a crash now would lose, though more than a second old.
    pub(crate) unlogged: AtomicU64,
}

/// Ending of blocks and of snapshots.
pub(crate) const ENDING: &str = "blk";

pub(crate) fn head_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("head-{number:08}.{ENDING}"))
}

impl Disk {
    pub(crate) fn new(
        folder: &Path,
        blocks: Vec<Arc<Block>>,
        segment: Option<Segment>,
        number: u32,
        next: u64,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            blocks: RwLock::new(blocks),
            indexes: Mutex::default(),
            log: Mutex::new(Log { segment, number }),
            next_block: AtomicU64::new(next),
            hole: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            unlogged: AtomicU64::new(0),
        }
    }

    pub(crate) fn block_path(&self, first_ms: u64, number: u64) -> PathBuf {
        self.folder.join(format!("{first_ms}-{number}.{ENDING}"))
    }

    /// All blocks, oldest first.
    pub(crate) fn blocks(&self) -> Vec<Arc<Block>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, block: Block) {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        blocks.push(Arc::new(block));
        blocks.sort_by_key(|block| block.header.first_ms);
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the disk refused, once for each time that it does.
    pub(crate) fn failed(&self, what: &str, error: &io::Error) {
        self.failures.fetch_add(1, Relaxed);
        if !self.failing.swap(true, Relaxed) {
            tracing::error!(%error, folder = %self.folder.display(), "{what}: the series go on in memory, and a crash would lose what is not on disk");
        }
    }

    /// Says that it takes again.
    pub(crate) fn recovered(&self) {
        if self.failing.swap(false, Relaxed) {
            tracing::info!(folder = %self.folder.display(), "the disk takes the series again");
        }
    }

    /// Removes blocks that ended before a time, and the oldest while all together take too much.
    pub(crate) fn expire(&self, before_ms: u64, bytes_max: u64) {
        let mut gone = Vec::new();
        {
            let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
            let mut bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
            blocks.retain(|block| {
                let old = block.header.last_ms < before_ms;
                if !old && bytes > bytes_max {
                    tracing::warn!(block = %block.path.display(), bytes_max, "sealed hours take too much of the disk: the oldest goes");
                }
                let goes = old || bytes > bytes_max;
                if goes {
                    bytes -= block.bytes;
                    gone.push(block.path.clone());
                }
                !goes
            });
        }
        for path in gone {
            self.indexes.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != path);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(block = %path.display(), %error, "a block cannot be removed");
            }
        }
    }

    /// The index of a block, kept for the next reader while there is room.
    pub(crate) fn index(&self, block: &Block) -> Result<Arc<BlockIndex>, Fault> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = indexes.iter().position(|(path, _)| *path == block.path) {
            let known = indexes.remove(at).expect("just found");
            let index = known.1.clone();
            indexes.push_back(known);
            return Ok(index);
        }
        drop(indexes);
        let index = Arc::new(block.read_index()?);
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.push_back((block.path.clone(), index.clone()));
        let mut bytes: usize = indexes.iter().map(|(_, index)| index.bytes()).sum();
        while bytes > INDEXES_BYTES_MAX && indexes.len() > 1 {
            bytes -= indexes.pop_front().map_or(0, |(_, index)| index.bytes());
        }
        Ok(index)
    }

    /// Blocks that a reader must look into: those that overlap the range and are not all in memory.
    fn to_read(&self, from_ms: u64, to_ms: u64) -> Vec<(Arc<Block>, Arc<BlockIndex>)> {
        let blocks = self.blocks().into_iter().filter(|block| {
            block.header.first_ms <= to_ms && block.header.last_ms >= from_ms && !block.in_memory.load(Relaxed)
        });
        let read = |block: Arc<Block>| match self.index(&block) {
            Ok(index) => Some((block, index)),
            Err(fault) => {
                block.tell(&fault);
                None
            }
        };
        blocks.filter_map(read).collect()
    }

    /// Adds what the blocks have of a range.
    pub(crate) fn select(
        &self,
        conditions: &[Condition],
        from_ms: u64,
        to_ms: u64,
        points: &mut usize,
        gathered: &mut Gathered,
    ) -> Result<(), TooMuch> {
        for (block, index) in self.to_read(from_ms, to_ms) {
            for at in index.select(conditions) {
                let (_, labels, places) = index.series(at);
                let mut run = Vec::new();
                for place in places.iter().filter(|place| place.first_ms <= to_ms && place.last_ms >= from_ms) {
                    *points += usize::from(place.points);
                    if *points > POINTS_SELECT_MAX {
                        return Err(TooMuch::Points);
                    }
                    let begin = run.len();
                    let chunk = block.chunk(&index, place);
                    let read =
                        chunk.and_then(|chunk| chunk.read(&mut run).map_err(|error| block.damaged_at(place, error)));
                    if let Err(fault) = read {
                        run.truncate(begin);
                        block.tell(&fault);
                    }
                }
                run.retain(|(time, _)| (from_ms..=to_ms).contains(time));
                if !run.is_empty() {
                    gathered.entry(labels).or_default().push(run);
                }
                if gathered.len() > SERIES_SELECT_MAX {
                    return Err(TooMuch::Series);
                }
            }
        }
        Ok(())
    }

    /// Adds names or values of labels that the blocks have.
    pub(crate) fn texts(
        &self,
        conditions: &[Condition],
        from_ms: u64,
        to_ms: u64,
        values_of: Option<&str>,
        to: &mut BTreeSet<Arc<str>>,
    ) -> Result<(), TooMuch> {
        for (_, index) in self.to_read(from_ms, to_ms) {
            for at in index.select(conditions) {
                for (name, value) in index.series(at).1 {
                    match values_of {
                        None => to.insert(name),
                        Some(label) if label == &*name => to.insert(value),
                        Some(_) => continue,
                    };
                }
                if to.len() > TEXTS_MAX {
                    return Err(TooMuch::Texts);
                }
            }
        }
        Ok(())
    }
}
