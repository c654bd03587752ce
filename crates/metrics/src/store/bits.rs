//! Varints, zigzag and bit packing: the letters in which points are written.

/// The bytes end before the value does, or say something that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are cut off or damaged")]
pub struct Damaged;

pub(crate) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Bits that a value needs.
pub(crate) fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Reads from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn word(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into().expect("eight bytes")))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    /// A length that must lie within what is left.
    pub(crate) fn length(&mut self) -> Result<usize, Damaged> {
        let length = self.varint()?;
        usize::try_from(length).ok().filter(|length| *length <= self.0.len()).ok_or(Damaged)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Damaged)
    }
}

/// Writes each value in `width` bits; values must fit.
pub(crate) fn pack(to: &mut Vec<u8>, width: u32, values: impl Iterator<Item = u64>) {
    if width == 0 {
        return;
    }
    let (mut held, mut bits) = (0_u128, 0_u32);
    for value in values {
        held |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            to.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    to.extend_from_slice(&(held as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Reads `count` values of `width` bits, and gives each to `take`.
pub(crate) fn unpack(
    from: &mut Reader<'_>,
    width: u32,
    count: usize,
    mut take: impl FnMut(u64),
) -> Result<(), Damaged> {
    if width == 0 {
        (0..count).for_each(|_| take(0));
        return Ok(());
    }
    if width > 64 {
        return Err(Damaged);
    }
    let bytes = from.bytes((count * width as usize).div_ceil(8))?;
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let (mut held, mut bits, mut rest) = (0_u128, 0_u32, bytes);
    for _ in 0..count {
        if bits < width {
            let (now, later) = rest.split_at(rest.len().min(8));
            let mut word = [0_u8; 8];
            word[..now.len()].copy_from_slice(now);
            held |= u128::from(u64::from_le_bytes(word)) << bits;
            bits += now.len() as u32 * 8;
            rest = later;
        }
        take(held as u64 & mask);
        held >>= width;
        bits -= width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_packed_is_unpacked(values in prop::collection::vec(any::<u64>(), 0..80), bits in 0..=64_u32, number: i64) {
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let values: Vec<u64> = values.iter().map(|value| value & mask).collect();
            let mut bytes = Vec::new();
            pack(&mut bytes, bits, values.iter().copied());
            put_varint(&mut bytes, zigzag(number));
            let (mut reader, mut got) = (Reader(&bytes), Vec::new());
            unpack(&mut reader, bits, values.len(), |value| got.push(value)).expect("whole");
            prop_assert_eq!(got, values);
            prop_assert_eq!(unzigzag(reader.varint().expect("whole")), number);
            prop_assert!(reader.is_empty());
        }
    }
}
