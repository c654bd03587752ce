//! The life of one instance as a state machine: events and `now` in, effects out.
//!
//! Level-triggered: what to do next follows from the wish and from what is, never from the order in which wishes came.
//! Deliberately absent: I/O, clocks and threads; `instance` carries the effects out and reports back by events.

use crate::assignment::Wish;
use api::fleet::Phase;

/// First wait after a failure; doubled for each further one.
pub const BACKOFF_MS_MIN: u64 = 500;
/// Longest wait between two attempts.
pub const BACKOFF_MS_MAX: u64 = 30_000;
/// Having run this long without a crash, an instance starts with a clean slate.
pub const STEADY_MS: u64 = 60_000;
/// Without a health check, it counts as healthy once it has run this long.
pub const SETTLE_MS: u64 = 300;
/// First pause between health questions while it starts; they become rarer up to the check's own interval.
const FIRST_PROBE_MS: u64 = 20;
/// Pause before killing or cleaning is attempted again.
pub const RETRY_MS: u64 = 1_000;

/// What a report says of an instance that runs without its shim.
pub const SHIM_GONE: &str = "its shim is gone: its agent keeps its log until it restarts";

/// Numbers of the assignment that the life depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Drain before stopping.
    pub drain_ms: u64,
    /// Time between asking to stop and killing.
    pub grace_ms: u64,
    /// Health check, if there is one.
    pub check: Option<CheckTerms>,
}

/// Numbers of the health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTerms {
    /// Pause between questions.
    pub interval_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub failures_max: u32,
    /// Longest time to first health.
    pub start_ms_max: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server wishes this. `changed`: package or config differ from what was prepared or runs.
    Wished {
        /// The wish.
        wish: Wish,
        /// New terms.
        terms: Terms,
        /// Must be started anew.
        changed: bool,
    },
    /// Answer to [`Effect::Prepare`].
    Prepared(Result<(), String>),
    /// Answer to [`Effect::Start`]: the pid.
    Started(Result<u32, String>),
    /// The first process ended.
    Exited {
        /// As reported: negative for a signal.
        code: Option<i32>,
        /// For people.
        message: String,
    },
    /// The shim ended, and the first process did not.
    ShimGone,
    /// Answer to [`Effect::Probe`].
    Probed(Result<(), String>),
    /// Answer to [`Effect::Clear`].
    Cleared(Result<(), String>),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Fetch the package, check the config.
    Prepare,
    /// Make the slice, start the shim.
    Start,
    /// Ask for health.
    Probe,
    /// Ask it to stop.
    Terminate,
    /// Kill everything in the slice.
    Kill,
    /// Kill leftovers; `remove`: the slice goes too, and the folder when the instance is removed.
    Clear {
        /// The slice goes too.
        remove: bool,
    },
    /// It has become healthy for the first time in this run.
    MarkHealthy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    Idle,
    Preparing,
    Deployed,
    Waiting { until: u64, phase: Phase, prepared: bool },
    Starting,
    Running(Running),
    Terminating { kill_at: u64, why: Why },
    Clearing { why: Why, retry_at: Option<u64> },
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    since: u64,
    seen_healthy: bool,
    healthy: bool,
    failures: u32,
    /// `None` while a question is out.
    probe_at: Option<u64>,
    pause_ms: u64,
}

/// Why it is being stopped or cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It ended, or did not become healthy: back off.
    Crash,
    /// It could not be started.
    Fault,
    /// The wish: not running, or not at all.
    Wish,
    /// New package or config.
    Change,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Machine {
    wish: Wish,
    terms: Terms,
    life: Life,
    changed: bool,
    draining_since: Option<u64>,
    attempts: u32,
    random: u64,
    pid: u32,
    starts: u32,
    adopted: bool,
    shim_gone: bool,
    message: String,
    exit_code: Option<i32>,
}

/// What a report says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Phase.
    pub phase: Phase,
    /// Starts beyond the first.
    pub restarts: u32,
    /// Why it is not well.
    pub message: String,
    /// First process; 0 when none.
    pub pid: u32,
    /// Found running.
    pub adopted: bool,
    /// Of the last exit.
    pub exit_code: Option<i32>,
}

