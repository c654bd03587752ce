//! From a closed window to new levels: feed-forward (capacity ÷ demand × calls per task), corrected by queue delay.
//!
//! DAGOR steps its level down 5% and up 1% a window; here one window's demand gives the level at once, and the queue
//! only corrects what the estimate missed. Levels are published per step of queue length, so that the correction also
//! acts within a window. Absent: counting (`window`), deciding (`gate`).

use super::capacity::{Capacity, Span};
use super::demand::Demand;
use super::floor::{Floor, Latencies};
use super::unanswered::Unanswered;
use super::window::{Closed, IDLE_DELAY_US, OFFERS_MAX};
use super::{Config, Signal};
use crate::priority::{BUCKETS, LEVEL_ALL};

/// Steps of queue length for which a level is published.
pub(super) const STEPS: usize = 32;
/// Steps per target queue delay.
const STEPS_PER_TARGET: f64 = 4.0;
/// The step whose level callers are told: half the target, so that they leave enough to fill the queue, and not all.
pub(super) const ADVERTISED_STEP: usize = 2;
/// Offers of a window that are never too many to wait for its end.
pub(super) const OFFERS_MIN: u32 = 32;
/// A window is never closed sooner than this, however much comes, in microseconds.
pub(super) const ELAPSED_US_MIN: u64 = 10_000;

/// Share of a call's time that its queue may take at the target.
const TARGET_SHARE: f64 = 0.25;
/// The same at the limit: all of it where a task calls once, less where its other calls wait too, but so much at least.
const LIMIT_SHARE_MIN: f64 = 0.5;
/// Share of a task's time that one queue may take at the limit.
const LIMIT_SHARE_ONE: f64 = 0.6;
/// Requests in the queue aimed at, at least, however slow the service.
const QUEUE_MIN: f64 = 3.0;
/// The limit while overloaded, in targets at most: a task that may take long need not.
const LIMIT_TARGETS: f64 = 8.0;
/// How much more than capacity is admitted into an empty queue, and how much less into one twice its target.
const EMPTY_GAIN: f64 = 0.7;
const FULL_LOSS: f64 = 0.25;
/// The least share of capacity admitted below the queue limit: whoever needs less is never dipped into. Where the queue
/// says that capacity is less than measured (a CPU quota makes a service faster in bursts than in the long run), it is a
/// share of that, down to so much.
const ADMITTED_MIN: f64 = 0.8;
const ADMITTED_CORRECTION_MIN: f64 = 0.9;
/// The least share admitted at all: something must come, or nothing would be learnt.
const TRICKLE: f64 = 0.02;
/// Integral correction per second, and its bounds.
const CORRECTION_PER_S: f64 = 0.1;
const CORRECTION_MIN: f64 = 0.8;
const CORRECTION_MAX: f64 = 1.25;
/// Work is shed, and yet for so long (seconds) the queue is below this share of its target, and what is completed is not
/// what was believed possible: capacity was believed too small, and is raised by so much per second.
const EMPTY_TARGET: f64 = 0.1;
const EMPTY_S: f64 = 0.5;
const RAISE_PER_S: f64 = 1.5;
/// Completions of such a time are averaged over so long (seconds). They are as believed within two standard deviations, and
/// this share below: with a queue that happens to be short, a service that is fully used is no faster than before.
const EMPTY_AVERAGE_S: f64 = 1.0;
const EMPTY_SHARE: f64 = 0.8;
/// Where fewer are completed than that, too little is let in: for so long (seconds) because demand has just changed.
const EMPTY_LONG_S: f64 = 3.0;
/// A window longer than this (seconds) is a leap of the clock, or silence: it says nothing of capacity.
const SILENCE_S_MAX: f64 = 60.0;
/// Memory of calls per task and of deadlines, in seconds.
const TASKS_S: f64 = 15.0;
/// Memory of a call's work, in seconds.
const WORK_S: f64 = 2.0;
/// Work that a call should have time for, in means: some take longer.
const WORK_SPREAD: f64 = 2.0;
/// The least share of a call's time that may be spent waiting.
const WAIT_SHARE_MIN: f64 = 0.1;
/// Calls per task at most.
const CALLS_MAX: f64 = 64.0;
/// Callers' patience counts as a task's time, but for so many targets at least: some go early without a reason.
const PATIENCE_TARGETS: f64 = 4.0;
/// Given-up calls count as completed up to this share of the answers of a window: many at once were noticed, not worked on.
const GONE_SHARE_MAX: f64 = 0.25;
/// How sure overload must be, against the rule, once the queue is so many times its target, or at its limit.
const LONG_TARGETS: f64 = 5.0;
const CARE_AT_LIMIT: f64 = 0.4;
/// Demand below this share of capacity for so long (seconds) ends overload: reports come in lumps, with gaps.
const CALM: f64 = 0.95;
const CALM_S: f64 = 1.0;

