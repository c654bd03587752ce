//! The gate before a service: counts on atomics, decides by comparing a priority with a published level, and every
//! 100 ms (sooner when far more comes than expected) closes its window into new levels. Absent: the queue itself.

mod capacity;
mod controller;
mod demand;
mod floor;
mod unanswered;
mod window;

use crate::advert::{Advert, RATE_MAX};
use crate::priority::{BUCKETS, Bucket, LEVEL_ALL, Priority};
use controller::{Controller, STEPS};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use window::{Apart, Window};

/// A clock that goes back by more than this starts a new window; less is two threads' readings crossing.
const CLOCK_BACK_US: u64 = 1_000_000;
/// Waits are kept in 1/16 µs per waiting request, so that services of 10⁶ requests a second still have a measure.
const WAIT_SCALE: u64 = 16;

/// 2³² ÷ the golden ratio: consecutive multiples spread evenly.
const GOLDEN_STEP: u32 = 0x9e37_79b9;

/// Where a gate learns how long work waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From [`Gate::started`] and [`Gate::finished`]: the service tells.
    Exact,
    /// From [`Gate::observed`] alone: latency against the uncongested floor, for a service that tells nothing.
    Inferred,
}

/// What a [`Gate`] is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gate learns of queueing.
    pub signal: Signal,
    /// Length of a window, in microseconds.
    pub window_us: u64,
    /// The queue delay aimed at while overloaded, in microseconds; less where a task calls here often.
    pub queue_delay_target_us: u64,
    /// A task's time where a request carries no deadline, in microseconds.
    pub task_timeout_us: u64,
    /// Requests admitted and not yet started (inferred: not yet answered), at most.
    pub waiting_max: u32,
    /// Threads that offer and finish requests (rounded up to a power of two, 16 at most). Each counts on cache lines of its
    /// own where no more than these ever touch a gate of the process; others share.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            signal: Signal::Exact,
            window_us: 100_000,
            queue_delay_target_us: 60_000,
            task_timeout_us: 500_000,
            waiting_max: 100_000,
            threads: 4,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may wait for a worker.
    Admit,
    /// It is answered at once, with the reason.
    Reject(Reason),
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its priority is not within the level.
    Overload,
    /// Its deadline has passed already.
    Expired,
    /// It would wait longer than its deadline allows.
    Doomed,
    /// As many requests wait as may wait.
    Overflow,
}

/// What a gate believes, for people, metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// As it rides on responses.
    pub advert: Advert,
    /// Calls per task, measured.
    pub calls_per_task: f32,
    /// Whether it sheds because demand exceeds capacity.
    pub overloaded: bool,
    /// Requests admitted and not yet started (inferred: answered).
    pub waiting: u32,
    /// Uncongested latency in microseconds (inferred only, 0 while unknown).
    pub floor_us: u32,
}

/// Admission for one instance (or, inferred, one endpoint or one service as a proxy sees it).
/// `Sync`; every method takes `&self` and never waits. About 8 KB, and 4 KB more from a thread's first
/// request on ([`Config::threads`]).
pub struct Gate {
    config: Config,
    /// Read by every offer, written once a window.
    table: Apart<Table>,
    window: Window,
    /// Never waited for: whoever does not get it leaves the window to whoever has it.
    controller: Mutex<Controller>,
    published: Published,
}

/// What an offer is judged by.
struct Table {
    /// Level by how full the queue is: step 0 is empty, the last and beyond is far too full.
    levels: [AtomicU32; STEPS],
    /// Buckets in which demand is concentrated, a bit each: within them a level admits by chance.
    lumps: [AtomicU64; BUCKETS / 64],
    /// Waiting requests per step, × [`WAIT_SCALE`]; 0 while capacity is unknown.
    step_waiting: AtomicU64,
    /// Requests that are in flight without any queue (inferred only), × [`WAIT_SCALE`].
    base_waiting: AtomicU64,
    /// How long one waiting request delays the next, in 1/16 µs; 0 while unknown.
    wait_each: AtomicU64,
    window_start_us: AtomicU64,
    /// Offers after which a window is closed early.
    offers_max: AtomicU32,
    floor_us: AtomicU64,
}

