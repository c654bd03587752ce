//! The letters of the write-ahead log: what a shard notes of each new series and each point.
//!
//! A frame is what one shard noted between two writes; it can be read from its beginning, and names series by numbers that
//! this segment has defined. A point is one control byte, its series, its time unless it is that of the point before, and
//! the bytes of its value that are not zero at the end.

use super::bits::{Damaged, Reader, put_varint, unzigzag, zigzag};
use super::index::Slot;

/// First byte of a definition; those of points have the highest bit set.
const DEFINE: u8 = 1;
const POINT: u8 = 0x80;
const SAME_TIME: u8 = 0x40;
const VALUE_BYTES: u8 = 0x0f;

/// What a frame holds, one after another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Note<'a> {
    /// From here on in this segment the number means this series.
    Define { slot: Slot, source: &'a str, labels: &'a [u8] },
    /// A point of it.
    Point { slot: Slot, time_ms: u64, value: f64 },
}

/// Notes not yet written.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) bytes: Vec<u8>,
    /// Points among them.
    points: u64,
    time_ms: u64,
}

impl Notes {
    pub(crate) fn define(&mut self, slot: Slot, source: &str, labels: &[u8]) {
        self.bytes.push(DEFINE);
        put_varint(&mut self.bytes, u64::from(slot));
        put_varint(&mut self.bytes, source.len() as u64);
        self.bytes.extend_from_slice(source.as_bytes());
        put_varint(&mut self.bytes, labels.len() as u64);
        self.bytes.extend_from_slice(labels);
    }

    pub(crate) fn point(&mut self, slot: Slot, time_ms: u64, value: f64) {
        self.points += 1;
        let value = value.to_bits();
        let kept = (64 - value.trailing_zeros()).div_ceil(8) as u8;
        let same = if time_ms == self.time_ms { SAME_TIME } else { 0 };
        self.bytes.push(POINT | same | kept);
        put_varint(&mut self.bytes, u64::from(slot));
        if same == 0 {
            put_varint(&mut self.bytes, zigzag(time_ms.wrapping_sub(self.time_ms) as i64));
            self.time_ms = time_ms;
        }
        self.bytes.extend_from_slice(&value.to_be_bytes()[..usize::from(kept)]);
    }

    /// What was noted, and how many points; the next frame begins anew.
    pub(crate) fn take(&mut self, spare: Vec<u8>) -> (Vec<u8>, u64) {
        self.time_ms = 0;
        (std::mem::replace(&mut self.bytes, spare), std::mem::take(&mut self.points))
    }
}

/// Reads the notes of a frame.
pub(crate) struct Read<'a> {
    from: Reader<'a>,
    time_ms: u64,
}

pub(crate) fn read(frame: &[u8]) -> Read<'_> {
    Read { from: Reader(frame), time_ms: 0 }
}

impl<'a> Read<'a> {
    fn note(&mut self) -> Result<Note<'a>, Damaged> {
        let first = self.from.byte()?;
        let slot = Slot::try_from(self.from.varint()?).map_err(|_| Damaged)?;
        if first == DEFINE {
            let source = self.from.text()?;
            let length = self.from.length()?;
            return Ok(Note::Define { slot, source, labels: self.from.bytes(length)? });
        }
        if first & POINT == 0 || first & VALUE_BYTES > 8 {
            return Err(Damaged);
        }
        if first & SAME_TIME == 0 {
            self.time_ms = self.time_ms.wrapping_add(unzigzag(self.from.varint()?) as u64);
        }
        let kept = self.from.bytes(usize::from(first & VALUE_BYTES))?;
        let mut value = [0_u8; 8];
        value[..kept.len()].copy_from_slice(kept);
        Ok(Note::Point { slot, time_ms: self.time_ms, value: f64::from_be_bytes(value) })
    }
}

impl<'a> Iterator for Read<'a> {
    type Item = Result<Note<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.from.is_empty() {
            return None;
        }
        let note = self.note();
        if note.is_err() {
            self.from = Reader(&[]);
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::tests::points;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_noted_is_read(points in points(40), again in points(10)) {
            let mut notes = Notes::default();
            for frame in [points, again] {
                notes.define(7, "job/a", b"labels");
                for (at, (time_ms, value)) in frame.iter().enumerate() {
                    notes.point(at as u32, *time_ms, *value);
                    notes.point(at as u32 + 100_000, *time_ms, *value);
                }
                let (bytes, count) = notes.take(Vec::new());
                prop_assert_eq!(count, 2 * frame.len() as u64);
                let got: Vec<_> = read(&bytes).map(|note| note.expect("whole")).collect();
                prop_assert_eq!(got[0], Note::Define { slot: 7, source: "job/a", labels: b"labels" });
                prop_assert_eq!(got.len(), 1 + 2 * frame.len());
                for (at, note) in got[1..].iter().enumerate() {
                    let Note::Point { slot, time_ms, value } = note else { panic!("a point") };
                    let (time, wanted) = frame[at / 2];
                    prop_assert_eq!((*slot % 100_000, *time_ms, value.to_bits()), (at as u32 / 2, time, wanted.to_bits()));
                }
            }
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            assert!(read(&bytes).count() <= bytes.len());
        }
    }
}
