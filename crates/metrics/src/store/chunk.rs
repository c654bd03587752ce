//! Chunks: up to 600 points of one series within one hour, closed. First as packs, then compressed for good.
//!
//! Times and values are compressed apart. Times at a steady step are three numbers; others are kept once for all series
//! that share them, as those of one scrape do. Values are one value, or whole numbers (decimals scaled), or floats; the
//! last two by pco. Everything is exact to the bit.

use super::bits::{Damaged, Reader, put_varint};
use super::pack::{self, Point};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use std::collections::HashMap;
use std::sync::Arc;

/// Effort of compression, of pco's 0 to 12.
const LEVEL: usize = 8;

const SAME: u8 = 0;
const WHOLE: u8 = 1;
const FLOAT: u8 = 2;

const STEADY: u8 = 0;
const STEPS: u8 = 1;

/// Closed points of a series.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) points: u16,
    /// The block on disk that has it; 0: none yet.
    pub(crate) block: u32,
    pub(crate) data: Data,
}

/// How they are kept.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Packs(Arc<[u8]>),
    Coded { times: Arc<[u8]>, values: Arc<[u8]> },
}

impl Chunk {
    /// Compresses points of one hour, in order of time.
    pub(crate) fn code(points: &[Point], coder: &mut Coder) -> Self {
        let (times, values) = coder.code(points);
        Self {
            first_ms: points[0].0,
            last_ms: points[points.len() - 1].0,
            points: points.len() as u16,
            block: 0,
            data: Data::Coded { times, values },
        }
    }

    /// Whether the other holds the same points.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.first_ms, self.last_ms, self.points) == (other.first_ms, other.last_ms, other.points)
    }

    /// Its points, appended.
    pub(crate) fn read(&self, to: &mut Vec<Point>) -> Result<(), Damaged> {
        match &self.data {
            Data::Packs(packs) => pack::read_all(packs, to),
            Data::Coded { times, values } => decode(times, values, to),
        }
    }

    /// Bytes it takes; times that are shared count for nothing.
    pub(crate) fn bytes(&self) -> usize {
        let data = match &self.data {
            Data::Packs(packs) => packs.len() + 16,
            Data::Coded { times, values } => values.len() + 16 + times.len() / Arc::strong_count(times).max(1),
        };
        size_of::<Self>() + data
    }
}

/// Compresses, and shares times between chunks.
#[derive(Debug, Default)]
pub(crate) struct Coder {
    times: HashMap<Vec<u8>, Arc<[u8]>>,
    wholes: Vec<i64>,
    floats: Vec<f64>,
    bytes: Vec<u8>,
}

/// Distinct columns of times that a coder remembers.
const TIMES_MAX: usize = 16_384;

impl Coder {
    fn code(&mut self, points: &[Point]) -> (Arc<[u8]>, Arc<[u8]>) {
        self.bytes.clear();
        code_times(points, &mut self.bytes);
        let times = match self.times.get(&self.bytes) {
            Some(known) => known.clone(),
            None => {
                if self.times.len() >= TIMES_MAX {
                    self.times.clear();
                }
                let new: Arc<[u8]> = self.bytes.as_slice().into();
                self.times.insert(self.bytes.clone(), new.clone());
                new
            }
        };
        self.bytes.clear();
        self.code_values(points);
        (times, self.bytes.as_slice().into())
    }

    fn code_values(&mut self, points: &[Point]) {
        let first = points[0].1.to_bits();
        if points.iter().all(|(_, value)| value.to_bits() == first) {
            self.bytes.push(SAME);
            self.bytes.extend_from_slice(&first.to_le_bytes());
            return;
        }
        match pack::places(points.iter().map(|(_, value)| *value)) {
            Some(places) => {
                self.wholes.clear();
                let whole = |(_, value): &Point| pack::whole(*value, places).expect("checked by `places`");
                self.wholes.extend(points.iter().map(whole));
                self.bytes.extend_from_slice(&[WHOLE, places]);
                let config = config(delta(&self.wholes), ModeSpec::Classic);
                put(&self.wholes, &config, &mut self.bytes);
            }
            None => {
                self.floats.clear();
                self.floats.extend(points.iter().map(|(_, value)| *value));
                self.bytes.push(FLOAT);
                put(&self.floats, &config(DeltaSpec::Auto, ModeSpec::Auto), &mut self.bytes);
            }
        }
    }
}

fn config(delta: DeltaSpec, mode: ModeSpec) -> ChunkConfig {
    ChunkConfig::default().with_compression_level(LEVEL).with_delta_spec(delta).with_mode_spec(mode)
}

/// Whether values, their differences or the differences of those are the smallest.
fn delta(wholes: &[i64]) -> DeltaSpec {
    let (mut sums, mut before) = ([0_u64; 3], (wholes[0], 0_i64));
    let centre = wholes[0];
    for whole in &wholes[1..] {
        let step = whole - before.0;
        let bits = |value: i64| u64::from(64 - value.unsigned_abs().leading_zeros());
        sums[0] += bits(whole - centre);
        sums[1] += bits(step);
        sums[2] += bits(step - before.1);
        before = (*whole, step);
    }
    match sums {
        [plain, one, two] if plain <= one && plain <= two => DeltaSpec::NoOp,
        [_, one, two] if one <= two => DeltaSpec::TryConsecutive(1),
        _ => DeltaSpec::TryConsecutive(2),
    }
}