/// The last results, for readers.
struct Published {
    demand_rps: AtomicU32,
    capacity_rps: AtomicU32,
    queue_delay_us: AtomicU32,
    calls_per_task: AtomicU32,
    overloaded: AtomicU32,
}

impl Table {
    fn lump(&self, bucket: Bucket) -> bool {
        let number = usize::from(bucket.number());
        self.lumps[number / 64].load(Relaxed) >> (number % 64) & 1 == 1
    }

    /// Whether a level admits a priority. Where many requests share one, the level within their bucket is a share of them,
    /// spread evenly over the offers; or a tenth too much of one priority would be all of it or nothing.
    fn admits(&self, priority: Priority, level: u32, turn: u32) -> bool {
        let bucket = priority.bucket();
        if level < bucket.level_at(0.0) || level >= bucket.level_at(1.0) || !self.lump(bucket) {
            return priority.within(level);
        }
        let spread = turn.wrapping_mul(GOLDEN_STEP) as f32 / u32::MAX as f32;
        bucket.level_at(spread) < level
    }

    /// The level for callers; they cannot spread, so that a lump in the middle of which it falls is left to the gate.
    fn advertised(&self) -> u32 {
        let level = self.levels[controller::ADVERTISED_STEP].load(Relaxed);
        match u16::try_from(level).map(|value| Priority::from_u16(value).bucket()) {
            Ok(bucket) if self.lump(bucket) => bucket.level_at(1.0),
            _ => level,
        }
    }
}

impl Gate {
    /// A gate that knows nothing yet and admits all.
    pub fn new(config: Config, now_us: u64) -> Self {
        let controller = Controller::new(&config);
        Self {
            table: Apart(Table {
                levels: std::array::from_fn(|_| AtomicU32::new(LEVEL_ALL)),
                lumps: std::array::from_fn(|_| AtomicU64::new(0)),
                step_waiting: AtomicU64::new(0),
                base_waiting: AtomicU64::new(0),
                wait_each: AtomicU64::new(0),
                window_start_us: AtomicU64::new(now_us),
                offers_max: AtomicU32::new(controller::OFFERS_MIN),
                floor_us: AtomicU64::new(0),
            }),
            window: Window::new(config.threads, config.signal == Signal::Exact),
            controller: Mutex::new(controller),
            published: Published {
                demand_rps: AtomicU32::new(0),
                capacity_rps: AtomicU32::new(0),
                queue_delay_us: AtomicU32::new(0),
                calls_per_task: AtomicU32::new(1_f32.to_bits()),
                overloaded: AtomicU32::new(0),
            },
            config,
        }
    }

    /// Decides on a request. `passes`: a call of its task has been admitted by this service before, so it is not judged
    /// by its priority again. `deadline_us`: when its task ends, on the clock of `now_us`.
    ///
    /// An admitted request must come to [`Gate::started`] and [`Gate::finished`], or to [`Gate::observed`], or to
    /// [`Gate::abandoned`], or to [`Gate::given_up`].
    pub fn offer(&self, priority: Priority, passes: bool, deadline_us: Option<u64>, now_us: u64) -> Verdict {
        let table = &self.table.0;
        let here = self.window.here();
        let (offers, waiting) = (here.offered(passes), self.window.waiting_from(here, now_us));
        let elapsed_us = now_us.wrapping_sub(table.window_start_us.load(Relaxed));
        let early =
            || elapsed_us >= self.elapsed_us_min() && self.window.has_had(table.offers_max.load(Relaxed), offers);
        if elapsed_us >= self.config.window_us || early() {
            self.close(now_us);
        }
        let remaining_us = match deadline_us {
            Some(deadline_us) if deadline_us <= now_us => return Verdict::Reject(Reason::Expired),
            Some(deadline_us) => deadline_us - now_us,
            None => self.config.task_timeout_us,
        };
        if !passes {
            here.asked(priority, remaining_us, offers);
            if !table.admits(priority, table.levels[self.step(waiting)].load(Relaxed), here.turn(offers)) {
                return Verdict::Reject(Reason::Overload);
            }
        }
        if waiting >= u64::from(self.config.waiting_max) {
            return Verdict::Reject(Reason::Overflow);
        }
        // One request a window goes through whatever the estimate says, so that a wrong estimate is found out.
        if self.wait_us(waiting) >= remaining_us && !self.window.probe() {
            return Verdict::Reject(Reason::Doomed);
        }
        self.window.admitted(here, passes, now_us);
        Verdict::Admit
    }

