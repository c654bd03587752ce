//! Users as a keyed hash: the level that rotates, and the share that never does. Absent: users' ids, which end at the edge.

use crate::siphash::siphash24;
use std::fmt;

/// 2⁶⁴ ÷ the golden ratio: steps of it around the circle are as evenly spread as any sequence can be (Weyl).
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The secret of 128 bits under which users are hashed: without it nobody can choose an id of high priority.
#[derive(Clone)]
pub struct UserKey {
    k0: u64,
    k1: u64,
}

impl UserKey {
    /// From sixteen secret bytes, the same on every edge of a fleet.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of sixteen bytes"));
        Self { k0: word(low), k1: word(high) }
    }

    /// The hash that stands for a user from here on: SipHash-2-4 of the id.
    pub fn hash(&self, user: &[u8]) -> UserHash {
        UserHash(siphash24(self.k0, self.k1, user))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserKey(secret)")
    }
}

/// A user's keyed hash, as carried between hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserHash(u64);

impl UserHash {
    /// From the wire form.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The wire form.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The user's level `0..1024` in a rotation (by default the hour since 1970).
    ///
    /// Each rotation moves all users by the golden ratio around a circle, so that over any run of rotations every user
    /// is served almost equally often: after 24 rotations at half capacity each has had 11 to 13 of them.
    pub const fn level(self, rotation: u64) -> u16 {
        (self.0.wrapping_add(rotation.wrapping_mul(GOLDEN_STEP)) >> 54) as u16
    }

    /// Where the user stands in `0.0..1.0` for a policy that throttles a share of users: it never rotates, does not
    /// depend on the level, and differs by `salt` (0 where all policies shall hit the same users).
    pub fn share(self, salt: u64) -> f64 {
        let bits = siphash24(salt, 0x7370_7269_6e67_2d73, &self.0.to_le_bytes());
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