fn put<T: pco::data_types::Number>(numbers: &[T], config: &ChunkConfig, to: &mut Vec<u8>) {
    let chunk = FileCompressor::default().chunk_compressor(numbers, config);
    let mut chunk = chunk.expect("the configuration is fixed, and 1 to 600 numbers are few");
    chunk.write_meta(&mut *to).expect("a Vec takes all");
    chunk.write_page(0, to).expect("a Vec takes all");
}

fn code_times(points: &[Point], to: &mut Vec<u8>) {
    let steps = || points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let first_step = steps().next().unwrap_or(0);
    let steady = steps().all(|step| step == first_step);
    to.push(if steady { STEADY } else { STEPS });
    put_varint(to, points.len() as u64);
    put_varint(to, points[0].0);
    if steady {
        put_varint(to, first_step);
    } else {
        let steps: Vec<u64> = steps().collect();
        put(&steps, &config(DeltaSpec::NoOp, ModeSpec::Classic), to);
    }
}

/// How many points times are for, and the first and the last of them.
pub(crate) fn times_span(times: &[u8]) -> Result<(usize, u64, u64), Damaged> {
    let mut points = Vec::new();
    read_times(times, &mut points)?;
    let (first, last) = points.first().zip(points.last()).ok_or(Damaged)?;
    Ok((points.len(), first.0, last.0))
}

fn read_times(times: &[u8], to: &mut Vec<Point>) -> Result<(), Damaged> {
    let mut from = Reader(times);
    let kind = from.byte()?;
    let count = usize::try_from(from.varint()?).ok().filter(|count| (1..=COUNT_MAX).contains(count)).ok_or(Damaged)?;
    let mut time = from.varint()?;
    to.push((time, 0.0));
    match kind {
        STEADY => {
            let step = from.varint()?;
            for _ in 1..count {
                time = time.checked_add(step).ok_or(Damaged)?;
                to.push((time, 0.0));
            }
        }
        STEPS => {
            let mut steps = vec![0_u64; count - 1];
            get(from.0, &mut steps)?;
            for step in steps {
                time = time.checked_add(step).ok_or(Damaged)?;
                to.push((time, 0.0));
            }
        }
        _ => return Err(Damaged),
    }
    Ok(())
}

/// Points of one chunk at most, as far as a reader believes it.
const COUNT_MAX: usize = 1 << 16;

fn get<T: pco::data_types::Number>(from: &[u8], to: &mut [T]) -> Result<(), Damaged> {
    let mut header = Vec::new();
    FileCompressor::default().write_header(&mut header).expect("a Vec takes all");
    let (file, _) = FileDecompressor::new(header.as_slice()).map_err(|_| Damaged)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(from).map_err(|_| Damaged)?;
    let mut page = chunk.page_decompressor(rest, to.len()).map_err(|_| Damaged)?;
    let read = page.read(to).map_err(|_| Damaged)?;
    if read.n_processed == to.len() { Ok(()) } else { Err(Damaged) }
}

/// Reads times and values back, appending.
pub(crate) fn decode(times: &[u8], values: &[u8], to: &mut Vec<Point>) -> Result<(), Damaged> {
    let begin = to.len();
    read_times(times, to)?;
    let points = &mut to[begin..];
    let mut from = Reader(values);
    match from.byte()? {
        SAME => {
            let value = f64::from_bits(from.word()?);
            points.iter_mut().for_each(|point| point.1 = value);
        }
        WHOLE => {
            let places = from.byte()?;
            if usize::from(places) >= pack::TENS.len() {
                return Err(Damaged);
            }
            let mut wholes = vec![0_i64; points.len()];
            get(from.0, &mut wholes)?;
            points.iter_mut().zip(wholes).for_each(|(point, whole)| point.1 = pack::from_whole(whole, places));
        }
        FLOAT => {
            let mut floats = vec![0.0_f64; points.len()];
            get(from.0, &mut floats)?;
            points.iter_mut().zip(floats).for_each(|(point, float)| point.1 = float);
        }
        _ => return Err(Damaged),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::pack::tests::{points, same};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]
        #[test]
        fn chunks_give_back_every_bit(points in points(600)) {
            let chunk = Chunk::code(&points, &mut Coder::default());
            let mut got = Vec::new();
            chunk.read(&mut got).expect("whole");
            prop_assert!(same(&got, &points));
        }
    }

    #[test]
    fn a_steady_counter_is_small_and_times_are_shared() {
        let mut coder = Coder::default();
        let series = |rate: u64| -> Vec<Point> {
            (0..600).map(|n| (1_700_000_000_000 + n * 6_000 + n * n % 7, (n * rate + n % 3) as f64)).collect()
        };
        let (left, right) = (Chunk::code(&series(100), &mut coder), Chunk::code(&series(7), &mut coder));
        let (Data::Coded { times: a, values }, Data::Coded { times: b, .. }) = (&left.data, &right.data) else {
            panic!("coded")
        };
        assert!(Arc::ptr_eq(a, b), "one scrape's times are there once");
        assert!(values.len() < 300, "{} bytes for 600 points", values.len());
    }
}
