//! The uncongested floor of latency, for services that report no queue delay. Absent: probes that hold traffic back.

/// Floors of the last minute are kept in this many slots.
const SLOTS: usize = 12;
/// Length of a slot, in seconds in which the service was not overloaded.
const SLOT_S: f64 = 5.0;
/// Answers and time that make one mean.
const ANSWERS_MIN: f64 = 32.0;
const MEAN_S_MIN: f64 = 0.3;
/// Means are taken of fewer answers after so long.
const MEAN_S_MAX: f64 = 3.0;
/// A mean up to this share of a task's time per call is no queue worth speaking of.
const SMALL_SHARE: f64 = 0.05;
/// A mean up to this share of it is no queue where calls neither pile up nor are given up.
const STEADY_SHARE: f64 = 0.2;
/// Calls pile up when more than so many standard deviations of the answers are added to those in flight.
const PILED_SIGMAS: f64 = 3.0;
/// Calls given up, of those answered, at most.
const GIVEN_UP_SHARE: f64 = 0.01;
/// The queue must have drained after so long at the least share of capacity, in seconds: what latency is left is no queue,
/// provided that no more than this share of capacity was completed meanwhile.
const STUCK_S: f64 = 3.0;
const STUCK_SHARE: f64 = 0.9;
/// A mean within so many times the least latency is no queue.
const SPREAD: f64 = 2.0;

/// The lowest mean latency of the last minute without overload.
pub(super) struct Floor {
    slots: [Slot; SLOTS],
    at: usize,
    slot_s: f64,
    span: Span,
    /// How long the least was admitted, and yet the queue seemed too long; and the lowest mean of a window meanwhile.
    stuck_s: f64,
    stuck_us: f64,
    /// Calls completed since then, and capacity as it was believed then, in calls per second.
    stuck_answers: f64,
    stuck_rps: f64,
    /// What was left of latency once the queue must have drained.
    left_us: Option<f64>,
}

/// The windows that make the next mean.
#[derive(Clone, Copy, Default)]
struct Span {
    sum_us: f64,
    answers: f64,
    given_up: f64,
    seconds: f64,
    /// Requests in flight when it began.
    waiting: f64,
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
    pub(super) given_up: f64,
    /// Requests in flight at its end.
    pub(super) waiting: f64,
    pub(super) seconds: f64,
}

impl Floor {
    pub(super) fn new() -> Self {
        Self {
            slots: [NOTHING; SLOTS],
            at: 0,
            slot_s: 0.0,
            span: Span::default(),
            stuck_s: 0.0,
            stuck_us: f64::INFINITY,
            stuck_answers: 0.0,
            stuck_rps: 0.0,
            left_us: None,
        }
    }

    /// Folds in a window without overload; `call_us` is a task's time per call.
    pub(super) fn fold(&mut self, window: Latencies, call_us: f64) {
        self.stuck_s = 0.0;
        self.slots[self.at].least_us = self.slots[self.at].least_us.min(window.least_us);
        if window.answers > 0.0 {
            // Only time with traffic counts, so that a pause in it forgets nothing.
            self.slot_s += window.seconds.min(1.0);
            if self.slot_s >= SLOT_S {
                self.slot_s = 0.0;
                self.at = (self.at + 1) % SLOTS;
                self.slots[self.at] = NOTHING;
            }
        }
        let span = &mut self.span;
        span.sum_us += window.sum_us;
        span.answers += window.answers;
        span.given_up += window.given_up;
        span.seconds += window.seconds;
        let enough = span.answers >= ANSWERS_MIN && span.seconds >= MEAN_S_MIN;
        if enough || (span.answers > 0.0 && span.seconds >= MEAN_S_MAX) {
            let (span, mean_us) = (self.span, self.span.sum_us / self.span.answers);
            self.span = Span { waiting: window.waiting, ..Span::default() };
            let piled = window.waiting - span.waiting > PILED_SIGMAS * span.answers.sqrt();
            let steady = !piled && span.given_up <= span.answers * GIVEN_UP_SHARE;
            if steady || mean_us <= (call_us * SMALL_SHARE).max(self.least_us() * SPREAD) {
                self.slots[self.at].mean_us = self.slots[self.at].mean_us.min(mean_us);
                self.left_us = None;
            }
        }
    }

    /// Folds in a window of overload, in which latency shows no floor. `stuck_rps`: capacity, where the least share of it
    /// is admitted and yet the queue seems too long. Where that lasts and less than capacity is completed, the service
    /// became slower: what seemed a queue is its floor.
    pub(super) fn fold_overload(&mut self, window: Latencies, stuck_rps: Option<f64>) {
        self.slots[self.at].least_us = self.slots[self.at].least_us.min(window.least_us);
        self.span = Span { waiting: window.waiting, ..Span::default() };
        let Some(rps) = stuck_rps else {
            self.stuck_s = 0.0;
            return;
        };
        if self.stuck_s == 0.0 {
            (self.stuck_us, self.stuck_answers, self.stuck_rps) = (f64::INFINITY, 0.0, rps);
        }
        self.stuck_s += window.seconds.min(1.0);
        self.stuck_answers += window.answers;
        if self.stuck_s > STUCK_S * 0.5 && window.answers > 0.0 {
            self.stuck_us = self.stuck_us.min(window.sum_us / window.answers);
        }
        if self.stuck_s > STUCK_S {
            if self.stuck_answers < self.stuck_rps * self.stuck_s * STUCK_SHARE && self.stuck_us.is_finite() {
                self.left_us = Some(self.stuck_us);
            }
            self.stuck_s = 0.0;
        }
    }

    fn least_us(&self) -> f64 {
        self.slots.iter().map(|slot| slot.least_us).fold(f64::INFINITY, f64::min)
    }

    /// In microseconds; `None` while unknown. A service met in mid-overload has no mean that is surely no queue: twice
    /// its least latency stands in: too low a floor only shortens the queue.
    pub(super) fn us(&self, call_us: f64) -> Option<f64> {
        let mean_us = self.slots.iter().map(|slot| slot.mean_us).fold(f64::INFINITY, f64::min);
        let guess_us = self.least_us() * SPREAD;
        // Calls per task are learnt later than the first means: what a mean may be is judged as late as this.
        let floor_us = if mean_us <= guess_us.max(call_us * STEADY_SHARE) { mean_us } else { guess_us };
        let floor_us = self.left_us.unwrap_or(floor_us);
        floor_us.is_finite().then_some(floor_us)
    }
}

#[cfg(test)]
mod tests;
