//! Calls that their callers gave up before an answer: nobody waits for them, and yet the service may. What it answers tells
//! when they are out of it: calls sent before one that was answered are not in its queue any more.
//!
//! Absent: whether a service notices that its caller went. Both kinds answer the next call in time once their queue is short.

use super::window::Closed;
use std::collections::VecDeque;

/// Calls held at most; the oldest are forgotten. Far more than any queue that is not too long.
const HELD_MAX: u64 = 10_000;
/// Windows apart for which they are held; of older ones the latest counts.
const HELD_WINDOWS: usize = 64;
/// So many calls given up one after the other, each after a time in which an answer was due, are silence.
const SILENT_CALLS: f64 = 8.0;
/// An answer is due after so many times the latency without a queue.
const DUE_FLOORS: f64 = 2.0;
/// Tasks a second that are let into silence, to hear when it ends: at first, and less the longer it lasts; and the share
/// of capacity that they may be.
const PROBES_RPS: f64 = 10.0;
const PROBES_SHARE: f64 = 0.2;
/// Patience is judged by so many calls or more, over so long (seconds), where at least this share of them was given up.
const PATIENCE_CALLS: f64 = 32.0;
const PATIENCE_S: f64 = 1.0;
const PATIENCE_SHARE: f64 = 0.05;
/// How long it is remembered, in seconds with traffic.
const PATIENCE_KEPT_S: f64 = 60.0;
/// A window counts at most so long (seconds): more is a pause in the traffic.
const SECONDS_MAX: f64 = 1.0;

/// What is known of calls given up.
pub(super) struct Unanswered {
    /// By the time at which they were sent, oldest first.
    held: VecDeque<Held>,
    /// Calls in `held`.
    calls: u64,
    /// Since the last answer: calls given up after an answer was due.
    overdue: f64,
    /// How long silence lasts.
    silent_s: f64,
    span: Outcomes,
    patience: Option<Patience>,
}

#[derive(Clone, Copy)]
struct Held {
    sent_us: u64,
    calls: u64,
}

/// How calls ended.
#[derive(Clone, Copy, Default)]
struct Outcomes {
    answered: f64,
    given_up: f64,
    /// Sum of the times after which they were given up.
    waited_us: f64,
    seconds: f64,
}

#[derive(Clone, Copy)]
struct Patience {
    us: f64,
    left_s: f64,
}

impl Unanswered {
    pub(super) fn new() -> Self {
        Self {
            held: VecDeque::with_capacity(HELD_WINDOWS + 1),
            calls: 0,
            overdue: 0.0,
            silent_s: 0.0,
            span: Outcomes::default(),
            patience: None,
        }
    }

    /// Folds in a window of `start_us..now_us`; calls that are out of the service after it, which were held before.
    pub(super) fn fold(&mut self, closed: &Closed, floor_us: f64, start_us: u64, now_us: u64) -> u64 {
        let seconds = ((now_us - start_us) as f64 / 1e6).min(SECONDS_MAX);
        let before = self.calls + u64::from(closed.given_up.count());
        // What ended in a window ended in its middle.
        let middle_us = start_us + (now_us - start_us) / 2;
        let sent_us = |waited_us: f64| middle_us.saturating_sub(waited_us as u64);
        // The clock went back: when they were sent is not known any more.
        while self.held.back().is_some_and(|held| held.sent_us > now_us) {
            self.calls -= self.held.pop_back().map_or(0, |held| held.calls);
        }
        if let Some(waited_us) = closed.given_up.mean_us() {
            self.hold(Held { sent_us: sent_us(waited_us), calls: u64::from(closed.given_up.count()) });
            if waited_us >= floor_us * DUE_FLOORS {
                self.overdue += f64::from(closed.given_up.count());
            }
        }
        if let Some(latency_us) = closed.work.mean_us() {
            self.answered_from(sent_us(latency_us));
            (self.overdue, self.silent_s) = (0.0, 0.0);
        } else if self.silent() {
            self.silent_s += seconds;
        }
        self.fold_patience(closed, floor_us, seconds);
        before - self.calls
    }

    fn hold(&mut self, held: Held) {
        self.calls += held.calls;
        let at = self.held.partition_point(|other| other.sent_us <= held.sent_us);
        self.held.insert(at, held);
        if self.held.len() > HELD_WINDOWS
            && let (Some(oldest), Some(next)) = (self.held.pop_front(), self.held.front_mut())
        {
            next.calls += oldest.calls;
        }
        while self.calls > HELD_MAX {
            let Some(oldest) = self.held.pop_front() else { return };
            self.calls -= oldest.calls;
        }
    }

    /// A call that was sent then has been answered: the service takes calls in the order in which they come.
    fn answered_from(&mut self, sent_us: u64) {
        while self.held.front().is_some_and(|held| held.sent_us < sent_us) {
            self.calls -= self.held.pop_front().map_or(0, |held| held.calls);
        }
    }

    fn fold_patience(&mut self, closed: &Closed, floor_us: f64, seconds: f64) {
        let span = &mut self.span;
        span.answered += f64::from(closed.work.count());
        span.given_up += f64::from(closed.given_up.count());
        span.waited_us += closed.given_up.sum_us();
        if span.answered + span.given_up > 0.0 {
            span.seconds += seconds;
        }
        if let Some(patience) = &mut self.patience {
            patience.left_s -= seconds;
        }
        self.patience = self.patience.filter(|patience| patience.left_s > 0.0);
        if span.answered + span.given_up < PATIENCE_CALLS || span.seconds < PATIENCE_S {
            return;
        }
        let ended = std::mem::take(span);
        let us = ended.waited_us / ended.given_up.max(1.0);
        if ended.given_up >= (ended.answered + ended.given_up) * PATIENCE_SHARE && us >= floor_us * DUE_FLOORS {
            let us = self.patience.map_or(us, |patience| (patience.us + us) / 2.0);
            self.patience = Some(Patience { us, left_s: PATIENCE_KEPT_S });
        }
    }

    /// Calls that may still be in the service although nobody waits for them.
    pub(super) fn held(&self) -> u64 {
        self.calls
    }

    /// Nothing is answered in time any more: the queue is longer than callers wait, or the service stands still.
    pub(super) fn silent(&self) -> bool {
        self.overdue >= SILENT_CALLS
    }

    /// Tasks a second to let in while it is silent.
    pub(super) fn probes_rps(&self, capacity_rps: Option<f64>) -> f64 {
        let probes_rps = PROBES_RPS / (1.0 + self.silent_s);
        capacity_rps.map_or(probes_rps, |rps| probes_rps.min(rps * PROBES_SHARE))
    }

    /// How long callers wait, where a noticeable share of them gave up within the last minute, in microseconds.
    pub(super) fn patience_us(&self) -> Option<f64> {
        self.patience.map(|patience| patience.us)
    }
}

#[cfg(test)]
mod tests;
