//! The uncongested floor of latency, for services that report no queue delay. Absent: probes that hold traffic back.

/// Floors of the last minute are kept in this many slots.
const SLOTS: usize = 12;
/// Length of a slot, in seconds in which the service was not overloaded.
const SLOT_S: f64 = 5.0;
/// Answers and time that make one mean.
const ANSWERS_MIN: f64 = 64.0;
const MEAN_S_MIN: f64 = 0.3;
/// Means are taken of fewer answers after so long.
const MEAN_S_MAX: f64 = 3.0;
/// How fast the floor may rise while overloaded, per second: a service that became slower is believed in the end.
const RISE_PER_S: f64 = 0.005;

/// A mean beyond this share of a task's time per call may be mostly queue; it counts only near the least latency.
const CALM_SHARE: f64 = 0.05;
/// A mean within so many times the least latency is no queue.
const SPREAD: f64 = 2.0;

/// The lowest mean latency of the last minute without overload.
pub(super) struct Floor {
    slots: [Slot; SLOTS],
    at: usize,
    slot_s: f64,
    sum_us: f64,
    answers: f64,
    mean_s: f64,
}

/// Five seconds: the least latency, and the lowest mean that was surely no queue.
#[derive(Clone, Copy)]
struct Slot {
    least_us: f64,
    mean_us: f64,
}

const NOTHING: Slot = Slot { least_us: f64::INFINITY, mean_us: f64::INFINITY };

/// A window's latencies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latencies {
    pub(super) sum_us: f64,
    pub(super) least_us: f64,
    pub(super) answers: f64,
}

impl Floor {
    pub(super) fn new() -> Self {
        Self { slots: [NOTHING; SLOTS], at: 0, slot_s: 0.0, sum_us: 0.0, answers: 0.0, mean_s: 0.0 }
    }

    /// Folds a window in; `each_us` is a task's time per call.
    pub(super) fn fold(&mut self, window: Latencies, each_us: f64, seconds: f64, overloaded: bool) {
        if overloaded {
            for slot in &mut self.slots {
                slot.mean_us *= 1.0 + RISE_PER_S * seconds.min(1.0);
            }
        } else if window.answers > 0.0 {
            // Only time with traffic counts, so that a pause in it forgets nothing.
            self.slot_s += seconds.min(1.0);
            if self.slot_s >= SLOT_S {
                self.slot_s = 0.0;
                self.at = (self.at + 1) % SLOTS;
                self.slots[self.at] = NOTHING;
            }
        }
        self.sum_us += window.sum_us;
        self.answers += window.answers;
        self.mean_s += seconds;
        self.slots[self.at].least_us = self.slots[self.at].least_us.min(window.least_us);
        let enough = self.answers >= ANSWERS_MIN && self.mean_s >= MEAN_S_MIN;
        if enough || (self.answers > 0.0 && self.mean_s >= MEAN_S_MAX) {
            let mean_us = self.sum_us / self.answers;
            if mean_us <= (each_us * CALM_SHARE).max(self.least_us() * SPREAD) {
                self.slots[self.at].mean_us = self.slots[self.at].mean_us.min(mean_us);
            }
            (self.sum_us, self.answers, self.mean_s) = (0.0, 0.0, 0.0);
        }
    }

    fn least_us(&self) -> f64 {
        self.slots.iter().map(|slot| slot.least_us).fold(f64::INFINITY, f64::min)
    }

    /// In microseconds; `None` while unknown. A service met in mid-overload has no mean that is surely no queue: twice
    /// its least latency stands in until the queue is short enough to have one.
    pub(super) fn us(&self) -> Option<f64> {
        let mean_us = self.slots.iter().map(|slot| slot.mean_us).fold(f64::INFINITY, f64::min);
        let floor_us = if mean_us.is_finite() { mean_us } else { self.least_us() * SPREAD };
        floor_us.is_finite().then_some(floor_us)
    }
}
