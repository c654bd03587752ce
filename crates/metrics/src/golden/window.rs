//! The last seconds of a flow: requests spread over the time they came in, latencies by the second they arrived.
//!
//! Samples arrive at any moment, and a rate over "the samples of five seconds" would swing by a fifth. So each delta is
//! spread evenly over the time it covers, and a rate is taken of five whole seconds that end one second ago, when every
//! proxy has spoken.

use super::WINDOW_S;
use model::{LatencyHistogram, UnixMs};
use std::collections::VecDeque;

/// Seconds kept: those of a rate, the second that waits for late samples, and the one that runs.
const SLOTS_MAX: usize = WINDOW_S as usize + 2;

/// What came in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: f64,
    pub(crate) errors: f64,
    pub(crate) rejects: f64,
    /// Sent, first attempts only.
    pub(crate) started: f64,
    /// Time that these had waited.
    pub(crate) queue_us: f64,
}

impl Counts {
    fn add(&mut self, other: &Self, share: f64) {
        self.requests += other.requests * share;
        self.errors += other.errors * share;
        self.rejects += other.rejects * share;
        self.started += other.started * share;
        self.queue_us += other.queue_us * share;
    }

    fn per(&self, seconds: f64) -> Self {
        Self {
            requests: self.requests / seconds,
            errors: self.errors / seconds,
            rejects: self.rejects / seconds,
            started: self.started / seconds,
            queue_us: self.queue_us / seconds,
        }
    }

    /// Mean wait of one request; `None` when none was sent.
    pub(crate) fn queue_delay_us(&self) -> Option<f64> {
        (self.started > 0.0).then(|| self.queue_us / self.started)
    }
}

#[derive(Debug, Default)]
struct Slot {
    second: u64,
    counts: Counts,
    latency: LatencyHistogram,
    back: LatencyHistogram,
}

#[derive(Debug, Default)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
}

impl Window {
    /// The slot of a second, made when missing; `None` when it is too old.
    fn slot(&mut self, second: u64) -> Option<&mut Slot> {
        let at = self.slots.partition_point(|slot| slot.second < second);
        if self.slots.get(at).is_none_or(|slot| slot.second != second) {
            if at == 0 && self.slots.len() == SLOTS_MAX {
                return None;
            }
            self.slots.insert(at, Slot { second, ..Slot::default() });
        }
        if self.slots.len() > SLOTS_MAX {
            self.slots.pop_front();
            return self.slots.get_mut(at - 1);
        }
        self.slots.get_mut(at)
    }

    /// Adds what came during the `covered_ms` before `now`; front latencies, and back ones where they are kept.
    pub(crate) fn add(
        &mut self,
        counts: Counts,
        (latency, back): (&LatencyHistogram, Option<&LatencyHistogram>),
        covered_ms: u64,
        now: UnixMs,
    ) {
        let covered_ms = covered_ms.clamp(1, WINDOW_S * 1_000);
        let begin = now.saturating_sub(covered_ms);
        for second in begin / 1_000..=now / 1_000 {
            let overlap = now.min((second + 1) * 1_000).saturating_sub(begin.max(second * 1_000));
            let share = overlap as f64 / covered_ms as f64;
            if let Some(slot) = self.slot(second).filter(|_| overlap > 0) {
                slot.counts.add(&counts, share);
            }
        }
        if let Some(slot) = self.slot(now / 1_000) {
            slot.latency.merge(latency);
            back.into_iter().for_each(|back| slot.back.merge(back));
        }
    }

    /// Counts per second over the window.
    pub(crate) fn rates(&self, now: UnixMs) -> Counts {
        let end = (now / 1_000).saturating_sub(1);
        let seconds = end.saturating_sub(WINDOW_S)..end;
        let mut sum = Counts::default();
        for slot in self.slots.iter().filter(|slot| seconds.contains(&slot.second)) {
            sum.add(&slot.counts, 1.0);
        }
        sum.per(WINDOW_S as f64)
    }

    /// Latencies that arrived in the window.
    pub(crate) fn latency(&self, now: UnixMs) -> LatencyHistogram {
        self.merged(now, |slot| &slot.latency)
    }

    /// Back latencies that arrived in the window.
    pub(crate) fn back(&self, now: UnixMs) -> LatencyHistogram {
        self.merged(now, |slot| &slot.back)
    }

    fn merged(&self, now: UnixMs, of: impl Fn(&Slot) -> &LatencyHistogram) -> LatencyHistogram {
        let from = (now / 1_000).saturating_sub(WINDOW_S);
        let mut merged = LatencyHistogram::default();
        for slot in self.slots.iter().filter(|slot| (from..=now / 1_000).contains(&slot.second)) {
            merged.merge(of(slot));
        }
        merged
    }
}
