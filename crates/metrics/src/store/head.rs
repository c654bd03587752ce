//! What one series holds in memory: its newest points as they came, packs of the hour that runs, and closed chunks.
//!
//! Points may come a little late: among the newest [`LATE_POINTS_MAX`] a point finds its place; further back it is refused.
//! No chunk crosses an hour, so that an hour can be sealed by itself.

use super::chunk::{Chunk, Data};
use super::pack::{self, Point};
use super::refused::Refused;

/// Newest points kept as they came; then the older ones are packed.
const TAIL_POINTS_MAX: usize = 32;
/// Newest points that stay unpacked, so that a late one finds its place among them.
pub const LATE_POINTS_MAX: usize = 8;
/// Points of one chunk at most.
pub(crate) const CHUNK_POINTS_MAX: usize = 600;
/// Length of a sealed block, and what no chunk crosses.
pub const HOUR_MS: u64 = 3_600_000;

/// A point near its series' base.
#[derive(Debug, Clone, Copy)]
struct Near {
    after_ms: u32,
    /// The value's bits; as bytes, so that a point takes twelve.
    value: [u8; 8],
}

impl Near {
    fn point(self, base_ms: u64) -> Point {
        (base_ms + u64::from(self.after_ms), f64::from_le_bytes(self.value))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Head {
    base_ms: u64,
    tail: Vec<Near>,
    open: Vec<u8>,
    open_points: u16,
    open_first_ms: u64,
    /// Time of the newest packed point; 0: none yet.
    packed_ms: u64,
    pub(crate) chunks: Vec<Chunk>,
}

/// What a push did beside taking the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing.
    Taken,
    /// The very same point was there.
    Known,
    /// It closed a chunk, which can be compressed now.
    Closed,
}

/// A part of a series, taken out under the lock and read outside of it.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Chunk(Chunk),
    Packs(Vec<u8>),
    Points(Vec<Point>),
}

impl Head {
    /// Adds a point.
    pub(crate) fn push(&mut self, time_ms: u64, value: f64) -> Result<Pushed, Refused> {
        let newest = self.newest_ms();
        if newest.is_some_and(|newest| time_ms <= newest) {
            return self.push_late(time_ms, value);
        }
        let mut closed = Pushed::Taken;
        if self.tail.len() >= TAIL_POINTS_MAX {
            closed = self.pack(TAIL_POINTS_MAX - LATE_POINTS_MAX);
        }
        self.make_near(time_ms);
        self.grow();
        self.tail.push(Near { after_ms: (time_ms - self.base_ms) as u32, value: value.to_le_bytes() });
        Ok(closed)
    }

    /// Doubles from 8 to the whole tail: series with few points stay small.
    fn grow(&mut self) {
        if self.tail.len() == self.tail.capacity() {
            self.tail.reserve_exact(self.tail.len().clamp(8, 16));
        }
    }

    fn push_late(&mut self, time_ms: u64, value: f64) -> Result<Pushed, Refused> {
        let at = self.tail.partition_point(|near| self.base_ms + u64::from(near.after_ms) < time_ms);
        let there = self.tail.get(at).map(|near| near.point(self.base_ms)).filter(|(time, _)| *time == time_ms);
        if let Some((_, known)) = there {
            return if known.to_bits() == value.to_bits() { Ok(Pushed::Known) } else { Err(Refused::Duplicate) };
        }
        if time_ms <= self.packed_ms || self.tail.len() - at > LATE_POINTS_MAX {
            return Err(Refused::OutOfOrder);
        }
        let mut closed = Pushed::Taken;
        let mut at = at;
        if self.tail.len() >= TAIL_POINTS_MAX {
            let packed = TAIL_POINTS_MAX - LATE_POINTS_MAX;
            closed = self.pack(packed);
            at -= packed;
        }
        self.make_near(time_ms);
        self.grow();
        self.tail.insert(at, Near { after_ms: (time_ms - self.base_ms) as u32, value: value.to_le_bytes() });
        Ok(closed)
    }

    /// Moves the base so that a time can be written beside it.
    fn make_near(&mut self, time_ms: u64) {
        if self.tail.is_empty() {
            self.base_ms = time_ms;
        } else if time_ms < self.base_ms {
            let more = u32::try_from(self.base_ms - time_ms).unwrap_or(0);
            self.tail.iter_mut().for_each(|near| near.after_ms = near.after_ms.saturating_add(more));
            self.base_ms = time_ms;
        } else if time_ms - self.base_ms > u64::from(u32::MAX) {
            self.pack(self.tail.len());
            self.base_ms = time_ms;
        }
    }

