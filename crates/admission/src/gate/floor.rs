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

/// The lowest mean latency of the last minute without overload.
pub(super) struct Floor {
    slots: [f64; SLOTS],
    at: usize,
    slot_s: f64,
    sum_us: f64,
    answers: f64,
    mean_s: f64,
}

impl Floor {
    pub(super) fn new() -> Self {
        Self { slots: [f64::INFINITY; SLOTS], at: 0, slot_s: 0.0, sum_us: 0.0, answers: 0.0, mean_s: 0.0 }
    }

    pub(super) fn fold(&mut self, latency_sum_us: f64, answers: f64, seconds: f64, overloaded: bool) {
        if overloaded {
            for slot in &mut self.slots {
                *slot *= 1.0 + RISE_PER_S * seconds.min(1.0);
            }
        } else {
            self.slot_s += seconds;
            if self.slot_s >= SLOT_S {
                self.slot_s = 0.0;
                self.at = (self.at + 1) % SLOTS;
                // The last known floor stays until a newer mean is there: a pause in traffic forgets nothing.
                self.slots[self.at] = f64::INFINITY;
            }
        }
        self.sum_us += latency_sum_us;
        self.answers += answers;
        self.mean_s += seconds;
        let enough = self.answers >= ANSWERS_MIN && self.mean_s >= MEAN_S_MIN;
        if enough || (self.answers > 0.0 && self.mean_s >= MEAN_S_MAX) {
            self.slots[self.at] = self.slots[self.at].min(self.sum_us / self.answers);
            (self.sum_us, self.answers, self.mean_s) = (0.0, 0.0, 0.0);
        }
    }

    /// In microseconds; `None` while unknown.
    pub(super) fn us(&self) -> Option<f64> {
        let floor = self.slots.iter().copied().fold(f64::INFINITY, f64::min);
        floor.is_finite().then_some(floor)
    }
}
