//! Small packs of points: what the newest points of a series are kept in until an hour's worth is compressed for good.
//!
//! A pack is quick to write (a few ns a point) and holds 1 to 9 bytes a point: times as one step, or as differences of few
//! bits; values as one value, as whole or decimal numbers by their differences, or by the bits in which they differ.
//! Each pack stands alone. Damaged bytes are an error, never a panic.

use super::bits::{Damaged, Reader, pack, put_varint, unpack, unzigzag, width, zigzag};

/// A time and a value.
pub type Point = (u64, f64);

/// Points in one pack at most.
pub(crate) const PACK_POINTS_MAX: usize = 255;
/// Decimal places beyond which a value is not taken for a decimal number.
const PLACES_MAX: u8 = 6;
/// Largest whole number that a float holds for sure, and its differences.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

const SAME: u8 = 0;
const DIFFERENT_BITS: u8 = 1;
const DECIMAL: u8 = 2;
const STEADY: u8 = 0x80;

pub(crate) const TENS: [f64; PLACES_MAX as usize + 1] = [1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6];

/// The whole number that stands for a value at so many decimal places, when it gives exactly the value back.
pub(crate) fn whole(value: f64, places: u8) -> Option<i64> {
    let scaled = value * TENS[usize::from(places)];
    if scaled.abs() >= WHOLE_MAX {
        return None;
    }
    // A whole number of decimal places is met within a rounding error; the way back must be exact, bit for bit.
    let near = scaled.round_ties_even() as i64;
    (from_whole(near, places).to_bits() == value.to_bits()).then_some(near)
}

pub(crate) fn from_whole(whole: i64, places: u8) -> f64 {
    whole as f64 / TENS[usize::from(places)]
}

/// The fewest decimal places with which all values are whole numbers.
pub(crate) fn places(values: impl Iterator<Item = f64>) -> Option<u8> {
    let mut places = 0;
    for value in values {
        while whole(value, places).is_none() {
            places += 1;
            if places > PLACES_MAX {
                return None;
            }
        }
    }
    Some(places)
}

/// Appends a pack. Points are in order of time, no two at the same, and 1 to [`PACK_POINTS_MAX`].
pub(crate) fn write(to: &mut Vec<u8>, points: &[Point]) {
    assert!(!points.is_empty() && points.len() <= PACK_POINTS_MAX, "a pack holds 1 to 255 points");
    to.push(points.len() as u8);
    let kind = to.len();
    to.push(0);
    put_varint(to, points[0].0);
    let steady = write_times(to, points);
    let value = write_values(to, points);
    to[kind] = steady | value;
}

fn write_times(to: &mut Vec<u8>, points: &[Point]) -> u8 {
    let steps = || points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let (least, most) = steps().fold((u64::MAX, 0), |(least, most), step| (least.min(step), most.max(step)));
    if points.len() == 1 {
        return STEADY;
    }
    put_varint(to, least);
    if least == most {
        return STEADY;
    }
    let bits = width(most - least);
    to.push(bits as u8);
    pack(to, bits, steps().map(|step| step - least));
    0
}

fn write_values(to: &mut Vec<u8>, points: &[Point]) -> u8 {
    let first = points[0].1.to_bits();
    let differ = points.iter().fold(0, |differ, (_, value)| differ | (value.to_bits() ^ first));
    if differ == 0 {
        to.extend_from_slice(&first.to_le_bytes());
        return SAME;
    }
    if let Some(places) = places(points.iter().map(|(_, value)| *value)) {
        write_decimals(to, points, places);
        return DECIMAL;
    }
    let mut before = first;
    let mut differences = [0_u64; PACK_POINTS_MAX];
    for (difference, (_, value)) in differences.iter_mut().zip(points) {
        *difference = value.to_bits() ^ before;
        before = value.to_bits();
    }
    let differences = &differences[1..points.len()];
    let union = differences.iter().fold(0, |union, difference| union | difference);
    let (low, bits) = (union.trailing_zeros(), width(union) - union.trailing_zeros());
    to.extend_from_slice(&first.to_le_bytes());
    to.push(low as u8);
    to.push(bits as u8);
    pack(to, bits, differences.iter().map(|difference| difference >> low));
    DIFFERENT_BITS
}

fn write_decimals(to: &mut Vec<u8>, points: &[Point], places: u8) {
    let mut wholes = [0_i64; PACK_POINTS_MAX];
    for (at, (_, value)) in wholes.iter_mut().zip(points) {
        *at = whole(*value, places).expect("checked by `places`");
    }
    let wholes = &wholes[..points.len()];
    let steps = || wholes.windows(2).map(|pair| pair[1] - pair[0]);
    let (least, most) = steps().fold((i64::MAX, i64::MIN), |(least, most), step| (least.min(step), most.max(step)));
    let bits = width(most.wrapping_sub(least) as u64);
    to.push(places);
    put_varint(to, zigzag(wholes[0]));
    put_varint(to, zigzag(least));
    to.push(bits as u8);
    pack(to, bits, steps().map(|step| step.wrapping_sub(least) as u64));
}