    /// Time of the newest point.
    pub(crate) fn newest_ms(&self) -> Option<u64> {
        match self.tail.last() {
            Some(near) => Some(self.base_ms + u64::from(near.after_ms)),
            None => Some(self.packed_ms).filter(|newest| *newest > 0),
        }
    }

    /// Packs the oldest points of the tail.
    fn pack(&mut self, count: usize) -> Pushed {
        let mut pushed = Pushed::Taken;
        let mut points = [(0, 0.0); TAIL_POINTS_MAX];
        for (point, near) in points.iter_mut().zip(&self.tail[..count]) {
            *point = near.point(self.base_ms);
        }
        for run in points[..count].chunk_by(|left, right| left.0 / HOUR_MS == right.0 / HOUR_MS) {
            let other_hour = self.open_first_ms / HOUR_MS != run[0].0 / HOUR_MS;
            if self.open_points > 0 && (other_hour || usize::from(self.open_points) + run.len() > CHUNK_POINTS_MAX) {
                self.close();
                pushed = Pushed::Closed;
            }
            if self.open_points == 0 {
                self.open_first_ms = run[0].0;
            }
            // One point needs at most 10 bytes; what is left over is given back when the chunk closes.
            let room = self.open.capacity() - self.open.len();
            if room < run.len() * 10 {
                self.open.reserve_exact(run.len() * 10 + self.open.len() / 4);
            }
            pack::write(&mut self.open, run);
            self.open_points += run.len() as u16;
            self.packed_ms = run[run.len() - 1].0;
        }
        self.tail.drain(..count);
        if let Some(first) = self.tail.first().map(|near| near.after_ms) {
            self.base_ms += u64::from(first);
            self.tail.iter_mut().for_each(|near| near.after_ms -= first);
        }
        pushed
    }

    fn close(&mut self) {
        if self.open_points == 0 {
            return;
        }
        let packs = std::mem::take(&mut self.open);
        self.chunks.push(Chunk {
            first_ms: self.open_first_ms,
            last_ms: self.packed_ms,
            points: self.open_points,
            block: 0,
            data: Data::Packs(packs.as_slice().into()),
        });
        self.open_points = 0;
    }

    /// Closes what lies before `end_ms`: from then on earlier points are late.
    pub(crate) fn close_until(&mut self, end_ms: u64) {
        let count = self.tail.partition_point(|near| self.base_ms + u64::from(near.after_ms) < end_ms);
        if count > 0 {
            self.pack(count);
        }
        if self.open_points > 0 && self.packed_ms < end_ms {
            self.close();
        }
    }

    /// Gives memory back that a quiet series does not need.
    pub(crate) fn shrink(&mut self) {
        self.tail.shrink_to(self.tail.len());
        self.open.shrink_to(self.open.len());
        self.chunks.shrink_to(self.chunks.len());
    }

    /// Takes a chunk in that was read from a file; chunks come in order of time.
    pub(crate) fn restore(&mut self, chunk: Chunk) {
        self.packed_ms = self.packed_ms.max(chunk.last_ms);
        self.chunks.push(chunk);
    }

    /// The parts that overlap a time range.
    pub(crate) fn pieces(&self, from_ms: u64, to_ms: u64, to: &mut Vec<Piece>) -> usize {
        let mut points = 0;
        for chunk in self.chunks.iter().filter(|chunk| chunk.first_ms <= to_ms && chunk.last_ms >= from_ms) {
            points += usize::from(chunk.points);
            to.push(Piece::Chunk(chunk.clone()));
        }
        if self.open_points > 0 && self.open_first_ms <= to_ms && self.packed_ms >= from_ms {
            points += usize::from(self.open_points);
            to.push(Piece::Packs(self.open.clone()));
        }
        let near: Vec<Point> = self.tail.iter().map(|near| near.point(self.base_ms)).collect();
        let inside: Vec<Point> = near.into_iter().filter(|(time, _)| (from_ms..=to_ms).contains(time)).collect();
        if !inside.is_empty() {
            points += inside.len();
            to.push(Piece::Points(inside));
        }
        points
    }