    /// Admitted work begins after waiting so long (exact signal).
    pub fn started(&self, queue_delay_us: u64, now_us: u64) {
        let here = self.window.here();
        self.window.left(here, now_us);
        here.started(queue_delay_us);
    }

    /// Begun work ended, after so much time of a worker (exact signal).
    pub fn finished(&self, work_us: u64, now_us: u64) {
        self.window.here().finished(work_us);
        self.close_if_due(now_us);
    }

    /// An admitted request was answered (inferred signal): the requests of this gate then in flight, this one included,
    /// and the time from sending to answer.
    pub fn observed(&self, in_flight: u32, latency_us: u64, now_us: u64) {
        let here = self.window.here();
        self.window.left(here, now_us);
        let floor_us = self.table.0.floor_us.load(Relaxed);
        let queue_delay_us = if floor_us == 0 { 0 } else { latency_us.saturating_sub(floor_us) };
        here.started(queue_delay_us);
        here.finished(latency_us);
        here.in_flight(in_flight);
        self.close_if_due(now_us);
    }

    /// Admitted work that will never start and is known to be out of the service: its deadline passed in the queue, it was
    /// never sent, or it was refused at once.
    pub fn abandoned(&self, now_us: u64) {
        let here = self.window.here();
        self.window.left(here, now_us);
        here.abandoned();
        self.close_if_due(now_us);
    }

    /// Nobody waits any more for an admitted request that was sent `waited_us` ago (inferred signal). The service may have it
    /// still: it counts as waiting until an answer to a later one shows that it does not. With an exact signal the service
    /// knows, and this is [`Gate::abandoned`].
    pub fn given_up(&self, waited_us: u64, now_us: u64) {
        if self.config.signal == Signal::Exact {
            return self.abandoned(now_us);
        }
        self.window.here().given_up(waited_us);
        self.close_if_due(now_us);
    }

    /// Demand that callers shed before it came here.
    pub fn reported(&self, priority: Priority, count: u32, now_us: u64) {
        self.window.here().reported(priority, count);
        self.close_if_due(now_us);
    }

    /// What to tell callers, on every response, rejects included.
    pub fn advert(&self, now_us: u64) -> Advert {
        self.close_if_due(now_us);
        let float = |bits: &AtomicU32| f32::from_bits(bits.load(Relaxed));
        Advert {
            level: self.table.0.advertised(),
            demand_rps: float(&self.published.demand_rps),
            capacity_rps: float(&self.published.capacity_rps),
            queue_delay_us: self.published.queue_delay_us.load(Relaxed),
        }
    }

    /// Everything the gate believes.
    pub fn snapshot(&self, now_us: u64) -> Snapshot {
        Snapshot {
            advert: self.advert(now_us),
            calls_per_task: f32::from_bits(self.published.calls_per_task.load(Relaxed)),
            overloaded: self.published.overloaded.load(Relaxed) != 0,
            waiting: self.window.waiting().min(u64::from(u32::MAX)) as u32,
            floor_us: self.table.0.floor_us.load(Relaxed).min(u64::from(u32::MAX)) as u32,
        }
    }

    /// Requests waiting beyond those that are merely being served.
    fn queued(&self, waiting: u64) -> u64 {
        (waiting * WAIT_SCALE).saturating_sub(self.table.0.base_waiting.load(Relaxed))
    }

    fn step(&self, waiting: u64) -> usize {
        let step_waiting = self.table.0.step_waiting.load(Relaxed);
        if step_waiting == 0 {
            return 0;
        }
        ((self.queued(waiting) / step_waiting) as usize).min(STEPS - 1)
    }