/// Everything learnt over windows.
pub(super) struct Controller {
    signal: Signal,
    target_us: f64,
    timeout_us: f64,
    window_s: f64,
    demand: Demand,
    capacity: Capacity,
    floor: Floor,
    unanswered: Unanswered,
    /// Given-up calls that this window showed to be out of the service.
    gone: f64,
    /// Nothing was answered in time before this window either.
    was_silent: bool,
    first_calls: f64,
    calls: f64,
    remaining_us: f64,
    /// Mean work of a call (inferred: its uncongested latency); 0 while unknown.
    work_us: f64,
    offers_rps: f64,
    correction: f64,
    /// How long the queue has been nearly empty while overloaded, and what was completed meanwhile.
    idle_s: f64,
    idle: Span,
    /// How long demand has been below capacity.
    calm_s: f64,
    overloaded: bool,
    queue_delay_us: f64,
}

/// What a closed window publishes.
pub(super) struct Outcome {
    pub(super) levels: [u32; STEPS],
    /// Buckets within which a level is applied by chance, a bit each.
    pub(super) lumps: [u64; BUCKETS / 64],
    /// Waiting requests per step; 0 while capacity is unknown.
    pub(super) step_waiting: f64,
    pub(super) base_waiting: f64,
    pub(super) wait_each_us: f64,
    pub(super) offers_max: u32,
    pub(super) floor_us: u64,
    pub(super) demand_rps: f64,
    pub(super) capacity_rps: f64,
    pub(super) queue_delay_us: f64,
    pub(super) calls_per_task: f64,
    pub(super) overloaded: bool,
}

