//! Capacity: calls per second completed while the queue was not empty. Idle time says nothing of it and is left out.

/// Busy time over which completions are averaged, in seconds.
const BUSY_S: f64 = 8.0;
/// Busy time that earlier spans count for when overload begins, or a guess, in seconds.
const YIELDED_S: f64 = 0.3;
/// Shortest busy span that is judged, in seconds.
const SPAN_S_MIN: f64 = 0.01;
/// A span with no completion where so many were expected is a stall, which says nothing of capacity.
const STALL_COMPLETIONS: f64 = 6.0;
/// So many calls should have come, and been answered, while nobody came nor was answered: a pause. (In overload more come.)
const PAUSE_COMPLETIONS: f64 = 4.0;
/// Of windows that pauses take away one in so many is believed.
const UNMEASURED: u32 = 3;
/// Two spans in a row so many standard deviations (squared) off, to the same side: capacity changed.
const SURPRISE: f64 = 9.0;

/// One busy span of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) completions: f64,
    pub(super) seconds: f64,
}

#[derive(Default)]
pub(super) struct Capacity {
    kept: Span,
    /// The last span and on which side it surprised, if it did.
    last: Span,
    surprised: f64,
    /// Throughput whether busy or not, smoothed: capacity is at least that.
    throughput: f64,
    observed_s: f64,
    /// For how long nobody came nor was answered, up to now.
    quiet_s: f64,
    /// A pause ended while somebody was in the service.
    was_paused: bool,
    /// Windows in a row that a pause took away, those aside in which nothing was.
    unmeasured: u32,
}

impl Capacity {
    /// Calls per second; `None` before any busy span.
    pub(super) fn rps(&self) -> Option<f64> {
        (self.kept.seconds > 0.0).then(|| (self.kept.completions.max(0.5) / self.kept.seconds).max(1e-3))
    }

    /// Relative standard deviation of the estimate, were completions as irregular as Poisson arrivals.
    pub(super) fn doubt(&self) -> f64 {
        (2.0 * self.kept.completions).max(1.0).sqrt().recip()
    }

    /// Notes for how long of a window nobody came nor was answered, whether that is all of it, and whether somebody was in the
    /// service at its end; gives whether it holds a pause, or what one left behind, and is not to be measured. Those who wait for their answers before they ask again
    /// stop with the service, and neither the window in which they resume nor the next says what it can do.
    pub(super) fn note_pause(&mut self, quiet_s: f64, whole: bool, occupied: bool) -> bool {
        let quiet_s = self.quiet_s + quiet_s.max(0.0);
        self.quiet_s = if whole { quiet_s } else { 0.0 };
        let pauses = self.throughput * quiet_s >= PAUSE_COMPLETIONS;
        let paused = std::mem::replace(&mut self.was_paused, pauses && occupied) || pauses;
        if !whole {
            self.unmeasured = if paused { self.unmeasured + 1 } else { 0 };
        }
        // Callers in step make a pause of every turn: they are measured all the same, now and then.
        paused && (whole || !self.unmeasured.is_multiple_of(UNMEASURED))
    }

    /// Folds in a busy span.
    pub(super) fn busy(&mut self, span: Span) {
        if span.seconds < SPAN_S_MIN {
            return;
        }
        let expected = self.rps().unwrap_or(0.0) * span.seconds;
        if span.completions == 0.0 && expected >= STALL_COMPLETIONS {
            return;
        }
        let off = span.completions - expected;
        let spread = expected * (1.0 + span.seconds / self.kept.seconds.max(SPAN_S_MIN)) + 1.0;
        let side = if off * off / spread > SURPRISE { off.signum() } else { 0.0 };
        if side != 0.0 && side == self.surprised {
            self.kept = self.last;
        }
        self.surprised = side;
        self.last = span;
        let keep = BUSY_S / (BUSY_S + span.seconds);
        self.kept.completions = self.kept.completions * keep + span.completions;
        self.kept.seconds = self.kept.seconds * keep + span.seconds;
    }

    /// Overload begins: spans of moderate load were picked by chance (those in which work went slowly), so they yield
    /// to what comes now.
    pub(super) fn yield_to_overload(&mut self) {
        self.lighten();
    }

    /// Folds in a window's throughput, busy or not.
    pub(super) fn throughput(&mut self, completions: f64, seconds: f64) {
        self.observed_s += seconds;
        let gain = (seconds / (BUSY_S + seconds)).max(seconds / self.observed_s);
        self.throughput += gain * (completions / seconds - self.throughput);
        if self.observed_s >= BUSY_S && self.rps().is_some_and(|rps| rps < self.throughput) {
            self.kept.completions = self.throughput * self.kept.seconds;
        }
    }

    /// Nothing is known but that it is more than nothing: a first guess, of little weight.
    pub(super) fn guess(&mut self, rps: f64) {
        self.kept = Span { completions: rps * YIELDED_S, seconds: YIELDED_S };
    }

    /// Capacity was believed too small. What was measured is refuted and the new figure is a guess, which what comes next
    /// may soon correct.
    pub(super) fn raise(&mut self, factor: f64) {
        self.lighten();
        self.kept.completions *= factor;
    }

    /// Earlier spans count for little from now on.
    fn lighten(&mut self) {
        let keep = (YIELDED_S / self.kept.seconds.max(YIELDED_S)).min(1.0);
        self.kept = Span { completions: self.kept.completions * keep, seconds: self.kept.seconds * keep };
    }
}
