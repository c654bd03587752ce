//! What sources say, made into what a frame takes: counters become increments, and bad samples are dropped and counted.
//!
//! Defined for what goes wrong: NaN and infinities are dropped; a counter that went back was reset and counts from zero;
//! a sample not newer than the last of its series is a duplicate or late and dropped; a clock off by more than
//! [`SKEW_MS_MAX`] is not believed, and the time of arrival stands for it.

/// A source's clock may be off by this much.
pub const SKEW_MS_MAX: u64 = 30_000;
/// Time that one increment may cover; after a longer silence a counter begins anew.
pub const COVERED_MS_MAX: u64 = 10_000;

/// Samples not taken, or not as they said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// NaN or infinite.
    pub not_a_number: u64,
    /// Of the same time as the last, or older.
    pub not_newer: u64,
    /// Negative where only positive makes sense.
    pub negative: u64,
    /// Taken at the time of arrival, since the clock was off.
    pub skewed: u64,
    /// Counters that went back.
    pub resets: u64,
    /// Counters met first, or again after a silence: nothing to count from.
    pub firsts: u64,
}

/// Last value and time of each series: 16 bytes.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    times_ms: Vec<u64>,
    values: Vec<f64>,
    dropped: Dropped,
}

impl Intake {
    /// For so many series, none heard yet.
    pub fn new(series: usize) -> Self {
        Self { times_ms: vec![0; series], values: vec![f64::NAN; series], dropped: Dropped::default() }
    }

    /// Makes room for so many series in all; those that are known stay.
    pub fn grow(&mut self, series: usize) {
        if series > self.values.len() {
            self.times_ms.resize(series, 0);
            self.values.resize(series, f64::NAN);
        }
    }

    /// What was not taken so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Takes a counter's reading; gives its increment a second, or none when there is nothing to say. `series` is an
    /// index below the number of series.
    pub fn counter(&mut self, series: usize, time_ms: u64, value: f64, now_ms: u64) -> Option<f32> {
        let (covered_ms, before) = self.take(series, time_ms, value, now_ms)?;
        if covered_ms.is_none_or(|covered_ms| covered_ms > COVERED_MS_MAX) || before.is_nan() {
            self.dropped.firsts += 1;
            return None;
        }
        let increment = if value >= before {
            value - before
        } else {
            self.dropped.resets += 1;
            value
        };
        Some((increment * 1_000.0 / covered_ms.unwrap_or(1_000).max(1) as f64) as f32)
    }

    /// Takes a gauge's reading.
    pub fn gauge(&mut self, series: usize, time_ms: u64, value: f64, now_ms: u64) -> Option<f32> {
        self.take(series, time_ms, value, now_ms).map(|_| value as f32)
    }

    /// Time since the last sample, and its value; none when this one is dropped.
    fn take(&mut self, series: usize, time_ms: u64, value: f64, now_ms: u64) -> Option<(Option<u64>, f64)> {
        if !value.is_finite() {
            self.dropped.not_a_number += 1;
            return None;
        }
        if value < 0.0 {
            self.dropped.negative += 1;
            return None;
        }
        let time_ms = if time_ms.abs_diff(now_ms) > SKEW_MS_MAX {
            self.dropped.skewed += 1;
            now_ms
        } else {
            time_ms
        };
        let last_ms = self.times_ms[series];
        // A last time ahead of now can only be a clock that was set since: it must not lock the series.
        if time_ms <= last_ms && last_ms <= now_ms + SKEW_MS_MAX {
            self.dropped.not_newer += 1;
            return None;
        }
        let before = std::mem::replace(&mut self.values[series], value);
        self.times_ms[series] = time_ms;
        let covered_ms = (last_ms > 0).then(|| time_ms.saturating_sub(last_ms));
        Some((covered_ms, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn counters_give_increments_a_second_and_resets_count_from_zero() {
        let mut intake = Intake::new(1);
        assert_eq!(intake.counter(0, NOW, 1_000.0, NOW), None);
        assert_eq!(intake.counter(0, NOW + 1_000, 1_100.0, NOW + 1_000), Some(100.0));
        assert_eq!(intake.counter(0, NOW + 3_000, 1_300.0, NOW + 3_000), Some(100.0));
        assert_eq!(intake.counter(0, NOW + 4_000, 30.0, NOW + 4_000), Some(30.0));
        assert_eq!(intake.dropped().resets, 1);
        assert_eq!(intake.counter(0, NOW + 60_000, 90_000.0, NOW + 60_000), None);
    }

    #[test]
    fn duplicates_late_ones_and_nonsense_are_dropped_and_counted() {
        let mut intake = Intake::new(2);
        assert_eq!(intake.gauge(0, NOW, 1.0, NOW), Some(1.0));
        assert_eq!(intake.gauge(0, NOW, 2.0, NOW), None);
        assert_eq!(intake.gauge(0, NOW - 500, 2.0, NOW), None);
        assert_eq!(intake.gauge(0, NOW + 1_000, f64::NAN, NOW), None);
        assert_eq!(intake.gauge(0, NOW + 1_000, f64::NEG_INFINITY, NOW), None);
        assert_eq!(intake.gauge(0, NOW + 1_000, -1.0, NOW), None);
        let dropped = intake.dropped();
        assert_eq!((dropped.not_newer, dropped.not_a_number, dropped.negative), (2, 2, 1));
        assert_eq!(intake.gauge(1, NOW, 1.0, NOW), Some(1.0));
    }

    #[test]
    fn a_clock_minutes_off_is_replaced_by_the_time_of_arrival() {
        let mut intake = Intake::new(1);
        let ahead = 300_000;
        assert_eq!(intake.counter(0, NOW + ahead, 10.0, NOW), None);
        assert_eq!(intake.counter(0, NOW + ahead + 1_000, 20.0, NOW + 1_000), Some(10.0));
        // Then the clock is set right.
        assert_eq!(intake.counter(0, NOW + 2_000, 30.0, NOW + 2_000), Some(10.0));
        assert_eq!(intake.dropped().skewed, 2);
    }

    proptest! {
        #[test]
        fn whatever_comes_increments_are_finite_and_never_negative(
            samples in prop::collection::vec((0_u64..4_000_000, any::<f64>(), 0_u64..100_000), 1..200)
        ) {
            let mut intake = Intake::new(1);
            for (time, value, now) in samples {
                if let Some(increment) = intake.counter(0, time, value, now) {
                    prop_assert!(increment >= 0.0 && !increment.is_nan());
                }
            }
        }
    }
}
