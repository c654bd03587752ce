//! The one clock of an instance's protection: microseconds since it began, monotonic.

use model::Clocks;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where the kernel says how long it has run.
const UPTIME: &str = "/proc/uptime";

/// Counts from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The clocks of the machine, by which lives of policies that were kept in a file go on.
pub(crate) fn clocks() -> Clocks {
    let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    let uptime = std::fs::read_to_string(UPTIME).unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Clocks { boot_id, boot_ms: (seconds * 1_000.0) as u64, unix_ms }
}
