//! Wall-clock time: the edge at which `now` is read for the pure crates.

use model::UnixMs;

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> UnixMs {
    now_us() / 1_000
}

/// Now, in microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is set after 1970").as_micros() as u64
}
