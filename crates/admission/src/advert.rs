//! What a service says of its load on every response. Absent: its text and binary forms (`wire`).

use crate::priority::LEVEL_ALL;
use std::fmt;

/// A rate beyond this (calls per second) is nonsense.
pub(crate) const RATE_MAX: f64 = 1e9;
/// A queue delay beyond this (ten minutes, in microseconds) is nonsense.
const QUEUE_DELAY_US_MAX: f64 = 600e6;

/// A service that rejects has at least this share of its capacity asked of it, or its report contradicts itself.
const DEMAND_SHARE_MIN: f64 = 0.5;

/// A service's load, as of one of its instances, on every response including rejects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advert {
    /// Requests of a priority below this are admitted; [`LEVEL_ALL`] admits all.
    pub level: u32,
    /// Calls per second that tasks ask for: admitted, rejected here and shed by callers.
    pub demand_rps: f32,
    /// Calls per second it can complete; 0 while unknown (never busy so far).
    pub capacity_rps: f32,
    /// Mean time that work begun lately had waited, in microseconds.
    pub queue_delay_us: u32,
}

impl Advert {
    /// An advert of a service that is not overloaded and knows nothing else yet.
    pub const UNKNOWN: Self = Self { level: LEVEL_ALL, demand_rps: 0.0, capacity_rps: 0.0, queue_delay_us: 0 };

    /// From numbers as they came over the wire, none of them believed unchecked.
    pub fn from_numbers(
        level: f64,
        demand_rps: f64,
        capacity_rps: f64,
        queue_delay_ms: f64,
    ) -> Result<Self, AdvertFault> {
        let check = |name, value: f64, max: f64| {
            if (0.0..=max).contains(&value) { Ok(value) } else { Err(AdvertFault::Beyond { name, value, max }) }
        };
        let advert = Self {
            level: check("level", level, f64::from(LEVEL_ALL))? as u32,
            demand_rps: check("demand_rps", demand_rps, RATE_MAX)? as f32,
            capacity_rps: check("capacity_rps", capacity_rps, RATE_MAX)? as f32,
            queue_delay_us: check("queue_delay_ms", queue_delay_ms, QUEUE_DELAY_US_MAX / 1e3)
                .map(|ms| (ms * 1e3) as u32)?,
        };
        let idle = demand_rps < capacity_rps * DEMAND_SHARE_MIN;
        if advert.overloaded() && idle { Err(AdvertFault::Idle { level: advert.level }) } else { Ok(advert) }
    }

    /// Whether some priorities are rejected.
    pub const fn overloaded(&self) -> bool {
        self.level < LEVEL_ALL
    }
}

/// An advert that cannot be true: the whole of it is ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdvertFault {
    /// A number out of its bounds.
    Beyond {
        /// Which number.
        name: &'static str,
        /// What came.
        value: f64,
        /// The greatest value that is believed; the least is 0.
        max: f64,
    },
    /// It rejects, and yet is asked for less than half of what it says it can do.
    Idle {
        /// The level that came.
        level: u32,
    },
}

impl fmt::Display for AdvertFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond { name, value, max } => write!(f, "load report: {name} is {value}, not within 0 to {max}"),
            Self::Idle { level } => {
                write!(f, "load report: level {level} rejects, but demand_rps is below half of capacity_rps")
            }
        }
    }
}

impl std::error::Error for AdvertFault {}
