//! A keyed 128-bit hash of label bytes: what finds a series without comparing its labels.
//!
//! Two lanes of folded multiplications over sixteen bytes a step, keyed at random for each process. Two different label
//! sets of a million collide with a chance of about 10⁻²⁷, so that equality of the hash is taken as equality. It is
//! no cryptographic hash: senders hold a token.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What a label set is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64, pub(crate) u64);

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A hasher for [`Key`]s, which are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// Builds [`AsIs`].
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct BuildAsIs;

impl BuildHasher for BuildAsIs {
    type Hasher = AsIs;
    fn build_hasher(&self) -> AsIs {
        AsIs::default()
    }
}

/// The secret of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret([u64; 4]);

impl Secret {
    pub(crate) fn random() -> Self {
        let state = RandomState::new();
        Self([1_u64, 2, 3, 4].map(|n| state.hash_one(n) | 1))
    }

    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        lanes(&self.0, bytes)
    }
}

/// The checksum of what lies on disk: the same fold under a fixed secret, part of the format. It finds damage with all but
/// one in four billion.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    const FORMAT: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];
    let Key(a, b) = lanes(&FORMAT, bytes);
    let folded = a ^ b;
    (folded ^ (folded >> 32)) as u32
}

fn lanes(secret: &[u64; 4], bytes: &[u8]) -> Key {
    let [k0, k1, k2, k3] = *secret;
    let (mut a, mut b) = (k0 ^ bytes.len() as u64, k1);
    let mut steps = bytes.chunks_exact(16);
    for step in &mut steps {
        let (x, y) = (word(&step[..8]), word(&step[8..]));
        a = fold(x ^ k2, y ^ a);
        b = fold(x ^ b, y ^ k3);
    }
    let rest = steps.remainder();
    if !rest.is_empty() {
        let mut last = [0_u8; 16];
        last[..rest.len()].copy_from_slice(rest);
        let (x, y) = (word(&last[..8]), word(&last[8..]));
        a = fold(x ^ k2, y ^ a);
        b = fold(x ^ b, y ^ k3);
    }
    Key(fold(a ^ k3, k0), fold(b ^ k2, k1))
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn near_texts_have_far_keys() {
        let secret = Secret::random();
        let mut seen = BTreeSet::new();
        let mut low = BTreeSet::new();
        for n in 0..100_000_u32 {
            let key = secret.key(format!("instance=\"10.0.{}.{}:9100\"", n / 256, n % 256).as_bytes());
            assert!(seen.insert(key));
            low.insert(key.0 >> 48);
        }
        assert!(low.len() > 50_000, "the high bits are spread: {}", low.len());
        assert_ne!(secret.key(b"a"), secret.key(b"a\0"), "length counts");
        assert_ne!(secret.key(&[0; 16]), secret.key(&[0; 32]));
    }
}