impl View {
    /// The exit code, when it has just ended although it was to run; 0 where nobody knows the code.
    pub fn unexpected_exit(&self, before: Option<&Self>) -> Option<i32> {
        let ran = before.is_some_and(|before| before.pid != 0);
        let waits = matches!(self.phase, Phase::Backoff | Phase::Failed);
        (ran && waits && self.pid == 0).then(|| self.exit_code.unwrap_or(0))
    }
}

impl Machine {
    /// An instance of which nothing is here yet. `seed` spreads the waits of many instances.
    pub fn new(wish: Wish, terms: Terms, seed: u64) -> Self {
        Self {
            wish,
            terms,
            life: Life::Idle,
            changed: false,
            draining_since: None,
            attempts: 0,
            random: seed | 1,
            pid: 0,
            starts: 0,
            adopted: false,
            shim_gone: false,
            message: String::new(),
            exit_code: None,
        }
    }

    /// An instance found running.
    pub fn adopt(&mut self, pid: u32, restarts: u32, was_healthy: bool, now: u64) {
        self.pid = pid;
        self.starts = restarts + 1;
        self.adopted = true;
        let running = Running::new(now, &self.terms);
        self.life = Life::Running(Running { seen_healthy: was_healthy, healthy: was_healthy, ..running });
    }

    /// An instance that ran under an earlier agent and has ended since; `Clear` its leftovers first.
    pub fn adopt_ended(&mut self, restarts: u32, code: Option<i32>, message: String) -> Effect {
        self.starts = restarts + 1;
        self.exit_code = code;
        self.message = message;
        self.attempts = 1;
        self.life = Life::Clearing { why: Why::Crash, retry_at: None };
        Effect::Clear { remove: false }
    }

    /// Takes an event and says what to do.
    pub fn step(&mut self, event: Event, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(event, now, &mut effects);
        // Each turn leaves a state that waits for an event or a time, or moves on to such a state.
        while let Some(effect) = self.advance(now) {
            effects.extend(effect);
        }
        effects
    }

    /// When to send [`Event::Tick`] at the latest.
    pub fn deadline(&self) -> Option<u64> {
        match &self.life {
            Life::Waiting { until, .. } => Some(*until),
            Life::Terminating { kill_at, .. } => Some(*kill_at),
            Life::Clearing { retry_at, .. } => *retry_at,
            Life::Running(_) if self.wish == Wish::Removed => self.stop_at(),
            Life::Running(running) => {
                let start = running.start_limit(&self.terms);
                [running.probe_at, start].into_iter().flatten().min()
            }
            Life::Idle | Life::Preparing | Life::Deployed | Life::Starting | Life::Gone => None,
        }
    }

    /// Times its process was started so far.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Whether it is over.
    pub fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// What a report says now.
    pub fn view(&self) -> View {
        let phase = self.phase();
        let well = matches!(phase, Phase::Healthy | Phase::Deployed | Phase::Fetching | Phase::Stopped);
        let message = match well {
            true if self.shim_gone => SHIM_GONE.to_owned(),
            true => String::new(),
            false => self.message.clone(),
        };
        View {
            phase,
            restarts: self.starts.saturating_sub(1),
            message,
            pid: self.pid,
            adopted: self.adopted && self.pid != 0,
            exit_code: self.exit_code,
        }
    }

    fn phase(&self) -> Phase {
        match &self.life {
            Life::Idle | Life::Preparing => Phase::Fetching,
            Life::Deployed => Phase::Deployed,
            Life::Waiting { phase, .. } => *phase,
            Life::Starting => Phase::Starting,
            Life::Running(_) if self.wish == Wish::Removed => Phase::Stopping,
            Life::Running(running) if running.healthy => Phase::Healthy,
            Life::Running(running) if running.seen_healthy => Phase::Unhealthy,
            Life::Running(_) => Phase::Starting,
            Life::Terminating { why, .. } | Life::Clearing { why, .. } => match why {
                _ if self.wish == Wish::Removed => Phase::Stopping,
                Why::Crash => Phase::Backoff,
                Why::Fault => Phase::Failed,
                Why::Wish | Why::Change => Phase::Stopping,
            },
            Life::Gone => Phase::Stopped,
        }
    }

