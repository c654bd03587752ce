//! The points of one series, oldest first, bounded.

use super::Refused;
use model::UnixMs;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct Ring(VecDeque<(UnixMs, f64)>);

impl Ring {
    pub(crate) fn push(&mut self, time_ms: UnixMs, value: f64, points_max: usize) -> Result<(), Refused> {
        match self.0.back_mut() {
            Some((newest, _)) if *newest > time_ms => return Err(Refused::OutOfOrder),
            Some((newest, at)) if *newest == time_ms => {
                *at = value;
                return Ok(());
            }
            _ => self.0.push_back((time_ms, value)),
        }
        if self.0.len() > points_max {
            self.0.pop_front();
        }
        Ok(())
    }

    pub(crate) fn newest(&self) -> Option<(UnixMs, f64)> {
        self.0.back().copied()
    }

    pub(crate) fn range(&self, from: UnixMs, to: UnixMs, step_ms: u64) -> Vec<(UnixMs, f64)> {
        if from > to {
            return Vec::new();
        }
        if step_ms == 0 {
            let first = self.0.partition_point(|(time_ms, _)| *time_ms < from);
            return self.0.range(first..).take_while(|(time_ms, _)| *time_ms <= to).copied().collect();
        }
        let mut points: Vec<(UnixMs, f64)> = Vec::new();
        let first = self.0.partition_point(|(time_ms, _)| time_ms.saturating_add(step_ms) <= from);
        for (time_ms, value) in self.0.range(first..) {
            // A point belongs to the first step at or after it.
            let at = from + time_ms.saturating_sub(from).div_ceil(step_ms) * step_ms;
            if at > to {
                break;
            }
            match points.last_mut() {
                Some((last, newest)) if *last == at => *newest = *value,
                _ => points.push((at, *value)),
            }
        }
        points
    }
}