    /// Everything that is in no block yet, as chunks: for a snapshot of the head.
    pub(crate) fn unsealed(&self) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = self.chunks.iter().filter(|chunk| chunk.block == 0).cloned().collect();
        let mut packs = self.open.clone();
        let points: Vec<Point> = self.tail.iter().map(|near| near.point(self.base_ms)).collect();
        if !points.is_empty() {
            pack::write(&mut packs, &points);
        }
        if !packs.is_empty() {
            let first_ms = if self.open_points > 0 { self.open_first_ms } else { points[0].0 };
            let last_ms = points.last().map_or(self.packed_ms, |(time, _)| *time);
            let count = self.open_points + points.len() as u16;
            chunks.push(Chunk {
                first_ms,
                last_ms,
                points: count,
                block: 0,
                data: Data::Packs(packs.as_slice().into()),
            });
        }
        chunks
    }

    /// Puts the compressed form of a chunk in its place, if that is still there.
    pub(crate) fn put_coded(&mut self, coded: Chunk) {
        let same = |chunk: &&mut Chunk| chunk.is_same(&coded) && matches!(chunk.data, Data::Packs(_));
        if let Some(chunk) = self.chunks.iter_mut().find(same) {
            chunk.data = coded.data;
        }
    }

    /// Chunks before a time that no block has.
    pub(crate) fn to_seal(&self, end_ms: u64) -> Vec<Chunk> {
        self.chunks.iter().filter(|chunk| chunk.block == 0 && chunk.last_ms < end_ms).cloned().collect()
    }

    /// Puts chunks in the place of others.
    pub(crate) fn replace(&mut self, old: &[Chunk], new: Vec<Chunk>) {
        let before = self.chunks.len();
        self.chunks.retain(|chunk| chunk.block != 0 || !old.iter().any(|old| old.is_same(chunk)));
        assert_eq!(before - self.chunks.len(), old.len(), "only upkeep takes chunks away");
        self.chunks.extend(new);
        self.chunks.sort_by_key(|chunk| chunk.first_ms);
        self.chunks.shrink_to_fit();
    }

    /// Marks what of an hour, before a time, no block has as belonging to one, and gives it.
    pub(crate) fn mark(&mut self, hour: u64, end_ms: u64, block: u32) -> Vec<Chunk> {
        let mine = |chunk: &&mut Chunk| {
            chunk.block == 0
                && chunk.last_ms < end_ms
                && chunk.first_ms / HOUR_MS == hour
                && matches!(chunk.data, Data::Coded { .. })
        };
        let marked = self.chunks.iter_mut().filter(mine).map(|chunk| {
            chunk.block = block;
            chunk.clone()
        });
        marked.collect()
    }

    /// Takes the mark of a block that was not written away.
    pub(crate) fn unmark(&mut self, block: u32) {
        self.chunks.iter_mut().filter(|chunk| chunk.block == block).for_each(|chunk| chunk.block = 0);
    }

    /// Drops chunks that ended before a time: those on disk, or all, which are closed first. Gives how many points no block had.
    pub(crate) fn drop_before(&mut self, before_ms: u64, unsealed: bool) -> u64 {
        if unsealed {
            self.close_until(before_ms);
        }
        let goes = |chunk: &Chunk| chunk.last_ms < before_ms && (unsealed || chunk.block != 0);
        let lost = self.chunks.iter().filter(|chunk| goes(chunk) && chunk.block == 0);
        let lost = lost.map(|chunk| u64::from(chunk.points)).sum();
        let count = self.chunks.len();
        self.chunks.retain(|chunk| !goes(chunk));
        if self.chunks.len() < count {
            self.chunks.shrink_to_fit();
        }
        lost
    }

    /// Oldest point.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        let chunks = self.chunks.iter().map(|chunk| chunk.first_ms).min();
        let open = (self.open_points > 0).then_some(self.open_first_ms);
        let tail = self.tail.first().map(|near| self.base_ms + u64::from(near.after_ms));
        [chunks, open, tail].into_iter().flatten().min()
    }

    /// Whether nothing is left that is in no block.
    pub(crate) fn is_sealed(&self) -> bool {
        self.tail.is_empty() && self.open_points == 0 && self.chunks.iter().all(|chunk| chunk.block != 0)
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::bytes).sum();
        self.tail.capacity() * size_of::<Near>()
            + self.open.capacity()
            + (self.chunks.capacity() - self.chunks.len()) * size_of::<Chunk>()
            + chunks
    }
}