    fn stop_at(&self) -> Option<u64> {
        self.draining_since.map(|since| since + self.terms.drain_ms)
    }

    fn take(&mut self, event: Event, now: u64, effects: &mut Vec<Effect>) {
        match event {
            Event::Wished { wish, terms, changed } => self.take_wish(wish, terms, changed, now),
            Event::Prepared(result) if self.life == Life::Preparing => match result {
                Ok(()) => self.life = Life::Deployed,
                Err(message) => self.wait(message, Phase::Failed, false, now),
            },
            Event::Started(Ok(pid)) if self.life == Life::Starting => {
                self.pid = pid;
                self.starts += 1;
                self.adopted = false;
                self.shim_gone = false;
                self.message.clear();
                self.life = Life::Running(Running::new(now, &self.terms));
            }
            Event::Started(Err(message)) if self.life == Life::Starting => {
                self.message = message;
                self.clear(Why::Fault, effects);
            }
            Event::Exited { code, message } => self.take_exit(code, message, now, effects),
            Event::ShimGone => self.shim_gone = matches!(self.life, Life::Running(_)),
            Event::Probed(result) => self.take_probe(result, now, effects),
            Event::Cleared(result) => self.take_cleared(result, now),
            Event::Tick | Event::Prepared(_) | Event::Started(_) => {}
        }
    }

    fn take_wish(&mut self, wish: Wish, terms: Terms, changed: bool, now: u64) {
        self.changed |= changed;
        self.terms = terms;
        if wish == Wish::Running || wish == Wish::Deployed {
            self.draining_since = None;
        } else if self.draining_since.is_none() {
            self.draining_since = Some(now);
        }
        self.wish = wish;
    }

    fn take_exit(&mut self, code: Option<i32>, message: String, now: u64, effects: &mut Vec<Effect>) {
        let why = match &self.life {
            Life::Running(running) => {
                if now >= running.since + STEADY_MS {
                    self.attempts = 0;
                }
                self.message = message;
                if self.wish == Wish::Running || self.wish == Wish::Draining { Why::Crash } else { Why::Wish }
            }
            Life::Terminating { why, .. } => *why,
            _ => return,
        };
        self.exit_code = code;
        self.pid = 0;
        self.shim_gone = false;
        self.clear(why, effects);
    }

    fn take_probe(&mut self, result: Result<(), String>, now: u64, effects: &mut Vec<Effect>) {
        let (Life::Running(running), Some(check)) = (&mut self.life, self.terms.check) else { return };
        match result {
            Ok(()) => {
                if !running.seen_healthy {
                    effects.push(Effect::MarkHealthy);
                }
                (running.seen_healthy, running.healthy, running.failures) = (true, true, 0);
                running.pause_ms = check.interval_ms;
            }
            Err(message) => {
                running.failures += 1;
                if running.failures >= check.failures_max {
                    running.healthy = false;
                }
                if !running.seen_healthy {
                    running.pause_ms = (running.pause_ms * 3 / 2).min(check.interval_ms);
                }
                self.message = message;
            }
        }
        running.probe_at = Some(now + running.pause_ms);
    }

    fn take_cleared(&mut self, result: Result<(), String>, now: u64) {
        let Life::Clearing { why, retry_at } = &mut self.life else { return };
        if let Err(message) = result {
            self.message = message;
            *retry_at = Some(now + RETRY_MS);
            return;
        }
        match (self.wish, *why) {
            (Wish::Removed, Why::Wish) => self.life = Life::Gone,
            // Cleared for a crash, and removed since: clear once more, slice and all.
            (Wish::Removed, _) => self.life = Life::Deployed,
            (_, Why::Wish) => self.life = Life::Idle,
            (_, Why::Change) => self.life = Life::Idle,
            (_, Why::Crash) => self.wait(self.message.clone(), Phase::Backoff, true, now),
            (_, Why::Fault) => self.wait(self.message.clone(), Phase::Failed, true, now),
        }
    }