impl Controller {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            signal: config.signal,
            target_us: config.queue_delay_target_us.max(1) as f64,
            timeout_us: config.task_timeout_us.max(1) as f64,
            window_s: config.window_us.max(1) as f64 / 1e6,
            demand: Demand::new(),
            capacity: Capacity::default(),
            floor: Floor::new(),
            unanswered: Unanswered::new(),
            gone: 0.0,
            was_silent: false,
            first_calls: 0.0,
            calls: 0.0,
            remaining_us: config.task_timeout_us.max(1) as f64,
            work_us: 0.0,
            offers_rps: 0.0,
            correction: 1.0,
            idle_s: 0.0,
            idle: Span::default(),
            calm_s: 0.0,
            overloaded: false,
            queue_delay_us: 0.0,
        }
    }

    /// Where the window's demand is taken into.
    pub(super) fn asked(&mut self) -> &mut [u32] {
        &mut self.demand.asked
    }

    /// The first part of closing: what became of calls given up; those of them that are out of the service.
    pub(super) fn fold_unanswered(&mut self, closed: &Closed, start_us: u64, now_us: u64) -> u64 {
        self.was_silent = self.unanswered.silent();
        let floor_us = self.floor.us(self.call_us()).unwrap_or(0.0);
        let gone = self.unanswered.fold(closed, floor_us, start_us, now_us);
        self.gone = gone as f64;
        gone
    }

    /// Given-up calls that the service may have still.
    pub(super) fn held(&self) -> u64 {
        self.unanswered.held()
    }

    /// Closes a window of `start_us..now_us`, at whose end `waiting` requests wait.
    pub(super) fn close(&mut self, closed: &Closed, waiting: u64, start_us: u64, now_us: u64) -> Outcome {
        let seconds = (now_us - start_us) as f64 / 1e6;
        self.demand.fold(seconds);
        self.fold_tasks(closed, seconds);
        if self.signal == Signal::Inferred {
            self.fold_floor(closed, waiting, seconds);
        }
        self.fold_capacity(closed, waiting, seconds);
        self.fold_queue_delay(closed, waiting);
        let calls_per_task = self.calls_per_task();
        let each_us = self.call_us();
        let least_us = self.capacity.rps().map_or(0.0, |rps| QUEUE_MIN / rps * 1e6);
        let target_us = self.target_us.max(least_us).min(each_us * TARGET_SHARE);
        let limit_us = each_us * calls_per_task.recip().max(LIMIT_SHARE_MIN);
        let limit_calm_us = limit_us.max(target_us * 1.5);
        let one_us = self.remaining_us * LIMIT_SHARE_ONE;
        let limit_overloaded_us = limit_us.min(one_us).max(target_us * 1.5).min(target_us * LIMIT_TARGETS);
        self.judge(target_us, limit_calm_us, seconds);
        self.raise_if_idle(closed, target_us, seconds);
        let limit_us = if self.overloaded { limit_overloaded_us } else { limit_calm_us };
        if let Some(rps) = self.capacity.rps() {
            self.demand.watch(rps / calls_per_task);
        }
        self.outcome(target_us, limit_us)
    }

    fn calls_per_task(&self) -> f64 {
        if self.first_calls < 1.0 { 1.0 } else { (self.calls / self.first_calls).clamp(1.0, CALLS_MAX) }
    }

    /// A task's time for each of its calls here, in microseconds, without the work itself: what may be spent waiting.
    fn call_us(&self) -> f64 {
        let each_us = self.remaining_us / self.calls_per_task();
        (each_us - self.work_us * WORK_SPREAD).max(each_us * WAIT_SHARE_MIN)
    }

    fn fold_tasks(&mut self, closed: &Closed, seconds: f64) {
        let keep = TASKS_S / (TASKS_S + seconds);
        let work_us = match self.signal {
            Signal::Exact => closed.work.mean_us(),
            Signal::Inferred => self.floor.us(self.remaining_us / self.calls_per_task()),
        };
        if let Some(work_us) = work_us {
            let gain = if self.work_us == 0.0 { 1.0 } else { seconds / (WORK_S + seconds) };
            self.work_us += (work_us - self.work_us) * gain;
        }
        self.first_calls = self.first_calls * keep + f64::from(closed.admitted);
        self.calls = self.calls * keep + f64::from(closed.admitted) + f64::from(closed.passes);
        if let Some(remaining_us) = closed.remaining.mean_us() {
            let patience_us = self.unanswered.patience_us().map(|us| us.max(self.target_us * PATIENCE_TARGETS));
            let remaining_us = patience_us.map_or(remaining_us, |us| us.min(remaining_us));
            self.remaining_us += (remaining_us.max(1.0) - self.remaining_us) * (1.0 - keep);
        }
        let offers_rps = f64::from(closed.offers) / seconds;
        self.offers_rps += (offers_rps - self.offers_rps) * seconds / (1.0 + seconds);
        self.offers_rps = self.offers_rps.max(offers_rps * 0.5);
    }

    fn fold_floor(&mut self, closed: &Closed, waiting: u64, seconds: f64) {
        let answers = f64::from(closed.work.count());
        let window = Latencies {
            sum_us: closed.work.sum_us(),
            least_us: if answers > 0.0 { closed.work_min_us as f64 } else { f64::INFINITY },
            answers,
            given_up: f64::from(closed.abandoned) + f64::from(closed.given_up.count()),
            waiting: waiting as f64,
            seconds,
        };
        if self.overloaded {
            let stuck = self.correction <= CORRECTION_MIN && self.queue_delay_us > self.target_us;
            let stuck = stuck && self.unanswered.held() == 0;
            self.floor.fold_overload(window, self.capacity.rps().filter(|_| stuck));
        } else {
            self.floor.fold(window, self.call_us());
        }
    }

    fn fold_capacity(&mut self, closed: &Closed, waiting: u64, seconds: f64) {
        let answers = f64::from(closed.work.count());
        // Whoever comes first after its time closes a window, and may be all there is in it.
        let events = f64::from(closed.offers) + answers;
        let quiet_s = if events <= 1.0 { seconds } else { seconds - self.window_s };
        let paused = self.capacity.note_pause(quiet_s, events == 0.0, waiting > self.unanswered.held());
        if seconds > SILENCE_S_MAX {
            return;
        }
        self.capacity.throughput(answers, seconds);
        match self.signal {
            _ if paused => {}
            Signal::Exact => {
                let (completions, seconds) = (f64::from(closed.queued_starts), closed.queued_us as f64 / 1e6);
                self.capacity.busy(Span { completions, seconds });
            }
            Signal::Inferred => {
                let floor_us = self.floor.us(self.call_us()).unwrap_or(f64::INFINITY);
                let delay_us = closed.delays.mean_us().unwrap_or(0.0);
                let busy = delay_us > (floor_us * 0.5).max(IDLE_DELAY_US as f64);
                // What silence leaves behind was not all of this window.
                if busy && !self.was_silent && !self.unanswered.silent() {
                    let completions = answers + self.gone.min(answers * GONE_SHARE_MAX);
                    self.capacity.busy(Span { completions, seconds });
                }
            }
        }
        if self.was_silent && !self.unanswered.silent() && self.capacity.rps().is_none() {
            // Whatever it can do: to let all in once more would be the end of it once more.
            self.capacity.guess(self.unanswered.probes_rps(None));
            self.overloaded = true;
        }
    }

    fn fold_queue_delay(&mut self, closed: &Closed, waiting: u64) {
        let (answers, given_up) = (f64::from(closed.delays.count()), f64::from(closed.given_up.count()));
        self.queue_delay_us = match (closed.delays.mean_us(), self.capacity.rps()) {
            // Most gave up: they waited for so long at the least.
            _ if given_up > answers => {
                let floor_us = self.floor.us(self.call_us()).unwrap_or(0.0);
                let waited_us = (closed.given_up.sum_us() - given_up * floor_us).max(0.0);
                (closed.delays.sum_us() + waited_us) / (answers + given_up)
            }
            (Some(delay_us), _) => delay_us,
            (None, Some(rps)) if self.signal == Signal::Exact => (waiting as f64 / rps * 1e6).min(self.timeout_us),
            (None, _) if self.unanswered.silent() => self.queue_delay_us,
            (None, _) => 0.0,
        };
    }

    /// Overloaded or not, and the integral correction.
    fn judge(&mut self, target_us: f64, limit_us: f64, seconds: f64) {
        let Some(capacity_rps) = self.capacity.rps() else { return };
        let calls_per_task = self.calls_per_task();
        let queued = self.queue_delay_us > target_us * 0.5;
        let long_us = limit_us.min(target_us * LONG_TARGETS);
        let care = if self.queue_delay_us > long_us { CARE_AT_LIMIT } else { 1.0 };
        if queued && self.demand.exceeds(capacity_rps / calls_per_task, self.capacity.doubt(), care) {
            if !self.overloaded {
                self.capacity.yield_to_overload();
            }
            self.overloaded = true;
        }
        let calm = self.demand.total() * calls_per_task < capacity_rps * CALM && self.queue_delay_us < target_us;
        self.calm_s = if calm { self.calm_s + seconds.min(self.window_s) } else { 0.0 };
        if self.calm_s > CALM_S {
            self.overloaded = false;
        }
        if !self.overloaded {
            self.correction += (1.0 - self.correction) * seconds / (2.0 + seconds);
            return;
        }
        if self.unanswered.silent() {
            return;
        }
        let error = ((target_us - self.queue_delay_us) / target_us).clamp(-1.0, 1.0);
        let correction = self.correction + CORRECTION_PER_S * seconds.min(self.window_s) * error;
        self.correction = correction.clamp(CORRECTION_MIN, CORRECTION_MAX);
    }

    /// Finds out by an empty queue that capacity was believed too small.
    fn raise_if_idle(&mut self, closed: &Closed, target_us: f64, seconds: f64) {
        let Some(believed_rps) = self.capacity.rps().filter(|_| !self.unanswered.silent()) else { return };
        if !self.overloaded || self.queue_delay_us >= target_us * EMPTY_TARGET {
            (self.idle_s, self.idle) = (0.0, Span::default());
            return;
        }
        self.idle_s += seconds;
        let keep = EMPTY_AVERAGE_S / (EMPTY_AVERAGE_S + seconds);
        self.idle.completions = self.idle.completions * keep + f64::from(closed.work.count());
        self.idle.seconds = self.idle.seconds * keep + seconds;
        let expected = believed_rps * self.idle.seconds;
        let spread = 2.0 * expected.sqrt();
        let is_faster = self.idle_s > EMPTY_S && self.idle.completions > expected + spread;
        let is_starved = self.idle_s > EMPTY_LONG_S && self.idle.completions < expected * EMPTY_SHARE - spread;
        if is_faster || is_starved {
            self.capacity.raise(1.0 + RAISE_PER_S * seconds.min(self.window_s));
        }
    }

    fn outcome(&self, target_us: f64, limit_us: f64) -> Outcome {
        let calls_per_task = self.calls_per_task();
        let capacity_rps = self.capacity.rps();
        let floor_us = self.floor.us(self.call_us()).unwrap_or(0.0);
        let expected = self.offers_rps * self.window_s * 2.0;
        Outcome {
            levels: match capacity_rps {
                _ if self.unanswered.silent() => self.probing(),
                Some(rps) => self.levels(rps, target_us, limit_us),
                None => [LEVEL_ALL; STEPS],
            },
            lumps: self.demand.lumps(),
            step_waiting: capacity_rps.map_or(0.0, |rps| (rps * target_us / 1e6 / STEPS_PER_TARGET).max(0.125)),
            base_waiting: if self.signal == Signal::Inferred {
                capacity_rps.unwrap_or(0.0) * floor_us / 1e6
            } else {
                0.0
            },
            wait_each_us: capacity_rps.map_or(0.0, |rps| 1e6 / rps),
            offers_max: (expected.min(f64::from(OFFERS_MAX)) as u32).max(OFFERS_MIN),
            floor_us: floor_us as u64,
            demand_rps: self.demand.total() * calls_per_task,
            capacity_rps: capacity_rps.unwrap_or(0.0),
            queue_delay_us: self.queue_delay_us,
            calls_per_task,
            overloaded: self.overloaded || self.unanswered.silent(),
        }
    }

    /// One level per step of queue length, the emptiest first.
    fn levels(&self, capacity_rps: f64, target_us: f64, limit_us: f64) -> [u32; STEPS] {
        let tasks = capacity_rps / self.calls_per_task();
        // The histogram wants ascending rates, and the fullest step has the least.
        let rates: [f64; STEPS] = std::array::from_fn(|at| {
            let delay_us = (STEPS - 1 - at) as f64 / STEPS_PER_TARGET * target_us;
            tasks * self.share(delay_us, target_us, limit_us)
        });
        let mut levels = self.demand.levels(&rates);
        levels.reverse();
        levels
    }

    /// In silence, whatever is known of the queue: enough to hear when it ends.
    fn probing(&self) -> [u32; STEPS] {
        let tasks_rps = self.unanswered.probes_rps(self.capacity.rps()) / self.calls_per_task();
        self.demand.levels(&[tasks_rps; STEPS])
    }

    /// The share of capacity to admit at a queue delay.
    fn share(&self, delay_us: f64, target_us: f64, limit_us: f64) -> f64 {
        let full = (2.0 - delay_us / limit_us).max(TRICKLE);
        if !self.overloaded {
            return if delay_us < limit_us { f64::INFINITY } else { full };
        }
        let over = delay_us / target_us - 1.0;
        let gain = if over < 0.0 { -over * EMPTY_GAIN } else { -over * FULL_LOSS };
        let least = ADMITTED_MIN * self.correction.clamp(ADMITTED_CORRECTION_MIN, 1.0);
        let share = ((1.0 + gain) * self.correction).max(least);
        if delay_us < limit_us { share } else { share.min(full * least).max(TRICKLE) }
    }
}
