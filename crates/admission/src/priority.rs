//! Priorities and the coarse buckets in which demand is counted. Absent: where a priority comes from (the edge decides).

/// A level that admits every priority; levels are `0..=LEVEL_ALL`.
pub const LEVEL_ALL: u32 = 65_536;
/// Number of buckets of the demand histogram: 64 business levels × 16 ranges of users.
pub const BUCKETS: usize = 1024;
/// Priorities per bucket.
const BUCKET_WIDTH: u32 = LEVEL_ALL / BUCKETS as u32;
/// Business levels there are.
const BUSINESS_LEVELS: u8 = 64;
/// User levels within one business level.
const USER_LEVELS: u16 = 1024;

/// How important a task is: 6 bits of business level, 10 bits of user level. **Lower is more important.**
///
/// Set once where a task enters, inherited by each call made for it (after DAGOR, SoCC'18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u16);

impl Priority {
    /// The most important priority there is.
    pub const FIRST: Self = Self(0);
    /// The least important priority there is.
    pub const LAST: Self = Self(u16::MAX);

    /// From a business level `0..64` (0 is the most important) and a user level `0..1024`; `None` beyond those.
    pub const fn new(business: u8, user_level: u16) -> Option<Self> {
        if business >= BUSINESS_LEVELS || user_level >= USER_LEVELS {
            return None;
        }
        Some(Self(((business as u16) << 10) | user_level))
    }

    /// From the wire form: every `u16` is a priority.
    pub const fn from_u16(value: u16) -> Self {
        Self(value)
    }

    /// The wire form.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// The business level, `0..64`.
    pub const fn business(self) -> u8 {
        (self.0 >> 10) as u8
    }

    /// The user level, `0..1024`.
    pub const fn user_level(self) -> u16 {
        self.0 & (USER_LEVELS - 1)
    }

    /// Whether an endpoint that tells this level would surely admit it: it sheds nothing, or only what matters less than half
    /// as much. The margin is for what a full queue refuses below the level that is told.
    pub const fn surely_within(self, level: u32) -> bool {
        level >= LEVEL_ALL || (self.as_u16() as u32) * 2 < level
    }

    /// Whether a level admits this priority.
    pub const fn within(self, level: u32) -> bool {
        (self.0 as u32) < level
    }

    /// The bucket of the demand histogram that counts it.
    pub const fn bucket(self) -> Bucket {
        Bucket((self.0 as u32 / BUCKET_WIDTH) as u16)
    }
}

/// One of [`BUCKETS`] ranges of priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of that number; `None` from [`BUCKETS`] on.
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < BUCKETS { Some(Self(number)) } else { None }
    }

    /// Its number, below [`BUCKETS`].
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The priority in its middle, which stands for all in it.
    pub const fn middle(self) -> Priority {
        Priority((self.0 as u32 * BUCKET_WIDTH + BUCKET_WIDTH / 2) as u16)
    }

    /// The level at its start plus `fraction` (0..=1) of its width.
    pub(crate) fn level_at(self, fraction: f32) -> u32 {
        let within = (fraction.clamp(0.0, 1.0) * BUCKET_WIDTH as f32) as u32;
        u32::from(self.0) * BUCKET_WIDTH + within.min(BUCKET_WIDTH)
    }
}

#[cfg(test)]
mod tests;