    /// One decision: `Some` when something moved (with the effect it needs), `None` when there is only waiting left.
    fn advance(&mut self, now: u64) -> Option<Option<Effect>> {
        match &mut self.life {
            Life::Idle | Life::Deployed | Life::Preparing | Life::Waiting { .. } if self.wish == Wish::Removed => {
                self.life = Life::Clearing { why: Why::Wish, retry_at: None };
                Some(Some(Effect::Clear { remove: true }))
            }
            Life::Idle => {
                self.changed = false;
                self.life = Life::Preparing;
                Some(Some(Effect::Prepare))
            }
            Life::Deployed | Life::Waiting { .. } if self.changed => {
                self.life = Life::Idle;
                Some(None)
            }
            Life::Deployed if self.wish == Wish::Running => {
                self.life = Life::Starting;
                Some(Some(Effect::Start))
            }
            Life::Waiting { until, prepared, .. } if now >= *until || (*prepared && self.wish == Wish::Deployed) => {
                self.life = if *prepared { Life::Deployed } else { Life::Idle };
                Some(None)
            }
            Life::Running(_) => self.advance_running(now).map(Some),
            Life::Terminating { kill_at, .. } if now >= *kill_at => {
                *kill_at = now + RETRY_MS;
                Some(Some(Effect::Kill))
            }
            Life::Clearing { why, retry_at: retry_at @ Some(_) } if retry_at.is_some_and(|at| now >= at) => {
                *retry_at = None;
                Some(Some(Effect::Clear { remove: *why == Why::Wish }))
            }
            _ => None,
        }
    }

    fn advance_running(&mut self, now: u64) -> Option<Effect> {
        let stop_at = self.stop_at();
        let Life::Running(running) = &mut self.life else { return None };
        let why = match self.wish {
            Wish::Removed if stop_at.is_none_or(|at| now >= at) => Some(Why::Wish),
            // Draining: nobody sends it requests any more, and its health no longer matters.
            Wish::Removed => return None,
            Wish::Deployed => Some(Why::Wish),
            Wish::Running | Wish::Draining if self.changed => Some(Why::Change),
            Wish::Running | Wish::Draining => None,
        };
        if let Some(why) = why {
            return Some(self.terminate(why, now));
        }
        if running.start_limit(&self.terms).is_some_and(|at| now >= at) {
            let limit = self.terms.check.map_or(0, |check| check.start_ms_max);
            self.message = format!("not healthy within {limit} ms of its start: {}", self.message);
            return Some(self.terminate(Why::Crash, now));
        }
        if running.probe_at.is_some_and(|at| now >= at) {
            running.probe_at = None;
            if self.terms.check.is_none() {
                (running.seen_healthy, running.healthy) = (true, true);
                return Some(Effect::MarkHealthy);
            }
            return Some(Effect::Probe);
        }
        None
    }

    fn terminate(&mut self, why: Why, now: u64) -> Effect {
        self.life = Life::Terminating { kill_at: now + self.terms.grace_ms, why };
        Effect::Terminate
    }

    fn clear(&mut self, why: Why, effects: &mut Vec<Effect>) {
        self.life = Life::Clearing { why, retry_at: None };
        effects.push(Effect::Clear { remove: why == Why::Wish });
    }

    fn wait(&mut self, message: String, phase: Phase, prepared: bool, now: u64) {
        let doubled = BACKOFF_MS_MIN << self.attempts.min(16);
        self.attempts = self.attempts.saturating_add(1);
        let wait_ms = doubled.min(BACKOFF_MS_MAX);
        self.message = message;
        // A fifth more or less, lest a fleet that failed together tries again together.
        let spread = wait_ms / 5;
        let until = now + wait_ms - spread + self.next_random() % (2 * spread + 1);
        self.life = Life::Waiting { until, phase, prepared };
    }

    /// Xorshift (Marsaglia 2003): spreads waits, nothing more.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Running {
    fn new(now: u64, terms: &Terms) -> Self {
        let first_ms = if terms.check.is_some() { FIRST_PROBE_MS } else { SETTLE_MS };
        Self {
            since: now,
            seen_healthy: false,
            healthy: false,
            failures: 0,
            probe_at: Some(now + first_ms),
            pause_ms: FIRST_PROBE_MS,
        }
    }

    fn start_limit(&self, terms: &Terms) -> Option<u64> {
        let check = terms.check.filter(|_| !self.seen_healthy)?;
        Some(self.since + check.start_ms_max)
    }
}

#[cfg(test)]
mod tests;
