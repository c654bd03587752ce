//! What a detector has learnt, as bytes: a restarted server need not learn for minutes what it knew a moment ago.
//!
//! Fields in their order, little endian, behind a version and before a checksum. A reader takes the whole or nothing: with
//! bytes that are torn, damaged or of another version a detector begins cold, which is never wrong, only slow.

use crate::topology::{Host, Instance, Pair, Parts, Rack, Service};

/// Version of the form; it changes with every change of a state's fields.
const VERSION: u32 = 1;
/// Elements of one list at most: beyond what a topology holds, a length is damage.
const LENGTH_MAX: usize = 4_000_000;

/// Why bytes are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateFault {
    /// Of another version.
    #[error("has version {0}, and this one reads {VERSION}: what was learnt is learnt anew")]
    Version(u32),
    /// Cut short, or not as it was written.
    #[error("is damaged: what was learnt is learnt anew")]
    Damaged,
}

/// A value with a form in bytes.
pub(crate) trait Kept: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

/// The fields of a struct, in this order.
macro_rules! kept {
    ($type:ty { $($field:ident),* $(,)? } $(rest $rest:expr)?) => {
        impl crate::kept::Kept for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(crate::kept::Kept::put(&self.$field, out);)*
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: crate::kept::Kept::take(from)?,)* $(..$rest)? })
            }
        }
    };
}
pub(crate) use kept;

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Kept for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
numbers!(u16, u32, u64, f32, f64);

impl Kept for usize {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u64).put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::try_from(u64::take(from)?).ok()
    }
}

impl Kept for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first != 0)
    }
}

impl Kept for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        out.extend(self.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = usize::take(from).filter(|length| *length <= from.len())?;
        let (text, rest) = from.split_at(length);
        *from = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl<T: Kept> Kept for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        self.iter().for_each(|one| one.put(out));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = usize::take(from).filter(|length| *length <= LENGTH_MAX)?;
        (0..length).map(|_| T::take(from)).collect()
    }
}

impl<const N: usize> Kept for [f64; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|one| one.put(out));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut all = [0.0; N];
        for one in &mut all {
            *one = f64::take(from)?;
        }
        Some(all)
    }
}

kept!(Rack { name, datacenter });
kept!(Host { name, rack });
kept!(Service { name, external });
kept!(Instance { name, service, host, version, wanted });
kept!(Pair { caller, callee });
kept!(Parts { datacenters, racks, hosts, services, instances, pairs });

/// Wraps what `put` writes.
pub(crate) fn seal(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    VERSION.put(&mut out);
    put(&mut out);
    checksum(&out).put(&mut out);
    out
}

/// The inside of what [`seal`] made.
pub(crate) fn open(bytes: &[u8]) -> Result<&[u8], StateFault> {
    let mut rest = bytes;
    let version = u32::take(&mut rest).ok_or(StateFault::Damaged)?;
    if version != VERSION {
        return Err(StateFault::Version(version));
    }
    let (inside, sum) = rest.split_last_chunk::<8>().ok_or(StateFault::Damaged)?;
    let whole = &bytes[..bytes.len() - 8];
    if checksum(whole) != u64::from_le_bytes(*sum) {
        return Err(StateFault::Damaged);
    }
    Ok(inside)
}

/// FNV-1a over words of eight bytes: it finds what a torn write leaves, and is no defence.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    let mut hash = 0xCBF2_9CE4_8422_2325 ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("a chunk of eight has eight bytes")));
    }
    words.remainder().iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