    fn wait_us(&self, waiting: u64) -> u64 {
        self.queued(waiting).saturating_mul(self.table.0.wait_each.load(Relaxed)) / (WAIT_SCALE * WAIT_SCALE)
    }

    /// A window is never closed sooner, in microseconds.
    fn elapsed_us_min(&self) -> u64 {
        controller::ELAPSED_US_MIN.min(self.config.window_us)
    }

    fn close_if_due(&self, now_us: u64) {
        if now_us.wrapping_sub(self.table.0.window_start_us.load(Relaxed)) >= self.config.window_us {
            self.close(now_us);
        }
    }

    /// Closes the window into new levels, unless another thread does so already.
    #[cold]
    #[inline(never)]
    fn close(&self, now_us: u64) {
        let start_us = self.table.0.window_start_us.load(Relaxed);
        if now_us < start_us {
            if start_us - now_us > CLOCK_BACK_US
                && let Ok(mut controller) = self.controller.try_lock()
            {
                // The clock went back: what was counted has no length, so it is dropped; what was learnt is kept.
                self.window.take(controller.asked(), now_us);
                self.table.0.window_start_us.store(now_us, Relaxed);
            }
            return;
        }
        let elapsed_us = now_us - start_us;
        if elapsed_us < self.elapsed_us_min() {
            return;
        }
        let Ok(mut controller) = self.controller.try_lock() else { return };
        if self.table.0.window_start_us.load(Relaxed) != start_us {
            return;
        }
        self.table.0.window_start_us.store(now_us, Relaxed);
        let closed = self.window.take(controller.asked(), now_us);
        self.window.forget(controller.fold_unanswered(&closed, start_us, now_us));
        let waiting = self.reconcile(&closed, controller.held());
        let outcome = controller.close(&closed, waiting, start_us, now_us);
        self.publish(&outcome);
    }

    /// Requests waiting; a count that leaked (an admitted request never heard of again) is put right here.
    fn reconcile(&self, closed: &window::Closed, held: u64) -> u64 {
        // Work that began without waiting found the queue empty: nothing older than this window can still wait.
        let newest = u64::from(closed.admitted) + u64::from(closed.passes);
        let most = match self.config.signal {
            _ if closed.delays.count() == 0 => u64::MAX,
            Signal::Exact if closed.delay_min_us < window::IDLE_DELAY_US => newest,
            Signal::Exact => u64::MAX,
            Signal::Inferred => newest + u64::from(closed.in_flight_max) + held,
        };
        if self.window.waiting() > most {
            self.window.queue_ends(0);
        }
        self.window.put_right(most);
        self.window.waiting()
    }

    fn publish(&self, outcome: &controller::Outcome) {
        for (level, new) in self.table.0.levels.iter().zip(outcome.levels) {
            level.store(new, Relaxed);
        }
        for (lumps, new) in self.table.0.lumps.iter().zip(outcome.lumps) {
            lumps.store(new, Relaxed);
        }
        self.table.0.step_waiting.store((outcome.step_waiting * WAIT_SCALE as f64) as u64, Relaxed);
        self.table.0.base_waiting.store((outcome.base_waiting * WAIT_SCALE as f64) as u64, Relaxed);
        self.table.0.wait_each.store((outcome.wait_each_us * WAIT_SCALE as f64) as u64, Relaxed);
        self.table.0.offers_max.store(outcome.offers_max, Relaxed);
        self.table.0.floor_us.store(outcome.floor_us, Relaxed);
        let published = &self.published;
        published.demand_rps.store((outcome.demand_rps.min(RATE_MAX) as f32).to_bits(), Relaxed);
        published.capacity_rps.store((outcome.capacity_rps.min(RATE_MAX) as f32).to_bits(), Relaxed);
        published.queue_delay_us.store(outcome.queue_delay_us as u32, Relaxed);
        published.calls_per_task.store((outcome.calls_per_task as f32).to_bits(), Relaxed);
        published.overloaded.store(u32::from(outcome.overloaded), Relaxed);
    }
}

#[cfg(test)]
mod tests;