/// Reads every pack of `bytes`, appending to `points`.
pub(crate) fn read_all(bytes: &[u8], points: &mut Vec<Point>) -> Result<(), Damaged> {
    let mut reader = Reader(bytes);
    while !reader.is_empty() {
        read(&mut reader, points)?;
    }
    Ok(())
}

fn read(from: &mut Reader<'_>, points: &mut Vec<Point>) -> Result<(), Damaged> {
    let count = usize::from(from.byte()?);
    let kind = from.byte()?;
    if count == 0 {
        return Err(Damaged);
    }
    let begin = points.len();
    let mut time = from.varint()?;
    points.push((time, 0.0));
    if count > 1 {
        let least = from.varint()?;
        let bits = if kind & STEADY == 0 { u32::from(from.byte()?) } else { 0 };
        unpack(from, bits, count - 1, |more| {
            time = time.wrapping_add(least).wrapping_add(more);
            points.push((time, 0.0));
        })?;
    }
    read_values(from, kind & !STEADY, &mut points[begin..])
}

fn read_values(from: &mut Reader<'_>, kind: u8, points: &mut [Point]) -> Result<(), Damaged> {
    match kind {
        SAME => {
            let value = f64::from_bits(from.word()?);
            points.iter_mut().for_each(|point| point.1 = value);
        }
        DECIMAL => {
            let places = from.byte()?;
            if places > PLACES_MAX {
                return Err(Damaged);
            }
            let (mut at, least) = (unzigzag(from.varint()?), unzigzag(from.varint()?));
            let bits = u32::from(from.byte()?);
            points[0].1 = from_whole(at, places);
            let mut rest = points[1..].iter_mut();
            unpack(from, bits, rest.len(), |more| {
                at = at.wrapping_add(least).wrapping_add(more as i64);
                rest.next().expect("as many as asked for").1 = from_whole(at, places);
            })?;
        }
        DIFFERENT_BITS => {
            let mut at = from.word()?;
            let (low, bits) = (u32::from(from.byte()?), u32::from(from.byte()?));
            if low > 63 {
                return Err(Damaged);
            }
            points[0].1 = f64::from_bits(at);
            let mut rest = points[1..].iter_mut();
            unpack(from, bits, rest.len(), |difference| {
                at ^= difference << low;
                rest.next().expect("as many as asked for").1 = f64::from_bits(at);
            })?;
        }
        _ => return Err(Damaged),
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Points as they come: steady and jittered times; counters, decimals, noise, and what is no number.
    pub(crate) fn points(count: usize) -> impl Strategy<Value = Vec<Point>> {
        let value = prop_oneof![
            4 => (0..1_000_000_i64).prop_map(|whole| whole as f64),
            3 => (-100_000..100_000_i64).prop_map(|cents| cents as f64 / 100.0),
            2 => any::<f64>(),
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::from_bits(0x7ff0_0000_0000_0002)]),
        ];
        let gap = prop_oneof![3 => Just(6_000_u64), 1 => 1..20_000_u64];
        let kind = prop::sample::select(vec![0, 1, 2]);
        (1..2_000_000_000_000_u64, prop::collection::vec((gap, value), 1..count), kind).prop_map(
            |(start, steps, kind)| {
                let (mut time, mut sum) = (start, 0.0);
                let shaped = steps.iter().map(|(gap, value)| {
                    time += if kind == 0 { 1_000 } else { *gap };
                    sum += if value.is_finite() { value.abs().min(1e6).floor() } else { 0.0 };
                    (time, if kind == 1 { sum } else { *value })
                });
                shaped.collect()
            },
        )
    }

    pub(crate) fn same(left: &[Point], right: &[Point]) -> bool {
        let bits = |points: &[Point]| points.iter().map(|(time, value)| (*time, value.to_bits())).collect::<Vec<_>>();
        bits(left) == bits(right)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn packs_give_back_every_bit(first in points(60), second in points(5)) {
            let mut bytes = Vec::new();
            write(&mut bytes, &first);
            write(&mut bytes, &second);
            let mut got = Vec::new();
            read_all(&bytes, &mut got).expect("whole");
            prop_assert!(same(&got, &[first, second].concat()));
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes, &mut Vec::new());
        }
    }

    #[test]
    fn a_steady_counter_costs_almost_nothing() {
        let points: Vec<Point> = (0..24).map(|n| (1_700_000_000_000 + n * 6_000, 5_000_000.0 + n as f64)).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &points);
        assert!(bytes.len() <= 20, "{} bytes for 24 points", bytes.len());
    }
}
